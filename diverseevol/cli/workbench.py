"""The workbench of `evolve`, `select` and `answer`: data → prompt → tokens → learner, built in one place."""

import functools
import logging
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import transformers
from jaxtyping import Float

from diverseevol.cli.configuration import Configuration
from diverseevol.cli.fingerprint import space_key
from diverseevol.cli.mistakes import verdict
from diverseevol.cli.rows import load_dataset
from diverseevol.data.contamination import find_overlaps
from diverseevol.data.dataset import Dataset
from diverseevol.data.duplicates import MANY_ROWS, find_duplicates
from diverseevol.data.prompt import Prompt
from diverseevol.data.tags import Tags
from diverseevol.data.text_space import text_embedding
from diverseevol.data.tokens import Tokens, encode
from diverseevol.engine.answering.answerer import Answerer
from diverseevol.engine.launch import join
from diverseevol.engine.learner import Learner
from diverseevol.engine.pretrained import Pretrained
from diverseevol.engine.probing.prober import Prober
from diverseevol.engine.trainers import start
from diverseevol.evaluation.questions.benchmarks import Benchmark
from diverseevol.options import Embedding, PromptOptions, Tuning
from diverseevol.output.console import Console, log_to
from diverseevol.output.terminal import LONGEST, say, say_error
from diverseevol.parallel.processes import Processes, leave
from diverseevol.parallel.watch import INTERRUPTED, watched
from diverseevol.progress import Progress, Shown, Silent
from diverseevol.storage.cache import cache_folder, checked_in_full


class Workbench:
    """What a command builds from its configuration, each part when it is asked for.

    Attributes:
        settings: the configuration.
        processes: this process and its peers.
        console: where the first process speaks.
        progress: shows how far a phase has come.
        cache: the project's cache folder.
        trainer: makes a Lightning trainer; what Lightning refuses is refused here, before any work.
    """

    def __init__(self, settings: Configuration, processes: Processes, console: Console) -> None:
        self.settings = settings
        self.processes = processes
        self.console = console
        self.progress: Progress = Shown(console) if processes.first else Silent()
        self.cache = cache_folder(settings.value("cache", str | None))
        self.trainer = settings.part("trainer")
        start(self.trainer, processes, fits=True)

    def dataset(self, bad_rows: Path) -> Dataset:
        """The rows D, checked; those that are bad are listed in a file."""
        return self.processes.in_turn(lambda: load_dataset(self.settings, self.cache, bad_rows, self.progress))

    def tags(self, dataset: Dataset, benchmarks: Sequence[Benchmark]) -> Tags:
        """What is known of the rows beside what they say.

        Args:
            dataset: the rows.
            benchmarks: whose questions are looked for among them.
        """
        questions = {
            each.name: [(question.id, f"{question.instruction}\n\n{question.input}") for question in each.questions]
            for each in benchmarks
        }

        decides = len(dataset.held_out) or self.settings.value("data", dict).get("deduplicate")
        near = len(dataset) <= MANY_ROWS or bool(decides)  # then they are known already
        if not near:
            self.console.print(
                f"only equal rows are looked for among more than {MANY_ROWS:,}; data.deduplicate=first looks for "
                f"nearly equal ones, too"
            )

        def compare() -> Tags:
            with self.progress.track("look for duplicates", len(dataset)) as advance:
                duplicates = find_duplicates(dataset, self.cache, advance, near=near)
            if not any(questions.values()) and not len(dataset.held_out):
                return Tags(duplicates)
            with self.progress.track("look for questions", len(dataset)) as advance:
                return Tags(duplicates, find_overlaps(dataset, questions, self.cache, advance))

        return self.processes.in_turn(compare)

    def answerer(self, model: Pretrained) -> Answerer:
        """What puts questions to a model, in the words of its tokeniser."""
        prompt = Prompt(model.tokenizer(), self.settings.options("prompt", PromptOptions))
        return Answerer(prompt=prompt, trainer=self.trainer, processes=self.processes, progress=self.progress)

    def prober(self, dataset: Dataset) -> Prober:
        """What asks models about the rows, with the foundation model and the rows as tokens."""
        embedding = self.settings.options("embedding", Embedding)
        foundation = self.processes.in_turn(lambda: self.settings.part("model").prepare(dataset, self.cache))
        answerer = self.answerer(foundation)

        def tokenise() -> Tokens:
            with self.progress.track("tokenise", len(dataset)) as advance:
                return encode(dataset, answerer.prompt, self.cache, advance)

        encoded = self.processes.in_turn(tokenise)
        return Prober(**vars(answerer), foundation=foundation, encoded=encoded, embedding=embedding)

    def learner(self, dataset: Dataset, tuning: Tuning) -> Learner:
        """All that an evolution does with models."""
        return Learner(**vars(self.prober(dataset)), tuning=tuning)

    def foundation_embedding(self, prober: Prober, identity: Mapping[str, Any]) -> Float[np.ndarray, "rows dim"]:
        """The foundation model's embedding of all rows, from the cache once it is there.

        Args:
            prober: computes it, in all processes together.
            identity: what it depends on, as `fingerprint` or `space_identity` say.
        """
        return prober.foundation_embedding(self.cache / "foundation" / space_key(identity))

    def text_embedding(self, dataset: Dataset, embedding: Embedding) -> Float[np.ndarray, "rows dim"]:
        """All rows as vectors by their words, from the cache once they are there; one process computes them."""

        def embed() -> Float[np.ndarray, "rows dim"]:
            with self.progress.track("compare words", len(dataset)) as advance:
                return text_embedding(dataset, embedding.region, embedding.dtype, self.cache, advance)

        return self.processes.in_turn(embed)


@contextmanager
def workbench(settings: Configuration, verify_cache: bool) -> Iterator[Workbench]:
    """A workbench of this process and its peers, which part at the end.

    Args:
        settings: the command's configuration.
        verify_cache: whether what is used of the cache is read to the last byte.
    """
    processes = join()
    try:
        console = Console(stderr=True, quiet=not processes.first)
        quieten(console)
        explain = functools.partial(_explained, verb=settings.verb)
        with checked_in_full(verify_cache), watched(processes, explain, _say):
            yield Workbench(settings, processes, console)
    finally:
        leave(processes)


def _explained(error: BaseException, verb: str) -> tuple[int, str]:
    """The exit code and the reason for which several processes end that do not all fail."""
    if not isinstance(error, Exception):
        return INTERRUPTED, "interrupted; everything so far is kept: the same command goes on from here"
    code, sentence = verdict(error, verb)
    if code != 2 and os.environ.get("DIVERSEEVOL_TRACEBACK") == "1":
        say_error(error)
    return code, sentence if code == 2 else f"{sentence} (DIVERSEEVOL_TRACEBACK=1 shows where)"


def _say(reason: str) -> None:
    say(f"diverseevol: {reason}", error=True, longest=LONGEST)


def quieten(console: Console) -> None:
    """Leave the console to the project: libraries speak only when something is wrong."""
    log_to(console)
    for name in ("lightning.pytorch", "lightning.pytorch.utilities.rank_zero", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
        logging.getLogger(name).propagate = False
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    warnings.filterwarnings("ignore", module="lightning")
    warnings.filterwarnings("ignore", message=".*LeafSpec.*")
    warnings.filterwarnings("ignore", message=".*csr_matrix.*", category=DeprecationWarning)
    # Set by hand, it keeps tokenisers from warning of processes that are forked later: wandb starts one, and none
    # of them tokenises.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
