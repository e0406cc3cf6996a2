"""A retrieval collection built from JaQuAD's training articles: passages, questions, judgements, held-out articles."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

#: Maximum number of characters per passage of whole sentences, about the length of JSQuAD's paragraphs.
PASSAGE_CHARACTERS = 260
_SENTENCES = re.compile(r".+?(?:[。！？](?![」』）])|\n|\Z)", re.DOTALL)


@dataclass(frozen=True)
class Split:
    """Questions and judgements.

    Attributes:
        topics: ``qid``, ``query``.
        qrels: ``qid``, ``docno``, ``label``; the relevant document is the passage that contains the answer.
    """

    topics: pd.DataFrame
    qrels: pd.DataFrame


@dataclass(frozen=True)
class JaQuAD:
    """Passages and questions of JaQuAD.

    Attributes:
        docs: ``docno``, ``title``, ``text`` of all passages, including those of held-out articles.
        train: questions about the training articles.
        held_out: questions about the held-out articles, one in ten.
    """

    docs: list[dict[str, str]]
    train: Split
    held_out: Split


def load(folder: Path) -> JaQuAD:
    """Loads JaQuAD: splits contexts into passages, and articles by a hash of their title.

    Args:
        folder: folder with ``*.json.gz`` in SQuAD's format.

    Raises:
        FileNotFoundError: the folder has no such file.
    """
    files = sorted(folder.glob("*.json.gz"))
    if not files:
        raise FileNotFoundError(f"The folder {folder} has no *.json.gz; give the folder of JaQuAD's training files.")
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
                passages = split_into_passages(paragraph["context"])
                names = []
                for text in passages:
                    name = seen.setdefault((title, text), f"p{len(seen)}")
                    if name == f"p{len(docs)}":
                        docs.append({"docno": name, "title": title, "text": text})
                    names.append(name)
                for question in paragraph["qas"]:
                    answer = question["answers"][0]
                    passage = _passage_at(passages, answer["answer_start"])
                    row = {"qid": question["id"], "query": question["question"], "docno": names[passage]}
                    rows[held_out].append(row)
    return JaQuAD(docs, _to_split(rows[False]), _to_split(rows[True]))


def is_held_out(title: str) -> bool:
    """Returns whether an article is held out from training, as about one in ten is."""
    return hashlib.sha256(title.encode()).digest()[0] < 26


def split_into_passages(context: str) -> list[str]:
    """Splits a text into passages of whole sentences.

    A passage has at most ``PASSAGE_CHARACTERS`` characters, unless it is a single longer sentence.
    """
    passages, passage = [], ""
    for sentence in _SENTENCES.findall(context):
        if passage and len(passage) + len(sentence) > PASSAGE_CHARACTERS:
            passages.append(passage)
            passage = ""
        passage += sentence
    return [*passages, passage] if passage else passages


def _passage_at(passages: list[str], position: int) -> int:
    end = 0
    for number, passage in enumerate(passages):
        end += len(passage)
        if position < end:
            return number
    return len(passages) - 1


def _to_split(rows: list[dict[str, str]]) -> Split:
    frame = pd.DataFrame(rows)
    return Split(frame[["qid", "query"]], frame[["qid", "docno"]].assign(label=1))
