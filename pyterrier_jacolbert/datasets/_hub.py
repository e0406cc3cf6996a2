"""Datasets on the Hugging Face hub: the user's copy or a download at a fixed revision, and the rows of the files.

The hub's own library downloads the files, resumes interrupted downloads, and keeps the files in its cache. The user's
copy is in `$JACOLBERT_DATA/OWNER/NAME/` and has the file names of the repository.
"""

import gzip
import json
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ir_datasets.datasets.base import Dataset

from pyterrier_jacolbert.datasets._collection import Counts, Records
from pyterrier_jacolbert.datasets._irds import Documentation, lazy_dataset
from pyterrier_jacolbert.datasets._source import LOCAL_DATA, local_root
from pyterrier_jacolbert.datasets._stored import load_or_convert


@dataclass(frozen=True)
class HubFiles:
    """Files of a dataset on the hub.

    Attributes:
        repo: repository name, OWNER/NAME.
        revision: commit. None if no commit is known to hold the files; the newest one is then used, with a warning.
        patterns: glob patterns of the files, relative to the repository.
    """

    repo: str
    revision: str | None
    patterns: tuple[str, ...]

    @property
    def origin(self) -> dict[str, object]:
        """Origin of the files, as recorded beside the converted collection."""
        return {"repo": self.repo, "revision": self.revision, "patterns": list(self.patterns)}

    def paths(self) -> list[list[Path]]:
        """Returns the paths of the files on this machine, after downloading the files if necessary.

        Returns:
            For each pattern, the paths of its files (at least one), sorted by name.

        Raises:
            ImportError: huggingface_hub is not installed.
            NotADirectoryError: `JACOLBERT_DATA` is set to a path that is not a folder.
            FileNotFoundError: there is no copy, and the download failed. The message gives both remedies.
        """
        root = local_root()
        if root is not None:
            local_paths = self._matching_paths(root / self.repo)
            if all(local_paths):
                return local_paths
        downloaded_paths = self._matching_paths(self._download())
        missing = [pattern for pattern, paths in zip(self.patterns, downloaded_paths, strict=True) if not paths]
        if missing:
            raise FileNotFoundError(
                f"{self.repo} has no {' and no '.join(missing)} at "
                f"{f'revision {self.revision}' if self.revision else 'its newest revision'}; put the "
                f"files into the folder {self.repo}/ in {LOCAL_DATA}, or report a bug."
            )
        return downloaded_paths

    def _matching_paths(self, folder: Path) -> list[list[Path]]:
        return [sorted(folder.glob(pattern)) for pattern in self.patterns]

    def _download(self) -> Path:
        try:
            from huggingface_hub import snapshot_download
        except ImportError:
            raise _missing_package(self.repo, "huggingface_hub") from None
        if self.revision is None:
            warnings.warn(
                f"No revision of {self.repo} is pinned; its newest files are read and their record counts checked.",
                stacklevel=2,
            )
        try:
            path = snapshot_download(
                self.repo, repo_type="dataset", revision=self.revision, allow_patterns=list(self.patterns)
            )
        # The library raises its own errors, those of its HTTP client and those of the operating system; the remedy is
        # the same for all of them.
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
    """Defines a dataset on the hub, which is converted on first use and kept in the folder of `ir_datasets`.

    Args:
        irds_id: id of the dataset in `ir_datasets`, and name of its folder there.
        files: files of the source.
        read: reads the records from the files.
        counts: expected record counts.
        documentation: description of the dataset, with a notice if the licence forbids a use.
        relevance: meaning of each relevance label.
        candidates: whether the dataset has documents to re-rank for each query.
    """
    notice = documentation.documentation().get("notice")
    return lazy_dataset(
        irds_id,
        lambda: load_or_convert(irds_id, files.origin, lambda: read(files), counts=counts, notice=notice),
        counts=counts,
        documentation=documentation,
        relevance=relevance,
        candidates=candidates,
    )


def read_rows(paths: Sequence[Path], columns: Sequence[str], optional: Sequence[str] = ()) -> Iterator[dict[str, Any]]:
    """Reads the rows of files.

    Args:
        paths: Parquet files, or files of JSON lines (`.jsonl`, `.jsonl.gz`).
        columns: names of the required columns.
        optional: names of the columns that may be missing and are then None.

    Yields:
        The requested columns of each row.

    Raises:
        ImportError: pyarrow is not installed.
        ValueError: a column is missing or a file is damaged. The message names the file.
    """
    for path in paths:
        read = _parquet_rows if path.suffix == ".parquet" else _json_rows
        yield from read(path, columns, optional)


def _parquet_rows(path: Path, columns: Sequence[str], optional: Sequence[str]) -> Iterator[dict[str, Any]]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise _missing_package(path.name, "pyarrow") from None
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
        raise _unreadable_file(path, error) from None


def _json_rows(path: Path, columns: Sequence[str], optional: Sequence[str]) -> Iterator[dict[str, Any]]:
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as lines:
            for line in lines:
                row = json.loads(line)
                _check_columns(path, columns, row)
                yield {**{name: row[name] for name in columns}, **{name: row.get(name) for name in optional}}
    except (OSError, EOFError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise _unreadable_file(path, error) from None


def _check_columns(path: Path, columns: Sequence[str], names: Iterable[str]) -> None:
    missing = [name for name in columns if name not in names]
    if missing:
        raise ValueError(
            f"{path} has no column {missing[0]!r} but {', '.join(map(repr, names))}, so it is not the published file; "
            "get it again from the hub."
        )


def _unreadable_file(path: Path, error: Exception) -> ValueError:
    problem = str(error).splitlines()[0] if str(error) else type(error).__name__
    return ValueError(f"{path} cannot be read ({problem}); remove it to have it downloaded again.")


def _missing_package(user: str, package: str) -> ImportError:
    return ImportError(f"{user} needs {package}: pip install 'pyterrier-jacolbert[evaluate]'.")
