"""Collections kept in the folder of `ir_datasets`, in its formats: JSON lines, TREC judgements, TREC rankings.

A collection that comes in another format is converted once. The folder appears when it is complete and its record
counts are right, and not before. Documents stay on disk and are read when they are asked for.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import ir_datasets
import numpy as np
import pyterrier as pt
from ir_datasets.formats import GenericQrel, GenericQuery, GenericScoredDoc, JsonlQueries, TrecQrels, TrecScoredDocs
from ir_datasets.util import LocalDownload, home_path

from pyterrier_jacolbert.datasets._collection import Collection, Counts, Records, TitledDoc

_SOURCE = "source.json"
_DOCS, _OFFSETS, _IDS = "docs.jsonl", "docs.offsets.npy", "doc_ids.json"
_QUERIES, _QRELS, _SCOREDDOCS = "queries.jsonl", "qrels.trec", "scoreddocs.trec"


def stored(
    irds_id: str,
    origin: dict[str, Any],
    convert: Callable[[], Records],
    *,
    counts: Counts,
    notice: str | None = None,
) -> Collection:
    """The collection, converted from its source if it is not in the folder of `ir_datasets` yet.

    Args:
        irds_id: Its id, and the folder's name.
        origin: Where it comes from, as JSON; a collection that was stored from elsewhere is converted again.
        convert: Reads it from its source.
        counts: How many of each there must be.
        notice: What a user must be told when the data are first fetched.

    Raises:
        ValueError: The source is not what was published; nothing is stored.
        FileNotFoundError: The source is not on this machine and cannot be downloaded; nothing is stored.
    """
    folder = home_path() / irds_id
    if _origin(folder) != origin:
        if notice:
            ir_datasets.log.easy().info(f"[{irds_id}] {notice}")
        folder.parent.mkdir(parents=True, exist_ok=True)
        with pt.io.finalized_directory(str(folder)) as building:
            _write(Path(building), convert(), irds_id, counts)
            source = json.dumps(origin, ensure_ascii=False, indent=1)
            (Path(building) / _SOURCE).write_text(source + "\n", encoding="utf-8")
            _remove(folder)
    return _read(folder)


class StoredDocs(Sequence[TitledDoc]):
    """Documents in a file of JSON lines: 8 bytes a document in memory, and no text.

    Args:
        folder: Holds the file, the offset of each line, and the ids.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._offsets: np.ndarray = np.load(folder / _OFFSETS, allow_pickle=False)

    def doc_ids(self) -> list[str]:
        """The ids, in order."""
        return list(json.loads((self._folder / _IDS).read_text(encoding="utf-8")))

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def __iter__(self) -> Iterator[TitledDoc]:
        with (self._folder / _DOCS).open("rb") as lines:
            for line in lines:
                yield TitledDoc(**json.loads(line))

    def __getitem__(self, key: Any) -> Any:  # noqa: ANN401 -- a document, or a sequence of them for a slice
        if isinstance(key, slice):
            return _Part(self, range(len(self))[key])
        position = range(len(self))[key]
        start, end = self._offsets[position], self._offsets[position + 1]
        with (self._folder / _DOCS).open("rb") as file:
            file.seek(start)
            return TitledDoc(**json.loads(file.read(end - start)))


class _Part(Sequence[TitledDoc]):
    """Some of the documents."""

    def __init__(self, docs: StoredDocs, positions: range) -> None:
        self._docs = docs
        self._positions = positions

    def __len__(self) -> int:
        return len(self._positions)

    def __getitem__(self, key: Any) -> Any:  # noqa: ANN401 -- as StoredDocs
        if isinstance(key, slice):
            return _Part(self._docs, self._positions[key])
        return self._docs[self._positions[key]]


def _origin(folder: Path) -> object:
    try:
        return json.loads((folder / _SOURCE).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None


def _write(folder: Path, records: Records, irds_id: str, counts: Counts) -> None:
    offsets, ids = [0], []
    with (folder / _DOCS).open("wb") as file:
        for doc in records.docs:
            offsets.append(offsets[-1] + file.write(_line(doc)))
            ids.append(doc.doc_id)
    _check_ids(irds_id, "document", ids)
    _check_ids(irds_id, "query", [query.query_id for query in records.queries])
    found = Counts(len(ids), *map(len, records[1:]))
    counts.check(irds_id, found)
    np.save(folder / _OFFSETS, np.array(offsets, dtype=np.int64), allow_pickle=False)
    (folder / _IDS).write_text(json.dumps(ids, ensure_ascii=False), encoding="utf-8")
    (folder / _QUERIES).write_bytes(b"".join(map(_line, records.queries)))
    _write_lines(folder / _QRELS, (f"{q.query_id} 0 {q.doc_id} {q.relevance}" for q in records.qrels))
    _write_lines(
        folder / _SCOREDDOCS, (f"{s.query_id} Q0 {s.doc_id} 0 {s.score} {irds_id}" for s in records.scoreddocs)
    )


def _read(folder: Path) -> Collection:
    def file(name: str) -> LocalDownload:
        return LocalDownload(folder / name)

    qrels = list(TrecQrels(file(_QRELS), {}).qrels_iter())
    scoreddocs: list[GenericScoredDoc] = list(TrecScoredDocs(file(_SCOREDDOCS)).scoreddocs_iter())
    queries: list[GenericQuery] = list(JsonlQueries(file(_QUERIES)).queries_iter())
    return Collection(
        StoredDocs(folder),
        queries,
        # Without the fourth column of TREC's format, which nothing here uses.
        [GenericQrel(qrel.query_id, qrel.doc_id, qrel.relevance) for qrel in qrels],
        scoreddocs,
    )


def _line(record: Any) -> bytes:  # noqa: ANN401 -- a named tuple
    return json.dumps(record._asdict(), ensure_ascii=False).encode() + b"\n"


def _write_lines(path: Path, lines: Iterable[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", newline="\n")


def _check_ids(irds_id: str, kind: str, ids: list[str]) -> None:
    if len(set(ids)) != len(ids):
        raise ValueError(f"{irds_id} gives two {kind} records the same id; report it as a bug.")
    spaced = next((name for name in ids if not name or name.split() != [name]), None)
    if spaced is not None:
        raise ValueError(f"{irds_id} has the {kind} id {spaced!r}, which TREC's formats cannot hold; report it.")


def _remove(folder: Path) -> None:
    """Removes what an earlier release stored: only files that this module writes."""
    if not folder.exists():
        return
    for name in (_SOURCE, _DOCS, _OFFSETS, _IDS, _QUERIES, _QRELS, _SCOREDDOCS):
        (folder / name).unlink(missing_ok=True)
    folder.rmdir()
