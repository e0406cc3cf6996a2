"""Two layouts of retrieval benchmarks on the hub: JMTEB's own, and the one in which MTEB publishes the same datasets.

JMTEB (github.com/sbintuitions/JMTEB) has two tables per task: one of documents, and one of queries with the ids of the
relevant documents or with judged documents and their scores. MTEB (github.com/embeddings-benchmark/mteb) has three
tables and query ids: `corpus`, `queries`, and judgements in `qrels` (`data` in older repositories).
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from ir_datasets.formats import GenericQrel, GenericQuery, GenericScoredDoc

from pyterrier_jacolbert.datasets._collection import Records, TitledDoc
from pyterrier_jacolbert.datasets._hub import HubFiles, read_rows

MTEB_PATTERNS = ("corpus/*.parquet", "queries/*.parquet", "qrels/*.parquet")
MTEB_OLDER_PATTERNS = ("corpus/*.parquet", "queries/*.parquet", "data/*.parquet")


def read_mteb(files: HubFiles) -> Records:
    """Reads a dataset in MTEB's layout, without the queries that have no judgement.

    Args:
        files: files of the corpus, the queries and the judgements, in this order.

    Raises:
        ValueError: a file is not the published one.
    """
    corpus_paths, query_paths, qrels_paths = files.paths()
    qrels = [
        GenericQrel(str(row["query-id"]), str(row["corpus-id"]), int(row["score"]))
        for row in read_rows(qrels_paths, ["query-id", "corpus-id", "score"])
    ]
    judged_ids = {qrel.query_id for qrel in qrels}
    queries = [
        GenericQuery(_row_id(row, query_paths), row["text"]) for row in read_rows(query_paths, ["text"], ["id", "_id"])
    ]
    return Records(_read_mteb_docs(corpus_paths), [query for query in queries if query.query_id in judged_ids], qrels)


def read_jmteb_reranking(files: HubFiles) -> Records:
    """Reads a re-ranking dataset in JMTEB's layout. The source has no query ids, so queries are numbered from 0.

    Args:
        files: files of the queries (`query`, `retrieved_docs`, `relevance_scores`) and of the documents (`docid`,
            `text`), in this order.

    Raises:
        ValueError: a file is not the published one.
    """
    query_paths, corpus_paths = files.paths()
    queries, qrels, scoreddocs = [], [], []
    for number, row in enumerate(read_rows(query_paths, ["query", "retrieved_docs", "relevance_scores"])):
        queries.append(GenericQuery(str(number), row["query"]))
        for doc_id, relevance in zip(row["retrieved_docs"], row["relevance_scores"], strict=True):
            qrels.append(GenericQrel(str(number), str(doc_id), int(relevance)))
            scoreddocs.append(GenericScoredDoc(str(number), str(doc_id), 0.0))
    docs = (
        TitledDoc(str(row["docid"]), row["title"] or "", row["text"])
        for row in read_rows(corpus_paths, ["docid", "text"], ["title"])
    )
    return Records(docs, queries, qrels, scoreddocs)


def _read_mteb_docs(paths: Sequence[Path]) -> Iterator[TitledDoc]:
    for row in read_rows(paths, ["text"], ["id", "_id", "title"]):
        yield TitledDoc(_row_id(row, paths), row["title"] or "", row["text"])


def _row_id(row: dict[str, object], paths: Sequence[Path]) -> str:
    value = row["id"] if row["id"] is not None else row["_id"]
    if value is None:
        raise ValueError(
            f"{paths[0]} has no column 'id' or '_id', so it is not the published file; get it again from the hub."
        )
    return str(value)
