import dataclasses
import math
from weakref import WeakSet

import lightning
import numpy as np
import pytest
import torch
from transformers import LlamaForCausalLM

from diverseevol.cli.binding import bind
from diverseevol.engine.probing.probe import Probe, pooled
from diverseevol.engine.probing.token_statistics import NAMES, token_statistics
from diverseevol.engine.tuning.batches import probe_loader
from diverseevol.errors import InputError
from diverseevol.options import Embedding

REGIONS = ("all", "response", "instruction")
ROWS = np.array([0, 1, 2, 5, 7, 18, 20, 59])  # 7 has no response within 512 tokens


def probe(learner, folder, model=None, rows=ROWS, statistics=(), embedding=True, **changes):
    learner = dataclasses.replace(learner, embedding=dataclasses.replace(learner.embedding, **changes))
    model = model or learner.foundation.load().eval()
    found, scores = learner.probe(model, rows, folder, embedding=embedding, statistics=statistics)
    return None if found is None else ByRow(rows, found), {name: ByRow(rows, score) for name, score in scores.items()}


class ByRow:
    """What was probed, asked for by row number: `Learner.probe` gives it in the order of the rows it was given."""

    def __init__(self, rows, array):
        assert len(array) == len(rows)
        self.rows, self.array = rows, array

    def __getitem__(self, row):
        return self.array[np.searchsorted(self.rows, row)]

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self.array, dtype)


def outputs(model, encoded, row):
    """Last hidden states and logits of one row on its own, in float64."""
    ids = torch.tensor(encoded.row(row).astype(np.int64))[None]
    with torch.no_grad():
        out = model(input_ids=ids, output_hidden_states=True)
    return out.hidden_states[-1][0].double(), out.logits[0].double()


def oracle(z: torch.Tensor, next_ids: torch.Tensor) -> dict[str, torch.Tensor]:
    """Each statistic at each position, as its definition says."""
    p, raw, i = z.softmax(dim=-1), z.sort(dim=-1).values, torch.arange(len(z))
    top = p.sort(dim=-1).values
    entropy = -torch.special.xlogy(p, p).sum(dim=-1)
    values = (raw[:, -1], raw[:, -1] - raw[:, -2], entropy, top[:, -1], top[:, -1] - top[:, -2], entropy)
    names = [f"{family}_{what}" for family in ("reference", "response") for what in ("confidence", "margin", "entropy")]
    return dict(zip(names, values, strict=True)) | {"response_loss": -z.log_softmax(dim=-1)[i, next_ids]}


def row_oracle(z: torch.Tensor, ids: np.ndarray, start: int) -> dict[str, float]:
    """The row's statistics: reference ones over all tokens, response ones where a response token is predicted."""
    next_ids = torch.tensor([*ids[1:], 0], dtype=torch.int64)
    where = {"reference": slice(0, len(ids)), "response": slice(start - 1, len(ids) - 1)}
    return {name: value[where[name.split("_")[0]]].mean().item() for name, value in oracle(z, next_ids).items()}


@pytest.mark.usefixtures("engine_path")
@pytest.mark.parametrize("region", REGIONS)
def test_an_embedding_is_the_mean_of_the_last_hidden_states_over_its_region(learner, encoded, tmp_path, region):
    embedding, scores = probe(learner, tmp_path, region=region)
    assert not scores
    model = learner.foundation.load().eval()
    for row in ROWS.tolist():
        start = int(encoded.lengths[row] - encoded.response_tokens[row])
        hidden, _ = outputs(model, encoded, row)
        part = {"all": hidden, "response": hidden[start:], "instruction": hidden[:start]}[region]
        expected = part.mean(dim=0).numpy() if len(part) else np.zeros(hidden.shape[1])
        np.testing.assert_allclose(embedding[row], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.usefixtures("engine_path")
def test_each_statistic_is_what_its_definition_says(learner, encoded, tmp_path):
    _, scores = probe(learner, tmp_path, statistics=sorted(NAMES), embedding=False)
    model = learner.foundation.load().eval()
    assert set(scores) == NAMES
    for row in ROWS[encoded.eligible[ROWS]].tolist():
        _, z = outputs(model, encoded, row)
        start = int(encoded.lengths[row] - encoded.response_tokens[row])
        for name, value in row_oracle(z, encoded.row(row), start).items():
            assert scores[name][row] == pytest.approx(value, rel=1e-4), name
    assert all(np.isfinite(values).all() for values in scores.values())


@pytest.mark.usefixtures("engine_path")
@pytest.mark.parametrize("region", REGIONS)
def test_a_row_reads_the_same_in_any_batch(learner, tmp_path, region):
    alone, scores_alone = probe(learner, tmp_path / "1", region=region, statistics=sorted(NAMES), batch_tokens=1)
    together, scores = probe(learner, tmp_path / "2", region=region, statistics=sorted(NAMES), batch_tokens=10**5)
    np.testing.assert_allclose(together, alone, rtol=1e-5, atol=1e-5)
    for name in NAMES:
        np.testing.assert_allclose(scores[name], scores_alone[name], rtol=1e-5, atol=1e-6, err_msg=name)


@pytest.mark.usefixtures("engine_path")
def test_the_rows_asked_for_are_all_there_and_read_only(learner, encoded, tmp_path):
    embedding, scores = learner.probe(learner.foundation.load(), ROWS, tmp_path, statistics=["response_loss"])
    assert embedding.shape[0] == len(scores["response_loss"]) == len(ROWS)
    assert embedding.any(axis=1).all()
    with pytest.raises(ValueError, match="read-only"):
        embedding[0] = 1


def test_vectors_are_stored_as_asked_for(learner, tmp_path):
    half, full = (probe(learner, tmp_path / kind, dtype=kind)[0].array for kind in ("float16", "float32"))
    assert (half.dtype, full.dtype) == (np.float16, np.float32)
    np.testing.assert_array_equal(half, full.astype(np.float16))


def test_the_lm_head_runs_only_for_statistics(learner, tmp_path):
    model = learner.foundation.load().eval()
    calls = []
    model.get_output_embeddings().register_forward_hook(lambda module, given, out: calls.append(out.shape))
    probe(learner, tmp_path / "without", model)
    assert not calls
    probe(learner, tmp_path / "with", model, statistics=["response_entropy"], embedding=False)
    assert calls
    # Never the logits of a whole batch: a few hundred positions at a time (and eight, once, to try the head).
    assert all(math.prod(shape[:-1]) <= 512 for shape in calls)


@pytest.mark.parametrize("cap", [1.0, 30.0])
def test_logits_that_the_model_caps_after_its_head_are_capped_in_the_statistics(learner, encoded, tmp_path, cap):
    class Capped(LlamaForCausalLM):
        def forward(self, **given):
            out = super().forward(**given)
            out.logits = cap * torch.tanh(out.logits / cap)
            return out

    model = Capped.from_pretrained(learner.foundation.path, dtype=torch.float32).eval()
    _, scores = probe(learner, tmp_path, model, statistics=sorted(NAMES))
    for row in (0, 1, 59):
        _, z = outputs(model, encoded, row)
        start = int(encoded.lengths[row] - encoded.response_tokens[row])
        for name, value in row_oracle(z, encoded.row(row), start).items():
            assert scores[name][row] == pytest.approx(value, rel=1e-4), name


def test_a_model_that_caps_its_logits_is_run_once_a_row_and_never_for_a_whole_batch(learner, tmp_path):
    seen: list[tuple[int, ...]] = []

    class Capped(LlamaForCausalLM):
        def forward(self, **given):
            out = super().forward(**given)
            out.logits = torch.tanh(out.logits)
            seen.append(tuple(out.logits.shape))
            return out

    model = Capped.from_pretrained(learner.foundation.path, dtype=torch.float32).eval()
    small = dataclasses.replace(learner, embedding=Embedding(batch_tokens=10**5))
    probe(small, tmp_path, model, statistics=["response_entropy"], embedding=False)
    assert {shape[0] for shape in seen} == {1}
    assert len(seen) <= 1 + len(learner.encoded)  # and one, to try the head


@pytest.mark.parametrize("scale", [1, 30, 1e4])
def test_token_statistics_agree_with_their_definitions_however_peaked(scale):
    generator = torch.Generator().manual_seed(0)
    z = scale * torch.randn(40, 17, generator=generator)
    z[0] = 0  # all equal
    z[1, 3] = z[1, 5] = scale * 9.0  # two equal tops
    next_ids = torch.randint(17, (40,), generator=generator)
    found = token_statistics(z, next_ids, NAMES)
    for name, expected in oracle(z.double(), next_ids).items():
        assert found[name].isfinite().all(), name
        torch.testing.assert_close(found[name].double(), expected, rtol=1e-4, atol=1e-5, msg=name)
        assert found[name].dtype == torch.float32
    assert (found["response_entropy"] >= 0).all()


@pytest.mark.parametrize("names", [[name] for name in sorted(NAMES)])
def test_a_statistic_does_not_depend_on_which_others_are_asked_for(names):
    z = torch.randn(9, 11, generator=torch.Generator().manual_seed(1))
    next_ids = torch.arange(9)
    alone, all_of_them = token_statistics(z, next_ids, names), token_statistics(z, next_ids, NAMES)
    assert list(alone) == names
    assert torch.equal(alone[names[0]], all_of_them[names[0]])


def test_half_precision_hidden_states_are_averaged_in_float32():
    hidden = torch.full((1, 5000, 1), 0.1, dtype=torch.bfloat16)
    mask = torch.ones(1, 5000, dtype=torch.int64)
    mean = pooled(hidden, mask, torch.zeros_like(mask, dtype=torch.bool), "all")
    assert mean.dtype == torch.float32
    assert mean.item() == pytest.approx(hidden[0, 0, 0].item(), rel=1e-5)


@pytest.mark.usefixtures("engine_path")
def test_mixed_precision_computes_in_bfloat16_and_averages_in_float32(learner, tmp_path):
    def trainer(**options):
        return lightning.Trainer(accelerator="cpu", precision="bf16-mixed", **options)

    full, scores = probe(learner, tmp_path / "full", statistics=sorted(NAMES))
    mixed, scores_mixed = probe(
        dataclasses.replace(learner, trainer=trainer), tmp_path / "mixed", statistics=sorted(NAMES)
    )
    found, expected = np.asarray(mixed), np.asarray(full)
    error = np.linalg.norm(found - expected) / np.linalg.norm(expected)
    assert 1e-5 < error < 2**-6  # other arithmetic, and no worse than it
    # A mean that bfloat16 had rounded would have nothing in the lower half of its bits.
    assert (np.ascontiguousarray(found).view(np.uint32) & 0xFFFF).any(axis=1).all()
    for name in NAMES:
        np.testing.assert_allclose(scores_mixed[name], scores[name], rtol=0.05, atol=0.05, err_msg=name)


def test_a_model_on_the_device_leaves_it_where_the_foundation_embeds_and_only_there(learner, tmp_path, monkeypatch):
    model, left = learner.foundation.load(), []
    monkeypatch.setattr(model, "cpu", lambda: left.append(model))
    ours = dataclasses.replace(learner, resident=WeakSet([model]))
    ours.foundation_embedding(tmp_path / "space")
    assert left == [model]
    ours.foundation_embedding(tmp_path / "space")
    assert left == [model], "the cache has it"


def test_the_foundation_embedding_is_computed_once(learner, tmp_path):
    first = learner.foundation_embedding(tmp_path / "space")
    again = dataclasses.replace(learner, trainer=lambda **options: pytest.fail("probed again"))
    np.testing.assert_array_equal(again.foundation_embedding(tmp_path / "space"), first)
    direct, _ = learner.probe(learner.foundation.load().eval(), np.arange(len(first)), tmp_path / "direct")
    np.testing.assert_array_equal(first, direct)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"region": "prompt"}, "embedding.region is 'prompt', which is not all or response or instruction"),
        ({"dtype": "float64"}, "embedding.dtype is 'float64', which is not float32 or float16"),
        ({"batch_tokens": 0}, "embedding.batch_tokens is 0; it must be above 0"),
    ],
)
def test_embeddings_that_cannot_be_are_refused(options, sentence):
    with pytest.raises(InputError) as caught:
        bind(Embedding, options, "embedding")
    assert str(caught.value) == sentence


def test_batches_are_as_large_as_asked_or_as_suits_the_device():
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    assert [Embedding().tokens_on(device.type) for device in (cpu, cuda)] == [1024, 2048]
    assert [Embedding(batch_tokens=77).tokens_on(device.type) for device in (cpu, cuda)] == [77, 77]


def test_a_statistic_that_does_not_exist_is_named(learner):
    with pytest.raises(InputError, match=r"token statistics \['surprise'\] do not exist; choose from"):
        Probe(learner.foundation.load(), "all", None, {"surprise": np.zeros(3)})


@pytest.mark.parametrize("world", [2, 3, 4])
@pytest.mark.parametrize(("rows", "budget"), [(60, 300), (60, 10**5), (3, 1), (3, 10**5)])
def test_processes_share_batches_out_and_repeat_one_only_where_there_are_too_few(encoded, world, rows, budget):
    def share(rank, world):
        asked = np.arange(rows)
        return [batch["rows"].tolist() for batch in probe_loader(encoded, asked, asked, budget, 1, rank, world)]

    whole, shares = share(0, 1), [share(rank, world) for rank in range(world)]
    assert all(shares)  # Lightning wants a batch in every process
    own, others = shares[: len(whole)], shares[len(whole) :]
    assert sorted(row for share in own for batch in share for row in batch) == list(range(rows))
    assert others == [whole[-1:]] * len(others)
