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
from sentence_transformers.multi_vector_encoder.scoring import colbert_kd_scores
from sentence_transformers.util import stack_padded_token_embeddings

from pyterrier_jacolbert.train.contrastive import in_batch_loss
from pyterrier_jacolbert.train.copies import (
    LEFT_OUT,
    documents_that_teach,
    false_negatives,
    fill_left_out,
    text_numbers,
)
from pyterrier_jacolbert.train.stages import Stage

#: Keeps the division defined if all scores are equal (the fork's value).
_EPSILON = 1e-8

#: Smallest range by which the student's scores are divided. The most by which rounding to bfloat16 can separate two
#: MaxSim scores of 32 query tokens: 32 cosines, each with two relative errors of up to 2^-9. Scores that are closer
#: carry no signal that dividing by their range would uncover, and gradients grow with its reciprocal.
SMALLEST_RANGE = 32 * 2**-8

#: Range of the teacher's scores below which the epsilon would change their normalised values by more than 1e-5.
_SMALL_TEACHER_RANGE = 1e-3


def minmax_rows(scores: torch.Tensor, smallest_range: float = SMALLEST_RANGE) -> torch.Tensor:
    """Shifts and scales each row to [0, 1]; gradients also flow through the minimum and the maximum.

    Rows whose range is below ``smallest_range`` are divided by ``smallest_range`` instead of their range, so a gradient
    is at most ``1 / smallest_range`` times that of scores that are not normalised. The other rows have exactly the
    values of the author's fork, which divides by the range plus 1e-8 and has gradients of any size.

    Args:
        scores: float tensor ``(batch, n)``, one row per query. Half precision is widened to float32 first.
        smallest_range: smallest divisor.

    Source: recipe of JaColBERTv2.5, section 3.3 of arXiv 2407.20750.
    """
    low, high, scores = _extremes(scores)
    spread = high - low
    return (scores - low) / torch.where(spread < smallest_range, smallest_range, spread + _EPSILON)


def minmax_teacher_rows(scores: torch.Tensor) -> torch.Tensor:
    """Shifts and scales each row of a teacher's scores to [0, 1]; equal scores become 0.

    Teachers may have scores of any scale and no gradient, so the range may be as small as float32 allows.

    Args:
        scores: float tensor ``(batch, n)``, one row per query. Half precision is widened to float32 first.
    """
    low, high, scores = _extremes(scores)
    spread = high - low
    exact = torch.where(spread == 0, 1.0, spread)
    return (scores - low) / torch.where(spread < _SMALL_TEACHER_RANGE, exact, spread + _EPSILON)


def _extremes(scores: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Returns minimum and maximum of each row, and the scores, in float32 or float64."""
    if scores.dtype in (torch.float16, torch.bfloat16):
        scores = scores.float()
    return scores.min(dim=-1, keepdim=True).values, scores.max(dim=-1, keepdim=True).values, scores


class DistillationLoss(MultiVectorDistillKLDivLoss):
    """The distillation loss of a stage.

    ``"kl"`` is that of Sentence Transformers. ``"margin_mse"`` is the mean squared difference between the student's
    and the teacher's margins to the positive (Hofstätter et al., arXiv 2010.02666). ``"hard_labels"`` is the
    cross-entropy of the positive among the n documents; it ignores the teacher.

    Left out, with a loss and a gradient of exactly 0, are documents without scoring tokens, rows without two different
    documents or without a query, and with ``"hard_labels"`` copies of the positive. Texts are compared by their tokens,
    see :func:`~pyterrier_jacolbert.train.copies.text_numbers`. Means are taken over all rows, including these.

    Args:
        model: student.
        stage: settings of the loss: its kind, normalisations, temperatures and in-batch negatives.
        mini_batch_size: documents per forward pass, which are grouped by length; None encodes all of a batch at once.
        imitation: loss of which ``stage.imitation_weight`` times is added; None adds nothing. Both share the student's
            forward pass.
    """

    def __init__(
        self,
        model: MultiVectorEncoder,
        stage: Stage,
        mini_batch_size: int | None = None,
        imitation: ImitationLoss | None = None,
    ) -> None:
        super().__init__(
            model,
            similarity_fct=self._scores,
            student_temperature=stage.student_temperature,
            teacher_temperature=stage.teacher_temperature,
            mini_batch_size=mini_batch_size,
        )
        self.stage = stage
        # Hidden in a partial, like the teacher of the imitation, because the trainer would train its submodules.
        self._distance = None if imitation is None else partial(imitation.distance)
        self._vectors: tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor] | None = None
        self._positions: torch.Tensor | None = None
        self._numbers: tuple[torch.Tensor, torch.Tensor] | None = None
        self._in_batch: torch.Tensor | None = None
        self._scored: tuple[torch.Tensor, torch.Tensor] | None = None

    def forward(self, sentence_features: Iterable[dict[str, torch.Tensor]], labels: torch.Tensor) -> torch.Tensor:
        """Returns the loss of a batch, a scalar."""
        queries, *documents = sentence_features
        self._numbers = text_numbers([queries])[:, 0], text_numbers(documents)
        if self.mini_batch_size is not None:
            documents, self._positions = _sort_by_length(documents)
        labels = labels.float()
        # Its divergence is computed again below, without the documents that are left out.
        super().forward([queries, *documents], minmax_teacher_rows(labels) if self.stage.normalize_teacher else labels)
        assert self._scored is not None, "the forward pass of the base class scores the documents"
        loss = self._ranking_loss(*self._scored, labels)
        if self._in_batch is not None:
            loss = loss + self._in_batch
        if self._distance is not None and self._vectors is not None:
            query_vectors, queries_mask, document_vectors, documents_mask = self._vectors
            distance = self._distance([queries], query_vectors[:, None], queries_mask[:, None], "query")
            distance = distance + self._distance(documents, document_vectors, documents_mask, "document")
            loss = loss + self.stage.imitation_weight * distance
        self._positions = self._numbers = self._scored = self._in_batch = self._vectors = None
        return loss

    def _ranking_loss(self, scores: torch.Tensor, kept: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        if self.stage.normalize_teacher:
            labels = minmax_teacher_rows(fill_left_out(labels, kept))
        if self.stage.loss == "margin_mse":
            margins, expected = scores[:, :1] - scores[:, 1:], labels[:, :1] - labels[:, 1:]
            return torch.nn.functional.mse_loss(torch.where(kept[:, 1:], margins, expected), expected)
        logits = scores / self.student_temperature
        if self.stage.loss == "hard_labels":
            return _cross_entropy_of_first(logits, kept)
        student = torch.where(kept, logits, LEFT_OUT).log_softmax(dim=-1)
        teacher = torch.where(kept, labels / self.teacher_temperature, LEFT_OUT).log_softmax(dim=-1)
        divergence: torch.Tensor = self.loss_function(student, teacher)
        return divergence * (self.student_temperature**2)

    def get_config_dict(self) -> dict[str, Any]:
        """Returns the settings of the loss for the model card."""
        names = ["loss", "normalize_student", "normalize_teacher", "student_temperature", "teacher_temperature"]
        names += ["in_batch_negatives", "in_batch_temperature", "imitation_weight"]
        return {name: getattr(self.stage, name) for name in names}

    def _scores(
        self,
        queries: torch.Tensor,
        documents: torch.Tensor,
        queries_mask: torch.Tensor,
        documents_mask: torch.Tensor,
    ) -> torch.Tensor:
        if self._distance is not None:
            self._vectors = queries, queries_mask, documents, documents_mask
        if self._positions is not None:
            documents = _restore_order(documents, self._positions)
            documents_mask = _restore_order(documents_mask, self._positions)
        assert self._numbers is not None, "the forward pass numbers the texts"
        query_numbers, numbers = self._numbers
        scores = colbert_kd_scores(queries, documents, queries_mask=queries_mask, documents_mask=documents_mask)
        needs_positive = self.stage.loss != "kl"
        kept = documents_that_teach(numbers, queries_mask, documents_mask, needs_positive=needs_positive)
        if self.stage.loss == "hard_labels":
            kept[:, 1:] &= numbers[:, 1:] != numbers[:, :1]
        if self.stage.normalize_student:
            scores = minmax_rows(fill_left_out(scores, kept))
        if self.stage.in_batch_negatives:
            left_out = false_negatives(query_numbers, numbers)
            self._in_batch = in_batch_loss(
                queries, documents, queries_mask, documents_mask, self.stage.in_batch_temperature, left_out
            )
        self._scored = scores, kept
        return scores


class ImitationLoss(torch.nn.Module):
    """The mean cosine distance between the student's and a teacher's token vectors, of queries plus of documents.

    A student cut out of its teacher recovers most of what it lost in this way, before it is trained to rank. Tokens
    that score in only one of the two are left out; without a common token the distance is 0.

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
        return self._forward([queries], "query") + self._forward(documents, "document")

    def distance(
        self, columns: list[dict[str, Any]], vectors: torch.Tensor, mask: torch.Tensor, task: str
    ) -> torch.Tensor:
        """Returns the mean cosine distance between the student's vectors of some texts and the teacher's, a scalar.

        Args:
            columns: features of the texts, n columns of ``batch`` rows.
            vectors: the student's token vectors, ``(batch, n, tokens, dim)``.
            mask: the student's scoring tokens, ``(batch, n, tokens)``.
            task: ``"query"`` or ``"document"``.
        """
        with torch.no_grad():
            # Copies, because a forward pass overwrites the attention mask of its features with that of scoring tokens.
            features = [dict(column) for column in columns]
            expected, teacher_mask = stack_padded_token_embeddings(
                *self._embed_teacher(features, self.mini_batch_size, task)
            )
        common = mask & teacher_mask
        similarity = torch.nn.functional.cosine_similarity(vectors[common].float(), expected[common].float(), dim=-1)
        distance = 1 - similarity
        return distance.mean() if len(distance) else vectors.sum() * 0.0  # the mean of no token would be NaN

    def get_config_dict(self) -> dict[str, Any]:
        """Returns the settings of the loss for the model card."""
        return {"loss": "imitation"}

    def _forward(self, columns: list[dict[str, Any]], task: str) -> torch.Tensor:
        vectors, mask = embed_columns_padded(
            self.model, [dict(column) for column in columns], self.mini_batch_size, task
        )
        return self.distance(columns, *stack_padded_token_embeddings(vectors, mask), task)


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


def _cross_entropy_of_first(logits: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
    """Returns the cross-entropy of the first document among those that are kept; 0 in rows without any."""
    constant = torch.full_like(logits, LEFT_OUT)
    constant[:, 0] = 0.0
    targets = torch.zeros(len(logits), dtype=torch.long, device=logits.device)
    return torch.nn.functional.cross_entropy(torch.where(kept, logits, constant), targets)
