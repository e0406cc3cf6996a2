"""Atomic writing: a reader sees the old file or folder, or the new one, whole.

Everything is written under a temporary name, flushed to disk, and renamed.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import platform
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from pyterrier_jacolbert.index.storage.files import damaged, is_file, open_to_replace

#: PyTerrier reads this file to find the class of an artifact. It is written last, so a folder without it is no index.
META_FILE = "pt_meta.json"
_DIGEST_BYTES = 8
#: How the names of folders end that are being written, and that are being replaced.
_BUILDING, _REPLACED = ".building", ".replaced"
#: Most bytes of a JSON file of an index: a shard takes some 100 in a manifest.
LONGEST_JSON = 2**28


@contextlib.contextmanager
def replacing(path: Path, mode: str = "w") -> Iterator[IO[Any]]:
    """Opens a temporary file that replaces ``path`` when the block ends, and vanishes when the block fails.

    Args:
        path: the file to replace or create.
        mode: ``"w"`` for UTF-8 text, ``"wb"`` for bytes.

    Yields:
        The open file.

    Raises:
        OSError: the file cannot be written.
    """
    temporary = temporary_name(path)
    try:
        with open_to_replace(temporary, mode) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def temporary_name(path: Path) -> Path:
    """Returns the name under which a file or folder is written before it takes its place."""
    return path.with_name(f"{path.name}.new")


@contextlib.contextmanager
def replacing_directory(path: Path, *, replace: bool = True) -> Iterator[Path]:
    """Yields an empty folder that becomes ``path`` when the block ends, and vanishes when the block fails.

    What killed processes of this machine left is removed first. A folder that such a process had moved aside, to
    replace it, is put back.

    Args:
        path: where the folder goes.
        replace: whether to replace a folder with content that exists there at the end.

    Yields:
        An empty folder beside ``path``.

    Raises:
        OSError: the folder cannot be written, or may not be replaced.
    """
    path = Path(os.path.abspath(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(path)
    with _locked_side_folder(path) as side:
        try:
            side.chmod(0o777 & ~_umask())
            yield side
            _sync_tree(side)
            if replace and path.exists() and any(path.iterdir()):
                old = side.with_suffix(_REPLACED)
                path.rename(old)
                try:
                    side.rename(path)
                except BaseException:
                    old.rename(path)
                    raise
                shutil.rmtree(old, ignore_errors=True)
            else:
                side.replace(path)
        except BaseException:
            shutil.rmtree(side, ignore_errors=True)
            raise
    sync_directory(path.parent)


@contextlib.contextmanager
def _locked_side_folder(path: Path) -> Iterator[Path]:
    """Yields a new folder beside a path, which is locked so that no other process takes it for abandoned."""
    while True:
        side = Path(tempfile.mkdtemp(prefix=_side_prefix(path), suffix=_BUILDING, dir=path.parent))
        with _locked(side) as locked:
            # Another process may have removed it before it was locked; without locks, none removes anything.
            if side.exists() or not locked:
                yield side
                return


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[bool]:
    """Locks a folder for the duration of the block; yields whether this process could."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        locked = True
    except (OSError, ImportError):  # locked by another process, or a system without such locks
        locked = False
    try:
        yield locked
    finally:
        os.close(descriptor)


def _remove_abandoned(path: Path) -> None:
    """Removes the folders beside a path that killed processes of this machine left, and puts an old one back."""
    sides = [side for side in path.parent.iterdir() if side.name.startswith(_side_prefix(path))]
    for side in (side for side in sides if side.suffix == _BUILDING):
        with contextlib.suppress(FileNotFoundError), _locked(side) as abandoned:
            if abandoned:
                shutil.rmtree(side)
    for side in (side for side in sides if side.suffix == _REPLACED):
        if side.with_suffix(_BUILDING).exists():  # a running process is about to replace it
            continue
        with contextlib.suppress(FileNotFoundError):
            if path.exists():
                shutil.rmtree(side)
            else:
                side.rename(path)


def _side_prefix(path: Path) -> str:
    """Returns how the names of folders begin that this machine writes beside a path.

    Locks of other machines are not seen on every file system.
    """
    machine = hashlib.blake2b(platform.node().encode(), digest_size=4).hexdigest()
    return f".{path.name}.{machine}-"


def cannot_write(path: Path, error: OSError) -> OSError:
    """Returns the error of a folder that an index cannot be written to."""
    return type(error)(error.errno, f"Cannot write an index to {path} ({error.strerror}); choose another path")


@contextlib.contextmanager
def disk_space_for(directory: Path, needed: int) -> Iterator[None]:
    """Re-raises disk-full errors with the number of bytes needed.

    Args:
        directory: where the block writes.
        needed: the bytes that it writes.

    Raises:
        OSError: the disk, a quota or a limit on file sizes left too little space.
    """
    try:
        yield
    except OSError as error:
        # numpy writes arrays with an OSError of its own, which has no number.
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, None):
            raise
        free = shutil.disk_usage(directory).free
        raise OSError(
            error.errno or errno.ENOSPC,
            f"{directory} has no space for {needed:,} more bytes ({free:,} are free); nothing that was there is lost, "
            "so free some space and try again",
        ) from None


def replace_json(path: Path, content: Mapping[str, Any]) -> None:
    """Replaces a JSON file atomically. The file ends with a checksum of its content."""
    text = json_with_digest(content)
    with disk_space_for(path.parent, len(text)), replacing(path) as file:
        file.write(text)


def read_json(path: Path) -> dict[str, Any] | None:
    """Reads a JSON file that :func:`replace_json` wrote; returns None if there is none.

    Raises:
        ValueError: the content is not what was written, or the path is a symbolic link.
    """
    try:
        if not is_file(path):
            return None
        if path.stat().st_size > LONGEST_JSON:
            raise damaged(path, f"has more than {LONGEST_JSON >> 20} MiB")
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except UnicodeDecodeError:
        text = ""
    try:
        content: dict[str, Any] = json.loads(text)
        content.pop("digest")
        unchanged = json_with_digest(content) == text
    except (ValueError, AttributeError, KeyError, TypeError, RecursionError):
        unchanged = False
    if not unchanged:
        raise damaged(path, "is not what was written")
    return content


def json_digest(content: Mapping[str, Any]) -> str:
    """Returns the checksum that :func:`replace_json` adds to a content."""
    return str(json.loads(json_with_digest(content))["digest"])


def json_with_digest(content: Mapping[str, Any]) -> str:
    """Returns the text of a JSON file whose last value is a checksum of the others."""
    bare = json.dumps(content, ensure_ascii=False, indent=1)
    digest = hashlib.blake2b(bare.encode(), digest_size=_DIGEST_BYTES).hexdigest()
    return json.dumps({**content, "digest": digest}, ensure_ascii=False, indent=1) + "\n"


def sync_directory(directory: Path) -> None:
    """Flushes the names in a folder to disk."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current


def _sync_tree(directory: Path) -> None:
    for file in [*directory.rglob("*"), directory]:
        descriptor = os.open(file, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
