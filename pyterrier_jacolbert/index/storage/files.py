"""Files inside the folder of an index, opened, created, cut and removed without following symbolic links.

An index may come from anyone. A link in it would make a reader show, and a writer change, files outside of it. The
folder itself may be reached through a link, which its user made.
"""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path, PurePosixPath
from typing import IO, Any

#: Not on every system; there, the look at the name before opening it has to do.
_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)


def damaged(path: Path, problem: str) -> ValueError:
    """Returns the error of a file that is not what an index of this package holds.

    Args:
        path: of the file.
        problem: what is wrong, to follow the path in a sentence.
    """
    return ValueError(f"{path} {problem}, so the index is damaged; build or fetch it again.")


def size_of(directory: Path, name: str) -> int:
    """Returns the size of a file of an index in bytes.

    Args:
        directory: of the index.
        name: of the file, relative to the directory, with ``/`` between folders.

    Raises:
        ValueError: the file is missing, is not a regular file, or lies behind a symbolic link.
    """
    state = _state(directory, name)
    if state is None:
        raise damaged(directory / name, "is missing")
    return state.st_size


def open_to_read(directory: Path, name: str) -> IO[bytes]:
    """Opens a file of an index to read; see :func:`size_of` for arguments and errors."""
    size_of(directory, name)
    try:
        return os.fdopen(os.open(directory / name, os.O_RDONLY | _NO_FOLLOW), "rb")
    except (FileNotFoundError, NotADirectoryError):  # a writer removed it at this moment
        raise damaged(directory / name, "is missing") from None


def open_to_append(directory: Path, name: str, size: int) -> IO[bytes]:
    """Opens a file of an index to read and append to, cut to a size; creates it, with its folder, if there is none.

    Args:
        directory: of the index.
        name: of the file, relative to the directory, with ``/`` between folders.
        size: bytes that count; what follows them is cut off.

    Raises:
        ValueError: the file is shorter, is not a regular file, or lies behind a symbolic link.
    """
    path = directory / name
    check_folders(directory, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    state = _state(directory, name)
    found = 0 if state is None else state.st_size
    if found < size:
        raise damaged(path, f"has {found} bytes, not {size}" if state is not None else "is missing")
    flags = os.O_RDWR | _NO_FOLLOW | (os.O_CREAT | os.O_EXCL if state is None else 0)
    file = os.fdopen(os.open(path, flags, 0o666), "r+b")
    file.truncate(size)
    file.seek(size)
    return file


def open_to_replace(path: Path, mode: str) -> IO[Any]:
    """Opens a file to write it anew; a symbolic link of its name is removed, and what it points to stays.

    Args:
        path: of the file.
        mode: ``"w"`` for UTF-8 text, ``"wb"`` for bytes.
    """
    if path.is_symlink():
        path.unlink()

    def opener(name: str, flags: int) -> int:
        return os.open(name, flags | _NO_FOLLOW, 0o666)

    return open(path, mode, encoding=None if "b" in mode else "utf-8", opener=opener)


def check_folders(directory: Path, name: str) -> None:
    """Checks that no folder on the way to a file of an index is a symbolic link or a file; it may be missing.

    Args:
        directory: of the index.
        name: of the file, relative to the directory, with ``/`` between folders.

    Raises:
        ValueError: one is.
    """
    for parent in reversed(PurePosixPath(name).parents[:-1]):
        state = _state_of_name(directory / parent)
        if state is not None and not stat.S_ISDIR(state.st_mode):
            raise damaged(directory / parent, f"is {_kind(state)} and not a folder")


def remove(path: Path) -> None:
    """Removes a file, or a folder with its content; of a symbolic link, only the link. It may be missing."""
    state = _state_of_name(path)
    if state is not None and stat.S_ISDIR(state.st_mode):
        shutil.rmtree(path)  # which does not follow links either
    else:
        path.unlink(missing_ok=True)


def is_folder(path: Path) -> bool:
    """Returns whether a path is a folder, and not a symbolic link to one."""
    state = _state_of_name(path)
    return state is not None and stat.S_ISDIR(state.st_mode)


def is_file(path: Path) -> bool:
    """Returns whether a path is a regular file, and not a symbolic link to one.

    Raises:
        ValueError: it is anything else that would be opened in place of a file.
    """
    state = _state_of_name(path)
    if state is not None and not stat.S_ISREG(state.st_mode):
        raise damaged(path, f"is {_kind(state)} and not a file")
    return state is not None


def _state(directory: Path, name: str) -> os.stat_result | None:
    """Returns the state of a regular file of an index, or None if there is none."""
    check_folders(directory, name)
    return _state_of_name(directory / name) if is_file(directory / name) else None


def _state_of_name(path: Path) -> os.stat_result | None:
    try:
        return os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _kind(state: os.stat_result) -> str:
    if stat.S_ISLNK(state.st_mode):
        return "a symbolic link"
    return "a folder" if stat.S_ISDIR(state.st_mode) else "a device, pipe or socket"
