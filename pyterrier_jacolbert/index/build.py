"""Building an index: encode, train, code, finish; each step goes on where it was interrupted.

A build fills a folder ``data-N`` within the index's folder, in which ``journal.json`` says what is done. Documents are
written shard by shard; a flush brings a shard to the disk and then replaces the journal, so that whatever stands behind
the rows that the journal names was not finished, and is cut off when the build goes on. The index is there when
``pt_meta.json`` names the folder; until then a reader sees the index that was there before, or none.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pyterrier_jacolbert.index.centroids import cluster
from pyterrier_jacolbert.index.codec import Codec, Int8Codec, codec_of, train_residual_codec
from pyterrier_jacolbert.index.docnos import write_tables
from pyterrier_jacolbert.index.files import GrowingArray, map_array, read_json, replace_json, room_for, write_array
from pyterrier_jacolbert.index.manifest import JOURNAL_FILE, begin_folder

#: Up to so many tokens ``compression="auto"`` is int8: 2.6 GB at 128 dimensions.
AUTO_INT8_TOKENS = 20_000_000
#: From so many tokens on, int8 has centroids, and is searched in two stages; below, every document is scored.
INT8_CENTROIDS_TOKENS = 500_000
#: Token vectors that are coded between two flushes of the journal.
_CODED_AT_ONCE = 2**17
_MAX_DOCUMENTS = 2**32 - 1
#: What only the build needs; it goes when the index is there.
_BUILD_ONLY = ("raw", "digests")


@dataclass(frozen=True)
class Settings:
    """What decides the bytes of an index besides its documents and their vectors.

    Attributes:
        compression: one of :data:`~pyterrier_jacolbert.index.limits.COMPRESSIONS`, or ``"auto"``.
        n_centroids: of a residual codec; None takes 16 times the root of the number of tokens, down to a power of two.
        sample_tokens: the most token vectors that a residual codec is trained on; memory holds them twice in float32.
        store_text: whether the documents' texts are kept.
        seed: of the sample, the rotation and the clustering.
    """

    compression: str = "auto"
    n_centroids: int | None = None
    sample_tokens: int = 2**19
    store_text: bool = False
    seed: int = 0


@dataclass(frozen=True)
class Shard:
    """Documents that are written together.

    Attributes:
        docnos: ``(n,)``.
        digests: ``(n,)``: 64 bits of each document's docno and content.
        vectors: for each float32 ``(n_tokens, dim)``, unit rows; no rows for a document that cannot match.
        texts: for each its text in UTF-8, compressed, where texts are stored.
    """

    docnos: Sequence[str]
    digests: Sequence[int]
    vectors: Sequence[np.ndarray]
    texts: Sequence[bytes] = ()

    def check(self, dim: int | None) -> None:
        """Refuses vectors that cannot be stored.

        Raises:
            ValueError: they have another dimension than ``dim`` or each other, or are not finite.
        """
        for docno, rows in zip(self.docnos, self.vectors, strict=True):
            if rows.ndim != 2 or (dim is not None and rows.shape[1] != dim):
                expected = "(n_tokens, dim)" if dim is None else f"(n_tokens, {dim})"
                raise ValueError(f"The vectors of document {docno!r} have shape {rows.shape}, not {expected}.")
            if not np.isfinite(rows).all():
                raise ValueError(f"The vectors of document {docno!r} hold NaN or infinity; check the checkpoint.")
            dim = rows.shape[1]

    def columns(self, codec: Codec | None, first_rows: Mapping[str, int]) -> dict[str, np.ndarray]:
        """The rows that the shard adds to each array.

        Args:
            codec: None gives ``raw``, the vectors in float16.
            first_rows: the last value of ``starts``, ``docno_starts`` and ``text_starts`` so far.
        """
        # Rounded to float16 also where a codec follows at once: what is coded later, from raw, has the same bytes.
        vectors = np.concatenate(self.vectors).astype(np.float16)
        names = [docno.encode("utf-8") for docno in self.docnos]
        columns = {
            "docno_bytes": np.frombuffer(b"".join(names), dtype=np.uint8),
            "docno_starts": first_rows["docno_starts"] + np.cumsum([len(name) for name in names]),
            "starts": first_rows["starts"] + np.cumsum([len(rows) for rows in self.vectors]),
            **({"raw": vectors} if codec is None else codec.encode(vectors.astype(np.float32))),
        }
        if self.texts:
            columns["text_bytes"] = np.frombuffer(b"".join(self.texts), dtype=np.uint8)
            columns["text_starts"] = first_rows["text_starts"] + np.cumsum([len(text) for text in self.texts])
        return columns


class Arrays:
    """The growing arrays of an index under their names, opened when they are first written to.

    Args:
        directory: the index's folder.
        folder: the folder within it that holds the files.
        entries: of those that exist already, by name.
    """

    def __init__(self, directory: Path, folder: str, entries: Mapping[str, Any]) -> None:
        self._directory = directory
        self._folder = folder
        self.entries: dict[str, Any] = dict(entries)
        self._open: dict[str, GrowingArray] = {}

    def append(self, columns: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """Adds rows to arrays, of which one that is not there begins, and brings them to the disk.

        Returns:
            The entries of all arrays by name.

        Raises:
            OSError: the disk is full.
        """
        with room_for(self._directory, sum(rows.nbytes for rows in columns.values())):
            for name, rows in columns.items():
                if name not in self._open:
                    self._open[name] = self._growing(name, rows)
                self._open[name].append(rows)
            self.entries |= {name: array.flush() for name, array in self._open.items()}
        return self.entries

    def close(self) -> None:
        """Closes the files."""
        for array in self._open.values():
            array.close()
        self._open = {}

    def map(self, name: str) -> np.ndarray:
        """What an array holds as of the last flush."""
        return map_array(self._directory, self.entries[name])

    def last(self, name: str) -> int:
        """The last value of an array of ends, 0 where there is none."""
        return int(self.map(name)[-1]) if name in self.entries else 0

    def _growing(self, name: str, rows: np.ndarray) -> GrowingArray:
        if name in self.entries:
            entry = self.entries[name]
            count, *row_shape = entry["shape"]
            return GrowingArray(self._directory, entry["file"], entry["dtype"], row_shape, rows=count)
        dtype = rows.dtype.newbyteorder("<")
        file = f"{self._folder}/{name}.{dtype.str[1:]}"
        array = GrowingArray(self._directory, file, dtype.str, rows.shape[1:])
        if name.endswith("starts"):
            array.append(np.zeros(1, dtype=dtype))
        return array


class Builder:
    """A build in a folder, new or taken up.

    Args:
        directory: the index's folder.
        folder: the folder within it that the build fills.
        settings: of the build.
        origin: what else decides the bytes, such as the checkpoint: must be the same when a build is taken up.

    Raises:
        ValueError: the folder holds a build with other settings.
    """

    def __init__(self, directory: Path, folder: str, settings: Settings, origin: Mapping[str, Any]) -> None:
        self._directory = directory
        self._folder = folder
        self._settings = settings
        head = {"settings": dataclasses.asdict(settings), "origin": dict(origin)}
        journal = read_json(directory / folder / JOURNAL_FILE)
        if journal is None:
            journal = {**head, "documents": 0, "encoded": False, "dim": None, "arrays": {}, "parameters": None}
            begin_folder(directory, folder, journal)
        elif different := _first_difference({key: journal[key] for key in head}, head):
            raise ValueError(
                f"The interrupted build in {directory} was begun with {different}; give the same settings to go on, or "
                "begin anew with mode='overwrite'."
            )
        self._journal: dict[str, Any] = journal
        self._arrays = Arrays(directory, folder, journal["arrays"])

    @property
    def documents(self) -> int:
        """Documents that are encoded and on the disk."""
        return int(self._journal["documents"])

    @property
    def encoded(self) -> bool:
        """Whether all documents are."""
        return bool(self._journal["encoded"])

    def close(self) -> None:
        """Closes the files; the build can be taken up."""
        self._arrays.close()

    def check(self, position: int, docno: str, digest: int) -> None:
        """Compares a document with the one that was encoded at its position.

        Raises:
            ValueError: it is another one.
        """
        if int(self._arrays.map("digests")[position]) != digest:
            starts = self._arrays.map("docno_starts")
            there = self._arrays.map("docno_bytes")[starts[position] : starts[position + 1]].tobytes().decode("utf-8")
            other = "of that name but with other content" if there == docno else f"{there!r}"
            raise ValueError(
                f"The document at position {position}, {docno!r}, is not the one that the interrupted build found "
                f"there, {other}; give the same documents in the same order, or begin anew with mode='overwrite'."
            )

    def add(self, shard: Shard) -> None:
        """Writes documents and brings them to the disk.

        Raises:
            ValueError: vectors of another dimension than those before, or not finite; too many documents.
        """
        shard.check(self._journal["dim"])
        if self.documents + len(shard.docnos) > _MAX_DOCUMENTS:
            raise ValueError(f"An index holds at most {_MAX_DOCUMENTS} documents; split the collection.")
        dim = shard.vectors[0].shape[1]
        compression = self._settings.compression
        early = codec_of(compression, dim, {}) if compression in ("float16", "int8") else None
        firsts = {name: self._arrays.last(name) for name in ("starts", "docno_starts", "text_starts")}
        columns = shard.columns(early, firsts)
        self._arrays.append({**columns, "digests": np.array(shard.digests, dtype=np.uint64)})
        self._save(documents=self.documents + len(shard.docnos), dim=dim)

    def finish(self, progress: Callable[[str, int, int], object] = lambda *_: None) -> dict[str, Any]:
        """Trains and codes, where the compression needs it, and writes what is left.

        Args:
            progress: called with what is done, how much of it is done, and of how much.

        Returns:
            What ``pt_meta.json`` says of the index: compression, documents, tokens, dim and the entries of its files.
        """
        if not self.encoded:
            self._save(encoded=True)
        tokens = self._arrays.last("starts")
        compression = self._settings.compression
        if compression == "auto":
            compression = "int8" if tokens <= AUTO_INT8_TOKENS else "4bit"
        if "raw" in self._arrays.entries:
            self._code(compression, tokens, progress)
        if compression == "int8" and tokens >= INT8_CENTROIDS_TOKENS:
            self._find_centroids(tokens, progress)
        entries = {name: entry for name, entry in self._arrays.entries.items() if name not in _BUILD_ONLY}
        tables = write_tables(
            self._directory, f"{self._folder}/", self._arrays.map("docno_bytes"), self._arrays.map("docno_starts")
        )
        self.close()
        parameters = self._journal["parameters"] or {}
        return {
            "compression": compression,
            "documents": self.documents,
            "tokens": tokens,
            "dim": self._journal["dim"],
            "parameters": sorted(parameters),
            "files": {**entries, **parameters, **tables},
        }

    def _code(self, compression: str, tokens: int, progress: Callable[[str, int, int], object]) -> None:
        raw, dim = self._arrays.map("raw"), self._journal["dim"]
        if self._journal["parameters"] is None:
            parameters = {}
            if compression not in ("float16", "int8"):
                progress("training", 0, 1)
                sample = raw[_sample(tokens, self._settings.sample_tokens, self._settings.seed)].astype(np.float32)
                count = self._settings.n_centroids or default_centroids(tokens)
                trained = train_residual_codec(sample, compression, count, self._settings.seed)
                for name, array in trained.parameters().items():
                    parameters[name] = write_array(self._directory, f"{self._folder}/{name}", array)
            self._save(parameters=parameters)
        maps = {name: map_array(self._directory, entry) for name, entry in self._journal["parameters"].items()}
        codec = codec_of(compression, dim, maps)
        name = next(iter(codec.columns))
        done = self._arrays.entries[name]["shape"][0] if name in self._arrays.entries else 0
        while done < tokens or name not in self._arrays.entries:
            block = raw[done : done + _CODED_AT_ONCE].astype(np.float32)
            self._arrays.append(codec.encode(block))
            self._save()
            done += len(block)
            progress("coding", done, tokens)

    def _find_centroids(self, tokens: int, progress: Callable[[str, int, int], object]) -> None:
        """Adds centroids to an int8 index."""
        codec = Int8Codec(self._journal["dim"])
        columns = {name: self._arrays.map(name) for name in codec.columns}
        if not self._journal["parameters"]:
            progress("training", 0, 1)
            chosen = _sample(tokens, self._settings.sample_tokens, self._settings.seed)
            sample = codec.rotated({name: column[chosen] for name, column in columns.items()})
            count = self._settings.n_centroids or default_centroids(tokens)
            centroids = cluster(sample, count, self._settings.seed).astype(np.float16)
            entry = write_array(self._directory, f"{self._folder}/centroids", centroids)
            self._save(parameters={"centroids": entry})
        codec = Int8Codec(codec.dim, map_array(self._directory, self._journal["parameters"]["centroids"]))
        name = "centroid_ids"
        done = self._arrays.entries[name]["shape"][0] if name in self._arrays.entries else 0
        while done < tokens:
            block = {name: column[done : done + _CODED_AT_ONCE] for name, column in columns.items()}
            self._arrays.append({name: codec.nearest_centroids(block)})
            self._save()
            done += len(block["codes"])
            progress("coding", done, tokens)

    def _save(self, **changes: Any) -> None:  # noqa: ANN401
        self._journal |= changes | {"arrays": self._arrays.entries}
        replace_json(self._directory / self._folder / JOURNAL_FILE, self._journal)


def default_centroids(tokens: int) -> int:
    """16 times the root of the number of tokens, down to a power of two, at most 65,536: as PLAID has it.

    Source: Santhanam et al., "PLAID", arXiv 2205.09707, and ColBERT's ``collection_indexer.py``.
    """
    return int(2 ** min(16, np.floor(np.log2(max(1.0, 16 * np.sqrt(tokens))))))


def _sample(n: int, count: int, seed: int) -> np.ndarray | slice:
    """The numbers of ``count`` of ``n`` rows, ascending, drawn whatever their order; all if there are fewer."""
    if n <= count:
        return slice(None)
    return np.sort(np.random.default_rng(seed).choice(n, count, replace=False))


def _first_difference(there: Mapping[str, Any], given: Mapping[str, Any]) -> str | None:
    for part in given:
        for name in {**there[part], **given[part]}:
            one, other = there[part].get(name), given[part].get(name)
            if one != other:
                return f"{name}={one!r}, not {other!r}"
    return None
