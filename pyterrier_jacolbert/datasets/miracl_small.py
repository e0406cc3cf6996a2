"""MIRACL-ja-small, the dataset of the paper's ablations: MIRACL's dev queries over documents found by BM25."""

import json
from collections.abc import Iterable, Iterator
from typing import Any

import ir_datasets
from ir_datasets.datasets.base import Dataset
from ir_datasets.formats import GenericQrel, GenericQuery, GenericScoredDoc

from pyterrier_jacolbert.datasets._collection import Counts, Records, TitledDoc
from pyterrier_jacolbert.datasets._irds import Documentation, lazy_dataset
from pyterrier_jacolbert.datasets._source import Source
from pyterrier_jacolbert.datasets._stored import load_or_convert

#: BM25's top 1,000 for each query, published by the author of the paper
#: (github.com/oshizo/JapaneseEmbeddingEval/pull/10). No checksum is known. It is likely but not certain that the paper
#: used this list.
_BM25 = Source(
    path="miracl-ja-small/miracl_ja_bm25_top1000.json",
    url="https://ben.clavie.eu/retrieval/miracl_ja_bm25_top1000.json",
)
#: Number of documents per query that the paper keeps (arXiv 2407.20750, section 3.4).
_DEPTH = 250


def define(counts: Counts, *, source: Source = _BM25, miracl: str = "miracl/ja/dev", depth: int = _DEPTH) -> Dataset:
    """Defines the dataset.

    Args:
        counts: expected record counts.
        source: file of the BM25 rankings.
        miracl: id of the `ir_datasets` dataset with the documents, queries and judgements.
        depth: number of documents to keep from each ranking.
    """
    irds_id = "miracl-ja-small/dev"
    origin = {"bm25": source.url, "md5": source.md5, "collection": miracl, "depth": depth}
    return lazy_dataset(
        irds_id,
        lambda: load_or_convert(irds_id, origin, lambda: _read(source, miracl, depth), counts=counts),
        counts=counts,
        documentation=Documentation(
            pretty_name="MIRACL-ja-small, dev",
            url="https://arxiv.org/abs/2407.20750",
            desc=(
                "<p>The dataset of the ablations in the JaColBERTv2.5 paper. The queries are the dev queries of "
                f"MIRACL-ja. The documents are BM25's top {depth} for each query, from the rankings that the paper's "
                "author published, and the relevant documents that BM25 misses; judgements of other documents are "
                "left out. The dataset is built on first use from the MIRACL-ja of `ir_datasets` (6,953,614 passages, "
                "a download of about 3 GB). The candidates are the documents that BM25 retrieved.</p>"
            ),
            licence="Apache-2.0",
            bibtex="""@article{zhang2023miracl,
    title = {{MIRACL}: A Multilingual Retrieval Dataset Covering 18 Diverse Languages},
    author = {Zhang, Xinyu and Thakur, Nandan and Ogundepo, Odunayo and Kamalloo, Ehsan and Alfonso-Hermelo, David and
        Li, Xiaoguang and Liu, Qun and Rezagholizadeh, Mehdi and Lin, Jimmy},
    journal = {Transactions of the Association for Computational Linguistics},
    volume = {11},
    pages = {1114--1131},
    year = {2023},
}""",
        ),
        relevance={0: "not relevant", 1: "relevant"},
        candidates=True,
    )


def _read(source: Source, miracl: str, depth: int) -> Records:
    full = ir_datasets.load(miracl)
    queries = [GenericQuery(query.query_id, query.text) for query in full.queries_iter()]
    qrels = [GenericQrel(qrel.query_id, qrel.doc_id, int(qrel.relevance)) for qrel in full.qrels_iter()]
    rankings = {query_id: doc_ids[:depth] for query_id, doc_ids in _read_rankings(source, queries).items()}
    kept_ids = {doc_id for doc_ids in rankings.values() for doc_id in doc_ids}
    kept_ids |= {qrel.doc_id for qrel in qrels if qrel.relevance > 0}
    return Records(
        _select_docs(full.docs_iter(), kept_ids),
        queries,
        [qrel for qrel in qrels if qrel.doc_id in kept_ids],
        [GenericScoredDoc(query_id, doc_id, 0.0) for query_id, doc_ids in rankings.items() for doc_id in doc_ids],
    )


def _select_docs(docs: Iterable[Any], kept_ids: set[str]) -> Iterator[TitledDoc]:
    for doc in docs:
        if doc.doc_id in kept_ids:
            yield TitledDoc(doc.doc_id, doc.title, doc.text)


def _read_rankings(source: Source, queries: list[GenericQuery]) -> dict[str, list[str]]:
    """Reads the rankings by query id. The file maps a query id or text to a list of ids, or to `{"docids": ...}`."""
    try:
        content = json.loads(source.read())
        rankings = {key: list(value["docids"] if isinstance(value, dict) else value) for key, value in content.items()}
    except (ValueError, AttributeError, KeyError, TypeError) as error:
        raise ValueError(
            f"{source.file()} is not the published list ({error}); remove it to have it downloaded again."
        ) from None
    ids = {name: query.query_id for query in queries for name in (query.text, query.query_id)}
    unknown = next((key for key in rankings if key not in ids), None)
    if unknown is not None:
        raise ValueError(f"{source.file()} names the query {unknown!r}, which MIRACL-ja does not have; report a bug.")
    return {ids[key]: doc_ids for key, doc_ids in rankings.items()}


# Number of documents: from the paper. Number of queries: from MIRACL's dev split.
DATASETS = {"miracl-ja-small/dev": define(Counts(docs=197610, queries=860, qrels=None))}
