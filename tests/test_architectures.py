"""Causal language models of many architectures, made from transformers' own configurations."""

import dataclasses

import numpy as np
import pytest
import torch
from families import tiny
from test_probe import ROWS, probe, row_oracle
from transformers import LlamaForCausalLM

from diverseevol.engine import model_limits
from diverseevol.engine.answering import generation
from diverseevol.engine.pretrained import Pretrained
from diverseevol.engine.probing.probe import Probe
from diverseevol.engine.tuning.sft import has_dropout
from diverseevol.errors import InputError, warn_once
from diverseevol.options import Generation

ARCHITECTURES = (
    "llama", "qwen2", "qwen3", "gemma2", "gemma3_text", "mistral", "phi3", "gpt2", "gpt_neox", "opt", "llama4_text",
    "gpt_oss", "mamba", "falcon_mamba", "bloom", "mpt", "xglm", "rwkv", "mixtral", "qwen3_next", "openai-gpt",
    "recurrent_gemma",
)  # fmt: skip


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_of_every_architecture_the_probe_says_what_the_whole_model_says(learner, encoded, tmp_path, architecture):
    model = tiny(architecture)
    names = ("response_loss", "response_entropy", "reference_entropy", "response_margin")
    embedding, scores = probe(learner, tmp_path, model, statistics=names)
    for row in ROWS[encoded.eligible[ROWS]].tolist():
        ids = torch.tensor(encoded.row(row).astype(np.int64))[None]
        start = int(encoded.lengths[row] - encoded.response_tokens[row])
        labels = torch.where(torch.arange(ids.shape[1]) < start, -100, ids)
        with torch.no_grad():
            out = model(ids, attention_mask=torch.ones_like(ids), labels=labels, output_hidden_states=True)
        np.testing.assert_allclose(embedding[row], out.hidden_states[-1][0].mean(dim=0), rtol=1e-4, atol=1e-5)
        assert scores["response_loss"][row] == pytest.approx(out.loss.item(), rel=1e-4)
        expected = row_oracle(out.logits[0].double(), encoded.row(row), start)
        for name in names:
            assert scores[name][row] == pytest.approx(expected[name], rel=1e-4), name


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_of_every_architecture_a_batch_answers_as_one_prompt_at_a_time(architecture, caplog):
    model = tiny(architecture)
    prompts = [[5, 9, 11, 40], list(range(7, 17)), [30, 31]]
    warn_once.cache_clear()
    alone, together = (
        generation.generate(model, prompts, [(0,), (1,), (2,)], Generation(8, 0.7, batch_size=size), [1])
        for size in (1, 3)
    )
    assert together == alone
    assert [record.message for record in caplog.records if "reads padding" in record.message] == (
        [f"{type(model).__name__} reads padding, so that prompts are answered one at a time: it takes longer"]
        if architecture in ("rwkv", "recurrent_gemma")
        else []
    )


def test_a_model_that_reads_the_padding_after_a_row_is_refused(learner, tmp_path):
    model = tiny("cpmant")
    for number, statistics in enumerate(((), ("response_loss",))):
        with pytest.raises(
            InputError, match=r"model\.path: CpmAntForCausalLM reads the padding after a row, so that a"
        ):
            probe(learner, tmp_path / str(number), model, statistics=statistics)
    assert not list(tmp_path.rglob("*.npy"))


def test_rows_longer_than_the_positions_that_a_model_has_learned_are_refused(learner, encoded, tmp_path):
    for architecture in ("gpt2", "opt"):
        model = tiny(architecture, max_position_embeddings=encoded.longest - 1)
        with pytest.raises(
            InputError, match=rf"has {encoded.longest - 1} positions and no others; give prompt\.max_le"
        ):
            probe(learner, tmp_path / architecture, model)
        assert model_limits.learned_positions(tiny(architecture)) == 512
    assert model_limits.learned_positions(tiny("llama")) is None


@pytest.mark.parametrize("architecture", ["gptj", "codegen", "ctrl", "mpt"])
def test_rows_longer_than_a_table_of_positions_that_is_computed_once_are_refused(
    learner, encoded, tmp_path, architecture
):
    name = "max_seq_len" if architecture == "mpt" else "max_position_embeddings"
    model = tiny(architecture, **{name: encoded.longest - 1})
    with pytest.raises(InputError, match=rf"has {encoded.longest - 1} positions and no others; give prompt\.max_le"):
        probe(learner, tmp_path / "refused", model)
    enough = tiny(architecture, **{name: encoded.longest})
    probe(learner, tmp_path / "read", enough)
    room = encoded.longest - 8  # a question is cut at the front, so that its answer fits
    assert len(learner.answer(enough, [("Why? " * room, "")], [(0,)], Generation(8, 0.0))) == 1


def test_questions_with_ids_that_a_model_has_no_embedding_for_are_refused(learner, encoded):
    model = tiny("llama", vocab_size=encoded.largest_id // 2)
    with pytest.raises(InputError, match=r"model\.path: the tokeniser gives the id \d+, but the model has \d+ emb"):
        learner.answer(model, [("Why does the largest fish swim?", "")], [(0,)], Generation(8, 0.0))


def test_rows_longer_than_a_model_was_made_for_are_warned_of_once(learner, encoded, tmp_path, caplog):
    warn_once.cache_clear()
    model = tiny("llama", max_position_embeddings=64)
    for name in ("first", "again"):
        probe(learner, tmp_path / name, model)
    (record,) = caplog.records
    assert f"rows have up to {encoded.longest} tokens, but the model was made for 64 positions" in record.message
    assert "prompt.max_length=64 avoids it" in record.message


def test_a_tokeniser_that_does_not_belong_to_the_model_is_refused(learner, encoded, tmp_path):
    model = tiny("llama", vocab_size=encoded.largest_id)
    with pytest.raises(
        InputError, match=rf"gives the id {encoded.largest_id}, but the model has {encoded.largest_id} emb"
    ):
        probe(learner, tmp_path, model)


def test_an_attention_that_a_family_does_not_have_is_one_sentence(tmp_path):
    tiny("mamba").save_pretrained(tmp_path)
    with pytest.raises(InputError, match=r"model\.attention=sdpa: .* does not take it .*give model\.attention=auto"):
        Pretrained(str(tmp_path), attention="sdpa").load()


def test_a_model_whose_body_cannot_be_told_is_named(learner):
    class Twofold(LlamaForCausalLM):
        base_model_prefix = "elsewhere"

    model = Twofold(learner.foundation.load().config)
    assert Probe(model, "all", None, {}).parts  # one part of it is a model
    model.other = LlamaForCausalLM(model.config)
    with pytest.raises(InputError, match=r"model\.path: Twofold has 2 parts that could be its body"):
        Probe(model, "all", None, {})


@pytest.fixture(scope="module", params=["gpt2", "llama4_text"])
def other(request, learner, tmp_path_factory):
    """A learner with another architecture: GPT-2's has learned positions and dropout, Llama 4's is a mixture."""
    folder = tmp_path_factory.mktemp(request.param)
    tokenizer = learner.prompt.tokenizer
    tiny(request.param, vocab_size=len(tokenizer)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return dataclasses.replace(learner, foundation=Pretrained(str(folder)))


def test_another_architecture_fits_and_answers(other):
    model = other.foundation.load().eval()
    first, again, unlike = (other.fit(ROWS[:3], seed).model.state_dict() for seed in ((1,), (1,), (2,)))
    assert all(torch.equal(first[name], again[name]) for name in first)  # dropout follows the seed
    assert has_dropout(model) == any(not torch.equal(first[name], unlike[name]) for name in first)
    # 512 positions hold prompt and answer: a longer prompt loses its start.
    (answer,) = other.answer(model, [("Why? " * 200, "")], [(0,)], Generation(max_new_tokens=8))
    assert isinstance(answer, str)


LONGROPE = {
    "rope_type": "longrope", "rope_theta": 10_000.0, "factor": 4.0, "original_max_position_embeddings": 128,
    "short_factor": [1.0] * 8, "long_factor": [4.0] * 8,
}  # fmt: skip
DYNAMIC = {"rope_type": "dynamic", "rope_theta": 10_000.0, "factor": 4.0}


@pytest.mark.parametrize(("rope", "positions"), [(LONGROPE, 512), (DYNAMIC, 128)])
def test_positions_that_follow_the_longest_row_of_a_batch_are_warned_of_once(
    learner, encoded, tmp_path, caplog, rope, positions
):
    model = tiny("llama", max_position_embeddings=positions, rope_parameters=rope)
    short, some = ROWS[encoded.lengths[ROWS] <= 128], ROWS[encoded.lengths[ROWS] != encoded.lengths[ROWS].min()]
    assert 1 < len(short) < len(some)
    warn_once.cache_clear()
    alone, together = (
        probe(learner, tmp_path / f"short{tokens}", model, short, batch_tokens=tokens)[0] for tokens in (1, 10**5)
    )
    np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-5)
    assert not caplog.records
    alone, together = (
        probe(learner, tmp_path / f"some{tokens}", model, some, batch_tokens=tokens)[0] for tokens in (1, 10**5)
    )
    assert not np.allclose(together, alone, rtol=1e-2)  # which is why
    (record,) = caplog.records
    assert "rows longer than 128 tokens" in record.message
    assert "prompt.max_length=128 avoids it" in record.message
