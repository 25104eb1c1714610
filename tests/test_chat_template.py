"""Chat templates: the ids are the library's own, and what people write never becomes a control token."""

import copy
import itertools

import pytest
from chat_shapes import KINDS, SHAPES, tokenizer_of, unigram
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from diverseevol.data.conversation import Conversation, exchange
from diverseevol.data.prompt import Prompt
from diverseevol.errors import InputError
from diverseevol.options import PromptOptions

CHAT = PromptOptions(template="chat")
PLAIN = [
    exchange("Name three fish.", "", "Cod, eel and ray."),
    exchange("Name three fish.", "In the sea.", "  Two spaces first."),
    exchange("Go on", "", "\n\nLines first, é and 魚."),
    exchange("Compare 1 < 2 > 0.", "", "[INST] is text, and so is <b>."),
]
NAMES = list(itertools.product(SHAPES, KINDS))


def as_the_library(tokenizer: PreTrainedTokenizerFast, example: Conversation) -> list[int]:
    question = f"{example.instruction}\n\n{example.input}" if example.input else example.instruction
    messages = [{"role": "user", "content": question}, {"role": "assistant", "content": example.response}]
    template = str(tokenizer.chat_template).replace("strftime_now('%d %b %Y')", "'01 Jan 2026'")
    return list(tokenizer.apply_chat_template(messages, chat_template=template, return_dict=False))


def controls(prompt: Prompt, ids: list[int]) -> list[str]:
    """The control tokens among some ids, in order."""
    tokens = prompt.tokenizer.convert_ids_to_tokens(ids)
    return [token for token in tokens if prompt.control.pattern.fullmatch(token)]


@pytest.mark.parametrize(("name", "kind"), NAMES)
def test_ordinary_conversations_have_the_ids_that_the_library_gives_them(name, kind):
    tokenizer = tokenizer_of(SHAPES[name], kind)
    expected = [as_the_library(tokenizer, example) for example in PLAIN]
    prompt = Prompt(tokenizer, CHAT)
    rows = prompt.rows(PLAIN)
    assert [row.ids for row in rows] == expected
    for row, example in zip(rows, PLAIN, strict=True):
        assert example.response.strip() in tokenizer.decode(row.ids[row.spans[0][0] :])
        (asked,) = prompt.ids([example.instruction], [example.input])
        assert row.ids[: row.spans[0][0]] == asked[: row.spans[0][0]]
        assert len(asked) - row.spans[0][0] <= 2  # white space that the end of the prompt and the response share


@pytest.mark.parametrize(("name", "kind"), NAMES)
def test_the_text_of_a_control_token_is_text(name, kind):
    shape = SHAPES[name]
    prompt = Prompt(tokenizer_of(shape, kind), CHAT)
    (usual,) = prompt.rows([exchange("Say so.", "", "It is so.")])
    tokens = [token.content for token in prompt.tokenizer.added_tokens_decoder.values()]
    forged = [token for token in tokens if prompt.control.pattern.fullmatch(token)]
    around_a_part = {"<think>", "</think>", "<tool_call>", "</tool_call>"}
    assert {shape.turn_end, shape.end, *shape.special, *shape.markers} - around_a_part <= set(forged)
    assert not around_a_part & set(forged)
    examples = [exchange(f"Say {t} so.", f"{t}user\nNow {t}", f"It is {t} so. {t}") for t in forged]
    prompts = prompt.ids([example.instruction for example in examples], [example.input for example in examples])
    for token, row, asked in zip(forged, prompt.rows(examples), prompts, strict=True):
        assert controls(prompt, row.ids) == controls(prompt, usual.ids), token
        text = prompt.tokenizer.decode(row.ids)
        assert f"Say {token} so." in text
        assert f"It is {token} so. {token}" in text
        assert asked[: row.spans[0][0]] == row.ids[: row.spans[0][0]], token
        assert len(asked) - row.spans[0][0] <= 2
        assert controls(prompt, row.ids[row.spans[0][0] :]) == controls(prompt, usual.ids[usual.spans[0][0] :])


@pytest.mark.parametrize("name", ["qwen 3 thinking", "pairs", "gpt-oss"])
def test_a_control_token_in_one_text_lets_none_through_in_an_empty_one(name):
    prompt = Prompt(tokenizer_of(SHAPES[name]), CHAT)
    (usual,) = prompt.rows([exchange("Say so.", "", "")])
    for question, response in ((f"Say {SHAPES[name].turn_end}", ""), ("", SHAPES[name].turn_end)):
        (row,) = prompt.rows([exchange(question, "", response)])
        assert controls(prompt, row.ids) == controls(prompt, usual.ids)


def test_a_model_is_asked_up_to_where_its_rows_part_from_the_prompt():
    prompt = Prompt(tokenizer_of(SHAPES["qwen 3 thinking"]), CHAT)
    for question in ("Say so.", "Say <|im_end|> so."):
        (row,), (asked,) = prompt.rows([exchange(question, "", "So.")]), prompt.ids([question], [""])
        assert asked == row.ids[: row.spans[0][0]]
        assert prompt.tokenizer.decode(row.ids[row.spans[0][0] :]).startswith("\n\n</think>\n\nSo.")


def test_turn_markers_of_a_chat_model_are_text_in_the_alpaca_template_too():
    prompt = Prompt(tokenizer_of(SHAPES["gemma"]), PromptOptions())
    plain, forged = prompt.rows([exchange(f"Write {t}", "", f"So. {t} More.") for t in ("it", "<end_of_turn>")])
    assert controls(prompt, forged.ids) == controls(prompt, plain.ids)
    assert "So. <end_of_turn> More." in prompt.tokenizer.decode(forged.ids)


@pytest.mark.parametrize("template", ["alpaca", "chat"])
def test_letters_that_a_tokeniser_changes_into_a_control_token_are_refused_by_row(template):
    vocabulary = {letter: i for i, letter in enumerate(["[UNK]", *"abcdefghij<>/:."])}
    words = Tokenizer(models.WordPiece(vocab=vocabulary, unk_token="[UNK]"))
    words.normalizer = normalizers.Lowercase()
    words.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, unk_token="[UNK]", eos_token="<end>")
    tokenizer.add_tokens([AddedToken("<end>", special=True, normalized=True)])
    tokenizer.chat_template = "{% for m in messages %}{{ m.role }}: {{ m.content }}<end>{% endfor %}"
    prompt = Prompt(tokenizer, PromptOptions(template=template))
    rows = [exchange("A face: 魚", "", "A bad egg."), exchange("Beg", "", "A face <END> bad")]
    (row,) = prompt.rows(rows[:1])
    assert row.ids[-1] == prompt.end
    with pytest.raises(InputError, match=r"row 6: the tokeniser turns ordinary letters into .*as_tokens"):
        prompt.rows(rows, start=5)
    with pytest.raises(InputError, match="turns ordinary letters into"):
        prompt.ids(["A face <END> bad"], [""])
    meant = Prompt(tokenizer, PromptOptions(template=template, control_tokens="as_tokens"))
    assert len(meant.rows(rows)) == 2


@pytest.mark.parametrize("kind", KINDS)
def test_the_alpaca_template_holds_no_control_token_but_the_last(kind):
    prompt = Prompt(tokenizer_of(SHAPES["llama 3"], kind), PromptOptions())
    plain, forged = (
        prompt.rows([exchange(f"Write {token} at the end", token, f"Write {token} at the end{token}")])[0]
        for token in ("it", "</s>")
    )
    assert controls(prompt, forged.ids) == controls(prompt, plain.ids)
    assert controls(prompt, forged.ids[forged.spans[0][0] :]) == ["</s>"]
    assert prompt.tokenizer.decode(forged.ids[forged.spans[0][0] : -1]).strip() == "Write </s> at the end</s>"
    assert prompt.ids(["Write </s> at the end"], ["</s>"]) == [forged.ids[: forged.spans[0][0]]]


def test_data_may_be_meant_to_hold_control_tokens():
    tokenizer = tokenizer_of(SHAPES["llama 3"])
    example = exchange("Two turns?", "", "One.<|eot_id|>Two.")
    for template in ("alpaca", "chat"):
        text, tokens = (
            Prompt(tokenizer, PromptOptions(template=template, control_tokens=meant))
            for meant in ("as_text", "as_tokens")
        )
        (as_text,), (as_tokens,) = text.rows([example]), tokens.rows([example])
        assert len(controls(tokens, as_tokens.ids)) == len(controls(text, as_text.ids)) + 1
        assert text.identity != tokens.identity


def test_tokens_around_reasoning_stay_tokens():
    prompt = Prompt(tokenizer_of(SHAPES["chatml with empty reasoning"]), CHAT)
    (row,) = prompt.rows([exchange("Why?", "", "<think>Hm.</think> So.")])
    tokens = prompt.tokenizer.convert_ids_to_tokens(row.ids)
    assert tokens.count("<think>") == tokens.count("</think>") == 2  # the template's own, and the response's


@pytest.mark.parametrize("name", SHAPES)
def test_answers_stop_at_what_ends_a_response(name):
    shape = SHAPES[name]
    prompt = Prompt(tokenizer_of(shape), CHAT)
    stops = prompt.tokenizer.convert_ids_to_tokens(prompt.stop_tokens)
    assert set(stops) == {shape.turn_end, shape.end}
    (row,) = prompt.rows([exchange("Say so.", "", "So.")])
    after = controls(prompt, row.ids[row.spans[0][0] :])
    assert after[-1] == shape.turn_end
    assert after.count(shape.turn_end) == 1


@pytest.mark.parametrize("name", SHAPES)
def test_an_answer_is_what_was_said_and_nothing_that_frames_it(name):
    prompt = Prompt(tokenizer_of(SHAPES[name]), CHAT)
    (row,) = prompt.rows([exchange("Name three fish.", "", "Cod, eel and ray.")])
    said = list(itertools.takewhile(lambda token: token not in prompt.stop_tokens, row.ids[row.spans[0][0] :]))
    assert prompt.text(said) == "Cod, eel and ray."


def test_a_response_that_the_template_cuts_is_refused_by_row_or_kept():
    tokenizer = tokenizer_of(SHAPES["r1"])
    rows = [exchange("Say so.", "", "So."), exchange("Why?", "", "<think>Because.</think> Well.")]
    with pytest.raises(InputError, match=r"row 8: the chat template leaves part of the response out.*changed_response"):
        Prompt(tokenizer, CHAT).rows(rows, start=7)
    keeping = Prompt(tokenizer, PromptOptions(template="chat", changed_response="keep"))
    kept = keeping.rows(rows)
    assert [row.complete for row in kept] == [True, False]
    assert keeping.text(kept[1].ids[kept[1].spans[0][0] :]) == "Well."


def test_the_date_of_a_template_that_reads_the_clock_is_settled():
    tokenizer = tokenizer_of(SHAPES["llama 3"])
    usual, later = (Prompt(tokenizer, PromptOptions(template="chat", date=day)) for day in ("2026-01-01", "2026-02-03"))
    assert "Today is 01 Jan 2026" in tokenizer.decode(usual.ids(["Say so."], [""])[0])
    assert "Today is 03 Feb 2026" in tokenizer.decode(later.ids(["Say so."], [""])[0])
    assert usual.identity != later.identity
    plain = tokenizer_of(SHAPES["smollm2"])
    identities = {
        Prompt(plain, PromptOptions(template="chat", date=day)).identity for day in ("2026-01-01", "2026-02-03")
    }
    assert len(identities) == 1
    with pytest.raises(InputError, match=r"prompt\.date is 'today'; give a day as YYYY-MM-DD"):
        PromptOptions(date="today")


def test_a_template_that_refuses_a_system_message_is_one_sentence():
    with pytest.raises(InputError, match=r"refuses the system message .*leave prompt\.system out"):
        Prompt(tokenizer_of(SHAPES["gemma"]), PromptOptions(template="chat", system="Be brief."))


def test_one_of_several_templates_is_chosen_by_its_name():
    tokenizer = tokenizer_of(SHAPES["smollm2"])
    tokenizer.chat_template = {"long": SHAPES["smollm2"].template, "tool_use": SHAPES["mistral"].template}
    with pytest.raises(
        InputError, match=r"several .* none of them is the default; give prompt\.chat_template=NAME with one of long, t"
    ):
        Prompt(copy.deepcopy(tokenizer), CHAT)
    with pytest.raises(InputError, match="has none called 'short'"):
        Prompt(copy.deepcopy(tokenizer), PromptOptions(template="chat", chat_template="short"))
    prompt = Prompt(copy.deepcopy(tokenizer), PromptOptions(template="chat", chat_template="long"))
    assert prompt.tokenizer.decode(prompt.ids(["Say so."], [""])[0]).startswith("<|im_start|>system\nBe helpful.")
    with pytest.raises(InputError, match="has a single chat template"):
        Prompt(tokenizer_of(SHAPES["smollm2"]), PromptOptions(template="chat", chat_template="long"))


@pytest.mark.parametrize(
    ("template", "sentence"),
    [
        ("{{ raise_exception('Turns must alternate') }}", "chat template fails .Turns must alternate"),
        ("{{ messages[0]['name'] + 1 }}", "chat template fails"),
        ("{% for m in messages %}", "chat template fails"),
        ("{% for m in messages %}{{ m.role }}{% endfor %}", "does not start with its own prompt"),
        (
            "{% for m in messages %}{% if m.role == 'user' %}{{ m.content }}{% endif %}{% endfor %}",
            "leaves a plain response out",
        ),
    ],
)
def test_a_template_that_cannot_be_used_is_one_sentence(template, sentence):
    tokenizer = tokenizer_of(SHAPES["smollm2"])
    tokenizer.chat_template = template
    with pytest.raises(InputError, match=sentence):
        Prompt(tokenizer, CHAT)


def test_a_tokeniser_that_makes_control_tokens_of_plain_text_refuses_the_row():
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=unigram(), unk_token="<unk>", eos_token="</s>")
    prompt = Prompt(tokenizer, PromptOptions())
    assert prompt.rows([exchange("Say so.", "", "So.")])[0].ids[-1] == prompt.end
    for row in (exchange("Say so.", "", "Write </s> at the end"), exchange("Write </s>", "", "So.")):
        with pytest.raises(InputError, match=r"row 3: .* cannot be kept apart .*prompt\.control_tokens=as_tokens"):
            prompt.rows([exchange("Say so.", "", "So."), row], start=2)
