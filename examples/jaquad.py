"""JaQuAD's training articles as a retrieval collection: short passages, questions, judgements, held-out articles."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

#: Passages end with a sentence and have at most so many characters, as JSQuAD's paragraphs do.
PASSAGE_CHARACTERS = 260
_SENTENCES = re.compile(r".+?(?:[。！？](?![」』）])|\n|\Z)", re.DOTALL)


@dataclass(frozen=True)
class Split:
    """Questions and what answers them.

    Attributes:
        topics: ``qid``, ``query``.
        qrels: ``qid``, ``docno``, ``label``: the passage that holds the answer.
    """

    topics: pd.DataFrame
    qrels: pd.DataFrame


@dataclass(frozen=True)
class JaQuAD:
    """The collection.

    Attributes:
        docs: ``docno``, ``title``, ``text``: all passages, held-out articles included.
        train: questions of the training articles.
        held_out: questions of one article in ten.
    """

    docs: list[dict[str, str]]
    train: Split
    held_out: Split


def load(folder: Path) -> JaQuAD:
    """Reads ``*.json.gz`` in SQuAD's layout, cuts contexts into passages, parts articles by a hash of their title."""
    files = sorted(folder.glob("*.json.gz"))
    if not files:
        raise FileNotFoundError(f"There is no *.json.gz in {folder}; give the folder of JaQuAD's training files.")
    docs: list[dict[str, str]] = []
    rows: dict[bool, list[dict[str, str]]] = {False: [], True: []}
    seen: dict[tuple[str, str], str] = {}
    for file in files:
        with gzip.open(file, "rt", encoding="utf-8") as stream:
            articles = json.load(stream)["data"]
        for article in articles:
            title = article["title"]
            held_out = is_held_out(title)
            for paragraph in article["paragraphs"]:
                passages = cut(paragraph["context"])
                names = []
                for text in passages:
                    name = seen.setdefault((title, text), f"p{len(seen)}")
                    if name == f"p{len(docs)}":
                        docs.append({"docno": name, "title": title, "text": text})
                    names.append(name)
                for question in paragraph["qas"]:
                    answer = question["answers"][0]
                    passage = _holding(passages, answer["answer_start"])
                    row = {"qid": question["id"], "query": question["question"], "docno": names[passage]}
                    rows[held_out].append(row)
    return JaQuAD(docs, _split(rows[False]), _split(rows[True]))


def is_held_out(title: str) -> bool:
    """Whether an article is one of those, about one in ten, that nothing is trained on."""
    return hashlib.sha256(title.encode()).digest()[0] < 26


def cut(context: str) -> list[str]:
    """Cuts a text into runs of whole sentences of at most ``PASSAGE_CHARACTERS`` (a longer sentence stays whole)."""
    passages, passage = [], ""
    for sentence in _SENTENCES.findall(context):
        if passage and len(passage) + len(sentence) > PASSAGE_CHARACTERS:
            passages.append(passage)
            passage = ""
        passage += sentence
    return [*passages, passage] if passage else passages


def _holding(passages: list[str], position: int) -> int:
    end = 0
    for number, passage in enumerate(passages):
        end += len(passage)
        if position < end:
            return number
    return len(passages) - 1


def _split(rows: list[dict[str, str]]) -> Split:
    frame = pd.DataFrame(rows)
    return Split(frame[["qid", "query"]], frame[["qid", "docno"]].assign(label=1))
