"""The W&B dashboard, set up from code: one line per sampler over training rows, the comparison, the rows chosen.

    python -m diverseevol.report.dashboard ENTITY [PROJECT] [--benchmarks vicuna,koala] [--outputs FOLDER] [--check]

What it draws are the runs that gather a complete evolution (job type "evolution"; see docs/wandb.md).
"""

import argparse
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from diverseevol.errors import InputError, not_installed
from diverseevol.evolution.metrics import KNOWN, HeldOutLoss, ReferenceLoss, TrainLoss
from diverseevol.output.terminal import LONGEST, say
from diverseevol.runs.metrics import COSTS, FILE, POOL_SIZE, SCORES, MetricDescription, MetricKey, read_descriptions
from diverseevol.storage.reading import files_below

LOSSES = "Losses, where they were measured: lower is better; a warning light, not a judge"
NAME = "diverseevol"


def workspace(
    entity: str,
    project: str,
    benchmarks: Sequence[str] = ("lab", "lab_natural"),
    name: str = NAME,
    described: Mapping[str, MetricDescription] = KNOWN,
) -> Any:
    """The dashboard as an object of `wandb_workspaces`, not saved yet.

    Args:
        entity: user or team.
        project: where the runs are.
        benchmarks: whose relative scores are shown.
        name: what it is called in W&B's list of views.
        described: the metrics that are drawn, by name.

    Raises:
        InputError: the package is not installed.
    """
    ws, wr, expr = _packages()

    def curve(metric: str, title: str) -> Any:
        return wr.LinePlot(
            title=title, x="pool_size", y=[metric], title_x="training rows", title_y=title, groupby=wr.Config("arm"),
            groupby_aggfunc="mean", groupby_rangefunc="minmax", max_runs_to_show=100, smoothing_type="none",
        )  # fmt: skip

    def bars(metric: str, title: str) -> Any:
        return wr.BarPlot(
            title=title, metrics=[metric], groupby=wr.Config("arm"), groupby_aggfunc="mean",
            groupby_rangefunc="minmax", max_runs_to_show=100,
        )  # fmt: skip

    scores = {f"relative_score/{benchmark}": f"relative score, {benchmark}" for benchmark in benchmarks}
    losses = {HeldOutLoss.name: _titled(KNOWN[HeldOutLoss.name])} | {
        str(MetricKey(ReferenceLoss.name, benchmark)): _titled(KNOWN[ReferenceLoss.name], benchmark)
        for benchmark in benchmarks
    }
    elsewhere = {POOL_SIZE.name, HeldOutLoss.name, ReferenceLoss.name, *(each.name for each in (*SCORES, *COSTS))}
    measures = {key: _titled(each) for key, each in described.items() if key not in elsewhere and each.comparable}
    measures |= {TrainLoss.name: _titled(KNOWN[TrainLoss.name]), "seconds": "seconds of a round"}
    against = [
        wr.ScatterPlot(
            title=f"{title} against Vendi-Score", x=wr.SummaryMetric("vendi_score"), y=wr.SummaryMetric(score)
        )
        for score, title in scores.items()
    ]
    sections = {
        "Over training rows: mean over seeds, band from the lowest to the highest": [
            curve(metric, title) for metric, title in {**scores, **measures}.items()
        ],
        # Empty for runs without data.held_out or reference_loss=true, and closed therefore.
        LOSSES: [curve(metric, title) for metric, title in losses.items()],
        "At the end": [*(bars(metric, f"final {title}") for metric, title in scores.items()), *against],
        "Settings side by side": [wr.RunComparer(diff_only="split")],
        "Rows chosen": [wr.WeavePanelSummaryTable(table_name="chosen")],
    }
    columns = ["config:arm", "config:seed", *(f"summary:{key}" for key in (*scores, "vendi_score", "coverage_radius"))]
    return ws.Workspace(
        entity=entity,
        project=project,
        name=name,
        sections=[ws.Section(name=title, panels=panels, is_open=title != LOSSES) for title, panels in sections.items()],
        settings=ws.WorkspaceSettings(x_axis="pool_size", max_runs=100),
        runset_settings=ws.RunsetSettings(
            filters=expr.And(expr.Metric("JobType") == "evolution"),
            groupby=[expr.Config("arm")],
            pinned_columns=["run:displayName", *columns],
        ),
    )


def _titled(description: MetricDescription, part: str = "") -> str:
    """A panel's title: what is drawn, in which unit, and which way is better."""
    unit = ", ".join(filter(None, (description.unit, description.direction)))
    return f"{description.titled(part)} ({unit})" if unit else description.titled(part)


def _described(outputs: Path) -> dict[str, MetricDescription]:
    """The metrics that run folders below a folder describe, and the project's own."""
    described: dict[str, MetricDescription] = {}
    for file in sorted(files_below(outputs)):
        if file.name == FILE and (file.parent / "fingerprint.json").is_file():
            described |= read_descriptions(file.parent)
    return {**described, **KNOWN}


def _packages() -> tuple[Any, Any, Any]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of its own age
            import wandb_workspaces.expr as expr
            import wandb_workspaces.reports.v2 as wr
            import wandb_workspaces.workspaces as ws
    except ImportError as error:
        raise not_installed("the dashboard", "dashboard") from error
    return ws, wr, expr


def main(arguments: Sequence[str] | None = None) -> int:
    """Save the dashboard, or with --check only build it; the exit code."""
    parser = argparse.ArgumentParser(prog="diverseevol.report.dashboard", description="Set up the W&B dashboard.")
    parser.add_argument("entity", help="user or team")
    parser.add_argument("project", nargs="?", default="diverseevol")
    parser.add_argument("--benchmarks", default="lab,lab_natural", help="comma-separated; the lab's by default")
    parser.add_argument("--outputs", default="outputs", type=Path, help="run folders, whose own metrics are drawn, too")
    parser.add_argument("--name", default=NAME, help="of the view")
    parser.add_argument("--check", action="store_true", help="build it, save nothing: needs no server")
    asked = parser.parse_args(arguments)
    try:
        described = _described(asked.outputs)
        dashboard = workspace(asked.entity, asked.project, asked.benchmarks.split(","), asked.name, described)
    except InputError as error:
        say(f"diverseevol: {error}", error=True, longest=LONGEST)
        return 2
    if asked.check:
        panels = sum(len(section.panels) for section in dashboard.sections)
        say(f"the dashboard has {panels} panels; nothing was saved")
        return 0
    try:
        say(dashboard.save().url)
    except Exception as error:  # whatever the network or the account makes of it
        reason = " ".join(str(error).split()) or type(error).__name__
        say(f"diverseevol: W&B did not save the dashboard ({reason}); `wandb login` first, and check the entity and "
            f"project", error=True, longest=LONGEST)  # fmt: skip
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
