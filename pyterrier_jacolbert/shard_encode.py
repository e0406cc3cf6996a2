"""The encoding of a sharded index: from a stream of documents to shards that are not coded yet."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm.auto import tqdm

from pyterrier_jacolbert.batches import batched
from pyterrier_jacolbert.documents import Document
from pyterrier_jacolbert.executors import BUILD, Block, BlockEncoder, Executor, assemble, piece_of
from pyterrier_jacolbert.frames import DOC_EMBS
from pyterrier_jacolbert.indexer import JaColBERTIndexer, digest

if TYPE_CHECKING:
    from pyterrier_jacolbert.index.build import Builder


class ShardedEncoding:
    """The encoding of a sharded index, new or taken up: from documents to shards that are not coded yet.

    Args:
        directory: the folder of the shards.
        indexer: encodes.
        executor: does the work.

    Raises:
        ValueError: a shard would be no whole number of blocks.
    """

    def __init__(self, directory: Path, indexer: JaColBERTIndexer, executor: Executor) -> None:
        size, block = executor.documents_per_shard, indexer.shard_documents
        if size < 1 or size % block:
            raise ValueError(f"documents_per_shard is {size}; make it a multiple of shard_documents, {block}.")
        self._directory = directory.absolute()  # workers may stand in other folders
        self._indexer = indexer
        self._executor = executor
        self._blocks_per_shard = size // block
        self._pieces = self._directory / "pieces"
        self._arrived: dict[int, int] = {}  # blocks that are there, by shard
        self._sums: list[_Sum] = []
        self._waiting: dict[int, Callable[[], Any]] = {}  # shards that are being put together
        self._known: tuple[Path, Builder] | None = None

    def run(self, documents: Iterator[Document], total: int | None) -> list[dict[str, Any]]:
        """Encodes what is not encoded.

        Returns:
            What is in each shard: ``documents``, and a ``digest`` of them.

        Raises:
            ValueError: a document that is not the one that the interrupted build found in its place.
        """
        self._directory.mkdir(parents=True, exist_ok=True)
        encoder = BlockEncoder(self._pieces, self._indexer)
        with (
            tqdm(desc="indexing", unit=" documents", total=total, disable=not self._indexer.verbose) as bar,
            contextlib.closing(self._executor.encode(encoder, self._missing(documents, bar))) as arriving,
        ):
            for number in arriving:
                self._arrive(number)
                bar.update(self._sizes_of(number))
        for shard in range(len(self._sums)):
            if shard not in self._waiting:
                self._put_together(shard)
        for shard, wait in self._waiting.items():
            if wait() != self._sums[shard].documents:
                self._refuse_fewer()
        beyond = [folder for folder in self._pieces.glob("0*") if int(folder.name) >= sum(self._arrived.values())]
        if beyond or shard_of(self._directory, len(self._sums)).exists():
            self._refuse_fewer()
        shutil.rmtree(self._pieces, ignore_errors=True)
        return self.sums

    def read(self, documents: Iterator[Document]) -> list[dict[str, Any]]:
        """What :meth:`run` returns, of documents that are encoded already."""
        for block in self._blocks(documents):
            self._sum(block)
        return self.sums

    @property
    def sums(self) -> list[dict[str, Any]]:
        """What is in each shard so far."""
        return [{"documents": part.documents, "digest": part.digest.hexdigest()} for part in self._sums]

    def _blocks(self, documents: Iterator[Document]) -> Iterator[Block]:
        for number, block in enumerate(batched(documents, self._indexer.shard_documents)):
            yield Block(number, block)

    def _missing(self, documents: Iterator[Document], bar: tqdm) -> Iterator[Block]:
        """The blocks that are neither in a shard nor a piece; the others are compared with what is there."""
        for block in self._blocks(documents):
            self._sum(block)
            if self._check(block):
                self._arrive(block.number)
                bar.update(len(block.documents))
            else:
                fields = [{DOC_EMBS: d.fields[DOC_EMBS]} if DOC_EMBS in d.fields else {} for d in block.documents]
                light = [Document(d.docno, d.text, own) for d, own in zip(block.documents, fields, strict=True)]
                yield Block(block.number, light)

    def _sum(self, block: Block) -> None:
        if block.number % self._blocks_per_shard == 0:
            self._sums.append(_Sum())
        part = self._sums[-1]
        part.documents += len(block.documents)
        for document in block.documents:
            part.digest.update(digest(document).to_bytes(8, "little"))

    def _check(self, block: Block) -> bool:
        """Whether a block is there, as it should be."""
        shard, place = divmod(block.number, self._blocks_per_shard)
        first = place * self._indexer.shard_documents
        for folder, position in ((shard_of(self._directory, shard), first), (piece_of(self._pieces, block.number), 0)):
            builder = self._build_in(folder)
            if builder is not None and (builder.documents > position or builder.encoded):
                for number, document in enumerate(block.documents, start=position):
                    if number >= builder.documents:
                        raise ValueError(
                            f"The interrupted build found no more documents where {document.docno!r} comes now; give "
                            "the same documents, or begin anew with mode='overwrite'."
                        )
                    builder.check(number, document.docno, digest(document))
                return True
        return False

    def _build_in(self, folder: Path) -> Builder | None:
        if self._known is None or self._known[0] != folder:
            from pyterrier_jacolbert.index.build import Builder

            try:
                self._known = folder, Builder.taken_up(folder, BUILD)
            except FileNotFoundError:
                return None
        return self._known[1]

    def _arrive(self, number: int) -> None:
        shard = number // self._blocks_per_shard
        self._arrived[shard] = self._arrived.get(shard, 0) + 1
        if self._arrived[shard] == self._blocks_per_shard:
            self._put_together(shard)

    def _put_together(self, shard: int) -> None:
        first = shard * self._blocks_per_shard
        pieces = [piece_of(self._pieces, number) for number in range(first, first + self._arrived[shard])]
        settings = dataclasses.asdict(self._indexer.build_settings())
        arguments = shard_of(self._directory, shard), pieces, settings, self._indexer.origin()
        self._waiting[shard] = self._executor.start(assemble, *arguments, light=True)

    def _sizes_of(self, number: int) -> int:
        """Documents in a block that was read."""
        shard, place = divmod(number, self._blocks_per_shard)
        size = self._indexer.shard_documents
        return min(size, self._sums[shard].documents - place * size)

    def _refuse_fewer(self) -> None:
        raise ValueError(
            f"There are {sum(part.documents for part in self._sums)} documents, and the interrupted build in "
            f"{self._indexer.path} found more; give the same documents, or begin anew with mode='overwrite'."
        )


class _Sum:
    """What was read of a shard's documents."""

    def __init__(self) -> None:
        self.documents = 0
        self.digest = hashlib.blake2b(digest_size=8)


def shard_of(directory: Path, number: int) -> Path:
    """The folder of a shard, whose number is from 0; the name is from 1."""
    return directory / f"{number + 1:04}"
