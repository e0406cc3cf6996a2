"""Ties, copies and empty documents have bounded gradients, are left out, or are refused if they cannot teach."""

import copy
import dataclasses

import numpy as np
import pytest
import torch
import yaml
from checkpoints import write_stanford_checkpoint
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sentence_transformers import MultiVectorEncoder
from sentence_transformers.multi_vector_encoder.losses import MultiVectorDistillKLDivLoss
from test_distill import STAGE

from pyterrier_jacolbert.train import Recipe
from pyterrier_jacolbert.train.copies import false_negatives, text_numbers
from pyterrier_jacolbert.train.losses import (
    SMALLEST_RANGE,
    DistillationLoss,
    ImitationLoss,
    minmax_rows,
    minmax_teacher_rows,
)

# ---------------------------------------------------------------------------------------------------- min-max and ties


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("start") / "checkpoint"
    return MultiVectorEncoder(str(write_stanford_checkpoint(folder, hidden=32, layers=1, heads=2)), device="cpu").eval()


def features(model, queries, *columns):
    """Returns the features of a batch, as the trainer's collator makes them."""
    tasks = ["query", *["document"] * len(columns)]
    return [
        {**model.preprocess(texts, prompt=model.prompts[task], task=task), "task": task}
        for task, texts in zip(tasks, (queries, *columns), strict=True)
    ]


def gradient(model, loss, *batch):
    """Returns the loss of a batch and the norm of its gradient."""
    model.zero_grad()
    value = loss(*batch)
    value.backward()
    norms = [parameter.grad.double().norm() for parameter in model.parameters() if parameter.grad is not None]
    return value.item(), float(torch.stack(norms).norm())


@pytest.mark.parametrize("loss", ["kl", "margin_mse", "hard_labels"])
def test_min_max_of_two_scores_has_no_gradient_and_is_refused(tmp_path, loss):
    scores = torch.tensor([[1.0, 3.0]], requires_grad=True)  # the wrong order
    torch.nn.functional.cross_entropy(minmax_rows(scores), torch.tensor([0])).backward()
    assert scores.grad.tolist() == [[0.0, 0.0]]
    with pytest.raises(ValueError, match="normalize_student of 'tiny' must be false with n_ways 2"):
        dataclasses.replace(STAGE, n_ways=2, loss=loss)
    content = {"name": "r", "stages": [{"name": "s", "start": "x", "examples": "e", "n_ways": 2, "loss": loss}]}
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    with pytest.raises(ValueError, match="normalize_student of 's'"):
        Recipe.read(tmp_path / "r.yaml")
    dataclasses.replace(STAGE, n_ways=2, loss=loss, normalize_student=False)
    dataclasses.replace(STAGE, n_ways=2, loss="imitation")


def test_two_scores_that_are_not_normalised_teach(model):
    stage = dataclasses.replace(STAGE, n_ways=2, normalize_student=False)
    batch = features(model, ["東京は首都"], ["川と湖"], ["東京は首都"]), torch.tensor([[1.0, 0.0]])
    assert gradient(model, DistillationLoss(model, stage), *batch)[1] > 1e-3


@given(st.lists(st.floats(-100, 100, width=32), min_size=3, max_size=32))
def test_ordinary_rows_have_the_values_of_the_fork(row):
    scores = torch.tensor([row], dtype=torch.float32)
    low, high = scores.min(), scores.max()
    if high - low >= SMALLEST_RANGE:
        assert torch.equal(minmax_rows(scores), (scores - low) / (high - low + 1e-8))
    else:
        assert torch.equal(minmax_rows(scores), (scores - low) / SMALLEST_RANGE)


@given(st.floats(0, 1e-3), st.sampled_from([torch.float16, torch.bfloat16, torch.float32, torch.float64]))
def test_gradients_of_almost_equal_scores_are_bounded(gap, dtype):
    scores = torch.tensor([[5.0, 5.0 + gap, 5.0 - gap]], dtype=dtype, requires_grad=True)
    normalised = minmax_rows(scores)
    torch.nn.functional.cross_entropy(normalised, torch.tensor([0])).backward()
    assert normalised.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert torch.isfinite(normalised).all()
    # The gradient of a cross-entropy is at most 1 per score; the minimum gathers those of the three scores.
    assert scores.grad.abs().max() <= 3 / SMALLEST_RANGE
    assert (scores.grad != 0).any()


@pytest.mark.parametrize("loss", ["kl", "margin_mse", "hard_labels"])
@pytest.mark.parametrize("text", ["", "同じ文書である。"])
def test_copies_of_one_document_teach_nothing(model, loss, text):
    """An ordinary row beside them has half of the gradient that it has alone."""
    distillation = DistillationLoss(model, dataclasses.replace(STAGE, loss=loss))
    labels = torch.tensor([[3.0, 1.0, 0.0], [3.0, 1.0, 0.0]])
    same = features(model, ["東京は首都"], [text], [text], [text])
    try:
        model.train()  # dropout makes the scores of copies differ
        assert gradient(model, distillation, same, labels[:1]) == (0.0, 0.0)
    finally:
        model.eval()
    ordinary = features(model, ["東京は首都"], ["日本の山"], ["川と湖"], ["カレー"])
    both = features(model, ["東京は首都"] * 2, ["日本の山", text], ["川と湖", text], ["カレー", text])
    alone = gradient(model, distillation, ordinary, labels[:1])
    assert gradient(model, distillation, both, labels) == pytest.approx([x / 2 for x in alone], rel=1e-3)
    assert alone[1] > 1e-3


def without_scoring_tokens(distillation, positions):
    """Masks whole documents and queries, as a skiplist does that holds all of their tokens."""
    original = distillation.similarity_fct

    def scores(queries, documents, queries_mask, documents_mask):
        queries_mask, documents_mask = queries_mask.clone(), documents_mask.clone()
        for row, column in positions:
            if column is None:
                queries_mask[row] = False
            else:
                documents_mask[row, column] = False
        return original(queries, documents, queries_mask=queries_mask, documents_mask=documents_mask)

    distillation.similarity_fct = scores
    return distillation


ROW = (["東京は首都"], ["日本の山"], ["川と湖"], ["カレー"], ["作家の本"])
LABELS = torch.tensor([[3.0, 1.0, 0.0, 2.0]])


@pytest.mark.parametrize("loss", ["kl", "margin_mse", "hard_labels"])
@pytest.mark.parametrize("normalize", [True, False])
def test_a_document_without_scoring_tokens_is_left_out(model, loss, normalize):
    """The result is that of the row without this document."""
    stage = dataclasses.replace(STAGE, loss=loss, normalize_student=normalize, normalize_teacher=normalize)
    masked = without_scoring_tokens(DistillationLoss(model, stage), [(0, 2)])
    value, norm = gradient(model, masked, features(model, *ROW), LABELS)
    columns = [*ROW[:3], ROW[4]]
    shorter = gradient(model, DistillationLoss(model, stage), features(model, *columns), LABELS[:, [0, 1, 3]])
    if loss == "margin_mse":  # a mean over the negatives, one of which counts as 0
        shorter = [x * 2 / 3 for x in shorter]
    assert (value, norm) == pytest.approx(shorter, rel=1e-3)


@pytest.mark.parametrize("in_batch", [True, False])
@pytest.mark.parametrize("positions", [[(0, None)], [(0, 0), (0, 1), (0, 2), (0, 3)], [(0, 1), (0, 2), (0, 3)]])
@pytest.mark.parametrize("loss", ["kl", "margin_mse", "hard_labels"])
def test_rows_without_documents_or_query_teach_nothing(model, loss, positions, in_batch):
    stage = dataclasses.replace(STAGE, loss=loss, in_batch_negatives=in_batch)
    masked = without_scoring_tokens(DistillationLoss(model, stage), positions)
    assert gradient(model, masked, features(model, *ROW), LABELS) == (0.0, 0.0)


@pytest.mark.parametrize("loss", ["margin_mse", "hard_labels"])
def test_a_positive_without_scoring_tokens_teaches_nothing(model, loss):
    masked = without_scoring_tokens(DistillationLoss(model, dataclasses.replace(STAGE, loss=loss)), [(0, 0)])
    assert gradient(model, masked, features(model, *ROW), LABELS) == (0.0, 0.0)


def test_hard_labels_leave_out_copies_of_the_positive(model):
    stage = dataclasses.replace(STAGE, loss="hard_labels")
    with_copy = features(model, ROW[0], ROW[1], ROW[2], ROW[1], ROW[3])
    without = features(model, ROW[0], ROW[1], ROW[2], ROW[3])
    one, other = (gradient(model, DistillationLoss(model, stage), batch, torch.zeros(1, len(batch) - 1))
                  for batch in (with_copy, without))  # fmt: skip
    assert one == pytest.approx(other, rel=1e-4)


def test_imitation_without_common_tokens_is_zero(model):
    """The mean over no token would be NaN."""
    teacher = copy.deepcopy(model)
    loss = ImitationLoss(model, teacher)
    embed = loss._embed_teacher

    def masked(columns, *options):
        vectors, masks = embed(columns, *options)
        return vectors, [torch.zeros_like(mask) for mask in masks]

    loss._embed_teacher = masked
    assert gradient(model, loss, features(model, *ROW), LABELS) == (0.0, 0.0)


@pytest.mark.parametrize("temperatures", [(1.0, 1.0), (0.5, 2.0)])
def test_the_divergence_is_that_of_sentence_transformers(model, temperatures):
    """To the last bit, value and gradient."""
    student, teacher = temperatures
    stage = dataclasses.replace(STAGE, normalize_student=False, normalize_teacher=False, student_temperature=student,
                                teacher_temperature=teacher)  # fmt: skip
    theirs = MultiVectorDistillKLDivLoss(model, student_temperature=student, teacher_temperature=teacher)
    batch = features(model, *ROW), LABELS
    assert gradient(model, DistillationLoss(model, stage), *batch) == gradient(model, theirs, *batch)


def test_a_teacher_of_any_scale_is_normalised():
    """Of one per mille of float32's smallest normal number, and of its largest."""
    for scale in (1e-41, 1e-30, 1e-9, 1e-4, 1.0, 1e30):
        scores = torch.tensor([[0.0, 1.0, 4.0]]) * scale
        np.testing.assert_allclose(
            minmax_teacher_rows(scores), [[0.0, 0.25, 1.0]], atol=1e-3 if scale < 1e-40 else 1e-6
        )
    assert minmax_teacher_rows(torch.full((1, 3), 2.0)).tolist() == [[0.0] * 3]


# ------------------------------------------------------------------------------------------------ in-batch negatives

POOL = ["日本の山", "川と湖", "カレー", "作家の本"]
QUESTIONS = ["東京は首都", "富士山は何ですか。"]


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.sampled_from(QUESTIONS), st.lists(st.sampled_from(POOL), min_size=2, max_size=2)),
             min_size=1, max_size=4),
    st.sampled_from([None, 1, 3]),
)  # fmt: skip
def test_positives_of_the_same_query_are_no_negatives(model, rows, mini_batch_size):
    """Brute force over strings: row by row, document by document."""
    queries, documents = [query for query, _ in rows], [texts for _, texts in rows]
    query_vectors = [np.asarray(model.encode_query(query), np.float64) for query in queries]
    vectors = {text: np.asarray(model.encode_document(text), np.float64) for text in POOL}
    losses = []
    for i, query in enumerate(queries):
        positives = {texts[0] for other, texts in zip(queries, documents, strict=True) if other == query}
        logits = [(query_vectors[i] @ vectors[documents[i][0]].T).max(1).sum() / 0.5]
        for texts in documents:
            for text in texts:
                if text not in positives:
                    logits.append((query_vectors[i] @ vectors[text].T).max(1).sum() / 0.5)
        losses.append(np.log(np.exp(np.array(logits) - logits[0]).sum()))
    stage = dataclasses.replace(STAGE, n_ways=2, normalize_student=False)
    both = dataclasses.replace(stage, in_batch_negatives=True, in_batch_temperature=0.5)
    columns = [[texts[k] for texts in documents] for k in range(2)]
    labels = torch.tensor([[1.0, 0.0]] * len(rows))
    batch = features(model, queries, *columns), labels
    with torch.no_grad():
        plain, added = (float(DistillationLoss(model, s, mini_batch_size)(*batch)) for s in (stage, both))
    assert added - plain == pytest.approx(np.mean(losses), rel=1e-3, abs=1e-4)


def test_copies_are_recognised_by_their_tokens():
    """Whatever their padding, on either side; other tokens, or a part of them, are another text."""

    def column(*rows):
        return {
            "input_ids": torch.tensor([ids for ids, _ in rows]),
            "attention_mask": torch.tensor([m for _, m in rows]),
        }

    numbers = text_numbers([
        column(([5, 6, 0], [1, 1, 0]), ([5, 6, 7], [1, 1, 1])),
        column(([0, 9, 5, 6], [0, 0, 1, 1]), ([5, 6, 0, 0], [1, 1, 1, 0])),
    ])  # fmt: skip
    assert numbers[0, 0] == numbers[0, 1]
    assert len(set(numbers.flatten().tolist())) == 3
    same = torch.tensor([0, 0])
    assert false_negatives(same, numbers).tolist() == [[False, True, True, False], [True, True, False, False]]
    assert false_negatives(torch.tensor([0, 1]), numbers).tolist() == [[False, True, False, False], [False] * 4]
    flat = {"input_ids": torch.arange(5)[None], "attention_mask": torch.ones(2, 3), "cu_seq_lens_q": None}
    assert len(set(text_numbers([flat, flat]).flatten().tolist())) == 4
