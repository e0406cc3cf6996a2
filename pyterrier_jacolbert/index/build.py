"""Building an index: encode, train, code, finish; each step goes on where it was interrupted.

A build fills a folder ``data-N`` within the index's folder, in which ``journal.json`` says what is done. Documents are
written shard by shard; a flush brings a shard to the disk and then replaces the journal, so that whatever stands behind
the rows that the journal names was not finished, and is cut off when the build goes on. The index is there when
``pt_meta.json`` names the folder; until then a reader sees the index that was there before, or none.

Training looks at all documents, and the rest at one after the other. So a collection can be encoded in several builds,
of which :func:`decide_coding` draws one sample: the same, and so the same codes, as one build of them all has.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pyterrier_jacolbert.index.centroids import cluster
from pyterrier_jacolbert.index.codec import codec_of, encode_in_threads, nearest_in_threads
from pyterrier_jacolbert.index.docnos import write_tables
from pyterrier_jacolbert.index.files import map_array, read_json, replace_json, write_array
from pyterrier_jacolbert.index.limits import MOST_DOCUMENTS
from pyterrier_jacolbert.index.manifest import JOURNAL_FILE, begin_folder
from pyterrier_jacolbert.index.residual_codec import random_rotation, train_on_rotated
from pyterrier_jacolbert.index.rows import Arrays, Shard
from pyterrier_jacolbert.index.scalar_codecs import Int8Codec, single

#: Up to so many tokens ``compression="auto"`` is int8: 2.6 GB at 128 dimensions.
AUTO_INT8_TOKENS = 20_000_000
#: From so many tokens on, int8 has centroids, and is searched in two stages; below, every document is scored.
INT8_CENTROIDS_TOKENS = 500_000
#: Token vectors that are coded between two flushes of the journal.
_CODED_AT_ONCE = 2**19
#: Rows that are read and rotated together where a sample is made.
_ROWS = 2**16
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
class Coding:
    """How the vectors of a whole collection are coded.

    Attributes:
        compression: one of :data:`~pyterrier_jacolbert.index.limits.COMPRESSIONS`.
        parameters: of its codec, by name; none where it needs none.
    """

    compression: str
    parameters: Mapping[str, np.ndarray]


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
            journal |= {"compression": None, "model": None}
            begin_folder(directory, folder, journal)
        elif different := first_difference({key: journal[key] for key in head}, head):
            raise ValueError(
                f"The interrupted build in {directory} was begun with {different}; give the same settings to go on, or "
                "begin anew with mode='overwrite'."
            )
        self._journal: dict[str, Any] = journal
        self._arrays = Arrays(directory, folder, journal["arrays"])

    @classmethod
    def taken_up(cls, directory: Path, folder: str) -> Builder:
        """The build that a folder holds, with the settings it was begun with.

        Raises:
            FileNotFoundError: there is none.
        """
        journal = read_json(directory / folder / JOURNAL_FILE)
        if journal is None:
            raise FileNotFoundError(f"There is no build in {directory / folder}; encode its documents first.")
        return cls(directory, folder, Settings(**journal["settings"]), journal["origin"])

    @property
    def origin(self) -> dict[str, Any]:
        """What the build was begun with besides its settings."""
        return dict(self._journal["origin"])

    @property
    def settings(self) -> Settings:
        """What the build was begun with."""
        return self._settings

    @property
    def model(self) -> dict[str, Any] | None:
        """What :meth:`add` was told of the checkpoint that made the vectors."""
        return self._journal.get("model")

    @property
    def dim(self) -> int | None:
        """Numbers a vector; None before the first document."""
        dim: int | None = self._journal["dim"]
        return dim

    @property
    def tokens(self) -> int:
        """Token vectors that are on the disk."""
        return self._arrays.last("starts")

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

    def add(self, shard: Shard, model: Mapping[str, Any] | None = None) -> None:
        """Writes documents and brings them to the disk.

        Args:
            shard: the documents.
            model: what a manifest records of the checkpoint that made their vectors; None where none did.

        Raises:
            ValueError: vectors of another dimension than those before, or not finite, or of another checkpoint; too
                many documents.
        """
        shard.check(self._journal["dim"])
        if model is not None and self.model not in (None, model):
            raise ValueError(
                f"The build in {self._directory} was begun with the checkpoint {self.model} and the next documents are "
                f"encoded with {dict(model)}; go on with the former, or begin anew with mode='overwrite'."
            )
        if self.documents + len(shard.docnos) > MOST_DOCUMENTS:
            raise ValueError(f"An index holds at most {MOST_DOCUMENTS} documents; split the collection.")
        dim = shard.vectors[0].shape[1]
        compression = self._settings.compression
        early = codec_of(compression, dim, {}) if compression in ("float16", "int8") else None
        firsts = {name: self._arrays.last(name) for name in ("starts", "docno_starts", "text_starts")}
        columns = shard.columns(early, firsts)
        self._arrays.append({**columns, "digests": np.array(shard.digests, dtype=np.uint64)})
        self._save(documents=self.documents + len(shard.docnos), dim=dim, model=model or self.model)

    def shard(self) -> Shard:
        """The documents of a build whose vectors are not coded yet."""
        starts = self._arrays.map("starts")
        names, name_starts = self._arrays.map("docno_bytes"), self._arrays.map("docno_starts")
        texts = [self._arrays.map(name) for name in ("text_bytes", "text_starts") if name in self._arrays.entries]
        return Shard(
            [rows.tobytes().decode("utf-8") for rows in _pieces(names, name_starts)],
            self._arrays.map("digests").tolist(),
            _pieces(self._arrays.map("raw").astype(np.float32), starts),
            [rows.tobytes() for rows in _pieces(*texts)] if texts else (),
        )

    def stop(self) -> None:
        """Says that all documents are in; the vectors stay as they are until :meth:`finish`."""
        if not self.encoded:
            self._save(encoded=True)

    def finish(
        self, progress: Callable[[str, int, int], object] = lambda *_: None, coding: Coding | None = None
    ) -> dict[str, Any]:
        """Trains and codes, where the compression needs it, and writes what is left.

        Args:
            progress: called with what is done, how much of it is done, and of how much.
            coding: how to code; None decides by these documents alone.

        Returns:
            What ``pt_meta.json`` says of the index: compression, documents, tokens, dim and the entries of its files.
        """
        self.stop()
        if self._journal.get("compression") is None:
            progress("training", 0, 1)
            coding = coding or decide_coding([self])
            parameters = {
                name: write_array(self._directory, f"{self._folder}/{name}", array)
                for name, array in coding.parameters.items()
            }
            self._save(compression=coding.compression, parameters=parameters)
        compression, parameters = self._journal["compression"], self._journal["parameters"]
        if "raw" in self._arrays.entries:
            self._code(compression, progress)
        if compression == "int8" and parameters:
            self._find_centroids(progress)
        entries = {name: entry for name, entry in self._arrays.entries.items() if name not in _BUILD_ONLY}
        tables = write_tables(
            self._directory, f"{self._folder}/", self._arrays.map("docno_bytes"), self._arrays.map("docno_starts")
        )
        self.close()
        return {
            "compression": compression,
            "documents": self.documents,
            "tokens": self.tokens,
            "dim": self._journal["dim"],
            "parameters": sorted(parameters),
            "files": {**entries, **parameters, **tables},
        }

    def training_rows(self, rows: np.ndarray | slice, compression: str) -> np.ndarray:
        """Token vectors as the training of a compression looks at them: float32 ``(n, dim)``, rotated for int8."""
        chosen = np.arange(self.tokens)[rows]
        codec = Int8Codec(self._journal["dim"])
        found = np.empty((len(chosen), codec.dim), dtype=np.float32)
        for first in range(0, len(chosen), _ROWS):
            piece = chosen[first : first + _ROWS]
            if "raw" not in self._arrays.entries:
                rows_found = codec.rotated({name: self._arrays.map(name)[piece] for name in codec.columns})
            else:
                raw = single(self._arrays.map("raw")[piece])
                rows_found = codec.rotated(codec.encode(raw)) if compression == "int8" else raw
            found[first : first + len(piece)] = rows_found
        return found

    def _code(self, compression: str, progress: Callable[[str, int, int], object]) -> None:
        """Codes what is raw; the centroids of int8 come after."""
        raw, tokens = self._arrays.map("raw"), self.tokens
        entries = {} if compression == "int8" else self._journal["parameters"]
        maps = {name: map_array(self._directory, entry) for name, entry in entries.items()}
        codec = codec_of(compression, self._journal["dim"], maps)
        name = next(iter(codec.columns))
        done = self._arrays.entries[name]["shape"][0] if name in self._arrays.entries else 0
        while done < tokens or name not in self._arrays.entries:
            block = raw[done : done + _CODED_AT_ONCE]
            self._arrays.append(encode_in_threads(codec, block))
            self._save()
            done += len(block)
            progress("coding", done, tokens)

    def _find_centroids(self, progress: Callable[[str, int, int], object]) -> None:
        """Adds the numbers of centroids to int8 codes."""
        dim, tokens = self._journal["dim"], self.tokens
        columns = {name: self._arrays.map(name) for name in Int8Codec(dim).columns}
        codec = Int8Codec(dim, map_array(self._directory, self._journal["parameters"]["centroids"]))
        name = "centroid_ids"
        done = self._arrays.entries[name]["shape"][0] if name in self._arrays.entries else 0
        while done < tokens or name not in self._arrays.entries:
            block = {name: column[done : done + _CODED_AT_ONCE] for name, column in columns.items()}
            self._arrays.append({name: nearest_in_threads(codec, block)})
            self._save()
            done += len(block["codes"])
            progress("coding", done, tokens)

    def _save(self, **changes: Any) -> None:  # noqa: ANN401
        self._journal |= changes | {"arrays": self._arrays.entries}
        replace_json(self._directory / self._folder / JOURNAL_FILE, self._journal)


def decide_coding(parts: Sequence[Builder]) -> Coding:
    """Decides how a collection is coded that is encoded in one build, or in several in their order.

    Args:
        parts: the builds, of the same settings; all documents are in.

    Raises:
        ValueError: their vectors have different dimensions.
    """
    settings, dims = parts[0].settings, sorted({part.dim for part in parts if part.dim is not None})
    if len(dims) > 1:
        raise ValueError(f"The shards hold vectors of {dims[0]} and {dims[1]} numbers; encode all with one checkpoint.")
    ends = np.cumsum([part.tokens for part in parts])
    tokens = int(ends[-1])
    compression = settings.compression
    if compression == "auto":
        compression = "int8" if tokens <= AUTO_INT8_TOKENS else "4bit"
    if compression == "float16" or (compression == "int8" and tokens < INT8_CENTROIDS_TOKENS):
        return Coding(compression, {})
    chosen = _sample(tokens, settings.sample_tokens, settings.seed)
    samples = (
        part.training_rows(_within(chosen, int(end) - part.tokens, int(end)), compression)
        for part, end in zip(parts, ends, strict=True)
    )
    sample = next(samples) if len(parts) == 1 else np.concatenate(list(samples))
    count = settings.n_centroids or default_centroids(tokens)
    if compression == "int8":
        return Coding(compression, {"centroids": cluster(sample, count, settings.seed).astype(np.float16)})
    rotation = random_rotation(sample.shape[1], settings.seed)
    for first in range(0, len(sample), _ROWS):  # in place: memory holds the sample once
        sample[first : first + _ROWS] = sample[first : first + _ROWS] @ rotation
    return Coding(compression, train_on_rotated(sample, rotation, compression, count, settings.seed).parameters())


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


def _within(chosen: np.ndarray | slice, first: int, end: int) -> np.ndarray | slice:
    """Of rows that were drawn of all, those of ``first`` to ``end``, numbered from ``first``; all where all are."""
    if isinstance(chosen, slice):
        return chosen
    low, high = np.searchsorted(chosen, [first, end])
    return chosen[low:high] - first


def _pieces(rows: np.ndarray, starts: np.ndarray) -> list[np.ndarray]:
    """Cuts rows where each piece starts."""
    return [rows[first:end] for first, end in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True)]


def first_difference(there: Mapping[str, Any], given: Mapping[str, Any]) -> str | None:
    """The first setting that two builds do not share, with both values; None where there is none."""
    for part in given:
        for name in {**there[part], **given[part]}:
            one, other = there[part].get(name), given[part].get(name)
            if one != other:
                return f"{name}={one!r}, not {other!r}"
    return None
