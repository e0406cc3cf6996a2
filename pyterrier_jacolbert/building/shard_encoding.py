"""Encodes the documents of a sharded index: from a stream of documents to shards that are not compressed yet."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

from more_itertools import chunked
from tqdm.auto import tqdm

from pyterrier_jacolbert.building.batches import (
    BUILD_FOLDER,
    BatchEncoder,
    DocumentBatch,
    assemble_shard,
    batch_folder,
)
from pyterrier_jacolbert.building.documents import Document
from pyterrier_jacolbert.building.encoding import DocumentEncoder
from pyterrier_jacolbert.building.executors import Executor
from pyterrier_jacolbert.building.shard_manifest import shard_folder
from pyterrier_jacolbert.index.builder import Builder
from pyterrier_jacolbert.index.journal import BuildSettings


class ShardedEncoding:
    """The encoding of a sharded index, new or resumed.

    Args:
        directory: folder of the shards.
        encoder: reads and encodes documents.
        settings: of the build of each shard.
        executor: runs the work.

    Raises:
        ValueError: a shard would not be a whole number of batches.
    """

    def __init__(self, directory: Path, encoder: DocumentEncoder, settings: BuildSettings, executor: Executor) -> None:
        size, batch_size = executor.documents_per_shard, encoder.batch_documents
        if size < 1 or size % batch_size:
            raise ValueError(
                f"documents_per_shard must be a multiple of batch_documents, {batch_size}, not {size}; change one of "
                "the two."
            )
        self._directory = directory.absolute()  # workers may run in other folders
        self._encoder = encoder
        self._settings = settings
        self._executor = executor
        self._batches_per_shard = size // batch_size
        self._batches = self._directory / "batches"
        self._arrived: dict[int, int] = {}  # number of encoded batches by shard
        self._digests: list[_ShardDigest] = []
        self._assembling: dict[int, Callable[[], Any]] = {}  # waits for the assembly of a shard
        self._last_build: tuple[Path, Builder] | None = None

    def run(self, documents: Iterator[Document], total: int | None) -> list[dict[str, Any]]:
        """Encodes the documents that are not encoded yet.

        Args:
            documents: all documents.
            total: number of documents, for the progress bar; None if it is not known.

        Returns:
            Number and digest of the documents in each shard.

        Raises:
            ValueError: a document is not the one that the interrupted build encoded at its position.
        """
        self._directory.mkdir(parents=True, exist_ok=True)
        encoder = BatchEncoder(self._batches, self._encoder, self._settings)
        with (
            tqdm(desc="indexing", unit=" documents", total=total, disable=not self._encoder.verbose) as bar,
            contextlib.closing(self._executor.encode(encoder, self._missing_batches(documents, bar))) as encoded,
        ):
            for number in encoded:
                self._arrive(number)
                bar.update(self._size_of(number))
        for shard in range(len(self._digests)):
            if shard not in self._assembling:
                self._assemble(shard)
        for shard, wait in self._assembling.items():
            if wait() != self._digests[shard].documents:
                self._raise_fewer_documents()
        batches = [folder.name for folder in self._batches.glob("0*") if folder.name.isdecimal()]
        beyond = [name for name in batches if int(name) >= sum(self._arrived.values())]
        if beyond or shard_folder(self._directory, len(self._digests)).exists():
            self._raise_fewer_documents()
        shutil.rmtree(self._batches, ignore_errors=True)
        return self.digests

    def read(self, documents: Iterator[Document]) -> list[dict[str, Any]]:
        """Returns what :meth:`run` returns, for documents that are encoded already."""
        for batch in self._in_batches(documents):
            self._add_to_digest(batch)
        return self.digests

    @property
    def digests(self) -> list[dict[str, Any]]:
        """Number and digest of the documents read so far, by shard."""
        return [{"documents": shard.documents, "digest": shard.digest.hexdigest()} for shard in self._digests]

    def _in_batches(self, documents: Iterator[Document]) -> Iterator[DocumentBatch]:
        for number, batch in enumerate(chunked(documents, self._encoder.batch_documents)):
            yield DocumentBatch(number, batch)

    def _missing_batches(self, documents: Iterator[Document], bar: tqdm) -> Iterator[DocumentBatch]:
        """Yields the batches that are not encoded, and compares the others with what was encoded."""
        for batch in self._in_batches(documents):
            self._add_to_digest(batch)
            if self._is_encoded(batch):
                self._arrive(batch.number)
                bar.update(len(batch.documents))
            else:
                yield batch

    def _add_to_digest(self, batch: DocumentBatch) -> None:
        if batch.number % self._batches_per_shard == 0:
            self._digests.append(_ShardDigest())
        self._digests[-1].add(batch.documents)

    def _is_encoded(self, batch: DocumentBatch) -> bool:
        """Returns whether a batch is encoded, after comparing its documents.

        Raises:
            ValueError: a document is not the one that was encoded at its position.
        """
        shard, position_in_shard = divmod(batch.number, self._batches_per_shard)
        first = position_in_shard * self._encoder.batch_documents
        folders = (
            (shard_folder(self._directory, shard), first),
            (batch_folder(self._batches, batch.number), 0),
        )
        for folder, position in folders:
            build = self._build_in(folder)
            if build is not None and (build.documents > position or build.encoded):
                for number, document in enumerate(batch.documents, start=position):
                    if number >= build.documents:
                        raise ValueError(
                            f"The interrupted build had no more documents where {document.docno!r} comes now; give "
                            "the same documents, or start again with mode='overwrite'."
                        )
                    build.check(number, document.docno, document.digest())
                return True
        return False

    def _build_in(self, folder: Path) -> Builder | None:
        if self._last_build is None or self._last_build[0] != folder:
            try:
                self._last_build = folder, Builder.resume(folder, BUILD_FOLDER)
            except FileNotFoundError:
                return None
        return self._last_build[1]

    def _arrive(self, number: int) -> None:
        """Counts an encoded batch, and starts to assemble its shard if it is the last one."""
        shard = number // self._batches_per_shard
        self._arrived[shard] = self._arrived.get(shard, 0) + 1
        if self._arrived[shard] == self._batches_per_shard:
            self._assemble(shard)

    def _assemble(self, shard: int) -> None:
        first = shard * self._batches_per_shard
        batches = [batch_folder(self._batches, number) for number in range(first, first + self._arrived[shard])]
        arguments = shard_folder(self._directory, shard), batches, self._settings, self._encoder.origin()
        self._assembling[shard] = self._executor.start(assemble_shard, *arguments, light=True)

    def _size_of(self, number: int) -> int:
        """Returns the number of documents in a batch that was read."""
        shard, position_in_shard = divmod(number, self._batches_per_shard)
        size = self._encoder.batch_documents
        return min(size, self._digests[shard].documents - position_in_shard * size)

    def _raise_fewer_documents(self) -> NoReturn:
        raise ValueError(
            f"There are {sum(shard.documents for shard in self._digests)} documents, and the interrupted build in "
            f"{self._directory.parent} encoded more; give the same documents, or start again with mode='overwrite'."
        )


class _ShardDigest:
    """Running digest of the documents of a shard."""

    def __init__(self) -> None:
        self.documents = 0
        self.digest = hashlib.blake2b(digest_size=8)

    def add(self, documents: list[Document]) -> None:
        """Adds documents."""
        self.documents += len(documents)
        for document in documents:
            self.digest.update(document.digest().to_bytes(8, "little"))
