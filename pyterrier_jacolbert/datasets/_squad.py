"""The SQuAD layout as a retrieval collection: paragraphs are documents, and each question is about its own paragraph.

SQuAD's files are `{"data": [{"title", "paragraphs": [{"context", "qas": [{"id", "question"}]}]}]}` (Rajpurkar et al.,
EMNLP 2016). Retrieval benchmarks usually treat a question's own paragraph as its only relevant document, as
JaColBERTv2.5 (arXiv 2407.20750) does with JSQuAD.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ir_datasets.formats import GenericQrel, GenericQuery

from pyterrier_jacolbert.datasets._collection import Collection, TitledDoc
from pyterrier_jacolbert.datasets._source import Source

RELEVANCE = {1: "the paragraph that the question was written about"}


def read_squad(
    *sources: Source,
    doc_id: Callable[[str], str] | None = None,
    text: Callable[[str, str], str] = lambda title, context: context,
) -> Collection:
    """Reads files in the SQuAD layout as one collection.

    Args:
        *sources: files to read.
        doc_id: see :func:`squad_collection`.
        text: see :func:`squad_collection`.

    Raises:
        ValueError: a file is not the published one.
        FileNotFoundError: a file is not on this machine and cannot be downloaded.
    """
    articles = (article for source in sources for article in json.loads(source.read())["data"])
    return squad_collection(articles, doc_id=doc_id, text=text)


def squad_collection(
    articles: Iterable[Mapping[str, Any]],
    *,
    doc_id: Callable[[str], str] | None = None,
    text: Callable[[str, str], str] = lambda title, context: context,
) -> Collection:
    """Converts articles in the SQuAD layout to a collection.

    Args:
        articles: content of `data` in the file.
        doc_id: extracts the paragraph id from a question id, for files whose question ids contain it. None numbers the
            paragraphs instead: `a0p0` is the first paragraph of the first article. If `doc_id` is given, a paragraph
            without questions is named `unasked-a0p0`.
        text: builds the text of a document from title and context.

    Returns:
        A document per paragraph, and a query and a judgement per question.

    Raises:
        ValueError: the questions of a paragraph yield no id, or several.
    """
    docs, queries, qrels = [], [], []
    for article_number, article in enumerate(articles):
        for paragraph_number, paragraph in enumerate(article["paragraphs"]):
            name = f"a{article_number}p{paragraph_number}"
            if doc_id is not None and not paragraph["qas"]:
                name = f"unasked-{name}"
            elif doc_id is not None:
                name = _single_id(sorted({doc_id(question["id"]) for question in paragraph["qas"]}), paragraph=name)
            title = article["title"]
            docs.append(TitledDoc(name, title, text(title, paragraph["context"])))
            for question in paragraph["qas"]:
                queries.append(GenericQuery(question["id"], question["question"]))
                qrels.append(GenericQrel(question["id"], name, 1))
    return Collection(docs, queries, qrels)


def _single_id(ids: list[str], *, paragraph: str) -> str:
    if len(ids) != 1:
        raise ValueError(f"The questions of paragraph {paragraph} name the paragraphs {ids}; number the paragraphs.")
    return ids[0]
