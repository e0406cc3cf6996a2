"""Runs on disk: TREC run files with the settings that made them, and the runs that others publish."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyterrier as pt

_TREC_SUFFIXES = (".trec", ".run", ".res")
_LZ4_MAGIC = b"\x04\x22\x4d\x18"
_COLUMNS = ["qid", "docno", "score", "rank"]


def is_run(path: Path) -> bool:
    """Whether a path is named as a run file: TREC's format, gzipped perhaps, or ranx's ``.lz4``."""
    name = path.name.removesuffix(".gz")
    return path.is_file() and (name.endswith(_TREC_SUFFIXES) or path.suffix == ".lz4")


def read_run(path: Path) -> pd.DataFrame:
    """Reads a run.

    Args:
        path: a TREC run file, gzipped perhaps; or one of ranx (``.lz4``), as the evaluators of JQaRA and JaCWIR
            publish them: LZ4, perhaps twice, of CBOR ``{qid: {docno: score}}``.

    Returns:
        ``qid``, ``docno`` (str), ``score`` (float), ``rank`` (from 0).

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not a run.
        ImportError: a package that reads ranx's format is not installed.
    """
    if not path.is_file():
        raise FileNotFoundError(f"There is no run {path}; give a TREC run file.")
    try:
        frame = _read_ranx(path) if path.suffix == ".lz4" else pt.io.read_results(str(path), format="trec")
        frame = frame.astype({"qid": str, "docno": str, "score": float})
    except (ValueError, KeyError, AttributeError, RuntimeError, EOFError, OSError) as error:
        raise ValueError(f"{path} is not a run ({str(error).splitlines()[0]}); give a TREC run file.") from None
    return pt.model.add_ranks(frame[["qid", "docno", "score"]])[_COLUMNS]


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
    return pd.DataFrame(rows, columns=["qid", "docno", "score"])


def read_qrels(path: Path) -> pd.DataFrame:
    """Reads judgements in TREC's format.

    Returns:
        ``qid``, ``docno`` (str), ``label`` (int).

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not in that format.
    """
    if not path.is_file():
        raise FileNotFoundError(f"There are no judgements at {path}; give a file in TREC's qrels format.")
    try:
        frame = pd.read_csv(path, sep=r"\s+", names=["qid", "iteration", "docno", "label"], dtype=str)
        return frame[["qid", "docno", "label"]].astype({"label": int})
    except ValueError as error:
        problem = str(error).splitlines()[0]
        raise ValueError(
            f"{path} is not in TREC's qrels format ({problem}); make lines of QID 0 DOCNO LABEL of it."
        ) from None


class RunStore:
    """The runs of an evaluation, in a folder: ``SYSTEM/TASK.PROTOCOL.trec.gz`` and beside it the settings as JSON.

    A run counts as there when its settings are, which are written last.

    Args:
        folder: where they lie.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def get(self, system: str, task: str, settings: dict[str, Any], make: Callable[[], pd.DataFrame]) -> pd.DataFrame:
        """The run, made if there is none with these settings.

        Args:
            system: the system's name.
            task: the task and its protocol, for the file's name.
            settings: all that a run depends on, as JSON.
            make: makes it.
        """
        path = self.path(system, task)
        if not self.has(system, task, settings):
            self._write(path, make(), system, settings)
        return read_run(path)

    def has(self, system: str, task: str, settings: dict[str, Any]) -> bool:
        """Whether there is a complete run with these settings."""
        path = self.path(system, task)
        try:
            kept = json.loads(_settings_file(path).read_text(encoding="utf-8"))
        except (FileNotFoundError, json.JSONDecodeError):
            return False
        return path.is_file() and kept.get("settings") == json.loads(json.dumps(settings))

    def forget(self, system: str, task: str) -> None:
        """Lets a run count as missing."""
        _settings_file(self.path(system, task)).unlink(missing_ok=True)

    def path(self, system: str, task: str) -> Path:
        """Where the run of a system lies."""
        return self.folder / slug(system) / f"{task}.trec.gz"

    def _write(self, path: Path, run: pd.DataFrame, system: str, settings: dict[str, Any]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        _settings_file(path).unlink(missing_ok=True)
        ordered = run.sort_values(["qid", "score", "docno"], ascending=[True, False, False], kind="stable")
        ordered = ordered.astype({"score": float}).assign(rank=ordered.groupby("qid", sort=False).cumcount())
        name = slug(system)
        columns = [ordered[column].tolist() for column in ("qid", "docno", "rank", "score")]
        lines = [
            f"{qid} Q0 {docno} {rank} {score!r} {name}\n" for qid, docno, rank, score in zip(*columns, strict=True)
        ]
        side = path.with_name(f".{path.name}.writing")
        # Without the time of day and the file's name in the header, the same run is the same bytes.
        side.write_bytes(gzip.compress("".join(lines).encode(), mtime=0))
        os.replace(side, path)
        content = {"system": system, "queries": int(run["qid"].nunique()), "settings": settings, **_environment()}
        text = json.dumps(content, ensure_ascii=False, indent=1)
        side.write_text(text + "\n", encoding="utf-8")
        os.replace(side, _settings_file(path))


def slug(name: str) -> str:
    """A name as a file's: other characters than letters, digits and ``._+-`` become ``-``."""
    plain = "".join(letter if letter.isalnum() or letter in "._+-" else "-" for letter in name).strip("-.")
    # Two names that differ only in such characters stay two.
    return plain if plain == name else f"{plain or 'system'}-{hashlib.sha256(name.encode()).hexdigest()[:6]}"


def _settings_file(path: Path) -> Path:
    return path.with_name(path.name.removesuffix(".trec.gz") + ".json")


def _environment() -> dict[str, Any]:
    """The versions that made a run: recorded, and no reason to make it again."""
    from importlib.metadata import PackageNotFoundError, version

    versions = {}
    for package in (
        "pyterrier-jacolbert",
        "pyterrier",
        "ir-measures",
        "sentence-transformers",
        "transformers",
        "torch",
    ):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    return {"versions": versions}
