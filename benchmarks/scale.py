"""Measures sharded indexes of 10,000 to 1,000,000 passages: build time, memory, milliseconds per query, recall.

    python -m benchmarks.scale [--passages 10000 50000 200000 1000000] [--compression 4bit int8] [--folder runs/scale]

The passages are spliced as in ``benchmarks.search --corpus spliced``: about 100 tokens of 128 dimensions, from spans of
3 to 5 real passages with noise. They are generated one by one during indexing, so a million of them take no disk space
besides the index; each depends only on its number. Every build and every search runs in a process of its own. Build
time excludes encoding, which generating the passages stands for; build memory is peak anonymous memory. Queries are
real ones in frames of 100; times are medians over the repeats, per query. Recall of the first 100 is measured against
the exact float32 search of the same passages, generated again.

Prints one JSON line per measurement, in the form of ``pyterrier_jacolbert/capacity/measurements.json``, and writes all
of them to ``FOLDER/measurements.json``. Existing indexes are not built again. ``--predict N`` measures nothing: it fits
``plan`` to the measurements of up to N passages, and prints its predictions for more passages and their errors.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.arguments import benchmark_parser
from benchmarks.collections import EncodedCollection, splice_passage
from benchmarks.memory import PeakMemory
from pyterrier_jacolbert.capacity import model as capacity

MEAN_TOKENS = 100
DOCUMENTS_PER_SHARD = 2**17
N_QUERIES = 100
#: Passages that the exact search scores at once.
BLOCK_PASSAGES = 5000


def main() -> None:
    parser = benchmark_parser(__doc__, "shared", "keep")
    parser.add_argument("--folder", type=Path, default=Path("runs/scale"), help="folder of indexes and measurements")
    parser.add_argument(
        "--passages", type=int, nargs="+", default=[10_000, 50_000, 200_000, 1_000_000], help="numbers of passages"
    )
    parser.add_argument("--compression", nargs="+", default=["4bit", "int8"], help="compressions (default: 4bit int8)")
    parser.add_argument("--threads", type=int, nargs="+", default=[2, 1], help="numbers of threads (default: 2 1)")
    parser.add_argument("--repeats", type=int, default=9, help="searches per measurement (default: 9)")
    parser.add_argument(
        "--recall-queries", type=int, default=100, help="queries to measure recall with; 0 skips it (default: 100)"
    )
    parser.add_argument("--remove", action="store_true", help="remove each index after it is measured")
    parser.add_argument("--predict", type=int, metavar="N", help="only predict, from up to N passages, for --passages")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        step = json.loads(args.child)
        print(json.dumps(STEPS[step.pop("step")](args, **step)))
        return
    results = args.folder / "measurements.json"
    entries: list[dict[str, Any]] = json.loads(results.read_text()) if results.is_file() else []
    if args.predict:
        print_predictions(entries, args.predict, args.passages)
        return
    args.folder.mkdir(parents=True, exist_ok=True)
    for compression in args.compression:
        for n_passages in args.passages:
            for entry in measure(args, compression, n_passages):
                print(json.dumps(entry), flush=True)
                entries = [other for other in entries if entry_key(other) != entry_key(entry)] + [entry]
                results.write_text(json.dumps(entries, indent=1) + "\n")
            if args.remove:
                shutil.rmtree(args.folder / f"{compression}-{n_passages}")


def entry_key(entry: dict[str, Any]) -> tuple[Any, ...]:
    """Returns what identifies a measurement; a new one replaces an old one with the same key."""
    return tuple(entry[name] for name in ("measure", "compression", "documents", "threads"))


def measure(args: argparse.Namespace, compression: str, n_passages: int) -> Iterator[dict[str, Any]]:
    """Builds an index if there is none, searches it, and yields the measurements."""
    source = {"source": "python -m benchmarks.scale", "compression": compression, "documents": n_passages, "dim": 128}
    size = {"compression": compression, "n_passages": n_passages}
    max_threads = max(args.threads)
    figures = run_step(args, {"step": "build", **size}, max_threads)
    source["tokens"] = figures.pop("tokens")
    for name, value in figures.items():
        yield {"measure": name, "value": value, "threads": max_threads, **source}
    for threads in args.threads:
        for name, value in run_step(args, {"step": "search", **size}, threads).items():
            yield {"measure": name, "value": value, "threads": threads, **source}
    if args.recall_queries:
        for name, value in run_step(args, {"step": "recall", **size}, max_threads).items():
            yield {"measure": name, "value": value, "threads": max_threads, **source}


def print_predictions(entries: list[dict[str, Any]], max_fitted: int, numbers_of_passages: list[int]) -> None:
    """Prints what the plan predicts for larger collections, fitted to the measurements of up to ``max_fitted``."""
    for measure_name in capacity.TERMS:
        for compression in sorted({entry["compression"] for entry in entries}):
            measured = [e for e in entries if (e["measure"], e["compression"]) == (measure_name, compression)]
            fitted = [entry for entry in measured if entry["documents"] <= max_fitted]
            mean_tokens = statistics.mean(entry["tokens"] / entry["documents"] for entry in fitted)
            for documents in (number for number in numbers_of_passages if number > max_fitted):
                by_threads = {entry["threads"]: entry["value"] for entry in measured if entry["documents"] == documents}
                size = capacity.Size(documents, round(documents * mean_tokens), fitted[0]["dim"])
                for threads, predicted in capacity.predict(fitted, measure_name, size, compression).items():
                    comparison = "not measured"
                    if threads in by_threads:
                        error = predicted.value / by_threads[threads] - 1
                        comparison = f"{by_threads[threads]:.4g} measured ({error:+.1%})"
                    name = f"{measure_name} {compression} {documents:,} {threads} threads"
                    print(f"{name}: {predicted.value:.4g}, {comparison}")


def run_step(args: argparse.Namespace, step: dict[str, Any], threads: int) -> dict[str, Any]:
    """Runs one of :data:`STEPS` in a process of its own.

    Args:
        args: the command line.
        step: ``step``, the name, and its arguments.
        threads: number of threads.
    """
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.scale", "--child", json.dumps(step)]
    for name in ("shared", "keep", "folder", "repeats", "recall_queries"):
        command += [f"--{name.replace('_', '-')}", str(getattr(args, name))]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    process = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    figures: dict[str, Any] = json.loads(process.stdout.strip().splitlines()[-1])
    return figures


def build(args: argparse.Namespace, compression: str, n_passages: int) -> dict[str, float]:
    """Builds the index, unless it exists, and returns the figures of its build."""
    from pyterrier_jacolbert import JaColBERTIndexer, ShardedIndex
    from pyterrier_jacolbert.building.executors import SerialExecutor

    path = args.folder / f"{compression}-{n_passages}"
    figures_file = path.with_suffix(".json")
    if not ShardedIndex(path).built():
        shutil.rmtree(path, ignore_errors=True)
        collection = real_collection(args)
        generating = 0.0

        def documents() -> Iterator[dict[str, Any]]:
            nonlocal generating
            start = time.perf_counter()
            for number, vectors in enumerate(spliced_passages(collection, n_passages)):
                generating += time.perf_counter() - start
                yield {"docno": f"passage-{number:08}", "doc_embs": vectors}
                start = time.perf_counter()

        executor = SerialExecutor(DOCUMENTS_PER_SHARD)
        with PeakMemory() as memory:
            JaColBERTIndexer(path, "mini", compression=compression, executor=executor).index(documents())
        figures = {"build_seconds": memory.seconds - generating, "build_bytes": memory.anonymous}
        figures_file.write_text(json.dumps(figures))
    stats = ShardedIndex(path).stats()
    return {
        "tokens": stats["tokens"],
        **json.loads(figures_file.read_text()),
        "bytes_per_token": stats["bytes_per_token"],
    }


def search(args: argparse.Namespace, compression: str, n_passages: int) -> dict[str, float]:
    """Measures the time and the memory of a search."""
    from pyterrier_jacolbert import ShardedIndex

    topics = sample_topics(args)
    with PeakMemory() as memory:
        retriever = ShardedIndex(args.folder / f"{compression}-{n_passages}").retriever(num_results=100)
        retriever(topics)  # reads the files and compiles the kernels
        milliseconds = []
        for _ in range(args.repeats):
            start = time.perf_counter()
            retriever(topics)
            milliseconds.append((time.perf_counter() - start) / len(topics) * 1000)
    return {"search_ms": statistics.median(milliseconds), "search_bytes": memory.anonymous}


def recall(args: argparse.Namespace, compression: str, n_passages: int) -> dict[str, float]:
    """Measures the share of the exact search's first 100 that the default search finds."""
    from pyterrier_jacolbert import ShardedIndex

    topics = sample_topics(args).head(args.recall_queries)
    expected = exact_hits(args, topics, n_passages)
    index = ShardedIndex(args.folder / f"{compression}-{n_passages}")
    ranking = index.retriever(num_results=100)(topics)
    shares = []
    for number, (_, rows) in enumerate(ranking.groupby("qid", sort=False)):
        docnos = {f"passage-{docid:08}" for docid in expected[number]}
        shares.append(len(docnos & set(rows["docno"])) / len(docnos))
    return {"recall_100": float(np.mean(shares))}


def exact_hits(args: argparse.Namespace, topics: pd.DataFrame, n_passages: int) -> np.ndarray:
    """Returns the 100 best passages of each query by float32 MaxSim: int64 ``(n_queries, 100)``, kept in the folder."""
    file = args.folder / f"exact-{n_passages}-{len(topics)}.npy"
    if file.is_file():
        best: np.ndarray = np.load(file)
        return best
    from pyterrier_jacolbert.index.search.exact import ExactScorer, TokenVectors

    queries = topics["query_embs"].tolist()
    scores = np.empty((len(queries), n_passages), dtype=np.float32)
    first, block = 0, []
    for vectors in spliced_passages(real_collection(args), n_passages):
        block.append(vectors)
        if len(block) == BLOCK_PASSAGES or first + len(block) == n_passages:
            scores[:, first : first + len(block)] = ExactScorer(TokenVectors.of(block)).scores(queries)
            first, block = first + len(block), []
    best = np.argsort(-scores, axis=1, kind="stable")[:, :100]
    np.save(file, best)
    return best


def real_collection(args: argparse.Namespace) -> EncodedCollection:
    """Returns the real passages and questions, encoded with ``mini``."""
    from pyterrier_jacolbert import JaColBERT

    return EncodedCollection(args.shared, args.keep, JaColBERT("mini"))


def sample_topics(args: argparse.Namespace) -> pd.DataFrame:
    """Returns 100 of the real questions with their vectors, always the same."""
    topics = real_collection(args).topics(args.shared)[["qid", "query_embs"]]
    rows = np.sort(np.random.default_rng(0).choice(len(topics), N_QUERIES, replace=False))
    return topics.iloc[rows].reset_index(drop=True)


def spliced_passages(collection: EncodedCollection, n_passages: int) -> Iterator[np.ndarray]:
    """Generates passages that depend only on their numbers: float32 ``(n_tokens, dim)`` each."""
    for number in range(n_passages):
        rng = np.random.default_rng(number)
        drawn = rng.normal(MEAN_TOKENS, 0.3 * MEAN_TOKENS)
        yield splice_passage(collection, int(np.clip(drawn, MEAN_TOKENS // 5, 2 * MEAN_TOKENS)), rng)


#: What runs in a process of its own, by name.
STEPS = {"build": build, "search": search, "recall": recall}

if __name__ == "__main__":
    main()
