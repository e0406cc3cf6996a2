"""The door to an index: JaColBERTIndex opens one, changes it, and makes retrievers and scorers; JaColBERTIndexer builds."""

from __future__ import annotations

import hashlib
import itertools
import math
import shutil
import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyterrier as pt
from tqdm.auto import tqdm

from pyterrier_jacolbert.directory_artifact import DirectoryArtifact
from pyterrier_jacolbert.documents import Document, read_documents
from pyterrier_jacolbert.frames import DOC_EMBS, DOCNO
from pyterrier_jacolbert.index.limits import check_compression
from pyterrier_jacolbert.index.manifest import (
    MODES,
    check_mode,
    interrupted_build,
    next_folder,
    publish,
    remove_if_empty,
    sweep,
    writing,
)
from pyterrier_jacolbert.model import DEFAULT_CHECKPOINT, JaColBERT
from pyterrier_jacolbert.transformer import describe

if TYPE_CHECKING:
    from sentence_transformers import MultiVectorEncoder

    from pyterrier_jacolbert.index.docnos import Docnos
    from pyterrier_jacolbert.index.build import Shard
    from pyterrier_jacolbert.index.stored import Stored
    from pyterrier_jacolbert.pipeline.retrievers import ExactRetriever
    from pyterrier_jacolbert.pipeline.scorers import IndexScorer

#: Documents read, encoded and written at a time; their vectors in float32 are the build's memory (about 250 MiB for
#: documents of 120 tokens of 128 numbers).
_BLOCK_DOCUMENTS = 4096


class JaColBERTIndex(DirectoryArtifact):
    """Token vectors of a collection on disk, and the retrievers and scorers that read them.

    Opening is cheap: files are memory-mapped when first read, and the checkpoint is loaded only when a query has to be
    encoded (frames that carry ``query_embs`` need none).

    Args:
        path: the directory; None makes a temporary one to build in, which lives as long as this object.
        model: encodes the queries (and the documents, in :meth:`index`): a :class:`JaColBERT`, a checkpoint's folder
            or name, or a ``MultiVectorEncoder``. None takes the checkpoint that the index records.

    Example:
        >>> index = JaColBERTIndex("wiki.jacolbert")  # doctest: +SKIP
        >>> (index.retriever() % 10).search("日本で一番高い山は？")  # doctest: +SKIP
    """

    ARTIFACT_TYPE = "multivec_index"
    ARTIFACT_FORMAT = "jacolbert"

    def __init__(
        self, path: str | Path | None = None, model: JaColBERT | str | MultiVectorEncoder | None = None
    ) -> None:
        super().__init__(path)
        self._model = None if model is None else as_model(model)
        self._recorded_model: JaColBERT | None = None
        self._open: Stored | None = None

    @property
    def model(self) -> JaColBERT:
        """The checkpoint that encodes queries.

        Raises:
            ValueError: none was given, and the index was built with a model object, which no file names.
        """
        if self._model is not None:
            return self._model
        if self._recorded_model is None:
            settings = {**(self.meta()["model"] or {})}
            settings.pop("fingerprint", None)
            if settings.get("model") is None:
                raise ValueError(
                    f"{self!r} was built without a named checkpoint, so it cannot encode queries by itself; open it "
                    "with JaColBERTIndex(path, model=...), or give frames with query_embs."
                )
            self._recorded_model = JaColBERT(**settings)
        return self._recorded_model

    def encode_queries(self, texts: list[str]) -> list[np.ndarray]:
        """Token vectors of queries, by the checkpoint of the index: for each float32 ``(n_positions, dim)``.

        Warns where the checkpoint is not the one that encoded the documents.

        Raises:
            ValueError: its vectors have another dimension than the stored ones.
        """
        meta = self.meta()
        if self.model.dim != meta["dim"]:
            raise ValueError(
                f"{self.model!r} makes vectors of {self.model.dim} numbers and {self!r} stores {meta['dim']}; "
                "open the index with the checkpoint it was built with."
            )
        recorded = (meta["model"] or {}).get("fingerprint")
        if recorded is not None and recorded != self.model.fingerprint:
            warnings.warn(
                f"{self!r} was built with other weights than those of {self.model!r}, so its scores mean nothing; "
                "open it with the checkpoint it was built with.",
                stacklevel=2,
            )
        return self.model.encode_queries(texts)

    def retriever(self, *, num_results: int = 1000) -> ExactRetriever:
        """A retriever that scores every document of the index.

        Args:
            num_results: the most documents a query gets.
        """
        from pyterrier_jacolbert.pipeline.retrievers import ExactRetriever

        return ExactRetriever(self, num_results=num_results)

    def scorer(self) -> IndexScorer:
        """A re-ranker that scores the documents of a frame with the stored vectors."""
        from pyterrier_jacolbert.pipeline.scorers import IndexScorer

        return IndexScorer(self)

    def index(  # type: ignore[override] # PyTerrier calls it with the documents alone
        self, docs: Iterable[Mapping[str, Any]] | pd.DataFrame, *, mode: str = "create", **settings: Any
    ) -> JaColBERTIndex:
        """Builds the index at this path; see :class:`JaColBERTIndexer`, whose settings it takes."""
        model = self._model if self._model is not None else DEFAULT_CHECKPOINT
        JaColBERTIndexer(self.path, model, mode=mode, **settings).index(docs)
        self._open = None
        return self

    def append(self, docs: Iterable[Mapping[str, Any]] | pd.DataFrame, *, verbose: bool = False) -> JaColBERTIndex:
        """Adds documents, encoded and compressed as those there are. Until all are in, readers see the index as it was.

        Args:
            docs: as :meth:`JaColBERTIndexer.index` takes them, with docnos that the index does not have.
            verbose: whether to show a progress bar.

        Raises:
            ValueError: a docno that the index has already, or a document that cannot be indexed.
            RuntimeError: another process is writing to the index.
        """
        meta = self.meta()
        fields = {name: meta["settings"][name] for name in ("text_field", "title_field")}
        JaColBERTIndexer(self.path, self.model, mode="append", verbose=verbose, **fields).index(docs)
        self._open = None
        return self

    def delete(self, docnos: Sequence[str]) -> JaColBERTIndex:
        """Deletes documents: no transformer of this object finds or scores them any more, nor does a later open.

        Their vectors stay in the files until :meth:`compact`. Objects that have the index open keep what they see.

        Raises:
            ValueError: the index does not have one of them; nothing is deleted then.
            RuntimeError: another process is writing to the index.
        """
        from pyterrier_jacolbert.index.change import delete

        with writing(self.path):
            delete(self.path, self.meta(), docnos, repr(self))
        self._open = None
        return self

    def compact(self) -> JaColBERTIndex:
        """Rewrites the files without the deleted documents; docids move up, docnos and rankings stay.

        Raises:
            RuntimeError: another process is writing to the index.
        """
        from pyterrier_jacolbert.index.change import compact

        with writing(self.path):
            compact(self.path, self.meta())
        self._open = None
        return self

    @classmethod
    def merge(cls, paths: Sequence[str | Path], out: str | Path) -> JaColBERTIndex:
        """Makes one index of several, in their order, without their deleted documents.

        Vectors are copied as they are coded. Residual codes of indexes that were trained apart have different
        centroids: those are decoded, and coded anew around centroids of all.

        Args:
            paths: of indexes of one compression, one dimension and one checkpoint.
            out: where the new index goes; must not exist.

        Raises:
            FileExistsError: ``out`` exists.
            ValueError: the indexes do not fit together, or a docno is in two of them.
        """
        from pyterrier_jacolbert.index.change import merge

        indexes = [cls(path) for path in paths]
        metas = [index.meta() for index in indexes]
        for index, meta in zip(indexes, metas, strict=True):
            for name in ("compression", "dim", "model", "settings"):
                if meta[name] != metas[0][name]:
                    raise ValueError(
                        f"{index!r} has {name}={meta[name]!r} and {indexes[0]!r} has {metas[0][name]!r}; merge indexes "
                        "that were built alike."
                    )
        parts = [index.token_vectors() for index in indexes]
        _check_distinct(indexes)
        merged = cls(out)
        first = parts[0].parameters
        if all(np.array_equal(part.parameters[name], first[name]) for part in parts[1:] for name in first):
            with writing(merged.path):
                check_mode("create", merged.path, None, interrupted_build(merged.path, None))
                meta = {**metas[0], **merge(parts, merged.path, next_folder(None))}
                meta["files"].pop("deleted", None)
                publish(merged.path, meta)
            return merged
        documents = itertools.chain.from_iterable(map(_decoded, indexes))
        settings = {**metas[0]["settings"], "compression": metas[0]["compression"]}
        return JaColBERTIndexer(out, **settings)._index(documents, recorded=metas[0]["model"])

    def stats(self) -> dict[str, Any]:
        """Documents, deleted documents, tokens, dim, compression, bytes per token by file and in all, and settings."""
        meta = self.meta()
        sizes = {name: math.prod(e["shape"]) * np.dtype(e["dtype"]).itemsize for name, e in meta["files"].items()}
        tokens = max(1, meta["tokens"])
        return {
            "documents": len(self),
            "deleted": meta["documents"] - len(self),
            "tokens": meta["tokens"],
            "dim": meta["dim"],
            "compression": meta["compression"],
            "bytes_per_token": sum(file.stat().st_size for file in self.path.rglob("*") if file.is_file()) / tokens,
            "bytes_per_token_by_file": {name: size / tokens for name, size in sizes.items()},
            "model": meta["model"],
            "settings": meta["settings"],
        }

    def index_inputs(self) -> list[list[str]]:
        """The columns that :meth:`index` takes."""
        return [[DOCNO, "text"], [DOCNO, DOC_EMBS]]

    def __len__(self) -> int:
        meta = self.meta()
        return int(meta["documents"] - meta["files"].get("deleted", {"shape": [0]})["shape"][0])

    def docnos(self) -> Docnos:
        """The docnos, by docid: a sequence over mapped files, with look-ups both ways."""
        return self._files().docnos

    def token_vectors(self) -> Stored:
        """The stored vectors by docid, decoded when they are asked for."""
        return self._files()

    def _files(self) -> Stored:
        if self._open is None:
            from pyterrier_jacolbert.index.stored import Stored

            meta = self.meta()
            try:
                self._open = Stored(self.path, meta)
            except ValueError:
                # A writer may have replaced the files between the manifest and their opening.
                if (newer := self.meta()) == meta:
                    raise
                self._open = Stored(self.path, newer)
        return self._open

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_open": None}

    def __eq__(self, other: object) -> bool:
        return super().__eq__(other) and self._model == other._model  # type: ignore[attr-defined]

    __hash__ = DirectoryArtifact.__hash__


class JaColBERTIndexer(pt.Indexer):
    """Encodes documents and writes a :class:`JaColBERTIndex`, in one pass over any iterable.

    The index appears at the path when it is complete, and not before. A build that is interrupted, by whatever, goes on
    with ``mode="resume"`` and the same documents, which are not encoded again, and ends with the same bytes. A document
    without text is indexed, and never retrieved. Documents that carry ``doc_embs`` (from ``model.doc_encoder()``, say)
    are stored without encoding.

    Memory: some 250 MiB for a block of documents, ``sample_tokens`` vectors twice in float32 where a residual codec is
    trained, and about 150 bytes a document for docnos.

    Args:
        path: the directory; None makes a temporary one, which lives as long as the returned index.
        model: a :class:`JaColBERT`, a checkpoint's folder or name, or a ``MultiVectorEncoder``.
        text_field: the field with the text.
        title_field: a field put before the text, with a space between, where it is not empty.
        mode: ``"create"`` refuses a path that exists; ``"overwrite"`` replaces an index, which stays readable until the
            new one is complete; ``"resume"`` goes on with an interrupted build, begins where there is none, and returns
            a finished index as it is; ``"append"`` adds to an index.
        compression: ``"float16"``, ``"int8"``, ``"4bit"``, ``"2bit"`` or ``"1bit"``, fixed for the life of the index;
            ``"auto"`` takes int8 up to 20 million tokens and 4 bits beyond.
        n_centroids: of a residual codec; None chooses by the number of tokens.
        sample_tokens: the most token vectors that a residual codec is trained on.
        store_text: whether to keep the documents' text, for ``text_loader()``.
        verbose: whether to show progress bars.

    Raises:
        ValueError: a setting that is none of the above.

    Example:
        >>> index = JaColBERTIndexer("wiki.jacolbert").index(docs)  # doctest: +SKIP
    """

    schematic: dict[str, Any] = {"help_url": None}

    def __init__(
        self,
        path: str | Path | None = None,
        model: JaColBERT | str | MultiVectorEncoder = DEFAULT_CHECKPOINT,
        *,
        text_field: str = "text",
        title_field: str | None = None,
        mode: str = "create",
        compression: str = "auto",
        n_centroids: int | None = None,
        sample_tokens: int = 2**19,
        store_text: bool = False,
        verbose: bool = False,
    ) -> None:
        if mode not in MODES:
            raise ValueError(f"mode must be one of {', '.join(map(repr, MODES))}, not {mode!r}.")
        check_compression(compression, "auto")
        self.path = path
        self.model = as_model(model)
        self.text_field = text_field
        self.title_field = title_field
        self.mode = mode
        self.compression = compression
        self.n_centroids = n_centroids
        self.sample_tokens = sample_tokens
        self.store_text = store_text
        self.verbose = verbose

    def index(  # type: ignore[override] # PyTerrier calls it with the documents alone
        self, docs: Iterable[Mapping[str, Any]] | pd.DataFrame
    ) -> JaColBERTIndex:
        """Builds the index.

        Args:
            docs: dicts (any iterable or generator) or a frame, with ``docno`` and the text field or ``doc_embs``.

        Returns:
            The index, with the model that built it.

        Raises:
            FileExistsError: the path exists, and ``mode`` does not allow what is there.
            pt.validate.InputValidationError: a document lacks a field (a KeyError).
            ValueError: a document that cannot be indexed, or that is not the one of the interrupted build, named with
                its position; or no documents at all.
            RuntimeError: another process is writing to the index.
        """
        return self._index(docs)

    def _index(
        self, docs: Iterable[Mapping[str, Any]] | pd.DataFrame, recorded: dict[str, Any] | None = None
    ) -> JaColBERTIndex:
        index = JaColBERTIndex(self.path, self.model)
        documents = read_documents(
            docs, text_field=self.text_field, title_field=self.title_field, vectors_field=DOC_EMBS
        )
        with writing(index.path):
            meta = index.meta() if index.built() else None
            begun = interrupted_build(index.path, meta)
            check_mode(self.mode, index.path, meta, begun)
            sweep(index.path, meta)
            if self.mode == "append" and meta is not None:
                self._append(index, meta, documents)
            elif self.mode != "resume" or begun or meta is None:
                if begun and self.mode != "resume":
                    shutil.rmtree(index.path / begun)
                    begun = None
                self._build(index, begun or next_folder(meta), documents, recorded)
        return index

    def index_inputs(self) -> list[list[str]]:
        """The columns that :meth:`index` takes."""
        fields = [field for field in (self.title_field, self.text_field) if field]
        return [[DOCNO, *fields], [DOCNO, DOC_EMBS]]

    def _build(
        self, index: JaColBERTIndex, folder: str, documents: Iterator[Document], recorded: dict[str, Any] | None
    ) -> None:
        from pyterrier_jacolbert.index.build import Builder, Settings

        settings = Settings(self.compression, self.n_centroids, self.sample_tokens, self.store_text)
        builder = Builder(index.path, folder, settings, self._origin())
        try:
            with tqdm(desc="indexing", unit=" documents", disable=not self.verbose) as bar:
                position = 0
                for block in _blocks(documents):
                    known = block[: max(0, builder.documents - position)]
                    for number, document in enumerate(known, start=position):
                        builder.check(number, document.docno, _digest(document))
                    bar.update(len(known))
                    if len(known) < len(block):
                        builder.add(self._shard(block[len(known) :], bar))
                    position += len(block)
            if position < builder.documents:
                raise ValueError(
                    f"There are {position} documents, and the interrupted build in {index.path} found more "
                    f"({builder.documents}); give the same documents, or begin anew with mode='overwrite'."
                )
            with tqdm(desc="coding", unit=" tokens", disable=not self.verbose) as bar:
                facts = builder.finish(_shown_in(bar))
        except BaseException as error:
            builder.close()
            if builder.documents:
                error.add_note(
                    f"{builder.documents} documents are done in {index.path}; mode='resume' goes on from there."
                )
            else:
                shutil.rmtree(index.path / folder, ignore_errors=True)
                remove_if_empty(index.path)
            raise
        # A model that never encoded says nothing of vectors that the documents brought along.
        if self.model.loaded:
            recorded = self.model.settings()
        publish(index.path, index.new_meta(model=recorded, settings=self._settings(), **facts))

    def _append(self, index: JaColBERTIndex, meta: dict[str, Any], documents: Iterator[Document]) -> None:
        from pyterrier_jacolbert.index.change import Appender

        known = index.docnos()
        appender = Appender(index.path, meta)
        try:
            with tqdm(desc="appending", unit=" documents", disable=not self.verbose) as bar:
                for block in _blocks(documents):
                    there = known.docids([document.docno for document in block])
                    for document, docid in zip(block, there.tolist(), strict=True):
                        if docid >= 0:
                            raise ValueError(
                                f"{index!r} has a document {document.docno!r} already; delete it first, or leave it out."
                            )
                    appender.add(self._shard(block, bar))
            appender.finish()
        finally:
            appender.close()

    def _shard(self, block: list[Document], bar: tqdm) -> Shard:
        from pyterrier_jacolbert.index.build import Shard

        return Shard(
            [document.docno for document in block],
            [_digest(document) for document in block],
            self._vectors(block, bar),
            [zlib.compress(document.text.encode("utf-8")) for document in block] if self.store_text else (),
        )

    def _settings(self) -> dict[str, Any]:
        return {"text_field": self.text_field, "title_field": self.title_field, "store_text": self.store_text}

    def _origin(self) -> dict[str, Any]:
        model = self.model
        named = model.model if isinstance(model.model, str) else None
        length = model.max_document_length
        return {**self._settings(), "model": named, "revision": model.revision, "max_document_length": length}

    def _vectors(self, block: list[Document], bar: tqdm) -> Sequence[np.ndarray]:
        """The token vectors of documents: those that they carry, and the encoded text of the rest."""
        vectors: list[Any] = [document.fields.get(DOC_EMBS) for document in block]
        plain = [number for number, rows in enumerate(vectors) if rows is None]
        if plain:
            encoded = self.model.encode_documents([block[number].text for number in plain], bar.update)
            for number, rows in zip(plain, encoded, strict=True):
                vectors[number] = rows
        bar.update(len(block) - len(plain))
        return [np.asarray(rows, dtype=np.float32) for rows in vectors]

    def __repr__(self) -> str:
        return describe(self)


def as_model(model: JaColBERT | str | MultiVectorEncoder) -> JaColBERT:
    """A :class:`JaColBERT` of whatever names or is one."""
    return model if isinstance(model, JaColBERT) else JaColBERT(model)


def _blocks(documents: Iterator[Document]) -> Iterator[list[Document]]:
    while block := list(itertools.islice(documents, _BLOCK_DOCUMENTS)):
        yield block


def _check_distinct(indexes: Sequence[JaColBERTIndex]) -> None:
    """Refuses a docno that two indexes have."""
    for number, index in enumerate(indexes):
        stored = index.token_vectors()
        for block in np.array_split(np.arange(len(stored)), max(1, len(stored) // _BLOCK_DOCUMENTS)):
            docnos = [stored.docnos[docid] for docid in np.setdiff1d(block, stored.deleted)]
            for other in indexes[:number]:
                there = other.docnos().docids(docnos)
                if (there >= 0).any():
                    twice = docnos[int(np.argmax(there >= 0))]
                    raise ValueError(f"{other!r} and {index!r} both have a document {twice!r}; delete it in one of them.")


def _decoded(index: JaColBERTIndex) -> Iterator[dict[str, Any]]:
    """The documents of an index as an indexer takes them, with their vectors."""
    stored = index.token_vectors()
    for docid in np.setdiff1d(np.arange(len(stored)), stored.deleted).tolist():
        yield {DOCNO: stored.docnos[docid], DOC_EMBS: stored.rows(docid, docid + 1)}


def _digest(document: Document) -> int:
    """64 bits of what a document is: its docno, and its text or its vectors."""
    digest = hashlib.blake2b(digest_size=8)
    for part in (document.docno.encode("utf-8"), document.text.encode("utf-8")):
        digest.update(len(part).to_bytes(8, "little") + part)
    if DOC_EMBS in document.fields:
        digest.update(np.ascontiguousarray(document.fields[DOC_EMBS], dtype=np.float32).tobytes())
    return int.from_bytes(digest.digest(), "little")


def _shown_in(bar: tqdm) -> Callable[[str, int, int], object]:
    def show(what: str, done: int, total: int) -> None:
        bar.set_description(what)
        bar.total = total
        bar.update(done - bar.n)

    return show
