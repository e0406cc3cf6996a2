"""Writing an index: documents' token vectors appended as they come, nothing held but a block."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pyterrier_jacolbert.index.docnos import write_docnos
from pyterrier_jacolbert.index.store import ArrayWriter, write_array

#: How the vectors are stored. Compressed codecs come beside it.
CODEC = "float16"
_MAX_DOCUMENTS = 2**32 - 1


class IndexWriter:
    """Writes the files of an index into a directory, one block of documents after another.

    Args:
        directory: an empty directory.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._vectors: ArrayWriter | None = None
        self._docnos: list[str] = []
        self._starts = [0]

    def __enter__(self) -> IndexWriter:
        return self

    def __exit__(self, *_: object) -> None:
        if self._vectors is not None:
            self._vectors.abandon()

    def add(self, docnos: Sequence[str], vectors: Sequence[np.ndarray]) -> None:
        """Adds documents.

        Args:
            docnos: ``(n,)``, unique in the index.
            vectors: for each document ``(n_tokens, dim)``, unit rows; no rows for a document that cannot match.

        Raises:
            ValueError: vectors of another dimension than those before, or not finite; too many documents.
        """
        for docno, rows in zip(docnos, vectors, strict=True):
            if rows.ndim != 2 or (self._vectors is not None and rows.shape[1] != self.dim):
                expected = "(n_tokens, dim)" if self._vectors is None else f"(n_tokens, {self.dim})"
                raise ValueError(f"The vectors of document {docno!r} have shape {rows.shape}, not {expected}.")
            if not np.isfinite(rows).all():
                raise ValueError(f"The vectors of document {docno!r} hold NaN or infinity; check the checkpoint.")
            if self._vectors is None:
                self._vectors = ArrayWriter(self._directory, "vectors.f2", "<f2", rows.shape[1:])
        if len(self._docnos) + len(docnos) > _MAX_DOCUMENTS:
            raise ValueError(f"An index holds at most {_MAX_DOCUMENTS} documents; split the collection.")
        if self._vectors is not None and len(vectors):
            self._vectors.append(np.concatenate([rows.astype(np.float16) for rows in vectors]))
        self._docnos.extend(docnos)
        for rows in vectors:
            self._starts.append(self._starts[-1] + len(rows))

    @property
    def dim(self) -> int:
        """The dimensions of a vector; 0 before the first document."""
        return 0 if self._vectors is None else self._vectors.row_shape[0]

    def finish(self) -> dict[str, Any]:
        """Closes the files and returns what ``pt_meta.json`` says of them."""
        assert self._vectors is not None, "an index has at least one document"
        files = {
            "vectors": self._vectors.close(),
            "starts": write_array(self._directory, "starts.i8", np.array(self._starts, dtype=np.int64)),
            **write_docnos(self._directory, self._docnos),
        }
        return {
            "codec": CODEC,
            "documents": len(self._docnos),
            "tokens": self._starts[-1],
            "dim": self.dim,
            "files": files,
        }
