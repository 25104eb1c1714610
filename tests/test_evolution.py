import dataclasses
import itertools
import math
from dataclasses import dataclass, field

import numpy as np
import pytest

from diverseevol.data.text_space import text_embedding
from diverseevol.engine.learner import Learner
from diverseevol.errors import InputError
from diverseevol.evolution.loop import evolve, initial_pool
from diverseevol.evolution.setup import Streams
from diverseevol.geometry.diversity import vendi_score
from diverseevol.options import Schedule
from diverseevol.samplers.base import Needs, Sampler
from diverseevol.samplers.features import Features
from diverseevol.samplers.kcenter import KCenter
from diverseevol.samplers.random import Random
from diverseevol.storage.files import read_json, read_jsonl
from diverseevol.storage.sealed import SEAL

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
        record = {"stopped": None, **read_json(whole / f"rounds/{done.index:02d}/round.json")}
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
        # Rows that can never be picked are not to be covered: they would stay the farthest for ever.
        coverable = space[np.flatnonzero(encoded.eligible)].astype(np.float64)
        distances = np.linalg.norm(coverable[:, None] - space[None, pool], axis=2)
        assert metrics["coverage_radius"] == pytest.approx(distances.min(axis=1).max())
        assert 1 <= metrics["vendi_score"] <= len(pool)
        centred = space[pool].astype(np.float64) - coverable.mean(axis=0)
        assert metrics["vendi_score_centred"] == pytest.approx(vendi_score(centred))
        assert set(record["seconds"]) >= {"fit", "measure", "answer small", "judge"}
        assert record["peak_memory"].keys() == record["seconds"].keys()
        assert all(10**7 < size < 10**11 for size in record["peak_memory"].values())
        assert all(math.isfinite(value) for value in metrics.values())


def test_every_seed_has_a_first_pool_that_all_samplers_share(whole, evolution, tmp_path):
    first = read_json(whole / "rounds/00/round.json")["trained_on"]
    alone = Schedule(0, 6, 0)
    (random,) = evolve(evolution(tmp_path / "random", sampler=Random(), schedule=alone))
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
    with pytest.raises(InputError, match=r"but 0 can be trained on \(1 row has no tokens\); change that, lower"):
        Schedule(0, None, 0).fits(0, "1 row has no tokens")
    with pytest.raises(InputError, match="but 0 can be trained on; lower"):
        Schedule(0, None, 0).fits(0)


# --- what the loop pays for ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Spy(Learner):
    """A learner that notes what it is asked to probe."""

    probed: list = field(default_factory=list)

    def probe(self, model, rows, folder, *, embedding=True, statistics=(), aligned=False, phase="embed"):
        self.probed.append((rows.tolist(), embedding, list(statistics)))
        options = {"embedding": embedding, "statistics": statistics, "aligned": aligned, "phase": phase}
        return super().probe(model, rows, folder, **options)


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
    rounds = evolve(evolution(tmp_path, sampler=Random(), learner=spy))
    assert spy.probed == [(sorted(done.trained_on), True, []) for done in rounds]


def test_a_sampler_in_the_rounds_own_space_costs_one_pass_over_the_rows_that_can_be_chosen(
    evolution, learner, encoded, tmp_path
):
    spy = spied(learner)
    rounds = evolve(evolution(tmp_path, learner=spy))
    eligible = (np.flatnonzero(encoded.eligible).tolist(), True, [])
    assert len(eligible[0]) < len(encoded)
    assert spy.probed == [eligible, eligible, (sorted(rounds[2].trained_on), True, [])]


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
    witness = Witness(Random(), needs)
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
    elif needs.space == "current":
        assert_shown(shown.embedding, embedding, encoded.eligible)
    else:
        np.testing.assert_array_equal(shown.embedding, this.space())
    for name, values in scores.items():
        assert_shown(shown.scores[name], values, encoded.eligible)


def assert_shown(shown, expected, eligible):
    """Rows that can be chosen as they are, in other batches; of the others nothing."""
    np.testing.assert_allclose(shown[eligible], expected[eligible], rtol=1e-5, atol=1e-6)
    assert not eligible.all()
    assert not shown[~eligible].any()


def test_a_sampler_that_goes_by_the_words_asks_no_model(evolution, learner, encoded, dataset, cache, tmp_path):
    read: list[int] = []

    def words() -> np.ndarray:
        read.append(len(dataset))
        return text_embedding(dataset, "all", "float32", cache)

    spy, sampler = spied(learner), KCenter(space="text")
    first, second, last = evolve(evolution(tmp_path, sampler=sampler, learner=spy, text_space=words))
    assert read == [len(dataset)], "once for all rounds"
    assert spy.probed == [(sorted(done.trained_on), True, []) for done in (first, second, last)], "for Vendi-Scores"
    for done in (first, second):
        taken = ~encoded.eligible
        taken[list(done.trained_on)] = True
        tokens = np.where(encoded.eligible, encoded.response_tokens, 0)
        picks = sampler.select(Features(tokens, words()), taken, 4, np.random.default_rng(0))
        lines = read_jsonl(tmp_path / f"rounds/{done.index:02d}/chosen.jsonl")
        assert list(done.chosen) == [line["row"] for line in lines] == picks.rows.tolist()
        assert [line["distance"] for line in lines] == pytest.approx(picks.score.tolist())
        assert {line["space"] for line in lines} == {"text"}
    assert "text" in first.seconds
    assert "text" not in second.seconds


def test_a_round_that_goes_by_the_words_is_taken_up_again(evolution, dataset, cache, tmp_path):
    changes = {"sampler": KCenter(space="text")}
    changes["text_space"] = lambda: text_embedding(dataset, "all", "float32", cache)
    rounds = evolve(evolution(tmp_path, **changes))
    for name in ("rounds/01/round.json", "rounds/01/chosen.jsonl", "rounds/02/round.json"):
        (tmp_path / name).unlink()
    again = evolve(evolution(tmp_path, **changes))
    assert [done.chosen for done in again] == [done.chosen for done in rounds]


def test_an_evolution_without_a_text_space_has_no_sampler_that_needs_one(evolution, tmp_path):
    with pytest.raises(ValueError, match="the evolution has no text_space"):
        evolution(tmp_path, sampler=KCenter(space="text"))


# --- what it leaves -----------------------------------------------------------------------------------------------


def test_a_receipt_tells_how_far_each_pick_was_from_the_pool_and_the_picks_before(evolution, dataset, tmp_path):
    witness = Witness(KCenter(), Needs(space="current"))
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
            assert line["instruction"] == dataset[line["row"]].instruction
            assert line["nearest_instruction"] == dataset[line["nearest"]].instruction
            assert line["response"] == dataset[line["row"]].response.strip()


def test_a_receipt_of_a_sampler_that_embeds_nothing_measures_in_the_foundations_space(evolution, tmp_path):
    this = evolution(tmp_path, sampler=Random(), schedule=Schedule(1, 6, 4))
    first, _ = evolve(this)
    X, lines = this.space().astype(np.float64), read_jsonl(tmp_path / "rounds/00/chosen.jsonl")
    assert len(lines) == 4
    for rank, line in enumerate(lines):
        before = [*first.trained_on, *first.chosen[:rank]]
        assert line["distance"] == pytest.approx(np.linalg.norm(X[before] - X[line["row"]], axis=1).min(), abs=1e-9)
        assert (line["score"], line["score_is"], line["space"]) == (0.0, "none: picked at random", "foundation")


def test_the_selected_rows_are_listed_as_they_joined(whole, dataset):
    rows = read_json(whole / "rounds/02/round.json")["trained_on"]
    assert (whole / "selected.jsonl").read_text().splitlines() == [dataset.line(row) for row in rows]
    receipts = read_jsonl(whole / "receipts.jsonl")
    assert [receipt["row"] for receipt in receipts] == rows
    assert [receipt["joined"] for receipt in receipts] == [0] * 6 + [1] * 4 + [2] * 4
    reasons = ("rank", "score", "score_is", "distance", "nearest")
    of_picks = [line for t in (0, 1) for line in read_jsonl(whole / f"rounds/{t:02d}/chosen.jsonl")]
    for receipt, pick in zip(receipts, [*[dict.fromkeys(reasons)] * 6, *of_picks], strict=True):
        assert list(receipt) == ["row", "joined", *reasons, "source", "tags"]
        assert {key: receipt[key] for key in reasons} == {key: pick[key] for key in reasons}
        assert (receipt["source"], receipt["tags"]) == (dataset.sources[0].name, [])


def test_nothing_half_done_is_left(whole):
    assert not list(whole.rglob("*.partial"))
    names = {file.name for file in (whole / "rounds/01").iterdir()}
    assert names == {
        SEAL,
        "answers",
        "chosen.jsonl",
        "judgements",
        "model",
        "round.json",
        "scores.json",
        "training.jsonl",
    }


@pytest.mark.parametrize(("keep", "kept"), [("all", [0, 1, 2]), ("last", [2]), ("none", [])])
def test_the_models_asked_for_stay(copy, evolution, learner, keep, kept, idle):
    evolve(evolution(copy, keep_models=keep, learner=idle))
    assert [t for t in range(3) if (copy / f"rounds/{t:02d}/model").exists()] == kept
    if kept:
        model = learner.foundation.load(copy / f"rounds/{kept[-1]:02d}/model")
        assert model.num_parameters() == learner.foundation.load().num_parameters()
