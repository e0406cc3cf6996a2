"""Changes to a finished index: append, delete, compact, merge. Each is there at once, or not at all.

Files of rows only grow, behind what the manifest names; small tables are written anew under a new name; and then one
manifest takes the place of the other.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pyterrier_jacolbert.index.docnos import write_tables
from pyterrier_jacolbert.index.files import map_array, write_array
from pyterrier_jacolbert.index.manifest import next_folder, publish
from pyterrier_jacolbert.index.rows import Arrays, Shard
from pyterrier_jacolbert.index.stored import Stored

#: Arrays that only grow, besides the codec's columns.
_GROWING = ("docno_bytes", "docno_starts", "starts", "text_bytes", "text_starts")
_TABLES = ("docno_hashes", "docno_by_hash", "docno_ranks")
#: Documents that are copied at a time.
_COPIED_AT_ONCE = 8192


class Appender:
    """Adds shards to an index; readers see none of them until :meth:`finish`.

    Args:
        directory: the index's folder.
        meta: its manifest.
    """

    def __init__(self, directory: Path, meta: Mapping[str, Any]) -> None:
        self._directory = directory
        self._meta = dict(meta)
        stored = Stored(directory, meta)
        self._codec = stored.codec
        growing = {*_GROWING, *self._codec.columns}
        entries = {name: entry for name, entry in meta["files"].items() if name in growing}
        self._folder = meta["files"]["starts"]["file"].split("/")[0]
        self._arrays = Arrays(directory, self._folder, entries)

    def add(self, shard: Shard) -> None:
        """Adds documents.

        Raises:
            ValueError: vectors of another dimension than the index's, or not finite.
        """
        shard.check(self._meta["dim"])
        firsts = {name: self._arrays.last(name) for name in ("starts", "docno_starts", "text_starts")}
        self._arrays.append(shard.columns(self._codec, firsts))

    def finish(self) -> None:
        """Makes the index the longer one."""
        files = {**self._meta["files"], **self._arrays.entries}
        names, starts = self._arrays.map("docno_bytes"), self._arrays.map("docno_starts")
        self._arrays.close()
        tables = write_tables(self._directory, f"{self._folder}/{_generation(self._meta) + 1}.", names, starts)
        tokens = int(map_array(self._directory, files["starts"])[-1])
        facts = {"documents": len(starts) - 1, "tokens": tokens, "files": {**files, **tables}}
        publish(self._directory, {**self._meta, **facts})

    def close(self) -> None:
        """Closes the files; what was added and not finished is cut off by the next writer."""
        self._arrays.close()


def delete(directory: Path, stored: Stored, docnos: Sequence[str], owner: str) -> None:
    """Marks documents as deleted.

    Args:
        directory: the index's folder.
        stored: the index, open.
        docnos: of the index.
        owner: the index, for messages.

    Raises:
        ValueError: a docno that the index does not have.
    """
    meta = stored.meta
    gone = np.union1d(stored.deleted, stored.docnos.known_docids(docnos, owner)).astype(np.uint32)
    if len(gone) == len(stored.deleted):
        return
    folder = meta["files"]["docno_ranks"]["file"].split("/")[0]
    entry = write_array(directory, f"{folder}/{_generation(meta) + 1}.deleted.u4", gone)
    publish(directory, {**meta, "files": {**meta["files"], "deleted": entry}})


def compact(directory: Path, meta: Mapping[str, Any]) -> None:
    """Copies what is not deleted into a new folder, and makes that the index."""
    stored = Stored(directory, meta)
    if not len(stored.deleted):
        return
    publish(directory, {**meta, **merge([stored], directory, next_folder(dict(meta)))})


def merge(parts: Sequence[Stored], directory: Path, folder: str) -> dict[str, Any]:
    """Copies indexes end to end into a new folder; their deleted documents are left out.

    Args:
        parts: of one compression and dimension, and with the same codec parameters.
        directory: the new index's folder.
        folder: the folder within it to fill.

    Returns:
        What the manifest says of the new index.

    Raises:
        ValueError: a docno that two of them have.
    """
    arrays = Arrays(directory, folder, {})
    for part in parts:
        kept = np.setdiff1d(np.arange(len(part)), part.deleted)
        for first in range(0, max(1, len(kept)), _COPIED_AT_ONCE):  # no document makes the files too
            copy(part, kept[first : first + _COPIED_AT_ONCE], arrays)
    files = dict(arrays.entries)
    arrays.close()
    for name in parts[0].parameters:
        files[name] = write_array(directory, f"{folder}/{name}", parts[0].parameters[name])
    names, starts = map_array(directory, files["docno_bytes"]), map_array(directory, files["docno_starts"])
    files |= write_tables(directory, f"{folder}/", names, starts)
    return {
        "documents": len(starts) - 1,
        "tokens": int(map_array(directory, files["starts"])[-1]),
        "files": files,
    }


def copy(stored: Stored, docids: np.ndarray, arrays: Arrays) -> None:
    """Appends documents of an open index, as they are coded, to arrays."""
    columns = {name: _take(stored.columns[name], stored.starts, docids)[0] for name in stored.columns}
    ends = {"starts": np.cumsum(stored.starts[docids + 1] - stored.starts[docids])}
    columns["docno_bytes"], ends["docno_starts"] = _take(*stored.docnos.arrays, docids)
    if stored.texts is not None:
        columns["text_bytes"], ends["text_starts"] = _take(*stored.texts, docids)
    arrays.append({**columns, **{name: arrays.last(name) + values for name, values in ends.items()}})


def _take(rows: np.ndarray, starts: np.ndarray, docids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The rows of some documents, and where each now ends."""
    firsts, lengths = starts[docids], starts[docids + 1] - starts[docids]
    ends = np.cumsum(lengths)
    return rows[np.repeat(firsts - (ends - lengths), lengths) + np.arange(lengths.sum())], ends


def _generation(meta: Mapping[str, Any]) -> int:
    """The highest number before a file's name: tables are written anew as ``1.NAME``, ``2.NAME`` and so on."""
    found = [re.match(r"[^/]*/(\d+)\.", entry["file"]) for entry in meta["files"].values()]
    return max([int(match[1]) for match in found if match], default=0)
