"""Copies among the texts of a batch, recognised by their token ids, and the documents that a loss leaves out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

#: Logit of a document that is left out: its probability is 0, and it is finite, so that 0 times it is 0.
LEFT_OUT = -1e30


def text_numbers(columns: Sequence[Mapping[str, Any]]) -> torch.Tensor:
    """Numbers the texts of some columns, so that two texts have the same number if they have the same tokens.

    Texts are compared as the student reads them: cut to its maximum length, and after its tokenizer's normalisation.
    Columns without a row of token ids per text, such as flattened ones, count as all different.

    Args:
        columns: features of each column, with ``input_ids`` and ``attention_mask`` ``(batch, n_tokens)``.

    Returns:
        int64 ``(batch, len(columns))``.
    """
    rows = [_token_rows(column) for column in columns]
    known = [row for row in rows if row is not None]
    if len(known) < len(rows):
        mask = columns[0]["attention_mask"]
        return torch.arange(len(mask) * len(columns), device=mask.device).view(len(mask), -1)
    width = max(row.shape[1] for row in known)
    padded = torch.cat([torch.nn.functional.pad(row, (0, width - row.shape[1]), value=-1) for row in known])
    numbers: torch.Tensor = torch.unique(padded, dim=0, return_inverse=True)[1]
    return numbers.view(len(columns), -1).T


def _token_rows(column: Mapping[str, Any]) -> torch.Tensor | None:
    """Returns the token ids of each text from the left, filled up with -1; None if rows and texts do not match."""
    ids, mask = column.get("input_ids"), column["attention_mask"]
    if ids is None or ids.ndim != 2 or ids.shape != mask.shape or "cu_seq_lens_q" in column:
        return None
    padding = mask == 0
    order = padding.long().argsort(dim=1, stable=True)
    left_aligned: torch.Tensor = ids.masked_fill(padding, -1).gather(1, order)
    return left_aligned


def false_negatives(queries: torch.Tensor, documents: torch.Tensor) -> torch.Tensor:
    """Marks the documents of a batch that are no negatives of a query.

    These are the positives of all rows with the same query, and their copies, except for the row's own positive.

    Args:
        queries: numbers of the queries, ``(batch,)``.
        documents: numbers of the documents, ``(batch, n)``, the positive first.

    Returns:
        bool ``(batch, batch * n)``, in the order of ``documents.flatten()``.
    """
    same_query = queries[:, None] == queries
    copies = documents[:, :1] == documents.flatten()  # row r: of the positive of row r
    marked = same_query.float() @ copies.float() > 0
    rows = torch.arange(len(queries), device=queries.device)
    marked[rows, rows * documents.shape[1]] = False
    return marked


def documents_that_teach(
    documents: torch.Tensor, queries_mask: torch.Tensor, documents_mask: torch.Tensor, *, needs_positive: bool
) -> torch.Tensor:
    """Marks the documents on which a ranking loss can be computed.

    Documents without a scoring token have no score. A row teaches nothing if its query has no scoring token, or if all
    documents that remain are copies of one text, whose scores are equal whatever the weights.

    Args:
        documents: numbers of the documents, ``(batch, n)``, the positive first.
        queries_mask: scoring tokens, ``(batch, q_tokens)``.
        documents_mask: scoring tokens, ``(batch, n, d_tokens)``.
        needs_positive: whether a row without its positive teaches nothing.

    Returns:
        bool ``(batch, n)``; all False in a row that teaches nothing.
    """
    scored: torch.Tensor = documents_mask.bool().any(dim=-1)
    differs = scored & (documents != documents.gather(1, _first(scored)))
    teaches = differs.any(dim=1) & queries_mask.bool().any(dim=-1)
    if needs_positive:
        teaches = teaches & scored[:, 0]
    return scored & teaches[:, None]


def fill_left_out(scores: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
    """Replaces the scores of documents that are left out by one that is kept, so that they cannot be an extreme.

    Args:
        scores: ``(batch, n)``.
        kept: bool ``(batch, n)``; a row without a kept document is filled with its first score.
    """
    return torch.where(kept, scores, scores.gather(1, _first(kept)))


def _first(marked: torch.Tensor) -> torch.Tensor:
    """Returns the position of the first True of each row, ``(batch, 1)``; 0 if there is none."""
    return marked.int().argmax(dim=1, keepdim=True)
