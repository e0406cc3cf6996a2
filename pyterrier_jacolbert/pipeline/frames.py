"""Frames of rankings: distinct values, the order of results, and new scores."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pandas as pd
import pyterrier as pt

from pyterrier_jacolbert.columns import DOCNO, QID, RANK, SCORE, nearest_field


@contextmanager
def naming_nearest(inp: pd.DataFrame, *fields: str | None) -> Iterator[None]:
    """Adds the nearest column of a frame to the error of a validation that misses a text or title column.

    Args:
        inp: the validated frame.
        *fields: text and title columns that a transformer was told to read; None stands for no column.

    Raises:
        pt.validate.InputValidationError: the validation failed.
    """
    try:
        yield
    except pt.validate.InputValidationError as error:
        missing = [field for field in fields if field and field not in inp.columns]
        if not missing or not len(inp.columns):
            raise
        raise pt.validate.InputValidationError(
            f"The frame has no {missing[0]!r} column; {nearest_field(missing[0], inp.columns)}, so name another "
            f"column, or add it. {error.args[0]}",
            error.modes,
        ) from None


def factorize(values: Sequence[str] | pd.Series) -> tuple[np.ndarray, list[str]]:
    """Numbers distinct values in order of first appearance.

    Returns:
        codes: int64 ``(n,)``, the number of each value; uniques: the distinct values by number.
    """
    column = values if isinstance(values, pd.Series) else pd.Series(list(values), dtype=object)
    codes, uniques = pd.factorize(column.to_numpy(dtype=object))
    return codes.astype(np.int64), list(uniques)


def check_one_query_per_qid(frame: pd.DataFrame, query_numbers: np.ndarray) -> None:
    """Checks that no qid stands for two queries, whose rankings would be mixed.

    Args:
        frame: with ``qid``.
        query_numbers: int64 ``(n,)``, the query of each row.

    Raises:
        ValueError: a qid stands for two queries.
    """
    qids, names = factorize(frame[QID])
    pairs = np.unique(np.stack([qids, query_numbers]), axis=1)
    repeated = np.flatnonzero(np.bincount(pairs[0]) > 1)
    if len(repeated):
        raise ValueError(f"The qid {names[repeated[0]]!r} stands for two different queries; give each its own qid.")


def first_rows(frame: pd.DataFrame) -> np.ndarray:
    """Returns the first row of each qid: int64 ``(n_qids,)``, ascending.

    A retriever ranks a qid once, however often its query is in the frame; see :func:`check_one_query_per_qid`.
    """
    return np.flatnonzero(~frame[QID].duplicated().to_numpy())


def ranked(frame: pd.DataFrame, scores: np.ndarray) -> pd.DataFrame:
    """Returns a frame with new scores and ranks: queries in order of first appearance, best document first.

    Ties go to the greater docno (by code points), as in ir_measures, so that ranks and evaluation agree.

    Args:
        frame: with ``qid`` and ``docno``; existing ``score`` and ``rank`` columns are replaced.
        scores: float ``(n,)``, one per row.
    """
    qids, _ = factorize(frame[QID])
    scores = np.asarray(scores, dtype=np.float64)
    order = np.lexsort((-scores, qids))
    falls = scores[order][1:] < scores[order][:-1]  # False for ties and NaN
    if (~falls & (np.diff(qids[order]) == 0)).any():
        docnos = pd.factorize(frame[DOCNO].to_numpy(dtype=object), sort=True)[0]
        order = np.lexsort((-docnos, -scores, qids))
    kept = {column: frame[column].array.take(order) for column in frame.columns if column not in (SCORE, RANK)}
    return pd.DataFrame({**kept, SCORE: scores[order], RANK: ranks_within(qids[order])})


def ranks_within(groups: np.ndarray) -> np.ndarray:
    """Returns ranks from 0 within each run of equal values: int64 ``(n,)``."""
    positions = np.arange(len(groups), dtype=np.int64)
    starts = np.flatnonzero(np.r_[True, groups[1:] != groups[:-1]]) if len(groups) else positions
    return positions - np.repeat(starts, np.diff(np.r_[starts, len(groups)]))


def results(
    queries: pd.DataFrame, rows: np.ndarray, docnos: Sequence[str], scores: np.ndarray, **columns: Sequence[Any]
) -> pd.DataFrame:
    """Builds a ranking from query rows: the columns of each query, then docno, score and rank.

    Args:
        queries: one row per query.
        rows: int64 ``(n,)``, the query row of each result; equal rows are adjacent, best document first.
        docnos: ``(n,)``.
        scores: ``(n,)``.
        **columns: further document columns, each ``(n,)``.
    """
    frame = queries.drop(columns=[DOCNO, SCORE, RANK, *columns], errors="ignore").iloc[rows].reset_index(drop=True)
    frame[DOCNO] = pd.Series(list(docnos), dtype="str")
    for name, values in columns.items():
        frame[name] = values
    frame[SCORE] = np.asarray(scores, dtype=np.float64)
    frame[RANK] = ranks_within(rows)
    return frame
