"""What can be evaluated: a checkpoint, any PyTerrier pipeline, a stored run; each gives a run for a task."""

from __future__ import annotations

import importlib
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pandas as pd
import pyterrier as pt

from pyterrier_jacolbert.suite.protocols import TaskProtocol
from pyterrier_jacolbert.suite.runs import is_run, read_run

if TYPE_CHECKING:
    from pyterrier_jacolbert.model import JaColBERT

#: Queries re-ranked at a time: their candidates' vectors are in memory together (some 1 GiB at 100 documents of 200
#: tokens of 768 numbers).
_BATCH_QUERIES = 16


class System(Protocol):
    """What the suite asks of a system."""

    name: str

    def settings(self, protocol: TaskProtocol) -> dict[str, Any]:
        """All that its run for a task depends on, as JSON."""
        ...

    def run(self, protocol: TaskProtocol) -> pd.DataFrame:
        """Its run for a task: ``qid``, ``docno``, ``score``, ``rank``."""
        ...


@dataclass
class CheckpointSystem:
    """A multi-vector checkpoint, encoded by the task's protocol.

    Attributes:
        name: its name in tables.
        model: a checkpoint's folder or name, or a :class:`~pyterrier_jacolbert.model.JaColBERT`, of which the
            checkpoint, revision, device, dtype and batches are taken; lengths are the protocol's.
        index_settings: arguments of :class:`~pyterrier_jacolbert.JaColBERTIndexer` for the tasks that retrieve;
            without any, the index holds float16 vectors.
        quality: of the search, as :meth:`~pyterrier_jacolbert.artifact.JaColBERTIndex.retriever` takes it.
    """

    name: str
    model: str | JaColBERT
    index_settings: Mapping[str, Any] = field(default_factory=lambda: {"compression": "float16"})
    quality: str = "exact"

    def settings(self, protocol: TaskProtocol) -> dict[str, Any]:
        """The protocol, and the checkpoint with a digest of its weights (loads it)."""
        model = self._as_it_is()
        checkpoint = model.model if isinstance(model.model, str) else "a MultiVectorEncoder"
        return {
            "protocol": protocol.run_settings(),
            "checkpoint": Path(checkpoint).name if Path(checkpoint).is_dir() else checkpoint,
            "revision": model.revision,
            "fingerprint": model.fingerprint,
            "dtype": str(model.encoder.dtype).removeprefix("torch."),
            "query_length": self._query_length(protocol, model),
            "index": {**self.index_settings, "quality": self.quality} if protocol.stage == "retrieve" else {},
        }

    def run(self, protocol: TaskProtocol) -> pd.DataFrame:
        """Searches an index of the documents (removed afterwards), or scores the candidates' texts."""
        from pyterrier_jacolbert.indexer import JaColBERTIndexer

        model = self._by(protocol)
        if protocol.stage == "rerank":
            return _rerank(model.text_scorer(), protocol)
        with tempfile.TemporaryDirectory(prefix="pyterrier-jacolbert-") as folder:
            settings = {"verbose": model.verbose, **self.index_settings}
            index = JaColBERTIndexer(Path(folder) / "index", model, **settings).index(documents(protocol))
            retriever = index.retriever(num_results=protocol.num_results, quality=self.quality)
            return _columns(retriever(_topics(protocol)))

    def _as_it_is(self) -> JaColBERT:
        from pyterrier_jacolbert.model import JaColBERT

        if isinstance(self.model, str):
            self.model = JaColBERT(self.model, verbose=True)
        return self.model

    def _by(self, protocol: TaskProtocol) -> JaColBERT:
        """The checkpoint with the protocol's lengths, without what the protocol leaves out."""
        from pyterrier_jacolbert.model import JaColBERT

        model = self._as_it_is()
        encoder = model.encoder.model
        if not protocol.projection or not protocol.skip_punctuation:
            from pyterrier_jacolbert.suite.ablated import ablated

            encoder = ablated(encoder, projection=protocol.projection, skip_list=protocol.skip_punctuation)
        return JaColBERT(
            encoder,
            dtype=model.dtype,
            query_length=self._query_length(protocol, model),
            max_document_length=protocol.max_document_length,
            batch_tokens=model.batch_tokens,
            verbose=model.verbose,
        )

    def _query_length(self, protocol: TaskProtocol, model: JaColBERT) -> Any:  # noqa: ANN401 -- a rule
        # A checkpoint that was not trained with [MASK] positions is never given them.
        trained = bool(getattr(model.encoder.model[0], "query_expansion", None))
        return protocol.query_length if trained else "auto"


@dataclass
class PipelineSystem:
    """A PyTerrier pipeline, or a function that makes one for a task.

    Attributes:
        name: its name in tables.
        pipeline: takes topics (``qid``, ``query``) where the task retrieves, and candidates (with ``text``) where it
            re-ranks; or a function of the :class:`~pyterrier_jacolbert.suite.protocols.TaskProtocol` that gives such
            a pipeline, for those that need an index of the task's :func:`documents`.
        version: what tells one pipeline of this name from another; a run is made again where it changes.
    """

    name: str
    pipeline: pt.Transformer | Callable[[TaskProtocol], pt.Transformer]
    version: str = ""

    def settings(self, protocol: TaskProtocol) -> dict[str, Any]:
        """The protocol and what the pipeline is."""
        if isinstance(self.pipeline, pt.Transformer):
            what = repr(self.pipeline)
        else:
            what = f"{self.pipeline.__module__}:{getattr(self.pipeline, '__qualname__', type(self.pipeline).__name__)}"
        return {"protocol": protocol.run_settings(), "pipeline": what, "version": self.version}

    def run(self, protocol: TaskProtocol) -> pd.DataFrame:
        """Runs the pipeline on the topics, or on the candidates."""
        made = self.pipeline if isinstance(self.pipeline, pt.Transformer) else self.pipeline(protocol)
        if protocol.stage == "rerank":
            return _rerank(made, protocol)
        return _columns((made % protocol.num_results)(_topics(protocol)))


@dataclass
class RunSystem:
    """A stored run, or a folder with a run for each task, ``TASK.trec`` or the like.

    Attributes:
        name: its name in tables.
        path: the file or the folder.
    """

    name: str
    path: Path

    def settings(self, protocol: TaskProtocol) -> dict[str, Any]:
        """The task, and a digest of the file; the protocol is unknown."""
        import hashlib

        file = self._file(protocol)
        with file.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
        return {"task": protocol.task, "run": file.name, "sha256": digest}

    def run(self, protocol: TaskProtocol) -> pd.DataFrame:
        """The run as it is stored."""
        return read_run(self._file(protocol))

    def _file(self, protocol: TaskProtocol) -> Path:
        if not self.path.is_dir():
            return self.path
        found = [path for path in sorted(self.path.iterdir()) if is_run(path) and _task_of(path) == protocol.task]
        if not found:
            raise FileNotFoundError(f"{self.path} has no run for {protocol.task}; name one {protocol.task}.trec.")
        return found[0]


def bm25(protocol: TaskProtocol) -> pt.Transformer:
    """BM25 over MeCab's words, on the task's documents."""
    from pyterrier_jacolbert.bm25 import JapaneseBM25

    with warnings.catch_warnings():
        # That the index is temporary is meant: it lives as long as the transformer that it gives.
        warnings.simplefilter("ignore")
        index = JapaneseBM25().index(documents(protocol))
    return index.scorer() if protocol.stage == "rerank" else index.retriever(protocol.num_results)


def system(spec: str, *, device: str | None = None, dtype: str = "auto") -> System:
    """A system by what a command line says.

    Args:
        spec: ``bm25``; a run file, or a folder of runs; ``MODULE:NAME`` of a pipeline or of a function that makes one
            for a task; or else a checkpoint: ``mini``, a folder, a hub name. ``NAME=`` before it names it in tables.
        device: where a checkpoint runs; None takes a GPU if there is one.
        dtype: how a checkpoint encodes documents, as :class:`~pyterrier_jacolbert.model.JaColBERT` takes it.

    Returns:
        The system.

    Raises:
        ValueError: the module has no such name, or it is not a pipeline.
        ImportError: there is no such module.
        FileNotFoundError: there is no such folder.
    """
    given, equals, rest = spec.partition("=")
    name, what = (given, rest) if equals else ("", spec)
    path = Path(what)
    if what == "bm25":
        return PipelineSystem(name or "BM25", bm25)
    if is_run(path) or (path.is_dir() and any(is_run(file) for file in path.iterdir())):
        plain = path.name.removesuffix(".gz")
        return RunSystem(name or (plain if path.is_dir() else plain.rpartition(".")[0]), path)
    module, colon, attribute = what.partition(":")
    if colon and not path.exists():
        pipeline = getattr(importlib.import_module(module), attribute, None)
        if not isinstance(pipeline, pt.Transformer) and not callable(pipeline):
            raise ValueError(
                f"{what} is not a pipeline, nor a function that makes one for a task; name one as MODULE:NAME."
            )
        return PipelineSystem(name or attribute, pipeline)
    from pyterrier_jacolbert.model import JaColBERT

    model = JaColBERT(what, device=device, dtype=dtype, verbose=True)
    return CheckpointSystem(name or what.rstrip("/").split("/")[-1], model)


def documents(protocol: TaskProtocol) -> Iterator[dict[str, str]]:
    """The documents of a task in the protocol's text form: ``docno``, ``text`` (title and text)."""
    for doc in pt.get_dataset(f"jacolbert:{protocol.dataset}").get_corpus_iter(verbose=False):
        yield {"docno": doc["docno"], "text": _text(doc, protocol)}


def _text(doc: dict[str, str], protocol: TaskProtocol) -> str:
    title = doc.get("title")
    return f"{title}{protocol.separator}{doc['text']}" if title else doc["text"]


def _topics(protocol: TaskProtocol) -> pd.DataFrame:
    return pt.get_dataset(f"jacolbert:{protocol.dataset}").get_topics()


def _rerank(reranker: pt.Transformer, protocol: TaskProtocol) -> pd.DataFrame:
    dataset: Any = pt.get_dataset(f"jacolbert:{protocol.dataset}")
    candidates = dataset.get_results().reset_index(drop=True)
    store = dataset.irds_ref().docs_store()
    qids = candidates["qid"].drop_duplicates().tolist()
    parts = []
    for start in pt.tqdm(range(0, len(qids), _BATCH_QUERIES), desc=f"{protocol.task}, {_BATCH_QUERIES} queries each"):
        part = candidates[candidates["qid"].isin(qids[start : start + _BATCH_QUERIES])].reset_index(drop=True)
        texts = {doc.doc_id: _text(doc._asdict(), protocol) for doc in store.get_many_iter(set(part["docno"]))}
        part = part.assign(text=part["docno"].map(texts), rank=part.groupby("qid").cumcount())
        parts.append(_columns(reranker(part)))
    return pd.concat(parts, ignore_index=True)


def _columns(run: Any) -> pd.DataFrame:  # noqa: ANN401 -- PyTerrier's type of what a transformer gives is wider
    return pd.DataFrame(run)[["qid", "docno", "score", "rank"]]


def _task_of(path: Path) -> str:
    return path.name.partition(".")[0]
