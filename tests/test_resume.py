"""An evolution that was cut, wherever that was, ends as if it had not been."""

import dataclasses
import functools
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from diverseevol.data.prompt import Prompt
from diverseevol.data.tokens import encode
from diverseevol.engine.learner import Learner
from diverseevol.engine.pretrained import Pretrained
from diverseevol.errors import InputError
from diverseevol.evaluation.judges.without_model import Gold
from diverseevol.evolution.loop import evolve
from diverseevol.evolution.metrics import DEFAULT, TrainLoss
from diverseevol.evolution.phases import Phases
from diverseevol.lab.dataset import load as lab_rows
from diverseevol.lab.model import foundation_model
from diverseevol.options import Embedding, Generation, LoRA, PromptOptions, Schedule, Tuning
from diverseevol.parallel.processes import Processes
from diverseevol.runs.tracking import NoLogger, RunName, opened
from diverseevol.storage.files import read_json, read_jsonl


class Cut(BaseException):
    """The end of a process, at a point of our choice."""


def facts(folder: Path) -> dict[str, object]:
    """What a run folder says, without how long it took."""
    said: dict[str, object] = {}
    for file in sorted(folder.rglob("*.json*")):
        if "model" not in file.parts:
            said[str(file.relative_to(folder))] = read_json(file) if file.suffix == ".json" else read_jsonl(file)
    for record in said.values():
        if isinstance(record, dict):
            record.pop("seconds", None)
            record.pop("predicted", None)
            record.pop("peak_memory", None)
    return said


def assert_same(found: Path, expected: Path) -> None:
    ours, theirs = facts(found), facts(expected)
    assert ours.keys() == theirs.keys()
    for name in theirs:
        assert ours[name] == theirs[name], name


def in_the_lab(evolution, learner, cache):
    """What `evolution` makes, of some of the lab's rows and with its foundation model."""
    dataset, foundation = lab_rows(size=200, cache=cache), foundation_model()
    prompt = Prompt(foundation.tokenizer(), PromptOptions())
    ours = Learner(
        foundation=foundation, prompt=prompt, encoded=encode(dataset, prompt, cache), trainer=learner.trainer,
        tuning=Tuning(learning_rate=1e-3, steps=3, batch_size=8), embedding=Embedding(batch_tokens=1024),
    )  # fmt: skip
    space = functools.cache(lambda: ours.foundation_embedding(cache / "foundation-in-the-lab"))
    return functools.partial(evolution, dataset=dataset, learner=ours, space=space)


@pytest.fixture(scope="module")
def wholes():
    """Finished evolutions by setting, each made when it is first asked for."""
    return {}


@pytest.fixture(params=[("tiny", 1), ("tiny", 2), pytest.param(("lab", 2), marks=pytest.mark.slow)], ids=str)
def setting(request, wholes, evolution, learner, cache, tmp_path_factory):
    """How an evolution is made, and a finished one: of a model, on so many threads."""
    model, threads = request.param
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    if request.param not in wholes:
        make = evolution if model == "tiny" else in_the_lab(evolution, learner, cache)
        folder = tmp_path_factory.mktemp("whole") / "whole"
        evolve(make(folder, keep_models="all"))
        wholes[request.param] = make, folder
    yield wholes[request.param]
    torch.set_num_threads(before)


def test_a_finished_evolution_does_nothing_again(copy, whole, evolution, idle):
    evolve(evolution(copy, keep_models="all", learner=idle))
    assert_same(copy, whole)


@dataclass(frozen=True)
class Fragile(Learner):
    """A learner whose process ends at a call of our choice: before it begins, or when its work is done."""

    method: str = ""
    count: int = 0
    after: bool = False
    calls: list = field(default_factory=list)

    def _guarded(self, name, call):
        if name != self.method:
            return call()
        self.calls.append(name)
        if len(self.calls) == self.count:
            if self.after:
                call()
            raise Cut
        return call()

    def fit(self, *given, **options):
        return self._guarded("fit", lambda: Learner.fit(self, *given, **options))

    def probe(self, *given, **options):
        return self._guarded("probe", lambda: Learner.probe(self, *given, **options))

    def answer(self, *given, **options):
        return self._guarded("answer", lambda: Learner.answer(self, *given, **options))


@pytest.mark.parametrize(
    ("method", "count", "after"), [("fit", 2, True), ("probe", 2, False), ("probe", 2, True), ("answer", 2, False)]
)
def test_an_evolution_cut_in_a_phase_ends_as_if_it_had_not_been(setting, tmp_path, method, count, after):
    evolution, whole = setting
    learner = evolution(tmp_path).learner
    fields = {f.name: getattr(learner, f.name) for f in dataclasses.fields(Learner)}
    fragile = Fragile(**fields, method=method, count=count, after=after)
    with pytest.raises(Cut):
        evolve(evolution(tmp_path, learner=fragile, keep_models="all"))
    assert (tmp_path / "rounds/00/round.json").exists()
    assert not (tmp_path / "rounds/01/round.json").exists()
    evolve(evolution(tmp_path, keep_models="all"))
    assert_same(tmp_path, whole)


class CutWhile(NoLogger):
    """A tracker in whose call the process ends, in the second round."""

    def __init__(self, method: str) -> None:
        self.method = method

    def open(self, run, folder, config):
        log = super().open(run, folder, config)

        def cut(*given):
            raise Cut

        if run.name == "round-01":
            setattr(log, self.method, cut)
        return log


class CutSecond:
    """A function whose second call ends the process."""

    def __init__(self, call) -> None:
        self.call = call
        self.calls = 0

    def __call__(self, *given):
        self.calls += 1
        if self.calls == 2:
            raise Cut
        return self.call(*given)


@pytest.mark.parametrize("place", ["curve", "measure", "judge", "metrics", "on_round"])
def test_an_evolution_cut_between_phases_ends_as_if_it_had_not_been(setting, tmp_path, monkeypatch, place):
    evolution, whole = setting
    this = evolution(tmp_path, keep_models="all")
    if place == "measure":
        cutting = TrainLoss()
        cutting.measure = CutSecond(cutting.measure)
        cut = dataclasses.replace(this, metrics=[cutting, *DEFAULT[1:]])
    elif place == "judge":
        cut = this
        monkeypatch.setattr(Gold, "judge", CutSecond(functools.partial(Gold.judge, this.exam.judge)))
    elif place == "on_round":
        cut = dataclasses.replace(this, on_round=CutSecond(this.on_round))
    else:
        cut = dataclasses.replace(this, tracker=CutWhile(place))
    with pytest.raises(Cut):
        evolve(cut)
    monkeypatch.undo()
    assert (tmp_path / "rounds/00/round.json").exists()
    assert (tmp_path / "rounds/01/round.json").exists() == (place == "on_round")
    evolve(this)
    assert_same(tmp_path, whole)


@pytest.mark.parametrize(
    "lost",
    [
        ["round.json"],
        ["round.json", "answers", "judgements", "scores.json"],
        ["round.json", "chosen.jsonl"],
        ["round.json", "model", "training.jsonl"],
    ],
    ids=" ".join,
)
def test_a_round_that_lost_files_is_made_whole_again(copy, whole, evolution, lost):
    for name in lost:
        place = copy / "rounds/01" / name
        shutil.rmtree(place) if place.is_dir() else place.unlink()
    evolve(evolution(copy, keep_models="all"))
    # The pool may be embedded in other batches now, which moves a metric in its last digits.
    found, expected = (read_json(folder / "rounds/01/round.json").pop("metrics") for folder in (copy, whole))
    assert found == pytest.approx(expected, rel=1e-5)
    shutil.copy(whole / "rounds/01/round.json", copy / "rounds/01/round.json")
    assert_same(copy, whole)
    assert (copy / "rounds/01/model/model.safetensors").read_bytes() == (
        whole / "rounds/01/model/model.safetensors"
    ).read_bytes()


@pytest.mark.parametrize("keep", ["last", "none"])
def test_rounds_may_grow(copy, whole, evolution, keep):
    short = copy.with_name("short")
    evolve(evolution(short, schedule=Schedule(1, 6, 4), keep_models=keep))
    grown = evolve(evolution(short, keep_models=keep))
    straight = evolve(evolution(copy, keep_models=keep))
    for ours, theirs in zip(grown, straight, strict=True):
        assert (ours.trained_on, ours.chosen) == (theirs.trained_on, theirs.chosen)
        assert ours.metrics == pytest.approx(theirs.metrics, rel=1e-5)
    assert facts(short)["selected.jsonl"] == facts(whole)["selected.jsonl"]
    for t in range(3):
        assert (short / f"rounds/{t:02d}/model").exists() == (copy / f"rounds/{t:02d}/model").exists()
    # And it is a whole evolution: another start finds everything there.
    told: list[bool] = []
    again = evolve(evolution(short, keep_models=keep, on_round=lambda done, fresh: told.append(fresh)))
    assert told == [False] * 3
    assert [(done.trained_on, done.chosen) for done in again] == [(done.trained_on, done.chosen) for done in grown]


def test_answers_to_other_settings_are_not_passed_off_as_these(copy, evolution, exam):
    (copy / "rounds/02/round.json").unlink()
    other = dataclasses.replace(exam, generation=Generation(max_new_tokens=5))
    with pytest.raises(InputError, match=r"small\.jsonl: answers with other generation settings than this run's"):
        evolve(evolution(copy, exam=other, keep_models="all"))


def test_weights_that_are_kept_in_the_checkpoints_precision_are_the_ones_that_are_asked(evolution, learner, tmp_path):
    half = tmp_path / "checkpoint in bfloat16"
    learner.foundation.load().to(torch.bfloat16).save_pretrained(half)
    learner.prompt.tokenizer.save_pretrained(half)
    of_half = dataclasses.replace(learner, foundation=Pretrained(str(half)))
    space = functools.cache(lambda: of_half.foundation_embedding(tmp_path / "space"))

    def run(name: str, **changes) -> Path:
        evolve(evolution(tmp_path / name, learner=of_half, space=space, keep_models="all", **changes))
        return tmp_path / name

    cut, whole, wide = run("cut", keep_dtype="source"), run("whole", keep_dtype="source"), run("wide")
    weights = "rounds/01/model/model.safetensors"
    assert (whole / weights).stat().st_size < 0.6 * (wide / weights).stat().st_size
    assert of_half.foundation.load(whole / "rounds/01/model").dtype == torch.float32
    for file in (cut / "rounds/01").iterdir():  # all that came after the fit of round 1 is done again
        if file.name not in ("model", "training.jsonl"):
            shutil.rmtree(file) if file.is_dir() else file.unlink()
    shutil.rmtree(cut / "rounds/02")
    run("cut", keep_dtype="source")
    assert_same(cut, whole)


@pytest.mark.parametrize("tuning", [Tuning(steps=2), LoRA(steps=2, rank=4)])
def test_every_process_asks_the_weights_that_the_first_one_keeps(evolution, learner, tmp_path, monkeypatch, tuning):
    half = tmp_path / "checkpoint in bfloat16"
    learner.foundation.load().to(torch.bfloat16).save_pretrained(half)
    of_half = dataclasses.replace(learner, foundation=Pretrained(str(half)), tuning=tuning)
    fits = [of_half.fit(np.arange(6), (0,)) for _ in range(2)]
    monkeypatch.setattr(Learner, "fit", lambda self, *arguments, **options: fits[self.processes.rank])
    asked = []
    for rank in (0, 1):
        own = dataclasses.replace(of_half, processes=Processes(rank=rank))  # which waits for nobody
        run = evolution(tmp_path / str(rank), learner=own)
        phases = Phases(0, np.arange(6), run.run.round(0), run.dataset, own, run.streams, run.spaces, "source")
        with opened(NoLogger(), RunName("run", "round-00", "an id"), run.run.path, {}) as log:
            phases.fit(log)
        assert (phases.model() in own.resident) == (tuning.KEPT == "model"), "it leaves the device for the foundation"
        asked.append(dict(phases.model().named_parameters()))
    assert list((tmp_path / "0").rglob("*.safetensors"))
    assert not list((tmp_path / "1").rglob("*.safetensors"))
    trained = [name for name, weight in asked[0].items() if weight.requires_grad]
    assert trained
    for name in trained:
        assert torch.equal(asked[0][name], asked[0][name].to(torch.bfloat16).float())
        assert torch.equal(asked[0][name], asked[1][name])


def test_buffers_are_rounded_with_the_weights_and_whole_numbers_are_kept(learner, tmp_path):
    half = tmp_path / "checkpoint in bfloat16"
    learner.foundation.load().to(torch.bfloat16).save_pretrained(half)
    model = learner.foundation.load()
    model.register_buffer("bias_of_experts", torch.tensor([1.001, 3.0]))
    model.register_buffer("seen", torch.tensor([257]))  # which bfloat16 rounds to 256
    Pretrained(str(half)).save(model, tmp_path / "saved", "source")
    saved = load_file(tmp_path / "saved/model.safetensors")
    assert saved["bias_of_experts"].dtype == torch.bfloat16
    assert (saved["seen"].dtype, saved["seen"].tolist()) == (torch.int64, [257])
    for name, tensor in saved.items():
        assert torch.equal(tensor.to(model.state_dict()[name].dtype), model.state_dict()[name]), name


def test_the_foundations_embedding_has_its_own_seconds(evolution, tmp_path):
    first, *others = evolve(
        evolution(tmp_path / "run", space=lambda: time.sleep(0.2) or np.random.default_rng(0).standard_normal((60, 32)))
    )
    assert first.seconds["foundation"] >= 0.2
    assert first.seconds["measure"] < first.seconds["foundation"] + 30
    assert all("foundation" not in done.seconds for done in others)
