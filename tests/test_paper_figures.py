"""The paper's figures as a reader sees them: titles, notes, legends and places."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from run_folders import World, lay_run

from diverseevol.report.collect import collect

EXPERIMENTS = Path(__file__).parents[1] / "experiments"


def test_a_figure_says_what_its_questions_are_held_against_and_over_how_many_seeds(tmp_path):
    import win_tie_lose

    for judge, said in (("gold", "against the right answers"), ("gpt-4", "against the competitor")):
        world = World(name=f"lab/{judge}", benchmark="lab", judge=judge)
        for seeds, note in ((0, "one seed"), (1, "mean over seeds")):
            lay_run(tmp_path, world, "kcenter", seeds, scores=[4.0, 5.0, 6.0, 6.5])
            drawn = win_tie_lose.draw(collect([tmp_path / "lab" / judge]))
            (axes,) = drawn.axes
            assert axes.get_title() == "lab: all skills alike" + ", judge gpt-4" * (judge == "gpt-4")
            assert axes.get_xlabel().endswith(said)
            assert drawn.get_supxlabel().endswith(f", {note}")


def test_schedules_stand_in_a_row_without_an_empty_place_and_are_told_apart_in_the_legend(tmp_path):
    import one_time
    from estimates import curves_figure, estimates

    for kind, rounds, size in (("iterative", 3, 10), ("one_time", 1, 20)):
        lay_run(tmp_path, World(), "kcenter", 0, schedule=kind, rounds=rounds, size=size, scores=[4.0, 5.0, 6.0, 6.5])
    found = estimates(collect([tmp_path]), *one_time.METRICS)
    again = [replace(each, metric="relative_score/other") for each in found if each.judge]
    drawn = curves_figure([*found, *again])
    assert [axes.get_visible() for axes in drawn.axes] == [True] * 3
    (legend,) = drawn.legends
    solid, dashed = legend.get_lines()
    assert (solid.get_linestyle(), dashed.get_linestyle()) == ("-", "--")
    on, off = dashed._dash_pattern[1][:2]  # in points, of which the marker hides some in the middle
    assert legend.handlelength * 8 >= 2 * (on + off)


def test_what_is_not_needed_is_not_loaded():
    """Composing needs torch, and takes longer to load than the tables take to build."""
    code = "import sys, paper, figure2; sys.exit('torch' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(EXPERIMENTS), str(EXPERIMENTS.parent)])}
    assert subprocess.run([sys.executable, "-c", code], env=environment, check=False).returncode == 0
