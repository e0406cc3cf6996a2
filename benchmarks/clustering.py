"""Compares centroids from one k-means, from k-means within groups, and by token id: time, and what a codec loses.

    python -m benchmarks.clustering [--shared ../shared] [--model mini] [--keep runs/vectors] [--questions 500]

Trains 16,384 centroids on a sample of 524,288 vectors of 10,858 passages (JSQuAD validation and JaQuAD train), with 2
threads, once per method. By token id, every id of the vocabulary gets centroids in proportion to its share of the
sample, and a vector is assigned the nearest centroid of its id. Prints seconds to train and to assign, the mean square
of the residuals, and for 4, 2 and 1 bits the share of float16's first ten documents that are among the first ten.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from unittest import mock

import numpy as np
import torch

from benchmarks.arguments import benchmark_parser
from benchmarks.collections import EncodedCollection, passages
from pyterrier_jacolbert import JaColBERT
from pyterrier_jacolbert.index.codecs import kmeans
from pyterrier_jacolbert.index.codecs.residual import codec_around, random_rotation
from pyterrier_jacolbert.index.search.exact import ExactScorer, TokenVectors, search_exact

THREADS = 2
N_CENTROIDS = 16_384
SAMPLE = 2**19
#: Vectors of the sample that codecs are trained on.
CODEC_SAMPLE = 2**16
COMPRESSIONS = ("4bit", "2bit", "1bit")
#: Returns the centroid id of each vector, given vectors and their token ids.
Assign = Callable[[np.ndarray, np.ndarray], np.ndarray]


def main() -> None:
    parser = benchmark_parser(__doc__, "shared", "model", "keep")
    parser.add_argument("--questions", type=int, default=500, help="number of questions (default: 500)")
    args = parser.parse_args()
    torch.set_num_threads(THREADS)
    model = JaColBERT(args.model, verbose=True)
    collection = EncodedCollection(args.shared, args.keep, model)
    vectors = np.asarray(collection.vectors, dtype=np.float32)
    token_ids = scored_token_ids(model, [doc["text"] for doc in passages(args.shared)])
    assert len(token_ids) == len(vectors)
    bounds = list(zip(collection.query_starts, collection.query_starts[1:], strict=False))[: args.questions]
    queries = [np.asarray(collection.query_vectors[first:end], dtype=np.float32) for first, end in bounds]
    expected = first_ten(vectors, collection.starts, queries)
    rotation = random_rotation(vectors.shape[1], 0)
    rotated = vectors @ rotation
    sample_rows = np.sort(np.random.default_rng(0).choice(len(vectors), min(SAMPLE, len(vectors)), replace=False))
    columns = " | ".join(f"R@10 {compression}" for compression in COMPRESSIONS)
    print(f"| centroids | train s | assign s | mean square | {columns} |\n|{'---|' * 7}")
    methods = {"one k-means": one_kmeans, "k-means within groups": kmeans_within_groups, "by token id": by_token_id}
    for name, cluster in methods.items():
        start = time.perf_counter()
        centroids, assign = cluster(rotated[sample_rows], token_ids[sample_rows])
        trained = time.perf_counter()
        centroid_ids = assign(rotated, token_ids)
        assigned = time.perf_counter()
        mean_square = float(np.square(rotated - centroids[centroid_ids]).sum(axis=1).mean())
        shares = []
        for compression in COMPRESSIONS:
            rows = sample_rows[:: len(sample_rows) // CODEC_SAMPLE]
            codec = codec_around(rotated[rows], centroid_ids[rows], centroids.astype(np.float16), rotation, compression)
            decoded = codec.decode(codec.encode_around(rotated, centroid_ids))
            best = first_ten(decoded, collection.starts, queries)
            shares.append(f"{np.mean([len(a & b) / 10 for a, b in zip(best, expected, strict=True)]):.4f}")
        seconds = f"{trained - start:.1f} | {assigned - trained:.1f}"
        print(f"| {name} | {seconds} | {mean_square:.4f} | {' | '.join(shares)} |", flush=True)


def first_ten(vectors: np.ndarray, starts: np.ndarray, queries: list[np.ndarray]) -> list[set[int]]:
    """Returns the docids of the ten best documents of each query, by exact search."""
    tie_ranks = np.arange(len(starts) - 1)
    hits = search_exact(ExactScorer(TokenVectors(vectors, starts)), queries, 10, tie_ranks)
    return [set(docids.tolist()) for docids, _ in hits]


def one_kmeans(sample: np.ndarray, token_ids: np.ndarray) -> tuple[np.ndarray, Assign]:
    """Clusters the whole sample with one k-means."""
    with mock.patch.object(kmeans, "_MAX_ONE_STEP_CENTROIDS", N_CENTROIDS):
        centroids = kmeans.cluster(sample, N_CENTROIDS)
    return centroids, lambda vectors, _: kmeans.nearest(vectors, centroids)


def kmeans_within_groups(sample: np.ndarray, token_ids: np.ndarray) -> tuple[np.ndarray, Assign]:
    """Clusters the sample as the indexer does: into groups, then each group."""
    centroids = kmeans.cluster(sample, N_CENTROIDS)
    return centroids, lambda vectors, _: kmeans.nearest(vectors, centroids)


def by_token_id(sample: np.ndarray, token_ids: np.ndarray) -> tuple[np.ndarray, Assign]:
    """Clusters the vectors of each token id."""
    sizes = np.bincount(token_ids)
    counts = kmeans._centroids_per_group(sizes, N_CENTROIDS)
    order, ends = np.argsort(token_ids, kind="stable"), np.cumsum(sizes)
    parts: list[np.ndarray] = []
    centroids_by_id = {}
    for token_id in np.flatnonzero(sizes):
        rows = order[ends[token_id] - sizes[token_id] : ends[token_id]]
        part = kmeans._kmeans(sample[rows], int(counts[token_id]), 0)
        centroids_by_id[int(token_id)] = (sum(map(len, parts)), part)
        parts.append(part)
    centroids = np.concatenate(parts)

    def assign(vectors: np.ndarray, token_ids: np.ndarray) -> np.ndarray:
        centroid_ids = np.empty(len(vectors), dtype=np.uint16)
        for token_id in np.unique(token_ids):
            rows = np.flatnonzero(token_ids == token_id)
            first, part = centroids_by_id.get(int(token_id), (0, centroids))
            centroid_ids[rows] = first + kmeans.nearest(vectors[rows], part)
        return centroid_ids

    return centroids, assign


def scored_token_ids(model: JaColBERT, texts: list[str]) -> np.ndarray:
    """Returns the token id of each stored vector: int64 ``(n_tokens,)``."""
    skiplist = next(module for module in model.encoder.model if hasattr(module, "_skiplist_ids"))._skiplist_ids
    skipped = set() if skiplist is None else set(skiplist.tolist())
    return np.array([token for text in texts for token in model.encoder.document_ids(text) if token not in skipped])


if __name__ == "__main__":
    main()
