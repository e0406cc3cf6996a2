"""Measures searches of one thread, and of four that share a frame of 256 queries, in several revisions side by side.

    git worktree add --detach ../before 5468013~1
    python -m benchmarks.shared_frame --against ../before [--passages 6000] [--compression int8 4bit] [--threads 1 4]

The passages are synthetic: 100 tokens of 128 dimensions around random directions, with centroids. Queries have 32
tokens. Each thread searches an equal part of its queries, one query per call, as a server does. This
revision builds the indexes, and each opens them in a process of its own with ``OMP_NUM_THREADS=1``, so
that only the threads of the frame share the cores. Revisions take turns every eight queries per thread, and the median
of the ratios within a turn is printed, so that a busy machine slows all of them alike.
"""

from __future__ import annotations

import argparse
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
#: Queries per thread until the next revision's turn.
TURN = 8
HERE = Path(__file__).parents[1]


def main() -> None:
    parser = benchmark_parser(__doc__)
    parser.add_argument("--against", type=Path, nargs="+", default=[], metavar="DIR", help="checkouts of others")
    parser.add_argument("--passages", type=int, default=6_000, help="number of passages (default: 6000)")
    parser.add_argument("--compression", nargs="+", default=["int8", "4bit"], help="compressions (default: int8 4bit)")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 4], help="numbers of threads (default: 1 4)")
    parser.add_argument("--repeats", type=int, default=3, help="times that all queries are searched (default: 3)")
    parser.add_argument("--serve", type=Path, metavar="INDEX", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        serve(args.serve, args.compression[0], args.passages)
        return
    checkouts = [*(path.resolve() for path in args.against), HERE]
    for compression in args.compression:
        with tempfile.TemporaryDirectory() as folder:
            options = ["--compression", compression, "--passages", str(args.passages), "--serve", f"{folder}/index"]
            servers = [Server(path, options) for path in checkouts[::-1]][::-1]
            for threads in args.threads:
                turns = list(take_turns(servers, threads, args.repeats))
                for position, path in enumerate(checkouts):
                    rate = 1 / statistics.median(turn[position] for turn in turns)
                    ratio = statistics.median(turn[position] / turn[-1] for turn in turns)
                    print(
                        f"{compression}, {threads} threads, {path.name}: {rate:.1f} queries per second, "
                        f"{ratio:.3f} of the time of {HERE.name}",
                        flush=True,
                    )
            for server in servers:
                server.stop()


class Server:
    """A process of one revision that searches an open index."""

    def __init__(self, checkout: Path, options: list[str]) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{checkout}{os.pathsep}{HERE}"}
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-W", "ignore", str(Path(__file__).resolve()), *options],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        package = Path(self._read()).resolve()
        if not package.is_relative_to(checkout):
            raise SystemExit(f"The process of {checkout} imported {package}; give a checkout of this project.")

    def search(self, first: int, count: int, threads: int) -> float:
        """Returns the seconds that a query takes, of some queries in a number of threads."""
        self._write(f"{first} {count} {threads}")
        return float(self._read()) / count

    def stop(self) -> None:
        """Ends the process."""
        self._process.communicate()

    def _write(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()

    def _read(self) -> str:
        assert self._process.stdout is not None
        if not (line := self._process.stdout.readline()):
            raise SystemExit("A process ended; see its message above.")
        return line.strip()


def take_turns(servers: list[Server], threads: int, repeats: int) -> Iterator[list[float]]:
    """Yields the seconds per query of each server in a turn; every other turn goes the other way round."""
    for turn, first in enumerate([*range(0, N_QUERIES, TURN * threads)] * repeats):
        order = list(enumerate(servers))
        seconds = [0.0] * len(servers)
        for position, server in order if turn % 2 == 0 else order[::-1]:
            seconds[position] = server.search(first, min(TURN * threads, N_QUERIES - first), threads)
        yield seconds


def serve(path: Path, compression: str, passages: int) -> None:
    """Opens the index, which is built if necessary, and answers lines of first query, number of queries and threads."""
    import pyterrier_jacolbert
    from pyterrier_jacolbert import JaColBERTIndex

    index = JaColBERTIndex(path, "mini")
    if not index.built():
        index.index(documents(passages), compression=compression)
    retriever = index.retriever(num_results=100)
    rng = np.random.default_rng(1)
    frames = [
        pd.DataFrame({"qid": [str(number)], "query_embs": [unit_vectors(rng, QUERY_TOKENS)]})
        for number in range(N_QUERIES)
    ]
    retriever(frames[0])  # compiles and reads
    print(pyterrier_jacolbert.__file__, flush=True)
    for line in sys.stdin:
        first, count, threads = map(int, line.split())
        parts = [frames[first : first + count][number::threads] for number in range(threads)]
        with ThreadPoolExecutor(threads) as pool:
            start = time.perf_counter()
            list(pool.map(lambda part: [retriever(frame) for frame in part], parts))
            print(time.perf_counter() - start, flush=True)


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
