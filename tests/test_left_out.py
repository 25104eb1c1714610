import dataclasses
import json

import numpy as np

from diverseevol.cli.left_out_rows import left_out, why_ineligible
from diverseevol.data.dataset import load
from diverseevol.data.prompt import Prompt
from diverseevol.data.tokens import encode
from diverseevol.options import PromptOptions


def test_what_is_left_out_cut_or_unused_is_counted_apart_and_with_its_reason(prompt, tmp_path):
    rows = [{"instruction": f"Name {i}.", "input": "", "output": "cod " * i} for i in range(1, 9)]
    rows += [{"instruction": "Blank?", "input": "", "output": " "}] * 2
    rows += [{"instruction": "Why? " * 200, "input": "", "output": "So."}, {**rows[0], "context": "c"}]
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    dataset = load(file, cache=tmp_path, on_bad_rows="skip")
    whole = Prompt(prompt.tokenizer, PromptOptions()).rows(dataset.take(range(len(dataset))))
    lengths = sorted(len(row.ids) for row in whole)
    limit = lengths[-4]  # the longest prompt, and two responses, are beyond it
    options = PromptOptions(max_length=limit)
    encoded = encode(dataset, Prompt(prompt.tokenizer, options), tmp_path)
    assert list(left_out(dataset, encoded, options)) == [
        '2 rows left out: field "output" is blank',
        f"1 row ineligible: prompt.max_length={limit} leaves no token of the response",
        f"2 rows shortened: prompt.max_length={limit} cuts the end of the response, "
        f"{lengths[-3] + lengths[-2] - 2 * limit} tokens in all",
        "1 row with a field 'context' that nothing uses (data.fields.input=context takes it as the input)",
    ]
    assert why_ineligible(dataset, encoded, options) == f"1 row has no response token within prompt.max_length={limit}"
    without = int(np.flatnonzero(np.asarray(encoded.response_tokens) == 0)[0])
    held = dataclasses.replace(dataset, held_out=np.array([0, without]))  # a row that is held out is counted as that
    assert why_ineligible(held, encoded, options) == "2 rows have been held out by data.held_out"
    assert not any("ineligible" in sentence for sentence in left_out(held, encoded, options))


def test_what_is_cut_of_conversations_is_counted_by_responses(prompt, tmp_path):
    turns = [{"role": role, "content": f"cod {i}"} for i, role in enumerate(["user", "assistant"] * 3)]
    rows = [{"messages": turns[:count]} for count in (2, 4, 6)]
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    dataset = load(file, cache=tmp_path)
    conversations = dataset.take(range(3))
    assert dataset.conversations == 2
    ((_, spans, *_),) = Prompt(prompt.tokenizer, PromptOptions()).rows(conversations[2:])
    for limit, losses in ((spans[1][1], "1 completely, 0 in part"), (spans[1][1] - 1, "1 completely, 2 in part")):
        options = PromptOptions(max_length=limit)
        encoded = encode(dataset, Prompt(prompt.tokenizer, options), tmp_path)
        tokens = sum(len(row.ids) for row in Prompt(prompt.tokenizer, PromptOptions()).rows(conversations)) - sum(
            encoded.lengths
        )
        assert list(left_out(dataset, encoded, options)) == [
            "2 rows are conversations: they take the Alpaca template",
            f"{1 + (limit < spans[1][1])} row{'s' if limit < spans[1][1] else ''} shortened: "
            f"prompt.max_length={limit} cuts off {tokens} tokens: of responses {losses}",
        ]
    first = encode(dataset, Prompt(prompt.tokenizer, PromptOptions(learn="last")), tmp_path)
    every = encode(dataset, Prompt(prompt.tokenizer, PromptOptions()), tmp_path)
    assert np.diff(every.span_offsets).tolist() == [1, 2, 3]
    assert np.diff(first.span_offsets).tolist() == [1, 1, 1]
