"""Searches an index from several threads while documents are appended to it and deleted from it.

    python -m benchmarks.soak [--searches 20000] [--threads 8] [--compression int8]

The index starts with 2,000 synthetic documents of 20 tokens; one writer appends and deletes throughout. Every result
must be that of a committed state, and memory must not grow. Prints one JSON line: numbers of searches, of changes, of
states that searches saw, and of results that belong to no state (which must be 0); failures; and anonymous memory after
a tenth of the searches and at the end.
"""

from __future__ import annotations

import json
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.arguments import benchmark_parser
from benchmarks.memory import anonymous_bytes
from pyterrier_jacolbert import JaColBERTIndex, JaColBERTIndexer
from pyterrier_jacolbert.index.codecs import training

DIM = 64
N_QUERIES = 5


def main() -> None:
    parser = benchmark_parser(__doc__)
    parser.add_argument("--searches", type=int, default=20_000, help="number of searches (default: 20000)")
    parser.add_argument("--threads", type=int, default=8, help="number of threads that search (default: 8)")
    parser.add_argument("--compression", default="int8", help="compression of the index (default: int8)")
    args = parser.parse_args()
    training.INT8_CENTROIDS_TOKENS = 1000  # so that even a small index is searched in two stages
    topics = pd.DataFrame(
        {
            "qid": [str(number) for number in range(N_QUERIES)],
            "query_embs": [unit_vectors(-1 - number, 8) for number in range(N_QUERIES)],
        }
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "index"
        settings: dict[str, Any] = {"compression": args.compression, "n_centroids": 256}
        index = JaColBERTIndexer(path, "unused/name", **settings).index(documents(range(2000)))
        states = {search_result(JaColBERTIndex(path), topics)}
        searches = Searches(index, topics, args.searches)
        searches.start(args.threads)
        n_changes, early_bytes = 0, 0
        while searches.running():
            if n_changes % 2:
                index.delete([f"d{2000 + n_changes // 2 * 10}"])
            else:
                index.append(documents(range(2000 + n_changes * 5, 2000 + n_changes * 5 + 10)))
            states.add(search_result(JaColBERTIndex(path), topics))
            n_changes += 1
            if not early_bytes and searches.remaining < 0.9 * args.searches:
                early_bytes = anonymous_bytes()
        figures = {
            "searches": args.searches - searches.remaining,
            "changes": n_changes,
            "states_seen": len(searches.results & states),
            "results_of_no_state": len(searches.results - states),
            "failures": [repr(error) for error in searches.failures],
            "anonymous_mb_early": early_bytes / 1e6,
            "anonymous_mb_end": anonymous_bytes() / 1e6,
        }
    print(json.dumps(figures))


class Searches:
    """Searches in several threads until a number of searches is done or one fails.

    Attributes:
        remaining: number of searches to do.
        results: distinct results.
        failures: errors.
    """

    def __init__(self, index: JaColBERTIndex, topics: pd.DataFrame, count: int) -> None:
        self.remaining = count
        self.results: set[int] = set()
        self.failures: list[BaseException] = []
        self._index = index
        self._topics = topics
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []

    def start(self, n_threads: int) -> None:
        """Starts the threads."""
        self._threads = [threading.Thread(target=self._run) for _ in range(n_threads)]
        for thread in self._threads:
            thread.start()

    def running(self) -> bool:
        """Returns whether a thread is still searching."""
        return any(thread.is_alive() for thread in self._threads)

    def _run(self) -> None:
        try:
            while True:
                with self._lock:
                    if self.remaining <= 0 or self.failures:
                        return
                    self.remaining -= 1
                result = search_result(self._index, self._topics)
                with self._lock:
                    self.results.add(result)
        except BaseException as error:
            self.failures.append(error)


def search_result(index: JaColBERTIndex, topics: pd.DataFrame) -> int:
    """Searches, and returns a hash of the ranking."""
    ranking = index.retriever(num_results=20)(topics)
    return hash(tuple(map(tuple, ranking[["qid", "docno", "score"]].to_numpy().tolist())))


def documents(numbers: range) -> Iterator[dict[str, Any]]:
    """Yields documents of 20 tokens that depend only on their numbers."""
    for number in numbers:
        yield {"docno": f"d{number}", "doc_embs": unit_vectors(number, 20)}


def unit_vectors(number: int, n_tokens: int) -> np.ndarray:
    """Returns unit vectors around 300 directions, which depend only on the number: float32 ``(n_tokens, 64)``."""
    rng = np.random.default_rng(abs(number) * 2 + (number < 0))
    directions = np.random.default_rng(0).standard_normal((300, DIM))
    rows = directions[rng.integers(300, size=n_tokens)] + 0.5 * rng.standard_normal((n_tokens, DIM))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


if __name__ == "__main__":
    main()
