"""JaCWIR: questions about web pages; the page among 100 candidates, or among all titles and abstracts."""

from collections import Counter
from collections.abc import Iterator

from ir_datasets.datasets.base import Dataset
from ir_datasets.formats import GenericQrel, GenericQuery

from pyterrier_jacolbert.datasets._candidates import Candidate, collect
from pyterrier_jacolbert.datasets._collection import Counts, Documentation, Records, TitledDoc
from pyterrier_jacolbert.datasets._hub import HubFiles, hub_dataset, rows

#: A commit whose tree has both tables; later ones of the repository change its README only.
_FILES = HubFiles(
    "hotchpotch/JaCWIR",
    "dab93fba1ec8bb500e580e426f82a427b752f4cb",
    ("eval/*.parquet", "collection/*.parquet"),
)

NOTICE = (
    "JaCWIR may be used for research and for the evaluation of information retrieval, not commercially: titles and "
    "abstracts belong to the authors of the pages, and the questions, made with GPT-3.5, may not be used to develop "
    "models that compete with OpenAI's."
)

_BIBTEX = """@misc{yuichi-tateno-2024-jacwir,
    url = {https://huggingface.co/datasets/hotchpotch/JaCWIR},
    title = {JaCWIR: Japanese Casual Web IR},
    author = {Yuichi Tateno},
}"""


def define(name: str, counts: Counts) -> Dataset:
    """A data set: `test` with candidates to re-rank, or `retrieval` over the whole collection.

    Args:
        name: Which.
        counts: How many records it must have.
    """
    rerank = name == "test"
    what = (
        "Each has 100 candidates: its own page, and 99 that BM25 and an embedding model found for it. Documents are "
        "the candidates."
        if rerank
        else "Documents are all pages; a question's own page is the one relevant one. (MTEB and JMTEB take 4,000 of "
        "the 5,000 questions.)"
    )
    return hub_dataset(
        f"jacwir/{name}",
        _FILES,
        _read_candidates if rerank else _read_collection,
        counts=counts,
        documentation=Documentation(
            pretty_name=f"JaCWIR, {'re-ranking' if rerank else 'retrieval'}",
            url="https://github.com/hotchpotch/JaCWIR",
            desc=(
                "<p>5,000 questions that GPT-3.5 wrote about web pages bookmarked in Japan, of which the collection "
                f"has titles and abstracts. {what} A query_id is that of the published runs, `q_id##` and the page's; "
                "a second question about a page has `-2` after it.</p>"
            ),
            licence="research and non-commercial evaluation only: rights of the pages' authors, OpenAI's terms",
            notice=NOTICE,
            bibtex=_BIBTEX,
        ),
        relevance={0: "another page", 1: "the page that the question was written about"},
        candidates=rerank,
    )


def _questions(files: HubFiles) -> Iterator[tuple[GenericQuery, str, list[str]]]:
    """Each question, its page and the other candidates."""
    seen: Counter[str] = Counter()
    for row in rows(files.files()[0], ["query", "positive", "negatives"]):
        positive = row["positive"]
        seen[positive] += 1
        again = f"-{seen[positive]}" if seen[positive] > 1 else ""
        yield GenericQuery(f"q_id##{positive}{again}", row["query"]), positive, row["negatives"]


def _pages(files: HubFiles) -> Iterator[TitledDoc]:
    for row in rows(files.files()[1], ["doc_id", "title", "description"]):
        yield TitledDoc(row["doc_id"], row["title"] or "", row["description"] or "")


def _read_candidates(files: HubFiles) -> Records:
    pages = {page.doc_id: page for page in _pages(files)}
    return collect(
        Candidate(query, pages[doc_id], relevance)
        for query, positive, negatives in _questions(files)
        for doc_id, relevance in [(positive, 1), *((negative, 0) for negative in negatives)]
    )


def _read_collection(files: HubFiles) -> Records:
    questions = list(_questions(files))
    return Records(
        _pages(files),
        [query for query, _, _ in questions],
        [GenericQrel(query.query_id, positive, 1) for query, positive, _ in questions],
    )


# The README gives 5,000 questions with 100 candidates each; MTEB's statistics of the same collection 513,107 pages.
DATASETS = {
    "jacwir/test": define("test", Counts(docs=None, queries=5000, qrels=500000, scoreddocs=500000)),
    "jacwir/retrieval": define("retrieval", Counts(docs=513107, queries=5000, qrels=5000)),
}
