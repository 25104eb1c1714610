"""Public names are kept from release to release, configurations use no others, and they cost nothing until used."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hydra.utils import get_object

ROOT = Path(__file__).parents[1]
PUBLIC = {
    "benchmarks": ["Benchmark", "Question", "load", "load_paper", "none"],
    "cli": ["NoteSweep"],
    "data": ["Conversation", "Dataset", "Turn", "exchange", "load"],
    "judges": [
        "AnswerSheet", "Capabilities", "Gold", "Judgement", "Local", "NoJudge", "OpenAI", "Overlap", "Replay",
    ],
    "lab": ["benchmark", "both", "development", "foundation_model", "load", "natural"],
    "loggers": ["CSV", "NoLogger", "TensorBoard", "Wandb"],
    "lab.metrics": ["DuplicateShare", "NoisyShare", "SkillsCovered"],
    "metrics": [
        "CoverageRadius", "Estimate", "HeldOutLoss", "MeasuredRound", "Metric", "ReferenceLoss", "TrainLoss",
        "VendiScore", "VendiScoreCentred", "VendiScoreCurrent",
    ],
    "models": ["Pretrained", "TinyLlama"],
    "samplers": [
        "FacilityLocation", "Features", "KCenter", "KMeans", "Longest", "Needs", "QueryByCommittee", "Quota",
        "Random", "Sampler", "Selection", "Stratified", "UncertainKCenter", "Uncertainty", "Vendi",
    ],
}  # fmt: skip
NAMES = [f"diverseevol.{module}.{name}" for module, names in PUBLIC.items() for name in names]
LAZY = [module for module in PUBLIC if module not in ("cli", "lab", "lab.metrics")]


def targets(node: object) -> list[str]:
    """Every `_target_` of a YAML file."""
    inner = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    mine = [node["_target_"]] if isinstance(node, dict) and "_target_" in node else []
    return mine + [target for part in inner for target in targets(part)]


@pytest.mark.parametrize("name", NAMES)
def test_a_public_name_stands_for_something_to_use(name):
    assert callable(get_object(name))


@pytest.mark.parametrize(
    "file", sorted((ROOT / "conf").rglob("*.yaml")), ids=lambda file: f"{file.parent.name}/{file.stem}"
)
def test_configurations_use_public_names(file):
    assert {*targets(yaml.safe_load(file.read_text()))} <= {*NAMES, "lightning.Trainer"}


@pytest.mark.parametrize("module", LAZY)
def test_a_public_module_has_the_pinned_names_for_people_and_for_the_type_checker(module):
    public = get_object(f"diverseevol.{module}")
    assert dir(public) == PUBLIC[module]
    (block,) = [node for node in ast.parse(Path(public.__file__).read_text()).body if isinstance(node, ast.If)]
    typed = {name.asname: (line.module, name.name) for line in block.body for name in line.names}
    assert sorted(typed) == PUBLIC[module]
    for name, (home, attribute) in typed.items():
        assert getattr(public, name) is get_object(f"{home}.{attribute}")
    with pytest.raises(AttributeError, match=f"module 'diverseevol.{module}' has no attribute 'Nonsense'"):
        public.Nonsense  # noqa: B018


def test_public_modules_import_nothing_until_a_name_is_used():
    script = f"""
import importlib, json, sys
for module in {LAZY}:
    importlib.import_module(f"diverseevol.{{module}}")
print(json.dumps([name for name in sys.modules if name.startswith("diverseevol") or name in ("numpy", "torch")]))
"""
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=600)
    assert sorted(json.loads(said.stdout)) == sorted(
        ["diverseevol", "diverseevol.public", *(f"diverseevol.{module}" for module in LAZY)]
    )
