"""Checksums of files, one per block of 1 MiB, so that damage can be located."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pyterrier_jacolbert.index.storage.files import is_file, open_to_append, open_to_read
from pyterrier_jacolbert.index.storage.manifest import ArrayEntry

#: Bytes per checksum.
BLOCK_BYTES = 2**20
#: Bytes of a checksum.
SUM_BYTES = 8


@dataclass(frozen=True)
class Damage:
    """A range of a file that differs from what was written.

    Attributes:
        file: name of the file, relative to the index.
        first: first byte of the block.
        end: byte after the last.
        problem: what is wrong.
    """

    file: str
    first: int
    end: int
    problem: str

    def __str__(self) -> str:
        return f"{self.file}, bytes {self.first} to {self.end}: {self.problem}"


def block_digest(content: bytes = b"") -> Any:
    """Returns the running digest of a block, which :meth:`update` extends."""
    return hashlib.blake2b(content, digest_size=SUM_BYTES)


def sums_file(file: str) -> str:
    """Returns the name of the file that holds the checksums of another."""
    return f"{file}.sums"


def sums_bytes(size: int) -> int:
    """Returns the bytes of the checksums of a file."""
    return size // BLOCK_BYTES * SUM_BYTES


def seal_file(directory: Path, name: str) -> ArrayEntry:
    """Checksums a file written by other code, flushes both to disk and returns its entry, as an array of bytes."""
    with open_to_read(directory, name) as file, open_to_append(directory, sums_file(name), 0) as sums:
        size, rest = 0, b""
        while block := file.read(BLOCK_BYTES):
            size, rest = size + len(block), block_digest(block).digest()
            if len(block) == BLOCK_BYTES:
                sums.write(rest)
                rest = b""
        sums.flush()
        for written in (file, sums):
            os.fsync(written.fileno())
    return ArrayEntry(name, "|u1", (size,), rest.hex())


def check_saved(path: Path, array: np.ndarray) -> None:
    """Checks that ``np.save`` wrote a whole array: on a full disk, it may lose the last 4 KB without an error.

    Raises:
        OSError: the file is shorter than the array.
    """
    try:
        if array.size:
            np.load(path, mmap_mode="r", allow_pickle=False)
    except ValueError:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from None


def find_damage(directory: Path, entries: Iterable[ArrayEntry]) -> Iterator[Damage]:
    """Reads files from end to end and yields every block that differs from what was written."""
    for entry in entries:
        yield from _damage_of(directory, entry)


def _damage_of(directory: Path, entry: ArrayEntry) -> Iterator[Damage]:
    name, size = entry.file, entry.nbytes
    if not is_file(directory / name):
        yield Damage(name, 0, size, "the file is missing")
        return
    whole, recorded = size // BLOCK_BYTES, b""
    if is_file(directory / sums_file(name)):
        with open_to_read(directory, sums_file(name)) as sums:
            recorded = sums.read(whole * SUM_BYTES)
    with open_to_read(directory, name) as file:
        for number in range(whole + bool(size % BLOCK_BYTES)):
            first, end = number * BLOCK_BYTES, min((number + 1) * BLOCK_BYTES, size)
            content = file.read(end - first)
            found = block_digest(content).digest()
            if number < whole:
                expected = recorded[number * SUM_BYTES : (number + 1) * SUM_BYTES]
            else:
                expected = bytes.fromhex(entry.rest)
            if len(content) < end - first:
                yield Damage(name, first + len(content), size, "the file ends here")
                return
            if len(expected) < SUM_BYTES:
                yield Damage(sums_file(name), len(recorded), whole * SUM_BYTES, "the file ends here")
                return
            if found != expected:
                yield Damage(name, first, end, "the content is not what was written")
