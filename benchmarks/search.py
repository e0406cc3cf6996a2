"""Compares search engines on the same token vectors: time per query, what they find, and what they take.

    python -m benchmarks.search [--shared ../shared] [--keep runs/vectors] [--engines NAME ...] [--queries 200]
    python -m benchmarks.search --corpus spliced --engines "two stages, 4 bits" "two stages, int8" "torch bfloat16"

``real`` is the 10,858 passages (JSQuAD validation and JaQuAD train) as ``mini`` encodes them, with JSQuAD's questions.
``spliced`` is 200,000 passages of about 100 tokens, spliced from spans of 3 to 5 real ones with noise, so that no two
are near-duplicates; the mean gap between the scores at ranks 10 and 100 is printed for both. Each engine runs in a
process of its own. Each query goes to all engines in turn before the next query; times are medians. ``batched`` is the
time per query of all queries in one call. Encoding is not counted. R@k is the share of the first k documents of the
exact float32 search that are among the first k.

``--passages 3000`` takes only the first of the real passages, which start with JSQuAD's: on two cores, fast-plaid had
no index of all passages after a quarter of an hour. ``--python fast-plaid=E/bin/python`` names the environment of a
peer whose wheels do not run with the torch of this project: ``E/bin/pip install torch==2.11.0
fast-plaid==1.7.0.2110 xtr-warp-rs==2.1.0.2110``, and another environment for ``lancedb`` and ``maxsim-cpu``. Other
engines run in this Python; those that are not installed are skipped with a message.

Writes ``figures.json``, and a plot of time against quality, to ``--output``, and prints a Markdown table.
"""

from __future__ import annotations

import importlib.util
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.arguments import benchmark_parser
from benchmarks.collections import EncodedCollection, first_passages, write_spliced_collection
from benchmarks.engines import ENGINES, NUM_RESULTS, Vectors
from pyterrier_jacolbert import JaColBERT
from pyterrier_jacolbert.plots import plot_latency

#: Modules of the engines that are packages of their own.
MODULES = {"fast-plaid": "fast_plaid", "xtr-warp-rs": "xtr_warp", "maxsim-cpu": "maxsim_cpu", "lancedb": "lancedb"}
ROOT = Path(__file__).parents[1]


def main() -> None:
    parser = benchmark_parser(__doc__, "shared", "model", "keep")
    parser.add_argument("--corpus", choices=["real", "spliced"], default="real", help="passages (default: real)")
    parser.add_argument("--passages", type=int, metavar="N", help="use only the first N of the real passages")
    parser.add_argument(
        "--engines", nargs="+", choices=list(ENGINES), default=list(ENGINES), metavar="NAME", help="(default: all)"
    )
    parser.add_argument("--python", nargs="+", default=[], metavar="PEER=PATH", help="Python of a peer's environment")
    parser.add_argument("--queries", type=int, default=200, help="number of questions (default: 200)")
    parser.add_argument("--threads", type=int, nargs="+", default=[2, 1], help="numbers of threads (default: 2 1)")
    parser.add_argument("--output", type=Path, default=Path("runs/search"), help="output folder (default: runs/search)")
    args = parser.parse_args()
    collection = EncodedCollection(args.shared, args.keep, JaColBERT(args.model, verbose=True))
    if args.passages:
        collection = first_passages(collection, args.passages)
    folder = collection.folder
    if args.corpus == "spliced":
        folder = write_spliced_collection(collection, args.keep / "spliced")
    vectors = Vectors(folder)
    topics = collection.topics(args.shared)
    queries = np.sort(np.random.default_rng(0).choice(len(topics), args.queries, replace=False)).tolist()
    expected, gap = exact_hits(vectors, queries)
    print(json.dumps({"documents": len(vectors.starts) - 1, "tokens": int(vectors.starts[-1]), "gap_10_to_100": gap}))
    relevant = None
    if args.corpus == "real":
        docids = {docno: docid for docid, docno in enumerate(collection.docnos)}
        relevant = [docids[topics["relevant"].iloc[query]] for query in queries]
    pythons = dict(pair.split("=", 1) for pair in args.python)
    output = args.output / (f"first-{args.passages}" if args.passages else args.corpus)
    rows: dict[str, dict[str, Any]] = {}
    for number, threads in enumerate(args.threads, start=1):
        names = [name for name in args.engines if is_available(name, pythons)]
        engines = [Engine(name, pythons, folder, output / "indexes", threads) for name in names]
        measure(engines, queries, threads, rows, expected, relevant)
        machine = {"load": os.getloadavg()[0], "bandwidth_gb_s": bandwidth()}
        figures = {**machine, "queries": len(queries), "engines": rows}
        output.mkdir(parents=True, exist_ok=True)
        (output / "figures.json").write_text(json.dumps(figures, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        print(table(rows, args.threads[:number]))
    print(json.dumps(machine))
    plot(rows, relevant is not None, output / "latency.png", args.threads[0])


def is_available(name: str, pythons: dict[str, str]) -> bool:
    """Returns whether an engine can run here; otherwise prints that it is skipped."""
    package = name.split(",")[0]
    module = MODULES.get(package)
    available = module is None or package in pythons or importlib.util.find_spec(module) is not None
    if not available:
        print(f"skipped {name}: the package is not installed; give the Python of its environment with --python")
    return available


class Engine:
    """An engine in a process of its own.

    Args:
        name: one of :data:`~benchmarks.engines.ENGINES`.
        pythons: Python of a package's environment, by name of the package.
        vectors: folder with the vectors.
        folder: folder that keeps the indexes.
        threads: number of threads.

    Attributes:
        figures: time of the build and bytes per token.
    """

    def __init__(self, name: str, pythons: dict[str, str], vectors: Path, folder: Path, threads: int) -> None:
        self.name = name
        python = pythons.get(name.split(",")[0], sys.executable)
        variables = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS")
        self._process = subprocess.Popen(
            [python, "-m", "benchmarks.engines", name, str(vectors.resolve()), str(folder.resolve())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**os.environ, **dict.fromkeys(variables, str(threads))},
        )
        self.figures = self._read_answer()

    def search(self, queries: list[int]) -> dict[str, Any]:
        """Searches queries together.

        Args:
            queries: numbers of the queries.

        Returns:
            ``ms``, ``found`` (docids of each query) and ``resident`` (bytes).
        """
        assert self._process.stdin is not None
        print(json.dumps(queries), file=self._process.stdin, flush=True)
        return self._read_answer()

    def close(self) -> None:
        """Ends the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def _read_answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            sys.exit(f"The process of {self.name} ended with status {self._process.wait()}; see its error above.")
        answer: dict[str, Any] = json.loads(line)
        return answer


def measure(
    engines: list[Engine],
    queries: list[int],
    threads: int,
    rows: dict[str, dict[str, Any]],
    expected: list[list[int]],
    relevant: list[int] | None,
) -> None:
    """Measures engines query by query, then all queries in one call, and closes them.

    Args:
        engines: with the same number of threads.
        queries: numbers of the queries.
        threads: number of threads.
        rows: figures by engine, which are updated.
        expected: docids of the exact search for each query.
        relevant: docid of the relevant document of each query; None if there are no judgements.
    """
    for engine in engines:
        engine.search(queries[:3])  # opens files, compiles kernels
    answers: dict[str, list[dict[str, Any]]] = {engine.name: [] for engine in engines}
    for query in queries:
        for engine in engines:
            answers[engine.name].append(engine.search([query]))
    for engine in engines:
        batch = engine.search(queries)
        row = rows.setdefault(engine.name, {**engine.figures, "resident": batch["resident"]})
        row[f"ms_{threads}"] = statistics.median(answer["ms"] for answer in answers[engine.name])
        row[f"batched_ms_{threads}"] = batch["ms"] / len(queries)
        row |= quality([answer["found"][0] for answer in answers[engine.name]], expected, relevant)
        engine.close()


def exact_hits(vectors: Vectors, queries: list[int]) -> tuple[list[list[int]], float]:
    """Finds the 100 best documents of each query by float32 MaxSim.

    Returns:
        The docids of each query, best first, and the mean gap between the scores at ranks 10 and 100.
    """
    query_vectors = [vectors.query(number) for number in queries]
    columns = np.concatenate(query_vectors).T
    ends = np.cumsum([0, *map(len, query_vectors)])
    scores = np.empty((len(queries), len(vectors.starts) - 1), dtype=np.float32)
    block = 500
    for first in range(0, scores.shape[1], block):
        bounds = vectors.starts[first : first + block + 1]
        rows = np.asarray(vectors.documents[bounds[0] : bounds[-1]], dtype=np.float32)
        best = np.maximum.reduceat(rows @ columns, bounds[:-1] - bounds[0], axis=0)
        scores[:, first : first + block] = np.add.reduceat(best, ends[:-1], axis=1).T
    order = np.argsort(-scores, axis=1, kind="stable")[:, :NUM_RESULTS]
    ranked = np.take_along_axis(scores, order, axis=1)
    return order.tolist(), float((ranked[:, 9] - ranked[:, NUM_RESULTS - 1]).mean())


def quality(found: list[list[int]], expected: list[list[int]], relevant: list[int] | None) -> dict[str, float]:
    """Returns R@10 and R@100, and with judgements nDCG@10 and R@1, where each query has one relevant document."""
    pairs = list(zip(found, expected, strict=True))
    measures = {
        f"R@{k}": statistics.mean(len(set(a[:k]) & set(b[:k])) / k for a, b in pairs) for k in (10, NUM_RESULTS)
    }
    if relevant is not None:
        ranks = [a.index(b) if b in a else NUM_RESULTS for a, b in zip(found, relevant, strict=True)]
        measures["nDCG@10"] = statistics.mean(1 / np.log2(rank + 2) if rank < 10 else 0.0 for rank in ranks)
        measures["R@1"] = statistics.mean(float(rank == 0) for rank in ranks)
    return measures


def bandwidth(size: int = 2**30, repeats: int = 5) -> float:
    """Returns the gigabytes per second that one thread of numpy reads, the best of several runs."""
    numbers = np.ones(size // 8)
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        numbers.sum()
        seconds.append(time.perf_counter() - start)
    return size / min(seconds) / 1e9


def table(rows: dict[str, dict[str, Any]], threads: list[int]) -> str:
    """Formats the figures as a Markdown table with one row per engine."""
    heads = ["engine", *(f"ms, {n} threads" for n in threads), *(f"batched, {n}" for n in threads)]
    heads += ["R@10", "R@100", "nDCG@10", "R@1", "bytes per token", "build s", "resident MB"]
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for name, row in rows.items():
        cells = [f"{row[f'ms_{n}']:.1f}" for n in threads] + [f"{row[f'batched_ms_{n}']:.1f}" for n in threads]
        cells += [f"{row[measure]:.4f}" if measure in row else "" for measure in ("R@10", "R@100", "nDCG@10", "R@1")]
        cells += [f"{row['bytes_per_token']:.1f}" if row["bytes_per_token"] else "", f"{row['build_seconds']:.0f}"]
        lines.append(f"| {name} | " + " | ".join([*cells, f"{row['resident'] / 1e6:.0f}"]) + " |")
    return "\n".join(lines)


def plot(rows: dict[str, dict[str, Any]], judged: bool, path: Path, threads: int) -> None:
    """Plots time against nDCG@10, or against R@10 without judgements; prints a message if matplotlib is missing."""
    measure = "nDCG@10" if judged else "R@10"
    frame = pd.DataFrame(
        {"name": name, "mrt": row[f"ms_{threads}"], measure: row[measure]} for name, row in rows.items()
    )
    try:
        plot_latency(frame).savefig(path)
    except ImportError as error:
        print(f"skipped the plot: {error}")


if __name__ == "__main__":
    main()
