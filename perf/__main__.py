"""`python -m perf [--size smoke|small|full] [--only NAME …]`: each part beside the plain way."""

import argparse
import json
from importlib import import_module
from pathlib import Path

import torch
import transformers
from rich.console import Console

from perf import turns
from perf.turns import Report, machine

NAMES = ("kcenter", "near_duplicates", "rows", "embedding", "answers", "token_statistics", "committee", "fixed_costs")
SIZES = ("smoke", "small", "full")
ON_CUDA = "kcenter_on_cuda"  # only where it is named


def main() -> None:
    """Run the benchmarks that are asked for, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=SIZES, default="small", help="smoke: does it run? full: the paper's sizes")
    parser.add_argument("--only", choices=(*NAMES, ON_CUDA), nargs="+", metavar="NAME", default=NAMES,
                        help=", ".join((*NAMES, ON_CUDA)))  # fmt: skip
    parser.add_argument("--threads", type=int, help="torch's threads; the machine's setting without it")
    parser.add_argument("--clock", choices=turns.CLOCKS, default="wall", help="processor: for a machine that is busy")
    parser.add_argument("--out", type=Path, help="a JSON file for all that is found")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    turns.CLOCK = options.clock
    transformers.utils.logging.set_verbosity_error()
    console = Console()
    if not console.is_terminal:
        console.width = 150
    report = Report(console)
    before = machine()
    console.print(", ".join(f"{key}: {value}" for key, value in before.items()), highlight=False)
    for name in options.only:
        report.benchmark = name
        import_module(f"perf.{name}").run(options.size, report)
        if options.out:  # after each: the next may be cut
            setting = {"size": options.size, "machine": before}
            results = {**setting, "load at the end": machine()["load"], "found": report.results}
            options.out.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
