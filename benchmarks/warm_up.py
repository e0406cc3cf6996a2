"""How long the first search takes in a process that must compile the kernels, and in the next one, which finds them.

    python -m benchmarks.warm_up [--repeats 3]

2,000 synthetic documents of 20 tokens with 128 numbers, in int8 with centroids and in 4 bits; each process is fresh,
and so is the folder of compiled kernels. Prints a line of JSON a compression with the medians, in seconds: the first
search and the second one in a process that compiles, and the first in one that does not. torch is not loaded.
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

from benchmarks import arguments as common
from pyterrier_jacolbert import JaColBERTIndexer
from pyterrier_jacolbert.index import build

DIM = 128
SEARCH = """
import sys, time
import numpy as np, pandas as pd
from pyterrier_jacolbert import JaColBERTIndex
retriever = JaColBERTIndex(sys.argv[1], "unused/name").retriever(num_results=10)
topics = pd.DataFrame({"qid": ["1"], "query_embs": [np.eye(20, 128, dtype=np.float32)]})
for _ in range(2):
    begun = time.perf_counter()
    retriever(topics)
    print(time.perf_counter() - begun)
"""


def main() -> None:
    parser = common.parser(__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    build.INT8_CENTROIDS_TOKENS = 1000  # two stages, also in so small an index
    draws = np.random.default_rng(0)
    vectors = draws.standard_normal((2000, 20, DIM), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=-1, keepdims=True)
    docs = [{"docno": str(number), "doc_embs": rows} for number, rows in enumerate(vectors)]
    with tempfile.TemporaryDirectory() as folder:
        for compression in ("int8", "4bit"):
            path = Path(folder) / compression
            JaColBERTIndexer(path, "unused/name", compression=compression).index(docs)
            spent = []
            for repeat in range(arguments.repeats):
                cache = Path(folder) / f"kernels-{compression}-{repeat}"
                spent.append([*searches(path, cache), searches(path, cache)[0]])
            medians = [round(statistics.median(column), 3) for column in zip(*spent, strict=True)]
            names = ("first_search_compiling", "second_search", "first_search_compiled")
            print(json.dumps({"compression": compression, **dict(zip(names, medians, strict=True))}), flush=True)


def searches(path: Path, cache: Path) -> list[float]:
    """Seconds of the first two searches of a fresh process."""
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(cache)}
    done = subprocess.run(
        [sys.executable, "-c", SEARCH, str(path)], env=environment, capture_output=True, text=True, check=True
    )
    return [float(line) for line in done.stdout.split()]


if __name__ == "__main__":
    main()
