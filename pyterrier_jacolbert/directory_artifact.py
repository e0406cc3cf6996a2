"""What every index artifact here shares: a directory, whole or absent, that finds its class again."""

from __future__ import annotations

import copy
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pyterrier as pt

from pyterrier_jacolbert import __version__
from pyterrier_jacolbert.index.files import damage, named_files
from pyterrier_jacolbert.index.store import META_FILE, read_meta

PACKAGE = "pyterrier-jacolbert"


class DirectoryArtifact(pt.Artifact, pt.Indexer):
    """An index in a directory. Opening it is cheap; its files are mapped when they are first needed.

    Args:
        path: the directory. None makes a temporary one, which lives as long as this object.
    """

    ARTIFACT_TYPE: ClassVar[str]
    ARTIFACT_FORMAT: ClassVar[str]
    ARTIFACT_PACKAGE_HINT: ClassVar[str] = PACKAGE
    FORMAT_VERSION: ClassVar[int] = 1

    schematic: dict[str, Any] = {"help_url": None}

    def __init__(self, path: str | Path | None = None) -> None:
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        if path is None:
            self._temporary = tempfile.TemporaryDirectory(prefix="pyterrier_jacolbert-")
            path = Path(self._temporary.name) / "index"
            warnings.warn(
                f"The index is in a temporary directory ({path}) and goes when this object goes; "
                "give a path to keep it.",
                stacklevel=3,
            )
        super().__init__(path)
        self.path: Path = Path(path)

    def built(self) -> bool:
        """Whether there is a complete index at the path.

        Returns:
            True where there is one; the files are not read.
        """
        return (self.path / META_FILE).is_file()

    def meta(self) -> dict[str, Any]:
        """What ``pt_meta.json`` says of this index.

        Returns:
            The manifest, as it was written.

        Raises:
            FileNotFoundError: there is no index at the path.
            ValueError: it is damaged, of another kind, or of a format version that this release does not read.
        """
        meta = read_meta(self.path)
        kind, own = f"{meta.get('type')}.{meta.get('format')}", f"{self.ARTIFACT_TYPE}.{self.ARTIFACT_FORMAT}"
        if kind != own:
            raise ValueError(f"{self.path} holds a {kind} artifact, not a {own}; open it with pt.Artifact.load.")
        if meta["format_version"] != self.FORMAT_VERSION:
            raise ValueError(
                f"{self.path} has format version {meta['format_version']}, of {PACKAGE} {meta['package_version']}, and "
                f"{PACKAGE} {__version__} reads version {self.FORMAT_VERSION}; install the former, or build it again."
            )
        return meta

    @property
    def info(self) -> dict[str, Any]:
        """What ``pt_meta.json`` says; see :meth:`meta`."""
        return self.meta()

    def new_meta(self, **facts: object) -> dict[str, Any]:
        """The head of a ``pt_meta.json`` of this class, followed by ``facts``.

        Args:
            **facts: what else the manifest says.

        Returns:
            The manifest, not written yet.
        """
        return {
            "type": self.ARTIFACT_TYPE,
            "format": self.ARTIFACT_FORMAT,
            "package_hint": self.ARTIFACT_PACKAGE_HINT,
            "format_version": self.FORMAT_VERSION,
            "package_version": __version__,
            **facts,
        }

    def verify(self) -> None:
        """Reads every file and compares it with its checksums.

        Raises:
            ValueError: files are damaged; they are named, with the ranges of bytes.
        """
        found = "; ".join(map(str, damage(self.path, self.meta()["files"].values())))
        if found:
            raise ValueError(f"{self.path} is damaged, so build it again, or fetch it again: {found}.")

    def _package_files(self) -> Iterator[tuple[str, str]]:
        # PyTerrier's hook for build_package and to_hf: locks, owners and interrupted builds stay here.
        for name in sorted({META_FILE, *named_files(self.meta())}):
            yield name, str(self.path / name)

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.path.absolute() == other.path.absolute()

    def __hash__(self) -> int:
        return hash((type(self), self.path.absolute()))

    def __repr__(self) -> str:
        note = ", temporary" if self._temporary is not None else ""
        return f"{type(self).__name__}({str(self.path)!r}{note})"

    def __getstate__(self) -> dict[str, Any]:
        # A pickle travels to other processes; the temporary directory stays with the object that made it.
        return {**self.__dict__, "_temporary": None}

    def __deepcopy__(self, memo: dict[int, Any]) -> DirectoryArtifact:
        # Copies read the same files, so they share them, and keep a temporary directory alive together.
        return copy.copy(self)

    def __copy__(self) -> DirectoryArtifact:
        twin: DirectoryArtifact = type(self).__new__(type(self))  # type: ignore[no-untyped-call] # PyTerrier's
        twin.__dict__.update(self.__dict__)
        return twin
