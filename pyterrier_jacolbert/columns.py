"""Column names of frames, and the checks of what a cell may hold."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

QID = "qid"
QUERY = "query"
DOCNO = "docno"
TEXT = "text"
SCORE = "score"
RANK = "rank"
#: Token vectors, float32 ``(n_tokens, dim)`` per cell; pyterrier_colbert and pyterrier_dr use the same names.
QUERY_EMBS = "query_embs"
DOC_EMBS = "doc_embs"
#: Docnos that a retriever may return, a list per query.
ALLOWED_DOCNOS = "allowed_docnos"
#: Contribution of each query token to the score, float32 ``(n_query_tokens,)`` per cell, as in pyterrier_colbert.
CONTRIBUTIONS = "contributions"
#: Sparse ``{term: weight}`` dicts, as Terrier, PISA and the plugins for learned sparse retrieval read them.
TOKS = "toks"
QUERY_TOKS = "query_toks"
#: Columns that never hold the text or the title of a document.
_WITHOUT_TEXT = (QID, QUERY, DOCNO, SCORE, RANK, QUERY_EMBS, DOC_EMBS, ALLOWED_DOCNOS, CONTRIBUTIONS, TOKS, QUERY_TOKS)
#: Difference from 1 up to which the length of a vector counts as rounding, and the vector stays as it is.
_ROUNDING = 1e-5


def is_missing(value: object) -> bool:
    """Returns whether a cell holds no value: None, NaN of any type, NaT or ``pd.NA``."""
    return value is None or (pd.api.types.is_scalar(value) and bool(pd.isna(value)))  # type: ignore[call-overload]


def check_text(value: object, owner: str) -> str:
    """Returns a value if it is a string that can be tokenised and stored.

    Args:
        value: content of a text, query or id cell.
        owner: description for the message, such as ``"text of document 'd3' (position 2)"``.

    Raises:
        ValueError: the value is None or NaN, is not a string, or holds a lone surrogate, which UTF-8 cannot encode.
    """
    if not isinstance(value, str):
        if is_missing(value):
            raise ValueError(f'The {owner} is missing (None or NaN); drop it or put "" in its place.')
        raise ValueError(f"The {owner} is of type {type(value).__name__}, not a string; convert it with str().")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(
            f"The {owner} holds a lone surrogate (U+{ord(value[error.start]):04X} at character {error.start}), "
            "which is not text; repair it, for example with "
            "text.encode('utf-16', 'surrogatepass').decode('utf-16', 'replace')."
        ) from None
    return value


def join_title(title: object, text: object, owner: str, *, title_field: str | None, text_field: str) -> str:
    """Returns the text of a document with its title in front, separated by a space.

    Args:
        title: content of the title cell; see :func:`check_title`.
        text: content of the text cell.
        owner: document for messages, such as ``"docno 'd3'"``.
        title_field: name of the title cell, for messages.
        text_field: name of the text cell, for messages.

    Returns:
        The text; "" if it is white space alone, and there is no title.

    Raises:
        ValueError: the text is missing; or the text or the title is not a string, or holds a lone surrogate.
    """
    checked = check_text(text, f"{text_field} of {owner}")
    prefix = check_title(title, f"{title_field} of {owner}")
    checked = f"{prefix} {checked}" if prefix else checked
    return checked if checked.strip() else ""


def check_title(value: object, owner: str) -> str:
    """Returns a title; "" if it is missing (None, NaN, NaT, ``pd.NA``) or white space alone.

    Args:
        value: content of a title cell.
        owner: see :func:`check_text`.

    Raises:
        ValueError: the value is something else than a string, or holds a lone surrogate.
    """
    title = "" if is_missing(value) else check_text(value, owner)
    return title if title.strip() else ""


def check_vectors(value: Any, owner: str) -> np.ndarray:
    """Returns token vectors as a matrix.

    Args:
        value: ``(n_tokens, dim)``: an array of any real type, nested lists, an array of rows (as Parquet files hold
            them), or a torch tensor of any real type, on any device, with or without gradient.
        owner: description for the message, such as ``"query_embs of qid 'q1'"``.

    Returns:
        float32 ``(n_tokens, dim)``. It may share memory with ``value``.

    Raises:
        ValueError: the value is not a matrix of real numbers, or holds NaN or infinity.
    """
    matrix = _real_matrix(value, owner)
    with np.errstate(over="ignore"):
        floats = np.asarray(matrix, dtype=np.float32)
    _check_finite(floats, owner)
    return floats


def check_unit_vectors(value: Any, owner: str) -> np.ndarray:
    """Returns token vectors as a matrix whose rows have length 1.

    A score is a sum of cosines, and a compression stores directions. So rows of another length are scaled here, where
    they enter, and every compression ranks them alike. Rows whose length differs from 1 by rounding stay as they are.

    Args:
        value: see :func:`check_vectors`.
        owner: description for the message, such as ``"doc_embs of document 'd3' (position 2)"``.

    Returns:
        float32 ``(n_tokens, dim)``, in memory of its own.

    Raises:
        ValueError: see :func:`check_vectors`; also if a row is all zeros, which has no direction.
    """
    matrix = _real_matrix(value, owner)
    _check_finite(matrix, owner)
    greatest = np.abs(matrix).max(axis=1, initial=0.0).astype(np.float64)
    zero = np.flatnonzero(greatest == 0)
    if len(zero):
        raise ValueError(
            f"Row {zero[0]} of the {owner} is all zeros, which has no direction to compare; leave the row out."
        )
    # Divided by the greatest value first, so that no square overflows or vanishes.
    lengths = greatest * np.linalg.norm(matrix / greatest[:, None], axis=1)
    # Also as they are returned, so that a row that stays would stay again.
    returned = lengths
    if matrix.dtype != np.float32:
        with np.errstate(over="ignore"):
            returned = np.linalg.norm(matrix.astype(np.float32).astype(np.float64), axis=1)
    near = (np.abs(lengths - 1) <= _ROUNDING) & (np.abs(returned - 1) <= _ROUNDING)
    divisors = np.where(near, 1.0, lengths)
    if (divisors == 1).all():
        return np.array(matrix, dtype=np.float32, order="C")
    scaled = matrix / greatest[:, None] / (divisors / greatest)[:, None]
    # A row that stays is not divided at all: dividing twice would change its last bits.
    return np.where(divisors[:, None] == 1, matrix, scaled).astype(np.float32)


def _real_matrix(value: Any, owner: str) -> np.ndarray:
    """Returns a matrix of real numbers: float or integer ``(n, dim)``."""
    try:
        matrix = _to_array(value)
    except (TypeError, ValueError, RuntimeError, NotImplementedError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(
            f"The {owner} are not a matrix of numbers ({reason}); give one row per token, all of the same length."
        ) from None
    if matrix.ndim != 2 or not matrix.shape[1]:
        raise ValueError(f"The {owner} have shape {matrix.shape}, not (n_tokens, dim); give one row per token.")
    return matrix


def _to_array(value: Any) -> np.ndarray:
    """Converts what holds real numbers to an array of floats or integers."""
    if hasattr(value, "detach"):  # a torch tensor; torch itself may not be loaded
        tensor = value.detach().cpu()
        tensor = tensor.to_dense() if tensor.is_sparse else tensor
        # NumPy has neither bfloat16 nor the types of 8 bits.
        value = (tensor.float() if tensor.is_floating_point() and tensor.element_size() < 4 else tensor).numpy()
    elif isinstance(value, np.ma.MaskedArray):
        value = np.ma.filled(value.astype(np.float64), np.nan)
    elif isinstance(value, (list, tuple)) and value and hasattr(value[0], "__array__"):
        value = np.stack([_to_array(row) for row in value])
    array = np.asarray(value)
    if array.dtype == object and array.ndim == 1:
        array = np.stack([_to_array(row) for row in array]) if len(array) else array.astype(np.float64)
    elif array.dtype == object:
        array = array.astype(np.float64)
    elif array.dtype.kind == "V" and array.dtype.names is None:  # bfloat16 of ml_dtypes
        array = array.astype(np.float32)
    if array.dtype.kind not in "iuf":
        raise TypeError(f"their type is {array.dtype}")
    return array


def _check_finite(matrix: np.ndarray, owner: str) -> None:
    if not np.isfinite(matrix).all():
        row = int(np.flatnonzero(~np.isfinite(matrix).all(axis=1))[0])
        raise ValueError(f"The {owner} hold NaN or infinity, in row {row}; check what computed them.")


def nearest_field(name: str, fields: Iterable[object]) -> str:
    """Returns a sentence part that names the field of a document or frame that is spelled most like a wrong one.

    Args:
        name: field that is not there.
        fields: fields that are there. Those that never hold text are only listed.

    Returns:
        The nearest field, or what the fields are if none may hold text.
    """
    names = [str(field) for field in fields]

    def similarity(field: str) -> tuple[float, bool]:
        return difflib.SequenceMatcher(None, name.lower(), field.lower()).ratio(), field == TEXT

    may_hold_text = [field for field in names if field not in _WITHOUT_TEXT]
    if not may_hold_text:
        return f"it has only {names}"
    return f"the nearest of {names} is {max(may_hold_text, key=similarity)!r}"


def check_ids(frame: pd.DataFrame, *columns: str) -> None:
    """Checks that id columns hold strings only.

    Raises:
        ValueError: a column holds other values. Integer ids would make PyTerrier's joins with qrels come out empty.
    """
    for column in columns:
        found = pd.api.types.infer_dtype(frame[column], skipna=False)
        if len(frame) and found not in ("string", "empty"):
            raise ValueError(
                f"The column {column!r} must hold strings, not {found} values: "
                f"frame[{column!r}] = frame[{column!r}].astype(str)."
            )


def check_column(frame: pd.DataFrame, column: str, id_column: str) -> list[str]:
    """Returns the texts of a column after checking each with :func:`check_text`; messages name the id of the row."""
    return [
        check_text(value, f"{column} of {id_column} {name!r}")
        for name, value in zip(frame[id_column], frame[column], strict=True)
    ]


def check_titles(frame: pd.DataFrame, column: str) -> list[str]:
    """Returns the titles of the documents of a frame after checking each with :func:`check_title`."""
    return [
        check_title(value, f"{column} of {DOCNO} {name!r}")
        for name, value in zip(frame[DOCNO], frame[column], strict=True)
    ]
