"""The lab's ablations: what they change, what they share with the sweep, and their figure."""

import argparse
from pathlib import Path

import ablations
import figure
import numpy as np
import sweep
from matplotlib.text import Text
from study import ITERATIVE, ONE_TIME, Arm


def options(out: Path) -> argparse.Namespace:
    conditions = list(ablations.CONDITIONS)
    return argparse.Namespace(seeds=3, few=1, out=out, set=[], arms=sweep.USUAL, conditions=conditions)


def choices(arm: Arm) -> dict[str, str]:
    return {key: str(value) for key, value in arm.options.items()}


def test_an_ablation_changes_one_thing(tmp_path):
    """And something: no value but the base of its condition is the base."""
    opts = options(tmp_path)
    schedule = {key for key, value in ONE_TIME.items() if ITERATIVE[key] != value}
    for name, values in ablations.CONDITIONS.items():
        base = next((value for value in values if not value.kcenter), values[0])
        for value in values:
            for sampler in ("kcenter", "random"):
                one, other = (choices(ablations.arm_of(opts, each, sampler)) for each in (value, base))
                changed = {key for key in one.keys() | other.keys() if one.get(key) != other.get(key)}
                assert len(changed) <= 1 or changed == schedule, (name, value.text)
                assert sampler == "random" or bool(changed) == (value is not base), (name, value.text)


def test_an_ablation_takes_from_the_sweep_what_the_sweep_has(tmp_path):
    arms = ablations.planned(options(tmp_path))
    swept = {arm.name: arm for arm in sweep.planned(options(tmp_path))}
    by_choices = {tuple(sorted(choices(arm).items())): arm.name for arm in swept.values()}
    assert len({arm.name for arm in arms}) == len(arms)
    for arm in arms:
        assert by_choices.get(tuple(sorted(choices(arm).items()))) in (None, arm.name)
    names = {arm.name for arm in arms if arm.name in swept}
    assert names == {f"lab/sweep/{arm}" for arm in (*sweep.MANY, "kcenter-one_time")}


def line(value: str, sampler: str, seed: int, t: int, score: float) -> dict[str, object]:
    return {
        "condition": "noise", "value": value, "sampler": sampler, "seed": seed, "round": t, "relative_score/lab": score,
    }  # fmt: skip


def test_differences_are_within_a_seed_and_of_the_last_round(tmp_path):
    lines = [line("0", "kcenter", s, t, 50 + 10 * t + s) for s in range(3) for t in range(2)]
    lines += [line("0", "random", s, t, 40 + 10 * t - s) for s in (2, 0) for t in range(2)]
    assert figure.differences(lines, "relative_score/lab").tolist() == [10, 14]
    assert figure.differences(lines, "skills_covered").tolist() == []
    figure.draw_all(lines, tmp_path, {})
    assert [file.name for file in tmp_path.iterdir()] == ["ablations.png"]  # nothing was measured for the others
    assert (tmp_path / "ablations.png").read_bytes()[:4] == b"\x89PNG"


def test_every_arm_is_drawn_with_its_seeds_the_best_first_and_chosen_at_once_hollow():
    rng = np.random.default_rng(0)
    gains = {"kcenter-iterative": (3, 2.0), "kcenter-one_time": (4, 9.0), "longest-iterative": (2, -5.0)}
    metrics = {**figure.WIDE, **figure.NARROW}
    lines = [
        {"group": "lab/sweep", "sampler": arm, "seed": seed, "round": t,
         **dict.fromkeys(metrics, 10.0 + t * gain + seed)}
        for arm, (seeds, gain) in {"random-iterative": (5, 0.0), **gains}.items()
        for seed in range(seeds) for t in range(2)
    ]  # fmt: skip
    rng.shuffle(lines)
    drawn = figure.arms_figure(lines, "random-iterative")
    drawn.draw_without_rendering()
    assert [axes.get_title(loc="left") for axes in drawn.axes] == [title for title, _ in metrics.values()]
    for axes in (drawn.axes[0], drawn.axes[len(figure.WIDE)]):  # the first of each row names all of it
        names = [label.get_text() for label in axes.get_yticklabels()]
        assert names == ["K-Center, one-time (4)", "K-Center, iterative (3)", "longest (2)"]
    for axes, (_, times) in zip(drawn.axes, metrics.values(), strict=True):
        marks = [mark for mark in axes.lines if len(mark.get_xdata()) == 1]
        assert [mark.get_xdata()[0] for mark in marks] == [9 * times, 2 * times, -5 * times]
        assert [mark.get_markerfacecolor() == figure.PAPER for mark in marks] == [True, False, False]
        assert axes.get_xlabel() == f"minus random ({12 * times:.1f})"
    assert figure.arms_figure(lines, "oracle-iterative") is None


def test_the_ablations_figure_holds_every_value_and_no_label_touches_another():
    rng = np.random.default_rng(0)
    unit, metrics = figure.FIGURES["ablations"]
    lines = [
        {"condition": condition, "value": value.text, "sampler": sampler, "seed": seed, "round": 7,
         **{metric: rng.normal(50, 9) for metric in metrics}}
        for condition, values in ablations.CONDITIONS.items() for value in values
        for sampler in ("kcenter", "random") for seed in range(3 + len(value.text) % 3)
    ]  # fmt: skip
    base = ablations.swept()
    assert base.keys() == ablations.CONDITIONS.keys() - {"drop, noise 0.05"}
    drawn = figure.draw(lines, unit, metrics, base)
    drawn.draw_without_rendering()
    panels = {axes.get_title(loc="left"): axes for axes in drawn.axes if axes.axison}
    assert panels.keys() == ablations.CONDITIONS.keys()
    for condition, axes in panels.items():
        labels = axes.get_yticklabels()
        assert [label.get_text() for label in labels] == [v.text for v in ablations.CONDITIONS[condition]]
        bold = [label.get_text() for label in labels if label.get_fontweight() == "bold"]
        assert bold == [base[condition] for _ in range(condition in base)]
    texts = [text for text in drawn.findobj(Text) if text.get_visible() and text.get_text()]
    texts = [text for text in texts if text.axes is None or text.axes.axison]
    for axes in panels.values():  # ticks outside the view are not drawn
        low, high = axes.get_xlim()
        undrawn = [text for text in axes.get_xticklabels() if not low <= text.get_position()[0] <= high]
        texts = [text for text in texts if text not in undrawn]
    boxes = [text.get_window_extent() for text in texts]
    for i, one in enumerate(boxes):
        assert 0 <= one.x0 <= one.x1 <= drawn.bbox.width, texts[i]
        for j in range(i):
            assert not one.overlaps(boxes[j]), (texts[i], texts[j])
