"""Updates of a finished index: append, delete, compact, merge. Each takes effect in one step or not at all.

Arrays of rows only grow, beyond the rows that the manifest names; small tables are rewritten under new names; then a
new manifest replaces the old one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pyterrier_jacolbert.index.encoded_batch import EncodedBatch
from pyterrier_jacolbert.index.reader import IndexReader
from pyterrier_jacolbert.index.retraining import appended_codec, update_codes
from pyterrier_jacolbert.index.storage.arrays import ArraySet, map_array, write_array
from pyterrier_jacolbert.index.storage.directory import new_folder, publish
from pyterrier_jacolbert.index.storage.docnos import write_docno_tables
from pyterrier_jacolbert.index.storage.manifest import ArrayEntry, Manifest

#: Arrays that only grow, besides the columns of the codec.
_GROWING = ("digests", "docno_bytes", "docno_starts", "starts", "text_bytes", "text_starts")
#: Documents that are copied at once.
_COPIED_DOCUMENTS = 8192


class Appender:
    """Appends batches of documents to an index. Readers see none of them until :meth:`finish`.

    Args:
        directory: of the index.
        manifest: of the index.
    """

    def __init__(self, directory: Path, manifest: Manifest) -> None:
        self._directory = directory
        self._manifest = manifest
        self._reader = IndexReader(directory, manifest)
        self._codec = appended_codec(self._reader)
        growing = {*_GROWING, *(("raw",) if self._codec is None else self._codec.columns)}
        entries = {name: entry for name, entry in manifest.files.items() if name in growing}
        self._folder = _folder_of(manifest, "starts")
        self._arrays = ArraySet(directory, self._folder, entries)

    def add(self, batch: EncodedBatch) -> None:
        """Writes a batch of documents and flushes it to disk.

        Raises:
            ValueError: the vectors have other dimensions than those of the index, or are not finite.
        """
        batch.check(self._manifest.dim)
        ends = {name: self._arrays.last(name) for name in ("starts", "docno_starts", "text_starts")}
        columns = batch.columns(self._codec, ends)
        if "digests" not in self._manifest.files:  # an index of an earlier version
            del columns["digests"]
        self._arrays.append(columns)

    def finish(self) -> None:
        """Publishes the longer index."""
        files = {**self._manifest.files, **self._arrays.entries}
        files.pop("raw", None)  # shorter now, unless the codes are updated below
        changes: dict[str, Any] = {}
        if self._manifest.training is not None:
            codes = update_codes(self._directory, self._reader, self._arrays)
            outdated = {*self._reader.codec.columns, *self._manifest.parameters}
            files = {**{name: entry for name, entry in files.items() if name not in outdated}, **codes.files}
            changes = {"parameters": codes.parameters, "training": codes.training}
        names, starts = self._arrays.map("docno_bytes"), self._arrays.map("docno_starts")
        self._arrays.close()
        tables = write_docno_tables(self._directory, _table_prefix(self._manifest, self._folder), names, starts)
        tokens = int(map_array(self._directory, files["starts"])[-1])
        documents = len(starts) - 1
        following = self._manifest.following(documents=documents, tokens=tokens, files={**files, **tables}, **changes)
        publish(self._directory, following)

    def close(self) -> None:
        """Closes the files. The next writer cuts off rows that were appended and not published."""
        self._arrays.close()


def delete(directory: Path, reader: IndexReader, docnos: Sequence[str], owner: str) -> None:
    """Marks documents as deleted.

    Args:
        directory: of the index.
        reader: of the index.
        docnos: of documents in the index.
        owner: name of the index, for messages.

    Raises:
        ValueError: the index does not have one of the documents.
    """
    manifest = reader.manifest
    deleted = np.union1d(reader.deleted, reader.docnos.known_docids(docnos, owner)).astype(np.uint32)
    if len(deleted) == len(reader.deleted):
        return
    prefix = _table_prefix(manifest, _folder_of(manifest, "docno_ranks"))
    entry = write_array(directory, f"{prefix}deleted.u4", deleted)
    publish(directory, manifest.following(files={**manifest.files, "deleted": entry}))


def compact(directory: Path, manifest: Manifest) -> None:
    """Copies the documents that are not deleted into a new folder, and publishes it."""
    reader = IndexReader(directory, manifest)
    if len(reader.deleted):
        copied = copy_documents([reader], directory, new_folder(directory, manifest))
        publish(directory, copied.manifest_of(manifest))


@dataclass(frozen=True)
class CopiedDocuments:
    """The part of a manifest that describes copied documents.

    Attributes:
        documents: number of documents.
        tokens: number of token vectors.
        files: entries of the files by name.
    """

    documents: int
    tokens: int
    files: Mapping[str, ArrayEntry]

    def manifest_of(self, manifest: Manifest) -> Manifest:
        """Returns the next manifest of an index whose documents were replaced by the copies."""
        return manifest.following(documents=self.documents, tokens=self.tokens, files=self.files)


def copy_documents(readers: Sequence[IndexReader], directory: Path, folder: str) -> CopiedDocuments:
    """Concatenates the documents of indexes in a new folder, without deleted documents.

    Args:
        readers: of indexes with the same compression, dimensions and codec parameters.
        directory: of the new index.
        folder: new folder within it.

    Returns:
        What the manifest of the new index records.
    """
    arrays = ArraySet(directory, folder, {})
    keep_vectors = all(reader.raw is not None for reader in readers)
    for reader in readers:
        kept = reader.present_docids()
        for first in range(0, max(1, len(kept)), _COPIED_DOCUMENTS):  # once even without documents: creates the files
            _append_copies(reader, kept[first : first + _COPIED_DOCUMENTS], arrays, keep_vectors)
    files = dict(arrays.entries)
    arrays.close()
    for name, parameter in readers[0].parameters.items():
        files[name] = write_array(directory, f"{folder}/{name}", parameter)
    names, starts = map_array(directory, files["docno_bytes"]), map_array(directory, files["docno_starts"])
    files |= write_docno_tables(directory, f"{folder}/", names, starts)
    tokens = int(map_array(directory, files["starts"])[-1])
    return CopiedDocuments(len(starts) - 1, tokens, files)


def _append_copies(reader: IndexReader, docids: np.ndarray, arrays: ArraySet, keep_vectors: bool) -> None:
    """Appends documents of an index, compressed as they are, to arrays."""
    columns = {name: _take(reader.columns[name], reader.starts, docids)[0] for name in reader.columns}
    columns["digests"] = reader.digests[docids]
    if keep_vectors and reader.raw is not None:
        columns["raw"] = _take(reader.raw, reader.starts, docids)[0]
    ends = {"starts": np.cumsum(reader.starts[docids + 1] - reader.starts[docids])}
    columns["docno_bytes"], ends["docno_starts"] = _take(*reader.docnos.arrays, docids)
    if reader.texts is not None:
        columns["text_bytes"], ends["text_starts"] = _take(*reader.texts, docids)
    arrays.append({**columns, **{name: arrays.last(name) + values for name, values in ends.items()}})


def _take(rows: np.ndarray, starts: np.ndarray, docids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the rows of the given documents, and the end of each document among them."""
    firsts, lengths = starts[docids], starts[docids + 1] - starts[docids]
    ends = np.cumsum(lengths)
    return rows[np.repeat(firsts - (ends - lengths), lengths) + np.arange(lengths.sum())], ends


def _folder_of(manifest: Manifest, name: str) -> str:
    return manifest.files[name].file.partition("/")[0]


def _table_prefix(manifest: Manifest, folder: str) -> str:
    """Returns the prefix of the names of rewritten tables, which differ in every generation."""
    return f"{folder}/{manifest.generation + 1}."
