"""An open sharded index, read and searched as if it were a single one.

All shards share one codec, so a document has the same score in any shard, and a search of all shards gives the ranking
of a single index of the same documents, to the last bit.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np

from pyterrier_jacolbert.index.checks import open_tables
from pyterrier_jacolbert.index.reader import IndexReader
from pyterrier_jacolbert.index.search.exact import ExactScorer, Scorer
from pyterrier_jacolbert.index.storage.atomic import META_FILE
from pyterrier_jacolbert.index.storage.concatenated import (
    ConcatenatedArray,
    bounds_of,
    concatenate_starts,
)
from pyterrier_jacolbert.index.storage.directory import is_built, read_consistently
from pyterrier_jacolbert.index.storage.docnos import Docnos
from pyterrier_jacolbert.index.storage.files import check_folders
from pyterrier_jacolbert.index.storage.manifest import SHARDED, Manifest, ShardEntry, manifest_digest
from pyterrier_jacolbert.index.threads import cached_attribute


class ShardedIndexReader(IndexReader):
    """The mapped files of all shards of an index, which share one codec and its parameters.

    Takes 16 bytes of memory per document, besides what is mapped.

    Args:
        directory: of the sharded index.
        manifest: of the sharded index, with the tables that look up and rank the docnos of all shards.
        parts: readers of the shards, in order.

    Attributes:
        parts: readers of the shards, in order.
        bounds: int64 ``(n_shards + 1,)``: shard ``i`` has the docids ``bounds[i]`` to ``bounds[i + 1]``.

    Raises:
        ValueError: the shards hold other documents than the manifest names.
    """

    def __init__(self, directory: Path, manifest: Manifest, parts: Sequence[IndexReader]) -> None:
        shards = [(directory / entry.folder, part.manifest) for entry, part in zip(manifest.shards, parts, strict=True)]
        tables = open_tables(directory, manifest, shards)
        self.manifest = manifest
        self.parts = list(parts)
        self.parameters = parts[0].parameters
        self.codec = parts[0].codec
        self.bounds = bounds_of([len(part) for part in parts])
        self.columns: Any = {
            name: ConcatenatedArray([part.columns[name] for part in parts]) for name in parts[0].columns
        }
        self.raw = None  # each part has its own
        self.starts = concatenate_starts([part.starts for part in parts])
        deleted = [tables["deleted"]] if "deleted" in tables else []
        deleted += [part.deleted + np.uint32(first) for part, first in zip(parts, self.bounds, strict=False)]
        self.deleted = np.unique(np.concatenate(deleted)).astype(np.uint32)
        self.docnos = Docnos(directory, manifest.files, self.deleted, concatenated_docnos(parts))
        self.digests: Any = ConcatenatedArray([part.digests for part in parts])
        self.texts: Any = None
        texts = [part.texts for part in parts if part.texts is not None]
        if len(texts) == len(parts):
            contents = ConcatenatedArray([content for content, _ in texts])
            self.texts = contents, concatenate_starts([starts for _, starts in texts])

    @classmethod
    def open(cls, directory: Path) -> Self:
        """Opens the sharded index in a directory.

        Raises:
            FileNotFoundError: there is no index.
            ValueError: the index is damaged or of another kind, or a shard was changed on its own.
        """
        return read_consistently(
            lambda: Manifest.read(directory, SHARDED), functools.partial(cls.of_manifest, directory)
        )

    @classmethod
    def of_manifest(cls, directory: Path, manifest: Manifest) -> Self:
        """Opens the shards that a manifest names; see :meth:`open`."""
        return cls(directory, manifest, [_open_shard(directory, entry) for entry in manifest.shards])

    def check_tokens(self) -> None:
        """Checks the values of the token vectors of all shards; see :meth:`IndexReader.check_tokens`."""
        for part in self.parts:
            part.check_tokens()

    def original_rows(self, docid: int) -> np.ndarray:
        """Returns the vectors of one document as they were before compression, if its shard keeps them."""
        number = int(np.searchsorted(self.bounds, docid, side="right")) - 1
        return self.parts[number].original_rows(docid - int(self.bounds[number]))

    def shard_views(self) -> list[IndexReader]:
        """Returns the readers of the shards, where documents deleted from the whole index are deleted, too."""
        views = []
        for part, first, end in zip(self.parts, self.bounds[:-1], self.bounds[1:], strict=True):
            view = copy.copy(part)
            view.__dict__.pop("present", None)
            low, high = np.searchsorted(self.deleted, [first, end])
            view.deleted = (self.deleted[low:high] - first).astype(np.uint32)
            views.append(view)
        return views

    @cached_attribute
    def scorer(self) -> Scorer:
        """Scorer of the documents of all shards."""
        from pyterrier_jacolbert.index.search.quantized import QuantizedScorer
        from pyterrier_jacolbert.index.search.sharded import ShardedScorer

        if isinstance(self.parts[0].scorer, QuantizedScorer):
            return ShardedScorer(self.parts, self.starts, self.bounds)
        return ExactScorer(self)


def concatenated_docnos(parts: Sequence[IndexReader]) -> tuple[Any, np.ndarray]:
    """Returns the docnos of several readers in the form of :attr:`Docnos.arrays`."""
    arrays = [part.docnos.arrays for part in parts]
    starts = concatenate_starts([starts for _, starts in arrays])
    return ConcatenatedArray([encoded for encoded, _ in arrays]), starts


def open_reader(directory: Path, manifest: Manifest | None = None) -> IndexReader:
    """Opens an index, single or sharded.

    Args:
        directory: of the index.
        manifest: of the index; None reads it.

    Raises:
        FileNotFoundError: there is no index.
        ValueError: the index is damaged or of another kind.
    """
    if manifest is None:
        return read_consistently(lambda: Manifest.read(directory), functools.partial(open_reader, directory))
    if manifest.format == SHARDED:
        return ShardedIndexReader.of_manifest(directory, manifest)
    return IndexReader(directory, manifest)


def _open_shard(directory: Path, entry: ShardEntry) -> IndexReader:
    """Opens a shard of an index.

    Raises:
        ValueError: the shard is missing or was changed on its own.
    """
    path = directory / entry.folder
    check_folders(directory, f"{entry.folder}/{META_FILE}")
    if not is_built(path):
        raise ValueError(f"{path} is missing, so the index {directory} is damaged; build or fetch it again.")
    if manifest_digest(path) != entry.digest:
        raise ValueError(
            f"{path} was changed on its own; restore it, or pass its documents to ShardedIndex.replace_shard."
        )
    return IndexReader.open(path)
