"""The frames of a pipeline: column names, what a cell may hold, and the order of a ranking."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

QID = "qid"
QUERY = "query"
DOCNO = "docno"
TEXT = "text"
SCORE = "score"
RANK = "rank"
#: Token vectors, float32 ``(n_tokens, dim)`` a cell; the names that pyterrier_colbert and pyterrier_dr use too.
QUERY_EMBS = "query_embs"
DOC_EMBS = "doc_embs"
#: A list of docnos a query: what a retriever may find.
ALLOWED_DOCNOS = "allowed_docnos"
#: What each query token gave to the score, float32 ``(n_query_tokens,)`` a cell; the name that pyterrier_colbert has.
CONTRIBUTIONS = "contributions"
#: Sparse ``{term: weight}`` dicts, as Terrier, PISA and the learned sparse plugins read them.
TOKS = "toks"
QUERY_TOKS = "query_toks"


def check_text(value: object, owner: str) -> str:
    """Returns ``value`` if it is a string that can be tokenised and stored.

    Args:
        value: what a text, query or id cell holds.
        owner: what it is and whose, for the message, e.g. ``"text of document 'd3' (position 2)"``.

    Raises:
        ValueError: it is None or NaN, not a string, or holds a lone surrogate (which no UTF-8 file can hold).
    """
    if not isinstance(value, str):
        missing = value is None or value is pd.NA or (isinstance(value, float) and value != value)
        if missing:
            raise ValueError(f'The {owner} is missing (None or NaN); drop it or put "" in its place.')
        raise ValueError(f"The {owner} is a {type(value).__name__}, not a string; turn it into one with str().")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(
            f"The {owner} holds a lone surrogate (U+{ord(value[error.start]):04X} at character {error.start}), "
            "which is not text; repair it, for example with "
            "text.encode('utf-16', 'surrogatepass').decode('utf-16', 'replace')."
        ) from None
    return value


def check_ids(frame: pd.DataFrame, *columns: str) -> None:
    """Checks that id columns hold strings only.

    Raises:
        ValueError: a column holds something else; integer ids make PyTerrier's joins with qrels come out empty.
    """
    for column in columns:
        found = pd.api.types.infer_dtype(frame[column], skipna=False)
        if len(frame) and found not in ("string", "empty"):
            raise ValueError(
                f"The column {column!r} must hold strings, not {found} values: "
                f"frame[{column!r}] = frame[{column!r}].astype(str)."
            )


def check_column(frame: pd.DataFrame, column: str, id_column: str) -> list[str]:
    """The texts of a column, each checked by :func:`check_text` and named by its row's id in the message."""
    return [
        check_text(value, f"{column} of {id_column} {name!r}")
        for name, value in zip(frame[id_column], frame[column], strict=True)
    ]


def check_one_query_each(frame: pd.DataFrame, codes: np.ndarray) -> None:
    """Checks that no qid stands for two queries.

    Args:
        frame: with ``qid``.
        codes: int64 ``(n,)``, the number of each row's query.

    Raises:
        ValueError: one does; its rankings would be mixed.
    """
    qids, names = factorize(frame[QID])
    pairs = np.unique(np.stack([qids, codes]), axis=1)
    repeated = np.flatnonzero(np.bincount(pairs[0]) > 1)
    if len(repeated):
        raise ValueError(f"The qid {names[repeated[0]]!r} stands for two different queries; give each its own qid.")


def factorize(values: Sequence[str] | pd.Series) -> tuple[np.ndarray, list[str]]:
    """Numbers equal values alike, in order of first appearance.

    Returns:
        codes: int64 ``(n,)``, the number of each value; uniques: the values, by number.
    """
    column = values if isinstance(values, pd.Series) else pd.Series(list(values), dtype=object)
    codes, uniques = pd.factorize(column.to_numpy(dtype=object))
    return codes.astype(np.int64), list(uniques)


def ranked(frame: pd.DataFrame, scores: np.ndarray) -> pd.DataFrame:
    """The frame with new scores and ranks: queries in order of first appearance, best document first.

    Ties go to the later docno (descending code points), which is how ir_measures orders them, so that the rank
    column and the evaluation agree.

    Args:
        frame: with ``qid`` and ``docno``; an old ``score`` or ``rank`` column is replaced.
        scores: float ``(n,)``, row by row.
    """
    qids, _ = factorize(frame[QID])
    scores = np.asarray(scores, dtype=np.float64)
    order = np.lexsort((-scores, qids))
    falls = scores[order][1:] < scores[order][:-1]  # neither equal nor NaN
    if (~falls & (np.diff(qids[order]) == 0)).any():
        docnos = pd.factorize(frame[DOCNO].to_numpy(dtype=object), sort=True)[0]
        order = np.lexsort((-docnos, -scores, qids))
    kept = {column: frame[column].array.take(order) for column in frame.columns if column not in (SCORE, RANK)}
    return pd.DataFrame({**kept, SCORE: scores[order], RANK: ranks_within(qids[order])})


def ranks_within(groups: np.ndarray) -> np.ndarray:
    """Ranks from 0 within each run of equal values: int64 ``(n,)``."""
    positions = np.arange(len(groups), dtype=np.int64)
    starts = np.flatnonzero(np.r_[True, groups[1:] != groups[:-1]]) if len(groups) else positions
    return positions - np.repeat(starts, np.diff(np.r_[starts, len(groups)]))


def results(
    queries: pd.DataFrame, rows: np.ndarray, docnos: Sequence[str], scores: np.ndarray, **columns: Sequence[Any]
) -> pd.DataFrame:
    """A ranking made of query rows: each query's own columns, then docno, score and rank.

    Args:
        queries: one row a query.
        rows: int64 ``(n,)``, for each result the row of its query; equal rows adjoin, best document first.
        docnos: ``(n,)``.
        scores: ``(n,)``.
        **columns: more document columns, each ``(n,)``.
    """
    frame = queries.drop(columns=[DOCNO, SCORE, RANK, *columns], errors="ignore").iloc[rows].reset_index(drop=True)
    frame[DOCNO] = pd.Series(list(docnos), dtype="str")
    for name, values in columns.items():
        frame[name] = values
    frame[SCORE] = np.asarray(scores, dtype=np.float64)
    frame[RANK] = ranks_within(rows)
    return frame
