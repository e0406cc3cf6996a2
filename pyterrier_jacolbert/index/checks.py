"""The check of an index, or of a build, that may come from anyone, before anything reads or changes it.

Kernels trust the arrays that they are given, so every array passes here first: its name, type and shape against
:mod:`~pyterrier_jacolbert.index.storage.layout`, the length of its file, and the values that others are found by. What
costs a pass over all token vectors is checked by the scorer that needs it, when it is created.
"""

from __future__ import annotations

import codecs
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from pyterrier_jacolbert.index.journal import Journal
from pyterrier_jacolbert.index.storage.arrays import map_array, map_starts
from pyterrier_jacolbert.index.storage.blocks import sums_file
from pyterrier_jacolbert.index.storage.directory import JOURNAL_FILE
from pyterrier_jacolbert.index.storage.files import damaged, is_file, size_of
from pyterrier_jacolbert.index.storage.layout import (
    DOCUMENT_ARRAYS,
    OPTIONAL_ARRAYS,
    ArrayLayout,
    Sizes,
    all_layouts,
    check_layouts,
    column_layouts,
    parameter_layouts,
    token_rows,
)
from pyterrier_jacolbert.index.storage.manifest import Entries, Manifest, read_typed

#: Bytes of docnos that are decoded at once.
_DECODED_BYTES = 2**20
#: Greatest logarithm of a factor of a residual; those of any vector in float16 stay far below.
_MAX_LOG_FACTOR = 64


def open_arrays(directory: Path, manifest: Manifest) -> dict[str, np.ndarray]:
    """Checks a single index and maps its arrays.

    Args:
        directory: of the index.
        manifest: of the index.

    Returns:
        The arrays by name.

    Raises:
        ValueError: the manifest, a file or an array is damaged; nothing was mapped if it is the manifest or the length
            of a file.
    """
    files = manifest.files
    check_files(directory, files)
    arrays = {name: map_array(directory, entry) for name, entry in files.items()}
    _check_starts(directory, files, arrays, manifest.tokens)
    check_docnos(directory, files, arrays["docno_bytes"], arrays["docno_starts"])
    check_tables(directory, files, arrays, manifest.documents)
    check_parameters(directory, files, {name: arrays[name] for name in manifest.parameters})
    return arrays


def open_tables(directory: Path, manifest: Manifest, shards: Sequence[tuple[Path, Manifest]]) -> dict[str, np.ndarray]:
    """Checks the manifest and the tables of a sharded index, whose shards are checked already, and maps the tables.

    Args:
        directory: of the index.
        manifest: of the index.
        shards: directory and manifest of each shard, in order.

    Returns:
        The tables by name.

    Raises:
        ValueError: the manifest, a table or its file is damaged, or the shards do not fit together.
    """
    files, parameters = manifest.files, _recorded(*shards[0])
    for entry, (path, shard) in zip(manifest.shards, shards, strict=True):
        if (entry.documents, entry.tokens) != (shard.documents, shard.tokens):
            raise damaged(path, f"holds {shard.documents} documents and {shard.tokens} tokens, unlike its entry")
        for name in ("compression", "dim", "parameters", "settings"):
            if getattr(shard, name) != getattr(manifest, name):
                raise damaged(path, f"has another {name} than the index")
        if _recorded(path, shard) != parameters:
            raise damaged(path, "has other parameters of the codec than the first shard")
    check_files(directory, files)
    arrays = {name: map_array(directory, entry) for name, entry in files.items()}
    check_tables(directory, files, arrays, manifest.documents)
    return arrays


def check_build(directory: Path, folder: str, journal: Journal) -> None:
    """Checks the files of an interrupted build, which may be longer than the journal says.

    Args:
        directory: of the index.
        folder: of the build, within the directory.
        journal: of the build.

    Raises:
        ValueError: the journal, a file or an array is damaged.
    """
    source, entries = f"{folder}/{JOURNAL_FILE}", {**journal.arrays, **journal.parameters}
    if not entries:
        return
    if {entry.file.partition("/")[0] for entry in entries.values()} != {folder}:
        raise _damaged(directory, source, "it names files of another folder")
    if len({entry.file for entry in entries.values()}) < len(journal.arrays) + len(journal.parameters):
        raise _damaged(directory, source, "it names a file twice")
    if journal.dim is None:
        raise _damaged(directory, source, "dim is missing")
    if {journal.settings.store_text} != {name in journal.arrays for name in ("text_bytes", "text_starts")}:
        raise _damaged(directory, source, "its texts do not agree with store_text")
    layouts = _layouts_of_build(journal)
    compression = journal.compression or journal.settings.compression
    # Vectors that are being compressed lag behind; their numbers are compared below.
    lagging = {name: entry for name, entry in entries.items() if name in layouts and layouts[name].rows is token_rows}
    complete = {name: entry for name, entry in entries.items() if name not in lagging}
    sizes = Sizes(compression, journal.dim, journal.documents, 0)
    by_document = {name: layout for name, layout in layouts.items() if layout.rows is not token_rows}
    _check_layouts(directory / source, complete, by_document, sizes)
    check_files(directory, entries)
    arrays = {name: map_array(directory, entry) for name, entry in complete.items()}
    tokens = int(arrays["starts"][-1])
    _check_starts(directory, entries, arrays, tokens)
    check_docnos(directory, entries, arrays["docno_bytes"], arrays["docno_starts"])
    for name in [name for name, layout in layouts.items() if layout.rows is token_rows]:
        if name not in lagging:
            raise _damaged(directory, source, f"the array {name!r} is missing")
        rows = lagging[name].shape[0]
        may_lag = name == "centroid_ids" or (name != "raw" and "raw" in lagging)
        if rows > tokens or (rows < tokens and not may_lag):
            raise _damaged(directory, source, f"the array {name!r} has {rows} rows, not {tokens}")
        own = dataclasses.replace(sizes, tokens=rows)
        _check_layouts(directory / source, {name: lagging[name]}, {name: layouts[name]}, own)
    check_parameters(directory, entries, {name: arrays[name] for name in journal.parameters})


def _layouts_of_build(journal: Journal) -> dict[str, ArrayLayout]:
    """Returns the layouts of the arrays that a build must have, and may have and has."""
    compression = journal.compression or journal.settings.compression
    with_centroids = "centroids" in journal.parameters
    parameters = parameter_layouts(compression, with_centroids=with_centroids) if journal.parameters else {}
    # Before training there are raw vectors, or codes that need no training.
    trained = journal.parameters or compression in ("float16", "int8")
    columns = column_layouts(compression, with_centroids=with_centroids) if trained else {}
    pending = {name: OPTIONAL_ARRAYS[name] for name in ("raw", "text_bytes", "text_starts")} | dict(columns)
    needed = {name for name in columns if name != "centroid_ids"} or {"raw"}
    if "raw" in journal.arrays:
        needed = set()
    chosen = {name: layout for name, layout in pending.items() if name in journal.arrays or name in needed}
    return {**DOCUMENT_ARRAYS, "digests": OPTIONAL_ARRAYS["digests"], **chosen, **parameters}


def check_files(directory: Path, files: Entries) -> None:
    """Checks that files are regular files inside the index and long enough, without opening one.

    A file that grows may be longer than its entry says: a writer appends to it at this moment, or was killed.

    Raises:
        ValueError: a file is missing, of another kind, too short, or longer and does not grow.
    """
    layouts = all_layouts()
    for name, entry in files.items():
        found = size_of(directory, entry.file)
        if found < entry.nbytes or (found > entry.nbytes and not layouts[name].grows):
            raise damaged(directory / entry.file, f"has {found} bytes, not {entry.nbytes}")
        is_file(directory / sums_file(entry.file))


def open_parameters(directory: Path, files: Entries, compression: str, dim: int) -> dict[str, np.ndarray]:
    """Checks the parameters of a codec, which shards share while they are built, and maps them.

    Args:
        directory: of the index.
        files: entries of the parameters by name.
        compression: of the codec.
        dim: dimensions of a vector.

    Raises:
        ValueError: an entry, a file or a parameter is damaged.
    """
    layouts = parameter_layouts(compression, with_centroids="centroids" in files)
    _check_layouts(directory, files, layouts, Sizes(compression, dim, 0, 0))
    check_files(directory, files)
    arrays = {name: map_array(directory, entry) for name, entry in files.items()}
    check_parameters(directory, files, arrays)
    return arrays


def check_tables(directory: Path, files: Entries, arrays: Mapping[str, np.ndarray], documents: int) -> None:
    """Checks the values of the look-up tables of docnos, and of the deleted docids.

    Raises:
        ValueError: docids are out of range or repeated, or hashes or deleted docids do not ascend.
    """
    hashes = arrays["docno_hashes"]
    if (hashes[1:] < hashes[:-1]).any():
        raise damaged(directory / files["docno_hashes"].file, "does not ascend")
    for name in ("docno_by_hash", "docno_ranks"):
        seen = np.zeros(documents, dtype=np.bool_)
        table = arrays[name]
        if documents and table.max() < documents:
            seen[table] = True
        if not seen.all():
            raise damaged(directory / files[name].file, f"does not hold each number below {documents} once")
    deleted = arrays.get("deleted")
    if deleted is not None and len(deleted) and (deleted[-1] >= documents or (deleted[1:] <= deleted[:-1]).any()):
        raise damaged(directory / files["deleted"].file, f"does not hold ascending numbers below {documents}")


def check_parameters(directory: Path, files: Entries, parameters: Mapping[str, np.ndarray]) -> None:
    """Checks the values of the parameters of a codec.

    Raises:
        ValueError: they are not finite, or out of the range that training gives.
    """
    for name, values in parameters.items():
        problem = None
        if not np.isfinite(values).all():
            problem = "holds NaN or infinity"
        elif name == "rotation" and np.abs(values).max() > 1.01:
            problem = "is not orthogonal"
        elif name == "spreads" and not (0 <= values.min() and values.max() < 2**32):
            problem = "holds numbers that are no standard deviations"
        elif name == "levels" and ((values[1:] < values[:-1]).any() or np.abs(values).max() > 2**32):
            problem = "does not ascend"
        elif name == "gain_range" and (np.abs(values).max() > _MAX_LOG_FACTOR or (values[:, 1] <= values[:, 0]).any()):
            problem = "holds no ranges"
        if problem:
            raise damaged(directory / files[name].file, problem)


def _check_starts(directory: Path, files: Entries, arrays: Mapping[str, np.ndarray], tokens: int) -> None:
    map_starts(directory, files["starts"], tokens)
    map_starts(directory, files["docno_starts"], len(arrays["docno_bytes"]))
    if "text_starts" in files:
        map_starts(directory, files["text_starts"], len(arrays["text_bytes"]))


def check_docnos(directory: Path, files: Entries, names: np.ndarray, starts: np.ndarray) -> None:
    """Checks that each docno is UTF-8.

    Args:
        directory: of the index.
        files: entries by name, for messages.
        names: uint8 ``(n_bytes,)``, the docnos, concatenated.
        starts: int64 ``(n_docs + 1,)``, the first byte of each docno.

    Raises:
        ValueError: one is not.
    """
    decoder = codecs.getincrementaldecoder("utf-8")()
    path = directory / files["docno_bytes"].file
    try:
        for first in range(0, len(names), _DECODED_BYTES):
            decoder.decode(names[first : first + _DECODED_BYTES].tobytes())
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        raise damaged(path, "is not UTF-8") from None
    inner = starts[(starts > 0) & (starts < len(names))]
    if ((names[inner] & 0xC0) == 0x80).any():
        raise damaged(directory / files["docno_starts"].file, "cuts a character of a docno")


def _check_layouts(path: Path, files: Entries, layouts: Mapping[str, ArrayLayout], sizes: Sizes) -> None:
    read_typed(path, lambda entries: check_layouts(entries, layouts, sizes), files)


def _recorded(directory: Path, manifest: Manifest) -> list[object]:
    """Returns what an index records of the content of its codec's parameters."""
    found: list[object] = []
    for name in manifest.parameters:
        entry = manifest.files[name]
        sums = directory / sums_file(entry.file)
        found += [name, entry.shape, entry.rest, sums.read_bytes() if is_file(sums) else b""]
    return found


def _damaged(directory: Path, source: str, problem: str) -> ValueError:
    return ValueError(f"{directory / source} is damaged ({problem}); build or fetch the index again.")
