"""Peak memory, each candidate in a process of its own: what one frees, another would not be seen to need."""

import multiprocessing
import resource
import sys
from concurrent.futures import ProcessPoolExecutor

import torch

from perf.real_model import answers, embedding, fit
from perf.real_model.subject import Candidate, Subject, quiet
from perf.turns import PrivateMemory, Report

# rows of one optimizer step, the longest; rows embedded, the longest; prompts, and new tokens of each
SIZES = {"smoke": (2, 2, 2, 2), "small": (4, 4, 10, 8), "full": (16, 16, 40, 64)}


def run(subject: Subject, size: str, report: Report) -> None:
    """The most memory of each candidate's process, and what the work added to what was there before."""
    context = multiprocessing.get_context("forkserver")  # libraries are imported once, and nothing computed in there
    context.set_forkserver_preload([__name__])
    table = []
    for part in ("fit", "embedding", "answers"):
        for name in _candidates(subject, size, part):
            with ProcessPoolExecutor(1, mp_context=context) as alone:
                peak, extra = alone.submit(_peak, subject, size, part, name, torch.get_num_threads()).result()
            table.append({"part": part, "": name, "peak MB": peak, "of it for the work": extra})
    fitted, embedded, asked, new = SIZES[size]
    report.table(
        f"peak memory: one optimizer step on the {fitted} longest rows (its model loaded on the way), embedding the "
        f"{embedded} longest, answering {asked} prompts with {new} tokens",
        table,
    )


def _candidates(subject: Subject, size: str, part: str) -> dict[str, Candidate]:
    fitted, embedded, asked, new = SIZES[size]
    if part == "fit":
        return fit.candidates(subject, subject.longest(fitted), fitted)
    if part == "embedding":
        return embedding.candidates(subject, subject.longest(embedded))
    prompts, ends = answers.uneven(subject, asked)
    return answers.candidates(subject, prompts, new, ends)


def _peak(subject: Subject, size: str, part: str, name: str, threads: int) -> tuple[float, float]:
    """Megabytes: of the process at most, and private ones that the work added."""
    torch.set_num_threads(threads)
    quiet()
    work = _candidates(subject, size, part)[name]()
    with PrivateMemory() as watched:
        work()
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit, watched.extra
