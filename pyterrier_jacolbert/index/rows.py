"""Documents on their way into an index: blocks of them, and the growing arrays that their rows go to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pyterrier_jacolbert.index.codec import encode_in_threads
from pyterrier_jacolbert.index.columns import Codec
from pyterrier_jacolbert.index.files import GrowingArray, map_array, room_for


@dataclass(frozen=True)
class Shard:
    """Documents that are written together.

    Attributes:
        docnos: ``(n,)``.
        digests: ``(n,)``: 64 bits of each document's docno and content.
        vectors: for each float32 ``(n_tokens, dim)``, unit rows; no rows for a document that cannot match.
        texts: for each its text in UTF-8, compressed, where texts are stored.
    """

    docnos: Sequence[str]
    digests: Sequence[int]
    vectors: Sequence[np.ndarray]
    texts: Sequence[bytes] = ()

    def check(self, dim: int | None) -> None:
        """Refuses vectors that cannot be stored.

        Raises:
            ValueError: they have another dimension than ``dim`` or each other, or are not finite.
        """
        for docno, rows in zip(self.docnos, self.vectors, strict=True):
            if rows.ndim != 2 or (dim is not None and rows.shape[1] != dim):
                expected = "(n_tokens, dim)" if dim is None else f"(n_tokens, {dim})"
                raise ValueError(
                    f"The vectors of document {docno!r} have shape {rows.shape}, not {expected}; make one row a token."
                )
            if not np.isfinite(rows).all():
                raise ValueError(f"The vectors of document {docno!r} hold NaN or infinity; check the checkpoint.")
            dim = rows.shape[1]

    def columns(self, codec: Codec | None, first_rows: Mapping[str, int]) -> dict[str, np.ndarray]:
        """The rows that the shard adds to each array.

        Args:
            codec: None gives ``raw``, the vectors in float16.
            first_rows: the last value of ``starts``, ``docno_starts`` and ``text_starts`` so far.
        """
        # Rounded to float16 also where a codec follows at once: what is coded later, from raw, has the same bytes.
        vectors = np.empty((sum(map(len, self.vectors)), self.vectors[0].shape[1]), dtype=np.float16)
        np.concatenate(self.vectors, out=vectors, casting="same_kind")
        names = [docno.encode("utf-8") for docno in self.docnos]
        columns = {
            "docno_bytes": np.frombuffer(b"".join(names), dtype=np.uint8),
            "docno_starts": first_rows["docno_starts"] + np.cumsum([len(name) for name in names]),
            "starts": first_rows["starts"] + np.cumsum([len(rows) for rows in self.vectors]),
            **({"raw": vectors} if codec is None else encode_in_threads(codec, vectors)),
        }
        if self.texts:
            columns["text_bytes"] = np.frombuffer(b"".join(self.texts), dtype=np.uint8)
            columns["text_starts"] = first_rows["text_starts"] + np.cumsum([len(text) for text in self.texts])
        return columns


class Arrays:
    """The growing arrays of an index under their names, opened when they are first written to.

    Args:
        directory: the index's folder.
        folder: the folder within it that holds the files.
        entries: of those that exist already, by name.
    """

    def __init__(self, directory: Path, folder: str, entries: Mapping[str, Any]) -> None:
        self._directory = directory
        self._folder = folder
        self.entries: dict[str, Any] = dict(entries)
        self._open: dict[str, GrowingArray] = {}

    def append(self, columns: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """Adds rows to arrays, of which one that is not there begins, and brings them to the disk.

        Returns:
            The entries of all arrays by name.

        Raises:
            OSError: the disk is full.
        """
        with room_for(self._directory, sum(rows.nbytes for rows in columns.values())):
            for name, rows in columns.items():
                if name not in self._open:
                    self._open[name] = self._growing(name, rows)
                self._open[name].append(rows)
            self.entries |= {name: array.flush() for name, array in self._open.items()}
        return self.entries

    def close(self) -> None:
        """Closes the files."""
        for array in self._open.values():
            array.close()
        self._open = {}

    def map(self, name: str) -> np.ndarray:
        """What an array holds as of the last flush."""
        return map_array(self._directory, self.entries[name])

    def last(self, name: str) -> int:
        """The last value of an array of ends, 0 where there is none."""
        return int(self.map(name)[-1]) if name in self.entries else 0

    def _growing(self, name: str, rows: np.ndarray) -> GrowingArray:
        if name in self.entries:
            entry = self.entries[name]
            count, *row_shape = entry["shape"]
            return GrowingArray(self._directory, entry["file"], entry["dtype"], row_shape, rows=count)
        dtype = rows.dtype.newbyteorder("<")
        file = f"{self._folder}/{name}.{dtype.str[1:]}"
        array = GrowingArray(self._directory, file, dtype.str, rows.shape[1:])
        if name.endswith("starts"):
            array.append(np.zeros(1, dtype=dtype))
        return array
