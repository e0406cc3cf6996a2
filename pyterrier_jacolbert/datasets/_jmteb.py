"""Two layouts of retrieval benchmarks on the hub: JMTEB's own, and that in which MTEB publishes the same sets.

JMTEB (github.com/sbintuitions/JMTEB) has two tables a task: queries with the ids of what is relevant to each, or with
the judged documents and their scores; and documents. MTEB (github.com/embeddings-benchmark/mteb) has three, with ids
for the queries too: `corpus`, `queries`, and judgements in `qrels` or, in older repositories, `data`.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from ir_datasets.formats import GenericQrel, GenericQuery, GenericScoredDoc

from pyterrier_jacolbert.datasets._collection import Records, TitledDoc
from pyterrier_jacolbert.datasets._hub import HubFiles, rows

MTEB_PATTERNS = ("corpus/*.parquet", "queries/*.parquet", "qrels/*.parquet")
MTEB_OLDER_PATTERNS = ("corpus/*.parquet", "queries/*.parquet", "data/*.parquet")


def read_mteb(files: HubFiles) -> Records:
    """Read a set in MTEB's layout, and the queries that have a judgement.

    Args:
        files: The corpus, the queries and the judgements, in this order.

    Raises:
        ValueError: A file is not what was published.
    """
    corpus, queries, qrels = files.files()
    judged = [
        GenericQrel(str(row["query-id"]), str(row["corpus-id"]), int(row["score"]))
        for row in rows(qrels, ["query-id", "corpus-id", "score"])
    ]
    asked = {qrel.query_id for qrel in judged}
    found = [GenericQuery(_id(row, queries), row["text"]) for row in rows(queries, ["text"], ["id", "_id"])]
    return Records(_mteb_docs(corpus), [query for query in found if query.query_id in asked], judged)


def read_jmteb_reranking(files: HubFiles) -> Records:
    """Read a set in JMTEB's layout for re-ranking. Queries have no ids there: they are numbered from 0.

    Args:
        files: The queries (`query`, `retrieved_docs`, `relevance_scores`) and the documents (`docid`, `text`).

    Raises:
        ValueError: A file is not what was published.
    """
    query_files, corpus = files.files()
    queries, qrels, scoreddocs = [], [], []
    for number, row in enumerate(rows(query_files, ["query", "retrieved_docs", "relevance_scores"])):
        queries.append(GenericQuery(str(number), row["query"]))
        for doc_id, relevance in zip(row["retrieved_docs"], row["relevance_scores"], strict=True):
            qrels.append(GenericQrel(str(number), str(doc_id), int(relevance)))
            scoreddocs.append(GenericScoredDoc(str(number), str(doc_id), 0.0))
    docs = (
        TitledDoc(str(row["docid"]), row["title"] or "", row["text"])
        for row in rows(corpus, ["docid", "text"], ["title"])
    )
    return Records(docs, queries, qrels, scoreddocs)


def _mteb_docs(corpus: Sequence[Path]) -> Iterator[TitledDoc]:
    for row in rows(corpus, ["text"], ["id", "_id", "title"]):
        yield TitledDoc(_id(row, corpus), row["title"] or "", row["text"])


def _id(row: dict[str, object], files: Sequence[Path]) -> str:
    value = row["id"] if row["id"] is not None else row["_id"]
    if value is None:
        raise ValueError(
            f"{files[0]} has neither a column 'id' nor '_id'; it is not the file that was published, so get it again."
        )
    return str(value)
