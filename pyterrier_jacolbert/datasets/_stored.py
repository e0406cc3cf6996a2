"""Converted collections, kept in the folder of `ir_datasets` in its formats: JSON lines, TREC qrels, TREC rankings.

A collection in another format is converted once. Its folder appears only when it is complete and its record counts are
right. Documents stay on disk and are read on demand.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import ir_datasets
import numpy as np
from ir_datasets.formats import GenericQrel, GenericQuery, GenericScoredDoc, JsonlQueries, TrecQrels, TrecScoredDocs
from ir_datasets.util import LocalDownload, home_path

from pyterrier_jacolbert.datasets._collection import Collection, Counts, Records, TitledDoc
from pyterrier_jacolbert.index.storage.atomic import replacing_directory
from pyterrier_jacolbert.index.storage.blocks import check_saved
from pyterrier_jacolbert.trec_files import check_id

_SOURCE = "source.json"
_DOCS, _OFFSETS, _IDS = "docs.jsonl", "docs.offsets.npy", "doc_ids.json"
_QUERIES, _QRELS, _SCOREDDOCS = "queries.jsonl", "qrels.trec", "scoreddocs.trec"
_FILES = {_SOURCE, _DOCS, _OFFSETS, _IDS, _QUERIES, _QRELS, _SCOREDDOCS}


def load_or_convert(
    irds_id: str,
    origin: Mapping[str, object],
    convert: Callable[[], Records],
    *,
    counts: Counts,
    notice: str | None = None,
) -> Collection:
    """Loads a collection, after converting it if the folder of `ir_datasets` does not hold it yet.

    Args:
        irds_id: id of the dataset, and name of its folder.
        origin: origin of the source, as JSON. A collection stored from another origin is converted again.
        convert: reads the records from their source.
        counts: expected record counts.
        notice: notice to show to the user when the data are first fetched.

    Raises:
        ValueError: the source is not the published one. Nothing is stored.
        FileNotFoundError: the source is not on this machine and cannot be downloaded. Nothing is stored.
        FileExistsError: the folder holds files of the user. Nothing is stored or removed.
    """
    folder = home_path() / irds_id
    if _stored_origin(folder) != origin:
        if notice:
            ir_datasets.log.easy().info(f"[{irds_id}] {notice}")
        _check_replaceable(folder)
        with replacing_directory(folder) as temporary:
            _write_collection(temporary, convert(), irds_id, counts)
            source = json.dumps(origin, ensure_ascii=False, indent=1)
            (temporary / _SOURCE).write_text(source + "\n", encoding="utf-8")
    return _load_collection(folder)


class StoredDocs(Sequence[TitledDoc]):
    """Documents in a file of JSON lines. Memory holds 8 bytes per document, and no text.

    Args:
        folder: folder with the file, the offset of each line, and the ids.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._offsets: np.ndarray = np.load(folder / _OFFSETS, allow_pickle=False)

    def doc_ids(self) -> list[str]:
        """Returns the ids in the order of the documents."""
        return list(json.loads((self._folder / _IDS).read_text(encoding="utf-8")))

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def __iter__(self) -> Iterator[TitledDoc]:
        with (self._folder / _DOCS).open("rb") as lines:
            for line in lines:
                yield TitledDoc(**json.loads(line))

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, slice):
            return _DocsSlice(self, range(len(self))[key])
        position = range(len(self))[key]
        start, end = self._offsets[position], self._offsets[position + 1]
        with (self._folder / _DOCS).open("rb") as file:
            file.seek(start)
            return TitledDoc(**json.loads(file.read(end - start)))


class _DocsSlice(Sequence[TitledDoc]):
    """A slice of stored documents."""

    def __init__(self, docs: StoredDocs, positions: range) -> None:
        self._docs = docs
        self._positions = positions

    def __len__(self) -> int:
        return len(self._positions)

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, slice):
            return _DocsSlice(self._docs, self._positions[key])
        return self._docs[self._positions[key]]


def _stored_origin(folder: Path) -> object:
    try:
        return json.loads((folder / _SOURCE).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None


def _check_replaceable(folder: Path) -> None:
    """Checks that a folder holds only files that this module writes, such as those of an earlier release."""
    foreign = sorted(path.name for path in folder.iterdir() if path.name not in _FILES) if folder.is_dir() else []
    if foreign:
        raise FileExistsError(f"{folder} holds {foreign[0]!r}, which does not belong to the dataset; remove it first.")


def _write_collection(folder: Path, records: Records, irds_id: str, counts: Counts) -> None:
    offsets, ids = [0], []
    with (folder / _DOCS).open("wb") as file:
        for doc in records.docs:
            offsets.append(offsets[-1] + file.write(_json_line(doc)))
            ids.append(doc.doc_id)
    _check_ids(irds_id, "document", ids)
    _check_ids(irds_id, "query", [query.query_id for query in records.queries])
    counts.check(irds_id, Counts(len(ids), *map(len, records[1:])))
    first_bytes = np.array(offsets, dtype=np.int64)
    np.save(folder / _OFFSETS, first_bytes, allow_pickle=False)
    check_saved(folder / _OFFSETS, first_bytes)
    (folder / _IDS).write_text(json.dumps(ids, ensure_ascii=False), encoding="utf-8")
    (folder / _QUERIES).write_bytes(b"".join(map(_json_line, records.queries)))
    qrels = [(check_id(q.query_id, "qid"), check_id(q.doc_id, "docno"), q.relevance) for q in records.qrels]
    _write_lines(folder / _QRELS, (f"{qid} 0 {docno} {label}" for qid, docno, label in qrels))
    candidates = [(check_id(s.query_id, "qid"), check_id(s.doc_id, "docno"), s.score) for s in records.scoreddocs]
    _write_lines(folder / _SCOREDDOCS, (f"{qid} Q0 {docno} 0 {score} {irds_id}" for qid, docno, score in candidates))


def _load_collection(folder: Path) -> Collection:
    def file(name: str) -> LocalDownload:
        return LocalDownload(folder / name)

    qrels = list(TrecQrels(file(_QRELS), {}).qrels_iter())
    scoreddocs: list[GenericScoredDoc] = list(TrecScoredDocs(file(_SCOREDDOCS)).scoreddocs_iter())
    queries: list[GenericQuery] = list(JsonlQueries(file(_QUERIES)).queries_iter())
    return Collection(
        StoredDocs(folder),
        queries,
        # The iteration column of TREC's format is dropped because nothing here uses it.
        [GenericQrel(qrel.query_id, qrel.doc_id, qrel.relevance) for qrel in qrels],
        scoreddocs,
    )


def _json_line(record: Any) -> bytes:
    return json.dumps(record._asdict(), ensure_ascii=False).encode() + b"\n"


def _write_lines(path: Path, lines: Iterable[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", newline="\n")


def _check_ids(irds_id: str, kind: str, ids: list[str]) -> None:
    if len(set(ids)) != len(ids):
        raise ValueError(f"{irds_id} has two {kind} records with the same id; report it as a bug.")
    for name in ids:
        try:
            check_id(name, kind)
        except ValueError as error:
            raise ValueError(f"{irds_id}: {error}") from None
