"""What servers say when they refuse: whom it concerns, and what becomes of the other prompts."""

import json
import logging
from typing import Any

import pytest
from chat_server import Answer, Behaviour, Request, by_length, letters, says

from diverseevol.errors import InputError
from diverseevol.evaluation.endpoints.bodies import Concern, read_refusal
from diverseevol.evaluation.judges.base import AnswerSheet
from diverseevol.evaluation.judges.budget import LimitReachedError
from diverseevol.evaluation.questions.benchmarks import Benchmark, Question

QUESTIONS = 5
NEEDED = 2 * QUESTIONS
SHEET = letters(QUESTIONS)
BENCHMARK, ANSWERS = SHEET.benchmark, SHEET.answers


def error(message: str, code: Any = None, kind: str | None = "invalid_request_error", **more: Any) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": None, "code": code, **more}}


FILTERED = "The response was filtered due to the prompt triggering Azure OpenAI's content management policy."
TOO_LONG = "This model's maximum context length is 4097 tokens. However, your messages resulted in 4294 tokens."
PROMPT: dict[str, tuple[int, Any]] = {
    "OpenAI": (400, error(TOO_LONG, "context_length_exceeded", param="messages")),
    "OpenAI by its code alone": (400, error("Refused.", "context_length_exceeded")),
    "OpenAI policy": (
        400,
        error("Invalid prompt: your prompt was flagged as potentially violating our usage policy.", "invalid_prompt"),
    ),
    "OpenAI string": (400, error("Invalid 'messages[0].content': string too long.", "string_above_max_length")),
    "OpenAI too large for a minute": (
        429,
        error("Request too large for gpt-4o on tokens per min (TPM): Limit 30000, Requested 342389.", None, "tokens"),
    ),
    "Azure": (
        400,
        error(
            FILTERED, "content_filter", None, param="prompt", status=400,
            innererror={"code": "ResponsibleAIPolicyViolation", "content_filter_result": {"hate": {"filtered": True}}},
        ),
    ),
    "Azure by its inner code alone": (
        400, error("No.", "400", None, innererror={"code": "ResponsibleAIPolicyViolation"}),
    ),
    "vLLM": (400, {"object": "error", "message": TOO_LONG, "type": "BadRequestError", "param": None, "code": 400}),
    "vLLM without room": (
        400, {"object": "error", "message": "max_tokens must be at least 1, got -186.", "type": "BadRequestError"},
    ),
    "vLLM both": (
        400,
        error(
            "'max_tokens' or 'max_completion_tokens' is too large: 512. This model's maximum context length is 600 "
            "tokens and your request has 300 input tokens (512 > 600 - 300).", 400, "BadRequestError",
        ),
    ),
    "llama.cpp": (
        400,
        error(
            "the request exceeds the available context size, try increasing it", 400, "exceed_context_size_error",
            n_prompt_tokens=14429, n_ctx=8192,
        ),
    ),
    "llama.cpp 500": (500, error("the request exceeds the available context size.", 500, "exceed_context_size_error")),
    "llama-cpp-python": (500, error("Requested tokens (2285) exceed context window of 2048", None, "server_error")),
    "Ollama": (400, {"error": "the input length exceeds the context length"}),
    "Ollama 500": (500, error("input exceeds context length", None, "api_error")),
    "TGI": (
        422,
        {
            "error": "Input validation error: `inputs` must have less than 1024 tokens. Given: 2000",
            "error_type": "validation",
        },
    ),
    "LiteLLM": (
        400,
        error(
            "litellm.BadRequestError: litellm.ContextWindowExceededError: AnthropicError - "
            '{"type":"error","error":{"type":"invalid_request_error","message":"prompt is too long: 209303 tokens > '
            '200000 maximum"}}', "400", None,
        ),
    ),
    "LiteLLM policy": (
        400,
        error(
            f"litellm.BadRequestError: litellm.ContentPolicyViolationError: AzureException - {FILTERED}", "400", None,
            provider_specific_fields={"innererror": {"code": "ResponsibleAIPolicyViolation"}},
        ),
    ),
    "LiteLLM 500": (500, error(f"litellm.APIError: {FILTERED}", "500", None)),
    "Gemini": (
        400,
        [
            {
                "error": {
                    "code": 400, "status": "INVALID_ARGUMENT",
                    "message": "The input token count (1200293) exceeds the maximum number of tokens allowed.",
                }
            }
        ],
    ),
    "Gemini in a text": (
        400,
        error('{"error": {"code": 400, "message": "The input token count exceeds the maximum.", "status": "X"}}', 400),
    ),
    "Mistral": (
        400,
        {
            "object": "error", "type": "invalid_request_error", "code": "3051",
            "message": "Prompt contains 40000 tokens and 0 draft tokens, too large for model with 32768 maximum "
            "context length",
        },
    ),
    "Mistral detail": (
        422,
        {
            "object": "error",
            "message": {"detail": [{"type": "x", "loc": ["body", "messages"], "msg": "input too long"}]},
        },
    ),
    "detail": (422, {"detail": "Input is too long for requested model."}),
    "Groq": (
        413,
        error(
            "Request too large for model `llama` in organization `org` on tokens per minute (TPM): Limit 6000, "
            "Requested 10338. Visit https://console.groq.com/settings/billing", "rate_limit_exceeded", "tokens",
        ),
    ),
    "OpenRouter": (
        403,
        {
            "error": {
                "code": 403, "message": "openai/gpt-4 requires moderation. Your input was flagged for hate",
                "metadata": {"reasons": ["hate"], "flagged_input": "…", "provider_name": "OpenAI"},
            }
        },
    ),
    "OpenRouter by a provider": (
        400,
        error("Provider returned error", 400, metadata={"raw": json.dumps(error(TOO_LONG))}),
    ),
    "Alibaba": (
        400,
        error(
            "<400> InternalError.Algo.DataInspectionFailed: Input text data may contain inappropriate content.",
            "data_inspection_failed", "data_inspection_failed",
        ),
    ),
    "DeepSeek": (400, error("Content Exists Risk")),
    "LiteLLM guardrail": (400, error("Guardrail raised an exception: PII", "400", "None", param="None")),
    "xAI": (
        403,
        {
            "code": "The caller does not have permission to execute the specified operation",
            "error": "Content violates usage guidelines. Team: t, API key ID: k, Failed check: SAFETY_CHECK_TYPE_BIO",
        },
    ),
    "llama.cpp without shift": (500, error("context shift is disabled", 500, "server_error")),
    "Zhipu": (400, {"error": {"code": "1261", "message": "Prompt exceeds max length"}}),
    "Gemini's word for it": (400, [error("prompt blocked: PROHIBITED_CONTENT", 400)]),
    "text": (400, b"Prompt is 11543 tokens but the model context window is 4096 tokens."),
    "413 HTML": (413, b"<html><head><title>413 Request Entity Too Large</title></head><body><hr>nginx</body></html>"),
    "413 empty": (413, b""),
    "200 with an error": (200, error("The number of tokens is greater than the context length", None)),
}  # fmt: skip

ALL: dict[str, tuple[int, Any, Concern]] = {
    "OpenAI key": (401, error("Incorrect API key provided: sk-…", "invalid_api_key"), Concern.KEY),
    "401 empty": (401, b"", Concern.KEY),
    "403 key": (403, error("Invalid credentials in Authorization header"), Concern.KEY),
    "Gemini key": (
        400,
        [
            {
                "error": {
                    "code": 400, "message": "API key not valid. Please pass a valid API key.",
                    "status": "INVALID_ARGUMENT", "details": [{"reason": "API_KEY_INVALID"}],
                }
            }
        ],
        Concern.KEY,
    ),
    "OpenAI quota": (429, error("You exceeded your current quota", "insufficient_quota"), Concern.ACCOUNT),
    "OpenAI limit": (400, error("Billing hard limit has been reached", "billing_hard_limit_reached"), Concern.ACCOUNT),
    "Anthropic credit": (400, error("Your credit balance is too low to access the Anthropic API."), Concern.ACCOUNT),
    "DeepSeek credit": (402, error("Insufficient Balance"), Concern.ACCOUNT),
    "OpenRouter credit": (
        402, error("This request requires more credits, or fewer max_tokens. You requested up to 65536 tokens", 402),
        Concern.ACCOUNT,
    ),
    "suspended": (403, {"detail": "Your account was flagged and has been suspended"}, Concern.ACCOUNT),
    "Gemini place": (400, [error("User location is not supported for the API use.", 400)], Concern.ACCOUNT),
    "OpenAI model": (404, error("The model `gpt-9` does not exist", "model_not_found"), Concern.MODEL),
    "404 HTML": (404, b"<html><title>404 Not Found</title></html>", Concern.MODEL),
    "LiteLLM model": (400, error("/chat/completions: Invalid model name passed in model=gpt-9"), Concern.MODEL),
    "parameter": (
        400,
        error(
            "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens'.",
            "unsupported_parameter", param="max_tokens",
        ),
        Concern.REQUEST,
    ),
    "parameter too large": (
        400,
        error(
            "max_tokens is too large: 200000. This model supports at most 16384 completion tokens.", "invalid_value",
            param="max_tokens",
        ),
        Concern.REQUEST,
    ),
    "Mistral parameter": (
        422,
        {
            "object": "error",
            "message": {
                "detail": [
                    {
                        "type": "extra_forbidden", "loc": ["body", "max_completion_tokens"],
                        "msg": "Extra inputs are not permitted", "input": 32000,
                    }
                ]
            },
        },
        Concern.REQUEST,
    ),
    "busy": (503, error("Loading model", 503, "unavailable_error"), Concern.PASSING),
    "rate": (
        429, error("Rate limit reached for gpt-4 on tokens per min (TPM): Limit 10000, Used 9000, Requested 1200."),
        Concern.PASSING,
    ),
    "moderation is down": (503, error("The moderation service is not available"), Concern.PASSING),
    "Gemini rate": (429, [error("You exceeded your current quota. Please retry in 28s.", 429)], Concern.PASSING),
    "500": (500, b"Internal Server Error", Concern.PASSING),
}  # fmt: skip

DOUBT: dict[str, tuple[int, Any]] = {
    "words": (400, error("Something is wrong with it.")),
    "403": (403, {"message": "Forbidden"}),
    "422": (422, {"detail": [{"loc": ["body", "messages", 0], "msg": "Value error", "input": "the context length"}]}),
    "HTML": (403, b"<html><script>var key='api key';</script><body>Blocked by the firewall</body></html>"),
    "empty": (400, b""),
    "null bytes": (400, bytes(100)),
    "nested": (422, b"[" * 100_000 + b"]" * 100_000),
    "another language": (400, {"error": {"code": "1261", "message": "输入太长"}}),
    "teapot": (418, b"no"),
    "LiteLLM without a word": (400, error("no", "400", "None", param="None")),
}  # fmt: skip


def text_of(body: Any) -> str:
    return body.decode("utf-8", "replace") if isinstance(body, bytes) else json.dumps(body)


@pytest.mark.parametrize(("status", "body"), PROMPT.values(), ids=list(PROMPT))
@pytest.mark.parametrize("other_status", [None, 400, 403, 413, 422, 500])
def test_words_on_one_prompt_are_known_in_every_shape_and_with_every_status(status, body, other_status):
    assert read_refusal(other_status or status, text_of(body)).concern is Concern.PROMPT or not body


@pytest.mark.parametrize(("status", "body", "concern"), ALL.values(), ids=list(ALL))
def test_what_concerns_every_prompt_or_may_pass_is_told_apart(status, body, concern):
    assert read_refusal(status, text_of(body)).concern is concern


@pytest.mark.parametrize(("status", "body"), DOUBT.values(), ids=list(DOUBT))
def test_what_no_word_explains_is_in_doubt(status, body):
    assert read_refusal(status, text_of(body)).concern is Concern.DOUBT


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (PROMPT["Azure"][1], FILTERED),
        (PROMPT["Mistral detail"][1], "input too long"),
        (PROMPT["413 HTML"][1], "413 Request Entity Too Large: nginx"),
        (PROMPT["OpenRouter by a provider"][1], f"Provider returned error; {TOO_LONG}"),
        ({"detail": ["one", "two"]}, "one; two"),
        (ALL["Gemini key"][1], "API key not valid. Please pass a valid API key."),
        (b"", ""),
    ],
)
def test_the_servers_own_words_are_found_and_the_prompt_is_not_taken_for_them(body, words):
    assert read_refusal(400, text_of(body)).words == words


def answer(status: int, body: Any) -> Answer:
    return Answer(status, body if isinstance(body, bytes) else json.dumps(body).encode())


def refuses(question: int, refusal: Answer) -> Behaviour:
    return lambda request: refusal if f"What is {question}?" in str(request.body) else by_length(request)


@pytest.mark.parametrize("name", ["Gemini", "vLLM", "LiteLLM 500", "413 HTML", "200 with an error"])
def test_a_refused_prompt_is_recorded_with_the_servers_words_and_the_rest_goes_on(server, make, caplog, name):
    server.behaviour = refuses(2, answer(*PROMPT[name]))
    judgements = make().judge(SHEET)
    lost = [j for j in judgements if not j.parsed]
    assert [j.question_id for j in lost] == ["2", "2"]
    words = read_refusal(400, text_of(PROMPT[name][1])).words
    assert all(words in j.reason for j in lost)
    assert len(server.requests) == NEEDED
    (warning,) = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert f"does not answer 2 of {NEEDED} prompts" in warning
    assert "question '2', order 0" in warning
    assert "judge.retry_unanswered=true" in warning
    assert make(max_calls=0).judge(SHEET) == judgements


def test_refused_prompts_do_not_count_among_replies_without_scores(server, make, caplog):
    """They say nothing of how well the judge keeps to the form."""
    many = Benchmark("many", tuple(Question(str(i), f"What is {i}?", competitor="y") for i in range(10)))
    server.behaviour = refuses(2, answer(*PROMPT["Azure"]))
    judgements = make(max_unparsed=0.0).judge(AnswerSheet(many, {str(i): "x" for i in range(10)}))
    assert [j.question_id for j in judgements if not j.parsed] == ["2", "2"]
    assert "does not answer 2 of 20 prompts" in caplog.text


@pytest.mark.parametrize(("questions", "asked"), [(3, 6), (40, 12)])
def test_an_endpoint_that_refuses_every_prompt_is_given_up_in_its_own_words(server, make, questions, asked):
    many = Benchmark("many", tuple(Question(str(i), f"What is {i}?", competitor="y") for i in range(questions)))
    server.behaviour = lambda request: answer(*PROMPT["Ollama"])
    complaint = rf"none of {asked} prompts is answered by gpt-4 \(the first: question '0', .*exceeds the context length"
    with pytest.raises(InputError, match=complaint):
        make(concurrency=1).judge(AnswerSheet(many, {str(i): "x" for i in range(questions)}))
    assert len(server.requests) == asked


@pytest.mark.parametrize("reason", ["content_filter", "SAFETY", "content_filter: PROHIBITED_CONTENT"])
def test_a_reply_that_a_filter_keeps_back_is_a_refusal_too(server, make, reason):
    kept_back = says("", choices=[{"index": 0, "finish_reason": reason, "message": {"content": None}}])
    server.behaviour = refuses(2, kept_back)
    lost = [j for j in make(max_unparsed=0.0).judge(SHEET) if not j.parsed]
    assert [j.question_id for j in lost] == ["2", "2"]
    assert lost[0].reason == f"HTTP 200: the reply is kept back (finish_reason {reason.lower()})"
    assert len(server.requests) == NEEDED


@pytest.mark.parametrize("concurrency", [1, 8])
@pytest.mark.parametrize("name", list(DOUBT))
def test_in_doubt_another_prompt_shows_that_this_one_is_at_fault(server, make, name, concurrency):
    server.behaviour = refuses(1, answer(*DOUBT[name]))
    judgements = make(concurrency=concurrency).judge(SHEET)
    assert [j.question_id for j in judgements if not j.parsed] == ["1", "1"]
    assert len(server.requests) == NEEDED
    assert make(max_calls=0).judge(SHEET) == judgements


@pytest.mark.parametrize("name", ["words", "empty", "HTML"])
def test_a_refusal_in_doubt_ends_the_run_where_the_next_prompt_is_refused_likewise(server, make, name):
    server.behaviour = lambda request: answer(*DOUBT[name])
    words = read_refusal(400, text_of(DOUBT[name][1])).words or "the server gives no reason"
    with pytest.raises(InputError, match=rf"does not accept the request \(HTTP \d+: {words}\)"):
        make(concurrency=1).judge(SHEET)
    assert {r.body["messages"][0]["content"].count("What is 0?") for r in server.requests} == {0, 1}
    assert len(server.requests) == 2
    server.behaviour = by_length
    assert all(j.parsed for j in make().judge(SHEET))  # none of them was recorded as unanswered


def test_with_many_requests_under_way_a_refusal_of_all_ends_soon(server, make):
    server.behaviour = lambda request: answer(*DOUBT["words"])
    many = Benchmark("many", tuple(Question(str(i), f"What is {i}?", competitor="y") for i in range(40)))
    with pytest.raises(InputError, match="Something is wrong with it"):
        make(concurrency=8).judge(AnswerSheet(many, {str(i): "x" for i in range(40)}))
    assert len(server.requests) <= 9


def test_credit_that_runs_out_in_unknown_words_ends_the_run_and_is_not_taken_for_the_prompts_fault(server, make):
    server.behaviour = lambda request: by_length(request) if len(server.requests) <= 4 else answer(*DOUBT["words"])
    with pytest.raises(InputError, match="Something is wrong with it"):
        make(concurrency=2).judge(SHEET)
    before = len(server.requests)
    server.behaviour = by_length
    assert all(j.parsed for j in make().judge(SHEET))
    assert len(server.requests) - before == NEEDED - 4


def test_a_lone_question_that_is_refused_in_doubt_ends_the_run_with_the_servers_words(server, make):
    server.behaviour = refuses(0, answer(*DOUBT["words"]))
    with pytest.raises(InputError, match="Something is wrong with it"):
        make().judge(AnswerSheet(Benchmark("one", BENCHMARK.questions[:1]), ANSWERS))


def lone(name: str) -> AnswerSheet:
    """A benchmark of one question that nothing else in it can stand up for."""
    return AnswerSheet(Benchmark(name, (Question("0", f"{name}?", competitor="y"),)), {"0": "x"})


@pytest.mark.parametrize(
    "refusal", [answer(*DOUBT["words"]), answer(500, b"Internal Server Error")], ids=["400", "500"]
)
def test_a_lone_question_that_fails_each_time_is_recorded_where_another_benchmark_was_answered(server, make, refusal):
    server.behaviour = lambda request: refusal if "poisoned?" in str(request.body) else by_length(request)
    judge = make(retries=1, max_unparsed=0.0)
    assert all(j.parsed for j in judge.judge(SHEET))
    with pytest.raises(InputError, match=r"none of 2 prompts is answered by gpt-4 .*HTTP"):
        judge.judge(lone("poisoned"))
    assert all(j.parsed for j in judge.judge(lone("sound")))
    server.behaviour = lambda request: refusal
    with pytest.raises((InputError, ConnectionError), match="HTTP"):
        judge.judge(lone("down"))
    server.behaviour = by_length
    assert all(j.parsed for j in make().judge(lone("down")))  # which was not recorded as refused


FAILING = {
    "500": answer(500, b"Internal Server Error"),
    "500 in JSON": answer(500, error("The server had an error", None, "server_error")),
    "502": answer(502, b"<html><title>Bad gateway</title></html>"),
    "503": answer(503, b""),
    "504": answer(504, b"upstream timed out"),
    "408": answer(408, b""),
    "529": answer(529, error("Overloaded", None, "overloaded_error")),
    "cut": Answer(200, b'{"choices": []}', cut=True),
    "no reply": Answer(delay=1.0),
}


@pytest.mark.parametrize("concurrency", [1, 8])
@pytest.mark.parametrize("name", FAILING)
def test_a_prompt_at_which_the_server_fails_each_time_is_recorded_and_the_rest_goes_on(
    server, make, name, concurrency, caplog
):
    server.behaviour = refuses(1, FAILING[name])
    limits = {"retries": 1, "timeout": 0.8 if name == "no reply" else 60.0, "concurrency": concurrency}
    judgements = make(**limits).judge(SHEET)
    lost = [j for j in judgements if not j.parsed]
    assert [j.question_id for j in lost] == ["1", "1"]
    assert f"does not answer 2 of {NEEDED} prompts" in caplog.text
    assert len(server.requests) <= NEEDED + 2 * 2 + 2  # each order once more when another was answered, which is asked
    assert make(max_calls=0).judge(SHEET) == judgements
    assert make(**limits, retry_unanswered=True).judge(SHEET) == judgements
    server.behaviour = by_length
    assert all(j.parsed for j in make(retry_unanswered=True).judge(SHEET))


@pytest.mark.parametrize("concurrency", [1, 8])
def test_two_questions_at_which_the_server_fails_are_recorded(server, make, concurrency):
    server.behaviour = lambda request: (
        FAILING["500"] if any(f"What is {i}?" in str(request.body) for i in (1, 2)) else by_length(request)
    )
    judgements = make(retries=1, concurrency=concurrency, max_unparsed=0.0).judge(SHEET)
    assert [j.question_id for j in judgements if not j.parsed] == ["1", "1", "2", "2"]


@pytest.mark.parametrize(("concurrency", "most"), [(1, 13), (8, 8 * 7 + 6)])
def test_a_server_that_fails_at_every_prompt_is_given_up_soon_and_nothing_is_recorded(server, make, concurrency, most):
    server.behaviour = lambda request: FAILING["500"]
    many = Benchmark("many", tuple(Question(str(i), f"What is {i}?", competitor="y") for i in range(20)))
    answers = {str(i): "x" for i in range(20)}
    with pytest.raises(ConnectionError, match=r"HTTP 500: Internal Server Error \(requests sent: 7\); .*again later"):
        make(concurrency=concurrency).judge(AnswerSheet(many, answers))
    assert len(server.requests) <= most
    server.behaviour = by_length
    assert all(j.parsed for j in make(max_calls=40).judge(AnswerSheet(many, answers)))  # which asks all of them


def test_the_last_prompt_is_recorded_where_one_that_was_answered_before_is_answered_again(server, make):
    server.behaviour = refuses(QUESTIONS - 1, FAILING["500"])
    judgements = make(retries=0, concurrency=1).judge(SHEET)
    assert [j.question_id for j in judgements if not j.parsed] == [str(QUESTIONS - 1)] * 2
    assert len(server.requests) == NEEDED - 2 + 2 * 3


def test_a_server_that_fails_for_a_while_costs_no_prompt_its_scores(server, make):
    """It is back when another prompt is asked, and so is asked once more for the first."""
    server.behaviour = lambda request: FAILING["503"] if len(server.requests) <= 3 else by_length(request)
    assert all(j.parsed for j in make(retries=2, concurrency=1).judge(SHEET))
    assert len(server.requests) == NEEDED + 3


def test_too_many_requests_say_nothing_of_the_prompt(server, make):
    server.behaviour = refuses(1, answer(429, b"slow down"))
    with pytest.raises(ConnectionError, match="HTTP 429"):
        make(retries=1).judge(SHEET)


def test_doubts_pass_neither_the_calls_nor_the_budget(server, make):
    server.behaviour = refuses(0, answer(*DOUBT["words"]))
    with pytest.raises(LimitReachedError, match=r"judge\.max_calls=1"):
        make(max_calls=1, concurrency=4).judge(SHEET)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("Gemini key", r"does not accept the key in \$OPENAI_API_KEY \(HTTP 400: API key not valid"),
        ("Anthropic credit", r"no credit left or may not be used \(HTTP 400: Your credit balance is too low"),
        ("LiteLLM model", r"has no model 'gpt-4' \(HTTP 400: .*Invalid model name"),
        ("Mistral parameter", r"does not accept the request \(HTTP 422: Extra inputs are not permitted\)"),
        ("OpenAI quota", r"no credit left .*HTTP 429: You exceeded your current quota"),
    ],
)
def test_what_concerns_all_ends_at_once_with_the_servers_words(server, make, name, complaint):
    status, body, _ = ALL[name]
    server.behaviour = lambda request: answer(status, body)
    with pytest.raises(InputError, match=complaint):
        make(concurrency=1).judge(SHEET)
    assert len(server.requests) == 1


def test_what_was_refused_is_asked_again_where_the_user_says_so(server, make):
    server.behaviour = refuses(2, answer(*PROMPT["vLLM"]))
    make().judge(SHEET)
    server.behaviour = by_length
    before = len(server.requests)
    again = make(retry_unanswered=True)
    assert again.estimate(SHEET).missing == 2
    judgements = again.judge(SHEET)
    assert all(j.parsed for j in judgements)
    assert len(server.requests) - before == 2
    assert make(max_calls=0).judge(SHEET) == judgements  # the reply counts, not the refusal from before


def test_a_refusal_of_the_second_request_keeps_the_first_reply(server, make):
    def behaviour(request: Request) -> Answer:
        if "What is 2?" not in str(request.body):
            return by_length(request)
        return answer(*PROMPT["vLLM"]) if request.again else says("I like both.")

    server.behaviour = behaviour
    lost = [j for j in make(max_unparsed=0.5).judge(SHEET) if not j.parsed]
    assert [j.question_id for j in lost] == ["2", "2"]
    assert all("I like both." in j.reason and TOO_LONG in j.reason for j in lost)
