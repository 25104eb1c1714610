"""`python -m perf.real_model --model FOLDER --data FILE`: fit, embedding and answers beside the plain way."""

import argparse
import json
import tempfile
from importlib import import_module
from pathlib import Path

import torch
from rich.console import Console

from perf import turns
from perf.real_model.subject import Subject, quiet
from perf.turns import Report, machine

PARTS = ("embedding", "answers", "fit", "memory")
SIZES = ("smoke", "small", "full")


def main() -> None:
    """Run the parts that are asked for, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="a folder with a causal language model")
    parser.add_argument("--data", type=Path, required=True, help="a file of rows, such as databricks-dolly-15k.jsonl")
    parser.add_argument("--size", choices=SIZES, default="small", help="smoke: does it run? small: some 8 minutes")
    parser.add_argument("--only", choices=PARTS, nargs="+", default=PARTS, metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--threads", type=int, default=1, help="torch's threads; 1 without it")
    parser.add_argument("--clock", choices=turns.CLOCKS, default="wall", help="processor: for a machine that is busy")
    parser.add_argument("--out", type=Path, help="a JSON file for all that is found")
    options = parser.parse_args()
    for option in ("model", "data"):
        if not getattr(options, option).exists():
            parser.error(f"--{option} {getattr(options, option)}: there is no such path; give one that exists")
    torch.set_num_threads(options.threads)
    turns.CLOCK = options.clock
    quiet()
    console = Console()
    if not console.is_terminal:
        console.width = 150
    report, before = Report(console), machine()
    console.print(", ".join(f"{key}: {value}" for key, value in before.items()), highlight=False)
    with tempfile.TemporaryDirectory() as cache:
        subject = Subject(str(options.model), str(options.data), Path(cache))
        for part in options.only:
            report.benchmark = part
            import_module(f"perf.real_model.{part}").run(subject, options.size, report)
            if options.out:  # after each: the next may be cut
                results = {"size": options.size, "machine": before, "found": report.results}
                options.out.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
