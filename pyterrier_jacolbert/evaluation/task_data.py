"""The documents, topics and candidates of a task, in the text format of its protocol."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd
import pyterrier as pt

from pyterrier_jacolbert.columns import DOCNO, QID, RANK, SCORE, TEXT, check_title
from pyterrier_jacolbert.evaluation.protocols import TaskProtocol
from pyterrier_jacolbert.trec_files import check_id, check_ids_of

#: Number of queries to re-rank together. Memory holds the vectors of all their candidates: about 1 GiB for 100
#: documents per query, 200 tokens per document and 768 dimensions.
_BATCH_QUERIES = 16


def documents(protocol: TaskProtocol) -> Iterator[dict[str, str]]:
    """Yields the documents of a task in the protocol's text format.

    Args:
        protocol: of the task.

    Yields:
        Dicts with ``docno`` and ``text``, the title and the text.

    Raises:
        ValueError: a run cannot hold a docno.
    """
    for doc in pt.get_dataset(f"jacolbert:{protocol.dataset}").get_corpus_iter(verbose=False):
        yield {DOCNO: check_id(doc["docno"], DOCNO), TEXT: _document_text(doc, protocol)}


def _document_text(doc: Mapping[str, str], protocol: TaskProtocol) -> str:
    title = check_title(doc.get("title"), "title of a document")
    return f"{title}{protocol.separator}{doc['text']}" if title else doc["text"]


def topics(protocol: TaskProtocol) -> pd.DataFrame:
    """Returns the topics of a task: ``qid`` and ``query``.

    Raises:
        ValueError: a run cannot hold a qid.
    """
    frame = pt.get_dataset(f"jacolbert:{protocol.dataset}").get_topics()
    check_ids_of(frame[QID])
    return frame


def rerank(reranker: pt.Transformer, protocol: TaskProtocol) -> pd.DataFrame:
    """Re-ranks the candidates of a task's dataset in batches of queries."""
    dataset: Any = pt.get_dataset(f"jacolbert:{protocol.dataset}")
    candidates = dataset.get_results().reset_index(drop=True)
    check_ids_of(candidates[QID], candidates[DOCNO])
    store = dataset.irds_ref().docs_store()
    qids = candidates[QID].drop_duplicates().tolist()
    rankings = []
    for start in pt.tqdm(range(0, len(qids), _BATCH_QUERIES), desc=f"{protocol.task}, batches of {_BATCH_QUERIES}"):
        batch = candidates[candidates[QID].isin(qids[start : start + _BATCH_QUERIES])].reset_index(drop=True)
        texts = {doc.doc_id: _document_text(doc._asdict(), protocol) for doc in store.get_many_iter(set(batch[DOCNO]))}
        batch = batch.assign(**{TEXT: batch[DOCNO].map(texts), RANK: batch.groupby(QID).cumcount()})
        rankings.append(run_columns(reranker(batch)))
    return pd.concat(rankings, ignore_index=True)


def run_columns(run: Any) -> pd.DataFrame:
    """Returns the columns of a run: ``qid``, ``docno``, ``score`` and ``rank``."""
    return pd.DataFrame(run)[[QID, DOCNO, SCORE, RANK]]
