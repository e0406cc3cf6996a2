"""Data sets on the Hugging Face hub: the user's own copy or a download at a fixed revision, and rows out of the files.

The hub's own library downloads, goes on where it was interrupted, and keeps the files in its cache. A copy lies in
`$JACOLBERT_DATA/OWNER/NAME/`, with the repository's own file names.
"""

import gzip
import json
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ir_datasets.datasets.base import Dataset

from pyterrier_jacolbert.datasets._collection import Counts, Documentation, Records, dataset
from pyterrier_jacolbert.datasets._source import LOCAL_DATA, local_root
from pyterrier_jacolbert.datasets._stored import stored


@dataclass(frozen=True)
class HubFiles:
    """Files of a data set on the hub.

    Attributes:
        repo: Its name, OWNER/NAME.
        revision: The commit. None where none is known that has the files: the newest is taken then, with a warning.
        patterns: Which files, each a glob pattern relative to the repository.
    """

    repo: str
    revision: str | None
    patterns: tuple[str, ...]

    @property
    def origin(self) -> dict[str, Any]:
        """Where the files come from, for the record."""
        return {"repo": self.repo, "revision": self.revision, "patterns": list(self.patterns)}

    def files(self) -> list[list[Path]]:
        """The files on this machine, downloaded if need be.

        Returns:
            For each pattern its files, in the order of their names; at least one.

        Raises:
            ImportError: huggingface_hub is not installed.
            NotADirectoryError: `JACOLBERT_DATA` is set to something that is not a folder.
            FileNotFoundError: There is no copy and they cannot be downloaded; the message gives both remedies.
        """
        root = local_root()
        if root is not None:
            found = self._in(root / self.repo)
            if all(found):
                return found
        folder = self._downloaded()
        found = self._in(folder)
        missing = [pattern for pattern, paths in zip(self.patterns, found, strict=True) if not paths]
        if missing:
            raise FileNotFoundError(
                f"{self.repo} has no {' and no '.join(missing)} at the revision {self.revision or 'of today'}; put the "
                f"files into a folder {self.repo}/ within {LOCAL_DATA}, or report it."
            )
        return found

    def _in(self, folder: Path) -> list[list[Path]]:
        return [sorted(folder.glob(pattern)) for pattern in self.patterns]

    def _downloaded(self) -> Path:
        try:
            from huggingface_hub import snapshot_download
        except ImportError:
            raise _needs(self.repo, "huggingface_hub") from None
        if self.revision is None:
            warnings.warn(
                f"No revision of {self.repo} is pinned; its newest files are read, and their record counts checked.",
                stacklevel=2,
            )
        try:
            path = snapshot_download(
                self.repo, repo_type="dataset", revision=self.revision, allow_patterns=list(self.patterns)
            )
        # The library raises errors of its HTTP client, of its own and of the operating system; all mean the same here.
        except Exception as error:
            raise FileNotFoundError(
                f"{self.repo} is not on this machine and could not be downloaded ({type(error).__name__}): connect to "
                f"the network, or set {LOCAL_DATA} to a folder that holds a copy of "
                f"https://huggingface.co/datasets/{self.repo} as {self.repo}/."
            ) from None
        return Path(path)


def hub_dataset(
    irds_id: str,
    files: HubFiles,
    read: Callable[[HubFiles], Records],
    *,
    counts: Counts,
    documentation: Documentation,
    relevance: dict[int, str],
    candidates: bool = False,
) -> Dataset:
    """A data set on the hub, kept in the folder of `ir_datasets` once it has been read.

    Args:
        irds_id: Its id in `ir_datasets`, and its folder there.
        files: The files that it is made from.
        read: Makes it from them.
        counts: How many records it must have.
        documentation: What it is, with the notice of a licence that forbids a use.
        relevance: What each relevance label means.
        candidates: Whether it gives documents to re-rank for each query.
    """
    notice = documentation.documentation().get("notice")
    return dataset(
        irds_id,
        lambda: stored(irds_id, files.origin, lambda: read(files), counts=counts, notice=notice),
        counts=counts,
        documentation=documentation,
        relevance=relevance,
        candidates=candidates,
    )


def rows(paths: Sequence[Path], columns: Sequence[str], optional: Sequence[str] = ()) -> Iterator[dict[str, Any]]:
    """The rows of files.

    Args:
        paths: Parquet files, or files of JSON lines (`.jsonl`, `.jsonl.gz`).
        columns: The columns that there must be.
        optional: Columns that may be missing; None then.

    Yields:
        For each row the columns that were asked for.

    Raises:
        ImportError: pyarrow is not installed.
        ValueError: A column is missing, or a file is damaged; the message names the file.
    """
    for path in paths:
        read = _parquet_rows if path.suffix == ".parquet" else _json_rows
        yield from read(path, columns, optional)


def _parquet_rows(path: Path, columns: Sequence[str], optional: Sequence[str]) -> Iterator[dict[str, Any]]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise _needs(path.name, "pyarrow") from None
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            names = file.schema_arrow.names
            _check_columns(path, columns, names)
            absent = dict.fromkeys(name for name in optional if name not in names)
            present = [*columns, *(name for name in optional if name in names)]
            for batch in file.iter_batches(columns=present):
                for row in batch.to_pylist():
                    yield {**row, **absent}
    except (pyarrow.ArrowException, OSError) as error:
        raise _damaged(path, error) from None


def _json_rows(path: Path, columns: Sequence[str], optional: Sequence[str]) -> Iterator[dict[str, Any]]:
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as lines:
            for line in lines:
                row = json.loads(line)
                _check_columns(path, columns, row)
                yield {**{name: row[name] for name in columns}, **{name: row.get(name) for name in optional}}
    except (OSError, EOFError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise _damaged(path, error) from None


def _check_columns(path: Path, columns: Sequence[str], names: Any) -> None:  # noqa: ANN401 -- anything with names
    missing = [name for name in columns if name not in names]
    if missing:
        raise ValueError(
            f"{path} has no column {missing[0]!r} but {', '.join(map(repr, names))}; "
            "it is not the file that was published, so get it again."
        )


def _damaged(path: Path, error: Exception) -> ValueError:
    problem = str(error).splitlines()[0] if str(error) else type(error).__name__
    return ValueError(f"{path} cannot be read ({problem}); remove it to have it downloaded again.")


def _needs(what: str, package: str) -> ImportError:
    return ImportError(f"{what} needs {package}: pip install 'pyterrier-jacolbert[evaluate]'.")
