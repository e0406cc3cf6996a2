"""Column names of frames, and the checks of what a cell may hold."""

from __future__ import annotations

import pandas as pd

QID = "qid"
QUERY = "query"
#: Text of a query whose ``query_embs`` were expanded.
ORIGINAL_QUERY = "query_0"
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


def check_text(value: object, owner: str) -> str:
    """Returns a value if it is a string that can be tokenised and stored.

    Args:
        value: content of a text, query or id cell.
        owner: description for the message, such as ``"text of document 'd3' (position 2)"``.

    Raises:
        ValueError: the value is None or NaN, is not a string, or holds a lone surrogate, which UTF-8 cannot encode.
    """
    if not isinstance(value, str):
        missing = value is None or value is pd.NA or (isinstance(value, float) and value != value)
        if missing:
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
