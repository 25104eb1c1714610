"""Weights and moments in bfloat16: what stochastic rounding is, and what a fit learns with it."""

import copy
import dataclasses
import itertools
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from diverseevol.engine.tuning import optimizer
from diverseevol.engine.tuning.batches import collate
from diverseevol.engine.tuning.loss import SummedLoss
from diverseevol.engine.tuning.optimizer import MOMENTS, RoundingAdamW, key, make_optimizer, random_bits, rounded
from diverseevol.errors import InputError, warn_once
from diverseevol.options import LoRA, Tuning

CPU = torch.device("cpu")
POOL = np.array([0, 1, 2, 4, 6, 13, 18, 19, 21, 30, 31, 59])
BF16, FP32 = torch.bfloat16, torch.float32


def by_numpy(indices: np.ndarray, of: int) -> np.ndarray:
    """The hash lowbias32 in unsigned numbers."""
    x = ((indices.astype(np.uint64) + np.uint64(of % 2**32)) % 2**32).astype(np.uint32)
    x ^= x >> np.uint32(16)
    x *= np.uint32(0x7FEB352D)
    x ^= x >> np.uint32(15)
    x *= np.uint32(0x846CA68B)
    return x ^ (x >> np.uint32(16))


def weights_of(*shapes: tuple[int, ...], dtype: torch.dtype = BF16) -> list[torch.nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    return [torch.nn.Parameter((0.1 * torch.randn(shape, generator=generator)).to(dtype)) for shape in shapes]


def optimizer_of(weights, moments=BF16, stochastic=True, seed=(0, 3), decay=0.0) -> RoundingAdamW:
    return RoundingAdamW(weights, 1e-3, decay, moments=moments, stochastic=stochastic, seed=seed)


def take_steps(weights, taker: torch.optim.Optimizer, steps: range, part=slice(None)) -> None:
    """Steps whose gradients depend on the step alone; a part of the rows of each weight has its part of them."""
    for step in steps:
        generator = torch.Generator().manual_seed(step)
        for weight, shape in zip(weights, SHAPES, strict=True):
            weight.grad = torch.randn(shape, generator=generator)[part].to(weight.dtype)
        taker.step()


SHAPES = ((40, 2000), (40,), (40, 3, 5))


@pytest.mark.parametrize("start", [0, 12_345, 2**31 - 50, 2**32 - 50, 2**33 + 7])
@pytest.mark.parametrize("of", [0, -1, 2**31 - 1, -(2**31)])
def test_random_bits_are_the_hash_of_an_elements_index(start, of):
    bits = random_bits(start, 100, of, CPU)
    np.testing.assert_array_equal(bits.numpy().view(np.uint32), by_numpy(start + np.arange(100), of))


def test_random_bits_are_even_and_those_of_other_seeds_steps_weights_and_rounds_are_others():
    n = 2**18
    names = [(seed, step, number) for seed in ((0, 3), (1, 3), (0, 4)) for step in (1, 2) for number in (0, 1)]
    keys = {name: key(*name) for name in names}
    assert len({part for parts in keys.values() for part in parts}) == 2 * len(names)
    all_bits = {name: optimizer.mixed(random_bits(0, n, first, CPU) ^ second) for name, (first, second) in keys.items()}
    for bits in all_bits.values():
        ones = torch.stack([(bits >> place) & 1 for place in range(32)]).float().mean(dim=1)
        assert (ones - 0.5).abs().max() < 5 * 0.5 / n**0.5
    for one, two in itertools.combinations(all_bits.values(), 2):
        assert (one == two).float().mean() < 1e-4


@pytest.mark.parametrize("value", [1.001, -1.001, 0.3333, 2.0, -0.0, 1e-30, 3.1e38, 1e-40])
def test_rounding_is_right_on_the_average_and_never_further_than_the_next_number(value):
    n = 2**18
    values = torch.full((n,), value)
    results = rounded(values, random_bits(0, n, 7, CPU)).double()
    exact = float(values[0])
    below, above = float(results.min()), float(results.max())
    assert below <= exact <= above
    kinds = results.unique().to(BF16)
    assert len(kinds) <= 2
    if len(kinds) == 2:
        assert torch.equal(kinds[0].nextafter(kinds[1]), kinds[1])
    # The standard error of a mean of n numbers, each one of two neighbours.
    assert abs(float(results.mean()) - exact) <= 5 * 0.5 * (above - below) / n**0.5


def test_what_bfloat16_holds_is_left_alone():
    values = torch.tensor([0.0, 1.5, -3.0, float("inf"), -float("inf"), float("nan")])
    for bits in (0, 0xFFFF, -1):
        torch.testing.assert_close(
            rounded(values, torch.full((6,), bits, dtype=torch.int32)).float(), values, rtol=0, atol=0, equal_nan=True
        )


def test_in_float32_it_takes_the_steps_of_torchs_own():
    ours, theirs = (weights_of(*SHAPES, dtype=FP32) for _ in range(2))
    take_steps(ours, optimizer_of(ours, moments=None, decay=0.1), range(20))
    take_steps(theirs, torch.optim.AdamW(theirs, lr=1e-3, weight_decay=0.1), range(20))
    for one, two in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("chunk", [997, 2**20])
@pytest.mark.parametrize("cut", [1, 13, 39])
def test_two_parts_of_a_weight_take_the_same_steps_as_the_complete_one(chunk, cut, monkeypatch):
    complete = weights_of(*SHAPES)
    whole = optimizer_of(complete)
    take_steps(complete, whole, range(3))
    monkeypatch.setitem(optimizer.CHUNK, "cpu", chunk)
    for part in (slice(None, cut), slice(cut, None)):
        shares = [torch.nn.Parameter(weight.detach()[part].clone()) for weight in weights_of(*SHAPES)]
        first = {id(share): (part.start or 0) * share[0].numel() for share in shares}
        monkeypatch.setattr(optimizer, "first_element", lambda weight, first=first: first[id(weight)])
        taker = optimizer_of(shares)
        take_steps(shares, taker, range(3), part)
        for share, weight in zip(shares, complete, strict=True):
            assert torch.equal(share, weight[part])
            for name in MOMENTS:
                assert torch.equal(taker.state[share][name], whole.state[weight][name][part])


@pytest.mark.nightly
def test_torch_makes_one_kernel_for_all_steps():
    """As on a CUDA device, where a kernel made anew for each step would cost more than it saves."""
    paths = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    done = subprocess.run(
        [sys.executable, "-m", "one_kernel", "cpu"],
        env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]


def test_a_weight_without_a_gradient_stays():
    weights = weights_of((3,), (4,))
    before = copy.deepcopy(weights)
    taker = optimizer_of(weights)
    weights[1].grad = torch.ones(4, dtype=BF16)
    taker.step()
    assert torch.equal(weights[0], before[0])
    assert not torch.equal(weights[1], before[1])
    assert list(taker.state) == [weights[1]]


def test_second_moments_in_bfloat16_come_to_where_those_in_float32_come():
    # Rounded to the nearest number they would stay where a step changes them by less than half a per cent.
    values = {}
    for moments in (BF16, FP32):
        (weight,) = weights_of((4000,))
        taker = optimizer_of([weight], moments)
        for _ in range(1000):
            weight.grad = torch.full_like(weight, 1.0)
            taker.step()
        values[moments] = taker.state[weight]["exp_avg_sq"].float()
    assert values[BF16].mean() == pytest.approx(float(values[FP32].mean()), rel=0.01)
    assert values[FP32].mean() == pytest.approx(1 - 0.999**1000, rel=1e-3)


@pytest.mark.parametrize(
    ("options", "dtype", "bytes_of_moments"),
    [
        ({}, FP32, 8),
        ({"moments": "float32"}, FP32, 8),
        ({"moments": "bfloat16"}, FP32, 4),
        ({}, BF16, 4),
        ({"rounding": "stochastic"}, BF16, 4),
        ({"moments": "bfloat16", "rounding": "stochastic"}, BF16, 4),
        ({"moments": "float32", "rounding": "stochastic"}, BF16, 8),
        ({"moments": "float32"}, BF16, 8),
    ],
)
def test_bytes_of_a_weight(options, dtype, bytes_of_moments):
    weights = weights_of(*SHAPES, dtype=dtype)
    taker = make_optimizer(weights, Tuning(**options), (0,), CPU)
    take_steps(weights, taker, range(2))
    count = sum(weight.numel() for weight in weights)
    moments = sum(taker.state[weight][name].nbytes for weight in weights for name in MOMENTS)
    assert moments / count == bytes_of_moments
    assert sum(weight.nbytes + weight.grad.nbytes for weight in weights) / count == (4 if dtype == BF16 else 8)
    asked = any(options.get(name) for name in ("moments", "rounding")) and (options, dtype) != (
        {"moments": "float32"}, FP32
    )  # fmt: skip
    assert type(taker) is (RoundingAdamW if asked else torch.optim.AdamW)


def test_weights_in_bfloat16_that_lose_their_updates_are_warned_of_once(caplog):
    warn_once.cache_clear()
    for options in ({}, {}, {"moments": "bfloat16"}, {"rounding": "stochastic"}):
        make_optimizer(weights_of((4,)), Tuning(**options), (0,), CPU)
    make_optimizer(weights_of((4,), dtype=FP32), Tuning(), (0,), CPU)
    (warned,) = [record.message for record in caplog.records]
    assert warned.startswith("weights in bfloat16 lose the changes below a 500th of them, at a learning rate of 2e-05 ")
    assert "give tuning.rounding=stochastic, or model.dtype=float32 with trainer=bf16" in warned


def test_rounding_that_does_nothing_is_refused():
    with pytest.raises(InputError, match=r"^tuning\.rounding=stochastic is for weights in bfloat16, .* in float32; "):
        make_optimizer(weights_of((4,), dtype=FP32), Tuning(rounding="stochastic"), (0,), CPU)
    for options in ({"moments": "bfloat16"}, {"rounding": "stochastic"}):
        with pytest.raises(InputError, match=r"^tuning\.\w+ is \w+, which is for tuning=full: adapters are small, "):
            LoRA(**options)


def loss_after(learner, dtype: str, **options) -> float:
    """The loss on the pool, in float32, of what a fit learns of it."""
    tuning = dataclasses.replace(learner.tuning, steps=60, batch_size=6, learning_rate=2e-5, warmup_ratio=0, **options)
    foundation = dataclasses.replace(learner.foundation, dtype=dtype)
    model = dataclasses.replace(learner, foundation=foundation, tuning=tuning).fit(POOL, (0, 0, 1)).model
    assert {weight.dtype for weight in model.parameters()} == {getattr(torch, dtype)}
    with torch.no_grad():
        return float(SummedLoss(model.float())(collate(learner.encoded, POOL.tolist(), learner.prompt.end)))


def test_weights_in_bfloat16_learn_with_stochastic_rounding_what_float32_learns_and_to_the_nearest_little(learner):
    with torch.no_grad():
        start = SummedLoss(learner.foundation.load())(collate(learner.encoded, POOL.tolist(), learner.prompt.end))
    learned = {
        name: float(start) - loss_after(learner, dtype, **options)
        for name, dtype, options in (
            ("float32", "float32", {}),
            ("moments", "float32", {"moments": "bfloat16"}),
            ("nearest", "bfloat16", {}),
            ("stochastic", "bfloat16", {"moments": "bfloat16", "rounding": "stochastic"}),
        )
    }
    assert learned["moments"] == pytest.approx(learned["float32"], rel=0.05)
    assert learned["stochastic"] == pytest.approx(learned["float32"], rel=0.2)
    assert learned["nearest"] < 0.5 * learned["float32"]


def test_a_fit_with_stochastic_rounding_follows_its_seed_to_the_last_bit(learner):
    foundation = dataclasses.replace(learner.foundation, dtype="bfloat16")
    tuning = dataclasses.replace(learner.tuning, steps=3, moments="bfloat16", rounding="stochastic", warmup_ratio=0)
    fits = [
        dataclasses.replace(learner, foundation=foundation, tuning=tuning).fit(POOL, seed).model
        for seed in ((0, 0, 1), (0, 0, 1), (0, 1, 1))
    ]
    first, again, other = (torch.cat([weight.detach().flatten() for weight in model.parameters()]) for model in fits)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
