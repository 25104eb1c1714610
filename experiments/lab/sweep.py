"""Every sampler on the lab, over seeds, against random: `make sweep`.

    python experiments/lab/sweep.py [--jobs 2] [--seeds 10] [--few 5] [--arms NAME …] [--minutes M] [--dry]

A second call does what is missing. It ends with verdicts and figures over what is done; with `--seeds 10 --few 5`
kcenter and random have ten seeds and all others five. A seed is that of P_0 and of the rows (see `jobs.evolution`).
"""

import csv
import shutil
import subprocess
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from jobs import FULL, ITERATIVE, ONE_TIME, Job, Work, evolution
from study import arguments, carried_out, conducted
from tidy import write_rounds

from diverseevol.errors import InputError
from diverseevol.evaluation.comparison import Comparison, compare
from diverseevol.evaluation.measured import measured_rounds
from diverseevol.evaluation.scoreboard import score_folder
from diverseevol.evaluation.tables import comparison_tables, out_console
from diverseevol.files import atomic_write, write_json
from diverseevol.report.collection import collect

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
    parser = arguments(__doc__, "outputs/lab-study", "experiments/results/lab/sweep")
    parser.add_argument("--seeds", type=int, default=10, help="of kcenter and random")
    parser.add_argument("--few", type=int, default=5, help="of all others")
    parser.add_argument("--arms", nargs="+", default=USUAL, choices=ARMS, metavar="NAME", help=", ".join(ARMS))
    options = parser.parse_args()
    work = Work(options.out, options.jobs, options.minutes)
    jobs = planned(options)
    if carried_out(jobs, options, work):
        conclude(options.out / GROUP, options.arms, options.results)
    if not options.dry:
        sys.exit(0 if all(work.done(job) for job in jobs) else 1)


def planned(options: Any) -> list[Job]:
    """Seed by seed, so that what is done first can be compared; of a seed the longest first."""
    jobs = []
    for seed in range(max(options.seeds, options.few)):
        arms = [arm for arm in options.arms if seed < (options.seeds if arm in MANY else options.few)]
        for arm in sorted(arms, key=lambda arm: -ARMS[arm][1]):
            given, seconds = ARMS[arm]
            jobs.append(evolution(options.out, f"{GROUP}/{arm}", seed, given, options.set, seconds))
    return jobs


def conclude(folder: Path, arms: Sequence[str], results: Path) -> None:
    """Verdicts of these arms against random; figures and the numbers of every round of all that lie there."""
    results.mkdir(parents=True, exist_ok=True)
    try:
        comparison = compared(folder, arms)
    except InputError as error:  # such as of a study that was cut before there are two arms
        print(f"no verdicts: {error}")
        return
    write_json(results / "comparison.json", comparison.record())
    write_verdicts(comparison, results / "verdicts.csv")
    console = out_console()
    for table in comparison_tables(comparison):
        console.print(table)
    report = folder / "report"
    if diverseevol("report", f"folder={folder}", f"out={report}"):
        write_rounds(collect([folder]), results / "rounds.csv")
        for name in ("relative_score", "vendi_score", "other_metrics", "score_against_vendi", "coverage_and_loss"):
            for picture in (report / "figures").glob(f"{name}.png"):
                shutil.copyfile(picture, results / picture.name)
        print(f"verdicts, rounds and figures are in {results}/, all of it in {report / 'report.html'}")


def compared(folder: Path, arms: Collection[str]) -> Comparison:
    """These arms against random: one family of comparisons, whatever else lies in the folder.

    Raises:
        InputError: there is nothing to compare.
    """
    board, measured = score_folder(folder), measured_rounds(folder, MEASURED)
    own = {*arms, BASELINE}
    for warning in board.warnings:
        print(f"warning: {warning}")
    if others := sorted({each.schedule for each in (*board.rounds, *measured)} - own):
        print(f"left out of verdicts and their correction, being none of --arms: {', '.join(others)}")
    return compare(
        [each for each in board.rounds if each.schedule in own],
        BASELINE,
        measured=[each for each in measured if each.schedule in own],
    )


def diverseevol(*words: str) -> bool:
    """Run one of the project's commands; whether it was done."""
    return subprocess.run([sys.executable, "-m", "diverseevol", *words], check=False).returncode == 0


def write_verdicts(comparison: Comparison, file: Path) -> None:
    """The verdicts over seeds, a line a sampler and metric."""
    columns = (
        "benchmark", "schedule", "baseline", "mean_difference", "ci_low", "ci_high", "p", "p_holm", "verdict", "seeds",
        "differences",
    )  # fmt: skip
    with atomic_write(file) as out:
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(columns)
        for verdict in comparison.samplers:
            writer.writerow([_cell(getattr(verdict, name)) for name in columns])


def _cell(value: Any) -> Any:
    if isinstance(value, tuple):
        return " ".join(str(_cell(each)) for each in value)
    return f"{value:.4g}" if isinstance(value, float) else value


if __name__ == "__main__":
    conducted(main)
