"""Trains the codec of an index again while the collection grows, as a build of the whole collection would train it.

A small index with a residual codec keeps its vectors in float16, as ``raw``. Each append to it trains the codec on all
of them and compresses them again, so that the arrays are those of a single build of the same documents. A larger index
is trained again when it has outgrown what its codec was trained on; see
:func:`~pyterrier_jacolbert.index.codecs.training.has_outgrown`. Arrays of codes and parameters are then written to a
new folder, which replaces the old ones when the next manifest names it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from pyterrier_jacolbert.index.codecs.base import Codec
from pyterrier_jacolbert.index.codecs.registry import (
    codec_of,
    encode_in_threads,
    mean_squared_error,
    nearest_in_threads,
)
from pyterrier_jacolbert.index.codecs.scalar import Int8Codec, to_float32
from pyterrier_jacolbert.index.codecs.training import (
    ROTATED_ROWS,
    CodecSettings,
    TrainedCodec,
    has_outgrown,
    keeps_vectors,
    train_codec,
)
from pyterrier_jacolbert.index.reader import IndexReader
from pyterrier_jacolbert.index.storage.arrays import ArraySet, write_array
from pyterrier_jacolbert.index.storage.directory import new_folder
from pyterrier_jacolbert.index.storage.manifest import ArrayEntry, Training

#: Token vectors that are compressed at once.
_COMPRESSED_ROWS = 2**19


@dataclass(frozen=True)
class Codes:
    """The part of a manifest that describes the codes of an index.

    Attributes:
        parameters: names of the files with the parameters of the codec.
        files: entries of columns, parameters and kept vectors by name.
        training: of the codec.
    """

    parameters: tuple[str, ...]
    files: Mapping[str, ArrayEntry]
    training: Training


def appended_codec(reader: IndexReader) -> Codec | None:
    """Returns the codec that compresses appended vectors at once; None keeps them, and :func:`update_codes` does it."""
    if reader.manifest.training is None:
        return reader.codec
    return Int8Codec(reader.codec.dim) if reader.manifest.compression == "int8" else None


def update_codes(directory: Path, reader: IndexReader, arrays: ArraySet) -> Codes:
    """Compresses the vectors that were appended to an index, after training its codec again if it was outgrown.

    Args:
        directory: of the index.
        reader: of the index before the documents were appended; its manifest records the training.
        arrays: of the index, longer by the appended documents, with the codec of :func:`appended_codec`.

    Returns:
        What the next manifest records of the codes.
    """
    if reader.manifest.compression == "int8":
        return _update_centroids(directory, reader, arrays)
    return _update_residuals(directory, reader, arrays)


def train_shards_again(readers: Sequence[IndexReader], number: int, training: Training) -> TrainedCodec:
    """Trains the common codec of shards again if they have outgrown it.

    Shards with a residual codec that do not keep their vectors have the same codec for ever.

    Args:
        readers: of all shards, in order.
        number: of the shard that was added, from 0.
        training: of the codec.

    Returns:
        The new codec, or the one of the shards; the training tells the error of all vectors now.
    """
    compression, dim, added = readers[0].manifest.compression, readers[0].manifest.dim, readers[number]
    tokens = sum(reader.manifest.tokens for reader in readers)
    kept = compression == "int8" or all(reader.raw is not None for reader in readers)
    error_now = training.error_now
    if added.raw is not None and tokens:
        own = added.manifest.tokens
        error_now = (error_now * (tokens - own) + mean_squared_error(added.codec, added.raw) * own) / tokens
    if added.manifest.tokens and kept and has_outgrown(training, compression, tokens, error_now, kept=True):
        sources = [
            _Int8Codes(Int8Codec(dim), reader.columns)
            if reader.raw is None
            else _Vectors(reader, reader.raw, reader.manifest.tokens)
            for reader in readers
        ]
        return train_codec(sources, _settings(training, compression))
    return TrainedCodec(compression, readers[0].parameters, replace(training, error_now=_significant(error_now)))


def copy_with_codec(reader: IndexReader, directory: Path, folder: str, codec: TrainedCodec) -> Codes:
    """Copies the files of an index whose codec was trained again, and compresses its vectors with the new codec.

    Args:
        reader: of the index, which keeps its vectors, or has the compression int8.
        directory: of the copy.
        folder: new folder within it.
        codec: of the same compression.

    Returns:
        What the manifest of the copy records; ``files`` names all of its files.
    """
    manifest, training = reader.manifest, codec.training
    assert training is not None
    arrays = ArraySet(directory, folder, {})
    new_codec = codec_of(manifest.compression, manifest.dim, codec.parameters)
    with contextlib.closing(arrays):
        for row in range(0, max(1, manifest.tokens), _COMPRESSED_ROWS):  # once even without vectors: creates the files
            rows = slice(row, row + _COMPRESSED_ROWS)
            if isinstance(new_codec, Int8Codec):
                columns = {name: reader.columns[name][rows] for name in Int8Codec(manifest.dim).columns}
                arrays.append({**columns, "centroid_ids": nearest_in_threads(new_codec, columns)})
            else:
                assert reader.raw is not None
                raw = _Vectors(reader, reader.raw, manifest.tokens).rows(rows)
                arrays.append({"raw": raw, **encode_in_threads(new_codec, raw)})
    dropped = {*arrays.entries, *reader.columns, *manifest.parameters}
    files = {
        name: write_array(directory, f"{folder}/{entry.file.partition('/')[2]}", reader.arrays[name])
        for name, entry in manifest.files.items()
        if name not in dropped
    }
    parameters = {name: write_array(directory, f"{folder}/{name}", array) for name, array in codec.parameters.items()}
    codes = {name: entry for name, entry in arrays.entries.items() if name != "raw"}
    kept = {"raw": arrays.entries["raw"]} if keeps_vectors(manifest.compression, training.tokens) else {}
    return Codes(tuple(sorted(parameters)), {**files, **codes, **parameters, **kept}, training)


def _update_residuals(directory: Path, reader: IndexReader, arrays: ArraySet) -> Codes:
    """Compresses the appended vectors, or all vectors with a new codec if the collection has outgrown the old one."""
    manifest, training = reader.manifest, reader.manifest.training
    assert training is not None
    tokens, appended = arrays.last("starts"), arrays.last("starts") - manifest.tokens
    vectors = _Vectors(reader, arrays.map("raw"), tokens)
    codec, first = reader.codec, manifest.tokens
    columns = ArraySet(directory, "", {name: manifest.files[name] for name in codec.columns})  # in their files
    parameters = {name: manifest.files[name] for name in manifest.parameters}
    if appended:
        error = mean_squared_error(codec, arrays.map("raw")[-appended:])
        error_now = _significant((training.error_now * manifest.tokens + error * appended) / tokens)
        trained = None
        if has_outgrown(training, manifest.compression, tokens, error_now, kept=vectors.kept):
            trained = _train_better(vectors, training, error_now)
            # Otherwise the next attempt waits until the error has grown again.
            training = replace(training, error=error_now) if trained is None else trained.training or training
        if trained is None:
            training = replace(training, error_now=error_now)
        else:
            codec, first = codec_of(manifest.compression, manifest.dim, trained.parameters), 0
            folder = new_folder(directory, manifest)
            columns = ArraySet(directory, folder, {})
            parameters = {
                name: write_array(directory, f"{folder}/{name}", array) for name, array in trained.parameters.items()
            }
    with contextlib.closing(columns):
        for row in range(first, tokens, _COMPRESSED_ROWS):
            columns.append(encode_in_threads(codec, vectors.rows(slice(row, row + _COMPRESSED_ROWS))))
    kept = {"raw": arrays.entries["raw"]} if vectors.kept and keeps_vectors(manifest.compression, tokens) else {}
    return Codes(tuple(sorted(parameters)), {**columns.entries, **parameters, **kept}, training)


def _train_better(vectors: _Vectors, training: Training, error_now: float) -> TrainedCodec | None:
    """Trains a codec on all vectors; returns None if compressing them again would lose more than it gains."""
    compression = vectors.reader.manifest.compression
    trained = train_codec([vectors], _settings(training, compression))
    assert trained.training is not None
    if vectors.kept:
        return trained
    # Vectors that were decompressed have the error of the old codec already.
    error = trained.training.error + training.error_now * vectors.reader.manifest.tokens / vectors.tokens
    if error >= error_now:
        return None
    return replace(trained, training=replace(trained.training, error_now=_significant(error)))


def _update_centroids(directory: Path, reader: IndexReader, arrays: ArraySet) -> Codes:
    """Assigns the nearest centroids to the appended codes of an int8 index, if it has centroids or now needs some."""
    manifest, training = reader.manifest, reader.manifest.training
    assert training is not None
    tokens = arrays.last("starts")
    plain = Int8Codec(manifest.dim)
    files = {name: arrays.entries[name] for name in plain.columns}
    columns = {name: arrays.map(name) for name in plain.columns}
    first = manifest.tokens
    if has_outgrown(training, manifest.compression, tokens, 0.0, kept=True):
        trained = train_codec([_Int8Codes(plain, columns)], _settings(training, manifest.compression))
        centroids = trained.parameters["centroids"]
        folder = new_folder(directory, manifest)
        files["centroids"] = write_array(directory, f"{folder}/centroids", centroids)
        ids, first = ArraySet(directory, folder, {}), 0
        assert trained.training is not None
        training = trained.training
    elif "centroids" in manifest.files:
        centroids = reader.parameters["centroids"]
        files["centroids"] = manifest.files["centroids"]
        ids = ArraySet(directory, "", {"centroid_ids": manifest.files["centroid_ids"]})
    else:
        return Codes((), files, training)
    codec = Int8Codec(manifest.dim, centroids)
    with contextlib.closing(ids):
        for row in range(first, tokens, _COMPRESSED_ROWS):
            rows = {name: column[row : row + _COMPRESSED_ROWS] for name, column in columns.items()}
            ids.append({"centroid_ids": nearest_in_threads(codec, rows)})
    return Codes(("centroids",), {**files, **ids.entries}, training)


def _significant(error: float) -> float:
    """Returns an error with the digits that :func:`mean_squared_error` has."""
    return float(f"{error:.4g}")


def _settings(training: Training, compression: str) -> CodecSettings:
    return CodecSettings(compression, training.n_centroids, training.sample_tokens, training.seed)


@dataclass(frozen=True)
class _Vectors:
    """The vectors of an index and those that were appended to it; see :class:`TrainingSource`.

    Attributes:
        reader: of the index before; decompresses its vectors if it does not keep them.
        raw: float16 ``(n, dim)``: the last vectors, at least those that were appended.
        tokens: number of all vectors.
    """

    reader: IndexReader
    raw: np.ndarray
    tokens: int

    @property
    def dim(self) -> int:
        return self.reader.manifest.dim

    @property
    def kept(self) -> bool:
        """Whether none of the vectors has to be decompressed."""
        return len(self.raw) == self.tokens

    def rows(self, rows: slice | np.ndarray) -> np.ndarray:
        """Returns vectors: float16 ``(n, dim)``."""
        chosen = np.arange(self.tokens)[rows]
        decoded = np.searchsorted(chosen, self.tokens - len(self.raw))  # rows ascend
        recent = self.raw[chosen[decoded:] - (self.tokens - len(self.raw))]
        if decoded:
            recent = np.concatenate([self.reader.decode(chosen[:decoded]).astype(np.float16), recent])
        if not np.isfinite(recent).all():
            raise ValueError("The index stores NaN or infinity, so it is damaged; build or fetch it again.")
        return recent

    def training_rows(self, rows: np.ndarray | slice, compression: str) -> np.ndarray:
        chosen = np.arange(self.tokens)[rows]
        found = np.empty((len(chosen), self.dim), dtype=np.float32)
        for first in range(0, len(chosen), ROTATED_ROWS):
            found[first : first + ROTATED_ROWS] = to_float32(self.rows(chosen[first : first + ROTATED_ROWS]))
        return found


@dataclass(frozen=True)
class _Int8Codes:
    """The codes of all vectors of an int8 index; see :class:`TrainingSource`."""

    codec: Int8Codec
    columns: Mapping[str, np.ndarray]

    @property
    def dim(self) -> int:
        return self.codec.dim

    @property
    def tokens(self) -> int:
        return len(self.columns["codes"])

    def training_rows(self, rows: np.ndarray | slice, compression: str) -> np.ndarray:
        chosen = np.arange(self.tokens)[rows]
        found = np.empty((len(chosen), self.dim), dtype=np.float32)
        for first in range(0, len(chosen), ROTATED_ROWS):
            part = chosen[first : first + ROTATED_ROWS]
            found[first : first + len(part)] = self.codec.rotated({name: c[part] for name, c in self.columns.items()})
        return found
