"""`python -m perf.gpu`: models of real sizes on this machine's GPU, beside the plain Hugging Face way.

Each part (a model and a job) is written to a file of its own as soon as it is measured; a second start measures what is
missing. Without a CUDA device nothing is measured. `--tiny` shows on any machine that all of it runs.
"""

import argparse
import logging
import os
import re
import sys
import time
import traceback
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers

from diverseevol.runs.run_folder import provenance
from diverseevol.storage.files import read_json, write_json
from perf.gpu import table
from perf.gpu.jobs import Case, matrix_rate
from perf.gpu.subjects import TINY_SIZE, Size, Subject, subjects, tiny_subjects

RESULTS = Path(__file__).parents[2] / "experiments" / "results" / "gpu"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure the parts that are missing, the most important first; 1 where a part failed."""
    parser = argparse.ArgumentParser(prog="python -m perf.gpu", description=__doc__)
    parser.add_argument("--minutes", type=float, default=9.0, help="after so many no new part begins; 9 without it")
    parser.add_argument("--tiny", action="store_true", help="models of no size, on the processor where there is no GPU")
    parser.add_argument("--only", nargs="+", metavar="PART", default=[], help="parts whose names begin so")
    parser.add_argument("--again", action="store_true", help="measure parts that were measured before, too")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder that gets a folder for each card")
    options = parser.parse_args(arguments)
    deadline = time.monotonic() + 60 * options.minutes
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu" and not options.tiny:
        print("bench-gpu: there is no CUDA device, so nothing is measured; run it on a machine with one")
        return 0
    # Lightning sets it for trainers that give the same bits each time, but only a new process's first product reads it.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    _quiet()
    card = torch.cuda.get_device_name() if device == "cuda" else "processor"
    folder = options.results / re.sub(r"[^a-z0-9]+", "-", card.lower()).strip("-")
    size = TINY_SIZE if options.tiny else Size()
    measured = (tiny_subjects if options.tiny else subjects)(device, os.environ.get("DIVERSEEVOL_TEST_MODEL"))
    rate, failed, late = 0.0, [], []
    for subject, job in in_order(measured):
        name = f"{subject.name}-{job}"
        file = folder / f"{name}.json"
        kept = file.exists() and not _failed(read_json(file)) and not options.again
        if kept or (options.only and not name.startswith(tuple(options.only))):
            continue
        if not subject.available:
            print(f"{name}: left out, DIVERSEEVOL_TEST_MODEL names no folder")
            continue
        if time.monotonic() >= deadline:
            late.append(name)
            continue
        if not rate:
            rate = matrix_rate(size.matrix, device)
            print(f"{card}: {rate / 1e12:,.3g} TFLOP/s, bfloat16 matrices of {size.matrix:,}²")
        print(f"{name} …", flush=True)
        try:
            case = Case(subject, size, device, rate)
            lines = case.measure(job)
        except Exception:  # a part that fails takes no other with it, and is tried again at the next start
            traceback.print_exc()
            failed.append(name)
            continue
        part = {"part": name, "subject": subject.name, "job": job, "card": card, "matrix_rate": rate, **lines}
        folder.mkdir(parents=True, exist_ok=True)
        write_json(file, part | {"versions": provenance()})
        if _failed(part):
            failed.append(name)
    if late:
        print(f"not measured within {options.minutes:g} minutes: {', '.join(late)}; the same command goes on")
    if failed:
        print(f"failed: {', '.join(failed)}; the same command tries again", file=sys.stderr)
    if folder.is_dir():
        print(table.of_card(folder, measured))
    return 1 if failed else 0


def in_order(measured: Sequence[Subject]) -> list[tuple[Subject, str]]:
    """Parts by worth: all of the first model, from which an evolution is projected, then the jobs that take least."""
    parts = [(subject, job) for subject in measured for job in subject.jobs]
    return sorted(parts, key=lambda part: (part[0] is not measured[0], part[0].last, part[1] == "answers"))


def _failed(part: dict[str, Any]) -> bool:
    """Whether a way of a part failed, for want of something else than memory."""
    return any("failed" in way for way in part["ways"].values())


def _quiet() -> None:
    """Libraries' notes and progress bars would stand between the lines."""
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=UserWarning)


if __name__ == "__main__":
    sys.exit(main())
