"""The short way to a checkpoint of one's own: pairs or triples of texts, or a data set, in one call."""

from __future__ import annotations

import copy
import dataclasses
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyterrier as pt
import torch

from pyterrier_jacolbert.columns import DOCNO, QID, QUERY, TEXT, check_text
from pyterrier_jacolbert.train.example_files import Example
from pyterrier_jacolbert.train.examples import mine
from pyterrier_jacolbert.train.stages import Stage
from pyterrier_jacolbert.train.texts import Texts

if TYPE_CHECKING:
    from pyterrier_jacolbert.model import JaColBERT

#: What :func:`fine_tune` takes.
TrainingTexts = Iterable[Sequence[str]] | pd.DataFrame | pt.datasets.Dataset | str

#: Settings of the stage, where the paper's are meant for millions of examples with a teacher.
_SETTINGS: dict[str, Any] = {
    "loss": "hard_labels",
    "normalize_student": False,
    "in_batch_negatives": True,
    "batch_size": 16,
    "learning_rate": 1e-5,
    "warmup_steps": 10,
    "save_every": 500,
    "mini_batch_size": 16,
    "seed": 0,
}
#: Results from which negatives are drawn.
_CANDIDATES = 50
_POSITIVE = "positive"


def fine_tune(
    model: JaColBERT | str,
    texts: TrainingTexts,
    output: str | Path,
    *,
    n_ways: int = 4,
    title_field: str | None = None,
    evaluate: Callable[[JaColBERT], float] | None = None,
    device: str | None = None,
    verbose: bool = True,
    **settings: Any,
) -> JaColBERT:
    """Fine-tunes a checkpoint on pairs of query and relevant document. Run it again to resume after an interruption.

    Without negatives, each query gets ``n_ways - 1`` of the checkpoint's own best documents that are not relevant to
    it; those that score more than 0.95 times the relevant one are left out, as they are often relevant, too. The loss
    is the cross-entropy of the relevant document among these, and among the documents of the batch.

    Args:
        model: checkpoint to start from: a :class:`~pyterrier_jacolbert.JaColBERT`, a folder, a hub name, or ``"mini"``.
        texts: pairs ``(query, positive)`` or tuples ``(query, positive, negative, ...)`` of equal length; a frame with
            ``query`` and ``positive`` (and ``negative``, ``negative_2``, ...); a data set of PyTerrier with topics,
            qrels and documents; or the name of one.
        output: folder of the run.
        n_ways: documents per query if negatives are mined, the relevant one included; fewer if there are fewer. With
            ``loss="contrastive"``, 1 mines none: the other documents of the batch are the negatives.
        title_field: field of a data set's documents that is put before the text.
        evaluate: measure of a checkpoint on held-out data, where more is better; called at each save.
        device: device to train on; None uses a GPU if there is one.
        verbose: whether to print progress.
        **settings: settings of :class:`~pyterrier_jacolbert.train.Stage` that differ, such as ``steps`` or
            ``learning_rate``.

    Returns:
        The fine-tuned checkpoint, which is in the folder ``final`` of ``output``.

    Raises:
        TypeError: a setting is unknown.
        ValueError: there are no pairs, a text is no string, tuples differ in length, or no query has enough negatives.

    Example:
        >>> pairs = [("富士山の高さは？", "富士山は標高3776mの山である。"), ...]
        >>> model = fine_tune("mini", pairs, "run")  # doctest: +SKIP
    """
    from pyterrier_jacolbert.model import JaColBERT, as_model
    from pyterrier_jacolbert.train.distillation import distill

    start = as_model(model)
    stage = Stage(
        "fine-tuned",
        start="the given checkpoint",
        examples="the given texts",
        **{"n_ways": n_ways, **_lengths_and_precision(start, device), **_SETTINGS, **settings},
    )
    if isinstance(texts, (str, pt.datasets.Dataset)):
        collection = _Collection.of_dataset(texts, title_field)
    else:
        collection = _Collection.of_rows(_rows(texts))
    examples = collection.examples
    if examples is None:
        examples = (
            collection.pairs()
            if n_ways == 1
            else collection.mine(start, min(n_ways, len(collection.documents)), verbose)
        )
    stage = dataclasses.replace(stage, n_ways=len(examples[0].docnos))
    final = distill(
        examples,
        collection.queries,
        collection.documents,
        stage,
        output,
        model=copy.deepcopy(start.encoder.model),  # the caller's own stays as it is
        evaluate=evaluate,
        device=device,
        verbose=verbose,
    )
    return JaColBERT(str(final), device=device)


class _Collection:
    """Queries, documents and either examples or judgements."""

    def __init__(
        self,
        queries: Mapping[str, str],
        documents: Mapping[str, str],
        qrels: pd.DataFrame,
        examples: list[Example] | None = None,
    ) -> None:
        self.queries = queries
        self.documents = documents
        self.qrels = qrels
        self.examples = examples

    @classmethod
    def of_rows(cls, rows: list[tuple[str, ...]]) -> _Collection:
        """Returns the collection of the given texts, each distinct one once."""
        queries = {text: f"q{number}" for number, text in enumerate(dict.fromkeys(row[0] for row in rows))}
        documents = {
            text: f"d{number}" for number, text in enumerate(dict.fromkeys(t for row in rows for t in row[1:]))
        }
        pairs = dict.fromkeys((queries[row[0]], documents[row[1]]) for row in rows)
        examples = [Example(queries[row[0]], tuple(documents[text] for text in row[1:])) for row in rows]
        return cls(
            {qid: text for text, qid in queries.items()},
            {docno: text for text, docno in documents.items()},
            pd.DataFrame(list(pairs), columns=[QID, DOCNO]).assign(label=1),
            examples if len(rows[0]) > 2 else None,
        )

    @classmethod
    def of_dataset(cls, dataset: pt.datasets.Dataset | str, title_field: str | None) -> _Collection:
        """Returns the collection of a data set."""
        opened = pt.get_dataset(dataset) if isinstance(dataset, str) else dataset
        topics = opened.get_topics()
        return cls(dict(zip(topics[QID], topics[QUERY], strict=True)), Texts(opened, title_field), opened.get_qrels())

    def pairs(self) -> list[Example]:
        """Returns an example without negatives for each pair of query and relevant document."""
        relevant = self.qrels[(self.qrels["label"] > 0) & self.qrels[QID].isin(self.queries)]
        if relevant.empty:
            raise ValueError("No query has a relevant document among the judgements; check that the qids match.")
        return [Example(qid, (docno,)) for qid, docno in zip(relevant[QID], relevant[DOCNO], strict=True)]

    def mine(self, model: JaColBERT, n_ways: int, verbose: bool) -> list[Example]:
        """Returns an example for each pair of query and relevant document, with negatives that the model finds."""
        from pyterrier_jacolbert.artifacts.index import JaColBERTIndex

        if n_ways < 2:
            raise ValueError("There is only one document, so there are no negatives; give more pairs.")
        topics = pd.DataFrame(self.queries.items(), columns=[QID, QUERY])
        documents = ({DOCNO: docno, TEXT: self.documents[docno]} for docno in self.documents)
        with tempfile.TemporaryDirectory(prefix="pyterrier-jacolbert-") as folder:
            index = JaColBERTIndex(Path(folder) / "index", model).index(documents, verbose=verbose)
            examples = list(mine(index.retriever() % max(_CANDIDATES, n_ways), topics, self.qrels, n_ways=n_ways))
        if not examples:
            raise ValueError(
                f"No query has {n_ways - 1} negatives among the {len(self.documents)} documents; give more documents, "
                "or a smaller n_ways."
            )
        return examples


def _lengths_and_precision(model: JaColBERT, device: str | None) -> dict[str, Any]:
    """Returns the settings of a stage that keep the lengths of a checkpoint, and the precision that suits a device."""
    from pyterrier_jacolbert.encoding.positions import max_positions
    from pyterrier_jacolbert.index.processors import native_bfloat16
    from pyterrier_jacolbert.train.training_arguments import available_device

    backbone: Any = model.encoder.model[0]
    longest = max_positions(backbone, model.encoder.tokenizer)
    expansion = getattr(backbone, "query_expansion", None) or {}
    is_native = native_bfloat16(torch.device(available_device(device)))
    return {
        "query_length": expansion.get("length") or getattr(backbone, "query_length", None) or longest,
        "document_length": getattr(backbone, "document_length", None) or longest,
        "precision": "bfloat16" if is_native else "float32",
    }


def _rows(texts: Iterable[Sequence[str]] | pd.DataFrame) -> list[tuple[str, ...]]:
    """Returns the texts of each row: query, positive, and negatives if there are any.

    Raises:
        ValueError: there are no rows, rows differ in length, or a text is no string.
    """
    if isinstance(texts, pd.DataFrame):
        negatives = [column for column in texts.columns if str(column).startswith("negative")]
        for column in (QUERY, _POSITIVE):
            if column not in texts.columns:
                raise ValueError(f"The frame has no column {column!r}, only {', '.join(map(str, texts.columns))}.")
        texts = texts[[QUERY, _POSITIVE, *negatives]].itertuples(index=False)
    rows = [tuple(row) for row in texts]
    if not rows:
        raise ValueError("There are no pairs to train on; give some (query, positive).")
    for number, row in enumerate(rows):
        if len(row) != len(rows[0]) or len(row) < 2:
            raise ValueError(
                f"Row {number} has {len(row)} texts and the first has {len(rows[0])}; give rows of one length, (query, "
                "positive) or (query, positive, negative, ...)."
            )
        for text in row:
            check_text(text, f"text of row {number}")
    return rows
