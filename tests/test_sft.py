import dataclasses
import functools
from collections import Counter
from itertools import chain
from typing import get_args

import lightning
import numpy as np
import pytest
import torch
from families import tiny
from transformers.models.llama.modeling_llama import LlamaAttention

from diverseevol.cli.binding import bind
from diverseevol.engine.learner import Learner
from diverseevol.engine.tuning.batches import IGNORED, collate, length_sorted_batches, plan_steps, step_loader
from diverseevol.engine.tuning.sft import InstructionTuner, checkpoint_activations
from diverseevol.errors import InputError, warn_once
from diverseevol.evolution.metrics.train_loss import final_loss
from diverseevol.options import RateSchedule, Tuning

POOL = np.array([0, 1, 2, 4, 6, 13, 18, 19, 21, 30, 31, 59])
SEED = (0, 0, 1)


def tuned(learner: Learner, **changes) -> Learner:
    return dataclasses.replace(learner, tuning=dataclasses.replace(learner.tuning, **changes))


def weights(model) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def planned(encoded, rows=POOL, **changes):
    options = {"epochs": 1, "steps": None, "batch_size": 5, "micro_batch_tokens": 450}
    return plan_steps(encoded, rows, **(options | changes), rng=np.random.default_rng(0))


def gradient(learner: Learner, batches, world: int = 1) -> torch.Tensor:
    """What one process leaves in the gradients after a step's backward passes."""
    model = learner.foundation.load()
    module = InstructionTuner(model, learner.tuning, 1)
    for micro in batches:
        (module.summed_loss(micro) / micro["normaliser"]).backward()
    return torch.cat([parameter.grad.flatten() for parameter in model.parameters()])


def test_steps_on_no_rows_are_refused(encoded):
    with pytest.raises(InputError, match=r"^tuning\.steps is 3, but the pool has no rows"):
        planned(encoded, np.empty(0, dtype=np.int64), steps=3)


@pytest.mark.usefixtures("engine_path")
def test_the_loss_is_the_summed_cross_entropy_of_the_response_tokens(learner, encoded):
    rows = [0, 1, 2, 4]
    model = learner.foundation.load()
    loss = InstructionTuner(model, learner.tuning, 1).summed_loss(collate(encoded, rows, learner.prompt.end))
    expected = 0.0
    for row in rows:
        ids = torch.tensor(encoded.row(row).astype(np.int64))
        log_p = model(input_ids=ids[None]).logits[0].detach().double().log_softmax(dim=-1)
        for i in range(int(encoded.lengths[row] - encoded.response_tokens[row]), len(ids)):
            expected -= float(log_p[i - 1, ids[i]])  # position i - 1 predicts token i
    assert loss.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("cap", [1.0, 30.0])
def test_a_model_that_caps_its_logits_learns_from_the_capped_ones(learner, encoded, monkeypatch, cap):
    model = learner.foundation.load()
    plain_forward = type(model).forward

    def capped(self, *args, **kwargs):
        out = plain_forward(self, *args, **kwargs)
        out.logits = cap * torch.tanh(out.logits / cap)
        return out

    monkeypatch.setattr(type(model), "forward", capped)
    batch = collate(encoded, [0, 1, 2, 4], learner.prompt.end)
    out = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], use_cache=False)
    labels = batch["labels"][:, 1:].flatten()
    expected = torch.nn.functional.cross_entropy(out.logits[:, :-1].flatten(0, 1), labels, reduction="sum")
    loss = InstructionTuner(model, learner.tuning, 1).summed_loss(batch)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.usefixtures("engine_path")
def test_prompt_tokens_carry_no_loss(learner, encoded):
    module = InstructionTuner(learner.foundation.load(), learner.tuning, 1)
    batch = collate(encoded, [0], learner.prompt.end)
    hidden = batch | {"labels": torch.full_like(batch["labels"], IGNORED)}
    assert module.summed_loss(hidden).item() == 0
    start = int(encoded.lengths[0] - encoded.response_tokens[0])
    only_last = batch["labels"].clone()
    only_last[0, start:-1] = IGNORED
    first = batch["labels"].clone()
    first[0, start + 1 :] = IGNORED
    parts = [module.summed_loss(batch | {"labels": labels}).item() for labels in (only_last, first)]
    assert min(parts) > 0
    assert module.summed_loss(batch).item() > sum(parts)


@pytest.mark.usefixtures("engine_path")
def test_the_reported_loss_is_the_mean_over_the_tokens_of_the_whole_step(learner, encoded):
    (step,) = planned(encoded, batch_size=len(POOL))
    module = InstructionTuner(learner.foundation.load(), learner.tuning, 1)
    total = sum(module.summed_loss(collate(encoded, [row], 1)).item() for row in POOL.tolist())
    fit = tuned(learner, steps=1, batch_size=len(POOL)).fit(POOL, SEED)
    assert fit.curve[0]["loss"] == pytest.approx(total / encoded.response_tokens[POOL].sum(), rel=1e-5)
    assert step.response_tokens == encoded.response_tokens[POOL].sum()
    assert final_loss(fit.curve) == fit.curve[0]["loss"]


@pytest.mark.usefixtures("engine_path")
def test_the_weights_do_not_depend_on_how_a_step_is_split(learner):
    alone, together = (
        tuned(learner, steps=4, learning_rate=1e-4, batch_size=6, micro_batch_tokens=tokens).fit(POOL, SEED)
        for tokens in (1, 10**6)
    )
    torch.testing.assert_close(weights(alone.model), weights(together.model), rtol=0, atol=1e-6)
    assert [p["loss"] for p in alone.curve] == pytest.approx([p["loss"] for p in together.curve], rel=1e-6)


def test_gradient_checkpointing_costs_forward_passes_and_changes_no_weight(learner, monkeypatch, engine_path):
    calls = Counter()
    plain_forward = LlamaAttention.forward

    def counted(self, *args, **kwargs):
        calls[run] += 1
        return plain_forward(self, *args, **kwargs)

    monkeypatch.setattr(LlamaAttention, "forward", counted)
    models = {}
    for run in (False, True):
        models[run] = tuned(learner, steps=2, learning_rate=1e-4, gradient_checkpointing=run).fit(POOL, SEED).model
    layers = learner.foundation.load().config.num_hidden_layers
    # On the fast path, once a fit: two passes of head and body each, outside of what is trained.
    check = 4 * layers if engine_path == "fast" else 0
    assert calls[True] - check == 2 * (calls[False] - check)
    torch.testing.assert_close(weights(models[True]), weights(models[False]), rtol=0, atol=1e-6)
    models[True](torch.tensor([[1, 2]])).logits.sum().backward()
    assert calls[True] - check == 2 * (calls[False] - check) + layers  # off again


def test_a_model_that_cannot_compute_activations_again_is_refused():
    sentence = r"^tuning\.gradient_checkpointing=true: JetMoeForCausalLM does not support it; leave it out, and lower "
    with pytest.raises(InputError, match=sentence):
        checkpoint_activations(tiny("jetmoe"), "enable")


@pytest.mark.parametrize("world", [2, 3])
def test_the_gradients_of_several_processes_add_up_to_those_of_one(learner, encoded, world):
    plan = planned(encoded)
    pad = learner.prompt.end
    shares = [list(step_loader(encoded, plan, pad, rank, world)) for rank in range(world)]
    for i, whole in enumerate(step_loader(encoded, plan, pad)):
        assert len({len(share[i]) for share in shares}) == 1  # backward passes of all processes meet
        parts = sum(gradient(learner, share[i]) for share in shares)
        torch.testing.assert_close(parts, gradient(learner, whole), rtol=1e-4, atol=1e-7)
        learned = [m["rows"][(m["labels"] != IGNORED).any(dim=1)].tolist() for share in shares for m in share[i]]
        assert sorted(chain(*learned)) == sorted(row for micro in plan[i].micro_batches for row in micro)


def test_an_epoch_takes_every_row_once(encoded):
    plan = planned(encoded, epochs=3)
    taken = [[row for micro in step.micro_batches for row in micro] for step in plan]
    assert [len(rows) for rows in taken] == [5, 5, 2] * 3
    for epoch in range(3):
        assert sorted(chain(*taken[3 * epoch : 3 * epoch + 3])) == sorted(POOL)
    assert taken[:3] != taken[3:6]


def test_a_fixed_number_of_steps_goes_round_the_rows(encoded):
    plan = planned(encoded, steps=7)
    assert len(plan) == 7
    counts = Counter(row for step in plan for micro in step.micro_batches for row in micro)
    assert set(counts) == set(POOL)
    assert max(counts.values()) - min(counts.values()) <= 1


def test_rows_that_repeat_are_trained_on_as_often(encoded):
    plan = planned(encoded, np.array([3, 3, 3, 5]))
    assert Counter(row for step in plan for micro in step.micro_batches for row in micro) == {3: 3, 5: 1}


def test_batches_keep_to_their_budget_and_start_with_the_longest_row(encoded):
    lengths = encoded.lengths
    batches = length_sorted_batches(lengths, POOL, 450)
    assert sorted(np.concatenate(batches)) == sorted(POOL)
    assert all(len(batch) * lengths[batch].max() <= 450 for batch in batches)
    assert lengths[batches[0][0]] == lengths[POOL].max()
    assert [len(batch) for batch in length_sorted_batches(lengths, POOL, 1)] == [1] * len(POOL)


@pytest.mark.usefixtures("engine_path")
def test_every_parameter_moves(learner):
    start = dict(learner.foundation.load().named_parameters())
    model = learner.fit(POOL, SEED).model
    still = [name for name, parameter in model.named_parameters() if torch.equal(parameter, start[name])]
    assert start
    assert not still


@pytest.mark.usefixtures("engine_path")
def test_a_fit_starts_from_the_foundation_and_follows_its_seed_to_the_last_bit(learner):
    first, again, other = (weights(learner.fit(POOL, seed).model) for seed in (SEED, SEED, (0, 0, 2)))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_fit_leaves_the_random_state_of_others_alone(learner):
    before = torch.random.get_rng_state()
    learner.fit(POOL, SEED)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_fit_on_the_processor_leaves_a_device_beside_it_closed(learner, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for opens in ("current_device", "get_rng_state", "_lazy_init"):
        monkeypatch.setattr(torch.cuda, opens, lambda *given: pytest.fail("opened the CUDA device"))
    learner.fit(POOL, SEED)


@pytest.mark.usefixtures("engine_path")
def test_training_lowers_the_loss_on_the_pool(learner):
    curve = tuned(learner, steps=12, batch_size=12).fit(POOL, SEED).curve
    assert [point["step"] for point in curve] == list(range(1, 13))
    assert curve[-1]["loss"] < 0.8 * curve[0]["loss"]


def test_the_learning_rate_warms_up_and_falls_to_its_end(learner):
    fit = tuned(learner, steps=8, schedule="linear", warmup_ratio=0.25, learning_rate=1e-3).fit(POOL, SEED)
    rates = [point["learning_rate"] for point in fit.curve]
    expected = [0, 0.5, 1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6]
    np.testing.assert_allclose(rates, 1e-3 * np.array(expected), rtol=1e-6)


@pytest.mark.usefixtures("engine_path")
def test_gradients_are_clipped_to_the_norm_asked_for(learner):
    # Plain AdamW forgets the scale of a gradient, so the norm is looked at where the optimizer sees it.
    norms: dict[float, float] = {}

    class Watch(lightning.Callback):
        def on_before_optimizer_step(self, trainer, module, optimizer):
            gradients = [parameter.grad for parameter in module.parameters()]
            norms[module.tuning.max_grad_norm] = float(torch.stack([g.norm() for g in gradients]).norm())

    watched = dataclasses.replace(learner, trainer=functools.partial(learner.trainer, callbacks=[Watch()]))
    for limit in (0.0, 0.01):
        tuned(watched, steps=1, max_grad_norm=limit).fit(POOL, SEED)
    assert norms[0.01] == pytest.approx(0.01, rel=1e-3)
    assert norms[0.0] > 0.1


@pytest.mark.parametrize("limit", [0.0, 0.01])
def test_mixed_precision_on_a_processor_trains_and_clips(learner, limit):
    mixed = dataclasses.replace(learner, trainer=functools.partial(learner.trainer, precision="bf16-mixed"))
    losses, expected = (
        [point["loss"] for point in tuned(who, steps=6, max_grad_norm=limit, learning_rate=1e-3).fit(POOL, SEED).curve]
        for who in (mixed, learner)
    )
    assert losses != expected  # other arithmetic
    np.testing.assert_allclose(losses, expected, rtol=0.02)


def test_the_first_step_under_mixed_precision_trains_every_weight(learner):
    # Autocast remembers the weights that it has cast: those cast while the model is asked of its head must learn, too.
    mixed = dataclasses.replace(learner, trainer=functools.partial(learner.trainer, precision="bf16-mixed"))
    before = dict(learner.foundation.load().named_parameters())
    after = tuned(mixed, steps=1, warmup_ratio=0.0, learning_rate=1e-2).fit(POOL, SEED).model
    unchanged = [name for name, weight in after.named_parameters() if torch.equal(weight, before[name])]
    assert not unchanged


def test_warm_up_steps_are_rounded_up(learner):
    # 3 % of three steps: one step from 0, as transformers' own trainer takes it, not none.
    fit = tuned(learner, steps=3, schedule="linear", warmup_ratio=0.03, learning_rate=1e-3).fit(POOL, SEED)
    np.testing.assert_allclose([point["learning_rate"] for point in fit.curve], [0, 1e-3, 0.5e-3], rtol=1e-6)


def test_a_single_step_that_is_all_warm_up_is_warned_of_once(learner, caplog):
    warn_once.cache_clear()
    for warmup_ratio in (0.0, 0.03, 0.03):
        fit = tuned(learner, steps=1, warmup_ratio=warmup_ratio, learning_rate=1e-3).fit(POOL, SEED)
        assert fit.curve[0]["learning_rate"] == (0 if warmup_ratio else 1e-3)
        warned = [record.message for record in caplog.records if "nothing is learned" in record.message]
        assert len(warned) == bool(warmup_ratio)
    assert "give tuning.warmup_ratio=0" in warned[0]


def test_a_loss_that_is_not_finite_stops_with_a_sentence(learner):
    with pytest.raises(InputError, match=r"loss is (nan|inf) at step \d+; lower tuning.learning_rate \(1e\+30\)"):
        tuned(learner, learning_rate=1e30, steps=9, warmup_ratio=0.0, max_grad_norm=0.0).fit(POOL, SEED)


def test_a_schedule_that_cannot_be_at_this_learning_rate_is_named(learner):
    with pytest.raises(InputError, match=r"is 'polynomial', which does not go with tuning\.learning_rate=1e-09 "):
        tuned(learner, schedule="polynomial", learning_rate=1e-9).fit(POOL, SEED)


@pytest.mark.parametrize("schedule", get_args(RateSchedule))
def test_every_schedule_fits_also_where_all_steps_are_warm_up(learner, schedule):
    fit = tuned(learner, steps=2, schedule=schedule, warmup_ratio=1.0, learning_rate=1e-3).fit(POOL, SEED)
    rates = [point["learning_rate"] for point in fit.curve]
    assert rates == pytest.approx([1e-3, 1e-3] if schedule == "constant" else [0.0, 5e-4])


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"learning_rate": 0.0}, "tuning.learning_rate is 0.0; it must be above 0"),
        ({"learning_rate": float("nan")}, "tuning.learning_rate is nan, which is not a finite number"),
        (
            {"schedule": "greedy"},
            "tuning.schedule is 'greedy', which is not cosine or linear or cosine_with_restarts or polynomial or "
            "constant or constant_with_warmup or inverse_sqrt",
        ),
        ({"epochs": 0}, "tuning.epochs is 0; it must be above 0"),
        ({"steps": 0}, "tuning.steps is 0; it must be above 0"),
        ({"batch_size": 0}, "tuning.batch_size is 0; it must be above 0"),
        ({"micro_batch_tokens": -1}, "tuning.micro_batch_tokens is -1; it must be above 0"),
        ({"weight_decay": -0.1}, "tuning.weight_decay is -0.1; it must not be negative"),
        ({"max_grad_norm": -1}, "tuning.max_grad_norm is -1.0; it must not be negative"),
        ({"warmup_ratio": 1.5}, "tuning.warmup_ratio is 1.5; it is a share of the steps, from 0 to 1"),
    ],
)
def test_tuning_that_cannot_be_is_refused(options, sentence):
    with pytest.raises(InputError) as caught:
        bind(Tuning, options, "tuning")
    assert str(caught.value) == sentence
