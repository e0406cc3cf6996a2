"""The base of all index artifacts: a directory that holds a complete index or none."""

from __future__ import annotations

import copy
import io
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import pyterrier as pt

from pyterrier_jacolbert.index.storage.atomic import META_FILE, json_with_digest
from pyterrier_jacolbert.index.storage.blocks import find_damage
from pyterrier_jacolbert.index.storage.directory import is_built, named_files, read_consistently
from pyterrier_jacolbert.index.storage.fields import Fields
from pyterrier_jacolbert.index.storage.files import size_of
from pyterrier_jacolbert.index.storage.manifest import (
    PACKAGE,
    ArrayEntry,
    Entries,
    check_kind,
    entries_from_json,
    read_meta,
    read_typed,
)
from pyterrier_jacolbert.index.threads import fork_safe_lock

R = TypeVar("R")

#: Held while an object keeps or drops its open files.
_OPENING = fork_safe_lock()


class OpenFiles(Generic[R]):
    """The open files of an index, which threads share: opened when first needed, dropped when the index changes."""

    def __init__(self) -> None:
        self._reader: R | None = None
        self._changes = 0

    @property
    def current(self) -> R | None:
        """The reader of the open files; None if they are not open."""
        return self._reader

    def open(self, open_reader: Callable[[], R]) -> R:
        """Returns the reader of the open files, which are opened if they are not.

        Args:
            open_reader: opens the files. Threads may call it at the same time; one result is kept, and none that began
                before the files were dropped.
        """
        while True:
            reader, changes = self._reader, self._changes
            if reader is not None:
                return reader
            reader = open_reader()
            with _OPENING:
                if self._changes == changes:
                    self._reader = reader

    def drop(self) -> None:
        """Drops the open files, so that the next access in any thread sees the current ones."""
        with _OPENING:
            self._reader = None
            self._changes += 1

    def __reduce__(self) -> tuple[type[OpenFiles[R]], tuple[()]]:
        return OpenFiles, ()


class DirectoryArtifact(pt.Artifact, pt.Indexer):
    """An index in a directory. Opening is cheap: files are mapped when they are first needed.

    Args:
        path: the directory. None creates a temporary one, which lives as long as this object.
    """

    ARTIFACT_TYPE: ClassVar[str]
    ARTIFACT_FORMAT: ClassVar[str]
    ARTIFACT_PACKAGE_HINT: ClassVar[str] = PACKAGE

    schematic: dict[str, Any] = {"help_url": None}

    def __init__(self, path: str | Path | None = None) -> None:
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        if path is None:
            self._temporary = tempfile.TemporaryDirectory(prefix="pyterrier_jacolbert-")
            path = Path(self._temporary.name) / "index"
            warnings.warn(
                f"The index is in a temporary directory ({path}) that is deleted with this object; "
                "give a path to keep it.",
                stacklevel=3,
            )
        super().__init__(path)
        self.path: Path = Path(path)

    def built(self) -> bool:
        """Returns whether the path holds a complete index; its files are not read.

        Returns:
            True if there is an index.
        """
        return is_built(self.path)

    def meta(self) -> dict[str, Any]:
        """Reads the manifest, ``pt_meta.json``.

        Returns:
            The manifest of the index, as JSON values.

        Raises:
            FileNotFoundError: there is no index at the path.
            ValueError: the manifest is damaged, belongs to an artifact of another kind, or has another format version.
        """
        meta = read_meta(self.path)
        check_kind(self.path, meta, self.ARTIFACT_TYPE, (self.ARTIFACT_FORMAT,))
        read_typed(self.path / META_FILE, self._check_meta, meta)
        return meta

    def _check_meta(self, meta: Mapping[str, Any]) -> None:
        """Checks the fields of a manifest that this class reads.

        Raises:
            FieldError: a field has another type, or a name leads out of the index.
        """
        entries_from_json(Fields.of(meta).object("files").content)

    @property
    def info(self) -> dict[str, Any]:
        """Content of ``pt_meta.json``; see :meth:`meta`."""
        return self.meta()

    def verify(self) -> None:
        """Reads every file and compares it with its checksums.

        Raises:
            ValueError: files are damaged; the message names them with the byte ranges.
            BlockingIOError: another process changes the index faster than it can be read.
        """
        verify = self._verifier()
        read_consistently(self.meta, lambda meta: verify(entries_from_json(meta["files"])))

    def _verifier(self) -> Callable[[Entries], None]:
        """Returns a function that verifies files, each only until it was found intact."""
        intact: set[ArrayEntry] = set()

        def verify(entries: Entries) -> None:
            damage: list[str] = []
            for entry in entries.values():
                found = [] if entry in intact else [*map(str, find_damage(self.path, [entry]))]
                if not found:
                    intact.add(entry)
                damage += found
            if damage:
                raise ValueError(f"{self.path} is damaged, so build or fetch it again: {'; '.join(damage)}.")

        return verify

    def build_package(self, package_path: str | None = None, **settings: Any) -> str:
        """Packs the index into one file, again from the start if another process replaces files meanwhile.

        Args:
            package_path: of the package; None adds ``.tar.lz4`` to the path of the index.
            **settings: see ``pt.Artifact.build_package``.

        Returns:
            The path of the package.
        """
        package: str = read_consistently(
            self.meta, lambda _: super(DirectoryArtifact, self).build_package(package_path, **settings)
        )
        return package

    def _package_files(self) -> Iterator[tuple[str, str | io.BytesIO]]:
        # PyTerrier's hook for build_package and to_hf. Locks and interrupted builds are left out.
        yield from self._packaged_with(self.meta())

    def _packaged_with(self, meta: Mapping[str, Any]) -> Iterator[tuple[str, str | io.BytesIO]]:
        """Yields the files that a manifest names and, from memory, the manifest, which may be replaced meanwhile."""
        for name in sorted(named_files(entries_from_json(meta["files"]))):
            size_of(self.path, name)  # a regular file, and not a link out of the index
            yield name, str(self.path / name)
        yield META_FILE, io.BytesIO(json_with_digest(meta).encode("utf-8"))

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.path.absolute() == other.path.absolute()

    def __hash__(self) -> int:
        return hash((type(self), self.path.absolute()))

    def __repr__(self) -> str:
        note = ", temporary" if self._temporary is not None else ""
        return f"{type(self).__name__}({str(self.path)!r}{note})"

    def __getstate__(self) -> dict[str, Any]:
        # A pickle may be loaded in another process; the temporary directory stays with the object that created it.
        return {**self.__dict__, "_temporary": None}

    def __deepcopy__(self, memo: dict[int, Any]) -> DirectoryArtifact:
        # Copies read the same files, so they share them, and together keep a temporary directory alive.
        return copy.copy(self)

    def __copy__(self) -> DirectoryArtifact:
        twin: DirectoryArtifact = type(self).__new__(type(self))  # type: ignore[no-untyped-call] # PyTerrier's
        twin.__dict__.update(self.__dict__)
        return twin
