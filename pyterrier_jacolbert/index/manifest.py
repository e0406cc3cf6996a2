"""The folder of an index: what its manifest names is there, whole; one writer at a time; the rest is swept away."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import filelock

from pyterrier_jacolbert.index.files import named_files, replace_json, sync_directory
from pyterrier_jacolbert.index.store import META_FILE

#: What a path is built with.
MODES = ("create", "overwrite", "resume", "append")
#: In the folder that a build fills, until it is the index.
JOURNAL_FILE = "journal.json"
_LOCK_FILE = ".lock"
_OWNER_FILE = ".owner"


@contextlib.contextmanager
def writing(directory: Path) -> Iterator[None]:
    """Makes this process the index's only writer for the block; readers go on reading.

    Raises:
        BlockingIOError: another process is writing; it is named.
        OSError: the directory cannot be written.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(directory / _LOCK_FILE, timeout=0)
        lock.acquire()
    except filelock.Timeout:
        owner = (directory / _OWNER_FILE).read_text(encoding="utf-8") if (directory / _OWNER_FILE).is_file() else "?"
        raise BlockingIOError(
            f"{directory} is being written by {owner}; wait until that is done, or end it, and try again."
        ) from None
    except OSError as error:
        raise type(error)(
            error.errno, f"Cannot write an index to {directory} ({error.strerror}); choose another path"
        ) from None
    try:
        (directory / _OWNER_FILE).write_text(f"process {os.getpid()} of {_user()}", encoding="utf-8")
        yield
    finally:
        (directory / _OWNER_FILE).unlink(missing_ok=True)
        lock.release()


def check_mode(mode: str, directory: Path, meta: dict[str, Any] | None, begun: str | None) -> None:
    """Refuses what a mode does not allow.

    Args:
        mode: one of :data:`MODES`.
        directory: the index's folder.
        meta: the manifest of the index there, None where there is none.
        begun: the folder of an interrupted build.

    Raises:
        FileExistsError: ``"create"`` where something is, or any mode where something is that is no index.
        FileNotFoundError: ``"append"`` without an index.
    """
    others = [entry.name for entry in directory.iterdir() if not _is_trace(entry.name)]
    if mode == "create" and meta is not None:
        raise FileExistsError(f"{directory} exists already; choose another path, or replace it with mode='overwrite'.")
    if mode == "create" and begun is not None:
        raise FileExistsError(
            f"{directory} holds an interrupted build; go on with it with mode='resume', or replace it with "
            "mode='overwrite'."
        )
    if mode == "append" and meta is None:
        raise FileNotFoundError(f"There is no index at {directory} to append to; build one there first.")
    if meta is None and begun is None and others:
        raise FileExistsError(f"{directory} is not an index, so mode={mode!r} leaves it alone; choose another path.")


def remove_if_empty(directory: Path) -> None:
    """Removes the folder of an index that never came to be, where nothing else is in it."""
    if all(_is_trace(entry.name) for entry in directory.iterdir()):
        shutil.rmtree(directory, ignore_errors=True)


def begin_folder(directory: Path, folder: str, journal: dict[str, Any]) -> None:
    """Makes the folder of a build, which has its journal from the moment that it is there."""
    side = directory / f".{folder}.beginning"
    shutil.rmtree(side, ignore_errors=True)
    side.mkdir(parents=True)
    replace_json(side / JOURNAL_FILE, journal)
    side.rename(directory / folder)
    sync_directory(directory)


def publish(directory: Path, meta: dict[str, Any]) -> None:
    """Makes what ``meta`` names the index, in one step; whatever it does not name is removed after."""
    for folder in {(directory / name).parent for name in named_files(meta)}:
        sync_directory(folder)
    replace_json(directory / META_FILE, meta)
    sweep(directory, meta)


def sweep(directory: Path, meta: dict[str, Any] | None) -> None:
    """Removes what no manifest names in the folders of an index; an interrupted build and other people's files stay."""
    named = set() if meta is None else named_files(meta)
    for side in (directory / f"{META_FILE}.new", *directory.glob(f"data-*/{JOURNAL_FILE}.new")):
        side.unlink(missing_ok=True)  # of a writer that was killed before it took its place
    for folder in directory.glob(".data-*.beginning"):
        shutil.rmtree(folder)
    for folder in directory.glob("data-*"):
        if any(name.startswith(f"{folder.name}/") for name in named):
            for file in folder.iterdir():
                if f"{folder.name}/{file.name}" not in named:
                    file.unlink()
        elif not (folder / JOURNAL_FILE).is_file():
            shutil.rmtree(folder)


def next_folder(meta: dict[str, Any] | None) -> str:
    """The name of a folder for a new generation of files."""
    numbers = [0] if meta is None else [int(entry["file"].split("/")[0][5:]) for entry in meta["files"].values()]
    return f"data-{max(numbers) + 1}"


def interrupted_build(directory: Path, meta: dict[str, Any] | None) -> str | None:
    """The folder of a build that was begun and is not the index; None where there is none."""
    named = set() if meta is None else named_files(meta)
    for journal in sorted(directory.glob(f"data-*/{JOURNAL_FILE}")):
        if not any(name.startswith(f"{journal.parent.name}/") for name in named):
            return journal.parent.name
    return None


def _is_trace(name: str) -> bool:
    """Whether a name in an index's folder is what a writer leaves that was killed before it began."""
    return name in (_LOCK_FILE, _OWNER_FILE) or (name.startswith(".data-") and name.endswith(".beginning"))


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "an unknown user"
