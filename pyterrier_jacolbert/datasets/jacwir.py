"""JaCWIR: questions about web pages; find the page among 100 candidates, or among all titles and abstracts."""

from collections import Counter
from collections.abc import Iterator

from ir_datasets.datasets.base import Dataset
from ir_datasets.formats import GenericQrel, GenericQuery

from pyterrier_jacolbert.datasets._candidates import Candidate, collect_candidates
from pyterrier_jacolbert.datasets._collection import Counts, Records, TitledDoc
from pyterrier_jacolbert.datasets._hub import HubFiles, hub_dataset, read_rows
from pyterrier_jacolbert.datasets._irds import Documentation

#: A commit that contains both tables; later commits change only the README.
_FILES = HubFiles(
    "hotchpotch/JaCWIR",
    "dab93fba1ec8bb500e580e426f82a427b752f4cb",
    ("eval/*.parquet", "collection/*.parquet"),
)

NOTICE = (
    "JaCWIR may be used for research and for the evaluation of information retrieval, not commercially: titles and "
    "abstracts belong to the authors of the pages, and the questions, which GPT-3.5 generated, may not be used to "
    "develop models that compete with OpenAI's."
)

_BIBTEX = """@misc{yuichi-tateno-2024-jacwir,
    url = {https://huggingface.co/datasets/hotchpotch/JaCWIR},
    title = {JaCWIR: Japanese Casual Web IR},
    author = {Yuichi Tateno},
}"""


def define(name: str, counts: Counts) -> Dataset:
    """Defines a dataset: `test` with candidates to re-rank, or `retrieval` over the whole collection.

    Args:
        name: `"test"` or `"retrieval"`.
        counts: expected record counts.
    """
    rerank = name == "test"
    task_description = (
        "Each question has 100 candidates: its own page, and 99 pages that BM25 and an embedding model found for it. "
        "The documents are the candidates."
        if rerank
        else "The documents are all pages; a question's own page is its only relevant document. (MTEB and JMTEB use "
        "4,000 of the 5,000 questions.)"
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
                "<p>5,000 questions that GPT-3.5 wrote about web pages bookmarked in Japan. The collection contains "
                f"the titles and abstracts of the pages. {task_description} Query ids are those of the published runs: "
                "`q_id##` followed by the page id. The id of a second question about a page ends in `-2`.</p>"
            ),
            licence="research and non-commercial evaluation only: rights of the pages' authors, OpenAI's terms",
            notice=NOTICE,
            bibtex=_BIBTEX,
        ),
        relevance={0: "a different page", 1: "the page that the question was written about"},
        candidates=rerank,
    )


def _read_questions(files: HubFiles) -> Iterator[tuple[GenericQuery, str, list[str]]]:
    """Reads each question with the id of its page and the ids of the other candidates."""
    questions_per_page: Counter[str] = Counter()
    for row in read_rows(files.paths()[0], ["query", "positive", "negatives"]):
        positive = row["positive"]
        questions_per_page[positive] += 1
        number = questions_per_page[positive]
        suffix = f"-{number}" if number > 1 else ""
        yield GenericQuery(f"q_id##{positive}{suffix}", row["query"]), positive, row["negatives"]


def _read_pages(files: HubFiles) -> Iterator[TitledDoc]:
    for row in read_rows(files.paths()[1], ["doc_id", "title", "description"]):
        yield TitledDoc(row["doc_id"], row["title"] or "", row["description"] or "")


def _read_candidates(files: HubFiles) -> Records:
    pages = {page.doc_id: page for page in _read_pages(files)}
    return collect_candidates(
        Candidate(query, pages[doc_id], relevance)
        for query, positive, negatives in _read_questions(files)
        for doc_id, relevance in [(positive, 1), *((negative, 0) for negative in negatives)]
    )


def _read_collection(files: HubFiles) -> Records:
    questions = list(_read_questions(files))
    return Records(
        _read_pages(files),
        [query for query, _, _ in questions],
        [GenericQrel(query.query_id, positive, 1) for query, positive, _ in questions],
    )


# 5,000 questions with 100 candidates each: from the README. 513,107 pages: from MTEB's statistics of the collection.
DATASETS = {
    "jacwir/test": define("test", Counts(docs=None, queries=5000, qrels=500000, scoreddocs=500000)),
    "jacwir/retrieval": define("retrieval", Counts(docs=513107, queries=5000, qrels=5000)),
}
