"""ShardedIndex: one index of several, each an index by itself, with one codec and one manifest."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd

from pyterrier_jacolbert.artifact import JaColBERTIndex
from pyterrier_jacolbert.batches import batched
from pyterrier_jacolbert.index.files import digest_of, write_array
from pyterrier_jacolbert.index.manifest import next_folder, publish, sweep, writing
from pyterrier_jacolbert.index.store import read_meta
from pyterrier_jacolbert.model import DEFAULT_CHECKPOINT, JaColBERT
from pyterrier_jacolbert.searched import SearchedIndex
from pyterrier_jacolbert.shard_manifest import publish_shards, sweep_shards

if TYPE_CHECKING:
    from sentence_transformers import MultiVectorEncoder

    from pyterrier_jacolbert.distributed import RayRetriever
    from pyterrier_jacolbert.documents import Document
    from pyterrier_jacolbert.index.shards import StoredShards
    from pyterrier_jacolbert.index.stored import Stored

#: Documents that are looked up at a time.
_BLOCK_DOCUMENTS = 4096


class ShardedIndex(SearchedIndex):
    """An index in shards: for collections that one machine does not encode, or that many search.

    Each shard is a :class:`JaColBERTIndex` in a folder of its own. All are coded around the same centroids, which were
    trained on a sample of all, so the whole gives the rankings, to the last bit, of one index over the same documents.
    A docid is the document's position in the whole: those of the first shard, then those of the second.

    Make one with ``JaColBERTIndexer(path, model, executor=...)``, or by hand with ``indexer.index_shard`` and
    :func:`~pyterrier_jacolbert.shard_build.join_shards`. ``JaColBERTIndex.merge([path], out)`` makes one index of it.
    Do not change a shard by itself: the whole does not open then.

    Args:
        path: the directory, on this machine or on a file system that several share.
        model: encodes the queries; None takes the checkpoint that the index records.

    Example:
        >>> index = ShardedIndex("crawl.jacolbert")  # doctest: +SKIP
        >>> (index.retriever() % 10).search("日本で一番高い山は？")  # doctest: +SKIP
    """

    ARTIFACT_FORMAT = "jacolbert_shards"

    def shards(self) -> list[JaColBERTIndex]:
        """The shards, in order.

        Returns:
            Each as an index of its own.
        """
        return [JaColBERTIndex(self.path / entry["folder"], self._model) for entry in self.meta()["shards"]]

    def parts(self) -> list[Stored]:
        """The stored vectors, shard by shard; what is deleted in the whole is deleted in its shard.

        Returns:
            One for each shard, in the order of docids.
        """
        return self._views(self.opened_shards())

    def opened_shards(self) -> StoredShards:
        """The stored vectors of all shards, and where each shard's begin.

        Returns:
            The files, mapped.
        """
        stored: StoredShards = self.token_vectors()  # type: ignore[assignment] # what _opened gives here
        return stored

    def ray_retriever(self, **settings: Any) -> RayRetriever:  # noqa: ANN401
        """A retriever whose shards are held by the processes of a Ray cluster.

        Args:
            **settings: as :class:`~pyterrier_jacolbert.distributed.RayRetriever` takes them.

        Returns:
            The transformer.
        """
        from pyterrier_jacolbert.distributed import RayRetriever

        return RayRetriever(self, **settings)

    def index(  # type: ignore[override] # PyTerrier calls it with the documents alone
        self,
        docs: Iterable[Mapping[str, Any]] | pd.DataFrame,
        *,
        mode: str = "create",
        documents_per_shard: int = 2**18,
        **settings: Any,
    ) -> ShardedIndex:
        """Builds the index at this path, in this process.

        Args:
            docs: as :meth:`JaColBERTIndexer.index` takes them.
            mode: what happens where something stands at the path; see :class:`JaColBERTIndexer`.
            documents_per_shard: a multiple of ``shard_documents``.
            **settings: as :class:`JaColBERTIndexer` takes them.

        Returns:
            This index.

        Raises:
            FileExistsError, ValueError, BlockingIOError: as :meth:`JaColBERTIndexer.index`.
        """
        from pyterrier_jacolbert.executors import SerialExecutor
        from pyterrier_jacolbert.indexer import JaColBERTIndexer

        model = self._model if self._model is not None else DEFAULT_CHECKPOINT
        executor = SerialExecutor(documents_per_shard)
        JaColBERTIndexer(self.path, model, mode=mode, executor=executor, **settings).index(docs)
        return self._changed()

    def append(
        self,
        docs: Iterable[Mapping[str, Any]] | pd.DataFrame,
        *,
        shard_documents: int = 2048,
        verbose: bool = False,
    ) -> ShardedIndex:
        """Adds documents, as a new shard. Until all are in, readers see the index as it was.

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
        with writing(self.path):
            meta, stored = self._swept()
            folders = [entry["folder"] for entry in meta["shards"]]
            folder = self._encode(docs, stored, range(0), shard_documents, verbose)
            publish_shards(self, [*folders, folder], next_folder(meta), meta["files"].get("deleted"))
        return self._changed()

    def replace_shard(
        self,
        number: int,
        docs: Iterable[Mapping[str, Any]] | pd.DataFrame,
        *,
        shard_documents: int = 2048,
        verbose: bool = False,
    ) -> ShardedIndex:
        """Puts other documents in the place of a shard's. The docids of later shards move where the number changes.

        Args:
            number: of the shard, from 0.
            docs: as :meth:`append` takes them; they may have the docnos of the shard that goes.
            shard_documents: documents that are encoded and brought to the disk together.
            verbose: whether to show a progress bar.

        Returns:
            This index.

        Raises:
            IndexError: there is no such shard.
            ValueError, BlockingIOError: as :meth:`append`.
        """
        with writing(self.path):
            meta, stored = self._swept()
            folders = [entry["folder"] for entry in meta["shards"]]
            if not 0 <= number < len(folders):
                raise IndexError(f"{self!r} has no shard {number}; give a number from 0 to {len(folders) - 1}.")
            first, end = stored.bounds[number : number + 2].tolist()
            folders[number] = self._encode(docs, stored, range(first, end), shard_documents, verbose)
            gone = stored.deleted.astype(np.int64)
            later = gone[gone >= end] + len(JaColBERTIndex(self.path / folders[number])) - (end - first)
            data = next_folder(meta)
            (self.path / data).mkdir()
            kept = np.concatenate([gone[gone < first], later]).astype(np.uint32)
            deleted = write_array(self.path, f"{data}/deleted.u4", kept) if len(kept) else None
            publish_shards(self, folders, data, deleted)
        return self._changed()

    def compact(self) -> Self:
        """Rewrites the shards that have deleted documents without them; docids move up, docnos and rankings stay.

        Returns:
            This index.

        Raises:
            BlockingIOError: another process is writing to the index.
        """
        from pyterrier_jacolbert.index.change import merge

        with writing(self.path):
            meta, stored = self._swept()
            folders = [entry["folder"] for entry in meta["shards"]]
            for number, (shard, part) in enumerate(zip(self.shards(), self._views(stored), strict=True)):
                if len(part.deleted):
                    folders[number] = self._next_shard()
                    directory = self.path / folders[number]
                    with writing(directory):
                        publish(directory, {**shard.meta(), **merge([part], directory, next_folder(None))})
            publish_shards(self, folders, next_folder(meta))
        return self._changed()

    def stats(self) -> dict[str, Any]:
        """What the index holds, all shards together.

        Returns:
            As :meth:`JaColBERTIndex.stats`, and the number of shards.
        """
        meta = self.meta()
        tokens = max(1, meta["tokens"])
        return {
            "shards": len(meta["shards"]),
            "documents": len(self),
            "deleted": meta["documents"] - len(self),
            "tokens": meta["tokens"],
            "dim": meta["dim"],
            "compression": meta["compression"],
            "bytes_per_token": sum(file.stat().st_size for file in self.path.rglob("*") if file.is_file()) / tokens,
            "model": meta["model"],
            "settings": meta["settings"],
        }

    def verify(self) -> None:
        """As :meth:`JaColBERTIndex.verify`, shard by shard.

        Raises:
            ValueError: files are damaged, or a shard was changed by itself.
        """
        super().verify()
        self._opened(self.meta())
        for shard in self.shards():
            shard.verify()

    def _package_files(self) -> Iterator[tuple[str, str]]:
        yield from super()._package_files()
        for shard in self.shards():
            folder = shard.path.relative_to(self.path).as_posix()
            yield from ((f"{folder}/{name}", path) for name, path in shard._package_files())

    def _opened(self, meta: dict[str, Any]) -> StoredShards:
        from pyterrier_jacolbert.index.shards import StoredShards
        from pyterrier_jacolbert.index.stored import Stored

        parts = []
        for entry in meta["shards"]:
            shard = JaColBERTIndex(self.path / entry["folder"])
            if not shard.built():
                raise ValueError(f"{shard.path} is missing, so {self!r} is damaged; build it again, or fetch it again.")
            own = shard.meta()
            if digest_of(own) != entry["digest"]:
                raise ValueError(
                    f"{shard.path} was changed by itself; put it back as it was, or give its documents to "
                    "ShardedIndex.replace_shard."
                )
            parts.append(Stored(shard.path, own))
        return StoredShards(self.path, meta, parts)

    def _views(self, stored: StoredShards) -> list[Stored]:
        views = []
        for part, first, end in zip(stored.parts, stored.bounds[:-1], stored.bounds[1:], strict=True):
            view = copy.copy(part)
            view.__dict__.pop("present", None)
            low, high = np.searchsorted(stored.deleted, [first, end])
            view.deleted = (stored.deleted[low:high] - first).astype(np.uint32)
            views.append(view)
        return views

    def _swept(self) -> tuple[dict[str, Any], StoredShards]:
        """The manifest and the open files, with what writers that died left behind removed."""
        meta = self.meta()
        sweep(self.path, meta)
        sweep_shards(self.path, meta)
        return meta, self._opened(meta)

    def _next_shard(self) -> str:
        """The name of a folder for another shard."""
        folder: Path = self.path / self.meta()["shards"][0]["folder"]
        highest = max(int(other.name) for other in folder.parent.glob("[0-9]*"))
        return (folder.parent / f"{highest + 1:04}").relative_to(self.path).as_posix()

    def _encode(
        self,
        docs: Iterable[Mapping[str, Any]] | pd.DataFrame,
        stored: StoredShards,
        spared: range,
        shard_documents: int,
        verbose: bool,
    ) -> str:
        """Builds a shard around the centroids that there are; its docnos may be those of the spared docids."""
        from pyterrier_jacolbert.index.build import Builder, Coding
        from pyterrier_jacolbert.indexer import JaColBERTIndexer

        meta = stored.meta
        fields = {name: meta["settings"][name] for name in ("text_field", "title_field", "pool_factor", "store_text")}
        settings = {**fields, "shard_documents": shard_documents, "verbose": verbose}
        folder = self._next_shard()
        shard = JaColBERTIndex(self.path / folder)
        indexer = JaColBERTIndexer(shard.path, self.model, compression=str(meta["compression"]), **settings)
        try:
            with writing(shard.path):
                builder = Builder(shard.path, next_folder(None), indexer.build_settings(), indexer.origin())
                try:
                    indexer.encode(builder, self._new(indexer.read(docs), stored, spared), None)
                    if builder.dim != meta["dim"]:
                        raise ValueError(
                            f"The new documents have vectors of {builder.dim} numbers and {self!r} stores "
                            f"{meta['dim']}; encode them with the checkpoint it was built with."
                        )
                    facts = builder.finish(coding=Coding(str(meta["compression"]), stored.parameters))
                finally:
                    builder.close()
                publish(shard.path, shard.new_meta(model=meta["model"], settings=meta["settings"], **facts))
        except BaseException:
            shutil.rmtree(shard.path, ignore_errors=True)
            raise
        return folder

    def _new(self, documents: Iterator[Document], stored: StoredShards, spared: range) -> Iterator[Document]:
        """The documents, none of which the index has but for the spared docids."""
        for block in batched(documents, _BLOCK_DOCUMENTS):
            there = stored.docnos.docids([document.docno for document in block]).tolist()
            for document, docid in zip(block, there, strict=True):
                if docid >= 0 and docid not in spared:
                    raise ValueError(
                        f"{self!r} has a document {document.docno!r} already; delete that first, or leave this out."
                    )
                yield document


def open_index(path: str | Path, model: JaColBERT | str | MultiVectorEncoder | None = None) -> SearchedIndex:
    """Opens an index of either kind."""
    sharded = read_meta(Path(path)).get("format") == ShardedIndex.ARTIFACT_FORMAT
    return ShardedIndex(path, model) if sharded else JaColBERTIndex(path, model)
