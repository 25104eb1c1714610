"""The W&B dashboard, set up from code: one line per sampler over training rows, the comparison, the rows chosen.

    python -m diverseevol.report.dashboard ENTITY [PROJECT] [--benchmarks vicuna,koala] [--name NAME] [--check]

What it draws are the runs that gather a whole evolution (job type "evolution"; see docs/wandb.md).
"""

import argparse
import sys
import warnings
from collections.abc import Sequence
from typing import Any

from diverseevol.errors import InputError
from diverseevol.output.terminal import LONGEST, say

MEASURES = {
    "vendi_score": "Vendi-Score (foundation embedding)",
    "vendi_score_centred": "Vendi-Score, centred",
    "coverage_radius": "coverage radius (foundation embedding)",
    "train_loss": "training loss (nats per response token)",
    "seconds": "seconds of a round",
}
LOSSES = "Losses, where they were measured: lower is better; a warning light, not a judge"
NAME = "diverseevol"


def workspace(entity: str, project: str, benchmarks: Sequence[str] = ("lab", "lab_natural"), name: str = NAME) -> Any:
    """The dashboard as an object of `wandb_workspaces`, not saved yet.

    Args:
        entity: user or team.
        project: where the runs are.
        benchmarks: whose relative scores are shown.
        name: what it is called in W&B's list of views.

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
    losses = {"held_out_loss": "loss on held-out rows (nats per response token, lower is better)"} | {
        f"reference_loss/{benchmark}": f"loss on references, {benchmark} (lower is better)" for benchmark in benchmarks
    }
    against = [
        wr.ScatterPlot(
            title=f"{title} against Vendi-Score", x=wr.SummaryMetric("vendi_score"), y=wr.SummaryMetric(score)
        )
        for score, title in scores.items()
    ]
    sections = {
        "Over training rows: mean over seeds, band from the lowest to the highest": [
            curve(metric, title) for metric, title in {**scores, **MEASURES}.items()
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


def _packages() -> tuple[Any, Any, Any]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of its own age
            import wandb_workspaces.expr as expr
            import wandb_workspaces.reports.v2 as wr
            import wandb_workspaces.workspaces as ws
    except ImportError as error:
        raise InputError("the dashboard needs wandb-workspaces: pip install 'diverseevol[dashboard]'") from error
    return ws, wr, expr


def main(arguments: Sequence[str] | None = None) -> int:
    """Save the dashboard, or with --check only build it; the exit code."""
    parser = argparse.ArgumentParser(prog="diverseevol.report.dashboard", description="Set up the W&B dashboard.")
    parser.add_argument("entity", help="user or team")
    parser.add_argument("project", nargs="?", default="diverseevol")
    parser.add_argument("--benchmarks", default="lab,lab_natural", help="comma-separated; the lab's by default")
    parser.add_argument("--name", default=NAME, help="of the view")
    parser.add_argument("--check", action="store_true", help="build it, save nothing: needs no server")
    given = parser.parse_args(arguments)
    try:
        dashboard = workspace(given.entity, given.project, given.benchmarks.split(","), given.name)
    except InputError as error:
        say(f"diverseevol: {error}", error=True, longest=LONGEST)
        return 2
    if given.check:
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
