"""Builds explanations from a model or from the vectors that an index stores."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pyterrier_jacolbert.columns import check_text
from pyterrier_jacolbert.encoding.token_offsets import characters_read, document_tokens, query_tokens
from pyterrier_jacolbert.explain.explanation import Explanation
from pyterrier_jacolbert.index.search.contributions import token_similarities

if TYPE_CHECKING:
    from pyterrier_jacolbert.encoding.encoder import TokenEncoder
    from pyterrier_jacolbert.pipeline.protocols import Index, Model


def explain_text(model: Model, query: str, text: str) -> Explanation:
    """Explains the score that ``model.text_scorer()`` gives to a text.

    Args:
        model: model that encodes the query and the text.
        query: query.
        text: text of a document, preceded by its title and a space if the scorer used one.

    Returns:
        The explanation.

    Raises:
        ValueError: the query or text is not a string or holds a lone surrogate, or the checkpoint's vectors do not
            stand for one token each.
    """
    check_text(query, "query")
    text = _without_blanks(check_text(text, "text"))
    rows = model.encode_documents([text])[0]
    return _explain(model.encoder, query, model.encode_queries([query])[0], text, rows, None, repr(model))


def explain_from_index(index: Index, query: str, docno: str, text: str | None) -> Explanation:
    """Explains the score that an index's retrievers and scorer give to a document, from its stored vectors.

    Args:
        index: index that contains the document.
        query: query.
        docno: name of the document.
        text: text of the document as it was indexed, title first; None uses the text that the index stores.

    Returns:
        The explanation.

    Raises:
        ValueError: the index does not contain the document, stores no text and none is given, or was built with token
            pooling; the text differs from the one that was indexed; or the query or text is not a string.
    """
    check_text(query, "query")
    reader = index.token_vectors()
    docid = int(reader.docnos.known_docids([docno], owner=repr(index))[0])
    if text is None:
        if reader.texts is None:
            raise ValueError(
                f"{index!r} holds no text to show; build it with store_text=True, or give the text of {docno!r}: "
                "index.explain(query, docno, text=...)."
            )
        text = reader.text(docid)
    text = _without_blanks(check_text(text, f"text of docno {docno!r}"))
    pool_factor = reader.manifest.settings.pool_factor
    if pool_factor not in (None, 1):
        raise ValueError(
            f"{index!r} was built with pool_factor={pool_factor:g}, so each of its vectors stands for several tokens; "
            "explain from the text, with index.model.explain(query, text)."
        )
    query_rows = index.encode_queries([query])[0]
    return _explain(index.model.encoder, query, query_rows, text, reader.document_rows(docid), docno, repr(index))


def _without_blanks(text: str) -> str:
    """Returns the text, or "" for white space alone, because such a document has no vectors."""
    return text if text.strip() else ""


def _explain(
    encoder: TokenEncoder,
    query: str,
    query_rows: np.ndarray,
    text: str,
    document_rows: np.ndarray,
    docno: str | None,
    owner: str,
) -> Explanation:
    tokens = document_tokens(encoder, text)
    if len(tokens) != len(document_rows):
        name = "This text" if docno is None else f"The text of {docno!r}"
        raise ValueError(
            f"{name} has {len(tokens)} tokens, but {owner} has {len(document_rows)} vectors for it, so tokens and "
            "vectors cannot be matched; give the text as it was indexed, title first, with the checkpoint that built "
            "the index."
        )
    return Explanation(
        query=query,
        text=text,
        query_tokens=query_tokens(encoder, query),
        document_tokens=tokens,
        similarities=token_similarities(query_rows, document_rows),
        docno=docno,
        read=characters_read(encoder, text),
    )
