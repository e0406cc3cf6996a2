"""Many searches from several threads over one index, while it is appended to and deleted from.

    python -m benchmarks.soak [--searches 20000] [--threads 8] [--compression int8]

2,000 synthetic documents of 20 tokens; a writer appends and deletes some all the while. Each result must be that of a
committed state, and the process must not grow. Prints searches, changes, the states that were met, results of no state
(0 is right), and anonymous memory after the first tenth and at the end.
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

from benchmarks import arguments as common
from pyterrier_jacolbert import JaColBERTIndex, JaColBERTIndexer
from pyterrier_jacolbert.index import build

DIM = 64
QUERIES = 5


def main() -> None:
    parser = common.parser(__doc__)
    parser.add_argument("--searches", type=int, default=20_000)
    parser.add_argument("--threads", type=int, default=8)
    parser.add_argument("--compression", default="int8")
    arguments = parser.parse_args()
    build.INT8_CENTROIDS_TOKENS = 1000  # two stages, also in so small an index
    topics = pd.DataFrame(
        {"qid": [str(i) for i in range(QUERIES)], "query_embs": [vectors(-1 - i, 8) for i in range(QUERIES)]}
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "index"
        settings: dict[str, Any] = {"compression": arguments.compression, "n_centroids": 256}
        index = JaColBERTIndexer(path, "unused/name", **settings).index(documents(range(2000)))
        states = {result(JaColBERTIndex(path), topics)}
        left, met, failures = [arguments.searches], set(), []
        lock = threading.Lock()

        def search() -> None:
            try:
                while True:
                    with lock:
                        if left[0] <= 0 or failures:
                            return
                        left[0] -= 1
                    found = result(index, topics)
                    with lock:
                        met.add(found)
            except BaseException as error:
                failures.append(error)

        workers = [threading.Thread(target=search) for _ in range(arguments.threads)]
        for worker in workers:
            worker.start()
        changes, early = 0, 0
        while any(worker.is_alive() for worker in workers):
            if changes % 2:
                index.delete([f"d{2000 + changes // 2 * 10}"])
            else:
                index.append(documents(range(2000 + changes * 5, 2000 + changes * 5 + 10)))
            states.add(result(JaColBERTIndex(path), topics))
            changes += 1
            if not early and left[0] < 0.9 * arguments.searches:
                early = anonymous()
        for worker in workers:
            worker.join()
        facts = {
            "searches": arguments.searches - left[0],
            "changes": changes,
            "states_met": len(met & states),
            "of_no_state": len(met - states),
            "failures": [repr(error) for error in failures],
            "anonymous_mb_early": early / 1e6,
            "anonymous_mb_end": anonymous() / 1e6,
        }
    print(json.dumps(facts))


def result(index: JaColBERTIndex, topics: pd.DataFrame) -> int:
    """A number for what a search finds."""
    found = index.retriever(num_results=20)(topics)
    return hash(tuple(map(tuple, found[["qid", "docno", "score"]].to_numpy().tolist())))


def documents(numbers: range) -> Iterator[dict[str, Any]]:
    """Documents that depend on their numbers alone."""
    for number in numbers:
        yield {"docno": f"d{number}", "doc_embs": vectors(number, 20)}


def vectors(number: int, tokens: int) -> np.ndarray:
    """Unit vectors around some directions."""
    draws = np.random.default_rng(abs(number) * 2 + (number < 0))
    centres = np.random.default_rng(0).standard_normal((300, DIM))
    rows = centres[draws.integers(300, size=tokens)] + 0.5 * draws.standard_normal((tokens, DIM))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def anonymous() -> int:
    """Bytes of anonymous memory (Linux)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) * 1024
    return 0


if __name__ == "__main__":
    main()
