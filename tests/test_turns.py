"""Conversations of many turns as token ids: the ids are the library's own, and what is learned is what was answered."""

import copy
import itertools
import os
import random
import re
from pathlib import Path

import pytest
from chat_shapes import KINDS, SHAPES, Shape, tokenizer_of
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from diverseevol.data import prompt as prompt_module
from diverseevol.data.conversation import Conversation, Turn, exchange
from diverseevol.data.prompt import Prompt
from diverseevol.errors import InputError
from diverseevol.options import PromptOptions

CHAT = PromptOptions(template="chat")
FOUR = Conversation(
    (
        Turn("user", "Name three fish.", "In the sea."),
        Turn("assistant", "Cod, eel and ray."),
        Turn("user", "Go on"),
        Turn("assistant", "No < more > fish."),
    )
)
WITH_SYSTEM = Conversation((Turn("system", "Answer in few words."), *FOUR.turns, Turn("user", "Why?")))
CALL = {"type": "function", "function": {"name": "count", "arguments": {"of": "fish"}}}
TOOLS = [{"type": "function", "function": {"name": "count", "parameters": {"type": "object", "properties": {}}}}]
WITH_TOOLS = Conversation(
    (
        Turn("user", "How many fish?"),
        Turn("assistant", "", more={"tool_calls": [CALL]}),
        Turn("tool", '{"fish": 3}', more={"name": "count"}),
        Turn("assistant", "Three."),
        Turn("user", "Thanks."),
        Turn("assistant", "Welcome."),
    ),
    {"tools": TOOLS},
)
SHAPES_OF_TURNS = {
    **SHAPES,
    # Reasoning is written for the answers after the last question alone, with tools or not.
    "qwen 3": Shape(
        "{% if tools %}<|im_start|>system\n{{ tools | tojson }}<|im_end|>\n{% endif %}"
        "{% set ns = namespace(last=0) %}{% for m in messages %}{% if m.role == 'user' %}"
        "{% set ns.last = loop.index0 %}{% endif %}{% endfor %}"
        "{% for m in messages %}{% if m.role == 'assistant' %}<|im_start|>assistant\n"
        "{% set reasoning = (m.content.split('</think>')[0].split('<think>')[-1] if '</think>' in m.content else '') %}"
        "{% if loop.index0 > ns.last and (loop.last or reasoning) %}<think>\n{{ reasoning.strip() }}\n</think>\n\n"
        "{% endif %}{{ m.content.split('</think>')[-1].lstrip() }}"
        "{% for call in m.tool_calls or [] %}{{ '\n' }}<tool_call>\n{{ call.function | tojson }}\n</tool_call>"
        "{% endfor %}"
        "<|im_end|>\n{% elif m.role == 'tool' %}<|im_start|>user\n<tool_response>\n{{ m.content }}\n</tool_response>"
        "<|im_end|>\n{% else %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
        ("<|im_start|>", "<|im_end|>"),
        "<|im_end|>",
        ("<think>", "</think>", "<tool_call>", "</tool_call>"),
    ),
    "phi 3": Shape(
        "{{ bos_token }}{% for m in messages %}{{ '<|' + m.role + '|>\n' + m.content + '<|end|>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>\n{% else %}{{ eos_token }}{% endif %}",
        ("<bos>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>"),
        "<|end|>",
    ),
    "generation": Shape(
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' %}"
        "{% generation %}{{ m.content + '<|im_end|>' }}{% endgeneration %}\n"
        "{% else %}{{ m.content }}<|im_end|>\n{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
        ("<|im_start|>", "<|im_end|>"),
        "<|im_end|>",
    ),
    "no ends": Shape(
        "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}",
        (),
        "</s>",
    ),
}  # fmt: skip
NAMES = list(itertools.product(SHAPES_OF_TURNS, KINDS))
NO_SYSTEM = {"gemma"}
# What a template writes of an answer besides it, by the number of answers that follow.
FRAMES = {
    "smollm2": ("{}<|im_end|>",),
    "chatml with empty reasoning": ("<think>\n\n</think>\n\n{}<|im_end|>",),
    "gemma": ("{}<end_of_turn>",),
    "llama 3": ("{}<|eot_id|>",),
    "mistral": (" {}</s>",),
    "r1": ("{}</s>",),
    "gpt-oss": ("<|channel|>final<|message|>{}<|return|>", "<|channel|>final<|message|>{}<|end|>"),
    "qwen 3 thinking": ("\n\n</think>\n\n{}<|im_end|>",),
    "phi": ("{}<|end|>",),
    "pairs": ("{}</assistant>",),
    "qwen 3": ("<think>\n\n</think>\n\n{}<|im_end|>", "{}<|im_end|>"),
    "phi 3": ("{}<|end|>",),
    "generation": ("{}<|im_end|>",),
    "no ends": ("{}\n</s>", "{}\n"),
}


def messages_of(conversation: Conversation) -> list[dict[str, object]]:
    return [{"role": turn.role, "content": turn.message, **turn.more} for turn in conversation.turns]


def as_the_library(tokenizer: PreTrainedTokenizerFast, conversation: Conversation, **options):
    template = str(tokenizer.chat_template).replace("strftime_now('%d %b %Y')", "'01 Jan 2026'")
    tools = conversation.extra.get("tools")
    return tokenizer.apply_chat_template(messages_of(conversation), tools=tools, chat_template=template, **options)


def learned(prompt: Prompt, conversation: Conversation) -> list[str]:
    (row,) = prompt.rows([conversation])
    return [prompt.tokenizer.decode(row.ids[start:end]) for start, end in row.spans]


@pytest.mark.parametrize(("name", "kind"), NAMES)
def test_ids_are_the_library_s_and_each_answer_is_learned_with_its_end(name, kind):
    tokenizer = tokenizer_of(SHAPES_OF_TURNS[name], kind)
    conversations = [FOUR, Conversation(FOUR.turns[:3])] + [WITH_SYSTEM] * (name not in NO_SYSTEM)
    expected = [list(as_the_library(tokenizer, row, return_dict=False)) for row in conversations]
    prompt = Prompt(tokenizer, CHAT)
    ends = [prompt.end] if prompt.chat.turn_end is None else []
    for row, conversation, ids in zip(prompt.rows(conversations), conversations, expected, strict=True):
        assert row.ids == ids + ends * (conversation.turns[-1].role == "assistant")
        answers = [number for number, turn in enumerate(conversation.turns) if turn.role == "assistant"]
        frames = [FRAMES[name][-1 if number + 1 < len(conversation.turns) else 0] for number in answers]
        if name == "qwen 3":  # what is before the last question
            frames = [FRAMES[name][conversation.turns[-1].role == "user" or number < 2] for number in answers]
        said = [frame.format(conversation.turns[n].text) for n, frame in zip(answers, frames, strict=True)]
        assert [tokenizer.decode(row.ids[start:end]).strip(" ") for start, end in row.spans] == [
            text.strip(" ") for text in said
        ]


@pytest.mark.parametrize(("name", "kind"), NAMES)
def test_places_that_tokens_tell_are_those_that_beginnings_tell(name, kind, monkeypatch):
    tokenizer = tokenizer_of(SHAPES_OF_TURNS[name], kind)
    rows = [FOUR, Conversation((*FOUR.turns, Turn("user", "  Two  spaces\n\n"), Turn("assistant", "\n\n魚 é 🐟")))]
    told = Prompt(tokenizer, CHAT).rows(rows)
    assert told == [row for conversation in rows for row in Prompt(tokenizer, CHAT).rows([conversation])]
    monkeypatch.setattr(Prompt, "_by_offsets", lambda self, texts: {})
    assert Prompt(tokenizer, CHAT).rows(rows) == told


def random_conversation(rng: random.Random, system: bool = True) -> Conversation:
    words = ["cod", " eel", "\n\n", "  ", "魚", "é", "<think>", "user", "assistant\n", "final", "1 <", "> 2", "."]
    text = lambda: "x" + "".join(rng.choices(words, k=rng.randint(1, 12))) + "y"  # noqa: E731
    turns = [Turn("system", text())] if system and rng.random() < 0.3 else []
    for _ in range(rng.randint(1, 4)):
        turns += [Turn("user", text(), rng.choice(["", text()])), Turn("assistant", text())]
    turns += [Turn("user", text())] if rng.random() < 0.3 else []
    return Conversation(tuple(turns), {"n": 1})


def check_against_the_library(prompt: Prompt, rng: random.Random, marked_by: str | None = None) -> None:
    """Ids as of the library; the mask as of the same template with `{% generation %}` around answers and their end."""
    conversations = [c for c in (random_conversation(rng) for _ in range(40)) if not c.is_exchange]
    tokenizer = copy.copy(prompt.tokenizer)
    for row, conversation in zip(prompt.rows(conversations), conversations, strict=True):
        tokenizer.chat_template = prompt.tokenizer.chat_template
        assert row.ids == list(as_the_library(tokenizer, conversation, return_dict=False))
        if marked_by is not None:
            tokenizer.chat_template = marked_by
            out = as_the_library(tokenizer, conversation, return_dict=True, return_assistant_tokens_mask=True)
            assert out["input_ids"] == row.ids
            mask = [int(any(start <= i < end for start, end in row.spans)) for i in range(len(row.ids))]
            assert mask == out["assistant_masks"]
    if marked_by is not None:
        assert Prompt(tokenizer, CHAT).rows(conversations) == prompt.rows(conversations)


MARKED = "{% generation %}{{ m['content'] }}<|im_end|>{% endgeneration %}"


def marked(template: str) -> str:
    """ChatML with the answers marked as the library wants them."""
    said = "{{ m['content'] }}<|im_end|>"
    assert template.count(said) == 1
    return template.replace(
        said + "\n",
        "{% if m['role'] == 'assistant' %}" + MARKED + "{{ '' }}{% else %}" + said + "{% endif %}{{ '\n' }}",
    )


@pytest.mark.parametrize("kind", KINDS)
def test_random_conversations_have_the_library_s_ids_and_mask(kind):
    tokenizer = tokenizer_of(SHAPES["smollm2"], kind)
    check_against_the_library(Prompt(tokenizer, CHAT), random.Random(0), marked(tokenizer.chat_template))


@pytest.mark.parametrize("name", ["llama 3", "mistral", "r1", "gpt-oss", "phi 3"])
def test_random_conversations_have_the_library_s_ids_in_other_shapes(name):
    check_against_the_library(Prompt(tokenizer_of(SHAPES_OF_TURNS[name]), CHAT), random.Random(1))


@pytest.mark.skipif("DIVERSEEVOL_TEST_MODEL" not in os.environ, reason="DIVERSEEVOL_TEST_MODEL names no checkpoint")
def test_a_real_tokeniser_s_conversations_have_the_library_s_ids_and_mask():
    tokenizer = AutoTokenizer.from_pretrained(Path(os.environ["DIVERSEEVOL_TEST_MODEL"]))
    said = "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
    assert said in tokenizer.chat_template
    header = "{{'<|im_start|>' + message['role'] + '\n'}}"
    answer = "{% generation %}{{message['content'] + '<|im_end|>'}}{% endgeneration %}{{'\n'}}"
    template = tokenizer.chat_template.replace(
        said, "{% if message['role'] == 'assistant' %}" + header + answer + "{% else %}" + said + "{% endif %}"
    )
    check_against_the_library(Prompt(tokenizer, CHAT), random.Random(2), template)


def test_a_row_of_one_exchange_has_the_ids_that_it_always_had_beside_conversations():
    for options in (CHAT, PromptOptions()):
        prompt = Prompt(tokenizer_of(SHAPES["llama 3"]), options)
        rows = [exchange("Name a fish.", "", "Cod."), FOUR, exchange("Say </s>", "x", "</s> it")]
        assert prompt.rows(rows) == [row for one in rows for row in prompt.rows([one])]


def test_conversations_take_the_chat_template_where_exchanges_take_alpaca():
    tokenizer = tokenizer_of(SHAPES["pairs"])
    usual, other = Prompt(tokenizer, PromptOptions()), Prompt(tokenizer_of(SHAPES["pairs"]), CHAT)
    before = usual.rows([exchange("Say </user>", "", "So.")]), usual.identity
    assert usual.rows([FOUR]) == other.rows([FOUR])
    assert usual.conversations_take == other.conversations_take == "the model's chat template"
    assert (usual.rows([exchange("Say </user>", "", "So.")]), usual.identity) == before  # the template changes nothing
    assert usual.stop_tokens == [usual.end]


def test_alpaca_goes_on_after_the_end_of_an_answer(prompt):
    (row,) = prompt.rows([FOUR])
    decoded = prompt.tokenizer.decode(row.ids)
    asked, first = decoded[: decoded.index("Cod, eel")], "Cod, eel and ray.<end>"
    assert asked == prompt.tokenizer.decode(prompt.ids(["Name three fish."], ["In the sea."])[0])
    further = "\n\n### Instruction:\nGo on\n\n### Response:"
    assert decoded == f"{asked}{first}{further}No < more > fish.<end>"
    assert learned(prompt, FOUR) == [first, "No < more > fish.<end>"]
    system = Conversation((Turn("system", "Be {brief}."), *FOUR.turns[2:], Turn("user", "Why?", "it")))
    (row,) = prompt.rows([system])
    assert prompt.tokenizer.decode(row.ids) == (
        "Be {brief}.\n\n### Instruction:\nGo on\n\n### Response:No < more > fish.<end>"
        "\n\n### Instruction:\nWhy?\n\n### Input:\nit\n\n### Response:"
    )
    assert len(row.spans) == 1


def test_an_exchange_with_a_field_of_its_own_has_the_ids_of_one_without(prompt):
    usual, other = exchange("Name a fish.", "cod", "Cod."), Turn("user", "Name a fish.", "cod", {"name": "Ann"})
    assert prompt.rows([Conversation((other, usual.turns[1]))]) == prompt.rows([usual])
    chat = Prompt(tokenizer_of(SHAPES["mistral"]), PromptOptions(template="chat"))
    assert chat.rows([Conversation((other, usual.turns[1]))]) == chat.rows([usual])


def test_the_last_answer_alone_may_be_learned(prompt):
    for tokenizer in (prompt.tokenizer, *(tokenizer_of(SHAPES_OF_TURNS[name]) for name in ("gpt-oss", "generation"))):
        every, last = Prompt(tokenizer, PromptOptions()), Prompt(tokenizer, PromptOptions(learn="last"))
        rows = [FOUR, WITH_SYSTEM, exchange("Name a fish.", "", "Cod.")]
        for full, one in zip(every.rows(rows), last.rows(rows), strict=True):
            assert one == full._replace(spans=full.spans[-1:])
        assert every.identity == last.identity == every.identity_of_rows(0) == last.identity_of_rows(0)
        assert len({every.identity, every.identity_of_rows(1), last.identity_of_rows(2)}) == 3


@pytest.mark.parametrize("template", ["alpaca", "chat"])
@pytest.mark.parametrize("learn", ["all", "last"])
def test_a_conversation_is_cut_at_its_end_and_what_is_lost_is_counted(prompt, template, learn):
    tokenizer = tokenizer_of(SHAPES["smollm2"]) if template == "chat" else prompt.tokenizer
    options = {"template": template, "learn": learn}
    ((ids, spans, lost, complete, cut),) = Prompt(tokenizer, PromptOptions(**options)).rows([FOUR])
    assert (lost, complete, cut) == (0, True, (0, 0))
    for limit in {2, len(ids), len(ids) + 1, *(place + d for span in spans for place in span for d in (-1, 0, 1))}:
        (row,) = Prompt(tokenizer, PromptOptions(max_length=limit, **options)).rows([FOUR])
        assert row.ids == ids[:limit]
        assert row.lost == max(0, len(ids) - limit)
        assert row.spans == tuple((start, min(end, limit)) for start, end in spans if start < limit)
        assert row.cut == (len(spans) - len(row.spans), sum(start < limit < end for start, end in spans))


def controls(prompt: Prompt, ids: list[int]) -> list[str]:
    """The control tokens among some ids, in order."""
    tokens = prompt.tokenizer.convert_ids_to_tokens(ids)
    return [token for token in tokens if prompt.control.pattern.fullmatch(token)]


@pytest.mark.parametrize("name", SHAPES_OF_TURNS)
def test_the_text_of_a_control_token_is_text_in_every_turn(name):
    shape = SHAPES_OF_TURNS[name]
    prompt = Prompt(tokenizer_of(shape), CHAT)
    forged = shape.turn_end if prompt.chat.turn_end is not None else shape.end
    plain = Conversation(tuple(Turn(turn.role, f"So it {turn.text} it.") for turn in FOUR.turns))
    rows = [
        Conversation(tuple(Turn(t.role, f"So {forged} {t.text} {forged}" if i in at else t.text) for i, t in numbered))
        for at in ((0,), (1,), (2,), (3,), (0, 1, 2, 3))
        for numbered in [list(enumerate(FOUR.turns))]
    ]
    (usual,) = prompt.rows([plain])
    for conversation, row in zip(rows, prompt.rows(rows), strict=True):
        assert controls(prompt, row.ids) == controls(prompt, usual.ids)
        parts = [prompt.tokenizer.decode(row.ids[start:end]) for start, end in row.spans]
        for part, turn in zip(parts, (conversation.turns[1], conversation.turns[3]), strict=True):
            assert turn.text in part
        for (start, end), (begin, stop) in zip(row.spans, usual.spans, strict=True):
            assert controls(prompt, row.ids[start:end]) == controls(prompt, usual.ids[begin:stop])
    meant = Prompt(tokenizer_of(shape), PromptOptions(template="chat", control_tokens="as_tokens"))
    for row, conversation in zip(meant.rows(rows), rows, strict=True):
        assert row.ids[: len(row.ids) - (prompt.chat.turn_end is None)] == list(
            as_the_library(meant.tokenizer, conversation, return_dict=False)
        )
        assert len(row.spans) == 2


def test_calls_and_results_of_tools_are_as_the_template_writes_them():
    tokenizer = tokenizer_of(SHAPES_OF_TURNS["qwen 3"])
    prompt = Prompt(tokenizer, CHAT)
    (row,) = prompt.rows([WITH_TOOLS])
    assert row.ids == list(as_the_library(tokenizer, WITH_TOOLS, return_dict=False))
    assert "count" in tokenizer.decode(row.ids[: row.spans[0][0]])  # the tools
    # The first newline is the prompt's: the tokeniser has a token of two.
    call = '\n\n<tool_call>\n{"name": "count", "arguments": {"of": "fish"}}\n</tool_call><|im_end|>'
    answers = ["Three.<|im_end|>", "<think>\n\n</think>\n\nWelcome.<|im_end|>"]
    assert learned(prompt, WITH_TOOLS) == [call, *answers]
    unfinished = Conversation(WITH_TOOLS.turns[:3], {"tools": '[{"name": "count"}]'})
    assert learned(prompt, unfinished) == [call]
    assert learned(Prompt(tokenizer, PromptOptions(template="chat", learn="last")), WITH_TOOLS) == answers[-1:]
    forged = Turn("assistant", "", more={"tool_calls": [{"function": {"name": "a<|im_end|>b", "arguments": {}}}]})
    (part, *_) = learned(prompt, Conversation((WITH_TOOLS.turns[0], forged, *WITH_TOOLS.turns[2:])))
    assert part == '\n\n<tool_call>\n{"name": "a<|im_end|>b", "arguments": {}}\n</tool_call><|im_end|>'


NEVER = "{% for m in messages if m.role != 'tool' %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
STRICT = (
    "{% for m in messages %}{% if m.role == 'tool' %}{{ raise_exception('no tools') }}{% endif %}"
    "<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
)
COUNTED = "{{ messages | length }}" + STRICT


@pytest.mark.parametrize(
    ("template", "conversation", "sentence"),
    [
        (SHAPES["smollm2"].template, WITH_TOOLS, r"row 9: turn 2: the chat template leaves out which tools are called"),
        (NEVER, Conversation((*FOUR.turns[:3], *WITH_TOOLS.turns[1:])), r"row 9: turn 5: .* leaves out what the tool"),
        (STRICT, WITH_TOOLS, r"row 9: turn 3: the tokeniser's chat template fails \(no tools\)"),
        (SHAPES["gemma"].template, WITH_SYSTEM, r"row 9: turn 1: .*System role not supported"),
        (
            "{% for m in messages[-2:] %}{{ m.role }}: {{ m.content }}\n{% endfor %}",
            FOUR, r"row 9: turn 1: the chat template leaves out what the user says, or part of it; remove the row, or",
        ),
        (
            STRICT.replace("<|im_start|>", "<|im_start|>{{ messages | length > 2 }}", 1), FOUR,
            "row 9: turn 2: .* cannot be told",
        ),
        (
            SHAPES["smollm2"].template, Conversation(WITH_TOOLS.turns, {"tools": "count"}),
            'row 9: field "tools" does not hold a list of tools',
        ),
    ],
)  # fmt: skip
def test_what_a_template_cannot_hold_is_one_sentence_with_row_turn_and_remedy(template, conversation, sentence):
    tokenizer = tokenizer_of(SHAPES["smollm2"])
    tokenizer.chat_template = template
    for options in (CHAT, PromptOptions()):
        with pytest.raises(InputError, match=sentence) as caught:
            Prompt(tokenizer, options).rows([exchange("Hi.", "", "Ho."), conversation], start=8)
        assert re.search(r"; (remove|correct|choose)", str(caught.value))
        assert ("prompt.conversations=alpaca" in str(caught.value)) <= (options.template == "alpaca")
        assert "prompt.template=alpaca" not in str(caught.value) or options.template == "chat"


def test_alpaca_refuses_turns_of_tools(prompt):
    for turns, where in (
        (WITH_TOOLS.turns, "turn 2: a call of tools"),
        (FOUR.turns[:1] + WITH_TOOLS.turns[2:], "turn 2: the turn of a tool"),
    ):
        with pytest.raises(InputError, match=f"row 4: {where} has no place in the Alpaca template; remove the row, or"):
            prompt.rows([FOUR, Conversation(turns)], start=3)


THOUGHT = Conversation(
    (
        Turn("user", "Why?"), Turn("assistant", "<think>Because.</think> Well."),
        Turn("user", "And?"), Turn("assistant", "<think>So.</think> And so."),
    )
)  # fmt: skip


def test_reasoning_that_a_template_leaves_out_of_earlier_turns_is_refused_or_not_by_turn():
    tokenizer = tokenizer_of(SHAPES_OF_TURNS["qwen 3"])
    sentence = r"row 3: turn 2: .* leaves part of the response out .*changed_response=keep .*prompt\.learn=last.*or use"
    with pytest.raises(InputError, match=sentence):
        Prompt(tokenizer, CHAT).rows([THOUGHT], start=3)
    keeping = Prompt(tokenizer, PromptOptions(template="chat", changed_response="keep"))
    (row,) = keeping.rows([THOUGHT])
    assert not row.complete
    assert learned(keeping, THOUGHT) == ["Well.<|im_end|>", "<think>\nSo.\n</think>\n\nAnd so.<|im_end|>"]
    assert row.ids == list(as_the_library(tokenizer, THOUGHT, return_dict=False))


def test_a_template_that_leaves_all_reasoning_out_is_refused_at_the_last_turn_too():
    last = Prompt(tokenizer_of(SHAPES["r1"]), PromptOptions(template="chat", learn="last"))
    with pytest.raises(InputError, match=r"row 0: turn 4: .*changed_response=keep to learn what is left, or use"):
        last.rows([THOUGHT])
    apart = Turn("assistant", "And so.", more={"reasoning_content": "So."})
    with pytest.raises(InputError, match=r"row 0: turn 4: .* leaves part of the response out"):
        Prompt(tokenizer_of(SHAPES["smollm2"]), CHAT).rows([Conversation((*FOUR.turns[:3], apart))])


def test_a_system_turn_comes_in_place_of_the_system_message():
    prompt = Prompt(tokenizer_of(SHAPES["smollm2"]), PromptOptions(template="chat", system="Be brief."))
    own, usual = (prompt.tokenizer.decode(row.ids) for row in prompt.rows([WITH_SYSTEM, FOUR]))
    assert own.startswith("<|im_start|>system\nAnswer in few words.<|im_end|>")
    assert "Be brief." not in own
    assert usual.startswith("<|im_start|>system\nBe brief.<|im_end|>")
    with pytest.raises(InputError, match="row 0: turn 2:"):  # the message is no turn of the row
        prompt.rows([WITH_TOOLS])


def test_options_that_contradict_each_other_are_refused():
    with pytest.raises(InputError, match=r"prompt\.conversations is alpaca but prompt\.template is chat"):
        PromptOptions(template="chat", conversations="alpaca")


def test_long_conversations_are_tokenised_in_pieces(monkeypatch):
    prompt = Prompt(tokenizer_of(SHAPES["llama 3"]), CHAT)
    words = "The cod met a cow, 12 times; it said: no! " * 40
    conversation = Conversation(tuple(Turn(turn.role, turn.text + words) for turn in FOUR.turns))
    (whole,) = prompt.rows([conversation])
    monkeypatch.setattr(prompt_module, "BATCH_CHARACTERS", 1000)
    (pieced,) = prompt.rows([conversation])
    assert abs(len(pieced.ids) - len(whole.ids)) <= 8  # where pieces meet
    assert [prompt.tokenizer.decode(pieced.ids[a:b]) for a, b in pieced.spans] == learned(prompt, conversation)
