"""Predicts what a collection takes before it is indexed: hours, disk, memory, milliseconds.

Bytes on disk follow from the format. Times and memory are predicted from measurements, each with its source, by a model
of few terms: one that grows with tokens, one with centroids, one with neither. The stated error is that of predicting
the largest measurement from the smaller ones, which is what a plan does.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pyterrier_jacolbert.index.codecs.residual import packed_width
from pyterrier_jacolbert.index.codecs.scalar import Float16Codec, Int8Codec
from pyterrier_jacolbert.index.codecs.training import INT8_CENTROIDS_TOKENS, default_n_centroids, keeps_vectors
from pyterrier_jacolbert.index.search.two_stage import PROBED_TOKENS, PROBES, default_n_candidates
from pyterrier_jacolbert.index.storage.layout import BITS
from pyterrier_jacolbert.model import JaColBERT

#: The project's own measurements: a list of objects with ``measure``, ``value`` and ``source``. ``encode`` has
#: ``device``, ``model`` and token vectors per second; the others (see :data:`TERMS`) have ``documents``, ``tokens``,
#: ``dim``, ``compression`` and ``threads``.
FILE = Path(__file__).with_name("measurements.json")
#: The terms of each measure: ``t``, tokens; ``n``, documents; ``c``, centroids; ``m``, vectors multiplied with a query;
#: ``v``, tokens that a first stage looks up. The larger the table of centroids, the less of it is in a cache when the
#: row of a token is needed. Compression compares a token with some groups of centroids, as many as the square root of
#: their number, and holds one shard at a time.
TERMS = {
    "search_ms": ("m", "v*sqrt(c)"),
    "build_seconds": ("1", "t", "t*sqrt(c)"),
    "build_bytes": ("1",),
    "search_bytes": ("1", "c", "n"),
}
#: Tokens and results per query that the model assumes.
_QUERY_TOKENS = 24
_RESULTS = 100
#: Cost of a centroid relative to a token of a candidate: its product is stored, converted to a byte, and searched for
#: the best (at 200,000 passages, measured by hand: 1.3 with int8, 2.5 with 4 bits).
_CENTROID_COST = 2
#: Assumed bytes of a docno, and bytes per document besides it: the starts of its vectors and its docno, and the tables
#: that look up and rank docnos.
_DOCNO_BYTES = 16
_DOCUMENT_BYTES = 8 + 8 + 8 + 4 + 4
#: Digest of the content of a document.
_DIGEST_BYTES = 8


@dataclass(frozen=True)
class Size:
    """The size of a collection.

    Attributes:
        documents: number of documents.
        tokens: number of token vectors.
        dim: dimensions of a token vector.
    """

    documents: int
    tokens: int
    dim: int = 128


@dataclass(frozen=True)
class Prediction:
    """A predicted value and its error.

    Attributes:
        value: in the unit of the measure.
        error: relative error of predicting the largest measurement from the others; None if there are too few.
        measured: largest number of tokens that was measured.
    """

    value: float
    error: float | None
    measured: int


def measurements(path: Path = FILE) -> list[dict[str, Any]]:
    """Reads measurements.

    Raises:
        ValueError: an entry lacks a field.
    """
    entries = json.loads(path.read_text(encoding="utf-8"))
    for entry in entries:
        required = {"measure", "value", "source"}
        encoding = entry.get("measure") == "encode"
        required |= {"device", "model"} if encoding else {"documents", "tokens", "dim", "compression", "threads"}
        if missing := sorted(required - entry.keys()):
            raise ValueError(f"A measurement in {path} has no {missing[0]!r}; add it to {entry}.")
    return list(entries)


def disk_bytes(size: Size, compression: str) -> int:
    """Returns the bytes of an index without stored texts, to within a few percent, which depend on the docnos.

    A small index of 4, 2 or 1 bits keeps its vectors in float16, too.
    """
    raw = _raw_bytes(size) if keeps_vectors(compression, size.tokens) else 0
    return _token_bytes(size, compression) + raw + size.documents * (_DOCNO_BYTES + _DOCUMENT_BYTES + _DIGEST_BYTES)


def disk_bytes_building(size: Size, compression: str) -> int:
    """Returns the peak bytes on disk during a build; low-bit codes are written after all float16 vectors."""
    is_written_twice = compression in BITS and not keeps_vectors(compression, size.tokens)
    return disk_bytes(size, compression) + (_raw_bytes(size) if is_written_twice else 0)


def predict(entries: Sequence[Mapping[str, Any]], measure: str, size: Size, compression: str) -> dict[int, Prediction]:
    """Predicts a measure for each measured number of threads.

    Args:
        entries: from :func:`measurements`.
        measure: one of :data:`TERMS`.
        size: of the collection.
        compression: of the index.

    Returns:
        Predictions by number of threads; empty if nothing was measured.
    """
    by_threads: dict[int, list[Mapping[str, Any]]] = {}
    for entry in entries:
        if entry["measure"] == measure and entry["compression"] == compression:
            by_threads.setdefault(int(entry["threads"]), []).append(entry)
    predictions = {}
    for threads, measured in sorted(by_threads.items()):
        ordered = sorted(measured, key=lambda entry: entry["tokens"])
        largest = ordered[-1]
        error = None
        if len(ordered) > 2:
            largest_size = Size(largest["documents"], largest["tokens"], largest["dim"])
            error = abs(_fit_and_predict(ordered[:-1], measure, largest_size) / largest["value"] - 1)
        value = _fit_and_predict(ordered, measure, size)
        predictions[threads] = Prediction(value, error, largest["tokens"])
    return predictions


def probe(model: JaColBERT, mean_tokens: float, seconds: float = 10) -> float:
    """Measures how many documents this machine encodes per second.

    Args:
        model: the checkpoint.
        mean_tokens: mean number of tokens per document.
        seconds: duration of the measurement, after the first batch.
    """
    import pyterrier as pt

    documents = pt.get_dataset("jacolbert:demo").get_corpus_iter(verbose=False)
    text = "".join(document["text"] for document in documents)
    tokens_per_character = len(model.encode_documents([text[:200]])[0]) / 200
    length = max(1, round(mean_tokens / tokens_per_character))
    starts = np.random.default_rng(0).integers(max(1, len(text) - length), size=256)
    texts = [text[start : start + length] for start in starts]
    model.encode_documents(texts[:8])
    tokens, start_time = 0, time.perf_counter()
    count = 16
    while (elapsed := time.perf_counter() - start_time) < seconds:
        tokens += sum(map(len, model.encode_documents(texts[:count])))
        count = min(2 * count, len(texts))
    return tokens / elapsed / mean_tokens


def first_stage_tokens(size: Size, centroids: int) -> float:
    """Returns the number of tokens of the documents that the first stage scores: all, or those that a probe selects.

    Assumes that centroids are equally frequent, and tokens of a document independent.
    """
    if size.tokens < PROBED_TOKENS:
        return float(size.tokens)
    share = min(1.0, PROBES["balanced"] * _QUERY_TOKENS / centroids)
    return size.tokens * float(1 - (1 - share) ** (size.tokens / size.documents))


def _fit_and_predict(entries: Sequence[Mapping[str, Any]], measure: str, size: Size) -> float:
    """Fits a sum of non-negative terms to measurements, by relative error, and returns its value for a size."""
    from scipy.optimize import nnls

    sizes = [(Size(entry["documents"], entry["tokens"], entry["dim"]), entry.get("centroids")) for entry in entries]
    rows = np.array([_terms(measure, *measured) for measured in sizes])
    values = np.array([entry["value"] for entry in entries], dtype=float)
    scales = rows.max(axis=0)
    # Rows are divided by their values, so that all measurements have the same weight.
    weights, _ = nnls(rows / scales / values[:, None], np.ones(len(values)))
    return float(_terms(measure, size) / scales @ weights)


def _terms(measure: str, size: Size, centroids: int | None = None) -> np.ndarray:
    count = centroids or default_n_centroids(size.tokens)
    width = size.dim / 128  # the time of a product is proportional to the dimensions
    candidate_tokens = default_n_candidates("balanced", _RESULTS) * size.tokens / size.documents
    terms = {
        "1": 1.0,
        "n": float(size.documents),
        "c": float(count),
        "m": (candidate_tokens + _CENTROID_COST * count) * width,
        "v*sqrt(c)": first_stage_tokens(size, count) * np.sqrt(count),
        "t": size.tokens * width,
        "t*sqrt(c)": size.tokens * width * np.sqrt(count),
    }
    return np.array([terms[name] for name in TERMS[measure]])


def _raw_bytes(size: Size) -> int:
    return size.tokens * 2 * size.dim


def _token_bytes(size: Size, compression: str) -> int:
    if compression in BITS:
        row = packed_width(size.dim, BITS[compression]) + 4  # a centroid id and two factor codes
    else:
        codec = Float16Codec(size.dim) if compression == "float16" else Int8Codec(size.dim)
        row = sum(column.row_bytes for column in codec.columns.values())
    if compression == "float16" or (compression == "int8" and size.tokens < INT8_CENTROIDS_TOKENS):
        return size.tokens * row
    row += 2 if compression == "int8" else 0
    return size.tokens * row + default_n_centroids(size.tokens) * size.dim * 2
