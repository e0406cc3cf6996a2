"""The folder of an index: one writer at a time, one manifest that names what counts, and sweeping of the rest."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

import filelock

from pyterrier_jacolbert.index.storage.atomic import (
    META_FILE,
    cannot_write,
    replace_json,
    sync_directory,
    temporary_name,
)
from pyterrier_jacolbert.index.storage.blocks import sums_bytes, sums_file
from pyterrier_jacolbert.index.storage.files import is_file, is_folder, open_to_append, open_to_replace, remove, size_of
from pyterrier_jacolbert.index.storage.manifest import Entries, Manifest

#: What to do with a path that may exist.
MODES = ("create", "overwrite", "resume", "append")
#: File with the state of a build, in the folder that the build fills, until the folder is part of an index.
JOURNAL_FILE = "journal.json"
_LOCK_FILE = ".lock"
_OWNER_FILE = ".owner"
#: How often a read is repeated because a writer has replaced the files meanwhile.
_READ_ATTEMPTS = 100
_Manifest = TypeVar("_Manifest")
_Result = TypeVar("_Result")


class PublishedManifest(Protocol):
    """A manifest of any kind of index."""

    @property
    def generation(self) -> int:
        """Number of this state of the index."""
        ...

    @property
    def files(self) -> Entries:
        """Entries of the files by name."""
        ...

    def to_json(self) -> dict[str, Any]:
        """Returns the manifest as JSON values."""
        ...


@contextlib.contextmanager
def writing(directory: Path) -> Iterator[None]:
    """Makes this process the only writer of an index for the duration of the block. Readers go on reading.

    Raises:
        BlockingIOError: another process is writing; the message names it.
        OSError: the directory cannot be written.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        is_file(directory / _LOCK_FILE)  # not a link, which opening it would follow
        lock = filelock.FileLock(directory / _LOCK_FILE, timeout=0)
        lock.acquire()
    except filelock.Timeout:
        owner = "another process"
        with contextlib.suppress(FileNotFoundError):  # it may have finished by now
            if is_file(directory / _OWNER_FILE):
                owner = (directory / _OWNER_FILE).read_text(encoding="utf-8", errors="replace")
        raise BlockingIOError(
            f"{directory} is being written by {owner}; wait for it, or end it, and try again."
        ) from None
    except OSError as error:
        raise cannot_write(directory, error) from None
    try:
        with contextlib.suppress(OSError), open_to_replace(directory / _OWNER_FILE, "w") as owner_file:
            owner_file.write(f"process {os.getpid()} of {_user()}")  # of use to others; a full disk need not stop this
        yield
    finally:
        (directory / _OWNER_FILE).unlink(missing_ok=True)
        lock.release()


def is_built(directory: Path) -> bool:
    """Returns whether a directory holds a complete index."""
    return (directory / META_FILE).is_file()


def current_manifest(directory: Path, artifact_format: str) -> Manifest | None:
    """Returns the manifest of the index in a directory, or None if there is none.

    Raises:
        ValueError: the manifest is damaged, or of an artifact of another format.
    """
    return Manifest.read(directory, artifact_format) if is_built(directory) else None


def read_consistently(read_manifest: Callable[[], _Manifest], use: Callable[[_Manifest], _Result]) -> _Result:
    """Reads the files of an index, from the start if another process replaces them meanwhile.

    A writer removes the files that its new manifest does not name. So a file that is missing or damaged is an error
    only if the manifest is still the one that names it.

    Args:
        read_manifest: reads the manifest; equal manifests stand for the same state of the index.
        use: reads the files that a manifest names.

    Returns:
        What ``use`` returns.

    Raises:
        ValueError, FileNotFoundError: what ``use`` raises, if the manifest has not changed.
        BlockingIOError: the index changes faster than it can be read.
    """
    manifest = read_manifest()
    for _ in range(_READ_ATTEMPTS):
        try:
            return use(manifest)
        except (ValueError, FileNotFoundError):
            previous, manifest = manifest, read_manifest()
            if manifest == previous:
                raise
    raise BlockingIOError(
        f"The index changed {_READ_ATTEMPTS} times while it was read; wait for the process that writes it, and try "
        "again."
    )


def check_mode(mode: str, directory: Path, manifest: PublishedManifest | None, interrupted: str | None) -> None:
    """Checks that a mode allows what is in a directory, which is removed again if it is to be appended to and is empty.

    Args:
        mode: one of :data:`MODES`.
        directory: of the index.
        manifest: of the index there; None if there is none.
        interrupted: folder of an interrupted build; None if there is none.

    Raises:
        FileExistsError: ``"create"`` where anything exists, or any mode where something exists that is no index.
        FileNotFoundError: ``"append"`` without an index.
    """
    others = [entry.name for entry in directory.iterdir() if not _is_trace(entry.name)]
    if mode == "create" and manifest is not None:
        raise FileExistsError(f"{directory} already exists; choose another path, or replace it with mode='overwrite'.")
    if mode == "create" and interrupted is not None:
        raise FileExistsError(
            f"{directory} holds an interrupted build; continue it with mode='resume', or replace it with "
            "mode='overwrite'."
        )
    if mode == "append" and manifest is None:
        remove_if_empty(directory)
        raise FileNotFoundError(f"There is no index at {directory} to append to; build one there first.")
    if manifest is None and interrupted is None and others:
        raise FileExistsError(f"{directory} is not an index, so mode={mode!r} leaves it alone; choose another path.")


def remove_if_empty(directory: Path) -> None:
    """Removes the folder of an index that was never completed, unless it holds anything else."""
    if all(_is_trace(entry.name) for entry in directory.iterdir()):
        shutil.rmtree(directory, ignore_errors=True)


def begin_folder(directory: Path, folder: str, journal: Mapping[str, Any]) -> None:
    """Creates the folder of a build together with its journal, in one step."""
    side = _side_of(directory, folder)
    remove(side)
    side.mkdir(parents=True)
    replace_json(side / JOURNAL_FILE, journal)
    side.rename(directory / folder)
    sync_directory(directory)


def discard_folder(directory: Path, folder: str) -> None:
    """Removes a folder of a build, if it exists.

    It is renamed first, so that a process that is killed meanwhile leaves no folder without its journal.
    """
    side = _side_of(directory, folder)
    remove(side)
    with contextlib.suppress(FileNotFoundError):
        (directory / folder).rename(side)
    shutil.rmtree(side, ignore_errors=True)


def publish(directory: Path, manifest: PublishedManifest) -> None:
    """Makes the files of a manifest the index, in one step, and removes files that it does not name."""
    for folder in {(directory / name).parent for name in named_files(manifest.files)}:
        sync_directory(folder)
    replace_json(directory / META_FILE, manifest.to_json())
    sweep(directory, manifest)


@contextlib.contextmanager
def giving_back(directory: Path, read_manifest: Callable[[], PublishedManifest]) -> Iterator[None]:
    """Removes, if the block fails, what it has written and not published, so that a full disk has its space again.

    Args:
        directory: of an index, whose only writer this process is.
        read_manifest: reads the manifest that counts now.
    """
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError, ValueError):  # the next writer sweeps
            sweep(directory, read_manifest())
        raise


def sweep(directory: Path, manifest: PublishedManifest | None) -> None:
    """Removes what a manifest does not name from the folders of an index: files, and the ends of files.

    Of symbolic links, only the link is removed. Interrupted builds and files of other origin stay.
    """
    named = set() if manifest is None else named_files(manifest.files)
    folders = [folder for folder in directory.glob("data-[0-9]*") if folder.name.removeprefix("data-").isdigit()]
    for link in [folder for folder in folders if folder.is_symlink()]:
        link.unlink()
    folders = [folder for folder in folders if is_folder(folder)]
    journals = [temporary_name(folder / JOURNAL_FILE) for folder in folders]
    for side in (temporary_name(directory / META_FILE), *journals):
        side.unlink(missing_ok=True)  # left by a writer that was killed before the rename
    for entry in [*directory.iterdir()]:
        if _is_side(entry.name):
            remove(entry)
    for folder in folders:
        if any(name.startswith(f"{folder.name}/") for name in named):
            for file in folder.iterdir():
                if f"{folder.name}/{file.name}" not in named:
                    remove(file)
        elif not (folder / JOURNAL_FILE).is_file():
            remove(folder)
    for array in () if manifest is None else manifest.files.values():
        for name, size in ((array.file, array.nbytes), (sums_file(array.file), sums_bytes(array.nbytes))):
            with contextlib.suppress(ValueError):  # damage, which whoever reads the file names
                if size_of(directory, name) > size:
                    open_to_append(directory, name, size).close()


def next_folder(manifest: PublishedManifest | None) -> str:
    """Returns the name of the folder for a new generation of files."""
    return f"data-{1 if manifest is None else manifest.generation + 1}"


def new_folder(directory: Path, manifest: PublishedManifest) -> str:
    """Returns the name of the folder for the next generation of files, which is empty then.

    An interrupted build that was to replace the index in that generation is discarded.
    """
    folder = next_folder(manifest)
    discard_folder(directory, folder)
    return folder


def interrupted_build(directory: Path, manifest: PublishedManifest | None) -> str | None:
    """Returns the folder of a build that was begun and is not part of the index, or None."""
    named = set() if manifest is None else named_files(manifest.files)
    for journal in sorted(directory.glob(f"data-*/{JOURNAL_FILE}")):
        inside = is_folder(journal.parent) and is_file(journal)
        if inside and not any(name.startswith(f"{journal.parent.name}/") for name in named):
            return journal.parent.name
    return None


def named_files(files: Entries) -> set[str]:
    """Returns the names of files and of their checksums, relative to the index."""
    names = {entry.file for entry in files.values()}
    return names | {sums_file(name) for name in names}


def _is_trace(name: str) -> bool:
    """Returns whether a file is one that a writer leaves if it is killed before it began, or as it publishes."""
    return name in (_LOCK_FILE, _OWNER_FILE, temporary_name(Path(META_FILE)).name) or _is_side(name)


def _side_of(directory: Path, folder: str) -> Path:
    """Returns the name of a folder while it is created or removed."""
    return directory / f".{folder}.beginning"


def _is_side(name: str) -> bool:
    return name.startswith((".data-", ".shards-")) and name.endswith(".beginning")


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "an unknown user"
