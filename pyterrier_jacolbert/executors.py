"""Where the work of a sharded build is done, and what that work is: encoding blocks, and putting shards together."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pyterrier_jacolbert.documents import Document
from pyterrier_jacolbert.index.manifest import sweep, writing

if TYPE_CHECKING:
    from pyterrier_jacolbert.indexer import JaColBERTIndexer

#: The folder of a build within a piece or a shard.
BUILD = "data-1"


class Executor(Protocol):
    """Where the work of a sharded build is done.

    Attributes:
        documents_per_shard: documents of each shard but the last; a multiple of the indexer's ``shard_documents``.
    """

    @property
    def documents_per_shard(self) -> int: ...  # noqa: D102

    def encode(self, encoder: BlockEncoder, blocks: Iterator[Block]) -> Generator[int, None, None]:
        """Calls the encoder with every block, and yields what it returns, in whatever order."""
        ...

    def start(self, function: Callable[..., Any], *arguments: Any, light: bool = False) -> Callable[[], Any]:  # noqa: ANN401
        """Begins to call a function; what is returned waits for its result. ``light`` work only reads and writes."""
        ...


@dataclass(frozen=True)
class SerialExecutor:
    """Does one thing after the other, in this process.

    Args:
        documents_per_shard: as :class:`Executor` says.
    """

    documents_per_shard: int = 2**18

    def encode(self, encoder: BlockEncoder, blocks: Iterator[Block]) -> Generator[int, None, None]:
        """As :class:`Executor` says."""
        yield from map(encoder, blocks)

    def start(self, function: Callable[..., Any], *arguments: Any, light: bool = False) -> Callable[[], Any]:  # noqa: ANN401
        """As :class:`Executor` says."""
        result = function(*arguments)
        return lambda: result


@dataclass(frozen=True)
class Block:
    """Documents that are encoded together.

    Attributes:
        number: of the block, from 0.
        documents: in order.
    """

    number: int
    documents: list[Document]


@dataclass(frozen=True)
class BlockEncoder:
    """Encodes blocks and leaves them as pieces.

    Attributes:
        pieces: the folder of all pieces.
        indexer: encodes.
    """

    pieces: Path
    indexer: JaColBERTIndexer

    def __call__(self, block: Block) -> int:
        """Encodes a block, if that is not done; returns its number."""
        from pyterrier_jacolbert.index.build import Builder
        from pyterrier_jacolbert.index.store import atomic_directory

        piece = piece_of(self.pieces, block.number)
        if not piece.exists():
            try:
                with atomic_directory(piece) as side:
                    # "auto" leaves vectors as they are until all are there.
                    settings = dataclasses.replace(self.indexer.build_settings(), compression="auto")
                    builder = Builder(side, BUILD, settings, self.indexer.origin())
                    builder.add(*self.indexer.encoded(block.documents))
                    builder.close()
            except OSError:
                # Another, given up for dead, may have come first.
                if not piece.exists():
                    raise
        return block.number


def piece_of(pieces: Path, number: int) -> Path:
    """The folder of a block."""
    return pieces / f"{number:08}"


def assemble(directory: Path, pieces: list[Path], settings: Mapping[str, Any], origin: Mapping[str, Any]) -> int:
    """Puts a shard's pieces together, and removes them; returns the number of documents.

    Args:
        directory: of the shard.
        pieces: in order.
        settings: of the shard's build.
        origin: of it.
    """
    from pyterrier_jacolbert.index.build import Builder, Settings

    with writing(directory):
        sweep(directory, None)
        builder = Builder(directory, BUILD, Settings(**settings), origin)
        position = 0
        for folder in [] if builder.encoded else pieces:
            piece = Builder.taken_up(folder, BUILD)
            if position >= builder.documents:
                builder.add(piece.shard(), piece.model)
            position += piece.documents
        builder.stop()
        builder.close()
    for folder in pieces:
        shutil.rmtree(folder, ignore_errors=True)
    return builder.documents
