"""Losses over the documents of a whole batch, which leave out false negatives."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from sentence_transformers import MultiVectorEncoder
from sentence_transformers.multi_vector_encoder.losses import (
    CachedMultiVectorMultipleNegativesRankingLoss,
    MultiVectorMultipleNegativesRankingLoss,
)
from sentence_transformers.multi_vector_encoder.scoring import colbert_scores

from pyterrier_jacolbert.train.copies import LEFT_OUT, false_negatives, text_numbers
from pyterrier_jacolbert.train.stages import Stage


class ContrastiveLoss(torch.nn.Module):
    """The contrastive loss of a stage: the cross-entropy of each query's positive among all documents of the batch.

    It is Sentence Transformers' loss, with MaxSim scores. With a mini-batch size it is the cached one (GradCache, arXiv
    2101.06983): each text is encoded twice, and memory depends on the mini-batch alone, so batches may be large.

    The negatives of a query are the documents of the other queries in the batch, and its own negatives if the examples
    have some. Left out are the positives of equal queries in the batch, and their copies. Texts are compared by their
    tokens, see :func:`~pyterrier_jacolbert.train.copies.text_numbers`. A document that is relevant to a query but is
    not its positive anywhere in the batch cannot be recognised. The loss of a row whose query or positive has no
    scoring token is 0.

    The batch is that of one process and one forward pass.

    Source: supervised contrastive stage of ColBERT-Zero, arXiv 2602.16609, and of mxbai-edge-colbert, arXiv 2510.14880.

    Args:
        model: student.
        stage: settings of the loss, of which it uses the in-batch temperature.
        mini_batch_size: texts per forward pass; None encodes all of a batch at once, without caching.
    """

    def __init__(self, model: MultiVectorEncoder, stage: Stage, mini_batch_size: int | None = None) -> None:
        super().__init__()
        self.model = model
        self.stage = stage
        settings: dict[str, Any] = {"scale": 1 / stage.in_batch_temperature, "similarity_fct": self._scores}
        self.loss = (
            MultiVectorMultipleNegativesRankingLoss(model, **settings)
            if mini_batch_size is None
            else CachedMultiVectorMultipleNegativesRankingLoss(model, mini_batch_size=mini_batch_size, **settings)
        )
        self._left_out: torch.Tensor | None = None
        self._n_scored = 0

    def forward(self, sentence_features: Iterable[dict[str, torch.Tensor]], labels: torch.Tensor) -> torch.Tensor:
        """Returns the loss of a batch, a scalar."""
        queries, *documents = sentence_features
        self._left_out = false_negatives(text_numbers([queries])[:, 0], text_numbers(documents))
        self._n_scored = 0
        loss: torch.Tensor = self.loss([queries, *documents], labels)
        self._left_out = None
        return loss

    def get_config_dict(self) -> dict[str, Any]:
        """Returns the settings of the loss for the model card."""
        return {name: getattr(self.stage, name) for name in ("loss", "in_batch_temperature")}

    def _scores(
        self,
        queries: torch.Tensor,
        documents: torch.Tensor,
        queries_mask: torch.Tensor,
        documents_mask: torch.Tensor,
    ) -> torch.Tensor:
        """Scores the next queries of the batch, which arrive in order, against all of its documents."""
        assert self._left_out is not None, "the forward pass compares the texts"
        first = self._n_scored
        self._n_scored += len(queries)
        return in_batch_scores(
            queries, documents, queries_mask, documents_mask, self._left_out[first : self._n_scored], first
        )


def in_batch_scores(
    queries: torch.Tensor,
    documents: torch.Tensor,
    queries_mask: torch.Tensor,
    documents_mask: torch.Tensor,
    left_out: torch.Tensor | None = None,
    first: int = 0,
) -> torch.Tensor:
    """Returns the MaxSim scores of some queries of a batch with all of its documents, for a cross-entropy.

    The scores of a row whose query or positive has no scoring token are constants, of which the cross-entropy is 0.

    Args:
        queries: token vectors, ``(rows, q_tokens, dim)``.
        documents: token vectors, ``(batch, n, d_tokens, dim)``, the positive first.
        queries_mask: scoring tokens, ``(rows, q_tokens)``.
        documents_mask: scoring tokens, ``(batch, n, d_tokens)``.
        left_out: bool ``(rows, batch * n)``, True for documents that are no negatives of a query, see
            :func:`~pyterrier_jacolbert.train.copies.false_negatives`; None takes all documents.
        first: position of the first query in the batch.

    Returns:
        float32 ``(rows, batch * n)``. The positive of row r is document ``(first + r) * n``.
    """
    scores = colbert_scores(queries, documents, queries_mask=queries_mask, documents_mask=documents_mask)
    if left_out is not None:
        scores = scores.masked_fill(left_out, LEFT_OUT)
    rows = torch.arange(first, first + len(queries), device=scores.device)
    scored = queries_mask.bool().any(dim=-1) & documents_mask[rows, 0].bool().any(dim=-1)
    constant = torch.full_like(scores, LEFT_OUT).scatter(1, rows[:, None] * documents.shape[1], 0.0)
    return torch.where(scored[:, None], scores, constant)


def in_batch_loss(
    queries: torch.Tensor,
    documents: torch.Tensor,
    queries_mask: torch.Tensor,
    documents_mask: torch.Tensor,
    temperature: float = 1.0,
    left_out: torch.Tensor | None = None,
) -> torch.Tensor:
    """Returns the cross-entropy of each query's positive among all documents of the batch, scored by MaxSim.

    The batch is that of one process and one forward pass. The loss of a row whose query or positive has no scoring
    token is 0.

    Args:
        queries: token vectors, ``(batch, q_tokens, dim)``.
        documents: token vectors, ``(batch, n, d_tokens, dim)``, the positive first.
        queries_mask: scoring tokens, ``(batch, q_tokens)``.
        documents_mask: scoring tokens, ``(batch, n, d_tokens)``.
        temperature: divisor of the scores.
        left_out: bool ``(batch, batch * n)``, True for documents that are no negatives of a query, see
            :func:`~pyterrier_jacolbert.train.copies.false_negatives`; None takes all documents.
    """
    scores = in_batch_scores(queries, documents, queries_mask, documents_mask, left_out)
    positives = torch.arange(len(queries), device=scores.device) * documents.shape[1]
    return torch.nn.functional.cross_entropy(scores / temperature, positives)
