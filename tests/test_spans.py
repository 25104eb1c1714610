"""Rows of several learned stretches, as conversations of several turns have them, and what reads the stretches."""

import dataclasses

import numpy as np
import pytest
import torch

from diverseevol.data.prompt import Row
from diverseevol.data.tokens import tokens_of
from diverseevol.engine.probing.token_statistics import REFERENCE, RESPONSE
from diverseevol.engine.tuning.batches import IGNORED, collate, plan_steps
from diverseevol.engine.tuning.sft import InstructionTuner

LENGTHS = (14, 9, 6, 11)
SPANS = (((3, 6), (9, 14)), ((4, 9),), (), ((0, 2), (5, 6)))  # the last row begins with what is learned, ends without
LEARNED = [[any(start <= i < end for start, end in SPANS[row]) for i in range(n)] for row, n in enumerate(LENGTHS)]
DISAGREEMENTS = ("committee_kl", "committee_vote_entropy")


@pytest.fixture(scope="module")
def tokens():
    rng = np.random.default_rng(0)
    return tokens_of([Row(rng.integers(3, 300, n).tolist(), spans) for n, spans in zip(LENGTHS, SPANS, strict=True)])


@pytest.fixture(scope="module")
def theirs(learner, tokens):
    return dataclasses.replace(learner, encoded=tokens, tuning=dataclasses.replace(learner.tuning, steps=1))


def alone(model, tokens, row):
    """Last hidden states, and log-probabilities of each position's next token, of a row without company."""
    with torch.no_grad():
        out = model(torch.tensor(tokens.row(row).astype(np.int64))[None], output_hidden_states=True)
    return out.hidden_states[-1][0].double(), out.logits[0].double().log_softmax(dim=-1)


def predicting(row):
    """The positions whose next token is learned."""
    return [i - 1 for i in range(1, LENGTHS[row]) if LEARNED[row][i]]


def test_tokens_count_what_is_learned_in_all_stretches(tokens):
    assert tokens.response_tokens.tolist() == [8, 5, 0, 3]
    assert tokens.eligible.tolist() == [True, True, False, True]
    assert [tokens.spans_of(row).tolist() for row in range(4)] == [list(map(list, spans)) for spans in SPANS]
    held = dataclasses.replace(tokens, held_out=np.array([1]))
    assert held.eligible.tolist() == [True, False, False, True]


def test_labels_are_the_ids_of_all_stretches_and_of_nothing_else(tokens):
    labels = collate(tokens, range(4), 0)["labels"].numpy()
    for row, learned in enumerate(LEARNED):
        expected = np.where(learned, tokens.row(row), IGNORED)
        np.testing.assert_array_equal(labels[row, : LENGTHS[row]], expected)
        assert (labels[row, LENGTHS[row] :] == IGNORED).all()


def test_the_loss_is_taken_over_all_stretches_and_divided_by_their_tokens(theirs, tokens):
    rows = np.array([0, 1, 3])
    model = theirs.foundation.load().eval()
    expected = 0.0
    for row in rows.tolist():
        _, log_p = alone(model, tokens, row)
        expected -= sum(float(log_p[i, tokens.row(row)[i + 1]]) for i in predicting(row))
    loss = InstructionTuner(model, theirs.tuning, 1).summed_loss(collate(tokens, rows.tolist(), 0))
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    rng = np.random.default_rng(0)
    (step,) = plan_steps(tokens, rows, epochs=1, steps=1, batch_size=3, micro_batch_tokens=20, rng=rng)
    assert step.response_tokens == 16
    fit = dataclasses.replace(theirs, tuning=dataclasses.replace(theirs.tuning, batch_size=3)).fit(rows, (0,))
    assert fit.curve[0]["loss"] == pytest.approx(expected / 16, rel=1e-5)


@pytest.mark.parametrize("region", ["all", "response", "instruction"])
def test_a_region_is_all_stretches_or_all_that_is_between_them(theirs, tokens, tmp_path, region):
    learner = dataclasses.replace(theirs, embedding=dataclasses.replace(theirs.embedding, region=region))
    model = theirs.foundation.load().eval()
    found, _ = learner.probe(model, np.arange(4), tmp_path)
    for row, learned in enumerate(LEARNED):
        hidden, _ = alone(model, tokens, row)
        part = hidden[{"all": [True] * len(learned), "response": learned}.get(region, np.logical_not(learned).tolist())]
        expected = part.mean(dim=0) if len(part) else torch.zeros(hidden.shape[1])
        np.testing.assert_allclose(found[row], expected, rtol=1e-5, atol=1e-5)


def test_statistics_of_the_response_are_averaged_where_a_stretch_is_predicted(theirs, tokens, tmp_path):
    model = theirs.foundation.load().eval()
    names = ("response_loss", "response_confidence", "reference_entropy")
    assert {*names} <= {*RESPONSE, *REFERENCE}
    _, scores = theirs.probe(model, np.arange(4), tmp_path, embedding=False, statistics=names)
    for row in (0, 1, 3):
        _, log_p = alone(model, tokens, row)
        where = predicting(row)
        loss = -np.mean([float(log_p[i, tokens.row(row)[i + 1]]) for i in where])
        assert scores["response_loss"][row] == pytest.approx(loss, rel=1e-4)
        assert scores["response_confidence"][row] == pytest.approx(
            log_p[where].exp().amax(dim=1).mean().item(), rel=1e-4
        )
        entropy = -(log_p.exp() * log_p).sum(dim=1).mean().item()
        assert scores["reference_entropy"][row] == pytest.approx(entropy, rel=1e-4)
    assert scores["response_loss"][2] == 0


def test_a_committee_disagrees_about_all_stretches(theirs, tokens, tmp_path):
    models = [theirs.foundation.load().eval(), theirs.fit(np.array([0, 1, 3]), (1,)).model]
    found = theirs.disagreement(models, np.arange(4), tmp_path, DISAGREEMENTS)
    for row in (0, 1, 3):
        p = torch.stack([alone(model, tokens, row)[1][predicting(row)].exp() for model in models])
        kl = (p * (p / p.mean(dim=0)).log()).sum(dim=2).mean()
        np.testing.assert_allclose(found["committee_kl"][row], kl, rtol=1e-3, atol=1e-5)
    assert [found[name][2] for name in DISAGREEMENTS] == [0, 0]


def test_a_row_of_one_exchange_has_one_border_and_reads_as_with_one(prompt, dataset, encoded):
    rows = np.arange(len(dataset))
    conversations = dataset.take(rows)
    asked = prompt.ids([row.instruction for row in conversations], [row.input for row in conversations])
    batch = collate(encoded, rows.tolist(), prompt.end)
    for row, question in enumerate(asked):
        border, length = min(len(question), prompt.options.max_length), len(encoded.row(row))
        assert encoded.spans_of(row).tolist() == [[border, length]] * (border < length)
        learned = (batch["labels"][row] != IGNORED).nonzero()[:, 0].tolist()
        assert learned == list(range(border, length))
    assert encoded.response_tokens[7] == 0
