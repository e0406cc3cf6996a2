"""The base of all index artifacts: a directory that holds a complete index or none."""

from __future__ import annotations

import copy
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pyterrier as pt

from pyterrier_jacolbert.index.storage.atomic import META_FILE
from pyterrier_jacolbert.index.storage.blocks import find_damage
from pyterrier_jacolbert.index.storage.directory import is_built, named_files
from pyterrier_jacolbert.index.storage.manifest import PACKAGE, check_kind, entries_from_json, read_meta


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
        return meta

    @property
    def info(self) -> dict[str, Any]:
        """Content of ``pt_meta.json``; see :meth:`meta`."""
        return self.meta()

    def verify(self) -> None:
        """Reads every file and compares it with its checksums.

        Raises:
            ValueError: files are damaged; the message names them with the byte ranges.
        """
        entries = entries_from_json(self.meta()["files"])
        damage = "; ".join(map(str, find_damage(self.path, entries.values())))
        if damage:
            raise ValueError(f"{self.path} is damaged, so build or fetch it again: {damage}.")

    def _package_files(self) -> Iterator[tuple[str, str]]:
        # PyTerrier's hook for build_package and to_hf. Locks and interrupted builds are left out.
        entries = entries_from_json(self.meta()["files"])
        for name in sorted({META_FILE, *named_files(entries)}):
            yield name, str(self.path / name)

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
