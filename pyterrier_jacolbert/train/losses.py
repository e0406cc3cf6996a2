"""Losses of the recipe, which extend those of Sentence Transformers with min-max normalised scores.

Each loss takes the query column and the n document columns of a batch, the positive first, and the teacher's scores as
labels ``(batch, n)``.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

import torch
from sentence_transformers import MultiVectorEncoder
from sentence_transformers.base.losses.merged_forward import embed_columns_padded, merge_feature_batches
from sentence_transformers.multi_vector_encoder.losses import MultiVectorDistillKLDivLoss
from sentence_transformers.multi_vector_encoder.scoring import colbert_kd_scores, colbert_scores

from pyterrier_jacolbert.train.stages import Stage

#: Keeps the division defined if all scores are equal (the fork's value).
_EPSILON = 1e-8


def minmax_rows(scores: torch.Tensor) -> torch.Tensor:
    """Shifts and scales each row to [0, 1]; gradients also flow through the minimum and the maximum.

    Args:
        scores: float tensor ``(batch, n)``, one row per query.

    Source: recipe of JaColBERTv2.5, section 3.3 of arXiv 2407.20750.
    """
    low, high = scores.min(dim=-1, keepdim=True).values, scores.max(dim=-1, keepdim=True).values
    return (scores - low) / (high - low + _EPSILON)


class DistillationLoss(MultiVectorDistillKLDivLoss):
    """The distillation loss of a stage.

    ``"kl"`` is computed by Sentence Transformers. ``"margin_mse"`` is the mean squared difference between the student's
    and the teacher's margins to the positive (Hofstätter et al., arXiv 2010.02666). ``"hard_labels"`` is the
    cross-entropy of the positive among the n documents; it ignores the teacher.

    Args:
        model: student.
        stage: settings of the loss: its kind, normalisations, temperatures and in-batch negatives.
        mini_batch_size: documents per forward pass, which are grouped by length; None encodes all of a batch at once.
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
        self._positions: torch.Tensor | None = None
        self._in_batch: torch.Tensor | None = None
        self._last_scores: torch.Tensor | None = None

    def forward(self, sentence_features: Iterable[dict[str, torch.Tensor]], labels: torch.Tensor) -> torch.Tensor:
        """Returns the loss of a batch, a scalar."""
        labels = labels.float()
        if self.stage.normalize_teacher:
            labels = minmax_rows(labels)
        queries, *documents = sentence_features
        if self.mini_batch_size is not None:
            documents, self._positions = _sort_by_length(documents)
        divergence = super().forward([queries, *documents], labels)
        scores = self._last_scores
        assert scores is not None, "the forward pass of the base class scores the documents"
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
        self._positions = self._last_scores = self._in_batch = None
        return loss

    def get_config_dict(self) -> dict[str, Any]:
        """Returns the settings of the loss for the model card."""
        names = ["loss", "normalize_student", "normalize_teacher", "student_temperature", "teacher_temperature"]
        names += ["in_batch_negatives", "in_batch_temperature"]
        return {name: getattr(self.stage, name) for name in names}

    def _scores(
        self,
        queries: torch.Tensor,
        documents: torch.Tensor,
        queries_mask: torch.Tensor,
        documents_mask: torch.Tensor,
    ) -> torch.Tensor:
        if self._positions is not None:
            documents = _restore_order(documents, self._positions)
            documents_mask = _restore_order(documents_mask, self._positions)
        scores = colbert_kd_scores(queries, documents, queries_mask=queries_mask, documents_mask=documents_mask)
        if self.stage.normalize_student:
            scores = minmax_rows(scores)
        if self.stage.in_batch_negatives:
            self._in_batch = in_batch_loss(
                queries, documents, queries_mask, documents_mask, self.stage.in_batch_temperature
            )
        self._last_scores = scores
        return scores


class ImitationLoss(torch.nn.Module):
    """The mean cosine distance between the student's and a teacher's token vectors, of queries plus of documents.

    A student cut out of its teacher recovers most of what it lost in this way, before it is trained to rank.

    Args:
        model: student.
        teacher: encoder with the student's tokenizer, prompts and dimensions.
        mini_batch_size: documents per forward pass, which are grouped by length; None encodes all of a batch at once.

    Raises:
        ValueError: student and teacher differ in their vocabularies or dimensions.
    """

    def __init__(
        self, model: MultiVectorEncoder, teacher: MultiVectorEncoder, mini_batch_size: int | None = None
    ) -> None:
        super().__init__()
        dims = [int(encoder.get_embedding_dimension() or 0) for encoder in (model, teacher)]
        if model.tokenizer.get_vocab() != teacher.tokenizer.get_vocab() or dims[0] != dims[1]:
            raise ValueError(
                "Imitation compares token vectors one by one, so the teacher must have the student's vocabulary and "
                f"its {dims[0]} dimensions; the teacher has {dims[1]} dimensions and "
                f"{len(teacher.tokenizer.get_vocab())} tokens, and the student has "
                f"{len(model.tokenizer.get_vocab())} tokens."
            )
        self.model = model
        self.mini_batch_size = mini_batch_size
        # Hidden in a partial, because the trainer would train the weights of a submodule.
        self._embed_teacher = partial(embed_columns_padded, teacher.eval())

    def forward(self, sentence_features: Iterable[dict[str, torch.Tensor]], labels: torch.Tensor) -> torch.Tensor:
        """Returns the loss of a batch, a scalar."""
        queries, *documents = sentence_features
        if self.mini_batch_size is not None:
            documents, _ = _sort_by_length(documents)
        return self._distance([queries], "query") + self._distance(documents, "document")

    def get_config_dict(self) -> dict[str, Any]:
        """Returns the settings of the loss for the model card."""
        return {"loss": "imitation"}

    def _distance(self, columns: list[dict[str, Any]], task: str) -> torch.Tensor:
        # Copies, because a forward pass overwrites the attention mask of its features with the mask of scoring tokens.
        options = (self.mini_batch_size, task)
        with torch.no_grad():
            expected, teacher_mask = self._embed_teacher([dict(column) for column in columns], *options)
        vectors, student_mask = embed_columns_padded(self.model, [dict(column) for column in columns], *options)
        distances = [
            1 - torch.nn.functional.cosine_similarity(own.float(), target.float(), dim=-1)[target_mask & own_mask]
            for own, target, target_mask, own_mask in zip(vectors, expected, teacher_mask, student_mask, strict=True)
        ]
        return torch.cat(distances).mean()


def _sort_by_length(columns: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], torch.Tensor | None]:
    """Redistributes the documents over the columns, shortest first, so that forward passes pad less.

    Returns:
        The new columns, and the position of each original document in them, counted column by column. If the columns
        cannot be merged, the original columns and None.
    """
    merged = merge_feature_batches(columns)
    if merged is None or "attention_mask" not in merged:
        return columns, None
    order = merged["attention_mask"].sum(dim=1).argsort(stable=True)
    rows = len(order)
    size = rows // len(columns)

    def take(value: Any, chosen: torch.Tensor) -> Any:
        return value[chosen] if isinstance(value, torch.Tensor) and value.ndim > 0 and len(value) == rows else value

    sorted_columns = [{name: take(value, chosen) for name, value in merged.items()} for chosen in order.split(size)]
    return sorted_columns, order.argsort()


def _restore_order(values: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """Undoes :func:`_sort_by_length` for values ``(batch, n, ...)``."""
    columns = values.transpose(0, 1)
    return columns.flatten(0, 1)[positions].view_as(columns).transpose(0, 1)


def in_batch_loss(
    queries: torch.Tensor,
    documents: torch.Tensor,
    queries_mask: torch.Tensor,
    documents_mask: torch.Tensor,
    temperature: float = 1.0,
) -> torch.Tensor:
    """Returns the cross-entropy of each query's positive among all documents of the batch, scored by MaxSim.

    Args:
        queries: token vectors, ``(batch, q_tokens, dim)``.
        documents: token vectors, ``(batch, n, d_tokens, dim)``, the positive first.
        queries_mask: scoring tokens, ``(batch, q_tokens)``.
        documents_mask: scoring tokens, ``(batch, n, d_tokens)``.
        temperature: divisor of the scores.
    """
    scores = colbert_scores(queries, documents, queries_mask=queries_mask, documents_mask=documents_mask)
    positives = torch.arange(len(queries), device=scores.device) * documents.shape[1]
    return torch.nn.functional.cross_entropy(scores / temperature, positives)
