"""The losses of the recipe: Sentence Transformers' own, over scores that may be min-max normalised.

Each takes the query column and the n document columns of a batch, the positive first, and the teacher's scores as
labels ``(batch, n)``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from sentence_transformers import MultiVectorEncoder
from sentence_transformers.multi_vector_encoder.losses import MultiVectorDistillKLDivLoss
from sentence_transformers.multi_vector_encoder.scoring import colbert_kd_scores, colbert_scores

from pyterrier_jacolbert.train.recipe import Stage

#: Keeps the division defined where all scores are alike (the fork's value).
_EPSILON = 1e-8


def minmax_rows(scores: torch.Tensor) -> torch.Tensor:
    """Each row moved and scaled to [0, 1]; gradients flow through its minimum and maximum too.

    Args:
        scores: ``(batch, n)``.

    Source: recipe of JaColBERTv2.5, section 3.3 of arXiv 2407.20750.
    """
    low, high = scores.min(dim=-1, keepdim=True).values, scores.max(dim=-1, keepdim=True).values
    return (scores - low) / (high - low + _EPSILON)


class DistillationLoss(MultiVectorDistillKLDivLoss):
    """The loss of a stage: what it compares is decided by :class:`~pyterrier_jacolbert.train.recipe.Stage`.

    ``"kl"`` is Sentence Transformers' own computation. ``"margin_mse"`` is the mean squared difference of the
    student's and the teacher's margins to the positive (Hofstätter et al., arXiv 2010.02666). ``"hard_labels"`` is the
    cross-entropy of the positive among the n documents, and does not look at the teacher.

    Args:
        model: the student.
        stage: its loss, normalisations, temperatures and in-batch negatives count.
        mini_batch_size: documents a forward pass; None takes all of a batch at once.
    """

    def __init__(self, model: MultiVectorEncoder, stage: Stage, mini_batch_size: int | None = None) -> None:
        super().__init__(
            model,
            similarity_fct=self._scores,
            student_temperature=stage.student_temperature,
            teacher_temperature=stage.teacher_temperature,
            mini_batch_size=mini_batch_size,
        )
        self.stage = stage
        self._in_batch: torch.Tensor | None = None
        self._last_scores: torch.Tensor | None = None

    def forward(self, sentence_features: Iterable[dict[str, torch.Tensor]], labels: torch.Tensor) -> torch.Tensor:
        """The loss of a batch: a scalar."""
        labels = labels.float()
        if self.stage.normalize_teacher:
            labels = minmax_rows(labels)
        divergence = super().forward(sentence_features, labels)
        scores = self._last_scores
        assert scores is not None, "the parent's forward pass scores the documents"
        if self.stage.loss == "margin_mse":
            margins, expected = scores[:, :1] - scores[:, 1:], labels[:, :1] - labels[:, 1:]
            loss = torch.nn.functional.mse_loss(margins, expected)
        elif self.stage.loss == "hard_labels":
            positives = torch.zeros(len(scores), dtype=torch.long, device=scores.device)
            loss = torch.nn.functional.cross_entropy(scores / self.stage.student_temperature, positives)
        else:
            loss = divergence
        if self._in_batch is not None:
            loss = loss + self._in_batch
        self._last_scores = self._in_batch = None
        return loss

    def get_config_dict(self) -> dict[str, Any]:
        """What the model card says of the loss."""
        names = ("loss", "normalize_student", "normalize_teacher", "student_temperature", "teacher_temperature")
        return {name: getattr(self.stage, name) for name in (*names, "in_batch_negatives")}

    def _scores(
        self,
        queries: torch.Tensor,
        documents: torch.Tensor,
        queries_mask: torch.Tensor,
        documents_mask: torch.Tensor,
    ) -> torch.Tensor:
        scores = colbert_kd_scores(queries, documents, queries_mask=queries_mask, documents_mask=documents_mask)
        if self.stage.normalize_student:
            scores = minmax_rows(scores)
        if self.stage.in_batch_negatives:
            self._in_batch = in_batch_loss(queries, documents, queries_mask, documents_mask)
        self._last_scores = scores
        return scores


def in_batch_loss(
    queries: torch.Tensor, documents: torch.Tensor, queries_mask: torch.Tensor, documents_mask: torch.Tensor
) -> torch.Tensor:
    """Cross-entropy of each query's positive among all documents of the batch, by MaxSim.

    Args:
        queries: ``(batch, q_tokens, dim)``.
        documents: ``(batch, n, d_tokens, dim)``, the positive first.
        queries_mask: ``(batch, q_tokens)``.
        documents_mask: ``(batch, n, d_tokens)``.
    """
    scores = colbert_scores(queries, documents, queries_mask=queries_mask, documents_mask=documents_mask)
    positives = torch.arange(len(queries), device=scores.device) * documents.shape[1]
    return torch.nn.functional.cross_entropy(scores, positives)
