import asyncio
import importlib.util
import logging
import re
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from email.utils import formatdate
from itertools import pairwise

import pytest
from chat_server import KEY, Answer, Request, by_length, fails, letters, says

from diverseevol.errors import InputError
from diverseevol.evaluation.judges.base import AnswerSheet, GivenUpError
from diverseevol.evaluation.questions.benchmarks import Benchmark, Question
from diverseevol.evaluation.scores.scores import score

QUESTIONS = 4
SHEET = letters(QUESTIONS)
BENCHMARK, ANSWERS = SHEET.benchmark, SHEET.answers
NEEDED = 2 * QUESTIONS


def once(failure: Answer) -> Callable[[Request], Answer]:
    """Every prompt fails the first time."""
    return lambda request: by_length(request) if request.seen else failure


def test_each_pair_is_judged_in_both_orders_and_each_score_goes_to_whom_it_rates(server, make):
    judge = make()
    judgements = judge.judge(SHEET)
    assert [(j.question_id, j.order) for j in judgements] == [(str(i), k) for i in range(QUESTIONS) for k in (0, 1)]
    assert all((j.model_score, j.competitor_score) == (int(j.question_id) + 1, 6) for j in judgements)
    assert {(j.judge, j.prompt_version) for j in judgements} == {("gpt-4", judge.wording.version)}
    assert len(server.requests) == NEEDED
    assert all((r.body["temperature"], r.body["model"], r.key) == (0, "gpt-4", KEY) for r in server.requests)
    assert score(judgements).relative_score == pytest.approx(100 * (1 + 2 + 3 + 4) / 24)


def test_a_judge_that_favours_the_first_place_is_seen_in_the_order_flips(server, make):
    server.behaviour = lambda request: says("9 2")
    found = score(make().judge(SHEET))
    assert (found.order_flips, found.tie, found.relative_score) == (QUESTIONS, QUESTIONS, 100)


def test_a_second_run_pays_nothing_and_gives_the_same_judgements(server, make):
    first = make().judge(SHEET)
    again = make(max_calls=0)
    assert again.judge(SHEET) == first
    assert len(server.requests) == NEEDED
    assert (again.account.known, again.account.calls) == (NEEDED, 0)


@pytest.mark.parametrize("change", ["model", "wording", "answer", "competitor", "question", "max_tokens"])
def test_whatever_may_change_the_verdict_is_asked_anew(server, make, tmp_path, change):
    make().judge(SHEET)
    (question, *others), answers, options = BENCHMARK.questions, dict(ANSWERS), {}
    if change == "wording":
        (tmp_path / "short.txt").write_text(
            "{question}\n<answer-1>\n{first}\n</answer-1>\n<answer-2>\n{second}\n</answer-2>"
        )
        options["prompt"] = str(tmp_path / "short.txt")
    elif change in ("model", "max_tokens"):
        options[change] = {"model": "gpt-4o", "max_tokens": 99}[change]
    elif change == "answer":
        answers["0"] = "another"
    else:
        fields = {"competitor": {"competitor": "zz"}, "question": {"instruction": "Why?"}}[change]
        question = Question(**(asdict(question) | fields))
    server.behaviour = lambda request: says("5 5", model=request.body["model"])
    make(**options).judge(AnswerSheet(Benchmark("mine", (question, *others)), answers))
    assert len(server.requests) - NEEDED == (2 if change in ("answer", "competitor", "question") else NEEDED)


def test_a_users_wording_is_sent_and_its_version_recorded(server, make, tmp_path):
    (tmp_path / "Mein Test.txt").write_text(
        "Q {question} {other}\n<answer-1>\n{first}\n</answer-1>\n<answer-2>\n{second}\n</answer-2>"
    )
    tricky = {**ANSWERS, "0": "{second} \\1 {question}"}
    (first, *_) = make(prompt=str(tmp_path / "Mein Test.txt")).judge(AnswerSheet(BENCHMARK, tricky))
    assert first.prompt_version.startswith("Mein-Test-")
    texts = [r.body["messages"][0]["content"] for r in server.requests]
    assert any(t.startswith("Q What is 0? {other}\n<answer-1>\n{second} \\1 {question}\n</answer-1>") for t in texts)


@pytest.mark.parametrize(("text", "complaint"), [("{question} {first}", "{second} 0 times"), (None, "no such file")])
def test_a_users_wording_that_cannot_work_is_refused(make, tmp_path, text, complaint):
    path = tmp_path / "mine.txt"
    if text is not None:
        path.write_text(text)
    with pytest.raises(InputError, match=f"judge.prompt=.*mine.txt: .*{re.escape(complaint)}"):
        make(prompt=str(path))


@pytest.mark.parametrize(
    "failure",
    [
        fails(429), fails(429, retry_after="0.01"), fails(500), fails(503), fails(408),
        Answer(body=b'{"id": "1", "cho'), Answer(body=b"<html>busy</html>"), Answer(body=b"[1]"),
        Answer(body=b'{"a": 1, "b": 2}', cut=True), Answer(delay=2.5),
        Answer(body={"error": {"message": "overloaded", "code": 502}}), says("8 7", error={"message": "no"}),
        says("", choices=None), says("", choices=[{"index": 0}]), says("", choices={"a": 1}),
        says("", choices=[{"message": "8 7"}]),
    ],
    ids=["429", "429+", "500", "503", "408", "malformed", "html", "list", "cut", "hang", "error", "error beside",
         "null choices", "no message", "choices no list", "message no object"],
)  # fmt: skip
def test_what_may_pass_is_tried_again(server, make, failure):
    server.behaviour = once(failure)
    judge = make(timeout=2.0 if failure.delay else 60.0)
    assert score(judge.judge(SHEET)).questions == QUESTIONS
    assert judge.account.calls == len(server.requests) == 2 * NEEDED


@pytest.mark.parametrize("form", ["seconds", "milliseconds", "date"])
def test_retry_after_is_honoured(server, make, form):
    earliest = time.monotonic() + 1  # dates have no fractions
    headers = {
        "seconds": {"retry_after": "0.4"},
        "milliseconds": {"retry_after_ms": "400"},
        "date": {"retry_after": formatdate(time.time() + 2, usegmt=True)},
    }[form]
    server.behaviour = once(fails(429, **headers))
    make(backoff=0.0).judge(SHEET)
    for prompt in {r.body["messages"][0]["content"] for r in server.requests}:
        first, second = (r.at for r in server.requests if r.body["messages"][0]["content"] == prompt)
        assert (
            second > earliest if form == "date" else 0.4 <= second - first < 60
        )  # and not the minutes that 400 seconds are


def test_without_retry_after_each_wait_is_longer(server, make):
    server.behaviour = lambda request: by_length(request) if request.seen == 3 else fails(429)
    make(backoff=0.1).judge(AnswerSheet(Benchmark("one", BENCHMARK.questions[:1]), ANSWERS))
    times = [r.at for r in server.requests if r.first == "x"]
    waits = [b - a for a, b in pairwise(times)]
    assert [0.05 * 2**i < wait < 0.1 * 2**i + 2 for i, wait in enumerate(waits)] == [True] * 3


def test_an_endpoint_that_stays_away_fails_the_run_and_keeps_what_came(server, make):
    server.behaviour = lambda request: fails(500) if len(server.requests) > NEEDED - 4 else by_length(request)
    with pytest.raises(ConnectionError, match=r"HTTP 500: .*run the same command again later"):
        make(retries=1, concurrency=1).judge(SHEET)
    kept = NEEDED - 4
    failed = len(server.requests)
    server.behaviour = by_length
    assert all(judgement.parsed for judgement in make().judge(SHEET))
    assert len(server.requests) - failed == NEEDED - kept
    assert failed == kept + 2 + 2 + 2  # what failed, another prompt, and one that was answered before


def test_nobody_at_the_address_is_said_so(make):
    with pytest.raises(ConnectionError, match="no connection"):
        make(base_url="http://127.0.0.1:9/v1", retries=1).judge(SHEET)


def test_a_wait_of_an_hour_is_not_sat_through(server, make):
    server.behaviour = lambda request: fails(429, retry_after="3600")
    with pytest.raises(ConnectionError, match="asks to wait 3600 s"):
        make().judge(SHEET)


@pytest.mark.parametrize("status", [401, 403])
def test_a_bad_key_fails_at_once_says_what_to_do_and_is_never_shown(server, make, caplog, capfd, tmp_path, status):
    caplog.set_level(logging.DEBUG)
    server.behaviour = lambda request: fails(status, f"Incorrect API key provided: {request.key}")
    judge = make(concurrency=2)
    with pytest.raises(InputError, match=r"the key in \$OPENAI_API_KEY .*set the environment variable") as caught:
        judge.judge(SHEET)
    assert len(server.requests) <= 2
    error: BaseException | None = caught.value
    while error is not None:
        assert KEY not in str(error)
        assert error.__suppress_context__ or error.__context__ is None
        error = error.__cause__
    assert KEY not in caplog.text + "".join(capfd.readouterr()) + repr(judge) + str(vars(judge))
    assert not any(KEY.encode() in file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())


def test_a_key_that_an_endpoint_repeats_in_another_error_is_hidden(server, make):
    server.behaviour = lambda request: fails(422, f"you sent {request.key}")
    with pytest.raises(InputError, match=r"you sent \[key\]"):
        make().judge(SHEET)


def test_a_missing_key_is_named_before_anything_is_asked(server, make, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(InputError, match=r"OPENAI_API_KEY is not set: .*judge\.key_variable=null"):
        make()
    make(key_variable=None).judge(SHEET)
    assert {r.key for r in server.requests} == {"none"}


def test_a_key_given_in_place_of_a_variables_name_is_refused_without_repeating_it(make):
    with pytest.raises(InputError, match=r"judge\.key_variable is not the name") as caught:
        make(key_variable=KEY)
    assert KEY not in str(caught.value)


def test_a_wrong_model_name_fails_at_once(server, make):
    server.behaviour = lambda request: fails(404, "The model does not exist", code="model_not_found")
    with pytest.raises(InputError, match=r"has no model 'gpt-5x' .*judge\.model"):
        make(model="gpt-5x", concurrency=1).judge(SHEET)
    assert len(server.requests) == 1


def test_an_account_without_credit_is_not_waited_for(server, make):
    server.behaviour = lambda request: fails(429, "You exceeded your quota", code="insufficient_quota")
    with pytest.raises(InputError, match="no credit left"):
        make(concurrency=1).judge(SHEET)
    assert len(server.requests) == 1


def test_another_model_than_the_one_asked_for_is_warned_about_once(server, make, caplog):
    server.behaviour = lambda request: says("5 6", model="llama-3-8b")
    make().judge(SHEET)
    (warning,) = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert "gpt-4" in warning
    assert "llama-3-8b" in warning


def test_a_snapshot_of_the_model_asked_for_is_no_other_model(server, make, caplog):
    server.behaviour = lambda request: says("5 6", model="gpt-4-0613")
    make().judge(SHEET)
    assert not [r for r in caplog.records if r.levelno == logging.WARNING]


UNREADABLE = {
    "words": says("Eight and seven.\nBoth are good."),
    "refusal": says(None, refusal="I cannot help with that."),
    "no choice": says("", choices=[]),
    "empty choice": says(None),
    "one score": says("8\nThe first."),
    "three scores": says("8 7 6"),
    "above ten": says("80 70"),
    "fractions": says("8/20 7/20"),
    "late": says("The first is better.\n8 7"),
}


@pytest.mark.parametrize("reply", UNREADABLE.values(), ids=list(UNREADABLE))
def test_a_reply_without_two_scores_is_asked_for_once_more(server, make, reply):
    server.behaviour = lambda request: says("7 3") if request.again else reply
    judgements = make().judge(SHEET)
    assert len(server.requests) == 2 * NEEDED
    assert {(j.order, j.model_score, j.competitor_score) for j in judgements} == {(0, 7, 3), (1, 3, 7)}


@pytest.mark.parametrize("reply", UNREADABLE.values(), ids=list(UNREADABLE))
def test_a_second_reply_without_scores_is_recorded_as_unparsed_and_never_as_a_zero(server, make, reply):
    server.behaviour = lambda request: reply if "What is 2?" in str(request.body) else by_length(request)
    judgements = make(max_unparsed=0.5).judge(SHEET)
    assert [j.question_id for j in judgements if not j.parsed] == ["2", "2"]
    found = score(judgements)
    assert (found.questions, found.unparsed, found.zeros) == (QUESTIONS - 1, 2, 0)
    assert found.relative_score == pytest.approx(100 * (1 + 2 + 4) / 18)
    asked = len(server.requests)
    assert make(max_unparsed=0.5).judge(SHEET) == judgements
    assert len(server.requests) == asked  # also what cannot be read is not paid for twice


def test_a_prompt_that_the_endpoint_filters_is_unparsed_and_stops_nothing(server, make):
    server.behaviour = lambda request: (
        fails(400, "filtered", code="content_filter") if "What is 2?" in str(request.body) else by_length(request)
    )
    judgements = make(max_unparsed=0.5).judge(SHEET)
    assert [(j.question_id, j.reason) for j in judgements if not j.parsed] == [("2", "HTTP 400: filtered")] * 2
    asked = len(server.requests)
    again = make(max_unparsed=0.5, max_calls=0)
    assert again.estimate(SHEET).missing == 0
    assert again.judge(SHEET) == judgements
    assert len(server.requests) == asked


def test_thoughts_before_the_scores_are_read_past(server, make):
    server.behaviour = lambda request: says("<think>\n3 4? No.\n</think>\n\n**8 7**\nBoth are good.")
    assert {(j.order, j.model_score) for j in make().judge(SHEET)} == {(0, 8), (1, 7)}
    assert len(server.requests) == NEEDED


PARTS = {
    "text": [{"type": "text", "text": "8 7"}],
    "several": [{"type": "text", "text": "8"}, {"type": "text", "text": " 7"}],
    "thought": [{"type": "thinking", "thinking": [{"type": "text", "text": "3 4"}]}, {"type": "text", "text": "8 7"}],
    "output": [{"type": "output_text", "text": "8 7", "annotations": []}],
    "plain": ["8 ", "7"],
    "null": [None, {"type": "text", "text": "8 7"}],
}


@pytest.mark.parametrize("content", PARTS.values(), ids=list(PARTS))
def test_content_in_parts_is_joined(server, make, content):
    server.behaviour = lambda request: says(content)
    assert {(j.order, j.model_score) for j in make().judge(SHEET)} == {(0, 8), (1, 7)}
    assert len(server.requests) == NEEDED


@pytest.mark.parametrize("part", [{"type": "image_url", "image_url": {"url": "x"}}, {"type": "text", "text": 8}, 8])
def test_a_part_that_is_no_text_is_no_verdict_and_is_not_asked_again(server, make, part):
    server.behaviour = lambda request: says([part]) if "What is 2?" in str(request.body) else by_length(request)
    judge = make(max_unparsed=0.5)
    lost = [j for j in judge.judge(SHEET) if not j.parsed]
    assert [j.question_id for j in lost] == ["2", "2"]
    assert re.fullmatch(r"HTTP 200: the reply holds a part (of type '\w+'|that is a int), not text", lost[0].reason)
    assert len(server.requests) == NEEDED
    make(max_unparsed=0.5).judge(SHEET)
    assert len(server.requests) == NEEDED


def thinks_too_long(content: str | None) -> Answer:
    message = {"role": "assistant", "content": content, "reasoning_content": "8 7\nThat is 8 7."}
    return says("", choices=[{"index": 0, "finish_reason": "length", "message": message}])


@pytest.mark.parametrize("content", [None, "", "<think>\nAt first I would say 8 7."])
def test_a_thought_cut_at_the_limit_says_what_to_raise_before_all_is_paid(server, make, content):
    server.behaviour = lambda request: thinks_too_long(content)
    with pytest.raises(GivenUpError, match=r"4 of these replies ended at judge\.max_tokens=99 .*: raise it") as caught:
        make(concurrency=1, max_tokens=99).judge(SHEET)
    assert len(server.requests) == 4  # and none of them twice
    assert [j.parsed for j in caught.value.judgements()] == [False] * 4
    server.behaviour = by_length
    with pytest.raises(GivenUpError, match="raise it"):  # what was paid for says the same, without a call
        make(concurrency=1, max_tokens=99, max_calls=0).judge(SHEET)
    assert all(j.parsed for j in make(max_tokens=4096).judge(SHEET))


@pytest.mark.parametrize("reason", ["length", "MAX_TOKENS", "max_output_tokens", "model_length"])
def test_a_thought_without_tags_that_is_cut_says_what_to_raise(server, make, reason):
    """As where a chat template opens the thought, so that only its closing tag would tell it."""
    message = {"role": "assistant", "content": "Okay, the first answer is about"}
    server.behaviour = lambda request: says("", choices=[{"index": 0, "finish_reason": reason, "message": message}])
    with pytest.raises(GivenUpError, match=r"8 of these replies ended at judge\.max_tokens=99 before .*: raise it, or"):
        make(max_tokens=99).judge(SHEET)


def test_one_thought_that_is_too_long_is_one_judgement_without_scores(server, make):
    server.behaviour = lambda request: thinks_too_long("") if "What is 2?" in str(request.body) else by_length(request)
    lost = [j for j in make(max_unparsed=0.5).judge(SHEET) if not j.parsed]
    assert [(j.question_id, j.reason) for j in lost] == [("2", "(nothing within judge.max_tokens=512)")] * 2
    with pytest.raises(GivenUpError, match=r"2 of 8 judgements .*2 of these replies ended at judge\.max_tokens=512"):
        make().judge(SHEET)


def test_a_judge_that_never_keeps_to_the_form_is_given_up_early(server, make):
    many = Benchmark("many", tuple(Question(str(i), f"What is {i}?", competitor="y" * 6) for i in range(40)))
    answers = {str(i): "x" for i in range(40)}
    server.behaviour = lambda request: says("The first\x1b[31m is better: 8 against 7. " + "Really. " * 100)
    with pytest.raises(GivenUpError) as caught:
        make().judge(AnswerSheet(many, answers))
    assert 24 <= len(server.requests) <= 24 + 2 * 8
    sentence = str(caught.value)
    assert "12 of 12 judgements by gpt-4 hold no two scores" in sentence
    assert "; 68 were not asked for; choose a judge" in sentence
    assert r"'The first\x1b[31m is better: 8 against 7. Really." in sentence
    assert "…'" in sentence
    assert 12 <= len(caught.value.judgements()) <= 20
    asked = len(server.requests)
    with pytest.raises(GivenUpError):
        make(max_calls=0).judge(AnswerSheet(many, answers))
    assert len(server.requests) == asked
    server.behaviour = lambda request: says("So.") if "What is 1" in str(request.body) else by_length(request)
    judgements = make(model="other", max_unparsed=0.3).judge(AnswerSheet(many, answers))  # 11 questions of 40
    assert sum(not j.parsed for j in judgements) == 22


def test_too_many_unparsed_judgements_fail_the_run(server, make):
    server.behaviour = lambda request: says("I like 2.") if "What is 2?" in str(request.body) else by_length(request)
    with pytest.raises(InputError, match=r"2 of 8 judgements by gpt-4 .*question '2', order 0, which said 'I like 2\."):
        make(max_unparsed=0.2).judge(SHEET)


def test_no_more_requests_are_under_way_than_allowed(server, make):
    server.behaviour = lambda request: Answer(body=by_length(request).body, delay=0.05)
    make(concurrency=3).judge(SHEET)
    assert server.most_at_once == 3


def test_it_works_below_an_event_loop_of_the_callers(make):
    async def outer() -> int:
        return len(make().judge(SHEET))

    assert asyncio.run(outer()) == NEEDED
    assert not [t for t in threading.enumerate() if t.name == "judge"]


def test_what_is_lacking_is_named_with_benchmark_and_question(make):
    with pytest.raises(InputError, match="benchmark mine, question '0': no answer"):
        make().judge(AnswerSheet(BENCHMARK, {}))
    with pytest.raises(InputError, match="benchmark mine, question 'q': no competitor"):
        make().judge(AnswerSheet(Benchmark("mine", (Question("q", "?"),)), {"q": "x"}))


def test_without_the_client_the_package_to_install_is_named(make, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'diverseevol\[judge\]'"):
        make()


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"concurrency": 0}, r"judge\.concurrency is 0"),
        ({"timeout": 0.0}, r"judge\.timeout is 0"),
        ({"max_calls": -1}, r"judge\.max_calls is -1"),
        ({"price": [1.0]}, r"judge\.price is \[1\.0\]"),
        ({"price": 5}, r"judge\.price is 5; give \[prompt"),
        ({"price": [1.0, float("nan")]}, r"judge\.price is"),
        ({"price": [1, 1], "budget_usd": float("nan")}, r"judge\.budget_usd is nan"),
        ({"price": [1, 1], "budget_usd": float("inf")}, r"judge\.budget_usd is inf"),
        ({"max_unparsed": float("nan")}, r"judge\.max_unparsed is nan"),
        ({"temperature": -1.0}, r"judge\.temperature is -1"),
        ({"timeout": float("nan")}, r"judge\.timeout is nan"),
        ({"budget_usd": 1.0}, r"judge\.budget_usd is set but this model's price is not known"),
    ],
)
def test_options_that_make_no_sense_are_refused(make, options, complaint):
    with pytest.raises(InputError, match=complaint):
        make(**options)


@pytest.mark.parametrize("asked", ["0", "-5"])
def test_an_endpoint_that_asks_for_no_wait_is_given_one(server, make, asked):
    server.behaviour = once(fails(429, retry_after=asked))
    make(backoff=0.4).judge(AnswerSheet(Benchmark("one", BENCHMARK.questions[:1]), ANSWERS))
    for prompt in {r.body["messages"][0]["content"] for r in server.requests}:
        first, second = (r.at for r in server.requests if r.body["messages"][0]["content"] == prompt)
        assert second - first >= 0.2


def test_an_error_with_status_200_that_stays_fails_the_run_and_is_never_kept(server, make):
    server.behaviour = lambda request: Answer(body={"error": {"message": f"overloaded {request.key}"}})
    with pytest.raises(ConnectionError, match=r"HTTP 200 with an error: overloaded \[key\]"):
        make(retries=1).judge(SHEET)
    server.behaviour = by_length
    assert all(j.parsed for j in make(max_unparsed=0.0).judge(SHEET))


def test_a_reasoning_model_is_asked_in_its_own_words(server, make):
    make().judge(SHEET)
    make(token_parameter="max_completion_tokens", temperature=None).judge(SHEET)
    usual, other = server.requests[:NEEDED], server.requests[NEEDED:]
    assert len(other) == NEEDED  # another way to ask is another judge to the cache
    assert all((r.body["max_tokens"], r.body["temperature"]) == (512, 0) for r in usual)
    assert all(r.body["max_completion_tokens"] == 512 for r in other)
    assert not any({"max_tokens", "temperature"} & {*r.body} for r in other)
