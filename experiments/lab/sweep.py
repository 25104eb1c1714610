"""Every sampler on the lab, over seeds, against random: `make sweep`.

    python experiments/lab/sweep.py [--jobs 2] [--seeds 5] [--few 5] [--arms NAME …] [--minutes M] [--dry]

A second call does what is missing. It ends with verdicts and figures of what is complete; with `--seeds 10`
kcenter and random have ten seeds and all others five. A seed is that of P_0 and of the rows (see `study.Arm`).
"""

import shutil
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import figure
from study import FULL, ITERATIVE, ONE_TIME, Arm, arguments, carried_out, complete, conducted
from tidy import complete_runs, rounds_of, write_table

from diverseevol.errors import InputError
from diverseevol.evaluation.scores.comparison import Comparison, compare
from diverseevol.evaluation.scores.frame import Frame
from diverseevol.evaluation.scores.read_metrics import measured_rounds
from diverseevol.evaluation.scores.scoreboard import score_folder
from diverseevol.evaluation.scores.tables import comparison_tables
from diverseevol.evolution.metrics import KNOWN
from diverseevol.output.console import results_console
from diverseevol.output.sheets import write_csv
from diverseevol.output.terminal import say
from diverseevol.report.collect import collect
from diverseevol.report.page.publish import publish
from diverseevol.storage.files import write_json

GROUP = "lab/sweep"
BASELINE = "random-iterative"
MEASURED = ("vendi_score_centred", "skills_covered")  # compared beside the relative scores
MANY = ("kcenter-iterative", BASELINE)  # the comparison that the paper is about
# What each arm differs by, and the seconds that one evolution takes on a quiet core.
ARMS: Mapping[str, tuple[Mapping[str, object], float]] = {
    "kcenter-iterative": ({"sampler": "kcenter", **ITERATIVE}, 155),
    "random-iterative": ({"sampler": "random", **ITERATIVE}, 100),
    "random-full": ({"sampler": "random", **FULL}, 200),
    "oracle-iterative": ({"sampler": "oracle", **ITERATIVE}, 100),
    "kcenter-one_time": ({"sampler": "kcenter", **ONE_TIME}, 50),
    "kcenter_foundation-iterative": ({"sampler": "kcenter", "sampler.space": "foundation", **ITERATIVE}, 100),
    "qbc-iterative": ({"sampler": "qbc", **ITERATIVE}, 450),
    "margin-iterative": ({"sampler": "margin", **ITERATIVE}, 165),
    "longest-iterative": ({"sampler": "longest", **ITERATIVE}, 120),
    "uncertain_kcenter-iterative": ({"sampler": "uncertain_kcenter", **ITERATIVE}, 165),
    "facility_location-iterative": ({"sampler": "facility_location", **ITERATIVE}, 165),
    "entropy-iterative": ({"sampler": "entropy", **ITERATIVE}, 165),
    "least_confidence-iterative": ({"sampler": "least_confidence", **ITERATIVE}, 165),
    "kmeans-iterative": ({"sampler": "kmeans", **ITERATIVE}, 165),
    "vendi-iterative": ({"sampler": "vendi", **ITERATIVE}, 120),
}
USUAL = tuple(ARMS)[:11]  # what fits into ninety minutes of two cores


def main() -> None:
    """Run what is missing, then compare and draw what is there."""
    parser = arguments(__doc__, "outputs/lab-study", "sweep")
    parser.add_argument("--seeds", type=int, default=5, help="of kcenter and random")
    parser.add_argument("--few", type=int, default=5, help="of all others")
    parser.add_argument("--arms", nargs="+", default=USUAL, choices=ARMS, metavar="NAME", help=", ".join(ARMS))
    options = parser.parse_args()
    options.results = options.results or options.out / "results" / "sweep"
    arms = planned(options)
    well = carried_out(arms, options)
    if not options.dry:
        concluded = conclude(options.out / GROUP, options.arms, options.results)
        sys.exit(0 if well and concluded and complete(arms, options.out) else 1)


def planned(options: Any) -> list[Arm]:
    """The arms, with as many seeds as each has."""
    seeds = {name: options.seeds if name in MANY else options.few for name in options.arms}
    return [Arm(f"{GROUP}/{name}", ARMS[name][0], seeds[name], ARMS[name][1]) for name in options.arms]


def conclude(folder: Path, arms: Collection[str], results: Path) -> bool:
    """Verdicts of these arms against random, their figures and the numbers of every round; whether they were made."""
    results.mkdir(parents=True, exist_ok=True)
    runs, report = own_runs(folder, arms), folder / "report"
    try:
        comparison = compared(folder, runs)
        write_json(results / "comparison.json", comparison.record())
        write_verdicts(comparison, results / "verdicts.csv")
        console = results_console()
        for table in comparison_tables(comparison):
            console.print(table)
        collection = collect(runs)
        publish(collection, report)
    except InputError as error:  # as of a study that was interrupted before there were two arms
        say(f"no verdicts or no report: {error}")
        return False
    lines = rounds_of(collection)
    write_table(lines, results / "rounds.csv")
    figure.draw_differences(lines, BASELINE, results)
    for name in ("relative_score", "vendi_score", "other_metrics", "score_against_vendi", "coverage_and_loss"):
        for picture in (report / "figures").glob(f"{name}.png"):
            shutil.copyfile(picture, results / picture.name)
    say(f"verdicts, rounds and figures are in {results}/, the complete report in {report / 'report.html'}")
    return True


def own_runs(folder: Path, arms: Collection[str]) -> list[Path]:
    """The complete runs of these arms and of random, whatever else lies in the folder."""
    runs = sorted(config.parent for config in folder.glob("*/seed*/config.yaml"))
    own = {*arms, BASELINE}
    if foreign := sorted({run.parent.name for run in runs} - own):
        say(f"left out, being none of --arms: {', '.join(foreign)}")
    return complete_runs([run for run in runs if run.parent.name in own])


def compared(folder: Path, runs: Sequence[Path]) -> Comparison:
    """The arms of these runs against random: one family of comparisons.

    Raises:
        InputError: there is nothing to compare.
    """
    board, measured = score_folder(folder), measured_rounds(folder, MEASURED, KNOWN)
    own = {(run.parent.name, run.name) for run in runs}
    for warning in board.warnings:
        say(f"warning: {warning}")

    def of_runs(frame: Frame) -> list[bool]:
        return [(schedule, f"seed{seed}") in own for schedule, seed in zip(frame.schedule, frame.seed, strict=True)]

    return compare(
        board.frame[of_runs(board.frame)],
        BASELINE,
        measured=measured[of_runs(measured)],
    )


def write_verdicts(comparison: Comparison, file: Path) -> None:
    """The verdicts over seeds, a line a sampler and metric."""
    columns = (
        "benchmark", "schedule", "baseline", "mean_difference", "ci_low", "ci_high", "p", "p_holm", "verdict", "seeds",
        "differences",
    )  # fmt: skip
    write_csv(
        file,
        columns,
        ([_cell(getattr(verdict, name)) for name in columns] for verdict in comparison.samplers.itertuples()),
    )


def _cell(value: Any) -> Any:
    if isinstance(value, tuple):
        return " ".join(str(_cell(each)) for each in value)
    return f"{value:.4g}" if isinstance(value, float) else value


if __name__ == "__main__":
    conducted(main)
