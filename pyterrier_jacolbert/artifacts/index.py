"""JaColBERTIndex: opens an index of token vectors, updates it, and creates its retrievers and re-rankers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from pyterrier_jacolbert.artifacts.multivector import MultiVectorIndex
from pyterrier_jacolbert.building.documents import BATCH_DOCUMENTS, Documents
from pyterrier_jacolbert.building.merge import merge_indexes
from pyterrier_jacolbert.building.settings import IndexerSettings
from pyterrier_jacolbert.building.single import append_to_index, build_index
from pyterrier_jacolbert.index.storage.directory import giving_back, sweep, writing
from pyterrier_jacolbert.index.storage.manifest import SINGLE, Manifest
from pyterrier_jacolbert.index.updates import compact
from pyterrier_jacolbert.model import DEFAULT_CHECKPOINT, as_model


class JaColBERTIndex(MultiVectorIndex):
    """Token vectors of a collection on disk, with retrievers and re-rankers that read them.

    Opening is cheap: files are memory-mapped when they are first read, and the checkpoint is loaded only when a query
    is encoded (frames with ``query_embs`` need no checkpoint).

    Args:
        path: the directory; None creates a temporary one to build in, which lives as long as this object.
        model: encodes queries (and documents, in :meth:`index`): a :class:`JaColBERT`, the folder or name of a
            checkpoint, or a ``MultiVectorEncoder``. None takes the checkpoint that the index records.

    Example:
        >>> index = JaColBERTIndex("wiki.jacolbert")  # doctest: +SKIP
        >>> (index.retriever() % 10).search("日本で一番高い山は？")  # doctest: +SKIP
    """

    ARTIFACT_FORMAT = SINGLE

    def index(  # type: ignore[override] # PyTerrier calls it with the documents alone
        self, docs: Documents, *, mode: str = "create", **settings: Any
    ) -> JaColBERTIndex:
        """Builds the index at this path.

        Args:
            docs: see :meth:`JaColBERTIndexer.index`.
            mode: what to do if the path exists; see :class:`JaColBERTIndexer`.
            **settings: see :class:`JaColBERTIndexer`.

        Returns:
            This index.

        Raises:
            FileExistsError, ValueError, BlockingIOError: see :meth:`JaColBERTIndexer.index`.
        """
        model = self._model
        if model is None and mode != "append":
            model = as_model(DEFAULT_CHECKPOINT)
        chosen = IndexerSettings(mode=mode, **settings)
        build_index(self.path, docs, chosen.document_encoder(model), chosen.build_settings(), mode=mode)
        return self._reopen()

    def append(
        self, docs: Documents, *, batch_documents: int = BATCH_DOCUMENTS, verbose: bool = False
    ) -> JaColBERTIndex:
        """Appends documents, encoded and compressed like those of the index. Readers see all of them or none.

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
        append_to_index(self.path, docs, self._document_encoder(batch_documents, verbose))
        return self._reopen()

    def compact(self) -> Self:
        """Rewrites the files without the deleted documents. Docids change, docnos and rankings stay.

        Returns:
            This index.

        Raises:
            BlockingIOError: another process is writing to the index.
        """
        with writing(self.path), giving_back(self.path, self.manifest):
            manifest = self.manifest()
            sweep(self.path, manifest)
            compact(self.path, manifest)
        return self._reopen()

    @classmethod
    def merge(cls, paths: Sequence[str | Path], out: str | Path) -> JaColBERTIndex:
        """Merges indexes into one, in order and without their deleted documents.

        Compressed vectors are copied. Residual codecs that were trained on different samples have different centroids:
        their vectors are decompressed, and compressed again with a codec for all documents. A merge that was killed, or
        ran out of disk space, is simply run again.

        Args:
            paths: of indexes, single or sharded, with the same compression, dimensions and checkpoint.
            out: path of the new index, which must not exist.

        Returns:
            The new index.

        Raises:
            FileExistsError: ``out`` exists.
            ValueError: the indexes differ in their settings, or two of them have the same docno.
        """
        merge_indexes([Path(path) for path in paths], Path(out))
        return cls(out)

    def stats(self) -> dict[str, Any]:
        """Summarises the index.

        Returns:
            ``documents``, ``deleted``, ``tokens``, ``dim``, ``compression``, ``bytes_per_token`` over all files and
            ``bytes_per_token_by_file``, the checkpoint (``model``), and the settings.
        """
        return super().stats()

    def _stats(self, manifest: Manifest) -> dict[str, Any]:
        tokens = max(1, manifest.tokens)
        by_file = {name: entry.nbytes / tokens for name, entry in manifest.files.items()}
        return {**super()._stats(manifest), "bytes_per_token_by_file": by_file}
