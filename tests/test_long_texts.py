"""Rows as long as books, and words as long as rows: tokenised in limited memory and time, to the same ids."""

import copy
import itertools
import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import pyarrow.parquet
import pytest
from forks import wait_until
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from diverseevol.data import dataset as source_module
from diverseevol.data import ingest
from diverseevol.data import prompt as prompt_module
from diverseevol.data.conversation import exchange
from diverseevol.data.dataset import Dataset, in_batches, load
from diverseevol.data.prompt import Prompt
from diverseevol.data.tokens import encode
from diverseevol.engine import pretrained as foundation_module
from diverseevol.engine.pretrained import TinyLlama
from diverseevol.errors import InputError
from diverseevol.options import PromptOptions
from diverseevol.parallel.background import interruptible, left_at_work

SOON = 10  # seconds, on a machine with other work; a signal that nobody hears waits for most of a minute
WORDS = "The cod met a cow, 12 times; it said: no! "


def rows_of(cache: Path, *texts: str) -> Dataset:
    file = cache / "x.jsonl"
    file.write_text("".join(json.dumps({"instruction": "Go on.", "output": text}) + "\n" for text in texts))
    return load(file, cache=cache)


def test_batches_are_of_consecutive_items_and_no_larger_than_asked():
    assert list(in_batches(["aa", "b", "cccc", "", "d"], 3)) == [["aa", "b"], ["cccc"], ["", "d"]]
    assert list(in_batches(range(4), 5, [5, 0, 1, 9])) == [range(0, 2), range(2, 3), range(3, 4)]
    assert list(in_batches([], 5)) == []


def test_rows_come_in_batches_of_few_where_they_are_long(tmp_path, monkeypatch):
    dataset = rows_of(tmp_path, "a" * 50, "b" * 5000, *"cdef", "g" * 900, "h" * 200)
    monkeypatch.setattr(source_module, "BATCH_CHARACTERS", 1000)
    batches = [[example.response[0] for example in batch] for batch in dataset.iterate()]
    assert batches == [["a"], ["b"], [*"cdefg"], ["h"]]
    two = [[example.response[0] for example in batch] for batch in dataset.iterate(2)]
    assert two == [["a"], ["b"], [*"cd"], [*"ef"], ["g"], ["h"]]


@pytest.fixture
def asked(prompt: Prompt, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The characters of each call of the tokeniser."""
    sizes: list[int] = []
    kind = type(prompt.tokenizer)
    call = kind.__call__

    def counted(self, texts, **options):
        sizes.append(sum(map(len, texts)))
        return call(self, texts, **options)

    monkeypatch.setattr(kind, "__call__", counted)
    return sizes


def test_the_tokeniser_is_given_no_more_than_fits_at_a_time(prompt, asked, tmp_path, monkeypatch):
    monkeypatch.setattr(prompt_module, "BATCH_CHARACTERS", 20_000)
    dataset = rows_of(tmp_path, *(WORDS * 100 for _ in range(30)), WORDS * 1000)
    encoded = encode(dataset, Prompt(prompt.tokenizer, PromptOptions(max_length=100)), tmp_path)
    assert encoded.lengths.tolist() == [100] * 31
    assert max(asked) <= 20_000


def test_a_row_that_no_model_reads_is_refused_or_left_out(tmp_path, monkeypatch):
    monkeypatch.setattr(ingest, "LONGEST_ROW", 1000)
    with pytest.raises(InputError, match=r"x\.jsonl, line 2: holds 1,\d\d\d characters, and a row may hold 1,000"):
        rows_of(tmp_path, "a", "b" * 1000)
    assert len(rows_of(tmp_path, "a" * 900)) == 1
    rows_of_table = pyarrow.table({"instruction": ["a", "b"], "output": ["c", "d" * 2000]})
    pyarrow.parquet.write_table(rows_of_table, tmp_path / "x.parquet")
    dataset = load(tmp_path / "x.parquet", on_bad_rows="skip", cache=tmp_path)
    assert (len(dataset), dataset.bad_rows) == (1, 1)


@pytest.mark.parametrize("text", [WORDS * 2500, "x" + "ab" * 60_000, "鱼 " * 50_000, "a\n" * 50_000])
def test_a_text_in_pieces_begins_with_the_ids_that_it_has_as_one(text, prompt, monkeypatch):
    example = exchange(text, "", text)
    wide = Prompt(prompt.tokenizer, PromptOptions(max_length=10_000))
    (whole,) = wide.rows([example])
    monkeypatch.setattr(prompt_module, "BATCH_CHARACTERS", 90_000)
    (pieced,) = wide.rows([example])
    assert (pieced.ids, pieced.spans) == (whole.ids, whole.spans)
    assert abs(pieced.lost - whole.lost) <= 4  # where pieces meet


@pytest.mark.parametrize("template", ["<unk> $A", "<unk> $A <end>"])
def test_the_control_tokens_around_a_text_in_pieces_are_those_around_a_text(template, prompt, monkeypatch):
    backend = copy.deepcopy(prompt.tokenizer.backend_tokenizer)
    backend.post_processor = TemplateProcessing(single=template, special_tokens=[("<unk>", 0), ("<end>", 1)])
    framed = Prompt(
        PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<unk>", eos_token="<end>"), PromptOptions()
    )
    whole = framed._tokenise([WORDS * 100], special=True)
    monkeypatch.setattr(prompt_module, "BATCH_CHARACTERS", 1000)
    assert framed._tokenise([WORDS * 100], special=True) == whole


def test_pieces_make_up_the_text_and_none_is_too_long():
    for text in ("", "abc", "a b c d e f", "abcdefghij" * 3, "ab \n" * 7):
        parts = list(prompt_module.pieces(text, 5))
        assert "".join(parts) == text
        assert max(map(len, parts)) <= 5


@pytest.mark.parametrize("word", ["a", "ab", " ", "\n", "7", "=", "鱼"])
def test_a_tokeniser_is_soon_trained_on_a_word_without_an_end(word, tmp_path):
    dataset = rows_of(tmp_path, "x" + word * 300_000 + "x", WORDS)
    began = time.monotonic()
    tokenizer = TinyLlama(hidden=8, heads=2, vocabulary=400).prepare(dataset, tmp_path).tokenizer()
    assert time.monotonic() - began < 60  # many minutes, where the word is one
    assert tokenizer.decode(tokenizer(WORDS)["input_ids"]) == WORDS


def test_texts_without_long_words_train_a_tokeniser_as_they_are():
    assert list(foundation_module._pieces(WORDS * 100)) == [WORDS * 100]
    pieces = list(foundation_module._pieces("a" * 2500 + " b"))
    assert [len(piece) for piece in pieces] == [1000, 1000, 502]
    assert "".join(pieces) == "a" * 2500 + " b"


def test_a_tokeniser_is_trained_on_no_more_than_says_something(dataset, monkeypatch):
    everything = list(foundation_module._texts(dataset))
    assert len(everything) == 2 * len(dataset)
    monkeypatch.setattr(foundation_module, "TOKENISER_CHARACTERS", 1000)
    assert "".join(foundation_module._texts(dataset)) == "".join(everything)[:1000]
    monkeypatch.setattr(foundation_module, "TOKENISER_ROWS", 20)
    assert list(foundation_module._texts(dataset))[2:4] == everything[6:8]


class Stopped(BaseException):
    pass


@pytest.fixture
def alarm() -> Iterator[None]:
    def stop(number: int, frame: FrameType | None) -> None:
        raise Stopped

    before = signal.signal(signal.SIGALRM, stop)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def test_deaf_work_is_left_when_a_signal_comes_and_is_told(alarm):
    told = []
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    began = time.monotonic()
    with pytest.raises(Stopped):
        interruptible(lambda stopped: told.append(stopped.wait(60)))
    assert told == [True]
    while left_at_work():
        time.sleep(0.01)
    assert time.monotonic() - began < 30  # of the minute that it works


def test_the_result_of_deaf_work_and_its_error_are_its_own():
    assert interruptible(lambda stopped: 3) == 3
    with pytest.raises(KeyError, match="x"):
        interruptible(lambda stopped: {}["x"])


def in_child(work) -> int:
    """Work in a child of this process, as the command line would be interrupted; its number."""
    child = os.fork()
    if child:
        return child
    code = 70
    try:

        def stop(number: int, frame: FrameType | None) -> None:
            raise Stopped

        signal.signal(signal.SIGTERM, stop)
        work()
        code = 0
    except Stopped:
        code = 130
    finally:
        os._exit(code)


@pytest.mark.slow
@pytest.mark.parametrize("phase", ["train", "tokenise"])
def test_a_signal_is_heard_within_seconds_while_texts_are_worked_on(phase, prompt, tmp_path):
    letters = random.Random(0).choices("abcdefghijklmnop", k=8_000_000)
    word = "".join(letters)
    dataset = rows_of(tmp_path, *(word[i : i + 2_000_000] for i in range(0, len(word), 2_000_000)))
    ready = tmp_path / "ready"

    def work() -> None:  # again and again: a fast machine must not be done before the signal comes
        for attempt in itertools.count():
            cache = tmp_path / f"cache{attempt}"
            ready.touch()
            if phase == "train":
                TinyLlama(hidden=8, heads=2).prepare(dataset, cache)
            else:
                encode(dataset, Prompt(prompt.tokenizer, PromptOptions(max_length=4_000_000)), cache)

    child = in_child(work)
    wait_until(ready.exists, child)
    time.sleep(3)
    os.kill(child, signal.SIGTERM)
    began = time.monotonic()
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 130
    assert time.monotonic() - began < SOON


@pytest.mark.slow
def test_the_command_ends_within_seconds_of_a_signal_while_its_tokeniser_is_trained(tmp_path):
    letters = "".join(random.Random(0).choices("abcdefghijklmnop", k=8_000_000))
    rows_of(tmp_path, *(letters[i : i + 200_000] for i in range(0, len(letters), 200_000)))
    options = [
        "data=json",
        f"data.path={tmp_path}/x.jsonl",
        "model=tiny",
        f"cache={tmp_path}/c",
        f"folder={tmp_path}/f",
    ]
    command = [sys.executable, "-m", "diverseevol", "evolve", *options]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        while not list((tmp_path / "c").glob("models/*partial")):
            assert process.poll() is None
            time.sleep(0.05)
        time.sleep(1)
        assert process.poll() is None, "the tokeniser was trained before the signal: make the text longer"
        process.terminate()
        began = time.monotonic()
        _, said = process.communicate(timeout=600)
    assert time.monotonic() - began < SOON
    assert process.returncode == 130
    assert "interrupted; everything so far is kept" in said
    assert not list((tmp_path / "c").glob("models/*partial"))


@pytest.mark.slow
def test_books_are_tokenised_in_memory_that_has_a_limit(prompt, tmp_path):
    dataset = rows_of(tmp_path, *(WORDS * 12_000 for _ in range(8)))  # of half a million characters each

    warm = rows_of(tmp_path, WORDS)

    def work() -> None:
        encode(warm, Prompt(prompt.tokenizer, PromptOptions(max_length=511)), tmp_path)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        encode(dataset, Prompt(prompt.tokenizer, PromptOptions(max_length=511)), tmp_path)
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        print(f"{grown} KiB", file=sys.stderr)
        assert grown < 200_000  # it was 460,000

    _, status = os.waitpid(in_child(work), 0)
    assert os.waitstatus_to_exitcode(status) == 0
