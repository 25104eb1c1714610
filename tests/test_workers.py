import dataclasses

import numpy as np
import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
)

from diverseevol.engine.answering.generation import generate
from diverseevol.engine.body_and_head import BodyAndHead
from diverseevol.engine.fast_path import SMALL, SWITCH, batches_at_once
from diverseevol.engine.side_by_side import side_by_side
from diverseevol.engine.tuning.batches import plan_steps, step_loader
from diverseevol.engine.tuning.sft import InstructionTuner
from diverseevol.options import Generation, Tuning


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_work_side_by_side_keeps_its_order_and_the_modes_of_whoever_asks(two_threads):
    def modes(item):
        return item, torch.is_grad_enabled(), torch.is_autocast_enabled("cpu"), torch.get_num_threads()

    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        assert side_by_side(modes, range(5)) == [(i, False, True, 1) for i in range(5)]
    assert side_by_side(modes, range(2)) == [(i, True, False, 1) for i in range(2)]
    assert torch.get_num_threads() == 2


def test_what_fails_on_a_thread_fails_here(two_threads):
    with pytest.raises(ZeroDivisionError):
        side_by_side(lambda item: 1 / item, [1, 0])


def test_two_threads_embed_to_the_same_numbers_and_fit_to_the_same_weights_but_for_rounding(
    learner, tmp_path, two_threads
):
    learner = dataclasses.replace(
        learner,
        embedding=dataclasses.replace(learner.embedding, batch_tokens=300),
        tuning=dataclasses.replace(learner.tuning, steps=4, batch_size=8, micro_batch_tokens=300),
    )
    rows, found = np.arange(60), {}
    again = learner.fit(np.arange(20, 40), (0, 0, 1))
    for threads in (1, 2):
        torch.set_num_threads(threads)
        fit = learner.fit(np.arange(20, 40), (0, 0, 1))
        model = learner.foundation.load().eval()
        found[threads] = learner.probe(model, rows, tmp_path / str(threads))[0], fit
    (one, fit_one), (two, fit_two) = found.values()
    np.testing.assert_allclose(two, one, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(fit_two.model.state_dict(), fit_one.model.state_dict(), rtol=0, atol=1e-4)
    torch.testing.assert_close(fit_two.model.state_dict(), again.model.state_dict(), rtol=0, atol=0)


def test_two_threads_give_the_answers_of_one(learner, two_threads):
    model, prompts, sizes = learner.foundation.load(), [learner.encoded.row(row)[:20].tolist() for row in range(11)], []
    options = Generation(max_new_tokens=6, temperature=0.7, batch_size=3)
    together = generate(model, prompts, [(0, i) for i in range(11)], options, [1], sizes.append)
    assert sizes == [6, 5]  # two batches a turn
    torch.set_num_threads(1)
    assert generate(model, prompts, [(0, i) for i in range(11)], options, [1]) == together


def test_threads_share_a_step_evenly(learner):
    plan = plan_steps(
        learner.encoded, np.arange(40), epochs=1, steps=None, batch_size=8, micro_batch_tokens=10_000,
        rng=np.random.default_rng(0),
    )  # fmt: skip
    pad = learner.prompt.end
    for step, whole in zip(
        step_loader(learner.encoded, plan, pad, threads=2), step_loader(learner.encoded, plan, pad), strict=True
    ):
        assert sorted(torch.cat([micro["rows"] for micro in step]).tolist()) == sorted(whole[0]["rows"].tolist())
        one, two = (micro["input_ids"].numel() for micro in step)
        assert max(one, two) <= whole[0]["input_ids"].numel() * 5 / 8  # a row of eight apart from an even split
    alone = [dataclasses.replace(plan[0], micro_batches=((7,),))]
    assert [len(step) for step in step_loader(learner.encoded, alone, pad, threads=2)] == [1]


def test_only_small_models_share_out_batches_and_only_without_dropout_in_training(two_threads, monkeypatch):
    def llama(hidden):
        shape = {"hidden_size": hidden, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
        return LlamaForCausalLM(LlamaConfig(vocab_size=8, **shape))

    small = llama(16)
    assert batches_at_once(small) == 2
    assert batches_at_once(llama(SMALL)) == 2
    assert batches_at_once(llama(SMALL + 4)) == 1
    assert InstructionTuner(small, Tuning(), 1).at_once == 2
    dropping = GPT2LMHeadModel(GPT2Config(vocab_size=8, n_positions=16, n_embd=16, n_layer=1, n_head=2))
    assert InstructionTuner(dropping, Tuning(), 1).at_once == 1
    monkeypatch.setenv(SWITCH, "0")
    assert batches_at_once(small) == 1


SHAPE = {"vocab_size": 50, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
MODELS = {
    "sliding window": MistralConfig(**SHAPE, num_key_value_heads=2, sliding_window=4),
    "ALiBi": BloomConfig(vocab_size=50, hidden_size=32, n_layer=2, n_head=4),
}


@pytest.mark.parametrize("name", MODELS)
def test_padding_reaches_no_token(name):
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(MODELS[name]).eval()
    parts, lengths = BodyAndHead(model), (24, 17, 9)
    ids = torch.randint(2, 50, (3, 24))
    mask = (torch.arange(24)[None] < torch.tensor(lengths)[:, None]).long()
    with torch.no_grad():
        together = parts.hidden({"input_ids": ids, "attention_mask": mask})
        for i, length in enumerate(lengths):
            alone = model(input_ids=ids[i : i + 1, :length], output_hidden_states=True).hidden_states[-1][0]
            torch.testing.assert_close(together[i, :length], alone, rtol=1e-4, atol=1e-5)
