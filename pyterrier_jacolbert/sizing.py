"""What a collection will take, before it is indexed: hours, disk, memory, milliseconds.

Bytes on disk follow from the format. Times and memory are predicted from measurements in ``sizing.json``, each with its
source, by a model of few terms: what grows with the tokens, with the centroids, with neither. The error that is stated
is how far the model is off where it predicts the largest measurement from the smaller ones, which is what a plan does.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from pyterrier_jacolbert.model import JaColBERT

#: The project's own measurements: a list of objects with ``measure``, ``value`` and ``source``. ``encode`` has
#: ``device``, ``model`` and token vectors a second; the others (see :data:`TERMS`) have ``documents``, ``tokens``,
#: ``dim``, ``compression`` and ``threads``.
FILE = Path(__file__).with_name("sizing.json")
#: What is measured, and what it is a sum of: of ``t``, of tokens, ``n``, of documents, ``c``, the number of centroids,
#: ``m``, of vectors that a query is multiplied with, and ``v``, of tokens that a first stage looks at. The larger the
#: table of centroids, the less of it is in a cache when a token's row is wanted. Coding compares a token with some
#: groups of centroids, as many as the root of their number, and holds a shard at a time.
TERMS = {
    "search_ms": ("m", "v*sqrt(c)"),
    "build_seconds": ("1", "t", "t*sqrt(c)"),
    "build_bytes": ("1",),
    "search_bytes": ("1", "c", "n"),
}
#: Tokens and results of a query that are reckoned with, and what a centroid costs beside a candidate's token: its
#: product is stored, brought to bytes, and looked through for the best (at 200,000 passages, by hand: 1.3 with int8,
#: 2.5 with 4 bits).
_QUERY_TOKENS = 24
_RESULTS = 100
_CENTROID = 2
#: Bytes of a docno that are reckoned with, and of a document besides it: where its vectors and its name start, and the
#: tables that find and sort names.
_DOCNO_BYTES = 16
_DOCUMENT_BYTES = 8 + 8 + 8 + 4 + 4


@dataclass(frozen=True)
class Size:
    """A collection, as its index will hold it.

    Attributes:
        documents: how many.
        tokens: token vectors in all.
        dim: numbers of each.
    """

    documents: int
    tokens: int
    dim: int = 128


@dataclass(frozen=True)
class Prediction:
    """A number, and how sure it is.

    Attributes:
        value: in the unit that the measure's name says.
        error: a share of it: how far the model was off where it had to predict the largest measurement from the
            others; None where there are too few to say.
        measured: the most tokens that were measured.
    """

    value: float
    error: float | None
    measured: int


def measurements(path: Path = FILE) -> list[dict[str, Any]]:
    """What was measured.

    Raises:
        ValueError: an entry lacks a field.
    """
    entries = json.loads(path.read_text(encoding="utf-8"))
    for entry in entries:
        fields = {"measure", "value", "source"}
        of_device = entry.get("measure") == "encode"
        fields |= {"device", "model"} if of_device else {"documents", "tokens", "dim", "compression", "threads"}
        if missing := sorted(fields - entry.keys()):
            raise ValueError(f"A measurement in {path} has no {missing[0]!r}; add it to {entry}.")
    return list(entries)


def disk_bytes(size: Size, compression: str) -> int:
    """Bytes of an index, but for stored texts; right to a few in a hundred, by the length of docnos."""
    return _token_bytes(size, compression) + size.documents * (_DOCNO_BYTES + _DOCUMENT_BYTES)


def disk_bytes_building(size: Size, compression: str) -> int:
    """The most bytes on the disk during a build: low-bit codes come when all float16 vectors are there."""
    raw = size.tokens * 2 * size.dim if compression in ("4bit", "2bit", "1bit") else 0
    return disk_bytes(size, compression) + raw + size.documents * 8


def predict(entries: Sequence[Mapping[str, Any]], measure: str, size: Size, compression: str) -> dict[int, Prediction]:
    """Predicts a measure, for each number of threads that it was measured with.

    Args:
        entries: as :func:`measurements` gives them.
        measure: one of :data:`TERMS`.
        size: of the collection.
        compression: of the index.

    Returns:
        By number of threads; nothing where nothing was measured.
    """
    found: dict[int, list[Mapping[str, Any]]] = {}
    for entry in entries:
        if entry["measure"] == measure and entry["compression"] == compression:
            found.setdefault(int(entry["threads"]), []).append(entry)
    predictions = {}
    for threads, of_threads in sorted(found.items()):
        ordered = sorted(of_threads, key=lambda entry: entry["tokens"])
        largest = ordered[-1]
        error = None
        if len(ordered) > 2:
            there = Size(largest["documents"], largest["tokens"], largest["dim"])
            error = abs(_predicted(ordered[:-1], measure, there) / largest["value"] - 1)
        value = _predicted(ordered, measure, size)
        predictions[threads] = Prediction(value, error, largest["tokens"])
    return predictions


def probe(model: JaColBERT, mean_tokens: float, seconds: float = 10) -> float:
    """Measures how fast this machine encodes: documents of so many tokens a second.

    Args:
        model: the checkpoint.
        mean_tokens: of a document.
        seconds: how long to measure, after the first batch.
    """
    import pyterrier as pt

    documents = pt.get_dataset("jacolbert:demo").get_corpus_iter(verbose=False)
    text = "".join(document["text"] for document in documents)
    per_character = len(model.encode_documents([text[:200]])[0]) / 200
    length = max(1, round(mean_tokens / per_character))
    starts = np.random.default_rng(0).integers(max(1, len(text) - length), size=256)
    texts = [text[start : start + length] for start in starts]
    model.encode_documents(texts[:8])
    tokens, begun = 0, time.perf_counter()
    count = 16
    while (spent := time.perf_counter() - begun) < seconds:
        tokens += sum(map(len, model.encode_documents(texts[:count])))
        count = min(2 * count, len(texts))
    return tokens / spent / mean_tokens


def _predicted(entries: Sequence[Mapping[str, Any]], measure: str, size: Size) -> float:
    """The value for a size by the sum of terms, none negative, that is nearest to the measurements, relatively."""
    from scipy.optimize import nnls

    rows = np.array([_terms(measure, Size(e["documents"], e["tokens"], e["dim"]), e.get("centroids")) for e in entries])
    values = np.array([entry["value"] for entry in entries], dtype=float)
    scales = rows.max(axis=0)
    # Divided by its value, so that each measurement counts alike.
    weights, _ = nnls(rows / scales / values[:, None], np.ones(len(values)))
    return float(_terms(measure, size) / scales @ weights)


def _terms(measure: str, size: Size, centroids: int | None = None) -> np.ndarray:
    from pyterrier_jacolbert.index.build import default_centroids
    from pyterrier_jacolbert.pipeline.retrievers import candidate_count

    count = centroids or default_centroids(size.tokens)
    wide = size.dim / 128  # products take as long as vectors are wide
    terms = {
        "1": 1.0,
        "n": float(size.documents),
        "c": float(count),
        "m": (candidate_count("balanced", _RESULTS) * size.tokens / size.documents + _CENTROID * count) * wide,
        "v*sqrt(c)": looked_at(size, count) * np.sqrt(count),
        "t": size.tokens * wide,
        "t*sqrt(c)": size.tokens * wide * np.sqrt(count),
    }
    return np.array([terms[name] for name in TERMS[measure]])


def looked_at(size: Size, centroids: int) -> float:
    """Tokens of the documents that the first stage of a search looks at: of all, or of those that a probe leads to.

    As if the centroids were equally common, and a document's tokens independent of each other.
    """
    from pyterrier_jacolbert.pipeline.retrievers import PROBED_TOKENS, PROBES

    if size.tokens < PROBED_TOKENS:
        return float(size.tokens)
    share = min(1.0, PROBES["balanced"] * _QUERY_TOKENS / centroids)
    return size.tokens * float(1 - (1 - share) ** (size.tokens / size.documents))


def _token_bytes(size: Size, compression: str) -> int:
    from pyterrier_jacolbert.index.build import INT8_CENTROIDS_TOKENS, default_centroids
    from pyterrier_jacolbert.index.residual_codec import packed_width
    from pyterrier_jacolbert.index.scalar_codecs import Float16Codec, Int8Codec

    if compression in ("4bit", "2bit", "1bit"):
        row = packed_width(size.dim, int(compression[0])) + 4  # a centroid's number and two gains
    else:
        columns = (Float16Codec(size.dim) if compression == "float16" else Int8Codec(size.dim)).columns
        row = sum(column.row_bytes for column in columns.values())
    if compression == "float16" or (compression == "int8" and size.tokens < INT8_CENTROIDS_TOKENS):
        return size.tokens * row
    row += 2 if compression == "int8" else 0
    return size.tokens * row + default_centroids(size.tokens) * size.dim * 2
