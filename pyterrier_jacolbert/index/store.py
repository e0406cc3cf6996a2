"""Directories that appear whole or not at all, and the manifest that makes one an index."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pyterrier_jacolbert.index.files import read_json

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


def read_meta(path: Path) -> dict[str, Any]:
    """Reads ``pt_meta.json``.

    Raises:
        FileNotFoundError: there is no index at ``path``.
        ValueError: the file is not what was written.
        OSError: it cannot be read.
    """
    try:
        meta = read_json(path / META_FILE)
    except OSError as error:
        raise type(error)(
            error.errno, f"Cannot read the index at {path} ({error.strerror}); check its rights"
        ) from None
    if meta is None:
        raise FileNotFoundError(f"There is no index at {path}; build one there with .index(docs).")
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
