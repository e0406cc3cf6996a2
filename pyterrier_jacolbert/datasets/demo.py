"""A little collection within the package, so that the command-line demo and the examples need no network.

330 short documents on 30 subjects, eleven neighbours on each, so that a ranking has something to get wrong, and 114
questions. Documents and questions were written for this project and come under its licence.
"""

import json
from importlib.resources import files
from typing import Any

from ir_datasets.formats import GenericQrel, GenericQuery

from pyterrier_jacolbert.datasets._collection import Collection, Counts, Documentation, TitledDoc, dataset


def no_shared_word() -> set[str]:
    """The ids of the questions that share no content word with the documents that answer them.

    Content words are nouns, verbs, adjectives and adverbs, by surface and by lemma (``tests/test_datasets.py``).
    """
    return {query["query_id"] for query in _content()["queries"] if query.get("no_shared_word")}


def _read() -> Collection:
    content = _content()
    return Collection(
        [TitledDoc(**doc) for doc in content["docs"]],
        [GenericQuery(query["query_id"], query["text"]) for query in content["queries"]],
        [GenericQrel(**qrel) for qrel in content["qrels"]],
    )


def _content() -> dict[str, Any]:
    content: dict[str, Any] = json.loads(files(__package__).joinpath("demo.json").read_text(encoding="utf-8"))
    return content


DATASETS = {
    "jacolbert-demo": dataset(
        "jacolbert-demo",
        _read,
        counts=Counts(docs=330, queries=114, qrels=142),
        documentation=Documentation(
            pretty_name="pyterrier_jacolbert demo",
            desc="<p>Short Japanese documents on thirty subjects and questions about them.</p>",
            licence="MIT",
        ),
        relevance={1: "touches on the answer", 2: "answers the question"},
    )
}
