"""The real collections and the shared encoder that the benchmarks measure on."""

from __future__ import annotations

import gzip
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
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


class Encoded:
    """The 10,858 passages and the 4,442 questions as token vectors, encoded once and kept in a folder.

    Args:
        shared: where the collections are.
        folder: where the vectors are kept.
        model: encodes them; None where they are there.
    """

    def __init__(self, shared: Path, folder: Path, model: JaColBERT | None = None) -> None:
        if not (folder / "done").is_file():
            assert model is not None
            folder.mkdir(parents=True, exist_ok=True)
            documents = list(passages(shared))
            for name, texts, encode in (
                ("documents", [doc["text"] for doc in documents], model.encode_documents),
                ("queries", questions(shared)["query"].tolist(), model.encode_queries),
            ):
                vectors = encode(texts)
                np.save(folder / f"{name}.npy", np.concatenate(vectors).astype(np.float16))
                np.save(folder / f"{name}.starts.npy", np.cumsum([0, *map(len, vectors)]))
            (folder / "docnos.json").write_text(json.dumps([doc["docno"] for doc in documents]), encoding="utf-8")
            (folder / "done").touch()
        self.folder = folder
        self.docnos: list[str] = json.loads((folder / "docnos.json").read_text(encoding="utf-8"))
        self.vectors = np.load(folder / "documents.npy", mmap_mode="r")
        self.starts = np.load(folder / "documents.starts.npy")
        self.query_vectors = np.load(folder / "queries.npy", mmap_mode="r")
        self.query_starts = np.load(folder / "queries.starts.npy")

    def documents(self) -> Iterator[dict[str, Any]]:
        """Documents as an indexer takes them, with their vectors."""
        for docno, first, end in zip(self.docnos, self.starts, self.starts[1:], strict=False):
            yield {"docno": docno, "doc_embs": np.asarray(self.vectors[first:end], dtype=np.float32)}

    def topics(self, shared: Path) -> pd.DataFrame:
        """The questions with ``query_embs`` and ``relevant``."""
        bounds = zip(self.query_starts, self.query_starts[1:], strict=False)
        rows = [np.asarray(self.query_vectors[first:end], dtype=np.float32) for first, end in bounds]
        return questions(shared).drop(columns="query").assign(query_embs=rows)


def part(encoded: Encoded, passages: int) -> Encoded:
    """The first passages, JSQuAD's before all, and all questions; kept beside the whole, for peers that need files."""
    folder = encoded.folder / f"first-{passages}"
    if not (folder / "done").is_file():
        folder.mkdir(exist_ok=True)
        np.save(folder / "documents.npy", encoded.vectors[: encoded.starts[passages]])
        np.save(folder / "documents.starts.npy", encoded.starts[: passages + 1])
        np.save(folder / "queries.npy", encoded.query_vectors)
        np.save(folder / "queries.starts.npy", encoded.query_starts)
        (folder / "docnos.json").write_text(json.dumps(encoded.docnos[:passages]), encoding="utf-8")
        (folder / "done").touch()
    return Encoded(Path(), folder)


def spliced(encoded: Encoded, folder: Path, passages: int = 200_000, tokens: int = 100, seed: int = 0) -> Path:
    """Token vectors of many passages, each of spans of 3 to 5 real ones, with noise; the real queries beside them.

    Args:
        encoded: the real ones.
        folder: where they are kept; made where they are not there.
        passages: how many.
        tokens: of a passage, on average.
        seed: of the draws.

    Returns:
        The folder, with the files of :class:`Encoded`.
    """
    if (folder / "done").is_file():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    draws = np.random.default_rng(seed)
    lengths = np.clip(draws.normal(tokens, 0.3 * tokens, passages), tokens // 5, 2 * tokens).astype(np.int64)
    starts = np.concatenate([[0], np.cumsum(lengths)])
    dim = encoded.vectors.shape[1]
    out = np.lib.format.open_memmap(folder / "documents.npy", "w+", np.float16, (int(starts[-1]), dim))
    real = np.diff(encoded.starts)
    for number in range(passages):
        parts = []
        pieces = int(draws.integers(3, 6))
        sizes = np.diff(np.linspace(0, lengths[number], pieces + 1).astype(int))
        for size, source in zip(sizes, draws.integers(len(real), size=pieces), strict=True):
            first = encoded.starts[source] + draws.integers(max(1, real[source] - size + 1))
            rows = np.asarray(encoded.vectors[first : min(first + size, encoded.starts[source + 1])], dtype=np.float32)
            parts.append(np.resize(rows, (size, dim)))
        rows = np.concatenate(parts)
        rows += draws.standard_normal(rows.shape, dtype=np.float32) * np.float32(0.15 / np.sqrt(dim))
        out[starts[number] : starts[number + 1]] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    out.flush()
    np.save(folder / "documents.starts.npy", starts)
    for name in ("queries.npy", "queries.starts.npy"):
        np.save(folder / name, np.load(encoded.folder / name))
    (folder / "done").touch()
    return folder
