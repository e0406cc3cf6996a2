"""Building the files of an index: encode, train, compress, finish. An interrupted build resumes at any step.

A build fills a folder ``data-N`` in the index, whose ``journal.json`` records its state. Documents are written batch by
batch; a flush brings a batch to disk and then replaces the journal, so that rows beyond those that the journal names
are incomplete and are cut off on resuming. The index exists once ``pt_meta.json`` names the folder; until then, readers
see the previous index, or none.

Training looks at all documents; everything else looks at one document at a time. So a collection can be encoded in
several builds, of which :func:`~pyterrier_jacolbert.index.codecs.training.train_codec` draws the sample, and so gets
the codes, that a single build of all documents has.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pyterrier_jacolbert.index.checks import check_build
from pyterrier_jacolbert.index.codecs.registry import codec_of, encode_in_threads, nearest_in_threads
from pyterrier_jacolbert.index.codecs.scalar import Int8Codec, to_float32
from pyterrier_jacolbert.index.codecs.training import ROTATED_ROWS, TrainedCodec, keeps_vectors, train_codec
from pyterrier_jacolbert.index.encoded_batch import EncodedBatch
from pyterrier_jacolbert.index.journal import BuildSettings, Journal, check_document, first_difference
from pyterrier_jacolbert.index.limits import MAX_DOCUMENTS
from pyterrier_jacolbert.index.storage.arrays import ArraySet, map_array, write_array
from pyterrier_jacolbert.index.storage.atomic import replace_json
from pyterrier_jacolbert.index.storage.directory import JOURNAL_FILE, begin_folder
from pyterrier_jacolbert.index.storage.docnos import write_docno_tables
from pyterrier_jacolbert.index.storage.manifest import ArrayEntry, Manifest, ReadingSettings, Training

#: Token vectors that are compressed between two flushes of the journal.
_COMPRESSED_ROWS = 2**19

#: Called with a step, the amount of it that is done, and its whole amount.
Progress = Callable[[str, int, int], object]


class Builder:
    """A build in a folder, new or resumed.

    Args:
        directory: of the index.
        folder: folder within it that the build fills.
        settings: of the build.
        origin: everything else that decides the bytes, such as the checkpoint; must be equal on resuming.

    Raises:
        ValueError: the folder holds a build with other settings.
    """

    def __init__(self, directory: Path, folder: str, settings: BuildSettings, origin: Mapping[str, Any]) -> None:
        self._directory = directory
        self._folder = folder
        fresh = Journal(settings, dict(origin))
        journal = Journal.read(directory, folder)
        if journal is None:
            begin_folder(directory, folder, fresh.to_json())
            journal = fresh
        if difference := first_difference(journal.head(), fresh.head()):
            raise ValueError(
                f"The interrupted build in {directory} was started with {difference}; give the same settings to "
                "resume it, or start again with mode='overwrite'."
            )
        check_build(directory, folder, journal)
        self._journal = journal
        self._arrays = ArraySet(directory, folder, journal.arrays)

    @classmethod
    def resume(cls, directory: Path, folder: str) -> Builder:
        """Resumes the build in a folder, with the settings that it was started with.

        Raises:
            FileNotFoundError: there is no build.
        """
        journal = Journal.read(directory, folder)
        if journal is None:
            raise FileNotFoundError(f"There is no build in {directory / folder}; encode its documents first.")
        return cls(directory, folder, journal.settings, journal.origin)

    @property
    def path(self) -> Path:
        """Folder that the build fills."""
        return self._directory / self._folder

    @property
    def origin(self) -> dict[str, Any]:
        """Everything that decides the bytes besides the settings."""
        return dict(self._journal.origin)

    @property
    def settings(self) -> BuildSettings:
        """Settings of the build."""
        return self._journal.settings

    @property
    def model(self) -> Mapping[str, Any] | None:
        """Settings and fingerprint of the checkpoint that encoded the documents; None if it is not known."""
        return self._journal.model

    @property
    def dim(self) -> int | None:
        """Dimensions of a vector; None before the first document."""
        return self._journal.dim

    @property
    def tokens(self) -> int:
        """Number of token vectors on disk."""
        return self._arrays.last("starts")

    @property
    def documents(self) -> int:
        """Number of encoded documents on disk."""
        return self._journal.documents

    @property
    def encoded(self) -> bool:
        """Whether all documents are encoded."""
        return self._journal.encoded

    def close(self) -> None:
        """Closes the files. The build can be resumed."""
        self._arrays.close()

    def check(self, position: int, docno: str, digest: int) -> None:
        """Checks that a document is the one that was encoded at its position.

        Raises:
            ValueError: it is another document.
        """
        known = int(self._arrays.map("digests")[position])
        if known != digest:
            starts = self._arrays.map("docno_starts")
            there = self._arrays.map("docno_bytes")[starts[position] : starts[position + 1]].tobytes().decode("utf-8")
            check_document(position, docno, digest, (there, known), "the interrupted build")

    def add(self, batch: EncodedBatch, model: Mapping[str, Any] | None = None) -> None:
        """Writes a batch of documents and flushes it to disk.

        Args:
            batch: the documents.
            model: settings and fingerprint of the checkpoint that encoded them; None if no checkpoint did.

        Raises:
            ValueError: the vectors have other dimensions than those before, are not finite, or come from another
                checkpoint; or the index would hold too many documents.
        """
        batch.check(self.dim)
        if model is not None and self.model not in (None, model):
            raise ValueError(
                f"The build in {self._directory} was started with the checkpoint {self.model}, and the next documents "
                f"are encoded with {dict(model)}; continue with the former, or start again with mode='overwrite'."
            )
        if self.documents + len(batch.docnos) > MAX_DOCUMENTS:
            raise ValueError(f"An index holds at most {MAX_DOCUMENTS} documents; split the collection.")
        dim = batch.vectors[0].shape[1]
        compression = self.settings.compression
        codec = codec_of(compression, dim, {}) if compression in ("float16", "int8") else None
        ends = {name: self._arrays.last(name) for name in ("starts", "docno_starts", "text_starts")}
        self._arrays.append(batch.columns(codec, ends))
        self._save(documents=self.documents + len(batch.docnos), dim=dim, model=model or self.model)

    def as_batch(self) -> EncodedBatch:
        """Returns the documents of a build whose vectors are not compressed yet."""
        starts = self._arrays.map("starts")
        names, name_starts = self._arrays.map("docno_bytes"), self._arrays.map("docno_starts")
        texts = [self._arrays.map(name) for name in ("text_bytes", "text_starts") if name in self._arrays.entries]
        return EncodedBatch(
            [rows.tobytes().decode("utf-8") for rows in _split(names, name_starts)],
            self._arrays.map("digests").tolist(),
            _split(self._arrays.map("raw").astype(np.float32), starts),
            [rows.tobytes() for rows in _split(*texts)] if texts else (),
        )

    def stop(self) -> None:
        """Records that all documents are encoded. Vectors stay uncompressed until :meth:`finish`."""
        if not self.encoded:
            self._save(encoded=True)

    def finish(self, progress: Progress = lambda *_: None, codec: TrainedCodec | None = None) -> FinishedBuild:
        """Trains the codec and compresses the vectors, if the compression needs it, and writes the remaining files.

        Args:
            progress: called with a step, the amount of it that is done, and its whole amount.
            codec: of the whole collection; None trains one on these documents.

        Returns:
            What the manifest records of the build.
        """
        self.stop()
        if self._journal.compression is None:
            progress("training", 0, 1)
            codec = codec or train_codec([self], self.settings)
            parameters = {
                name: write_array(self._directory, f"{self._folder}/{name}", array)
                for name, array in codec.parameters.items()
            }
            self._save(compression=codec.compression, parameters=parameters, training=codec.training)
        compression = self._journal.compression
        assert compression is not None
        if "raw" in self._arrays.entries:
            self._compress(compression, progress)
        if compression == "int8" and self._journal.parameters:
            self._assign_centroids(progress)
        training = self._journal.training
        kept = training is not None and keeps_vectors(compression, training.tokens)
        # A small index keeps its vectors for when it grows.
        arrays = {name: entry for name, entry in self._arrays.entries.items() if name != "raw" or kept}
        tables = write_docno_tables(
            self._directory, f"{self._folder}/", self._arrays.map("docno_bytes"), self._arrays.map("docno_starts")
        )
        self.close()
        assert self.dim is not None
        parameters = dict(self._journal.parameters)
        files = {**arrays, **parameters, **tables}
        return FinishedBuild(
            compression, self.documents, self.tokens, self.dim, tuple(sorted(parameters)), files, self.model, training
        )

    def training_rows(self, rows: np.ndarray | slice, compression: str) -> np.ndarray:
        """Returns token vectors to train a compression on: float32 ``(n, dim)``, rotated for int8."""
        chosen = np.arange(self.tokens)[rows]
        assert self.dim is not None
        codec = Int8Codec(self.dim)
        found = np.empty((len(chosen), codec.dim), dtype=np.float32)
        for first in range(0, len(chosen), ROTATED_ROWS):
            part = chosen[first : first + ROTATED_ROWS]
            if "raw" not in self._arrays.entries:
                vectors = codec.rotated({name: self._arrays.map(name)[part] for name in codec.columns})
            else:
                raw = to_float32(self._arrays.map("raw")[part])
                vectors = codec.rotated(codec.encode(raw)) if compression == "int8" else raw
            found[first : first + len(part)] = vectors
        return found

    def _compress(self, compression: str, progress: Progress) -> None:
        """Compresses raw vectors; the centroids of int8 follow in :meth:`_assign_centroids`."""
        raw, tokens = self._arrays.map("raw"), self.tokens
        entries = {} if compression == "int8" else self._journal.parameters
        parameters = {name: map_array(self._directory, entry) for name, entry in entries.items()}
        assert self.dim is not None
        codec = codec_of(compression, self.dim, parameters)
        first_column = next(iter(codec.columns))
        done = self._rows_of(first_column)
        while done < tokens or first_column not in self._arrays.entries:
            rows = raw[done : done + _COMPRESSED_ROWS]
            self._arrays.append(encode_in_threads(codec, rows))
            self._save()
            done += len(rows)
            progress("compressing", done, tokens)

    def _assign_centroids(self, progress: Progress) -> None:
        """Appends the id of the nearest centroid of each int8 vector."""
        tokens = self.tokens
        assert self.dim is not None
        columns = {name: self._arrays.map(name) for name in Int8Codec(self.dim).columns}
        codec = Int8Codec(self.dim, map_array(self._directory, self._journal.parameters["centroids"]))
        name = "centroid_ids"
        done = self._rows_of(name)
        while done < tokens or name not in self._arrays.entries:
            rows = {column: values[done : done + _COMPRESSED_ROWS] for column, values in columns.items()}
            self._arrays.append({name: nearest_in_threads(codec, rows)})
            self._save()
            done += len(rows["codes"])
            progress("assigning centroids", done, tokens)

    def _rows_of(self, name: str) -> int:
        return self._arrays.entries[name].shape[0] if name in self._arrays.entries else 0

    def _save(self, **changes: Any) -> None:
        self._journal = dataclasses.replace(self._journal, **changes, arrays=dict(self._arrays.entries))
        replace_json(self._directory / self._folder / JOURNAL_FILE, self._journal.to_json())


@dataclass(frozen=True)
class FinishedBuild:
    """The part of a manifest that a build determines.

    :class:`~pyterrier_jacolbert.index.storage.manifest.Manifest` describes the attributes.
    """

    compression: str
    documents: int
    tokens: int
    dim: int
    parameters: tuple[str, ...]
    files: Mapping[str, ArrayEntry]
    model: Mapping[str, Any] | None
    training: Training | None

    def manifest(
        self, settings: ReadingSettings, *, generation: int, model: Mapping[str, Any] | None = None
    ) -> Manifest:
        """Returns the manifest of the index.

        Args:
            settings: how documents were read.
            generation: of the index.
            model: of the checkpoint; None takes the one that the build recorded.
        """
        content = {part.name: getattr(self, part.name) for part in dataclasses.fields(self)}
        return Manifest(**{**content, "model": model or self.model}, settings=settings, generation=generation)


def _split(rows: np.ndarray, starts: np.ndarray) -> list[np.ndarray]:
    return [rows[first:end] for first, end in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True)]
