"""Runs on disk: TREC run files with the settings that produced them, and the run files of others."""

from __future__ import annotations

import gzip
import hashlib
import json
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pyterrier as pt

from pyterrier_jacolbert.columns import DOCNO, QID, RANK, SCORE, check_ids
from pyterrier_jacolbert.index.storage.atomic import replacing
from pyterrier_jacolbert.trec_files import (
    Row,
    check_ids_of,
    check_rows,
    read_qrels_rows,
    read_run_rows,
    run_lines,
)

_TREC_SUFFIXES = (".trec", ".run", ".res")
_LZ4_MAGIC = b"\x04\x22\x4d\x18"
#: How often a run of ranx may be compressed, and the most bytes that it may decompress to.
_LZ4_LAYERS = 2
_LONGEST_RUN = 2**30
#: Packages whose versions are recorded beside a run.
_RECORDED_PACKAGES = (
    "pyterrier-jacolbert",
    "pyterrier",
    "ir-measures",
    "sentence-transformers",
    "transformers",
    "torch",
)


def is_run_file(path: Path) -> bool:
    """Tells whether a file has the name of a run: TREC's format, optionally gzipped, or ranx's ``.lz4``."""
    name = path.name.removesuffix(".gz")
    return path.is_file() and (name.endswith(_TREC_SUFFIXES) or path.suffix == ".lz4")


def read_run(path: Path) -> pd.DataFrame:
    """Reads a run.

    Args:
        path: a TREC run file, optionally gzipped; or a run of ranx (``.lz4``), as the evaluators of JQaRA and JaCWIR
            publish them: CBOR ``{qid: {docno: score}}`` compressed with LZ4, possibly twice.

    Returns:
        ``qid`` and ``docno`` (str), ``score`` (float), ``rank`` (from 0).

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the file is not a run.
        ImportError: a package that reads ranx's format is not installed.
    """
    if not path.is_file():
        raise FileNotFoundError(f"The run file {path} does not exist; give a TREC run file.")
    try:
        rows = _read_ranx(path) if path.suffix == ".lz4" else read_run_rows(path)
    except (ValueError, ArithmeticError, MemoryError, RuntimeError, EOFError, OSError, zlib.error) as error:
        raise ValueError(f"{path} is not a run ({_first_line(error)}); give a TREC run file.") from None
    frame = pd.DataFrame(rows, columns=[QID, DOCNO, SCORE]).astype({QID: str, DOCNO: str, SCORE: float})
    return pt.model.add_ranks(frame[[QID, DOCNO, SCORE]])[[QID, DOCNO, SCORE, RANK]]


def _read_ranx(path: Path) -> list[Row]:
    try:
        import cbor2
        import lz4.frame
    except ImportError as error:
        raise ImportError(
            f"Reading {path.name} needs {error.name}: pip install 'pyterrier-jacolbert[evaluate]'."
        ) from None
    content = path.read_bytes()
    for _ in range(_LZ4_LAYERS):
        if content.startswith(_LZ4_MAGIC):
            content = _decompress(lz4.frame.LZ4FrameDecompressor(), content)
    try:
        rankings = cbor2.loads(content)
    except (cbor2.CBORDecodeError, TypeError) as error:
        raise ValueError(_first_line(error)) from None
    rows = [
        (_expect(str, qid), _expect(str, docno), float(_expect((int, float), score)))
        for qid, scores in _expect(dict, rankings).items()
        for docno, score in _expect(dict, scores).items()
    ]
    if not rows:
        raise ValueError("it is empty")
    check_rows(rows)
    return rows


def _decompress(decompressor: Any, content: bytes) -> bytes:
    """Decompresses a frame of LZ4 up to a bound: a small file can stand for more bytes than a machine has."""
    decompressed: bytes = decompressor.decompress(content, max_length=_LONGEST_RUN + 1)
    if len(decompressed) > _LONGEST_RUN:
        raise ValueError(f"it decompresses to more than {_LONGEST_RUN >> 20} MiB")
    if not decompressor.eof:
        raise ValueError("its compressed data end too early")
    return decompressed


def _expect(kind: type | tuple[type, ...], value: Any) -> Any:
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ValueError(f"it holds a {type(value).__name__} where {{qid: {{docno: score}}}} has none")
    return value


def read_qrels(path: Path) -> pd.DataFrame:
    """Reads judgements in TREC's qrels format.

    Args:
        path: of the file, optionally gzipped.

    Returns:
        ``qid`` and ``docno`` (str), ``label`` (int).

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the file is not in that format.
    """
    if not path.is_file():
        raise FileNotFoundError(f"The qrels file {path} does not exist; give a file in TREC's qrels format.")
    try:
        rows = read_qrels_rows(path)
    except (ValueError, EOFError, OSError, zlib.error) as error:
        raise ValueError(
            f"{path} is not in TREC's qrels format ({_first_line(error)}); convert it to lines of QID 0 DOCNO LABEL."
        ) from None
    return pd.DataFrame(rows, columns=[QID, DOCNO, "label"]).astype({QID: str, DOCNO: str})


def write_run(run: pd.DataFrame, path: Path, tag: str = "run") -> None:
    """Writes a run in TREC's format, from which :func:`read_run` reads the same ids and scores.

    Args:
        run: ``qid``, ``docno`` and ``score``. Equal scores are ordered by docno descending, as evaluators do.
        path: of the file; a name that ends in ``.gz`` is compressed. Equal runs give equal bytes.
        tag: name of the system, without white space.

    Raises:
        ValueError: an id is not a string, is empty or holds white space, a score is NaN, or a query has a document
            twice. No file is written then.
    """
    check_ids(run, QID, DOCNO)
    check_ids_of(run[QID], run[DOCNO])  # before the order of the rows depends on them
    ordered = run.sort_values([QID, SCORE, DOCNO], ascending=[True, False, False], kind="stable")
    ids = [ordered[column].tolist() for column in (QID, DOCNO)]
    rows = zip(*ids, ordered[SCORE].astype(float).tolist(), strict=True)
    content = "".join(run_lines(rows, tag)).encode("utf-8")
    with replacing(path, mode="wb") as file:
        # The gzip header contains neither time nor file name, so that equal runs have equal bytes.
        file.write(gzip.compress(content, mtime=0) if path.suffix == ".gz" else content)


def check_qrels(qrels: pd.DataFrame, owner: str) -> None:
    """Checks that judgements can be measured with, before anything is searched.

    Args:
        qrels: ``qid``, ``docno`` and ``label``.
        owner: what they are, for the message.

    Raises:
        ValueError: a column is missing, an id is not a string, or a run cannot hold an id.
    """
    missing = [column for column in (QID, DOCNO, "label") if column not in qrels.columns]
    if missing:
        raise ValueError(f"The {owner} have no column {missing[0]!r}; give qid, docno and label.")
    check_ids(qrels, QID, DOCNO)
    check_ids_of(qrels[QID], qrels[DOCNO])


class RunStore:
    """The runs of an evaluation: ``SYSTEM/TASK.PROTOCOL.trec.gz`` files, each with its settings in a JSON file.

    A run is complete if its settings file exists, because that file is written last.

    Args:
        folder: folder of the runs.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def get(
        self, system: str, task: str, settings: Mapping[str, object], compute: Callable[[], pd.DataFrame]
    ) -> pd.DataFrame:
        """Returns the run of a system, after computing it if no run with these settings is stored.

        Args:
            system: name of the system.
            task: names of task and protocol, for the file name.
            settings: everything that the run depends on, as JSON.
            compute: computes the run.
        """
        path = self.path(system, task)
        if not self.has(system, task, settings):
            self._write(path, compute(), system, task, settings)
        return read_run(path)

    def has(self, system: str, task: str, settings: Mapping[str, object]) -> bool:
        """Tells whether a complete run with these settings is stored."""
        path = self.path(system, task)
        try:
            stored = json.loads(_settings_file(path).read_text(encoding="utf-8"))
        except (FileNotFoundError, json.JSONDecodeError):
            return False
        return path.is_file() and stored.get("settings") == json.loads(json.dumps(settings))

    def forget(self, system: str, task: str) -> None:
        """Marks a run as missing, so that it is computed again."""
        _settings_file(self.path(system, task)).unlink(missing_ok=True)

    def path(self, system: str, task: str) -> Path:
        """Returns the path of a system's run file."""
        return self.folder / slug(system) / f"{task}.trec.gz"

    def _write(self, path: Path, run: pd.DataFrame, system: str, task: str, settings: Mapping[str, object]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        _settings_file(path).unlink(missing_ok=True)
        try:
            write_run(run, path, slug(system))
        except ValueError as error:
            raise ValueError(f"The run of {system} for {task} is not stored: {error}") from None
        content = {
            "system": system,
            "queries": int(run[QID].nunique()),
            "settings": settings,
            "versions": _installed_versions(),
        }
        with replacing(_settings_file(path)) as file:
            file.write(json.dumps(content, ensure_ascii=False, indent=1) + "\n")


def slug(name: str) -> str:
    """Converts a name to a file name: characters other than letters, digits and ``._+-`` become ``-``."""
    plain = "".join(letter if letter.isalnum() or letter in "._+-" else "-" for letter in name).strip("-.")
    # The hash keeps names apart that differ only in the replaced characters.
    return plain if plain == name else f"{plain or 'system'}-{hashlib.sha256(name.encode()).hexdigest()[:6]}"


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _settings_file(path: Path) -> Path:
    return path.with_name(path.name.removesuffix(".trec.gz") + ".json")


def _installed_versions() -> dict[str, str]:
    """Returns package versions. They are only recorded; a change does not make a run outdated."""
    from importlib.metadata import PackageNotFoundError, version

    versions = {}
    for package in _RECORDED_PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    return versions
