"""Centroids by one k-means, by k-means of groups, and by token id: how long they take, and what a codec loses by them.

    python -m benchmarks.clustering [--shared ../shared] [--model mini] [--keep runs/vectors] [--questions 500]

10,858 passages (JSQuAD validation and JaQuAD train), 16,384 centroids from a sample of 524,288 vectors, 2 threads. By
token id: each id of the vocabulary gets centroids by its share of the sample, and a vector the nearest one of its id.
Columns: seconds to train and to assign, the mean square of the residuals, and for 4, 2 and 1 bits the share of
float16's first ten that are among the first ten. One run each.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from unittest import mock

import numpy as np
import torch

from benchmarks import arguments as common
from benchmarks.collections import Encoded, passages
from pyterrier_jacolbert import JaColBERT
from pyterrier_jacolbert.index import centroids as clustering
from pyterrier_jacolbert.index.lanes import FloatLane, TokenVectors
from pyterrier_jacolbert.index.residual_codec import codec_around, random_rotation
from pyterrier_jacolbert.index.search import search_exact

THREADS = 2
COUNT = 16_384
SAMPLE = 2**19
COMPRESSIONS = ("4bit", "2bit", "1bit")
#: Gives the number of each vector's centroid, from vectors and their token ids.
Assign = Callable[[np.ndarray, np.ndarray], np.ndarray]


def main() -> None:
    parser = common.parser(__doc__, "shared", "model", "keep")
    parser.add_argument("--questions", type=int, default=500)
    arguments = parser.parse_args()
    torch.set_num_threads(THREADS)
    model = JaColBERT(arguments.model, verbose=True)
    encoded = Encoded(arguments.shared, arguments.keep, model)
    vectors = np.asarray(encoded.vectors, dtype=np.float32)
    ids = token_ids(model, [doc["text"] for doc in passages(arguments.shared)])
    assert len(ids) == len(vectors)
    bounds = list(zip(encoded.query_starts, encoded.query_starts[1:], strict=False))[: arguments.questions]
    queries = [np.asarray(encoded.query_vectors[first:end], dtype=np.float32) for first, end in bounds]
    ties = np.arange(len(encoded.starts) - 1)

    def best(rows: np.ndarray) -> list[set[int]]:
        found = search_exact(FloatLane(TokenVectors(rows, encoded.starts)), queries, 10, ties)
        return [set(docids.tolist()) for docids, _ in found]

    expected = best(vectors)
    rotation = random_rotation(vectors.shape[1], 0)
    rotated = vectors @ rotation
    chosen = np.sort(np.random.default_rng(0).choice(len(vectors), min(SAMPLE, len(vectors)), replace=False))
    shares = [f"R@10 {compression}" for compression in COMPRESSIONS]
    print(f"| centroids | train s | assign s | mean square | {' | '.join(shares)} |\n|{'---|' * 7}")
    for name, clusterer in (("one k-means", at_once), ("of groups", in_groups), ("by token id", by_token_id)):
        begun = time.perf_counter()
        centroids, assign = clusterer(rotated[chosen], ids[chosen])
        trained = time.perf_counter()
        numbers = assign(rotated, ids)
        assigned = time.perf_counter()
        square = float(np.square(rotated - centroids[numbers]).sum(axis=1).mean())
        shares = []
        for compression in COMPRESSIONS:
            sample = chosen[:: len(chosen) // 2**16]
            halves = centroids.astype(np.float16)
            codec = codec_around(rotated[sample], numbers[sample], halves, rotation, compression)
            rows = codec.decode(codec.code(rotated, numbers))
            same = [len(a & b) / 10 for a, b in zip(best(rows), expected, strict=True)]
            shares.append(f"{np.mean(same):.4f}")
        seconds = f"{trained - begun:.1f} | {assigned - trained:.1f}"
        print(f"| {name} | {seconds} | {square:.4f} | {' | '.join(shares)} |", flush=True)


def at_once(sample: np.ndarray, ids: np.ndarray) -> tuple[np.ndarray, Assign]:
    """One k-means over the whole sample."""
    with mock.patch.object(clustering, "_AT_ONCE", COUNT):
        centroids = clustering.cluster(sample, COUNT)
    return centroids, lambda vectors, _: clustering.nearest(vectors, centroids)


def in_groups(sample: np.ndarray, ids: np.ndarray) -> tuple[np.ndarray, Assign]:
    """What the indexer does."""
    centroids = clustering.cluster(sample, COUNT)
    return centroids, lambda vectors, _: clustering.nearest(vectors, centroids)


def by_token_id(sample: np.ndarray, ids: np.ndarray) -> tuple[np.ndarray, Assign]:
    """k-means among the vectors of each token id."""
    sizes = np.bincount(ids)
    shares = clustering._shares(sizes, COUNT)
    order, ends = np.argsort(ids, kind="stable"), np.cumsum(sizes)
    parts: list[np.ndarray] = []
    places = {}
    for token in np.flatnonzero(sizes):
        part = clustering._kmeans(sample[order[ends[token] - sizes[token] : ends[token]]], int(shares[token]), 0)
        places[int(token)] = (sum(map(len, parts)), part)
        parts.append(part)
    centroids = np.concatenate(parts)

    def assign(vectors: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        numbers = np.empty(len(vectors), dtype=np.uint16)
        for token in np.unique(tokens):
            rows = np.flatnonzero(tokens == token)
            first, part = places.get(int(token), (0, centroids))
            numbers[rows] = first + clustering.nearest(vectors[rows], part)
        return numbers

    return centroids, assign


def token_ids(model: JaColBERT, texts: list[str]) -> np.ndarray:
    """The id of each stored vector."""
    skipped = next(module for module in model.encoder.model if hasattr(module, "_skiplist_ids"))._skiplist_ids
    left_out = set() if skipped is None else set(skipped.tolist())
    return np.array([token for text in texts for token in model.encoder.document_ids(text) if token not in left_out])


if __name__ == "__main__":
    main()
