"""The door to an index: JaColBERTIndex opens one, changes it, and makes retrievers and scorers."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd

from pyterrier_jacolbert.frames import DOC_EMBS, DOCNO
from pyterrier_jacolbert.index.manifest import check_mode, interrupted_build, next_folder, publish, writing
from pyterrier_jacolbert.model import DEFAULT_CHECKPOINT
from pyterrier_jacolbert.searched import SearchedIndex

if TYPE_CHECKING:
    from pyterrier_jacolbert.index.stored import Stored

#: Documents that are looked up at a time.
_BLOCK_DOCUMENTS = 4096


class JaColBERTIndex(SearchedIndex):
    """Token vectors of a collection on disk, and the retrievers and scorers that read them.

    Opening is cheap: files are memory-mapped when first read, and the checkpoint is loaded only when a query has to be
    encoded (frames that carry ``query_embs`` need none).

    Args:
        path: the directory; None makes a temporary one to build in, which lives as long as this object.
        model: encodes the queries (and the documents, in :meth:`index`): a :class:`JaColBERT`, a checkpoint's folder
            or name, or a ``MultiVectorEncoder``. None takes the checkpoint that the index records.

    Example:
        >>> index = JaColBERTIndex("wiki.jacolbert")  # doctest: +SKIP
        >>> (index.retriever() % 10).search("日本で一番高い山は？")  # doctest: +SKIP
    """

    ARTIFACT_FORMAT = "jacolbert"

    def index(  # type: ignore[override] # PyTerrier calls it with the documents alone
        self, docs: Iterable[Mapping[str, Any]] | pd.DataFrame, *, mode: str = "create", **settings: Any
    ) -> JaColBERTIndex:
        """Builds the index at this path.

        Args:
            docs: as :meth:`JaColBERTIndexer.index` takes them.
            mode: what happens where something stands at the path; see :class:`JaColBERTIndexer`.
            **settings: as :class:`JaColBERTIndexer` takes them.

        Returns:
            This index.

        Raises:
            FileExistsError, ValueError, BlockingIOError: as :meth:`JaColBERTIndexer.index`.
        """
        model = self._model if self._model is not None else DEFAULT_CHECKPOINT
        from pyterrier_jacolbert.indexer import JaColBERTIndexer

        JaColBERTIndexer(self.path, model, mode=mode, **settings).index(docs)
        return self._changed()

    def append(
        self,
        docs: Iterable[Mapping[str, Any]] | pd.DataFrame,
        *,
        shard_documents: int = 2048,
        verbose: bool = False,
    ) -> JaColBERTIndex:
        """Adds documents, encoded and compressed as those there are. Until all are in, readers see the index as it was.

        Args:
            docs: as :meth:`JaColBERTIndexer.index` takes them, with docnos that the index does not have.
            shard_documents: documents that are encoded and brought to the disk together.
            verbose: whether to show a progress bar.

        Returns:
            This index.

        Raises:
            ValueError: a docno that the index has already, or a document that cannot be indexed.
            BlockingIOError: another process is writing to the index.
        """
        meta = self.meta()
        fields = {name: meta["settings"][name] for name in ("text_field", "title_field", "pool_factor", "store_text")}
        from pyterrier_jacolbert.indexer import JaColBERTIndexer

        settings = {**fields, "shard_documents": shard_documents, "verbose": verbose}
        JaColBERTIndexer(self.path, self.model, mode="append", **settings).index(docs)
        return self._changed()

    def compact(self) -> Self:
        """Rewrites the files without the deleted documents; docids move up, docnos and rankings stay.

        Returns:
            This index.

        Raises:
            BlockingIOError: another process is writing to the index.
        """
        from pyterrier_jacolbert.index.change import compact

        with writing(self.path):
            compact(self.path, self.meta())
        return self._changed()

    @classmethod
    def merge(cls, paths: Sequence[str | Path], out: str | Path) -> JaColBERTIndex:
        """Makes one index of several, in their order, without their deleted documents.

        Vectors are copied as they are coded. Residual codes of indexes that were trained apart have different
        centroids: those are decoded, and coded anew around centroids of all.

        Args:
            paths: of indexes of one compression, one dimension and one checkpoint; sharded ones too.
            out: where the new index goes; must not exist.

        Returns:
            The new index.

        Raises:
            FileExistsError: ``out`` exists.
            ValueError: the indexes do not fit together, or a docno is in two of them.
        """
        from pyterrier_jacolbert.index.change import merge
        from pyterrier_jacolbert.sharded import open_index

        indexes = [open_index(path) for path in paths]
        metas = [index.meta() for index in indexes]
        for index, meta in zip(indexes, metas, strict=True):
            for name in ("compression", "dim", "model", "settings"):
                if meta[name] != metas[0][name]:
                    raise ValueError(
                        f"{index!r} has {name}={meta[name]!r} and {indexes[0]!r} has {metas[0][name]!r}; merge indexes "
                        "that were built alike."
                    )
        parts = [part for index in indexes for part in index.parts()]
        _check_distinct(indexes)
        merged = cls(out)
        first = parts[0].parameters
        if all(_same_arrays(part.parameters, first) for part in parts[1:]):
            with writing(merged.path):
                check_mode("create", merged.path, None, interrupted_build(merged.path, None))
                facts = {name: metas[0][name] for name in ("model", "settings", "compression")}
                copied = merge(parts, merged.path, next_folder(None))
                files = copied.pop("files")
                facts |= {**copied, "dim": metas[0]["dim"], "parameters": sorted(first), "files": files}
                publish(merged.path, merged.new_meta(**facts))
            return merged
        documents = itertools.chain.from_iterable(map(_decoded, indexes))
        settings = {**metas[0]["settings"], "compression": metas[0]["compression"]}
        from pyterrier_jacolbert.indexer import JaColBERTIndexer

        return JaColBERTIndexer(out, **settings)._index(documents, recorded=metas[0]["model"])

    def stats(self) -> dict[str, Any]:
        """What the index holds.

        Returns:
            ``documents``, ``deleted``, ``tokens``, ``dim``, ``compression``, bytes per token by file and in all
            (``bytes_per_token``), and the settings.
        """
        meta = self.meta()
        sizes = {name: math.prod(e["shape"]) * np.dtype(e["dtype"]).itemsize for name, e in meta["files"].items()}
        tokens = max(1, meta["tokens"])
        return {
            "documents": len(self),
            "deleted": meta["documents"] - len(self),
            "tokens": meta["tokens"],
            "dim": meta["dim"],
            "compression": meta["compression"],
            "bytes_per_token": sum(file.stat().st_size for file in self.path.rglob("*") if file.is_file()) / tokens,
            "bytes_per_token_by_file": {name: size / tokens for name, size in sizes.items()},
            "model": meta["model"],
            "settings": meta["settings"],
        }

    def _opened(self, meta: dict[str, Any]) -> Stored:
        from pyterrier_jacolbert.index.stored import Stored

        return Stored(self.path, meta)


def _same_arrays(some: Mapping[str, np.ndarray], others: Mapping[str, np.ndarray]) -> bool:
    return some.keys() == others.keys() and all(np.array_equal(some[name], others[name]) for name in some)


def _check_distinct(indexes: Sequence[SearchedIndex]) -> None:
    """Refuses a docno that two indexes have."""
    for number, index in enumerate(indexes):
        stored = index.token_vectors()
        for block in np.array_split(np.arange(len(stored)), max(1, len(stored) // _BLOCK_DOCUMENTS)):
            docnos = [stored.docnos[docid] for docid in np.setdiff1d(block, stored.deleted)]
            for other in indexes[:number]:
                there = other.docnos().docids(docnos)
                if (there >= 0).any():
                    twice = docnos[int(np.argmax(there >= 0))]
                    raise ValueError(
                        f"{other!r} and {index!r} both have a document {twice!r}; delete it in one of them."
                    )


def _decoded(index: SearchedIndex) -> Iterator[dict[str, Any]]:
    """The documents of an index as an indexer takes them, with their vectors."""
    stored = index.token_vectors()
    for docid in np.setdiff1d(np.arange(len(stored)), stored.deleted).tolist():
        yield {DOCNO: stored.docnos[docid], DOC_EMBS: stored.rows(docid, docid + 1)}
