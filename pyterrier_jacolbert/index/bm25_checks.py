"""The check of a BM25 index that may come from anyone; see :mod:`~pyterrier_jacolbert.index.checks`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from pyterrier_jacolbert.index.checks import check_docnos, check_tables
from pyterrier_jacolbert.index.storage.arrays import map_array, map_npy, map_starts
from pyterrier_jacolbert.index.storage.blocks import sums_file
from pyterrier_jacolbert.index.storage.bm25_manifest import BM25S_FILES, BM25Manifest
from pyterrier_jacolbert.index.storage.fields import FieldError, Fields
from pyterrier_jacolbert.index.storage.files import damaged, is_file, open_to_read, size_of
from pyterrier_jacolbert.index.storage.layout import TABLES
from pyterrier_jacolbert.index.storage.manifest import read_typed

#: Values that are looked at together, so that the check of a large array takes little memory.
_CHECKED_ROWS = 2**22


def open_bm25(directory: Path, manifest: BM25Manifest) -> tuple[dict[str, np.ndarray], dict[str, int]]:
    """Checks a BM25 index and maps its scores.

    Args:
        directory: of the index.
        manifest: of the index.

    Returns:
        ``data``, ``indices`` and ``indptr``, the scores by word as bm25s names them, and the number of each word.

    Raises:
        ValueError: a file is damaged.
    """
    files, documents = manifest.files, manifest.documents
    for entry in files.values():
        if (found := size_of(directory, entry.file)) != entry.nbytes:
            raise damaged(directory / entry.file, f"has {found} bytes, not {entry.nbytes}")
        is_file(directory / sums_file(entry.file))
    tables = {name: map_array(directory, files[name]) for name in ("docno_bytes", "docno_starts", *TABLES)}
    map_starts(directory, files["docno_starts"], len(tables["docno_bytes"]))
    check_docnos(directory, files, tables["docno_bytes"], tables["docno_starts"])
    check_tables(directory, files, tables, documents)
    names = {part: files[BM25S_FILES[f"{part}_name"]].file for part in ("data", "indices", "indptr", "vocab", "params")}
    types = {"data": ("<f4",), "indices": ("<i4", "<i8"), "indptr": ("<i4", "<i8")}
    scores = {part: map_npy(directory, names[part], allowed) for part, allowed in types.items()}
    data, indices, indptr = scores["data"], scores["indices"], scores["indptr"]
    if len(data) != len(indices):
        raise damaged(directory / names["data"], f"has {len(data)} scores of {len(indices)} documents")
    if not len(indptr) or indptr[0] != 0 or indptr[-1] != len(data) or (indptr[1:] < indptr[:-1]).any():
        raise damaged(directory / names["indptr"], f"does not ascend from 0 to {len(data)}")
    if len(indices) and not (indices.min() >= 0 and indices.max() < documents):
        raise damaged(directory / names["indices"], f"does not hold numbers below {documents}")
    for first in range(0, len(data), _CHECKED_ROWS):
        if not np.isfinite(data[first : first + _CHECKED_ROWS]).all():
            raise damaged(directory / names["data"], "holds NaN or infinity")
    _check_bm25_parameters(directory, names["params"], manifest)
    return scores, _read_vocabulary(directory, names["vocab"], len(indptr) - 1)


def _check_bm25_parameters(directory: Path, name: str, manifest: BM25Manifest) -> None:
    """Checks that the parameters that bm25s wrote are those of the manifest; nothing else is made of them."""

    def check(content: object) -> None:
        given = Fields.of(content)
        given.choice("method", ("lucene",))
        if given.whole("num_docs") != manifest.documents:
            raise FieldError(f"num_docs is not {manifest.documents}")
        for part in ("k1", "b"):
            if given.number(part) != getattr(manifest.settings, part):
                raise FieldError(f"{part} is not that of the manifest")

    read_typed(directory / name, check, _read_plain_json(directory, name))


def _read_vocabulary(directory: Path, name: str, words: int) -> dict[str, int]:
    """Returns the number of each word, all different and below the number of words with scores."""
    vocabulary = _read_plain_json(directory, name)
    if not isinstance(vocabulary, dict) or not all(type(number) is int for number in vocabulary.values()):
        raise damaged(directory / name, "does not hold a number for each word")
    numbers = vocabulary.values()
    if len(set(numbers)) < len(numbers) or (numbers and not (min(numbers) >= 0 and max(numbers) < words)):
        raise damaged(directory / name, f"does not hold different numbers below {words}")
    return vocabulary


def _read_plain_json(directory: Path, name: str) -> Any:
    """Reads a JSON file that other code wrote."""
    with open_to_read(directory, name) as file:
        content = file.read()
    try:
        return json.loads(content.decode("utf-8"))
    except (ValueError, RecursionError):
        raise damaged(directory / name, "is not JSON") from None
