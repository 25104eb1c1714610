"""Every file in conf/ composes, and everything that it names exists and takes the options that it gives."""

import dataclasses
import functools
import inspect
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf

from diverseevol.cli.binding import bind, check, target_of
from diverseevol.cli.checked_options import schedule_of as command_schedule_of
from diverseevol.cli.checked_options import tuning_of
from diverseevol.cli.configuration import configure
from diverseevol.cli.mistakes import check_choices
from diverseevol.errors import InputError
from diverseevol.options import Budget, Efficiency, Embedding, Generation, LoRA, PromptOptions, Schedule, Tuning
from diverseevol.output.console import Console

CONF = Path(__file__).parents[1] / "conf"
ROOTS = sorted(file.stem for file in CONF.glob("*.yaml"))
CHOICES = sorted((file.parent.relative_to(CONF).as_posix(), file.stem) for file in CONF.glob("*/**/*.yaml"))
PLAIN = {
    "prompt": PromptOptions,
    "embedding": Embedding,
    "tuning": Tuning,
    "generation": Generation,
    "efficiency": Efficiency,
    "budget": Budget,
    "schedule": Schedule,
}


def composed(root: str, *overrides: str) -> DictConfig:
    """A configuration, with something given for everything that must be."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose(root, list(overrides))
    for key in OmegaConf.missing_keys(config):
        OmegaConf.update(config, key, "given")
    return config


@functools.cache
def groups(root: str) -> frozenset[str]:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return frozenset(compose(root, return_hydra_config=True).hydra.runtime.choices)


def targets(node: Any, path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """All nodes below that name something to call."""
    if isinstance(node, dict):
        if "_target_" in node:
            yield path, node
        for key, value in node.items():
            yield from targets(value, f"{path}.{key}" if path else key)


def assert_binds(config: DictConfig) -> None:
    plain = OmegaConf.to_container(config, resolve=True)
    assert isinstance(plain, dict)
    for path, node in targets(plain, ""):
        target = get_object(node["_target_"])
        given = {key: value for key, value in node.items() if not key.startswith("_")}
        check(target, {key: value for key, value in given.items() if not isinstance(value, dict)}, path)
        if not node.get("_partial_"):
            # What a command adds it gives by keyword alone; all else must be there.
            needed = [
                name for name, parameter in inspect.signature(target).parameters.items()
                if parameter.kind is parameter.POSITIONAL_OR_KEYWORD and parameter.default is parameter.empty
            ]  # fmt: skip
            assert set(needed) <= set(given), path
    for key, kind in PLAIN.items():
        if key in plain:
            bind(LoRA if key == "tuning" and "rank" in plain[key] else kind, plain[key], key)


@pytest.mark.parametrize("root", ROOTS)
def test_every_command_composes_as_it_stands(root):
    assert_binds(composed(root))


@pytest.mark.parametrize(("group", "choice"), CHOICES)
def test_every_choice_composes_and_binds(group, choice):
    root = next((root for root in ("evolve", *ROOTS) if group in groups(root)), None)
    assert root, f"no command has a group {group}"
    assert_binds(composed(root, f"{group}={choice}"))


def test_what_a_command_lists_is_there():  # every group of a command's defaults has the choice that it names
    with initialize_config_dir(str(CONF), version_base="1.3"):
        for root in ROOTS:
            choices = compose(root, return_hydra_config=True).hydra.runtime.choices
            for group, choice in choices.items():
                if "/" not in group and choice not in (None, "null"):
                    assert (CONF / group / f"{choice}.yaml").is_file(), (root, group)


def schedule_of(*overrides: str) -> Schedule:
    return bind(Schedule, OmegaConf.to_container(composed("evolve", *overrides).schedule, resolve=True), "schedule")


@pytest.mark.parametrize(("data", "rounds", "seed", "step"), [("json", 10, 100, 100), ("lab", 7, 40, 40)])
def test_a_schedule_means_the_sizes_of_the_data_whichever_comes_first(data, rounds, seed, step):
    for order in (list, reversed):
        schedules = {
            name: schedule_of(*order([f"schedule={name}", f"data={data}"])) for name in ("iterative", "one_time")
        }
        assert schedules["iterative"] == Schedule(rounds, seed, step)
        assert schedules["one_time"] == Schedule(1, seed, rounds * step), "one selection to the same final size"
    assert schedule_of(f"data={data}", "schedule=full") == Schedule(0, None, 0)
    assert schedule_of(f"data={data}", "schedule.step_size=7", "sizes.seed=9") == Schedule(rounds, 9, 7)


@pytest.mark.parametrize("data", ["json", "dolly"])
def test_the_lab_brings_its_own_model_and_benchmark_and_other_data_nothing_of_it(data):
    lab, other = composed("evolve"), composed("evolve", f"data={data}")
    assert lab == composed("evolve", "data=lab")
    assert (lab.model._target_, lab.benchmark.name) == ("diverseevol.lab.foundation_model", "lab")
    assert "diverseevol.lab" not in OmegaConf.to_yaml(other)
    assert other.benchmark._target_.endswith(".none")
    chosen = composed("evolve", "data=lab", "model=tiny", "benchmark=lab_natural")
    assert (chosen.model._target_.split(".")[-1], chosen.benchmark.name) == ("TinyLlama", "lab_natural")
    assert composed("select", "data=lab").model == lab.model


def test_the_paper_is_the_default_where_no_choice_says_otherwise():
    config = composed("evolve", "data=json", "model=hf", "benchmark=paper")
    tuning = bind(Tuning, OmegaConf.to_container(config.tuning, resolve=True), "tuning")
    assert tuning == Tuning(learning_rate=2e-5, epochs=3, steps=None, batch_size=64, warmup_ratio=0.03)
    assert schedule_of("data=json") == Schedule(10, 100, 100)
    assert bind(PromptOptions, OmegaConf.to_container(config.prompt), "prompt") == PromptOptions("alpaca", 512)
    assert (config.generation.max_new_tokens, config.generation.temperature) == (1024, 0.7)
    assert (config.sampler.metric, config.sampler.space, config.embedding.region) == ("euclidean", "current", "all")


@pytest.mark.parametrize("root", ROOTS)
def test_the_options_of_a_command_have_one_default_each(root):
    """What the code takes where nothing is said is what the configuration says."""
    other_data = ["data=json"] if "data" in groups(root) else []  # the lab brings sizes of its own
    plain = OmegaConf.to_container(composed(root, *other_data), resolve=True)
    for key, kind in PLAIN.items():
        if isinstance(node := plain.get(key), dict):
            assert {key: node} == {key: dataclasses.asdict(kind())}


def fallback(value: Any) -> Any:
    """What stands in a file for an option, or what it falls back on where another option decides."""
    found = re.fullmatch(r"\$\{oc\.select:[^,]+,(.*)\}", value) if isinstance(value, str) else None
    return yaml.safe_load(found[1]) if found else value


def test_the_options_of_a_choice_have_one_default_each():
    """Options without a value of their own in the code, and those that name other options, have none to agree with."""
    compared = set()
    for file in sorted(CONF.rglob("*.yaml")):
        for path, node in targets(yaml.safe_load(file.read_text()), file.stem):
            for name, parameter in inspect.signature(get_object(node["_target_"])).parameters.items():
                value = fallback(node.get(name, "???"))
                if parameter.default in (parameter.empty, None) or str(value).startswith(("???", "${")):
                    continue
                if name == "strategy":  # the engine's own; Lightning's default is for processes that it starts itself
                    continue
                assert value == parameter.default, f"{file.name}: {path}.{name}"
                compared.add(f"{path}.{name}")
    assert len(compared) > 50
    assert {"kcenter.metric", "openai.retries", "lab.benchmark.world"} <= compared


@pytest.mark.parametrize(
    ("overrides", "full", "lora"),
    [
        (["data=json", "model=hf"], 2e-5, 2e-4),
        (["data=json", "model=tiny"], 3e-3, 1e-2),
        (["data=lab"], 1e-3, 3e-3),
        (["experiment=paper_dolly"], 2e-5, 2e-4),
        (["experiment=smollm2_dolly"], 1e-4, 1e-3),
    ],
)
def test_a_model_that_brings_a_learning_rate_brings_that_of_adapters_too(overrides, full, lora):
    rates = [composed("evolve", *overrides, f"tuning={choice}").tuning.learning_rate for choice in ("full", "lora")]
    assert [float(rate) for rate in rates] == [full, lora]


def test_the_defaults_of_adapters_are_those_of_their_class():
    settings = configure("evolve", ["tuning=lora", "data=json", "data.path=rows.jsonl", "model.path=MODEL"])
    assert tuning_of(settings) == LoRA()


def target(
    name: str, size: int = 1, share: float = 0.5, kind: Literal["a", "b"] = "a", path: Path | None = None,
    on: bool = True,
) -> tuple[Any, ...]:  # fmt: skip
    return name, size, share, kind, path, on


def test_values_that_fit_are_passed_on():
    values = {"name": "x", "size": 3, "share": 2, "kind": "b", "path": "a/b", "on": False}
    assert bind(target, values, "some") == ("x", 3, 2.0, "b", "a/b", False)
    assert isinstance(bind(target, {"name": "x", "share": 2}, "some")[2], float)
    assert bind(target, {"name": "x", "path": None}, "some")[4] is None


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"shares": 1}, "some.shares is not an option; did you mean share?"),
        ({"zzz": 1}, "some.zzz is not an option; choose from name, size, share, kind, path, on"),
        ({"size": 1.5}, "some.size is 1.5, which is not a whole number"),
        ({"size": True}, "some.size is True, which is not a whole number"),
        ({"size": None}, "some.size is None, which is not a whole number"),
        ({"share": "much"}, "some.share is 'much', which is not a number"),
        ({"name": 3}, "some.name is 3, which is not a text"),
        ({"kind": "c"}, "some.kind is 'c', which is not a or b"),
        ({"path": 3}, "some.path is 3, which is not a path or null"),
        ({"on": 1}, "some.on is 1, which is not true or false"),
    ],
)
def test_values_that_do_not_fit_are_named_with_what_would(values, sentence):
    with pytest.raises(InputError) as caught:
        bind(target, {"name": "x", **values}, "some")
    assert str(caught.value) == sentence


def test_options_in_place_of_an_object_are_answered_with_what_makes_one():
    def of_a_part(part: Console | None = None) -> object:
        return part

    with pytest.raises(InputError) as caught:
        bind(of_a_part, {"part": {"width": 9}}, "some")
    made = "a Console made by some.part._target_=MODULE.NAME or null"
    assert str(caught.value) == f"some.part is {{'width': 9}}, which is not {made}"


def test_a_target_that_takes_anything_is_left_to_itself():
    def anything(size: int = 1, **further: object) -> object:
        return size, further

    assert bind(anything, {"size": 2, "other": "x"}, "some") == (2, {"other": "x"})
    with pytest.raises(InputError, match=r"some\.size is 'x', which is not a whole number"):
        bind(anything, {"size": "x"}, "some")


def of_kinds(
    share: float = 0.5, texts: Mapping[str, str | None] | None = None, places: Sequence[str] = (), size: int = 1,
    name: str = "x", worker: Callable[[], int] | None = None,
) -> None:  # fmt: skip
    pass


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"share": math.inf}, "some.share is inf, which is not a finite number"),
        ({"share": math.nan}, "some.share is nan, which is not a finite number"),
        ({"share": 10**400}, f"some.share is 1{'0' * 76}…, which is too large a number; give one below 2^63"),
        ({"size": 2**63}, "some.size is 9223372036854775808, which is too large a number; give one below 2^63"),
        ({"size": -(2**63) - 1}, "some.size is -9223372036854775809, which is too large a number; give one below 2^63"),
        ({"size": [1]}, "some.size is [1], which is not a whole number"),
        ({"name": {"a": 1}}, "some.name is {'a': 1}, which is not a text"),
        (
            {"name": "a\0b"},
            "some.name is 'a\\x00b', which is not a text that can be used, for it holds a NUL character",
        ),
        (
            {"name": "a\udcffb"},
            "some.name is 'a\\udcffb', which is not a text that can be used, for it is not Unicode; write it in UTF-8",
        ),
        ({"texts": 3}, "some.texts is 3, which is not texts by name or null"),
        ({"texts": {"a": 3}}, "some.texts is {'a': 3}, which is not texts by name or null"),
        ({"places": "a"}, "some.places is 'a', which is not a list"),
        ({"places": ["a", None]}, "some.places is ['a', None], which is not a list"),
    ],
)
def test_values_that_fit_nothing_are_refused(values, sentence):
    with pytest.raises(InputError) as caught:
        bind(of_kinds, values, "some")
    assert str(caught.value) == sentence


@pytest.mark.parametrize(
    ("node", "sentence"),
    [
        ({}, "some._target_ is None, expected MODULE.NAME of something to call; choose some=…"),
        ({"_target_": 3}, "some._target_ is 3, expected MODULE.NAME of something to call; choose some=…"),
        ({"_target_": "os.sep"}, "some._target_ is 'os.sep', expected MODULE.NAME of something to call; choose some=…"),
        ({"_target_": "nosuch.thing"}, "some._target_ is 'nosuch.thing', which cannot be imported ("),
        ({"_target_": "test_configs.of_kinds", "_args_": [1]}, "some._args_ is not an option; leave it out"),
        ({"_target_": "test_configs.of_kinds", "_partial_": True}, "some._partial_ is True, which is not false; leave"),
        ({"_target_": "test_configs.of_kinds", "worker": 3}, "some.worker is 3, which is not "),
        (
            {"_target_": "test_configs.of_kinds", "worker": {"_target_": "test_configs.of_kinds", "size": "x"}},
            "some.worker.size is 'x', which is not a whole number",
        ),
    ],
)
def test_a_node_that_cannot_be_called_is_refused_before_anything_is(node, sentence):
    with pytest.raises(InputError) as caught:
        target_of(node, "some", partial=False, locate=get_object)
    assert str(caught.value).startswith(sentence)


@pytest.mark.parametrize("sizes", [["rounds=2"], ["seed_size=8"], ["rounds=3", "step_size=8", "seed_size=8"]])
def test_all_rows_at_once_have_no_sizes(sizes):
    with pytest.raises(
        InputError, match=r"schedule=full trains on all rows at once, so that schedule\..* leave (it|them) out"
    ):
        command_schedule_of(configure("evolve", ["schedule=full", *(f"schedule.{size}" for size in sizes)]))
    assert command_schedule_of(configure("evolve", ["schedule=full", "sizes.rounds=9"])) == Schedule(0, None, 0)


@pytest.mark.parametrize(
    ("argument", "sentence"),
    [
        ("logger=[csv,none]", r"logger=\[csv,none\]: logger takes one choice, expected one of csv, none"),
        ("judge=[gold]", r"judge=\[gold\]: judge takes one choice"),
        ("sampler=[kcenter,random]", r"sampler takes one choice, .* to run several, give -m and commas"),
        ("data=3", "data=3: data takes the name of a choice"),
    ],
)
def test_a_group_takes_the_name_of_one_choice(argument, sentence):
    with pytest.raises(InputError, match=sentence):
        check_choices([argument])
    check_choices(["sampler=kcenter,random", "sampler=kcenter", "seed=[1,2]", "~judge", "experiment=[paper]", "a=[b"])
