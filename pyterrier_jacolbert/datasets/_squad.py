"""The SQuAD layout as a retrieval collection: paragraphs are the documents, and each question is about its own.

SQuAD's files are `{"data": [{"title", "paragraphs": [{"context", "qas": [{"id", "question"}]}]}]}` (Rajpurkar et al.,
EMNLP 2016). That the question's own paragraph is the relevant one, and no other, is the usual reading of such a set as
a retrieval benchmark: JaColBERTv2.5 (arXiv 2407.20750) takes JSQuAD so.
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
    """Read files in the SQuAD layout, as one collection.

    Args:
        *sources: The files.
        doc_id: As `squad` takes it.
        text: As `squad` takes it.

    Returns:
        The collection.

    Raises:
        ValueError: A file is not what was published.
        FileNotFoundError: A file is not on this machine and cannot be downloaded.
    """
    articles = (article for source in sources for article in json.loads(source.read())["data"])
    return squad(articles, doc_id=doc_id, text=text)


def squad(
    articles: Iterable[Mapping[str, Any]],
    *,
    doc_id: Callable[[str], str] | None = None,
    text: Callable[[str, str], str] = lambda title, context: context,
) -> Collection:
    """Turn articles in the SQuAD layout into a collection.

    Args:
        articles: What the file has under `data`.
        doc_id: Finds the paragraph's id in a question's, for a file whose question ids hold it. None numbers the
            paragraphs: `a0p0` is the first of the first article. A paragraph without questions is `unasked-a0p0`
            where the others have names of their own.
        text: Makes the document's text from title and context.

    Returns:
        A document for each paragraph, a query for each question, and a judgement for each question.

    Raises:
        ValueError: `doc_id` finds no id, or several, in the questions of one paragraph.
    """
    docs, queries, qrels = [], [], []
    for article_number, article in enumerate(articles):
        for paragraph_number, paragraph in enumerate(article["paragraphs"]):
            name = f"a{article_number}p{paragraph_number}"
            if doc_id is not None and not paragraph["qas"]:
                name = f"unasked-{name}"
            elif doc_id is not None:
                name = _only(sorted({doc_id(question["id"]) for question in paragraph["qas"]}), paragraph=name)
            title = article["title"]
            docs.append(TitledDoc(name, title, text(title, paragraph["context"])))
            for question in paragraph["qas"]:
                queries.append(GenericQuery(question["id"], question["question"]))
                qrels.append(GenericQrel(question["id"], name, 1))
    return Collection(docs, queries, qrels)


def _only(names: list[str], *, paragraph: str) -> str:
    if len(names) != 1:
        raise ValueError(f"Paragraph {paragraph} has questions that name {names}; number the paragraphs instead.")
    return names[0]
