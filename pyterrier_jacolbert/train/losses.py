"""The losses of the recipe: Sentence Transformers' own, over scores that may be min-max normalised.

Each takes the query column and the n document columns of a batch, the positive first, and the teacher's scores as
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
        mini_batch_size: documents a forward pass, documents of like length together; None takes all of a batch at once.
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
        self._places: torch.Tensor | None = None
        self._in_batch: torch.Tensor | None = None
        self._last_scores: torch.Tensor | None = None

    def forward(self, sentence_features: Iterable[dict[str, torch.Tensor]], labels: torch.Tensor) -> torch.Tensor:
        """The loss of a batch: a scalar."""
        labels = labels.float()
        if self.stage.normalize_teacher:
            labels = minmax_rows(labels)
        queries, *documents = sentence_features
        if self.mini_batch_size is not None:
            documents, self._places = _by_length(documents)
        divergence = super().forward([queries, *documents], labels)
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
        self._places = self._last_scores = self._in_batch = None
        return loss

    def get_config_dict(self) -> dict[str, Any]:
        """What the model card says of the loss."""
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
        if self._places is not None:
            documents, documents_mask = _in_places(documents, self._places), _in_places(documents_mask, self._places)
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
    """The mean cosine distance of the student's token vectors to a teacher's, of queries plus of documents.

    A student cut out of its teacher learns most of what it lost so, before it is trained to rank.

    Args:
        model: the student.
        teacher: an encoder with the student's tokenizer, prompts and dimensions.
        mini_batch_size: documents a forward pass, documents of like length together; None takes all of a batch at once.

    Raises:
        ValueError: the two cut texts into different tokens, or differ in dimensions.
    """

    def __init__(
        self, model: MultiVectorEncoder, teacher: MultiVectorEncoder, mini_batch_size: int | None = None
    ) -> None:
        super().__init__()
        dims = [int(one.get_embedding_dimension() or 0) for one in (model, teacher)]
        if model.tokenizer.get_vocab() != teacher.tokenizer.get_vocab() or dims[0] != dims[1]:
            raise ValueError(
                "Token vectors are compared one by one, so the teacher must have the student's vocabulary and its "
                f"{dims[0]} dimensions; the teacher has {dims[1]} dimensions and "
                f"{len(teacher.tokenizer.get_vocab())} tokens, the student {len(model.tokenizer.get_vocab())}."
            )
        self.model = model
        self.mini_batch_size = mini_batch_size
        # Not a submodule, whose weights the trainer would train.
        self._embed_teacher = partial(embed_columns_padded, teacher.eval())

    def forward(self, sentence_features: Iterable[dict[str, torch.Tensor]], labels: torch.Tensor) -> torch.Tensor:
        """The loss of a batch: a scalar."""
        queries, *documents = sentence_features
        if self.mini_batch_size is not None:
            documents, _ = _by_length(documents)
        return self._distance([queries], "query") + self._distance(documents, "document")

    def get_config_dict(self) -> dict[str, Any]:
        """What the model card says of the loss."""
        return {"loss": "imitation"}

    def _distance(self, columns: list[dict[str, Any]], task: str) -> torch.Tensor:
        # A forward pass overwrites the attention mask of its features with the mask of what scores.
        rest = (self.mini_batch_size, task)
        with torch.no_grad():
            expected, scoring = self._embed_teacher([dict(column) for column in columns], *rest)
        vectors, own_scoring = embed_columns_padded(self.model, [dict(column) for column in columns], *rest)
        distances = [
            1 - torch.nn.functional.cosine_similarity(one.float(), other.float(), dim=-1)[mask & own_mask]
            for one, other, mask, own_mask in zip(vectors, expected, scoring, own_scoring, strict=True)
        ]
        return torch.cat(distances).mean()


def _by_length(columns: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], torch.Tensor | None]:
    """The documents of all columns dealt out anew, shortest first, so that a forward pass pads little.

    Returns:
        The columns, and where each document now is, counted down the columns; or the columns as they are, and None.
    """
    merged = merge_feature_batches(columns)
    if merged is None or "attention_mask" not in merged:
        return columns, None
    order = merged["attention_mask"].sum(dim=1).argsort(stable=True)
    rows = len(order)
    size = rows // len(columns)

    def rows_of(value: Any, chosen: torch.Tensor) -> Any:  # noqa: ANN401
        return value[chosen] if isinstance(value, torch.Tensor) and value.ndim > 0 and len(value) == rows else value

    dealt = [{name: rows_of(value, chosen) for name, value in merged.items()} for chosen in order.split(size)]
    return dealt, order.argsort()


def _in_places(dealt: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """Undoes :func:`_by_length` for ``(batch, n, ...)``."""
    columns = dealt.transpose(0, 1)
    return columns.flatten(0, 1)[places].view_as(columns).transpose(0, 1)


def in_batch_loss(
    queries: torch.Tensor,
    documents: torch.Tensor,
    queries_mask: torch.Tensor,
    documents_mask: torch.Tensor,
    temperature: float = 1.0,
) -> torch.Tensor:
    """Cross-entropy of each query's positive among all documents of the batch, by MaxSim.

    Args:
        queries: ``(batch, q_tokens, dim)``.
        documents: ``(batch, n, d_tokens, dim)``, the positive first.
        queries_mask: ``(batch, q_tokens)``.
        documents_mask: ``(batch, n, d_tokens)``.
        temperature: divides the scores.
    """
    scores = colbert_scores(queries, documents, queries_mask=queries_mask, documents_mask=documents_mask)
    positives = torch.arange(len(queries), device=scores.device) * documents.shape[1]
    return torch.nn.functional.cross_entropy(scores / temperature, positives)
