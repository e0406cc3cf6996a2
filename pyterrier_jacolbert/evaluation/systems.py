"""Systems that can be evaluated: checkpoints, PyTerrier pipelines and stored runs. Each produces a run for a task."""

from __future__ import annotations

import hashlib
import importlib
import tempfile
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pandas as pd
import pyterrier as pt

from pyterrier_jacolbert.evaluation.protocols import TaskProtocol
from pyterrier_jacolbert.evaluation.runs import is_run_file, read_run
from pyterrier_jacolbert.evaluation.task_data import documents, rerank, run_columns, topics

if TYPE_CHECKING:
    from pyterrier_jacolbert.encoding.query_length import QueryLength
    from pyterrier_jacolbert.model import JaColBERT


class System(Protocol):
    """The interface of a system under evaluation."""

    name: str

    def settings(self, protocol: TaskProtocol) -> dict[str, object]:
        """Returns everything that the system's run for a task depends on.

        Args:
            protocol: of the task.

        Returns:
            The settings, as JSON.
        """
        ...

    def run(self, protocol: TaskProtocol) -> pd.DataFrame:
        """Computes the system's run for a task.

        Args:
            protocol: of the task.

        Returns:
            The run: ``qid``, ``docno``, ``score`` and ``rank``.
        """
        ...


@dataclass
class CheckpointSystem:
    """A multi-vector checkpoint that encodes texts by the protocol of the task.

    Attributes:
        name: name in tables.
        model: folder or name of a checkpoint; or a :class:`~pyterrier_jacolbert.JaColBERT` whose checkpoint, revision,
            device, dtype and batch size are used. Lengths are always the protocol's.
        index_settings: arguments of :class:`~pyterrier_jacolbert.JaColBERTIndexer` for retrieval tasks. By default the
            index holds float16 vectors.
        quality: quality of the search, as in :meth:`~pyterrier_jacolbert.JaColBERTIndex.retriever`.
    """

    name: str
    model: str | JaColBERT
    index_settings: Mapping[str, Any] = field(default_factory=lambda: {"compression": "float16"})
    quality: str = "exact"

    def settings(self, protocol: TaskProtocol) -> dict[str, object]:
        """Returns the protocol, and the checkpoint with the digest of its weights; loads the checkpoint.

        Args:
            protocol: of the task.

        Returns:
            The settings, as JSON.
        """
        model = self._load_model()
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
        """Searches a temporary index of the documents, or scores the texts of the candidates.

        Args:
            protocol: of the task.

        Returns:
            The run: ``qid``, ``docno``, ``score`` and ``rank``.
        """
        from pyterrier_jacolbert.indexer import JaColBERTIndexer

        model = self.model_for(protocol)
        if protocol.stage == "rerank":
            return rerank(model.text_scorer(), protocol)
        queries = topics(protocol)  # checks the ids before the documents are encoded
        with tempfile.TemporaryDirectory(prefix="pyterrier-jacolbert-") as folder:
            settings = {"verbose": model.verbose, **self.index_settings}
            index = JaColBERTIndexer(Path(folder) / "index", model, **settings).index(documents(protocol))
            retriever = index.retriever(num_results=protocol.num_results, quality=self.quality)
            return run_columns(retriever(queries))

    def model_for(self, protocol: TaskProtocol) -> JaColBERT:
        """Returns the model with the protocol's lengths, and without the modules that the protocol leaves out.

        Args:
            protocol: of the task.

        Returns:
            The model; it shares the weights of the checkpoint.
        """
        from pyterrier_jacolbert.evaluation.ablation import without_projection, without_skip_list
        from pyterrier_jacolbert.model import JaColBERT

        model = self._load_model()
        encoder = model.encoder.model
        if not protocol.projection:
            encoder = without_projection(encoder)
        if not protocol.skip_punctuation:
            encoder = without_skip_list(encoder)
        return JaColBERT(
            encoder,
            dtype=model.dtype,
            query_length=self._query_length(protocol, model),
            max_document_length=protocol.max_document_length,
            batch_tokens=model.batch_tokens,
            verbose=model.verbose,
        )

    def _load_model(self) -> JaColBERT:
        from pyterrier_jacolbert.model import JaColBERT

        if isinstance(self.model, str):
            self.model = JaColBERT(self.model, verbose=True)
        return self.model

    @staticmethod
    def _query_length(protocol: TaskProtocol, model: JaColBERT) -> QueryLength:
        # A checkpoint that was not trained with [MASK] positions never gets any.
        has_mask_positions = bool(getattr(model.encoder.model[0], "query_expansion", None))
        return protocol.query_length if has_mask_positions else "auto"


@dataclass
class PipelineSystem:
    """A PyTerrier pipeline, or a function that builds one for a task.

    Attributes:
        name: name in tables.
        pipeline: a pipeline that takes topics (``qid``, ``query``) for retrieval tasks and candidates (with ``text``)
            for re-ranking tasks; or a function that builds such a pipeline from a
            :class:`~pyterrier_jacolbert.evaluation.TaskProtocol`, for pipelines that need an index of the
            task's :func:`~pyterrier_jacolbert.evaluation.documents`.
        version: version of the pipeline. A new version makes stored runs outdated.
    """

    name: str
    pipeline: pt.Transformer | Callable[[TaskProtocol], pt.Transformer]
    version: str = ""

    def settings(self, protocol: TaskProtocol) -> dict[str, object]:
        """Returns the protocol, the description of the pipeline and its version.

        Args:
            protocol: of the task.

        Returns:
            The settings, as JSON.
        """
        if isinstance(self.pipeline, pt.Transformer):
            description = repr(self.pipeline)
        else:
            function = getattr(self.pipeline, "__qualname__", type(self.pipeline).__name__)
            description = f"{self.pipeline.__module__}:{function}"
        return {"protocol": protocol.run_settings(), "pipeline": description, "version": self.version}

    def run(self, protocol: TaskProtocol) -> pd.DataFrame:
        """Runs the pipeline on the topics or on the candidates.

        Args:
            protocol: of the task.

        Returns:
            The run: ``qid``, ``docno``, ``score`` and ``rank``.
        """
        queries = topics(protocol) if protocol.stage == "retrieve" else None  # checks the ids before anything is built
        pipeline = self.pipeline if isinstance(self.pipeline, pt.Transformer) else self.pipeline(protocol)
        if queries is None:
            return rerank(pipeline, protocol)
        return run_columns((pipeline % protocol.num_results)(queries))


@dataclass
class RunSystem:
    """A stored run, or a folder with a run per task, such as ``TASK.trec``.

    Attributes:
        name: name in tables.
        path: run file or folder.
    """

    name: str
    path: Path

    def settings(self, protocol: TaskProtocol) -> dict[str, object]:
        """Returns the task and a digest of the file. The protocol of a stored run is unknown.

        Args:
            protocol: of the task.

        Returns:
            The settings, as JSON.

        Raises:
            FileNotFoundError: the folder has no run for the task.
        """
        file = self._run_file(protocol)
        with file.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
        return {"task": protocol.task, "run": file.name, "sha256": digest}

    def run(self, protocol: TaskProtocol) -> pd.DataFrame:
        """Reads the stored run.

        Args:
            protocol: of the task.

        Returns:
            The run: ``qid``, ``docno``, ``score`` and ``rank``.

        Raises:
            FileNotFoundError: the folder has no run for the task.
        """
        return read_run(self._run_file(protocol))

    def _run_file(self, protocol: TaskProtocol) -> Path:
        if not self.path.is_dir():
            return self.path
        task_files = [
            path
            for path in sorted(self.path.iterdir())
            if is_run_file(path) and path.name.partition(".")[0] == protocol.task
        ]
        if not task_files:
            raise FileNotFoundError(f"{self.path} has no run for {protocol.task}; name one {protocol.task}.trec.")
        return task_files[0]


def bm25(protocol: TaskProtocol) -> pt.Transformer:
    """Builds BM25 over MeCab's words on the documents of a task."""
    from pyterrier_jacolbert.artifacts.bm25 import JapaneseBM25

    with warnings.catch_warnings():
        # The index is temporary on purpose: it lives as long as the transformer that it returns.
        warnings.simplefilter("ignore")
        index = JapaneseBM25().index(documents(protocol))
    return index.scorer() if protocol.stage == "rerank" else index.retriever(protocol.num_results)


def system(spec: str, *, device: str | None = None, dtype: str = "auto") -> System:
    """Returns the system that a command-line argument describes.

    Args:
        spec: ``bm25``; a run file or a folder of runs; ``MODULE:NAME`` of a pipeline or of a function that builds one
            for a task; or a checkpoint (``mini``, a folder or a hub name). The prefix ``NAME=`` sets the name in
            tables.
        device: device of a checkpoint; None uses a GPU if there is one.
        dtype: dtype in which a checkpoint encodes documents, as in :class:`~pyterrier_jacolbert.JaColBERT`.

    Returns:
        The system.

    Raises:
        ValueError: the module has no object of that name, or the object is not a pipeline.
        ImportError: the module does not exist.
        FileNotFoundError: the folder does not exist.
    """
    prefix, equals, rest = spec.partition("=")
    name, target = (prefix, rest) if equals else ("", spec)
    path = Path(target)
    if target == "bm25":
        return PipelineSystem(name or "BM25", bm25)
    if is_run_file(path) or (path.is_dir() and any(is_run_file(file) for file in path.iterdir())):
        plain = path.name.removesuffix(".gz")
        return RunSystem(name or (plain if path.is_dir() else plain.rpartition(".")[0]), path)
    module, colon, attribute = target.partition(":")
    if colon and not path.exists():
        pipeline = getattr(importlib.import_module(module), attribute, None)
        if not isinstance(pipeline, pt.Transformer) and not callable(pipeline):
            raise ValueError(
                f"{target} is neither a pipeline nor a function that builds one for a task; name one as MODULE:NAME."
            )
        return PipelineSystem(name or attribute, pipeline)
    from pyterrier_jacolbert.model import JaColBERT

    model = JaColBERT(target, device=device, dtype=dtype, verbose=True)
    return CheckpointSystem(name or target.rstrip("/").split("/")[-1], model)
