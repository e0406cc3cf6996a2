"""ShardedIndex: several indexes with one codec and one manifest, searched as one."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from pyterrier_jacolbert.artifacts.index import JaColBERTIndex
from pyterrier_jacolbert.artifacts.multivector import MultiVectorIndex
from pyterrier_jacolbert.building.documents import BATCH_DOCUMENTS, Documents
from pyterrier_jacolbert.building.executors import Executor, SerialExecutor
from pyterrier_jacolbert.building.separate_shards import join_shards
from pyterrier_jacolbert.building.settings import IndexerSettings
from pyterrier_jacolbert.building.shard_updates import append_shard, compact_shards, replace_shard
from pyterrier_jacolbert.building.sharded import build_sharded
from pyterrier_jacolbert.index.sharded_reader import open_reader
from pyterrier_jacolbert.index.storage.directory import read_consistently
from pyterrier_jacolbert.index.storage.manifest import SHARDED, Manifest, ShardEntry
from pyterrier_jacolbert.model import DEFAULT_CHECKPOINT, as_model

if TYPE_CHECKING:
    from pyterrier_jacolbert.distributed import RayRetriever


class ShardedIndex(MultiVectorIndex):
    """An index in shards, for collections that several machines encode or search.

    Each shard is a :class:`JaColBERTIndex` in a folder of its own. All shards are compressed around the same centroids,
    which were trained on a sample of all documents, so the rankings are, to the last bit, those of a single index of
    the same documents. A docid is the position of a document in the whole: first those of the first shard, then those
    of the second.

    Create one with ``JaColBERTIndexer(path, model, executor=...)``, or step by step with ``indexer.index_shard`` and
    :meth:`ShardedIndex.join`. ``JaColBERTIndex.merge([path], out)`` turns it into a single index. Do not update a shard
    on its own: the sharded index cannot be opened then.

    Args:
        path: the directory, on this machine or on a shared file system.
        model: encodes queries; None takes the checkpoint that the index records.

    Example:
        >>> index = ShardedIndex("crawl.jacolbert")  # doctest: +SKIP
        >>> (index.retriever() % 10).search("日本で一番高い山は？")  # doctest: +SKIP
    """

    ARTIFACT_FORMAT = SHARDED

    def shards(self) -> list[JaColBERTIndex]:
        """Returns the shards, in order.

        Returns:
            Each shard as an index of its own.
        """
        return [JaColBERTIndex(self.path / shard.folder, self._model) for shard in self.manifest().shards]

    @classmethod
    def join(cls, path: str | Path, executor: Executor | None = None, *, verbose: bool = False) -> ShardedIndex:
        """Makes an index of shards that were encoded one by one with :meth:`JaColBERTIndexer.index_shard`.

        Args:
            path: folder that holds all of the shards.
            executor: compresses the shards; None does so in this process.
            verbose: whether to show a progress bar.

        Returns:
            The index.

        Raises:
            FileExistsError: it is an index already.
            FileNotFoundError: there are no shards.
            ValueError: a shard is missing or not complete, or the shards were encoded with different settings.
            BlockingIOError: another process is writing to the index.
        """
        join_shards(Path(path), executor, verbose=verbose)
        return cls(path)

    def ray_retriever(self, **settings: Any) -> RayRetriever:
        """Creates a retriever whose shards are held by processes of a Ray cluster.

        Args:
            **settings: see :class:`~pyterrier_jacolbert.distributed.RayRetriever`.

        Returns:
            The transformer.
        """
        from pyterrier_jacolbert.distributed import RayRetriever

        return RayRetriever(self, **settings)

    def index(  # type: ignore[override] # PyTerrier calls it with the documents alone
        self,
        docs: Documents,
        *,
        mode: str = "create",
        documents_per_shard: int = 2**18,
        **settings: Any,
    ) -> ShardedIndex:
        """Builds the index at this path, in this process.

        Args:
            docs: see :meth:`JaColBERTIndexer.index`.
            mode: what to do if the path exists; see :class:`JaColBERTIndexer`.
            documents_per_shard: number of documents in each shard but the last; a multiple of ``batch_documents``.
            **settings: see :class:`JaColBERTIndexer`.

        Returns:
            This index.

        Raises:
            FileExistsError, ValueError, BlockingIOError: see :meth:`JaColBERTIndexer.index`.
        """
        model = self._model if self._model is not None else as_model(DEFAULT_CHECKPOINT)
        chosen = IndexerSettings(mode=mode, **settings)
        executor = SerialExecutor(documents_per_shard)
        build_sharded(self.path, docs, chosen.document_encoder(model), chosen.build_settings(), executor, mode=mode)
        return self._reopen()

    def append(self, docs: Documents, *, batch_documents: int = BATCH_DOCUMENTS, verbose: bool = False) -> ShardedIndex:
        """Appends documents as a new shard. Readers see all of them or none.

        Args:
            docs: see :meth:`JaColBERTIndexer.index`; the index must not have their docnos.
            batch_documents: number of documents that are encoded and written together.
            verbose: whether to show a progress bar.

        Returns:
            This index.

        Raises:
            ValueError: the index already has a docno, a document cannot be indexed, or its text would be encoded with
                another checkpoint than those of the index.
            BlockingIOError: another process is writing to the index.
        """
        append_shard(self.path, docs, self._document_encoder(batch_documents, verbose))
        return self._reopen()

    def replace_shard(
        self, number: int, docs: Documents, *, batch_documents: int = BATCH_DOCUMENTS, verbose: bool = False
    ) -> ShardedIndex:
        """Replaces the documents of a shard. The docids of later shards shift if the number of documents changes.

        Args:
            number: of the shard, from 0.
            docs: see :meth:`append`; they may have docnos of the replaced shard.
            batch_documents: number of documents that are encoded and written together.
            verbose: whether to show a progress bar.

        Returns:
            This index.

        Raises:
            IndexError: there is no such shard.
            ValueError, BlockingIOError: see :meth:`append`.
        """
        replace_shard(self.path, number, docs, self._document_encoder(batch_documents, verbose))
        return self._reopen()

    def compact(self) -> Self:
        """Rewrites shards with deleted documents without them. Docids change, docnos and rankings stay.

        Returns:
            This index.

        Raises:
            BlockingIOError: another process is writing to the index.
        """
        compact_shards(self.path)
        return self._reopen()

    def stats(self) -> dict[str, Any]:
        """Summarises the index over all shards.

        Returns:
            See :meth:`JaColBERTIndex.stats`; also the number of ``shards``.
        """
        return super().stats()

    def _stats(self, manifest: Manifest) -> dict[str, Any]:
        return {"shards": len(manifest.shards), **super()._stats(manifest)}

    def verify(self) -> None:
        """Reads every file of every shard and compares it with its checksums.

        Raises:
            ValueError: files are damaged, or a shard was updated on its own.
            BlockingIOError: another process changes the index faster than it can be read.
        """
        verify_files = self._verifier()
        intact: set[ShardEntry] = set()

        def verify(manifest: Manifest) -> None:
            verify_files(manifest.files)
            open_reader(self.path, manifest).check_tokens()
            for shard in set(manifest.shards) - intact:
                JaColBERTIndex(self.path / shard.folder).verify()
                intact.add(shard)

        read_consistently(self.manifest, verify)

    def _packaged_with(self, meta: Mapping[str, Any]) -> Iterator[tuple[str, str | io.BytesIO]]:
        for folder in [shard["folder"] for shard in meta["shards"]]:
            shard = JaColBERTIndex(self.path / folder)
            yield from ((f"{folder}/{name}", file) for name, file in shard._package_files())
        yield from super()._packaged_with(meta)
