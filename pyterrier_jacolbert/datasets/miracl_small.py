"""MIRACL-ja-small, on which the paper tries its settings: MIRACL's dev queries, over what BM25 finds for them."""

import json
from collections.abc import Iterable, Iterator
from typing import Any

import ir_datasets
from ir_datasets.datasets.base import Dataset
from ir_datasets.formats import GenericQrel, GenericQuery, GenericScoredDoc

from pyterrier_jacolbert.datasets._collection import Counts, Documentation, Records, TitledDoc, dataset
from pyterrier_jacolbert.datasets._source import Source
from pyterrier_jacolbert.datasets._stored import stored

#: BM25's best 1,000 for each query, published by the paper's author (github.com/oshizo/JapaneseEmbeddingEval/pull/10).
#: No checksum is known. That this is the list that the paper used is likely and not certain.
_BM25 = Source(
    path="miracl-ja-small/miracl_ja_bm25_top1000.json",
    url="https://ben.clavie.eu/retrieval/miracl_ja_bm25_top1000.json",
)
#: How many of them (arXiv 2407.20750, section 3.4).
_DEPTH = 250


def define(counts: Counts, *, source: Source = _BM25, miracl: str = "miracl/ja/dev", depth: int = _DEPTH) -> Dataset:
    """The data set.

    Args:
        counts: How many records it must have.
        source: The rankings of BM25.
        miracl: The data set of `ir_datasets` that has the documents, queries and judgements.
        depth: How many documents a query gives.
    """
    irds_id = "miracl-ja-small/dev"
    origin = {"bm25": source.url, "md5": source.md5, "collection": miracl, "depth": depth}
    return dataset(
        irds_id,
        lambda: stored(irds_id, origin, lambda: _read(source, miracl, depth), counts=counts),
        counts=counts,
        documentation=Documentation(
            pretty_name="MIRACL-ja-small, dev",
            url="https://arxiv.org/abs/2407.20750",
            desc=(
                "<p>The set of the ablations in the JaColBERTv2.5 paper: the dev queries of MIRACL-ja, and "
                f"as documents BM25's {depth} best for each, by the ranking its author publishes, and the relevant "
                "ones that it misses. Judgements of documents that are left out are left out. Made from MIRACL-ja as "
                "`ir_datasets` has it (6,953,614 passages, some 3 GB to download) on first use. The candidates are "
                "BM25's.</p>"
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
    rankings = {query_id: doc_ids[:depth] for query_id, doc_ids in _rankings(source, queries).items()}
    chosen = {doc_id for doc_ids in rankings.values() for doc_id in doc_ids}
    chosen |= {qrel.doc_id for qrel in qrels if qrel.relevance > 0}
    return Records(
        _documents(full.docs_iter(), chosen),
        queries,
        [qrel for qrel in qrels if qrel.doc_id in chosen],
        [GenericScoredDoc(query_id, doc_id, 0.0) for query_id, doc_ids in rankings.items() for doc_id in doc_ids],
    )


def _documents(docs: Iterable[Any], chosen: set[str]) -> Iterator[TitledDoc]:
    for doc in docs:
        if doc.doc_id in chosen:
            yield TitledDoc(doc.doc_id, doc.title, doc.text)


def _rankings(source: Source, queries: list[GenericQuery]) -> dict[str, list[str]]:
    """The rankings by query id. The file has a list of ids, or `{"docids": ...}`, for each query, by id or text."""
    try:
        content = json.loads(source.read())
        found = {key: list(value["docids"] if isinstance(value, dict) else value) for key, value in content.items()}
    except (ValueError, AttributeError, KeyError, TypeError) as error:
        raise ValueError(
            f"{source.file()} is not the list that was published ({error}); remove it to get it again."
        ) from None
    ids = {name: query.query_id for query in queries for name in (query.text, query.query_id)}
    unknown = next((key for key in found if key not in ids), None)
    if unknown is not None:
        raise ValueError(f"{source.file()} names the query {unknown!r}, which MIRACL-ja does not have; report it.")
    return {ids[key]: doc_ids for key, doc_ids in found.items()}


# Documents as the paper counts them, queries as MIRACL's dev set has them.
DATASETS = {"miracl-ja-small/dev": define(Counts(docs=197610, queries=860, qrels=None))}
