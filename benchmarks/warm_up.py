"""Measures the first search of a process that must compile the kernels, and of one that finds them compiled.

    python -m benchmarks.warm_up [--repeats 3]

2,000 synthetic documents of 20 tokens of 128 dimensions, in int8 with centroids and in 4 bits. Every process is fresh
and does not load torch; every pair of processes has a fresh folder for compiled kernels. Prints one JSON line per
compression with medians in seconds: the first and the second search of a process that compiles, and the first search of
a process that does not.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.arguments import benchmark_parser
from pyterrier_jacolbert import JaColBERTIndexer
from pyterrier_jacolbert.index.codecs import training

DIM = 128
SEARCH_SCRIPT = """
import sys, time
import numpy as np, pandas as pd
from pyterrier_jacolbert import JaColBERTIndex
retriever = JaColBERTIndex(sys.argv[1], "unused/name").retriever(num_results=10)
topics = pd.DataFrame({"qid": ["1"], "query_embs": [np.eye(20, 128, dtype=np.float32)]})
for _ in range(2):
    start = time.perf_counter()
    retriever(topics)
    print(time.perf_counter() - start)
"""


def main() -> None:
    parser = benchmark_parser(__doc__)
    parser.add_argument("--repeats", type=int, default=3, help="pairs of processes per compression (default: 3)")
    args = parser.parse_args()
    training.INT8_CENTROIDS_TOKENS = 1000  # so that even a small index is searched in two stages
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((2000, 20, DIM), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=-1, keepdims=True)
    docs = [{"docno": str(number), "doc_embs": rows} for number, rows in enumerate(vectors)]
    with tempfile.TemporaryDirectory() as folder:
        for compression in ("int8", "4bit"):
            path = Path(folder) / compression
            JaColBERTIndexer(path, "unused/name", compression=compression).index(docs)
            measured = []
            for repeat in range(args.repeats):
                cache = Path(folder) / f"kernels-{compression}-{repeat}"
                measured.append([*search_seconds(path, cache), search_seconds(path, cache)[0]])
            medians = [round(statistics.median(column), 3) for column in zip(*measured, strict=True)]
            names = ("first_search_compiling", "second_search", "first_search_compiled")
            print(json.dumps({"compression": compression, **dict(zip(names, medians, strict=True))}), flush=True)


def search_seconds(path: Path, cache: Path) -> list[float]:
    """Returns the durations of the first two searches of a fresh process.

    Args:
        path: of the index.
        cache: folder for compiled kernels.
    """
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(cache)}
    process = subprocess.run(
        [sys.executable, "-c", SEARCH_SCRIPT, str(path)], env=environment, capture_output=True, text=True, check=True
    )
    return [float(line) for line in process.stdout.split()]


if __name__ == "__main__":
    main()
