"""The real collection that the benchmarks measure on, its token vectors, and synthetic passages spliced from them."""

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
    """Returns me5-small-ja as a multi-vector encoder."""
    return me5_model(require(shared / "models" / "me5-small-ja"), **settings)


def passages(shared: Path) -> Iterator[dict[str, str]]:
    """Reads the 10,858 passages: the paragraphs of JSQuAD validation, then the contexts of JaQuAD train."""
    yield from jsquad_documents(shared)
    seen = set()
    for file in sorted(require(shared / "data" / "jaquad" / "train").glob("*.json.gz")):
        with gzip.open(file, "rt", encoding="utf-8") as stream:
            for article in json.load(stream)["data"]:
                for paragraph in article["paragraphs"]:
                    if paragraph["context"] not in seen:
                        seen.add(paragraph["context"])
                        yield {"docno": f"jaquad-{len(seen)}", "text": paragraph["context"]}


def jsquad_documents(shared: Path) -> Iterator[dict[str, str]]:
    """Reads the 1,145 paragraphs of JSQuAD validation in the text form "TITLE TEXT"."""
    for article, paragraph, text, _ in _jsquad_paragraphs(shared):
        yield {"docno": f"jsquad-{article}-{paragraph}", "text": text}


def questions(shared: Path) -> pd.DataFrame:
    """Reads the 4,442 questions of JSQuAD validation, with the docno of each question's paragraph in ``relevant``."""
    rows = [
        {"qid": question["id"], "query": question["question"], "relevant": f"jsquad-{article}-{paragraph}"}
        for article, paragraph, _, paragraph_questions in _jsquad_paragraphs(shared)
        for question in paragraph_questions
    ]
    return pd.DataFrame(rows)


def _jsquad_paragraphs(shared: Path) -> Iterator[tuple[int, int, str, list[dict[str, str]]]]:
    file = require(shared / "data" / "jsquad" / "valid-v1.3.json")
    for number, article in enumerate(json.loads(file.read_text(encoding="utf-8"))["data"]):
        for position, paragraph in enumerate(article["paragraphs"]):
            yield number, position, paragraph["context"].replace(" [SEP] ", " "), paragraph["qas"]


def require(path: Path) -> Path:
    """Returns a path, or exits with a message if nothing is there."""
    if not path.exists():
        sys.exit(f"There is no {path}; give the folder with the benchmarks' data and models with --shared.")
    return path


class EncodedCollection:
    """Token vectors of the 10,858 passages and the 4,442 questions, encoded once and kept in a folder.

    Args:
        shared: folder with the data.
        folder: folder that keeps the vectors.
        model: checkpoint that encodes the texts; None if the folder is complete.

    Attributes:
        folder: folder that keeps the vectors.
        docnos: docnos of the passages.
        vectors: float16 ``(n_tokens, dim)``, those of the passages, memory-mapped.
        starts: int64 ``(n_passages + 1,)``: passage ``i`` has the rows ``starts[i]`` to ``starts[i + 1]``.
        query_vectors: float16 ``(n_query_tokens, dim)``, those of the questions, memory-mapped.
        query_starts: int64 ``(n_questions + 1,)``.
    """

    def __init__(self, shared: Path, folder: Path, model: JaColBERT | None = None) -> None:
        if not (folder / "done").is_file():
            if model is None:
                raise FileNotFoundError(f"The folder {folder} has no vectors; pass a model that encodes the texts.")
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
        """Yields the passages with ``doc_embs``, for an indexer."""
        for docno, first, end in zip(self.docnos, self.starts, self.starts[1:], strict=False):
            yield {"docno": docno, "doc_embs": np.asarray(self.vectors[first:end], dtype=np.float32)}

    def topics(self, shared: Path) -> pd.DataFrame:
        """Returns the questions with ``query_embs`` and ``relevant``."""
        bounds = zip(self.query_starts, self.query_starts[1:], strict=False)
        rows = [np.asarray(self.query_vectors[first:end], dtype=np.float32) for first, end in bounds]
        return questions(shared).drop(columns="query").assign(query_embs=rows)


def first_passages(collection: EncodedCollection, n_passages: int) -> EncodedCollection:
    """Returns the first passages, which start with JSQuAD's, and all questions.

    They are written to a subfolder of the collection, for peers that read files.
    """
    folder = collection.folder / f"first-{n_passages}"
    if not (folder / "done").is_file():
        folder.mkdir(exist_ok=True)
        np.save(folder / "documents.npy", collection.vectors[: collection.starts[n_passages]])
        np.save(folder / "documents.starts.npy", collection.starts[: n_passages + 1])
        np.save(folder / "queries.npy", collection.query_vectors)
        np.save(folder / "queries.starts.npy", collection.query_starts)
        (folder / "docnos.json").write_text(json.dumps(collection.docnos[:n_passages]), encoding="utf-8")
        (folder / "done").touch()
    return EncodedCollection(Path(), folder)


def splice_passage(collection: EncodedCollection, n_tokens: int, rng: np.random.Generator) -> np.ndarray:
    """Splices a passage from spans of 3 to 5 real ones and adds noise: float32 ``(n_tokens, dim)``, unit rows.

    Args:
        collection: real passages.
        n_tokens: number of tokens of the passage.
        rng: draws the passages, the spans and the noise.
    """
    starts, dim = collection.starts, collection.vectors.shape[1]
    lengths = np.diff(starts)
    n_spans = int(rng.integers(3, 6))
    span_lengths = np.diff(np.linspace(0, n_tokens, n_spans + 1).astype(int))
    spans = []
    for span_length, source in zip(span_lengths, rng.integers(len(lengths), size=n_spans), strict=True):
        first = starts[source] + rng.integers(max(1, lengths[source] - span_length + 1))
        rows = collection.vectors[first : min(first + span_length, starts[source + 1])]
        spans.append(np.resize(rows, (span_length, dim)))
    vectors = np.concatenate(spans).astype(np.float32)
    vectors += rng.standard_normal(vectors.shape, dtype=np.float32) * np.float32(0.15 / np.sqrt(dim))
    normalized: np.ndarray = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return normalized


def write_spliced_collection(
    collection: EncodedCollection, folder: Path, n_passages: int = 200_000, mean_tokens: int = 100, seed: int = 0
) -> Path:
    """Writes the token vectors of spliced passages, with the real queries.

    Args:
        collection: real passages and queries.
        folder: folder to write, unless it is complete.
        n_passages: number of passages.
        mean_tokens: mean number of tokens per passage.
        seed: seed of the draws.

    Returns:
        The folder, with the arrays of :class:`EncodedCollection`.
    """
    if (folder / "done").is_file():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    drawn = rng.normal(mean_tokens, 0.3 * mean_tokens, n_passages)
    lengths = np.clip(drawn, mean_tokens // 5, 2 * mean_tokens).astype(np.int64)
    starts = np.concatenate([[0], np.cumsum(lengths)])
    shape = int(starts[-1]), collection.vectors.shape[1]
    vectors = np.lib.format.open_memmap(folder / "documents.npy", "w+", np.float16, shape)
    for number, length in enumerate(lengths):
        vectors[starts[number] : starts[number + 1]] = splice_passage(collection, length, rng)
    vectors.flush()
    np.save(folder / "documents.starts.npy", starts)
    for name in ("queries.npy", "queries.starts.npy"):
        np.save(folder / name, np.load(collection.folder / name))
    (folder / "done").touch()
    return folder
