"""Rows of one exchange and conversations in one data set: the complete evolution, and what it learns of them."""

import dataclasses
import functools
import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from diverseevol.data.dataset import Dataset, load
from diverseevol.data.prompt import Prompt
from diverseevol.data.tokens import encode
from diverseevol.engine.learner import Learner
from diverseevol.engine.pretrained import Pretrained
from diverseevol.engine.tuning.batches import IGNORED, collate, pack
from diverseevol.evolution.loop import evolve
from diverseevol.options import PromptOptions, Schedule

CHAT = (
    "{% for m in messages %}{{ m.role }}: {{ m.content }}<end>\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)


@pytest.fixture(scope="module")
def mixed(dataset: Dataset, cache: Path) -> Dataset:
    """The rows of the tests, every third of them the last exchange of a conversation, some with a system turn."""
    lines = []
    for number, row in enumerate(dataset.take(range(len(dataset)))):
        turns = [("user", row.turns[0].message), ("assistant", row.response)]
        if number % 3 == 0:
            turns = [("user", f"Hello {number}."), ("assistant", "Good day!"), *turns]
        if number % 6 == 0:
            turns = [("system", "You know animals."), *turns, ("user", "Thanks.")]
        lines.append(json.dumps({"messages": [{"role": role, "content": text} for role, text in turns]}))
    file = cache / "mixed.jsonl"
    file.write_text("\n".join(lines))
    return load(file, cache=cache)


@pytest.fixture(scope="module")
def talker(learner: Learner, mixed: Dataset, cache: Path) -> Learner:
    """A learner whose model has a chat template."""
    folder = cache / "talker"
    learner.foundation.load().save_pretrained(folder)
    tokenizer = learner.foundation.tokenizer()
    tokenizer.chat_template = CHAT
    tokenizer.save_pretrained(folder)
    foundation = Pretrained(str(folder))
    prompt = Prompt(foundation.tokenizer(), PromptOptions())
    return dataclasses.replace(learner, foundation=foundation, prompt=prompt, encoded=encode(mixed, prompt, cache))


def test_the_rows_of_a_mixed_file_are_learned_by_their_answers(mixed, talker):
    assert mixed.conversations == 20
    assert talker.encoded.conversations_take == "the model's chat template"
    counts = [1 + (row % 3 == 0) for row in range(len(mixed))]
    assert np.diff(talker.encoded.span_offsets).tolist() == counts
    decode = talker.prompt.tokenizer.decode
    for row in (0, 3, 6):
        answers = [turn.text for turn in mixed[row].turns if turn.role == "assistant"]
        ids = talker.encoded.row(row)
        spans = talker.encoded.spans_of(row)  # a first token may hold the space before an answer
        assert [decode(ids[start:end]).lstrip() for start, end in spans] == [f"{answer}<end>" for answer in answers]


def test_rows_of_one_exchange_are_those_of_a_file_without_conversations(mixed, talker, prompt, cache):
    rows = [row for row in range(len(mixed)) if row % 3]
    alone = prompt.rows(mixed.take(rows))
    for row, expected in zip(rows, alone, strict=True):
        assert talker.encoded.row(row).tolist() == expected.ids
        assert talker.encoded.spans_of(row).tolist() == list(map(list, expected.spans))


def test_packed_rows_learn_what_padded_ones_learn(talker):
    rows = list(range(12))
    padded, packed = collate(talker.encoded, rows, 0)["labels"], pack(talker.encoded, rows)["labels"][0]
    lengths = talker.encoded.lengths[rows].tolist()
    parts = [labels[:length] for labels, length in zip(padded, lengths, strict=True)]
    np.testing.assert_array_equal(np.concatenate(parts), packed)
    assert int((packed != IGNORED).sum()) == talker.encoded.response_tokens[rows].sum()


def test_a_mixed_file_evolves_and_a_run_that_goes_on_is_the_run_that_was_not_interrupted(
    evolution, mixed, talker, cache, tmp_path
):
    def run(folder, rounds):
        space = functools.cache(lambda: talker.foundation_embedding(cache / "foundation-of-talker"))
        parts = {"dataset": mixed, "learner": talker, "space": space, "keep_models": "all"}
        evolve(evolution(tmp_path / folder, schedule=Schedule(rounds, 6, 4), **parts))

    run("complete", 1)
    run("goes_on", 0)
    run("goes_on", 1)
    complete, goes_on = (tmp_path / folder for folder in ("complete", "goes_on"))
    assert (complete / "selected.jsonl").read_bytes() == (goes_on / "selected.jsonl").read_bytes()
    assert (complete / "rounds/00/chosen.jsonl").read_bytes() == (goes_on / "rounds/00/chosen.jsonl").read_bytes()
    weights = [load_file(folder / "rounds/01/model/model.safetensors") for folder in (complete, goes_on)]
    for name, tensor in weights[0].items():
        np.testing.assert_array_equal(tensor, weights[1][name])
