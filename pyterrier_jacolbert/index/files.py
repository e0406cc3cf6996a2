"""Files that only grow: arrays with a checksum a block, appended to, checked, and never half read.

An index is a folder of such files and one manifest, ``pt_meta.json``, which says how much of each file counts. A writer
appends, and then replaces the manifest in one step: readers see the rows that their manifest names, whatever stands
behind them.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import math
import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

#: Bytes a checksum covers; :func:`damage` names a damaged place by such a block.
BLOCK_BYTES = 2**20
_SUM_BYTES = 8


@dataclass(frozen=True)
class Damage:
    """A place where a file is not what was written.

    Attributes:
        file: its name within the index.
        first: the first byte of the block.
        end: the byte after its last.
        problem: what is wrong.
    """

    file: str
    first: int
    end: int
    problem: str

    def __str__(self) -> str:
        return f"{self.file}, bytes {self.first} to {self.end}: {self.problem}"


class GrowingArray:
    """An array in a file, appended to row block by row block; little-endian, without a header.

    Beside it stands ``NAME.sums`` with a checksum a whole block of ``BLOCK_BYTES``; the rest's is in the entry.

    Args:
        directory: the index.
        name: of the file, relative to it.
        dtype: the type of its numbers.
        row_shape: the shape of one row, ``()`` for a flat array.
        rows: how many rows of a file that exists count; what stands behind them is cut off.
    """

    def __init__(
        self, directory: Path, name: str, dtype: str, row_shape: tuple[int, ...] = (), *, rows: int = 0
    ) -> None:
        self.name = name
        self.dtype = np.dtype(dtype)
        self.row_shape = tuple(row_shape)
        self.rows = rows
        self._row_bytes = self.dtype.itemsize * math.prod(self.row_shape)
        size = rows * self._row_bytes
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = _open_at(path, size)
        self._sums = _open_at(directory / f"{name}.sums", size // BLOCK_BYTES * _SUM_BYTES)
        self._filled = size % BLOCK_BYTES
        self._digest = _digest()
        if self._filled:
            self._file.seek(size - self._filled)
            self._digest.update(self._file.read(self._filled))

    def append(self, block: np.ndarray) -> None:
        """Adds rows: an array of shape ``(n, *row_shape)``."""
        block = np.ascontiguousarray(block, dtype=self.dtype)
        if not block.size:
            return
        data = block.data.cast("B")
        self._file.write(data)
        self.rows += len(data) // self._row_bytes
        while len(data):
            piece, data = data[: BLOCK_BYTES - self._filled], data[BLOCK_BYTES - self._filled :]
            self._digest.update(piece)
            self._filled += len(piece)
            if self._filled == BLOCK_BYTES:
                self._sums.write(self._digest.digest())
                self._digest, self._filled = _digest(), 0

    def flush(self) -> dict[str, Any]:
        """Brings everything to the disk and returns the file's entry: file, dtype, shape and the rest's checksum."""
        for file in (self._file, self._sums):
            file.flush()
            os.fsync(file.fileno())
        return {
            "file": self.name,
            "dtype": self.dtype.str,
            "shape": [self.rows, *self.row_shape],
            "rest": self._digest.hexdigest() if self._filled else "",
        }

    def close(self) -> None:
        """Closes the files; what was not flushed does not count, so a disk that has no room for it is no error here."""
        for file in (self._file, self._sums):
            with contextlib.suppress(OSError):
                file.close()


@contextlib.contextmanager
def room_for(directory: Path, needed: int) -> Iterator[None]:
    """Says of a full disk how many bytes the block would have needed.

    Raises:
        OSError: there was no room, or not enough within a quota or limit.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        free = shutil.disk_usage(directory).free
        raise OSError(
            error.errno,
            f"There is no room in {directory} for {needed:,} bytes more ({free:,} are free); nothing that was there is "
            "lost, so make room and try again",
        ) from None


def write_array(directory: Path, name: str, array: np.ndarray) -> dict[str, Any]:
    """Writes a whole array and returns its entry."""
    growing = GrowingArray(directory, name, array.dtype.newbyteorder("<").str, array.shape[1:])
    with contextlib.closing(growing), room_for(directory, array.nbytes):
        growing.append(array)
        return growing.flush()


def seal_file(directory: Path, name: str) -> dict[str, Any]:
    """Checksums a file that something else wrote, and returns its entry, as one of bytes."""
    with (directory / name).open("rb") as file, (directory / f"{name}.sums").open("wb") as sums:
        size, rest = 0, b""
        while block := file.read(BLOCK_BYTES):
            size, rest = size + len(block), _digest(block).digest()
            if len(block) == BLOCK_BYTES:
                sums.write(rest)
                rest = b""
    return {"file": name, "dtype": "|u1", "shape": [size], "rest": rest.hex()}


def map_array(directory: Path, entry: dict[str, Any]) -> np.ndarray:
    """Maps the rows of a file that its entry names, read-only.

    Raises:
        ValueError: the file is missing or shorter than its entry says.
    """
    path, dtype, shape = directory / entry["file"], np.dtype(entry["dtype"]), tuple(entry["shape"])
    expected = math.prod(shape) * dtype.itemsize
    state = "is missing"
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):  # also where a writer removes it in this moment
        found = path.stat().st_size
        if found >= expected:
            if expected == 0:
                return np.empty(shape, dtype=dtype)  # an empty file cannot be mapped
            return np.asarray(
                np.memmap(path, dtype=dtype, mode="r", shape=shape)
            )  # slices of a plain array are cheaper
        state = f"has {found} bytes, not {expected}"
    raise ValueError(f"{path} {state}, so the index is damaged; build it again, or fetch it again.")


def map_starts(directory: Path, entry: dict[str, Any], count: int) -> np.ndarray:
    """Maps an array of where each piece of another starts, int64 ``(n + 1,)``, whose last value is ``count``.

    Kernels trust these numbers, so they are checked whenever an index is opened.

    Raises:
        ValueError: they do not ascend from 0 to ``count``.
    """
    starts = map_array(directory, entry)
    if not len(starts) or starts[0] != 0 or starts[-1] != count or (starts[1:] < starts[:-1]).any():
        raise ValueError(
            f"{directory / entry['file']} does not ascend from 0 to {count}, so the index is damaged; build it again, "
            "or fetch it again."
        )
    return starts


def damage(directory: Path, entries: Iterable[dict[str, Any]]) -> Iterator[Damage]:
    """Reads files from end to end and yields what is not as it was written."""
    for entry in entries:
        name, size = entry["file"], math.prod(entry["shape"]) * np.dtype(entry["dtype"]).itemsize
        path, sums = directory / name, directory / f"{name}.sums"
        if not path.is_file():
            yield Damage(name, 0, size, "the file is missing")
            continue
        whole = size // BLOCK_BYTES
        recorded = sums.read_bytes() if sums.is_file() else b""
        with path.open("rb") as file:
            for number in range(whole + bool(size % BLOCK_BYTES)):
                first, end = number * BLOCK_BYTES, min((number + 1) * BLOCK_BYTES, size)
                content = file.read(end - first)
                found = _digest(content).digest()
                if number < whole:
                    expected = recorded[number * _SUM_BYTES : (number + 1) * _SUM_BYTES]
                else:
                    expected = bytes.fromhex(entry["rest"])
                if len(content) < end - first:
                    yield Damage(name, first + len(content), size, "the file ends here")
                    break
                if len(expected) < _SUM_BYTES:
                    yield Damage(f"{name}.sums", len(recorded), whole * _SUM_BYTES, "the file ends here")
                    break
                if found != expected:
                    yield Damage(name, first, end, "the content is not what was written")


def named_files(meta: dict[str, Any]) -> set[str]:
    """The files of an index, relative to its folder, with those of their checksums."""
    names = {entry["file"] for entry in meta["files"].values()}
    return names | {f"{name}.sums" for name in names}


def _digest(content: bytes = b"") -> Any:  # noqa: ANN401 (hashlib names no type)
    return hashlib.blake2b(content, digest_size=_SUM_BYTES)


def _open_at(path: Path, size: int) -> Any:  # noqa: ANN401
    """The file, cut to a size, ready to be appended to.

    Raises:
        ValueError: it is shorter.
    """
    file = path.open("r+b" if path.exists() else "w+b")
    file.seek(0, os.SEEK_END)
    if file.tell() < size:
        found = file.tell()
        file.close()
        raise ValueError(f"{path} has {found} bytes, not {size}, so the index is damaged; build it again.")
    file.truncate(size)
    file.seek(size)
    return file


def replace_json(path: Path, content: dict[str, Any]) -> None:
    """Writes a JSON file in one step: whoever reads it sees the old one or the new one. It holds its own checksum."""
    text = with_digest(content)
    side = path.with_name(f"{path.name}.new")
    with room_for(path.parent, len(text)), side.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    side.replace(path)
    sync_directory(path.parent)


def read_json(path: Path) -> dict[str, Any] | None:
    """Reads a JSON file that :func:`replace_json` wrote; None where there is none.

    Raises:
        ValueError: it is not what was written.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except UnicodeDecodeError:
        text = ""
    content: dict[str, Any] | None
    try:
        content = json.loads(text)
        content.pop("digest")
    except (ValueError, AttributeError, KeyError, TypeError):
        content = None
    if content is None or with_digest(content) != text:
        raise ValueError(f"{path} is not what was written, so the index is damaged; build it again, or fetch it again.")
    return content


def digest_of(content: dict[str, Any]) -> str:
    """The checksum that :func:`replace_json` writes of a content."""
    return str(json.loads(with_digest(content))["digest"])


def with_digest(content: dict[str, Any]) -> str:
    """The text of a JSON file, with a checksum of the rest as its last value."""
    bare = json.dumps(content, ensure_ascii=False, indent=1)
    return json.dumps({**content, "digest": _digest(bare.encode()).hexdigest()}, ensure_ascii=False, indent=1) + "\n"


def sync_directory(directory: Path) -> None:
    """Brings the names in a directory to the disk."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
