"""Runs on disk: TREC run files with the settings that produced them, and the run files of others."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import pandas as pd
import pyterrier as pt

from pyterrier_jacolbert.columns import DOCNO, QID, RANK, SCORE
from pyterrier_jacolbert.index.storage.atomic import replacing
from pyterrier_jacolbert.text_files import read_lines

_TREC_SUFFIXES = (".trec", ".run", ".res")
_LZ4_MAGIC = b"\x04\x22\x4d\x18"
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
        frame = _read_ranx(path) if path.suffix == ".lz4" else _read_trec(path)
        frame = frame.astype({QID: str, DOCNO: str, SCORE: float})
    except (ValueError, KeyError, AttributeError, RuntimeError, EOFError, OSError) as error:
        raise ValueError(f"{path} is not a run ({str(error).splitlines()[0]}); give a TREC run file.") from None
    return pt.model.add_ranks(frame[[QID, DOCNO, SCORE]])[[QID, DOCNO, SCORE, RANK]]


def _read_trec(path: Path) -> pd.DataFrame:
    return pd.DataFrame(_rows(path, float, 4), columns=[QID, DOCNO, SCORE])


def _rows(path: Path, kind: Callable[[str], float], position: int) -> list[tuple[str, str, float]]:
    """Reads the qid, the docno and a number of each line that is not empty; fields are split at spaces and tabs.

    pandas would take quotation marks in a docno as quotation, and the docno "NA" as a missing value.

    Args:
        path: of a run or of judgements.
        kind: converts the number.
        position: of the number in the line.

    Raises:
        ValueError: a line has another form or is not UTF-8, and the message gives its number; or there are no lines.
    """
    rows = []
    for number, line in read_lines(path):
        fields = re.findall(r"[^ \t]+", line)
        try:
            if fields:
                rows.append((fields[0], fields[2], kind(fields[position])))
        except (IndexError, ValueError):
            raise ValueError(f"line {number} is {line[:80]!r}") from None
    if not rows:
        raise ValueError("it is empty")
    return rows


def _read_ranx(path: Path) -> pd.DataFrame:
    try:
        import cbor2
        import lz4.frame
    except ImportError as error:
        raise ImportError(
            f"Reading {path.name} needs {error.name}: pip install 'pyterrier-jacolbert[evaluate]'."
        ) from None
    content = path.read_bytes()
    while content.startswith(_LZ4_MAGIC):
        content = lz4.frame.decompress(content)
    rankings = cbor2.loads(content)
    rows = [(qid, docno, score) for qid, scores in rankings.items() for docno, score in scores.items()]
    return pd.DataFrame(rows, columns=[QID, DOCNO, SCORE])


def read_qrels(path: Path) -> pd.DataFrame:
    """Reads judgements in TREC's qrels format.

    Returns:
        ``qid`` and ``docno`` (str), ``label`` (int).

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the file is not in that format.
    """
    if not path.is_file():
        raise FileNotFoundError(f"The qrels file {path} does not exist; give a file in TREC's qrels format.")
    try:
        return pd.DataFrame(_rows(path, int, 3), columns=[QID, DOCNO, "label"]).astype({QID: str, DOCNO: str})
    except ValueError as error:
        problem = str(error).splitlines()[0]
        raise ValueError(
            f"{path} is not in TREC's qrels format ({problem}); convert it to lines of QID 0 DOCNO LABEL."
        ) from None


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
            self._write(path, compute(), system, settings)
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

    def _write(self, path: Path, run: pd.DataFrame, system: str, settings: Mapping[str, object]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        _settings_file(path).unlink(missing_ok=True)
        with replacing(path, mode="wb") as file:
            # The gzip header contains neither time nor file name, so that equal runs have equal bytes.
            file.write(gzip.compress(_trec_lines(run, slug(system)).encode(), mtime=0))
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


def _trec_lines(run: pd.DataFrame, tag: str) -> str:
    ordered = run.sort_values([QID, SCORE, DOCNO], ascending=[True, False, False], kind="stable")
    ordered = ordered.astype({SCORE: float}).assign(**{RANK: ordered.groupby(QID, sort=False).cumcount()})
    columns = [ordered[column].tolist() for column in (QID, DOCNO, RANK, SCORE)]
    return "".join(
        f"{qid} Q0 {docno} {rank} {score!r} {tag}\n" for qid, docno, rank, score in zip(*columns, strict=True)
    )


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
