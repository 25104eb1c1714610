"""Operations and bytes by hand, by torch's own counter, and as tensors really take them."""

import dataclasses
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, MixtralConfig, PreTrainedModel

from diverseevol.engine.arithmetic import (
    Amount,
    Numbers,
    Shape,
    activations,
    amount_of_answers,
    bytes_kept,
    bytes_of_answers,
    fit,
    forward,
    llama,
    memory_of_answers,
    memory_of_fit,
    memory_of_probe,
    total,
)
from diverseevol.engine.cards import CARDS, card_named, card_reported
from diverseevol.engine.pretrained import Pretrained
from diverseevol.engine.shapes import shape_of, shape_without_weights
from diverseevol.engine.tuning.lora import Adapters
from diverseevol.engine.tuning.loss import SummedLoss
from diverseevol.engine.tuning.optimizer import make_optimizer
from diverseevol.errors import InputError
from diverseevol.options import Generation, LoRA, Tuning

SEVEN = llama(4096, 11008, 32, 32, 32000)
SEVEN_LORA = llama(4096, 11008, 32, 32, 32000, rank=32)
MIXED = Numbers.of("float32", "bf16-mixed")
T, ROWS, V = 48, 2, 101
SMALL = {
    "hidden_size": 64, "intermediate_size": 172, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "vocab_size": V,
}  # fmt: skip


def small(tuning: Tuning | None = None, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**SMALL)).to(dtype)
    if isinstance(tuning, LoRA):
        model = Adapters(Pretrained("none"), tuning).adapted(model.requires_grad_(False))
    return model.train()


@pytest.fixture(params=[Tuning(), LoRA(rank=4)], ids=["full", "lora"])
def tuning(request: pytest.FixtureRequest) -> Tuning:
    return request.param


def batch() -> dict[str, torch.Tensor]:
    ids = torch.randint(0, V, (ROWS, T))
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids}


def test_seven_billion_by_hand():
    assert SEVEN.weights == 6_738_415_616, "the number in LLaMA's own paper, 6.7B"
    full = memory_of_fit(SEVEN, Tuning(micro_batch_tokens=2048), Numbers())
    state = {name: full[name] for name in ("weights", "gradients", "moments")}
    assert sum(state.values()) == 16 * 6_738_415_616 == 107_814_649_856
    assert SEVEN_LORA.adapters == 32 * 32 * (8 * 4096 + 3 * (4096 + 11008)) == 79_953_920
    lora = memory_of_fit(SEVEN_LORA, LoRA(), Numbers.of("bfloat16", "bf16-mixed"))
    assert lora["weights"] == 2 * 6_738_415_616 + 4 * 79_953_920
    assert (lora["gradients"], lora["moments"]) == (4 * 79_953_920, 8 * 79_953_920)
    assert "copies" not in lora
    assert bytes_kept(SEVEN_LORA, LoRA()) == 319_815_680
    assert bytes_kept(SEVEN, Tuning()) == 26_953_662_464


def test_operations_of_seven_billion_are_six_four_and_two_a_weight_and_token():
    text = Amount(1000, 0, 1000)  # attention aside
    products = 6_738_415_616 - 32000 * 4096 - 65 * 4096  # all but the embedding and the norms
    assert forward(SEVEN, text) == 2 * 1000 * products
    assert fit(SEVEN, text) == 6 * 1000 * products
    assert fit(SEVEN_LORA, text) == 1000 * (4 * products + 6 * 79_953_920)
    assert fit(SEVEN, text, checkpointing=True) == fit(SEVEN, text) + 2 * 1000 * (products - 32000 * 4096)
    assert forward(SEVEN, Amount(512, 512**2)) - forward(SEVEN, Amount(512)) == 4 * 32 * 4096 * 512**2


def test_a_shape_is_that_of_the_model_that_has_it(tuning, tmp_path):
    LlamaForCausalLM(LlamaConfig(**SMALL)).save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    rank = tuning.rank if isinstance(tuning, LoRA) else 0
    expected = llama(64, 172, 3, 4, V, 2, rank=rank)
    assert shape_without_weights(Pretrained(str(tmp_path)), tuning) == shape_of(small(tuning)) == expected
    if not isinstance(tuning, LoRA):
        tied = LlamaForCausalLM(LlamaConfig(**SMALL, tie_word_embeddings=True))
        assert shape_of(tied) == llama(64, 172, 3, 4, V, 2, tied=True)
        assert sum(weight.numel() for weight in tied.parameters()) == shape_of(tied).weights


def test_shapes_of_other_families():
    model = GPT2LMHeadModel(GPT2Config(n_embd=32, n_layer=2, n_head=4, vocab_size=50))
    shape = shape_of(model)
    assert shape.weights == sum(weight.numel() for weight in model.parameters())
    assert (shape.products, shape.intermediate, shape.attention) == (2 * 12 * 32**2, 4 * 32, 32)
    sizes = {**SMALL, "num_local_experts": 4, "num_experts_per_tok": 2}
    from transformers import MixtralForCausalLM

    with torch.device("meta"):
        experts = shape_of(MixtralForCausalLM(MixtralConfig(**sizes)))
    dense = 3 * (2 * 64 * (64 + 32) + 64 * 4 * 0)
    routers = experts.products - dense - 3 * 2 * 3 * 64 * 172
    assert routers in (0, 3 * 64 * 4), "of four experts a token visits two"


@pytest.mark.parametrize("trains", [False, True])
def test_operations_are_those_that_torch_counts(tuning, trains):
    model, micro = small(tuning), batch()
    model.set_attn_implementation("eager")  # of which all products are counted
    loss = SummedLoss(model)
    loss(micro)  # what is tested once is tested now
    with FlopCounterMode(display=False) as counter, nullcontext() if trains else torch.no_grad():
        value = loss(micro)
        if trains:
            value.backward()
    text = Amount(ROWS * T, ROWS * T**2, ROWS * (T - 1))
    shape = shape_of(model)
    expected = fit(shape, text) if trains else forward(shape, text)
    if trains and isinstance(tuning, LoRA):  # the first layer's inputs are frozen: nothing goes back into them
        assert counter.get_total_flops() == pytest.approx(expected, rel=0.05)
    else:
        assert counter.get_total_flops() == pytest.approx(expected, rel=1e-9)


def kept_bytes(model: PreTrainedModel, mixed: bool) -> int:
    """What a forward pass keeps for the backward pass, copies of weights aside."""
    own = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
    shapes = {tuple(weight.shape) for weight in model.parameters() if weight.dim() == 2}
    shapes |= {shape[::-1] for shape in shapes}
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own and tuple(tensor.shape) not in shapes:
            kept[storage.data_ptr()] = storage
        return tensor

    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        torch.autocast("cpu", torch.bfloat16) if mixed else nullcontext(),
    ):
        model.model(input_ids=batch()["input_ids"], use_cache=False)
    return sum(storage.nbytes() for storage in kept.values())


@pytest.mark.parametrize(
    ("dtype", "precision"), [("float32", "32-true"), ("float32", "bf16-mixed"), ("bfloat16", "bf16-mixed")]
)
def test_activations_are_what_a_forward_pass_keeps(tuning, dtype, precision):
    if dtype == "bfloat16" and not isinstance(tuning, LoRA):
        precision = "bf16-true"
    model = small(tuning, getattr(torch, dtype))
    numbers = Numbers.of(dtype, precision)
    kept = kept_bytes(model, precision == "bf16-mixed")
    assert activations(shape_of(model), ROWS * T, numbers) == pytest.approx(kept, rel=0.1)


@pytest.mark.parametrize(
    ("tuning", "dtype"),
    [
        (Tuning(), "float32"),
        (LoRA(rank=4), "float32"),
        (Tuning(moments="bfloat16"), "float32"),
        (Tuning(rounding="stochastic"), "bfloat16"),
        (Tuning(rounding="stochastic", moments="float32"), "bfloat16"),
    ],
)
def test_weights_gradients_and_moments_are_counted_to_the_byte(tuning, dtype):
    model = small(tuning, getattr(torch, dtype))
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = make_optimizer(trained, tuning, (0,), model.device)
    SummedLoss(model)(batch()).backward()
    optimizer.step()
    memory = memory_of_fit(shape_of(model), tuning, Numbers.of(dtype, "32-true"))
    moments = [value for state in optimizer.state.values() for value in state.values() if value.dim()]
    assert memory["weights"] == sum(weight.nbytes for weight in model.parameters())
    assert memory["gradients"] == sum(weight.grad.nbytes for weight in trained if weight.grad is not None)
    assert memory["moments"] == sum(value.nbytes for value in moments)


@pytest.mark.parametrize(
    ("cheaper", "less"),
    [
        (Tuning(gradient_checkpointing=True), {"activations"}),
        (Tuning(micro_batch_tokens=1024), {"activations", "logits"}),
        (Tuning(moments="bfloat16"), {"moments"}),
    ],
)
def test_what_saves_memory_saves_it_where_it_should(cheaper, less):
    usual, changed = (memory_of_fit(SEVEN, tuning, MIXED) for tuning in (Tuning(), cheaper))
    assert {part for part in usual if changed[part] < usual[part]} == less
    assert total(changed) < total(usual)


def test_processes_share_what_is_sharded_and_nothing_else():
    alone, copied, sharded = (
        memory_of_fit(SEVEN, Tuning(), MIXED, processes, sharded)
        for processes, sharded in ((1, False), (4, False), (4, True))
    )
    assert copied == {**alone, "buckets": alone["gradients"]}
    for part in ("weights", "gradients", "moments"):
        assert sharded[part] == alone[part] // 4
    assert sharded["activations"] == alone["activations"]
    outside, layer = 2 * 32000 * 4096, 4 * 4096**2 + 3 * 4096 * 11008
    assert sharded["gathered"] == pytest.approx((2 + 2 + 2 + 4) * layer + (4 + 4) * outside, rel=1e-2)
    assert sharded["copies"] == 2 * 32000 * 4096


def test_moments_and_weights_in_bfloat16_take_half():
    numbers = Numbers.of("bfloat16", "bf16-mixed")
    rounded = memory_of_fit(SEVEN, Tuning(rounding="stochastic"), numbers)
    assert sum(rounded[name] for name in ("weights", "gradients", "moments")) == 8 * 6_738_415_616
    moments = memory_of_fit(SEVEN, Tuning(moments="bfloat16"), MIXED)
    assert (moments["moments"], moments["weights"]) == (4 * 6_738_415_616, 4 * 6_738_415_616)


def test_precision_says_what_is_held_and_what_is_multiplied():
    assert Numbers.of("float32", "32-true") == Numbers(4, 4)
    assert Numbers.of("float32", "bf16-mixed") == Numbers(4, 2)
    assert Numbers.of("bfloat16", "bf16-mixed") == Numbers(2, 2)
    assert Numbers.of("float32", "bf16-true") == Numbers(2, 2)
    assert MIXED.casts
    assert not Numbers().casts
    copies = 2 * (6_738_415_616 - 32000 * 4096 - 65 * 4096)
    assert memory_of_fit(SEVEN, Tuning(), MIXED)["copies"] == memory_of_probe(SEVEN, 1, MIXED)["copies"] == copies


def test_answers_fill_a_cache_and_read_all_weights_for_each_token():
    generation, half = Generation(max_new_tokens=1000, batch_size=40), Numbers(2, 2)
    memory = memory_of_answers(SEVEN, generation, half, prompt_tokens=24, questions=80)
    assert memory["cache of keys and values"] == 40 * 1024 * 32 * 4096 * 4
    assert memory_of_answers(SEVEN, generation, half, 24, questions=1)["cache of keys and values"] == 1024 * 32 * 16384
    read = bytes_of_answers(SEVEN, generation, half, 24, 80)
    assert read == 2 * 1000 * 2 * SEVEN.linear + 80 * 1000 * (24 + 500) * 32 * 4096 * 4
    assert bytes_of_answers(SEVEN, generation, half, 24, 0) == 0
    assert amount_of_answers(generation, 24, 80) == Amount(80 * 1024, 80 * 1024**2 / 2, 80 * 1000)
    assert total({"a": 1, "b": 2}) == 3


def test_what_a_real_model_took_is_within_a_third():
    """SmolLM2-135M, micro-batches of 1,024 tokens on a processor; of what was measured some 0.6 GB are libraries."""
    shape = llama(576, 1536, 30, 9, 49152, 3, tied=True)
    assert shape.weights == 134_515_008
    for precision, measured in (("32-true", 5900 * 2**20), ("bf16-mixed", 5490 * 2**20)):
        memory = memory_of_fit(shape, Tuning(micro_batch_tokens=1024), Numbers.of("float32", precision))
        assert total(memory) + 0.6e9 == pytest.approx(measured, rel=1 / 3)


def test_cards_have_numbers_and_names_of_their_own():
    assert CARDS["H100"].peak(2) == 989e12
    assert CARDS["H100"].peak(4) == 67e12
    assert card_reported("NVIDIA H100 80GB HBM3") == "H100"
    assert card_reported("NVIDIA H100") is None, "which of three it is, nobody knows"
    names = [name for card in CARDS.values() for name in card.reported]
    assert len(names) == len({*names}) >= len(CARDS)
    assert all(card.source and card.half > card.float32 for card in CARDS.values())
    assert card_named("L4") is CARDS["L4"]
    with pytest.raises(InputError, match=r"card=H10: not in the table \(did you mean H100\?\); choose from H200"):
        card_named("H10")
    with pytest.raises(InputError, match=r"card\.memory is 0; it must be above 0"):
        dataclasses.replace(CARDS["L4"], memory=0)


def test_an_amount_adds_up():
    lengths, responses = np.array([3, 4]), np.array([1, 2])
    assert Amount.of(lengths, responses) == Amount(7, 25, 3)
    assert Amount.of(lengths) * 2 + Amount.of(lengths, responses) == Amount(21, 75, 3)
    assert dataclasses.replace(SEVEN, adapters=5).trained == 5
    assert isinstance(SEVEN, Shape)
