"""An index that is open: its vectors by docid, decoded when they are asked for, and its docnos."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from pyterrier_jacolbert.index.codec import codec_of
from pyterrier_jacolbert.index.coded_lanes import CodedLane, Int8Lane, ResidualLane
from pyterrier_jacolbert.index.docnos import Docnos
from pyterrier_jacolbert.index.files import map_array, map_starts
from pyterrier_jacolbert.index.lanes import FloatLane, Lane, TokenVectors
from pyterrier_jacolbert.index.residual_codec import ResidualCodec
from pyterrier_jacolbert.index.scalar_codecs import Int8Codec


class Stored:
    """The mapped files of an index, as its manifest was when it was opened.

    Args:
        directory: the index's folder.
        meta: its manifest.
    """

    def __init__(self, directory: Path, meta: Mapping[str, Any]) -> None:
        self.meta = meta
        maps = {name: map_array(directory, entry) for name, entry in meta["files"].items()}
        #: What a residual codec was trained to, by name.
        self.parameters = {name: maps[name] for name in meta["parameters"]}
        self.codec = codec_of(meta["compression"], meta["dim"], self.parameters)
        self.columns = {name: maps[name] for name in self.codec.columns}
        #: int64 ``(n_docs + 1,)``: document ``i`` has rows ``starts[i]`` to ``starts[i + 1]``.
        self.starts = map_starts(directory, meta["files"]["starts"], len(next(iter(self.columns.values()))))
        #: uint32, ascending: the docids that are deleted.
        self.deleted = maps.get("deleted", np.empty(0, dtype=np.uint32))
        self.docnos = Docnos(directory, meta["files"], self.deleted)
        self.texts: tuple[np.ndarray, np.ndarray] | None = None
        if "text_bytes" in maps:
            text_starts = map_starts(directory, meta["files"]["text_starts"], len(maps["text_bytes"]))
            self.texts = maps["text_bytes"], text_starts

    def __len__(self) -> int:
        return len(self.starts) - 1

    def rows(self, first: int, end: int) -> np.ndarray:
        """The vectors of documents ``first`` to ``end`` in float32: ``(n_tokens, dim)``."""
        return self.decode(slice(self.starts[first], self.starts[end]))

    def take(self, docids: np.ndarray) -> TokenVectors:
        """The vectors of some documents."""
        firsts, ends = self.starts[docids], self.starts[np.asarray(docids) + 1]
        lengths = ends - firsts
        starts = np.zeros(len(lengths) + 1, dtype=np.int64)
        np.cumsum(lengths, out=starts[1:])
        return TokenVectors(self.decode(np.repeat(firsts - starts[:-1], lengths) + np.arange(starts[-1])), starts)

    @cached_property
    def lane(self) -> Lane:
        """The documents as the search scores them."""
        if isinstance(self.codec, ResidualCodec):
            return ResidualLane(self.columns, self.starts, self.codec)
        if isinstance(self.codec, Int8Codec) and Int8Lane.takes(self.codec.dim):
            return Int8Lane(self.columns, self.starts, self.codec)
        return FloatLane(self)

    @property
    def two_stage_lane(self) -> CodedLane | None:
        """The lane, where it has centroids."""
        return self.lane if isinstance(self.lane, CodedLane) and self.lane.has_centroids else None

    @cached_property
    def present(self) -> np.ndarray | None:
        """int64, ascending: the docids that are not deleted; None where none is."""
        return np.setdiff1d(np.arange(len(self)), self.deleted) if len(self.deleted) else None

    def text(self, docid: int) -> str:
        """The stored text of a document.

        Raises:
            ValueError: the index holds no text.
        """
        if self.texts is None:
            raise ValueError("The index holds no text; build it with store_text=True.")
        content, starts = self.texts
        return zlib.decompress(content[starts[docid] : starts[docid + 1]].tobytes()).decode("utf-8")

    def decode(self, rows: Any) -> np.ndarray:  # noqa: ANN401 (a slice, or numbers)
        """The vectors of some tokens: float32 ``(n, dim)``."""
        return self.codec.decode({name: column[rows] for name, column in self.columns.items()})
