"""Choices by name: what run folders hold instead of module paths, so that code may move and a folder calls nothing.

0.1 wrote module paths. The table below reads them: group -> target -> the choices that had it, each with the options
that tell it from the others; the first that fits is the one. It is a record of the past and does not grow.
"""

from collections.abc import Mapping
from typing import Any

Marks = Mapping[str, object]

TARGETS_0_1: Mapping[str, Mapping[str, tuple[tuple[str, Marks], ...]]] = {
    "benchmark": {
        "diverseevol.evaluation.benchmarks.load_benchmark": (
            ("vicuna", {"name": "vicuna"}),
            ("koala", {"name": "koala"}),
            ("wizardlm", {"name": "wizardlm"}),
            ("questions", {}),
        ),
        "diverseevol.evaluation.benchmarks.load_paper": (("paper", {}),),
        "diverseevol.evaluation.benchmarks.no_benchmark": (("none", {}),),
        "diverseevol.lab.benchmark": (("lab", {}),),
        "diverseevol.lab.both": (("lab_both", {}),),
        "diverseevol.lab.development": (("lab_development", {}),),
        "diverseevol.lab.natural": (("lab_natural", {}),),
    },
    "data": {
        "diverseevol.source.load": (("dolly", {"name": "dolly"}), ("json", {})),
        "diverseevol.lab.source": (("lab", {}),),
    },
    "judge": {
        "diverseevol.evaluation.judges.GoldJudge": (("gold", {}),),
        "diverseevol.evaluation.judges.NoJudge": (("none", {}),),
        "diverseevol.evaluation.judges.OverlapJudge": (("overlap", {}),),
        "diverseevol.evaluation.local_judge.LocalJudge": (("local", {}),),
        "diverseevol.evaluation.openai_judge.OpenAIJudge": (("openai", {}),),
        "diverseevol.evaluation.replay.ReplayJudge": (("replay", {}),),
    },
    "logger": {
        "diverseevol.trackers.csv.CsvTracker": (("csv", {}),),
        "diverseevol.tracking.NoTracker": (("none", {}),),
        "diverseevol.trackers.tensorboard.TensorBoardTracker": (("tensorboard", {}),),
        "diverseevol.trackers.wandb.WandbTracker": (("wandb", {}),),
    },
    "model": {
        "diverseevol.foundation.Pretrained": (("hf", {}),),
        "diverseevol.foundation.TinyLlama": (("tiny", {}),),
        "diverseevol.lab.model.foundation_model": (("lab", {}),),
    },
    "sampler": {
        "diverseevol.samplers.facility_location.FacilityLocationSampler": (("facility_location", {}),),
        "diverseevol.samplers.kcenter.KCenterSampler": (("kcenter", {}),),
        "diverseevol.samplers.kmeans.KMeansSampler": (("kmeans", {}),),
        "diverseevol.samplers.longest.LongestSampler": (("longest", {}),),
        "diverseevol.samplers.qbc.CommitteeSampler": (("qbc", {}),),
        "diverseevol.samplers.random.RandomSampler": (("random", {}),),
        "diverseevol.samplers.stratified.StratifiedSampler": (("oracle", {}),),
        "diverseevol.samplers.uncertain_kcenter.UncertainKCenterSampler": (("uncertain_kcenter", {}),),
        "diverseevol.samplers.uncertainty.UncertaintySampler": (
            ("least_confidence", {"measure": "confidence"}),
            ("margin", {"measure": "margin"}),
            ("entropy", {"measure": "entropy"}),
        ),
        "diverseevol.samplers.vendi.VendiSampler": (("vendi", {}),),
    },
    "trainer": {"lightning.Trainer": (("bf16", {"precision": "bf16-mixed"}), ("auto", {}))},
}

VALUES_0_1: Mapping[object, str] = {"diverseevol.lab.world.WORLD": "lab"}  # options that were module paths, too


def choice_of_0_1(group: str, target: object, options: Mapping[str, Any]) -> str | None:
    """The choice that 0.1 wrote down as this target with these options; None where there was none."""
    for choice, marks in TARGETS_0_1.get(group, {}).get(target, ()) if isinstance(target, str) else ():
        if all(options.get(name) == value for name, value in marks.items()):
            return choice
    return None
