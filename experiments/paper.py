"""Build the paper's tables and figures from what is on disk, say what is missing, and run it if asked to.

    python experiments/paper.py TARGET… [--judgements PLACE] [--outputs DIR] [--out DIR] [--launch lab|full] [--jobs N]

TARGET: figure2 figure3 figure4 main-results one-time win-tie-lose, or paper for all of them. Each writes
TARGET-<origin>.csv and .png, a file an origin, and TARGET-claims.csv, where each origin has a column of its own.
"""

import argparse
import importlib
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
from claims import Held
from cost import cost
from estimates import restrict, write_records
from reproduction import FULL_SCALE, LAB, ORIGINS, RELEASED, Arm, Found, find, launch, paper, wanted
from rich.box import SIMPLE_HEAD
from rich.table import Table

from diverseevol.errors import InputError
from diverseevol.output.console import Console, results_console, styled
from diverseevol.output.shell import command
from diverseevol.output.terminal import LONGEST, say
from diverseevol.report.charts.style import STYLE, save
from diverseevol.report.collect import Collection, collect
from diverseevol.storage.files import atomic_write

TARGETS = ("figure2", "figure3", "figure4", "main-results", "one-time", "win-tie-lose")
SHOWN = 5  # commands on the terminal; all are in the file
LAUNCHED = {"": None, "0": None, "1": LAB, "lab": LAB, "full": FULL_SCALE}


def main(arguments: Sequence[str]) -> int:
    """Exit code 0, 1 where a run that was launched failed, 2 for what the user must fix."""
    options = parsed(arguments)
    console = results_console()
    targets = TARGETS if "paper" in options.targets else tuple(dict.fromkeys(options.targets))
    modules = {name: importlib.import_module(name.replace("-", "_")) for name in targets}
    arms = list(dict.fromkeys(arm for module in modules.values() for arm in module.RUNS))
    try:
        runs = {arm: find(arm, options.outputs) for arm in arms}
        failed = []
        if origin := LAUNCHED[options.launch]:
            commands = [words for arm, words in wanted(runs.values(), options.outputs) if arm.origin == origin]
            # One at full scale takes all GPUs, and torchrun's port.
            failed = launch(commands, options.jobs if origin == LAB else 1)
            runs = {arm: find(arm, options.outputs) for arm in arms}
        collections = gather(runs, options.judgements)
        for name, module in modules.items():
            build(name, module, {arm: runs[arm] for arm in module.RUNS}, collections, options.out, console)
    except InputError as error:
        say(f"paper: {error}", error=True, longest=LONGEST)
        return 2
    tell_missing(runs.values(), RELEASED in collections, options, console)
    for words in failed:
        say(f"paper: failed: {command(*words)}", error=True)
    return 1 if failed else 0


def parsed(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line; argparse says what is wrong with it and exits with 2."""
    parser = argparse.ArgumentParser("paper", description="The paper's tables and figures, from what is on disk.")
    parser.add_argument("targets", nargs="+", choices=(*TARGETS, "paper"), metavar="TARGET")
    parser.add_argument("--judgements", type=Path, help="the authors' evol_gpt4_judge_reference, or archives of it")
    parser.add_argument("--outputs", type=Path, default=Path("outputs"), help="where run folders are")
    parser.add_argument("--out", type=Path, default=Path("outputs/paper"), help="gets the CSV and PNG files")
    parser.add_argument(
        "--launch", default="", choices=LAUNCHED, help="1 or lab: run what the lab lacks; full: the rest"
    )
    parser.add_argument("--jobs", type=int, default=1, help="evolutions of the lab side by side")
    return parser.parse_args(arguments)


def gather(runs: Mapping[Arm, Found], judgements: Path | None) -> dict[str, Collection]:
    """What is there, each origin by itself."""
    collections = {}
    if judgements is not None and judgements.exists():
        collection = collect([], [judgements])
        collections[RELEASED] = restrict(collection, lambda line: line.released)
    for origin in (FULL_SCALE, LAB):
        folders = [run.folder for arm, run in runs.items() if arm.origin == origin and run.begun]
        if folders:
            collections[origin] = collect(folders)
    return collections


def build(
    name: str,
    module: Any,
    runs: Mapping[Arm, Found],
    collections: Mapping[str, Collection],
    out: Path,
    console: Console,
) -> None:
    """Write and print one target."""
    about = paper()["targets"][name]
    console.print()
    console.print(styled((name, "bold"), f": {about['shows']}"))
    held: dict[str, list[Held]] = {}
    for origin, collection in collections.items():
        keys = {run.key for arm, run in runs.items() if arm.origin == origin}
        part = restrict(collection, lambda line, keys=keys: line.released or (line.source, line.schedule) in keys)
        records = module.frame(part)
        if not records:
            continue
        write_records(out / f"{name}-{origin}.csv", records)
        with matplotlib.rc_context(STYLE):
            figure = module.draw(part)
        if figure is not None:
            save(figure, out, f"{name}-{origin}")
        held[origin] = list(module.compared(part))
        console.print(f"  {ORIGINS[origin]}: {out / f'{name}-{origin}.csv'}, .png")
    rows = claims_table(about, held)
    if rows:
        write_records(out / f"{name}-claims.csv", rows)
        console.print(shown(rows))


def claims_table(about: Mapping[str, Any], held: Mapping[str, Sequence[Held]]) -> list[dict[str, str]]:
    """A row a claim and data set, a column an origin; what an origin does not say is "not available" or "not run"."""
    rows = []
    for key, claim in about["claims"].items():
        verdicts = {origin: {each.on: each.says for each in says if each.claim == key} for origin, says in held.items()}
        absent = dict.fromkeys(ORIGINS, "not run") | {RELEASED: str(about.get("released", "not at hand"))}
        for subject in list(dict.fromkeys(on for says in verdicts.values() for on in says)) or [""]:
            cells = {o: verdicts.get(o, {}).get(subject, "" if verdicts.get(o) else absent[o]) for o in ORIGINS}
            rows.append({"claim": claim["says"], "from": claim["from"], "on": subject, **cells})
    return rows


def shown(rows: Sequence[Mapping[str, str]]) -> Table:
    """For the terminal."""
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading in ("the paper's claim", "on", *(origin.replace("_", " ") for origin in ORIGINS)):
        table.add_column(heading, overflow="fold")
    before = ""
    for row in rows:
        table.add_row("" if row["claim"] == before else row["claim"], row["on"], *(row[o] for o in ORIGINS))
        before = row["claim"]
    return table


def tell_missing(runs: Sequence[Found], released: bool, options: argparse.Namespace, console: Console) -> None:
    """The commands that make what is not there, on the terminal where they are few, and in files that can be run."""
    if not released:
        console.print()
        console.print("missing: the released judgements; JUDGEMENTS= the authors' evol_gpt4_judge_reference")
    for origin, hint in ((LAB, "LAUNCH=1 runs it"), (FULL_SCALE, "LAUNCH=full runs it, on GPUs that hold the model")):
        commands = [command(*words) for arm, words in wanted(runs, options.outputs) if arm.origin == origin]
        file = options.out / f"missing-{origin}.sh"
        with atomic_write(file) as script:
            script.writelines(f"{line}\n" for line in commands)
        if commands:
            cost_of_it = price(runs) if origin == FULL_SCALE else ""
            console.print()
            console.print(f"missing, {ORIGINS[origin]}: {len(commands)} commands, {file} ({hint}){cost_of_it}")
            for line in commands[:SHOWN]:
                console.print(f"  {line}")
            if len(commands) > SHOWN:
                console.print(f"  … and {len(commands) - SHOWN} more")


def price(runs: Sequence[Found]) -> str:
    """What the missing runs at full scale take."""
    assumed = paper()["cost"]
    costs = []
    for run in runs:
        if run.arm.origin == FULL_SCALE and run.missing:
            words = dict(word.split("=", 1) for word in run.arm.overrides)
            costs += [cost(assumed, run.arm.folder, words["schedule"], words["sampler"])] * len(run.missing)
    hours, dollars = sum(each.gpu_hours for each in costs), sum(each.dollars for each in costs)
    return (
        f"; {len(costs)} runs take at least {hours:,.0f} GPU hours, {sum(each.calls for each in costs):,} judge calls, "
        f"{dollars:,.0f} US dollars (assumptions: experiments/paper.yaml)"
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
