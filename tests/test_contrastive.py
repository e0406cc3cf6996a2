"""The contrastive stage: positives among the documents of large batches, without false negatives."""

import dataclasses

import numpy as np
import pytest
import torch
from checkpoints import write_stanford_checkpoint
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sentence_transformers import MultiVectorEncoder
from test_distill import DOCUMENTS, EXAMPLES, QUERIES, STAGE, assert_same_weights, log
from test_training_faults_losses import POOL, QUESTIONS, features, gradient

from pyterrier_jacolbert.train import Example, distill, training_arguments
from pyterrier_jacolbert.train.contrastive import ContrastiveLoss

CONTRASTIVE = dataclasses.replace(STAGE, loss="contrastive", in_batch_temperature=0.5, mini_batch_size=2)
PAIRS = [Example(example.qid, example.docnos[:1]) for example in EXAMPLES]


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    return write_stanford_checkpoint(tmp_path_factory.mktemp("start") / "checkpoint", hidden=32, layers=1, heads=2)


@pytest.fixture(scope="module")
def model(start):
    return MultiVectorEncoder(str(start), device="cpu").eval()


def rows_of(n_ways):
    documents = st.lists(st.sampled_from(POOL), min_size=n_ways, max_size=n_ways)
    return st.lists(st.tuples(st.sampled_from(QUESTIONS), documents), min_size=1, max_size=4)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows_of(1) | rows_of(2), st.sampled_from([None, 1, 3]))
def test_positives_of_equal_queries_are_no_negatives(model, rows, mini_batch_size):
    """Brute force over strings: row by row, document by document."""
    queries, documents = [query for query, _ in rows], [texts for _, texts in rows]
    vectors = {text: np.asarray(model.encode_document(text), np.float64) for text in POOL}
    losses = []
    for row, (query, texts) in enumerate(rows):
        query_vectors = np.asarray(model.encode_query(query), np.float64)
        positives = {texts[0] for other, texts in rows if other == query}
        kept = [documents[row][0], *[text for _, others in rows for text in others if text not in positives]]
        logits = np.array([(query_vectors @ vectors[text].T).max(1).sum() / 0.5 for text in kept])
        losses.append(np.log(np.exp(logits - logits[0]).sum()))
    columns = [list(column) for column in zip(*documents, strict=True)]
    batch = features(model, queries, *columns), torch.zeros(len(rows), len(columns))
    with torch.no_grad():
        loss = float(ContrastiveLoss(model, CONTRASTIVE, mini_batch_size)(*batch))
    assert loss == pytest.approx(np.mean(losses), rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("mini_batch_size", [1, 3])
def test_caching_changes_no_gradient(model, mini_batch_size):
    batch = features(model, QUESTIONS * 2, POOL, POOL[::-1]), torch.zeros(4, 2)
    value, norm = gradient(model, ContrastiveLoss(model, CONTRASTIVE), *batch)
    whole = [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]
    assert norm > 1e-3
    assert gradient(model, ContrastiveLoss(model, CONTRASTIVE, mini_batch_size), *batch)[0] == pytest.approx(value)
    cached = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    for one, other in zip(whole, cached, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("text", ["", "山"])
def test_a_batch_of_one_text_teaches_nothing(model, text):
    batch = features(model, ["東京は首都"] * 2, [text] * 2), torch.zeros(2, 1)
    assert gradient(model, ContrastiveLoss(model, CONTRASTIVE, 1), *batch) == (0.0, 0.0)


def run(start, output, stage, examples=PAIRS, **changes):
    changes = {"device": "cpu", "verbose": False, **changes}
    return distill(examples, QUERIES, DOCUMENTS, stage, output, model=start, **changes)


def test_pairs_train_without_scores_or_negatives(start, tmp_path):
    stage = dataclasses.replace(CONTRASTIVE, n_ways=1, batch_size=8, steps=20, save_every=20, dropout=0.0)
    run(start, tmp_path, stage)
    losses = [line["loss"] for line in log(tmp_path) if "loss" in line]
    assert losses[-1] < losses[0] - 0.1


def test_a_killed_contrastive_run_ends_with_the_same_weights(start, tmp_path):
    """With dropout, whose masks the second pass over a mini-batch must repeat."""

    def die(model):
        raise RuntimeError("power cut")

    run(start, tmp_path / "whole", CONTRASTIVE, EXAMPLES, evaluate=lambda model: 0.5, deterministic=True)
    with pytest.raises(RuntimeError, match="power cut"):
        run(start, tmp_path / "killed", CONTRASTIVE, EXAMPLES, evaluate=die, deterministic=True)
    run(start, tmp_path / "killed", CONTRASTIVE, EXAMPLES, evaluate=lambda model: 0.5, deterministic=True)
    assert_same_weights(tmp_path / "whole" / "final", tmp_path / "killed" / "final")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loss": "kl", "n_ways": 1}, "n_ways of 'tiny' must be 2 or more, not 1"),
        ({"imitation_weight": 1.0}, "imitation_weight of 'tiny' must be 0 with the contrastive loss"),
        ({"n_ways": 1, "batch_size": 1}, "batch_size of 'tiny' must be 2 or more with n_ways 1"),
    ],
)
def test_stages_without_negatives_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(CONTRASTIVE, **changes)


def test_a_pass_without_negatives_is_refused(tmp_path):
    stage = dataclasses.replace(CONTRASTIVE, n_ways=1)
    with pytest.raises(ValueError, match="no negatives.*batch_size=4, processes=1, accumulate=4; change one"):
        training_arguments.trainer_arguments(stage, tmp_path, "cpu", 4)
    training_arguments.trainer_arguments(stage, tmp_path, "cpu", 2)
