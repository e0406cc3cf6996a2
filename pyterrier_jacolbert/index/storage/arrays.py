"""Arrays in files that only grow: appended to, checksummed per block, and never half read.

An index is a folder of such files and one manifest, which says how much of each file counts. A writer appends, and then
replaces the manifest in one step: readers see the rows that their manifest names, whatever follows them in the file.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np

from pyterrier_jacolbert.index.storage.atomic import disk_space_for
from pyterrier_jacolbert.index.storage.blocks import BLOCK_BYTES, SUM_BYTES, block_digest, sums_file
from pyterrier_jacolbert.index.storage.files import damaged, open_to_append, open_to_read
from pyterrier_jacolbert.index.storage.manifest import ArrayEntry, Entries

#: Start of a file of ``np.save``, and its header of a flat array: type and number of values.
_NPY_MAGIC = b"\x93NUMPY\x01\x00"
_NPY_HEADER = re.compile(
    rb"\{'descr': '([<|][fiu][1248])', 'fortran_order': (?:False|True), 'shape': \(([0-9]{1,15}),\), \} *\n"
)


class GrowingArray:
    """An array in a file, appended to in blocks of rows; little-endian, without a header.

    ``NAME.sums`` holds a checksum for each whole block of
    :data:`~pyterrier_jacolbert.index.storage.blocks.BLOCK_BYTES`; the checksum of the rest is in the entry.

    Args:
        directory: of the index.
        name: of the file, relative to the directory.
        dtype: of the values.
        row_shape: shape of one row, ``()`` for a flat array.
        rows: number of rows of an existing file that count; what follows them is cut off.

    Raises:
        ValueError: the file is shorter than ``rows``, or lies behind a symbolic link.
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
        self._file = open_to_append(directory, name, size)
        self._sums = open_to_append(directory, sums_file(name), size // BLOCK_BYTES * SUM_BYTES)
        self._filled = size % BLOCK_BYTES
        self._digest = block_digest()
        if self._filled:
            self._file.seek(size - self._filled)
            self._digest.update(self._file.read(self._filled))

    def append(self, rows: np.ndarray) -> None:
        """Appends rows of shape ``(n, *row_shape)``."""
        rows = np.ascontiguousarray(rows, dtype=self.dtype)
        if not rows.size:
            return
        data = rows.data.cast("B")
        self._file.write(data)
        self.rows += len(data) // self._row_bytes
        while len(data):
            part, data = data[: BLOCK_BYTES - self._filled], data[BLOCK_BYTES - self._filled :]
            self._digest.update(part)
            self._filled += len(part)
            if self._filled == BLOCK_BYTES:
                self._sums.write(self._digest.digest())
                self._digest, self._filled = block_digest(), 0

    def flush(self) -> ArrayEntry:
        """Flushes everything to disk and returns the entry of the file."""
        for file in (self._file, self._sums):
            file.flush()
            os.fsync(file.fileno())
        rest = self._digest.hexdigest() if self._filled else ""
        return ArrayEntry(self.name, self.dtype.str, (self.rows, *self.row_shape), rest)

    def close(self) -> None:
        """Closes the files. Rows that were not flushed do not count, so a full disk raises no error here."""
        for file in (self._file, self._sums):
            with contextlib.suppress(OSError):
                file.close()


class ArraySet:
    """The growing arrays of an index by name, each opened when it is first written to.

    Args:
        directory: of the index.
        folder: folder within it for the files.
        entries: of existing arrays by name.
    """

    def __init__(self, directory: Path, folder: str, entries: Entries) -> None:
        self._directory = directory
        self._folder = folder
        self.entries: dict[str, ArrayEntry] = dict(entries)
        self._open: dict[str, GrowingArray] = {}

    def append(self, columns: Mapping[str, np.ndarray]) -> dict[str, ArrayEntry]:
        """Appends rows to the named arrays, creating any that are missing, and flushes to disk.

        Returns:
            The entries of all arrays by name.

        Raises:
            OSError: the disk is full.
        """
        with disk_space_for(self._directory, sum(rows.nbytes for rows in columns.values())):
            for name, rows in columns.items():
                if name not in self._open:
                    self._open[name] = self._open_array(name, rows)
                self._open[name].append(rows)
            self.entries |= {name: array.flush() for name, array in self._open.items()}
        return self.entries

    def close(self) -> None:
        """Closes the files."""
        for array in self._open.values():
            array.close()
        self._open = {}

    def map(self, name: str) -> np.ndarray:
        """Maps an array as of the last flush, read-only."""
        return map_array(self._directory, self.entries[name])

    def last(self, name: str) -> int:
        """Returns the last value of an array of ends, or 0 if there is none."""
        return int(self.map(name)[-1]) if name in self.entries else 0

    def _open_array(self, name: str, rows: np.ndarray) -> GrowingArray:
        if name in self.entries:
            entry = self.entries[name]
            count, *row_shape = entry.shape
            return GrowingArray(self._directory, entry.file, entry.dtype, tuple(row_shape), rows=count)
        dtype = rows.dtype.newbyteorder("<")
        file = f"{self._folder}/{name}.{dtype.str[1:]}"
        array = GrowingArray(self._directory, file, dtype.str, rows.shape[1:])
        if name.endswith("starts"):
            array.append(np.zeros(1, dtype=dtype))
        return array


def write_array(directory: Path, name: str, array: np.ndarray) -> ArrayEntry:
    """Writes a whole array and returns its entry."""
    growing = GrowingArray(directory, name, array.dtype.newbyteorder("<").str, array.shape[1:])
    with contextlib.closing(growing), disk_space_for(directory, array.nbytes):
        growing.append(array)
        return growing.flush()


def map_array(directory: Path, entry: ArrayEntry) -> np.ndarray:
    """Maps the rows of a file that its entry names, read-only.

    Raises:
        ValueError: the file is missing, lies behind a symbolic link, or is shorter than its entry states.
    """
    path, expected = directory / entry.file, entry.nbytes
    with open_to_read(directory, entry.file) as file:
        if (found := os.fstat(file.fileno()).st_size) < expected:
            raise damaged(path, f"has {found} bytes, not {expected}")
        if expected == 0:
            return np.empty(entry.shape, dtype=entry.dtype)  # an empty file cannot be mapped
        mapped = np.memmap(file, dtype=entry.dtype, mode="r", shape=entry.shape)
        return np.asarray(mapped)  # slices of a plain array are cheaper


def map_starts(directory: Path, entry: ArrayEntry, count: int) -> np.ndarray:
    """Maps the start of each run of rows in another array of ``count`` rows: int64 ``(n + 1,)``.

    Kernels trust these values, so they are checked whenever an index is opened.

    Raises:
        ValueError: they do not ascend from 0 to ``count``.
    """
    starts = map_array(directory, entry)
    if not len(starts) or starts[0] != 0 or starts[-1] != count or (starts[1:] < starts[:-1]).any():
        raise damaged(directory / entry.file, f"does not ascend from 0 to {count}")
    return starts


def map_npy(directory: Path, name: str, dtypes: Collection[str]) -> np.ndarray:
    """Maps a flat array in numpy's own format, read-only. The header is compared, not evaluated.

    Args:
        directory: of the index.
        name: of the file, relative to the directory.
        dtypes: allowed types, as numpy writes them.

    Raises:
        ValueError: the file is missing or of another kind, or holds anything else.
    """
    with open_to_read(directory, name) as file:
        start = file.read(len(_NPY_MAGIC) + 2)
        length = int.from_bytes(start[len(_NPY_MAGIC) :], "little")
        header = _NPY_HEADER.fullmatch(file.read(length))
        if not start.startswith(_NPY_MAGIC) or header is None or header[1].decode() not in dtypes:
            raise damaged(directory / name, f"is not an array of type {' or '.join(dtypes)}")
        dtype, rows = np.dtype(header[1].decode()), int(header[2])
        expected, found = len(start) + length + rows * dtype.itemsize, os.fstat(file.fileno()).st_size
        if found != expected:
            raise damaged(directory / name, f"has {found} bytes, not {expected}")
        if rows == 0:
            return np.empty(0, dtype=dtype)
        return np.asarray(np.memmap(file, dtype=dtype, mode="r", offset=len(start) + length, shape=(rows,)))
