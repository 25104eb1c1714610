import dataclasses
import functools
import itertools
import json
import math
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from diverseevol.errors import InputError
from diverseevol.evaluation.judges import GoldJudge
from diverseevol.evolution import evolve, initial_pool
from diverseevol.experiment import Schedule, Streams
from diverseevol.files import read_json, read_jsonl
from diverseevol.generation import Generation
from diverseevol.learner import Learner
from diverseevol.runs import RunFolder
from diverseevol.samplers.base import Needs, Sampler
from diverseevol.samplers.kcenter import KCenterSampler
from diverseevol.samplers.random import RandomSampler
from diverseevol.tracking import NoTracker


class Cut(BaseException):
    """The end of a process, at a point of our choice."""


def no_fit(**options):
    pytest.fail("a trainer was started where nothing was left to do")


def replaced(learner: Learner, **changes) -> Learner:
    return dataclasses.replace(learner, **changes)


def facts(folder: Path) -> dict[str, object]:
    """What a run folder says, without how long it took."""
    said: dict[str, object] = {}
    for file in sorted(folder.rglob("*.json*")):
        if "model" not in file.parts:
            said[str(file.relative_to(folder))] = read_json(file) if file.suffix == ".json" else read_jsonl(file)
    for record in said.values():
        if isinstance(record, dict):
            record.pop("seconds", None)
    return said


def assert_same(found: Path, expected: Path) -> None:
    ours, theirs = facts(found), facts(expected)
    assert ours.keys() == theirs.keys()
    for name in theirs:
        assert ours[name] == theirs[name], name


@pytest.fixture(scope="module")
def whole(evolution, tmp_path_factory) -> Path:
    """A finished evolution, every model kept. To look at; take a copy to change it."""
    folder = tmp_path_factory.mktemp("evolution") / "whole"
    evolve(evolution(folder, keep_models="all"))
    return folder


@pytest.fixture
def copy(whole, tmp_path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "copy"))


# --- what an evolution is ---------------------------------------------------------------------------------------


def test_the_pool_grows_by_what_was_chosen_and_no_row_joins_twice(whole, encoded):
    rounds = [read_json(whole / f"rounds/{t:02d}/round.json") for t in range(3)]
    assert [len(done["trained_on"]) for done in rounds] == [6, 10, 14]
    assert [len(done["chosen"]) for done in rounds] == [4, 4, 0]
    for before, after in itertools.pairwise(rounds):
        assert after["trained_on"] == before["trained_on"] + before["chosen"]
    final = rounds[-1]["trained_on"]
    assert len(set(final)) == len(final)
    assert encoded.eligible[final].all()


def test_what_evolve_gives_is_what_the_folder_says(whole, copy, evolution):
    told: list[tuple[int, bool]] = []
    rounds = evolve(evolution(copy, keep_models="all", on_round=lambda done, fresh: told.append((done.index, fresh))))
    for done in rounds:
        record = read_json(whole / f"rounds/{done.index:02d}/round.json")
        assert dataclasses.asdict(done) == {
            key: tuple(value) if isinstance(value, list) else value
            for key, value in record.items()
            if key not in ("fingerprint", "version")
        }
    assert told == [(0, False), (1, False), (2, False)]


def test_the_metrics_are_what_their_names_say(whole, evolution, encoded):
    space = evolution(whole).space()
    for t in range(3):
        record = read_json(whole / f"rounds/{t:02d}/round.json")
        pool, metrics = record["trained_on"], record["metrics"]
        curve = read_jsonl(whole / f"rounds/{t:02d}/training.jsonl")
        assert metrics["pool_size"] == len(pool)
        assert metrics["train_loss"] == curve[-1]["loss"]
        distances = np.linalg.norm(space[:, None].astype(np.float64) - space[None, pool], axis=2)
        assert metrics["coverage_radius"] == pytest.approx(distances.min(axis=1).max())
        assert 1 <= metrics["vendi_score"] <= len(pool)
        assert 1 <= metrics["vendi_score_centred"] <= len(pool)
        assert set(record["seconds"]) >= {"fit", "measure", "answer small", "judge"}
        assert all(math.isfinite(value) for value in metrics.values())


def test_every_seed_has_a_first_pool_that_all_samplers_share(whole, evolution, tmp_path):
    first = read_json(whole / "rounds/00/round.json")["trained_on"]
    alone = Schedule(0, 6, 0)
    (random,) = evolve(evolution(tmp_path / "random", sampler=RandomSampler(), schedule=alone))
    assert list(random.trained_on) == first
    (other,) = evolve(evolution(tmp_path / "other", schedule=alone, seed=1))
    assert set(other.trained_on) != set(first)


def test_a_smaller_first_pool_is_the_start_of_a_larger_one(encoded):
    eligible = np.flatnonzero(encoded.eligible)
    pools = [initial_pool(eligible, size, Streams(3)).tolist() for size in (5, 20, 59)]
    assert pools[1][:5] == pools[0]
    assert pools[2][:20] == pools[1]
    assert sorted(pools[2]) == eligible.tolist()


def test_streams_differ_by_seed_round_and_purpose_and_by_nothing_else():
    draws = {
        (seed, t, purpose): Streams(seed).generator(t, purpose).integers(2**60)
        for seed in (0, 1) for t in (0, 1) for purpose in ("training", "selection")
    }  # fmt: skip
    assert len(set(draws.values())) == len(draws)
    assert Streams(1).generator(0, "training").integers(2**60) == draws[1, 0, "training"]


def test_no_first_pool_size_means_all_rows_that_can_be_trained_on(evolution, encoded, tmp_path):
    (only,) = evolve(evolution(tmp_path, schedule=Schedule(0, None, 0)))
    assert list(only.trained_on) == np.flatnonzero(encoded.eligible).tolist()
    assert not (tmp_path / "rounds/00/chosen.jsonl").exists()


@pytest.mark.parametrize(
    ("schedule", "sentence"),
    [
        ((-1, 5, 5), "schedule.rounds is -1; it must be at least 0"),
        ((2, 0, 5), "schedule.seed_size is 0; it must be at least 1"),
        ((2, 5, 0), "schedule.step_size is 0; it must be at least 1"),
        ((2, None, 5), "schedule.seed_size is null .all rows., which leaves none to choose"),
    ],
)
def test_schedules_that_cannot_be_are_refused(schedule, sentence):
    with pytest.raises(InputError, match=sentence):
        Schedule(*schedule)


def test_a_schedule_must_fit_the_rows_that_can_be_trained_on(evolution, tmp_path):
    Schedule(7, 10, 7).fits(59)
    Schedule(0, None, 0).fits(1)
    with pytest.raises(InputError, match=r"needs 60 rows \(4 \+ 7 × 8\) but 59 can be trained on; lower"):
        evolve(evolution(tmp_path, schedule=Schedule(7, 4, 8)))
    assert not (tmp_path / "rounds").exists()
    with pytest.raises(InputError, match="but 0 can be trained on"):
        Schedule(0, None, 0).fits(0)


# --- what the loop pays for ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Spy(Learner):
    """A learner that notes what it is asked to probe."""

    probed: list = field(default_factory=list)

    def probe(self, model, rows, folder, *, embedding=True, statistics=(), what="embed"):
        self.probed.append((rows.tolist(), embedding, list(statistics)))
        return super().probe(model, rows, folder, embedding=embedding, statistics=statistics, what=what)


@dataclass(frozen=True)
class Witness:
    """A sampler that notes what it is shown."""

    inner: Sampler
    needs: Needs
    shown: list = field(default_factory=list)

    def select(self, features, taken, n, rng):
        copied = None if features.embedding is None else np.array(features.embedding)
        self.shown.append(dataclasses.replace(features, embedding=copied))
        return self.inner.select(features, taken, n, rng)


def spied(learner: Learner) -> Spy:
    return Spy(**{f.name: getattr(learner, f.name) for f in dataclasses.fields(Learner)})


def test_random_choice_embeds_nothing_but_its_pool(evolution, learner, tmp_path):
    spy = spied(learner)
    rounds = evolve(evolution(tmp_path, sampler=RandomSampler(), learner=spy))
    assert spy.probed == [(sorted(done.trained_on), True, []) for done in rounds]


def test_a_sampler_in_the_rounds_own_space_costs_one_pass_over_all_rows(evolution, learner, encoded, tmp_path):
    spy = spied(learner)
    rounds = evolve(evolution(tmp_path, learner=spy))
    everything = (list(range(len(encoded))), True, [])
    assert spy.probed == [everything, everything, (sorted(rounds[2].trained_on), True, [])]


@pytest.mark.parametrize(
    "needs",
    [
        Needs(),
        Needs(space="foundation"),
        Needs(statistics=frozenset({"response_loss"})),
        Needs(space="current", statistics=frozenset({"response_entropy", "reference_margin"})),
    ],
)
def test_a_sampler_is_shown_what_it_needs_and_nothing_more(evolution, learner, encoded, tmp_path, needs):
    witness = Witness(RandomSampler(), needs)
    this = evolution(tmp_path / "run", sampler=witness, schedule=Schedule(1, 6, 4), keep_models="all")
    evolve(this)
    (shown,) = witness.shown
    assert set(shown.scores) == needs.statistics
    np.testing.assert_array_equal(shown.response_tokens, encoded.response_tokens)
    model = learner.foundation.load(this.run.round(0).model).eval()
    everything = np.arange(len(encoded))
    embedding, scores = learner.probe(model, everything, tmp_path / "again", statistics=sorted(needs.statistics))
    if needs.space == "none":
        assert shown.embedding is None
    else:
        expected = embedding if needs.space == "current" else this.space()
        np.testing.assert_array_equal(shown.embedding, expected)
    for name, values in scores.items():
        np.testing.assert_array_equal(shown.scores[name], values)


# --- what it leaves -----------------------------------------------------------------------------------------------


def test_a_receipt_tells_how_far_each_pick_was_from_the_pool_and_the_picks_before(evolution, source, tmp_path):
    witness = Witness(KCenterSampler(), Needs(space="current"))
    rounds = evolve(evolution(tmp_path, sampler=witness))
    for done, shown in zip(rounds, witness.shown, strict=False):
        lines = read_jsonl(tmp_path / f"rounds/{done.index:02d}/chosen.jsonl")
        X = shown.embedding.astype(np.float64)
        assert [line["row"] for line in lines] == list(done.chosen)
        for rank, line in enumerate(lines):
            before = [*done.trained_on, *done.chosen[:rank]]
            distances = np.linalg.norm(X[before] - X[line["row"]], axis=1)
            assert line["rank"] == rank
            assert line["distance"] == pytest.approx(distances.min())
            assert line["score"] == pytest.approx(line["distance"])
            assert line["nearest"] == before[int(distances.argmin())]
            assert line["instruction"] == source[line["row"]].instruction
            assert line["nearest_instruction"] == source[line["nearest"]].instruction
            assert line["response"] == source[line["row"]].response.strip()


def test_a_receipt_without_a_space_has_no_distances(evolution, tmp_path):
    evolve(evolution(tmp_path, sampler=RandomSampler(), schedule=Schedule(1, 6, 4)))
    lines = read_jsonl(tmp_path / "rounds/00/chosen.jsonl")
    assert len(lines) == 4
    for line in lines:
        assert (line["distance"], line["nearest"], line["nearest_instruction"], line["score"]) == (None,) * 3 + (0.0,)


def test_the_selected_rows_are_listed_as_they_joined(whole, source):
    lines = read_jsonl(whole / "selected.jsonl")
    assert [line["row"] for line in lines] == read_json(whole / "rounds/02/round.json")["trained_on"]
    assert [line["joined"] for line in lines] == [0] * 6 + [1] * 4 + [2] * 4
    for line in lines:
        assert line["record"] == source.record(line["row"])
        assert set(line["record"]) >= {"instruction", "output"}


def test_nothing_half_done_is_left(whole):
    assert not list(whole.rglob("*.partial"))
    names = {file.name for file in (whole / "rounds/01").iterdir()}
    assert names == {"answers", "chosen.jsonl", "judgements", "model", "round.json", "scores.json", "training.jsonl"}


@pytest.mark.parametrize(("keep", "kept"), [("all", [0, 1, 2]), ("last", [2]), ("none", [])])
def test_the_models_asked_for_stay(copy, evolution, learner, keep, kept):
    evolve(evolution(copy, keep_models=keep, learner=replaced(learner, trainer=no_fit)))
    assert [t for t in range(3) if (copy / f"rounds/{t:02d}/model").exists()] == kept
    if kept:
        model = learner.foundation.load(copy / f"rounds/{kept[-1]:02d}/model")
        assert model.num_parameters() == learner.foundation.load().num_parameters()


# --- what a crash costs -------------------------------------------------------------------------------------------


def test_a_finished_evolution_does_nothing_again(copy, whole, evolution, learner):
    evolve(evolution(copy, keep_models="all", learner=replaced(learner, trainer=no_fit)))
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
def test_an_evolution_cut_in_a_phase_ends_as_if_it_had_not_been(
    whole, evolution, learner, tmp_path, method, count, after
):
    fields = {f.name: getattr(learner, f.name) for f in dataclasses.fields(Learner)}
    fragile = Fragile(**fields, method=method, count=count, after=after)
    with pytest.raises(Cut):
        evolve(evolution(tmp_path, learner=fragile, keep_models="all"))
    assert (tmp_path / "rounds/00/round.json").exists()
    assert not (tmp_path / "rounds/01/round.json").exists()
    evolve(evolution(tmp_path, keep_models="all"))
    assert_same(tmp_path, whole)


class CutWhile(NoTracker):
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
def test_an_evolution_cut_between_phases_ends_as_if_it_had_not_been(whole, evolution, tmp_path, monkeypatch, place):
    this = evolution(tmp_path, keep_models="all")
    if place == "measure":
        cut = dataclasses.replace(this, space=CutSecond(this.space))
    elif place == "judge":
        cut = this
        monkeypatch.setattr(GoldJudge, "judge", CutSecond(functools.partial(GoldJudge.judge, this.exam.judge)))
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


def test_fewer_rounds_are_the_start_of_more(copy, whole, evolution):
    rounds = evolve(evolution(copy, schedule=Schedule(1, 6, 4), keep_models="all"))
    assert [done.index for done in rounds] == [0, 1]
    assert read_json(copy / "rounds/02/round.json") == read_json(whole / "rounds/02/round.json")


def test_answers_to_other_settings_are_not_passed_off_as_these(copy, evolution, exam):
    (copy / "rounds/02/round.json").unlink()
    other = dataclasses.replace(exam, generation=Generation(max_new_tokens=5))
    with pytest.raises(InputError, match=r"small\.jsonl: answers with other generation settings than this run's"):
        evolve(evolution(copy, exam=other, keep_models="all"))


# --- what cannot be trusted ---------------------------------------------------------------------------------------


def test_a_folder_of_another_evolution_is_refused_by_the_key_that_differs(tmp_path):
    RunFolder(tmp_path, {"seed": 0, "sampler.metric": "euclidean"}).claim("seed: 0\n")
    RunFolder(tmp_path, {"sampler.metric": "euclidean", "seed": 0}).claim("seed: 0 # again\n")
    assert (tmp_path / "config.yaml").read_text() == "seed: 0 # again\n"
    other = RunFolder(tmp_path, {"seed": 0, "sampler.metric": "cosine", "sampler.whiten": 8})
    with pytest.raises(InputError) as caught:
        other.claim("seed: 0\n")
    message = str(caught.value)
    assert 'sampler.metric (there "euclidean", here "cosine")' in message
    assert "sampler.whiten (there null, here 8)" in message
    assert "seed" not in message.replace("seed:", "").replace(str(tmp_path), "")
    assert read_json(tmp_path / "fingerprint.json") == {"seed": 0, "sampler.metric": "euclidean"}
    assert (tmp_path / "config.yaml").read_text() == "seed: 0 # again\n"


def test_rounds_without_a_fingerprint_are_not_trusted(copy):
    with pytest.raises(InputError, match=r"fingerprint\.json: missing, so the rounds beside it cannot be trusted"):
        RunFolder(copy, {"what": "a test"}).claim("")


@pytest.mark.parametrize(
    ("edit", "sentence"),
    [
        (lambda text: text[: len(text) // 2], r"round\.json: not valid JSON"),
        (lambda text: "", r"round\.json: not valid JSON"),
        (lambda text: "[]", r"round\.json: lacks index, trained_on, chosen"),
        (lambda text: json.dumps({**json.loads(text), "index": 2}), "its index is 2 where 1 belongs"),
        (lambda text: json.dumps({**json.loads(text), "fingerprint": "0"}), 'its fingerprint is "0" where'),
        (lambda text: json.dumps({**json.loads(text), "trained_on": [1]}), r"its trained_on is \[1\] where \["),
        (lambda text: json.dumps({**json.loads(text), "chosen": [1, 2]}), r"its chosen is \[1, 2\] where \["),
        (
            lambda text: json.dumps({key: value for key, value in json.loads(text).items() if key != "metrics"}),
            r"round\.json: lacks metrics; restore it",
        ),
    ],
)
def test_an_edited_round_is_refused(copy, evolution, learner, edit, sentence):
    file = copy / "rounds/01/round.json"
    file.write_text(edit(file.read_text()))
    with pytest.raises(InputError, match=sentence):
        evolve(evolution(copy, learner=replaced(learner, trainer=no_fit)))


def test_an_edited_receipt_is_refused(copy, evolution, learner):
    file = copy / "rounds/00/chosen.jsonl"
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(lines[::-1]))
    with pytest.raises(InputError, match=r"rounds/00/round\.json: its chosen is"):
        evolve(evolution(copy, learner=replaced(learner, trainer=no_fit)))


def test_a_second_process_is_refused_while_the_first_is_at_work(tmp_path):
    first, second = RunFolder(tmp_path, {}), RunFolder(tmp_path, {})
    with first.locked(), pytest.raises(InputError, match="another process is at work in this folder"), second.locked():
        pytest.fail("two processes hold one folder")
    with second.locked():
        pass


def test_taking_the_folder_sweeps_what_a_crash_left_half_written(tmp_path):
    (tmp_path / "rounds/00/model.partial").mkdir(parents=True)
    (tmp_path / "rounds/00/model.partial/config.json").touch()
    (tmp_path / "rounds/00/chosen.jsonl.partial").touch()
    (tmp_path / "rounds/00/training.jsonl").touch()
    with RunFolder(tmp_path, {}).locked():
        assert sorted(file.name for file in (tmp_path / "rounds/00").iterdir()) == ["training.jsonl"]


def test_a_round_is_named_alike_on_every_resume_and_otherwise_never(tmp_path):
    run = RunFolder(tmp_path / "a", {"seed": 0})
    assert run.round_id(1) == RunFolder(tmp_path / "a", {"seed": 0}).round_id(1)
    others = [RunFolder(tmp_path / "a", {"seed": 1}), RunFolder(tmp_path / "b", {"seed": 0})]
    ids = {run.round_id(1), run.round_id(2), *(other.round_id(1) for other in others)}
    assert len(ids) == 4
