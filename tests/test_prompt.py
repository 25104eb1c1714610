import copy
import dataclasses

import numpy as np
import pytest
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from diverseevol.cli.binding import bind
from diverseevol.data import prompt as prompt_module
from diverseevol.data.conversation import exchange
from diverseevol.data.prompt import Prompt
from diverseevol.data.tokens import encode
from diverseevol.engine.tuning.batches import IGNORED, collate
from diverseevol.errors import InputError
from diverseevol.options import PromptOptions

QUESTION = "Name a fish."
WITHOUT_INPUT = """\
Below is an instruction that describes a task. Write a response that appropriately completes the request.

### Instruction:
Name a fish.

### Response:"""
WITH_INPUT = """\
Below is an instruction that describes a task, paired with an input that provides further context. \
Write a response that appropriately completes the request.

### Instruction:
Name a fish.

### Input:
cod, cow

### Response:"""
CHATML = (
    "{% for m in messages %}<|turn|>{{ m.role }}\n{{ m.content }}<|done|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|turn|>assistant\n{% endif %}"
)
CHAT = PromptOptions(template="chat")


@pytest.fixture
def chatty(prompt):
    """A tokeniser with a chat template and its special tokens."""
    tokenizer = copy.deepcopy(prompt.tokenizer)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|turn|>", "<|done|>"]})
    tokenizer.chat_template = CHATML
    return tokenizer


def decorated(prompt: Prompt, template: str) -> PreTrainedTokenizerFast:
    """The tokeniser, with special tokens around every text."""
    backend = copy.deepcopy(prompt.tokenizer.backend_tokenizer)
    backend.post_processor = TemplateProcessing(single=template, special_tokens=[("<unk>", 0), ("<end>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<unk>", eos_token="<end>")


@pytest.mark.parametrize(("given", "text"), [("", WITHOUT_INPUT), ("cod, cow", WITH_INPUT)])
def test_the_alpaca_prompt_reads_as_in_the_paper(prompt, given, text):
    (ids,) = prompt.ids([QUESTION], [given])
    assert prompt.tokenizer.decode(ids) == text


def test_braces_in_the_data_are_text_like_any_other(prompt):
    (ids,) = prompt.ids(["Fill {instruction} in {0}."], ["{input} and {"])
    decoded = prompt.tokenizer.decode(ids)
    assert "\nFill {instruction} in {0}.\n" in decoded
    assert "\n{input} and {\n" in decoded


def test_a_row_begins_with_the_ids_that_its_question_has_when_it_is_asked(prompt, dataset, encoded):
    rows = [row for row in range(len(dataset)) if encoded.eligible[row]]
    examples = dataset.take(rows)
    asked = prompt.ids([e.instruction for e in examples], [e.input for e in examples])
    for row, question in zip(rows, asked, strict=True):
        start = encoded.lengths[row] - encoded.response_tokens[row]
        assert encoded.row(row)[:start].tolist() == question


def test_what_follows_the_prompt_is_the_response_and_the_end_token(prompt, dataset, encoded):
    for row in (0, 1, 2):
        response = encoded.row(row)[encoded.lengths[row] - encoded.response_tokens[row] :].tolist()
        assert response[-1] == prompt.end
        assert prompt.tokenizer.decode(response[:-1]) == dataset[row].response
        assert encoded.response_tokens[row] == len(response)


def test_labels_cover_the_response_with_its_end_and_nothing_else(prompt, encoded):
    rows = [0, 1, 2]
    batch = collate(encoded, rows, prompt.end)
    for i, row in enumerate(rows):
        start, length = encoded.lengths[row] - encoded.response_tokens[row], encoded.lengths[row]
        labels = batch["labels"][i].numpy()
        np.testing.assert_array_equal(labels[start:length], encoded.row(row)[start:])
        assert labels[length - 1] == prompt.end
        assert (np.delete(labels, np.arange(start, length)) == IGNORED).all()
        assert batch["attention_mask"][i].sum() == length


def test_a_row_is_cut_at_its_end_and_one_without_a_response_is_ineligible(prompt, dataset, cache):
    example = exchange(QUESTION, "", "A cod. " * 9)
    ((whole, ((start, _),), *_),) = prompt.rows([example])
    for limit in (start - 1, start, start + 1, len(whole) - 1, len(whole), len(whole) + 1):
        cut = Prompt(prompt.tokenizer, PromptOptions(max_length=limit))
        ((ids, spans, lost, _, removed),) = cut.rows([example])
        assert ids == whole[:limit]
        assert spans == (((start, len(ids)),) if limit > start else ())
        assert lost == len(whole) - len(ids)
        assert removed == (int(limit <= start), int(start < limit < len(whole)))
    short = Prompt(prompt.tokenizer, PromptOptions(max_length=150))
    encoded = encode(dataset, short, cache)
    expected = [bool(row.spans) for row in short.rows(dataset.take(range(len(dataset))))]
    assert encoded.eligible.tolist() == expected
    assert 0 < sum(expected) < len(dataset)


def test_a_tokeniser_that_adds_special_tokens_adds_them_to_the_prompt_alone(prompt):
    example = exchange(QUESTION, "", "A cod.")
    ((plain, ((border, _),), *_),) = prompt.rows([example])
    ((first, ((after_first, _),), *_),) = Prompt(decorated(prompt, "<unk> $A"), PromptOptions()).rows([example])
    assert (first, after_first) == ([0, *plain], border + 1)
    ((both, ((after_both, _),), *_),) = Prompt(decorated(prompt, "<unk> $A <end>"), PromptOptions()).rows([example])
    assert (both, after_both) == (first, after_first)


def test_the_chat_template_frames_both_sides_and_ends_the_turn(chatty):
    prompt = Prompt(chatty, PromptOptions(template="chat", system="Be brief."))
    ((ids, ((start, _),), *_),) = prompt.rows([exchange(QUESTION, "cod, cow", "Cod.")])
    asked = "<|turn|>system\nBe brief.<|done|>\n<|turn|>user\nName a fish.\n\ncod, cow<|done|>\n<|turn|>assistant\n"
    assert chatty.decode(ids[:start]) == asked
    assert chatty.decode(ids[start:]) == "Cod.<|done|>\n"
    assert ids[:start] == prompt.ids([QUESTION], ["cod, cow"])[0]
    assert ids[0] == chatty.convert_tokens_to_ids("<|turn|>")


def test_answers_stop_at_the_end_token_and_in_chats_at_the_end_of_the_turn(prompt, chatty):
    assert prompt.stop_tokens == [prompt.end]
    chat = Prompt(chatty, CHAT)
    assert chat.stop_tokens == sorted([chat.end, chatty.convert_tokens_to_ids("<|done|>")])


def test_a_chat_template_without_an_end_of_turn_gets_the_end_token(chatty):
    chatty.chat_template = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}" + (
        "{% if add_generation_prompt %}assistant: {% endif %}"
    )
    prompt = Prompt(chatty, CHAT)
    ((ids, ((start, _),), *_),) = prompt.rows([exchange(QUESTION, "", "Cod.")])
    assert chatty.decode(ids[start:]) == "Cod.\n<end>"
    assert prompt.stop_tokens == [prompt.end]


def test_a_chat_template_that_rewrites_its_own_prompt_is_refused(chatty):
    chatty.chat_template = "{{ messages | length }}{% for m in messages %}{{ m.content }}{% endfor %}"
    with pytest.raises(InputError, match=r"does not start with its own prompt.*prompt\.template=alpaca"):
        Prompt(chatty, CHAT).rows([exchange(QUESTION, "", "Cod.")])


def test_a_chat_needs_a_template_and_every_prompt_an_end_token(prompt):
    with pytest.raises(InputError, match="has no chat template"):
        Prompt(prompt.tokenizer, CHAT)
    endless = PreTrainedTokenizerFast(tokenizer_object=prompt.tokenizer.backend_tokenizer)
    with pytest.raises(InputError, match="no end token"):
        Prompt(endless, PromptOptions())


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"template": "vicuna"}, "prompt.template is 'vicuna', which is not alpaca or chat"),
        ({"max_length": 1}, "prompt.max_length is 1; it must be at least 2"),
        ({"system": "Be brief."}, "prompt.system is set but the Alpaca template has no system message"),
    ],
)
def test_options_that_mean_nothing_are_refused(options, sentence):
    with pytest.raises(InputError, match=sentence):
        bind(PromptOptions, options, "prompt")


def test_the_identity_changes_with_all_that_changes_ids(prompt, chatty, monkeypatch):
    def identity(tokenizer=prompt.tokenizer, **options):
        return Prompt(tokenizer, dataclasses.replace(PromptOptions(), **options)).identity

    other_template = copy.deepcopy(chatty)
    other_template.chat_template = "{# #}" + CHATML
    other_end = copy.deepcopy(prompt.tokenizer)
    other_end.eos_token = "<unk>"
    identities = [
        identity(),
        identity(max_length=100),
        identity(chatty),
        identity(chatty, template="chat"),
        identity(chatty, template="chat", system="Be brief."),
        identity(other_template, template="chat"),
        identity(decorated(prompt, "<unk> $A")),
        identity(other_end),
    ]
    for template in ("ALPACA", "ALPACA_WITH_INPUT"):
        with monkeypatch.context() as patch:
            patch.setattr(prompt_module, template, "Well? {instruction} {input}")
            identities.append(identity())
    assert len(set(identities)) == len(identities)


def test_the_identity_does_not_change_with_use(prompt):
    used = copy.deepcopy(prompt.tokenizer)
    before = Prompt(used, PromptOptions()).identity
    used(["a", "b c d"], truncation=True, max_length=2, padding=True)
    assert Prompt(used, PromptOptions()).identity == before == prompt.identity


def test_the_data_set_is_tokenised_once(prompt, dataset, tmp_path):
    done: list[int] = []
    first = encode(dataset, prompt, tmp_path, done.append)
    assert sum(done) == len(dataset)
    again = encode(dataset, prompt, tmp_path, lambda rows: pytest.fail("tokenised again"))
    for field in dataclasses.fields(first):
        np.testing.assert_array_equal(getattr(first, field.name), getattr(again, field.name))
    expected = [row[:4] for row in prompt.rows(dataset.take(range(len(dataset))))]
    rows = [
        (first.row(i).tolist(), tuple(map(tuple, first.spans_of(i).tolist())), first.lost[i], True)
        for i in range(len(dataset))
    ]
    assert rows == expected
