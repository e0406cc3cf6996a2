"""A small collection in the package, with which the command-line demo and the examples work without a network.

It has 114 questions and 330 short documents: eleven on each of 30 subjects, so that a ranking can go wrong. Documents
and questions were written for this project and are under its licence.
"""

import json
from importlib.resources import files
from typing import Any

from ir_datasets.formats import GenericQrel, GenericQuery

from pyterrier_jacolbert.datasets._collection import Collection, Counts, TitledDoc
from pyterrier_jacolbert.datasets._irds import Documentation, lazy_dataset


def no_shared_word() -> set[str]:
    """Returns the ids of the questions that share no content word with the documents that answer them.

    Content words are nouns, verbs, adjectives and adverbs; both surface forms and lemmas are compared
    (``tests/test_datasets.py``).

    Returns:
        The qids, 55 of 114.
    """
    return {query["query_id"] for query in _read_json()["queries"] if query.get("no_shared_word")}


def _read_collection() -> Collection:
    content = _read_json()
    return Collection(
        [TitledDoc(**doc) for doc in content["docs"]],
        [GenericQuery(query["query_id"], query["text"]) for query in content["queries"]],
        [GenericQrel(**qrel) for qrel in content["qrels"]],
    )


def _read_json() -> dict[str, Any]:
    content: dict[str, Any] = json.loads(files(__package__).joinpath("demo.json").read_text(encoding="utf-8"))
    return content


DATASETS = {
    "jacolbert-demo": lazy_dataset(
        "jacolbert-demo",
        _read_collection,
        counts=Counts(docs=330, queries=114, qrels=142),
        documentation=Documentation(
            pretty_name="pyterrier_jacolbert demo",
            desc="<p>Short Japanese documents on thirty subjects, and questions about them.</p>",
            licence="MIT",
        ),
        relevance={1: "touches on the answer", 2: "answers the question"},
    )
}
