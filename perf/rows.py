"""Loading and tokenising: rows of one exchange and conversations of four turns, beside `datasets` and TRL's way.

TRL is not installed here. Its way is written down: a row at a time through `Dataset.map`, an exchange as prompt and
completion (the prompt rendered and tokenised apart, to know where the completion begins), a conversation with the mask
of a template that marks answers by `{% generation %}`. Ours takes the template as it is, and checks each row. Both
write what they make to disk, and say the same ids. Ours tokenises on all cores. Memory is the first process's, and
only the usual clock is fair: ours has templates run in children.
"""

import json
import os
import random
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from diverseevol.data.dataset import load
from diverseevol.data.prompt import Prompt
from diverseevol.data.tokens import encode
from diverseevol.options import PromptOptions
from perf.turns import Report, in_turns

SIZES = {"smoke": (300, 60), "small": (10_000, 2_000), "full": (1_000_000, 200_000)}  # exchanges, conversations
TURNS = 1  # after one that warms up
LIMIT, CORES = 512, os.cpu_count() or 1
CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}{% if m.role == 'assistant' %}OPEN"
    "{{ m.content + '<|im_end|>' }}CLOSE{{ '\n' }}{% else %}{{ m.content + '<|im_end|>\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
PLAIN = CHATML.replace("OPEN", "").replace("CLOSE", "")
MARKED = CHATML.replace("OPEN", "{% generation %}").replace("CLOSE", "{% endgeneration %}")


def run(size: str, report: Report) -> None:
    """Time both ways over files of rows."""
    exchanges, conversations = SIZES[size]
    datasets.disable_progress_bars()
    with tempfile.TemporaryDirectory() as folder:
        tokenizer = _tokenizer()
        for name, rows, exchange_rows in (
            (f"{exchanges:,} rows of one exchange", exchanges, True),
            (f"{conversations:,} conversations of four turns", conversations, False),
        ):
            file = Path(folder) / f"{rows}.jsonl"
            file.write_text("".join(_lines(rows, exchange_rows)))
            _compare(name, rows, file, tokenizer, report)


def _compare(name: str, rows: int, file: Path, tokenizer: PreTrainedTokenizerBase, report: Report) -> None:
    fresh = (file.parent / f"{file.stem}-{number}" for number in count())
    loaded = load(file, cache=next(fresh))
    table = _read(file, next(fresh))
    loading: dict[str, Callable[[], Any]] = {
        "ours, checked row by row": lambda: len(load(file, cache=next(fresh))),
        "datasets": lambda: len(_read(file, next(fresh))),
    }
    tokenizer.chat_template = PLAIN
    prompt = Prompt(tokenizer, PromptOptions(template="chat", max_length=LIMIT))
    tokenising: dict[str, Callable[[], Any]] = {
        "ours": lambda: _counted(encode(loaded, prompt, next(fresh))),
        "datasets and TRL's way": lambda: _mapped(table, tokenizer, next(fresh)),
        f"the same in {CORES} processes": lambda: _mapped(table, tokenizer, next(fresh), CORES),
    }
    for title, candidates in ((f"load {name}", loading), (f"tokenise {name}", tokenising)):
        taken = in_turns(candidates, TURNS)
        ours, plain, *_ = taken.values()
        if ours.result != plain.result:
            report.note(f"{title}: ours {ours.result}, theirs {plain.result}")
        report.table(
            title,
            [
                {
                    "way": way, "seconds": one.typical, "rows / s": rows / one.typical, "of ours": one.ratio(ours),
                    "extra MB": one.extra_mb,
                }
                for way, one in taken.items()
            ],
        )  # fmt: skip


def _lines(rows: int, exchange: bool) -> Iterator[str]:
    """Rows about as long as Dolly's: 20 words asked, 60 answered."""
    rng = random.Random(0)
    words = ["".join(rng.choices("etaoinshrdlucmfw", k=rng.randint(2, 9))) for _ in range(5000)]

    def text(mean: int) -> str:
        return " ".join(rng.choices(words, k=1 + int(rng.expovariate(1 / mean))))

    for number in range(rows):
        roles = ("user", "assistant") if exchange else ("user", "assistant") * 2
        messages = [{"role": role, "content": text(20 if role == "user" else 60)} for role in roles]
        yield json.dumps({"messages": messages, "id": number}) + "\n"


def _tokenizer() -> PreTrainedTokenizerBase:
    """The checkpoint's of DIVERSEEVOL_TEST_MODEL, or a byte-level one of the same kind."""
    if path := os.environ.get("DIVERSEEVOL_TEST_MODEL"):
        return AutoTokenizer.from_pretrained(path)
    learned = Tokenizer(models.BPE())
    learned.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    learned.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=8000, initial_alphabet=alphabet, show_progress=False)
    learned.train_from_iterator(_lines(2000, True), trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=learned)
    tokenizer.add_special_tokens({"eos_token": "<|im_end|>", "additional_special_tokens": ["<|im_start|>"]})
    return tokenizer


def _read(file: Path, cache: Path) -> datasets.Dataset:
    return datasets.load_dataset("json", data_files=str(file), split="train", cache_dir=str(cache))


def _mapped(
    table: datasets.Dataset, tokenizer: PreTrainedTokenizerBase, cache: Path, processes: int | None = None
) -> tuple[int, int]:
    """TRL's way; tokens and learned tokens."""
    cache.mkdir()
    work = _exchange if len(table[0]["messages"]) == 2 else _conversation
    done = table.map(
        partial(work, tokenizer=tokenizer),
        num_proc=processes,
        remove_columns=table.column_names,
        cache_file_name=str(cache / "mapped.arrow"),
    )
    masks = done.with_format("numpy")
    return sum(map(len, masks["mask"])), int(sum(int(np.sum(mask)) for mask in masks["mask"]))


def _exchange(example: dict[str, Any], tokenizer: PreTrainedTokenizerBase) -> dict[str, list[int]]:
    messages = example["messages"]
    prompt = tokenizer.apply_chat_template(
        messages[:-1], add_generation_prompt=True, chat_template=PLAIN, return_dict=False
    )
    ids = tokenizer.apply_chat_template(messages, chat_template=PLAIN, return_dict=False)
    mask = [0] * len(prompt) + [1] * (len(ids) - len(prompt))
    return {"ids": ids[:LIMIT], "mask": mask[:LIMIT]}


def _conversation(example: dict[str, Any], tokenizer: PreTrainedTokenizerBase) -> dict[str, list[int]]:
    out = tokenizer.apply_chat_template(
        example["messages"], chat_template=MARKED, return_dict=True, return_assistant_tokens_mask=True
    )
    return {"ids": out["input_ids"][:LIMIT], "mask": out["assistant_masks"][:LIMIT]}


def _counted(encoded: Any) -> tuple[int, int]:
    return len(encoded.ids), int(encoded.response_tokens.sum())
