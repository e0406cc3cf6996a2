"""Exact retrieval of many queries in one frame, beside one float32 torch.matmul MaxSim per query.

    python -m benchmarks.search [--shared ../shared] [--queries 256] [--repeats 3]

Collection: the JSQuAD validation paragraphs and the JaQuAD train contexts. Vectors: from the shared me5-small-ja
encoder (384 numbers each); a query has 32 positions.
Prints one JSON line with the medians, their ratio, thread counts and the largest difference of scores.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch

import pyterrier_jacolbert as pj
from benchmarks.collections import me5, passages, questions

THREADS = 2


def matmul_maxsim(vectors: torch.Tensor, lengths: torch.Tensor, query: torch.Tensor, k: int) -> torch.Tensor:
    """The peer: all similarities of a query by one product, their maxima per document, the sum, the best k."""
    similarities = vectors @ query.T
    maxima = torch.segment_reduce(similarities, "max", lengths=lengths, axis=0)
    return torch.topk(maxima.sum(1), k)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, default=Path(__file__).parents[2] / "shared")
    parser.add_argument("--queries", type=int, default=256)
    parser.add_argument("--query-length", type=int, default=32, help="positions of a query ([MASK] augmented)")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--index", type=Path, default=Path("runs/bench-search.jacolbert"), help="built once, then kept")
    arguments = parser.parse_args()
    torch.set_num_threads(THREADS)
    model = me5(arguments.shared, query_length=arguments.query_length)
    index = pj.JaColBERTIndex(arguments.index, model)
    if not index.built():
        index = pj.JaColBERTIndexer(arguments.index, model, verbose=True).index(passages(arguments.shared))
    topics = questions(arguments.shared).sample(arguments.queries, random_state=0)
    topics = model.query_encoder()(topics.reset_index(drop=True))
    retriever = index.retriever(num_results=100)
    stored = index.token_vectors()
    vectors = torch.from_numpy(stored.vectors.astype(np.float32))
    lengths = torch.from_numpy(np.diff(stored.starts))
    retriever(topics.head(2))  # compiles the kernel
    ours, peers = [], []
    for _ in range(arguments.repeats):
        start = time.perf_counter()
        ranking = retriever(topics)
        ours.append(time.perf_counter() - start)
        start = time.perf_counter()
        expected = [matmul_maxsim(vectors, lengths, torch.from_numpy(query), 100) for query in topics["query_embs"]]
        peers.append(time.perf_counter() - start)
    difference, disagreements = compare(ranking, expected, topics, index)
    figures = {
        "passages": len(index),
        "tokens": index.meta()["tokens"],
        "dim": index.meta()["dim"],
        "queries": len(topics),
        "query_tokens": int(sum(map(len, topics["query_embs"]))),
        "threads": THREADS,
        "ours_seconds": statistics.median(ours),
        "matmul_seconds": statistics.median(peers),
        "ratio": statistics.median([peer / own for peer, own in zip(peers, ours, strict=True)]),
        "largest_score_difference": difference,
        "rank_disagreements_beyond_5e-3": int(disagreements),
        "load_1min": os.getloadavg()[0],
    }
    print(json.dumps(figures))


def compare(
    ranking: pd.DataFrame, expected: list[torch.Tensor], topics: pd.DataFrame, index: pj.JaColBERTIndex
) -> tuple[float, int]:
    """The largest difference of scores by rank, and how many ranks hold another document without a near tie."""
    difference, disagreements = 0.0, 0
    docnos = index.docnos()
    for qid, best in zip(topics["qid"], expected, strict=True):
        rows = ranking[ranking.qid == qid]
        scores = best.values.numpy()
        difference = max(difference, float(np.abs(rows["score"].to_numpy() - scores).max()))
        peer = dict(zip((docnos[int(docid)] for docid in best.indices), scores, strict=True))
        for docno, score in zip(rows["docno"], rows["score"], strict=True):
            disagreements += abs(peer.get(docno, scores[-1]) - score) > 5e-3
    return difference, disagreements


if __name__ == "__main__":
    main()
