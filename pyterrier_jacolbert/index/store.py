"""Index files: directories that appear whole or not at all, and the mapped arrays in them."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

#: PyTerrier reads this file to find an artifact's class; it is written last, so a directory without it is not one.
META_FILE = "pt_meta.json"


@contextlib.contextmanager
def atomic_directory(path: Path, *, mode: str = "create") -> Iterator[Path]:
    """A directory to fill, which becomes ``path`` when the block ends and vanishes when the block fails.

    Args:
        path: where the directory will stand.
        mode: ``"create"`` refuses a path that exists (an empty directory is taken); ``"overwrite"`` replaces an
            index, which stays readable until the new one is complete, but never a directory that is something else.

    Yields:
        An empty directory beside ``path``.

    Raises:
        FileExistsError: ``path`` exists and may not be replaced; nothing was touched.
        OSError: the directory cannot be written.
        ValueError: the mode is unknown.
    """
    if mode not in ("create", "overwrite"):
        raise ValueError(f"mode must be 'create' or 'overwrite', not {mode!r}.")
    path = Path(os.path.abspath(path))
    occupied = path.exists() and not (path.is_dir() and not any(path.iterdir()))
    if occupied and mode == "create":
        raise FileExistsError(f"{path} exists already; choose another path, or replace it with mode='overwrite'.")
    if occupied and not (path / META_FILE).is_file():
        raise FileExistsError(f"{path} is not an index, so mode='overwrite' leaves it alone; choose another path.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        side = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".building", dir=path.parent))
    except OSError as error:
        raise type(error)(
            error.errno, f"Cannot write an index to {path} ({error.strerror}); choose another path"
        ) from None
    try:
        side.chmod(0o777 & ~_umask())
        yield side
        _sync(side)
        if occupied:
            old = side.with_suffix(".replaced")
            path.rename(old)
            try:
                side.rename(path)
            except OSError:
                old.rename(path)
                raise
            shutil.rmtree(old)
        else:
            side.replace(path)
    except BaseException:
        shutil.rmtree(side, ignore_errors=True)
        raise


def write_meta(directory: Path, meta: dict[str, Any]) -> None:
    """Writes ``pt_meta.json``, the last file of an index."""
    text = json.dumps(meta, ensure_ascii=False, indent=1)
    (directory / META_FILE).write_text(text + "\n", encoding="utf-8")


def read_meta(path: Path) -> dict[str, Any]:
    """Reads ``pt_meta.json``.

    Raises:
        FileNotFoundError: there is no index at ``path``.
        ValueError: the file is not what an index holds.
        OSError: it cannot be read.
    """
    try:
        meta = json.loads((path / META_FILE).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(f"There is no index at {path}; build one there with .index(docs).") from None
    except OSError as error:
        raise type(error)(
            error.errno, f"Cannot read the index at {path} ({error.strerror}); check its rights"
        ) from None
    except ValueError:
        meta = None
    if not isinstance(meta, dict):
        raise ValueError(f"{path / META_FILE} is not readable JSON, so the index at {path} is damaged; build it again.")
    return meta


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current


def _sync(directory: Path) -> None:
    for file in [*directory.rglob("*"), directory]:
        descriptor = os.open(file, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


class ArrayWriter:
    """Writes an array to a file row block by row block, little-endian and without a header.

    Args:
        directory: where the file is made.
        name: its name.
        dtype: the type of its numbers.
        row_shape: the shape of one row, ``()`` for a flat array.
    """

    def __init__(self, directory: Path, name: str, dtype: str, row_shape: tuple[int, ...] = ()) -> None:
        self.name = name
        self.dtype = np.dtype(dtype).newbyteorder("<")
        self.row_shape = row_shape
        self.rows = 0
        self._digest = hashlib.sha256()
        self._file = (directory / name).open("wb")

    def append(self, block: np.ndarray) -> None:
        """Adds rows: an array of shape ``(n, *row_shape)``."""
        block = np.ascontiguousarray(block, dtype=self.dtype).reshape(-1, *self.row_shape)
        data = block.tobytes()
        self._file.write(data)
        self._digest.update(data)
        self.rows += len(block)

    def close(self) -> dict[str, Any]:
        """Closes the file and returns its entry for ``pt_meta.json``: file, dtype, shape and sha256."""
        self._file.close()
        shape = [self.rows, *self.row_shape]
        return {"file": self.name, "dtype": self.dtype.str, "shape": shape, "sha256": self._digest.hexdigest()}

    def abandon(self) -> None:
        """Closes the file, whatever is in it."""
        self._file.close()


def write_array(directory: Path, name: str, array: np.ndarray) -> dict[str, Any]:
    """Writes a whole array and returns its entry for ``pt_meta.json``."""
    writer = ArrayWriter(directory, name, array.dtype.str, array.shape[1:])
    writer.append(array)
    return writer.close()


def map_array(directory: Path, entry: dict[str, Any]) -> np.ndarray:
    """Maps a file that :class:`ArrayWriter` wrote, read-only.

    Raises:
        ValueError: the file is missing or not as long as its entry says.
    """
    path, dtype, shape = directory / entry["file"], np.dtype(entry["dtype"]), tuple(entry["shape"])
    expected = math.prod(shape) * dtype.itemsize
    found = path.stat().st_size if path.is_file() else None
    if found != expected:
        state = "is missing" if found is None else f"has {found} bytes, not {expected}"
        raise ValueError(f"{path} {state}, so the index is damaged; build it again, or fetch it again.")
    if expected == 0:
        return np.empty(shape, dtype=dtype)  # an empty file cannot be mapped
    return np.asarray(np.memmap(path, dtype=dtype, mode="r", shape=shape))  # slices of a plain array are cheaper


def damaged_files(directory: Path, entries: Iterable[dict[str, Any]]) -> list[str]:
    """The files whose content is not what their checksums say, in the order of the entries."""
    damaged = []
    for entry in entries:
        path = directory / entry["file"]
        if path.is_file():
            with path.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
            if found == entry["sha256"]:
                continue
        damaged.append(entry["file"])
    return damaged
