"""A batch of encoded documents on its way into the files of an index."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pyterrier_jacolbert.index.codecs.base import Codec
from pyterrier_jacolbert.index.codecs.registry import encode_in_threads
from pyterrier_jacolbert.index.limits import MAX_DIM


@dataclass(frozen=True)
class EncodedBatch:
    """Documents that are written together.

    Attributes:
        docnos: ``(n,)``.
        digests: ``(n,)``: 64-bit digest of the docno and content of each document.
        vectors: float32 ``(n_tokens, dim)`` each, unit rows; no rows for a document without text.
        texts: compressed UTF-8 text of each document; empty if texts are not stored.
    """

    docnos: Sequence[str]
    digests: Sequence[int]
    vectors: Sequence[np.ndarray]
    texts: Sequence[bytes] = ()

    def check(self, dim: int | None) -> None:
        """Checks that the vectors can be stored.

        Args:
            dim: dimensions of the vectors; None takes those of the first document.

        Raises:
            ValueError: vectors have other dimensions, or are not finite.
        """
        for docno, rows in zip(self.docnos, self.vectors, strict=True):
            if rows.ndim != 2 or (dim is not None and rows.shape[1] != dim):
                expected = "(n_tokens, dim)" if dim is None else f"(n_tokens, {dim})"
                raise ValueError(
                    f"The vectors of document {docno!r} have shape {rows.shape}, not {expected}; give a row per token."
                )
            if not np.isfinite(rows).all():
                raise ValueError(f"The vectors of document {docno!r} hold NaN or infinity; check the checkpoint.")
            if rows.shape[1] > MAX_DIM:
                raise ValueError(f"The vectors have {rows.shape[1]} dimensions, and an index stores at most {MAX_DIM}.")
            dim = rows.shape[1]

    def columns(self, codec: Codec | None, ends: Mapping[str, int]) -> dict[str, np.ndarray]:
        """Returns the rows that the batch appends to each array of an index.

        Args:
            codec: compresses the vectors; None keeps them in float16, as ``raw``.
            ends: last value of ``starts``, ``docno_starts`` and ``text_starts`` so far.
        """
        # Rounded to float16 even if a codec follows at once, so that compressing later, from raw, gives the same bytes.
        vectors = np.empty((sum(map(len, self.vectors)), self.vectors[0].shape[1]), dtype=np.float16)
        np.concatenate(self.vectors, out=vectors, casting="same_kind")
        names = [docno.encode("utf-8") for docno in self.docnos]
        columns = {
            "docno_bytes": np.frombuffer(b"".join(names), dtype=np.uint8),
            "docno_starts": ends["docno_starts"] + np.cumsum([len(name) for name in names]),
            "digests": np.array(self.digests, dtype=np.uint64),
            "starts": ends["starts"] + np.cumsum([len(rows) for rows in self.vectors]),
            **({"raw": vectors} if codec is None else encode_in_threads(codec, vectors)),
        }
        if self.texts:
            columns["text_bytes"] = np.frombuffer(b"".join(self.texts), dtype=np.uint8)
            columns["text_starts"] = ends["text_starts"] + np.cumsum([len(text) for text in self.texts])
        return columns
