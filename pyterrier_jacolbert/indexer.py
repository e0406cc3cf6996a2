"""JaColBERTIndexer: documents in, an index out, in one pass that goes on where it was interrupted."""

from __future__ import annotations

import hashlib
import shutil
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyterrier as pt
from tqdm.auto import tqdm

from pyterrier_jacolbert.artifact import JaColBERTIndex
from pyterrier_jacolbert.batches import batched
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
from pyterrier_jacolbert.model import DEFAULT_CHECKPOINT, JaColBERT, as_model
from pyterrier_jacolbert.transformer import describe

if TYPE_CHECKING:
    from sentence_transformers import MultiVectorEncoder

    from pyterrier_jacolbert.executors import Executor
    from pyterrier_jacolbert.index.build import Builder, Settings
    from pyterrier_jacolbert.index.rows import Shard
    from pyterrier_jacolbert.sharded import ShardedIndex


class JaColBERTIndexer(pt.Indexer):
    """Encodes documents and writes a :class:`JaColBERTIndex`, in one pass over any iterable.

    The index appears at the path when it is complete, and not before. A build that is interrupted, by whatever, goes on
    with ``mode="resume"`` and the same documents, which are not encoded again, and ends with the same bytes. A document
    without text is indexed, and never retrieved. Documents that carry ``doc_embs`` (from ``model.doc_encoder()``, say)
    are stored without encoding.

    Memory: the vectors of ``shard_documents`` documents (some 250 MiB for documents of 120 tokens of 128 numbers),
    ``sample_tokens`` vectors twice in float32 where a residual codec is trained, and about 150 bytes a document for
    docnos.

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
        shard_documents: documents that are encoded and brought to the disk together; what a killed build loses, and
            most of its memory.
        pool_factor: replaces the vectors of a document by so many times fewer, the means of clusters of like ones
            (Clavié et al., arXiv 2409.14683; Sentence Transformers' ``HierarchicalTokenPooling``); None keeps all.
        store_text: whether to keep the documents' text, title first, for ``text_loader()``.
        executor: None makes one index in this process; a :class:`~pyterrier_jacolbert.distributed.RayExecutor` makes a
            :class:`ShardedIndex` on a cluster, and a :class:`~pyterrier_jacolbert.shard_build.SerialExecutor` makes the
            same here.
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
        shard_documents: int = 2048,
        pool_factor: float | None = None,
        store_text: bool = False,
        executor: Executor | None = None,
        verbose: bool = False,
    ) -> None:
        if mode not in MODES:
            raise ValueError(f"mode must be one of {', '.join(map(repr, MODES))}, not {mode!r}.")
        check_compression(compression, "auto")
        for name, number in (
            ("n_centroids", n_centroids),
            ("sample_tokens", sample_tokens),
            ("shard_documents", shard_documents),
        ):
            if number is not None and (not isinstance(number, int) or number < 1):
                raise ValueError(f"{name} must be a positive integer, not {number!r}.")
        if pool_factor is not None and not pool_factor >= 1:
            raise ValueError(f"pool_factor must be 1 or more, or None, not {pool_factor!r}.")
        self.path = path
        self.model = as_model(model)
        self.text_field = text_field
        self.title_field = title_field
        self.mode = mode
        self.compression = compression
        self.n_centroids = n_centroids
        self.sample_tokens = sample_tokens
        self.shard_documents = shard_documents
        self.pool_factor = pool_factor
        self.store_text = store_text
        self.executor = executor
        self.verbose = verbose

    def index(  # type: ignore[override] # PyTerrier calls it with the documents alone
        self, docs: Iterable[Mapping[str, Any]] | pd.DataFrame
    ) -> JaColBERTIndex | ShardedIndex:
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
            BlockingIOError: another process is writing to the index.
        """
        if self.executor is None:
            return self._index(docs)
        from pyterrier_jacolbert.shard_build import build_sharded

        return build_sharded(self, docs, self.executor)

    def index_shard(self, docs: Iterable[Mapping[str, Any]] | pd.DataFrame, number: int, of: int) -> None:
        """Encodes one of the shards of a :class:`ShardedIndex`, which lie side by side at the path.

        Each may be made on another machine. When all are there,
        :func:`~pyterrier_jacolbert.shard_build.join_shards` makes them an index.

        Args:
            docs: all documents of the collection, whatever the shard: a list, a frame, or what can be read twice.
            number: of the shard, from 1.
            of: how many shards there are in all.

        Raises:
            FileExistsError, ValueError, BlockingIOError: as :meth:`index`; also where there are too few documents.
        """
        from pyterrier_jacolbert.shard_build import encode_shard

        encode_shard(self, docs, number, of)

    def _index(
        self, docs: Iterable[Mapping[str, Any]] | pd.DataFrame, recorded: dict[str, Any] | None = None
    ) -> JaColBERTIndex:
        index = JaColBERTIndex(self.path, self.model)
        documents = self.read(docs)
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
                total = len(docs) if isinstance(docs, Sized) else None
                self._build(index, begun or next_folder(meta), documents, total, recorded)
        return index

    def index_inputs(self) -> list[list[str]]:
        """The columns that :meth:`index` takes."""
        fields = [field for field in (self.title_field, self.text_field) if field]
        return [[DOCNO, *fields], [DOCNO, DOC_EMBS]]

    def _build(
        self,
        index: JaColBERTIndex,
        folder: str,
        documents: Iterator[Document],
        total: int | None,
        recorded: dict[str, Any] | None,
    ) -> None:
        from pyterrier_jacolbert.index.build import Builder

        builder = Builder(index.path, folder, self.build_settings(), self.origin())
        try:
            self.encode(builder, documents, total)
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
        publish(index.path, index.new_meta(model=recorded or builder.model, settings=self._settings(), **facts))

    def read(self, docs: Iterable[Mapping[str, Any]] | pd.DataFrame, first: int = 0) -> Iterator[Document]:
        """Reads documents, and checks each.

        Args:
            docs: as :meth:`index` takes them.
            first: the position of the first.

        Returns:
            The documents, as they come.
        """
        fields: dict[str, Any] = {"text_field": self.text_field, "title_field": self.title_field}
        return read_documents(docs, **fields, vectors_field=DOC_EMBS, first=first)

    def encode(self, builder: Builder, documents: Iterable[Document], total: int | None) -> None:
        """Adds documents to a build; those that it has are compared with these, and not encoded again.

        Args:
            builder: the build.
            documents: all of them, from the first on.
            total: how many there are, for the progress bar; None where that is not known.

        Raises:
            ValueError: there are fewer documents than the build has, or others.
        """
        with tqdm(desc="indexing", unit=" documents", total=total, disable=not self.verbose) as bar:
            position = 0
            for block in batched(documents, self.shard_documents):
                known = block[: max(0, builder.documents - position)]
                for number, document in enumerate(known, start=position):
                    builder.check(number, document.docno, digest(document))
                bar.update(len(known))
                if len(known) < len(block):
                    builder.add(*self.encoded(block[len(known) :], bar.update))
                position += len(block)
        if position < builder.documents:
            raise ValueError(
                f"There are {position} documents, and the interrupted build in {self.path} found more "
                f"({builder.documents}); give the same documents, or begin anew with mode='overwrite'."
            )

    def _append(self, index: JaColBERTIndex, meta: dict[str, Any], documents: Iterator[Document]) -> None:
        from pyterrier_jacolbert.index.change import Appender

        known = index.docnos()
        appender = Appender(index.path, meta)
        try:
            with tqdm(desc="appending", unit=" documents", disable=not self.verbose) as bar:
                for block in batched(documents, self.shard_documents):
                    there = known.docids([document.docno for document in block])
                    for document, docid in zip(block, there.tolist(), strict=True):
                        if docid >= 0:
                            raise ValueError(
                                f"{index!r} has a document {document.docno!r} already; delete that first, or leave "
                                "this out."
                            )
                    appender.add(self.encoded(block, bar.update)[0])
            appender.finish()
        finally:
            appender.close()

    def encoded(
        self, block: list[Document], progress: Callable[[int], object] = lambda count: None
    ) -> tuple[Shard, dict[str, Any] | None]:
        """Encodes documents, or takes the vectors that they bring along.

        Args:
            block: documents that are encoded together.
            progress: called with the number of documents done, as they are done.

        Returns:
            The documents with their vectors, and what a manifest records of the checkpoint, None where none was asked.
        """
        from pyterrier_jacolbert.index.rows import Shard

        shard = Shard(
            [document.docno for document in block],
            [digest(document) for document in block],
            self._vectors(block, progress),
            [zlib.compress(document.text.encode("utf-8")) for document in block] if self.store_text else (),
        )
        # A model that never encoded says nothing of vectors that the documents brought along.
        return shard, self.model.settings() if self.model.loaded else None

    def build_settings(self) -> Settings:
        """What decides the bytes of an index besides its documents and their vectors.

        Returns:
            The settings of the build.
        """
        from pyterrier_jacolbert.index.build import Settings

        return Settings(self.compression, self.n_centroids, self.sample_tokens, self.store_text)

    def _settings(self) -> dict[str, Any]:
        return {
            "text_field": self.text_field,
            "title_field": self.title_field,
            "store_text": self.store_text,
            "pool_factor": self.pool_factor,
        }

    def origin(self) -> dict[str, Any]:
        """What else decides them: must be the same when a build is taken up.

        Returns:
            The settings of the indexer and of the checkpoint.
        """
        model = self.model
        return {
            **self._settings(),
            "model": model.model if isinstance(model.model, str) else None,
            "shard_documents": self.shard_documents,
            **{name: getattr(model, name) for name in ("revision", "max_document_length", "truncate_dim", "dtype")},
        }

    def _vectors(self, block: list[Document], progress: Callable[[int], object]) -> Sequence[np.ndarray]:
        """The token vectors of documents: those that they carry, and the encoded text of the rest."""
        vectors: list[Any] = [document.fields.get(DOC_EMBS) for document in block]
        plain = [number for number, rows in enumerate(vectors) if rows is None]
        if plain:
            encoded = self.model.encode_documents([block[number].text for number in plain], progress)
            for number, rows in zip(plain, encoded, strict=True):
                vectors[number] = rows
        progress(len(block) - len(plain))
        vectors = [np.asarray(rows, dtype=np.float32) for rows in vectors]
        return vectors if self.pool_factor is None else _pooled(vectors, self.pool_factor)

    def __repr__(self) -> str:
        return describe(self)


def _pooled(vectors: list[np.ndarray], factor: float) -> list[np.ndarray]:
    """Fewer vectors of each document; a document without vectors has none."""
    import torch
    from sentence_transformers.multi_vector_encoder.modules import HierarchicalTokenPooling

    pooling = HierarchicalTokenPooling(factor)
    return [pooling.pool([torch.from_numpy(rows)])[0].numpy() if len(rows) else rows for rows in vectors]


def digest(document: Document) -> int:
    """64 bits of what a document is: its docno, and its text or its vectors."""
    found = hashlib.blake2b(digest_size=8)
    for part in (document.docno.encode("utf-8"), document.text.encode("utf-8")):
        found.update(len(part).to_bytes(8, "little") + part)
    if DOC_EMBS in document.fields:
        found.update(np.ascontiguousarray(document.fields[DOC_EMBS], dtype=np.float32).tobytes())
    return int.from_bytes(found.digest(), "little")


def _shown_in(bar: tqdm) -> Callable[[str, int, int], object]:
    def show(what: str, done: int, total: int) -> None:
        bar.set_description(what)
        bar.total = total
        bar.update(done - bar.n)

    return show
