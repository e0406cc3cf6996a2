"""Measures four threads that share a frame of 256 queries on one open index, in queries per second.

    python -m benchmarks.shared_frame [--passages 20000] [--compression int8 4bit] [--threads 1 2 4] [--repeats 5]

The passages are synthetic: 100 tokens of 128 dimensions around random directions, with centroids. Queries have 32
tokens. Each thread searches an equal part of the frame, one query per call, as a server does. Every compression runs
in a process of its own with ``OMP_NUM_THREADS=1``, so that only the threads of the frame share the cores. Figures are
medians over the repeats.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.arguments import benchmark_parser

DIM, TOKENS, QUERY_TOKENS, N_QUERIES = 128, 100, 32, 256


def main() -> None:
    parser = benchmark_parser(__doc__)
    parser.add_argument("--passages", type=int, default=20_000, help="number of passages (default: 20000)")
    parser.add_argument("--compression", nargs="+", default=["int8", "4bit"], help="compressions (default: int8 4bit)")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2, 4], help="numbers of threads (default: 1 2 4)")
    parser.add_argument("--repeats", type=int, default=5, help="searches per measurement (default: 5)")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        print(json.dumps(measure(args, args.child)))
        return
    for compression in args.compression:
        command = [sys.executable, "-W", "ignore", "-m", "benchmarks.shared_frame", *sys.argv[1:]]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        process = subprocess.run(
            [*command, "--child", compression], env=environment, stdout=subprocess.PIPE, text=True, check=True
        )
        print(compression, process.stdout.strip().splitlines()[-1], flush=True)


def measure(args: argparse.Namespace, compression: str) -> dict[str, float]:
    """Returns the queries per second by number of threads."""
    from pyterrier_jacolbert import JaColBERTIndexer

    with tempfile.TemporaryDirectory() as folder:
        indexer = JaColBERTIndexer(Path(folder) / "index", "mini", compression=compression)
        retriever = indexer.index(documents(args.passages)).retriever(num_results=100)
        rng = np.random.default_rng(1)
        frames = [
            pd.DataFrame({"qid": [str(number)], "query_embs": [unit_vectors(rng, QUERY_TOKENS)]})
            for number in range(N_QUERIES)
        ]
        retriever(frames[0])  # compiles and reads
        rates = {}
        for n_threads in args.threads:
            with ThreadPoolExecutor(n_threads) as pool:
                seconds = []
                for _ in range(args.repeats):
                    start = time.perf_counter()
                    parts = [frames[first::n_threads] for first in range(n_threads)]
                    list(pool.map(lambda part: [retriever(frame) for frame in part], parts))
                    seconds.append(time.perf_counter() - start)
            rates[str(n_threads)] = round(N_QUERIES / statistics.median(seconds), 1)
    return rates


def documents(count: int) -> Iterator[dict[str, Any]]:
    """Yields documents with vectors around shared directions."""
    rng = np.random.default_rng(0)
    for number in range(count):
        yield {"docno": f"passage-{number}", "doc_embs": unit_vectors(rng, TOKENS)}


DIRECTIONS = np.random.default_rng(2).standard_normal((2000, DIM)).astype(np.float32)


def unit_vectors(rng: np.random.Generator, count: int) -> np.ndarray:
    """Returns vectors of length 1: float32 ``(count, DIM)``."""
    rows = DIRECTIONS[rng.integers(len(DIRECTIONS), size=count)]
    rows = rows + 0.5 * rng.standard_normal((count, DIM), dtype=np.float32)
    normalised: np.ndarray = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return normalised


if __name__ == "__main__":
    main()
