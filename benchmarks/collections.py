"""The real collections and the shared encoder that the benchmarks measure on."""

from __future__ import annotations

import gzip
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from examples.me5 import me5_model
from pyterrier_jacolbert import JaColBERT


def me5(shared: Path, **settings: object) -> JaColBERT:
    """The shared me5-small-ja as a multi-vector encoder."""
    return me5_model(need(shared / "models" / "me5-small-ja"), **settings)


def passages(shared: Path) -> Iterator[dict[str, str]]:
    """JSQuAD validation paragraphs and JaQuAD train contexts: 10,858 passages."""
    yield from jsquad_documents(shared)
    seen = set()
    for file in sorted(need(shared / "data" / "jaquad" / "train").glob("*.json.gz")):
        with gzip.open(file, "rt", encoding="utf-8") as stream:
            for article in json.load(stream)["data"]:
                for paragraph in article["paragraphs"]:
                    if paragraph["context"] not in seen:
                        seen.add(paragraph["context"])
                        yield {"docno": f"jaquad-{len(seen)}", "text": paragraph["context"]}


def jsquad_documents(shared: Path) -> Iterator[dict[str, str]]:
    """JSQuAD validation paragraphs: 1,145, "TITLE TEXT"."""
    for article, paragraph, text, _ in _jsquad(shared):
        yield {"docno": f"jsquad-{article}-{paragraph}", "text": text}


def questions(shared: Path) -> pd.DataFrame:
    """JSQuAD validation questions, 4,442, with the docno of each one's own paragraph in ``relevant``."""
    rows = [
        {"qid": question["id"], "query": question["question"], "relevant": f"jsquad-{article}-{paragraph}"}
        for article, paragraph, _, asked in _jsquad(shared)
        for question in asked
    ]
    return pd.DataFrame(rows)


def _jsquad(shared: Path) -> Iterator[tuple[int, int, str, list[dict[str, str]]]]:
    file = need(shared / "data" / "jsquad" / "valid-v1.3.json")
    for number, article in enumerate(json.loads(file.read_text(encoding="utf-8"))["data"]):
        for position, paragraph in enumerate(article["paragraphs"]):
            yield number, position, paragraph["context"].replace(" [SEP] ", " "), paragraph["qas"]


def need(path: Path) -> Path:
    """The path, or the end of the program with a word on what is missing."""
    if not path.exists():
        sys.exit(f"skipped: {path} is not here; the benchmarks read the shared data and weights beside the checkout.")
    return path
