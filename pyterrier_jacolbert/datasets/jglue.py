"""JSTS and JCommonsenseQA of JGLUE, as collections: sentences with a paraphrase, questions with a short answer.

They are not retrieval benchmarks. As everyday Japanese, they complement training data from Wikipedia.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ir_datasets.datasets.base import Dataset
from ir_datasets.formats import GenericQrel, GenericQuery

from pyterrier_jacolbert.datasets._collection import Collection, Counts, TitledDoc
from pyterrier_jacolbert.datasets._irds import Documentation, lazy_dataset
from pyterrier_jacolbert.datasets._source import Source
from pyterrier_jacolbert.datasets.jsquad import BIBTEX, JGLUE

#: Similarity from which a pair of sentences counts as paraphrases; 5 is the greatest.
PARAPHRASE = 4.0
#: Answers of a question.
_CHOICES = 5


def read_jsts(pairs: Iterable[Mapping[str, Any]]) -> Collection:
    """Converts JSTS: the second sentences are documents, and the first ones of paraphrases are queries.

    A sentence that is also a document is no query, because it would find itself.

    Args:
        pairs: lines of the file.
    """
    pairs = list(pairs)
    docs = _numbered(pair["sentence2"] for pair in pairs)
    paraphrases = [pair for pair in pairs if pair["label"] >= PARAPHRASE and pair["sentence1"] not in docs]
    queries = [GenericQuery(pair["sentence_pair_id"], pair["sentence1"]) for pair in paraphrases]
    qrels = [GenericQrel(pair["sentence_pair_id"], docs[pair["sentence2"]], 1) for pair in paraphrases]
    return Collection(_documents(docs), queries, qrels)


def read_jcommonsenseqa(questions: Iterable[Mapping[str, Any]]) -> Collection:
    """Converts JCommonsenseQA: all answers are documents, and the right one is relevant to its question.

    Args:
        questions: lines of the file.
    """
    questions = list(questions)
    docs = _numbered(question[f"choice{i}"] for question in questions for i in range(_CHOICES))
    queries = [GenericQuery(str(question["q_id"]), question["question"]) for question in questions]
    qrels = [
        GenericQrel(str(question["q_id"]), docs[question[f"choice{question['label']}"]], 1) for question in questions
    ]
    return Collection(_documents(docs), queries, qrels)


def _define(
    name: str,
    read: Callable[[Iterable[Mapping[str, Any]]], Collection],
    md5: str,
    counts: Counts,
    description: str,
    relevance: str,
) -> Dataset:
    path = f"{name.lower()}-train-v1.3.json"
    source = Source(f"jglue/{path}", f"{JGLUE}/{name.lower()}-v1.3/train-v1.3.json", md5=md5)
    return lazy_dataset(
        f"{name.lower()}/train",
        lambda: read(map(json.loads, source.read().splitlines())),
        counts=counts,
        documentation=Documentation(
            pretty_name=f"{name} (JGLUE), train",
            url="https://github.com/yahoojapan/JGLUE",
            desc=f"<p>{description} From JGLUE v1.3.</p>",
            licence="CC BY-SA 4.0",
            bibtex=BIBTEX,
        ),
        relevance={1: relevance},
    )


def _numbered(texts: Iterable[str]) -> dict[str, str]:
    """Returns an id for each distinct text, in the order of the texts."""
    return {text: f"d{number}" for number, text in enumerate(dict.fromkeys(texts))}


def _documents(ids: Mapping[str, str]) -> list[TitledDoc]:
    return [TitledDoc(doc_id, "", text) for text, doc_id in ids.items()]


# The numbers of lines are JGLUE's; those of distinct texts and of paraphrases were counted in its files.
DATASETS = {
    "jsts/train": _define(
        "JSTS",
        read_jsts,
        "6ca403cf7ae4886debff204b8339ed06",
        Counts(docs=11804, queries=1185, qrels=1185),
        f"Captions of images in everyday Japanese. The second sentences of all pairs are documents; the first sentence "
        f"of a pair whose similarity is {PARAPHRASE:g} or more, of 5, is a query unless it is also a document.",
        f"a caption of the same kind of scene, with a similarity of {PARAPHRASE:g} or more",
    ),
    "jcommonsenseqa/train": _define(
        "JCommonsenseQA",
        read_jcommonsenseqa,
        "49be17fcaadcde6eb7e6f0141798f0d7",
        Counts(docs=12802, queries=8939, qrels=8939),
        "Everyday questions that crowd workers wrote, each with five short answers. All answers are documents.",
        "the right answer",
    ),
}
