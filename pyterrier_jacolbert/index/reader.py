"""An open index: token vectors by docid, decompressed on demand, with docnos and texts."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from pyterrier_jacolbert.index.checks import open_arrays
from pyterrier_jacolbert.index.codecs.registry import codec_of
from pyterrier_jacolbert.index.codecs.residual import ResidualCodec, check_centroid_ids
from pyterrier_jacolbert.index.codecs.scalar import Int8Codec, check_scales, to_float32
from pyterrier_jacolbert.index.search.exact import ExactScorer, Scorer, TokenVectors
from pyterrier_jacolbert.index.storage.docnos import Docnos
from pyterrier_jacolbert.index.storage.manifest import SINGLE, Manifest
from pyterrier_jacolbert.index.threads import cached_attribute

if TYPE_CHECKING:
    from pyterrier_jacolbert.index.search.quantized import QuantizedScorer


class IndexReader:
    """The mapped files of an index, in the state that its manifest had on opening.

    Args:
        directory: of the index.
        manifest: of the index.

    Attributes:
        manifest: of the index.
        arrays: all arrays of the files by name.
        parameters: parameters of the codec by name.
        codec: compresses the vectors.
        columns: compressed vectors by column name, ``(n_tokens, ...)`` each.
        starts: int64 ``(n_docs + 1,)``: document ``i`` has the tokens ``starts[i]`` to ``starts[i + 1]``.
        deleted: uint32, ascending: deleted docids.
        docnos: docnos by docid.
        digests: uint64 ``(n_docs,)``: digest of each document as it was given; 0 if it is not known.
        raw: float16 ``(n_tokens, dim)``: vectors before they were compressed; None if the index does not keep them.
        texts: compressed texts, concatenated, and the first byte of each; None if the index stores no text.

    Raises:
        ValueError: a file is missing or damaged.
    """

    def __init__(self, directory: Path, manifest: Manifest) -> None:
        self.arrays = maps = open_arrays(directory, manifest)
        self.manifest = manifest
        self.parameters: Mapping[str, np.ndarray] = {name: maps[name] for name in manifest.parameters}
        self.codec = codec_of(manifest.compression, manifest.dim, self.parameters)
        self.columns: Mapping[str, np.ndarray] = {name: maps[name] for name in self.codec.columns}
        self.starts = maps["starts"]
        self.deleted = maps.get("deleted", np.empty(0, dtype=np.uint32))
        self.raw: np.ndarray | None = maps.get("raw")
        self.docnos = Docnos(directory, manifest.files, self.deleted)
        # Indexes of earlier versions have none.
        self.digests: np.ndarray = maps["digests"] if "digests" in maps else np.zeros(len(self), dtype=np.uint64)
        self.texts: tuple[np.ndarray, np.ndarray] | None = None
        if "text_bytes" in maps:
            self.texts = maps["text_bytes"], maps["text_starts"]

    @classmethod
    def open(cls, directory: Path) -> Self:
        """Opens the index in a directory.

        Raises:
            FileNotFoundError: there is no index.
            ValueError: the index is damaged or of another kind.
        """
        return cls(directory, Manifest.read(directory, SINGLE))

    def __len__(self) -> int:
        return len(self.starts) - 1

    def rows(self, first: int, end: int) -> np.ndarray:
        """Returns the vectors of documents ``first`` to ``end``: float32 ``(n_tokens, dim)``."""
        return self.decode(slice(self.starts[first], self.starts[end]))

    def document_rows(self, docid: int) -> np.ndarray:
        """Returns the vectors of one document: float32 ``(n_tokens, dim)``."""
        return self.rows(docid, docid + 1)

    def original_rows(self, docid: int) -> np.ndarray:
        """Returns the vectors of one document as they were before compression, if the index keeps them.

        Returns:
            float32 ``(n_tokens, dim)``; decompressed vectors if the index does not keep the original ones.
        """
        if self.raw is None:
            return self.document_rows(docid)
        return to_float32(np.ascontiguousarray(self.raw[self.starts[docid] : self.starts[docid + 1]]))

    def take(self, docids: np.ndarray) -> TokenVectors:
        """Returns the vectors of the given documents."""
        firsts, ends = self.starts[docids], self.starts[np.asarray(docids) + 1]
        lengths = ends - firsts
        starts = np.zeros(len(lengths) + 1, dtype=np.int64)
        np.cumsum(lengths, out=starts[1:])
        return TokenVectors(self.decode(np.repeat(firsts - starts[:-1], lengths) + np.arange(starts[-1])), starts)

    def decode(self, rows: Any) -> np.ndarray:
        """Returns the vectors of the given tokens: float32 ``(n, dim)``."""
        return self.codec.decode({name: column[rows] for name, column in self.columns.items()})

    def check_tokens(self) -> None:
        """Checks the values of all token vectors by which others are found or multiplied: centroid ids and scales.

        Raises:
            ValueError: an id is out of range, or a scale is negative or not finite.
        """
        centroids = self.parameters.get("centroids")
        if centroids is not None:
            check_centroid_ids(self.columns["centroid_ids"], len(centroids))
        if "scales" in self.columns:
            check_scales(self.columns["scales"])

    @cached_attribute
    def scorer(self) -> Scorer:
        """Scorer of all documents."""
        from pyterrier_jacolbert.index.search.quantized import Int8Scorer, ResidualScorer

        if isinstance(self.codec, ResidualCodec):
            return ResidualScorer(self.columns, self.starts, self.codec)
        if isinstance(self.codec, Int8Codec) and Int8Scorer.takes(self.codec.dim):
            return Int8Scorer(self.columns, self.starts, self.codec)
        return ExactScorer(self)

    @property
    def two_stage_scorer(self) -> QuantizedScorer | None:
        """The scorer if it has centroids, otherwise None."""
        from pyterrier_jacolbert.index.search.quantized import QuantizedScorer

        return self.scorer if isinstance(self.scorer, QuantizedScorer) and self.scorer.has_centroids else None

    @cached_attribute
    def present(self) -> np.ndarray | None:
        """int64, ascending: docids that are not deleted; None if no document is deleted."""
        return self.present_docids() if len(self.deleted) else None

    def present_docids(self) -> np.ndarray:
        """Returns the docids that are not deleted: int64, ascending."""
        return np.setdiff1d(np.arange(len(self)), self.deleted)

    def text(self, docid: int) -> str:
        """Returns the stored text of a document.

        Raises:
            ValueError: the index stores no text, or the text is damaged.
        """
        if self.texts is None:
            raise ValueError("The index stores no text; build it with store_text=True.")
        content, starts = self.texts
        limit = self.manifest.max_text_bytes
        try:
            stream = zlib.decompressobj()
            text = stream.decompress(content[starts[docid] : starts[docid + 1]].tobytes(), limit + 1)
            if len(text) > limit or not stream.eof or stream.unused_data:
                raise ValueError(f"it has more than {limit:,} bytes, or does not end where it should")
            return text.decode("utf-8")
        except (zlib.error, ValueError) as error:
            raise ValueError(
                f"The text of document {self.docnos[docid]!r} is damaged ({error}); build or fetch the index again."
            ) from None
