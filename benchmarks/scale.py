"""A sharded index from 10,000 to 1,000,000 passages: building, bytes, memory, milliseconds a query, what is found.

    python -m benchmarks.scale [--passages 10000 50000 200000 1000000] [--compression 4bit int8] [--folder runs/scale]

The passages are those of ``benchmarks.search --corpus spliced``: of about 100 tokens of 128 numbers, each made of spans
of 3 to 5 real ones with noise. They are made one by one as they are indexed, a million takes no disk but the index's;
the n-th is the same whatever their number. Every build and every search runs in a process of its own. A build's time is
all that is not encoding (the making of the passages is measured apart and taken off); its memory is the most anonymous
memory. Queries are real ones, in frames of 100; a time is the median of the repeats, over the queries of a frame. The
recall of the first 100 is against the exact search by float32, over the same passages made again, for so many queries.

Prints a line of JSON a measurement, as ``pyterrier_jacolbert/sizing.json`` has them, and writes them all to
``FOLDER/measurements.json``. ``--predict N`` fits ``plan`` to the measurements of up to N passages alone, and says what
it predicts for more, and how far off that is where it was measured. An index that is there is not built again.
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

from benchmarks import arguments as common
from pyterrier_jacolbert import sizing

TOKENS = 100
SHARD = 2**17
QUERIES = 100


def main() -> None:
    parser = common.parser(__doc__, "shared", "keep")
    parser.add_argument("--folder", type=Path, default=Path("runs/scale"))
    parser.add_argument("--passages", type=int, nargs="+", default=[10_000, 50_000, 200_000, 1_000_000])
    parser.add_argument("--compression", nargs="+", default=["4bit", "int8"])
    parser.add_argument("--threads", type=int, nargs="+", default=[2, 1])
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--recall-queries", type=int, default=100, help="0 leaves recall out")
    parser.add_argument("--remove", action="store_true", help="remove an index when it is measured")
    parser.add_argument(
        "--predict", type=int, metavar="N", help="only say what the plan predicts for --passages over N"
    )
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(STEPS[json.loads(arguments.one)["step"]](arguments, **json.loads(arguments.one))))
        return
    results = arguments.folder / "measurements.json"
    entries: list[dict[str, Any]] = json.loads(results.read_text()) if results.is_file() else []
    if arguments.predict:
        predict(entries, arguments.predict, arguments.passages)
        return
    arguments.folder.mkdir(parents=True, exist_ok=True)
    for compression in arguments.compression:
        for passages in arguments.passages:
            for entry in measured(arguments, compression, passages):
                print(json.dumps(entry), flush=True)
                same = [(e["measure"], e["compression"], e["documents"], e["threads"]) for e in entries]
                key = (entry["measure"], compression, passages, entry["threads"])
                entries = [e for e, other in zip(entries, same, strict=True) if other != key] + [entry]
                results.write_text(json.dumps(entries, indent=1) + "\n")
            if arguments.remove:
                shutil.rmtree(arguments.folder / f"{compression}-{passages}")


def measured(arguments: argparse.Namespace, compression: str, passages: int) -> Iterator[dict[str, Any]]:
    """Builds, searches, and yields what was measured."""
    source = {"source": "python -m benchmarks.scale", "compression": compression, "documents": passages, "dim": 128}
    key = {"compression": compression, "passages": passages}
    built = _apart(arguments, {"step": "build", **key}, max(arguments.threads))
    source["tokens"] = built.pop("tokens")
    for measure, value in built.items():
        yield {"measure": measure, "value": value, "threads": max(arguments.threads), **source}
    for threads in arguments.threads:
        for measure, value in _apart(arguments, {"step": "search", **key}, threads).items():
            yield {"measure": measure, "value": value, "threads": threads, **source}
    if arguments.recall_queries:
        found = _apart(arguments, {"step": "recall", **key}, max(arguments.threads))
        yield {"measure": "recall_100", "value": found["recall_100"], "threads": max(arguments.threads), **source}


def predict(entries: list[dict[str, Any]], most: int, passages: list[int]) -> None:
    """Prints what the plan says of more passages, fitted to the measurements of up to ``most``."""
    for measure in sizing.TERMS:
        for compression in sorted({entry["compression"] for entry in entries}):
            of_this = [e for e in entries if (e["measure"], e["compression"]) == (measure, compression)]
            fitted = [entry for entry in of_this if entry["documents"] <= most]
            mean = statistics.mean(entry["tokens"] / entry["documents"] for entry in fitted)
            for documents in (number for number in passages if number > most):
                there = {entry["threads"]: entry["value"] for entry in of_this if entry["documents"] == documents}
                size = sizing.Size(documents, round(documents * mean), fitted[0]["dim"])
                for threads, predicted in sizing.predict(fitted, measure, size, compression).items():
                    beside = "not measured"
                    if threads in there:
                        beside = f"{there[threads]:.4g} measured ({predicted.value / there[threads] - 1:+.1%})"
                    print(f"{measure} {compression} {documents:,} {threads} threads: {predicted.value:.4g}, {beside}")


def real(arguments: argparse.Namespace) -> Any:  # noqa: ANN401
    """The real passages and questions, encoded."""
    from benchmarks.collections import Encoded
    from pyterrier_jacolbert import JaColBERT

    return Encoded(arguments.shared, arguments.keep, JaColBERT("mini"))


def made(encoded: Any, passages: int) -> Iterator[np.ndarray]:  # noqa: ANN401
    """Token vectors of passages, one by one: float32 ``(n_tokens, dim)``; each depends on its number alone."""
    bounds, dim = encoded.starts, encoded.vectors.shape[1]
    lengths = np.diff(bounds)
    for number in range(passages):
        draws = np.random.default_rng(number)
        size = int(np.clip(draws.normal(TOKENS, 0.3 * TOKENS), TOKENS // 5, 2 * TOKENS))
        pieces = int(draws.integers(3, 6))
        sizes = np.diff(np.linspace(0, size, pieces + 1).astype(int))
        parts = []
        for part, passage in zip(sizes, draws.integers(len(lengths), size=pieces), strict=True):
            first = bounds[passage] + draws.integers(max(1, lengths[passage] - part + 1))
            parts.append(np.resize(encoded.vectors[first : min(first + part, bounds[passage + 1])], (part, dim)))
        rows = np.concatenate(parts).astype(np.float32)
        rows += draws.standard_normal(rows.shape, dtype=np.float32) * np.float32(0.15 / np.sqrt(dim))
        yield rows / np.linalg.norm(rows, axis=1, keepdims=True)


def build(arguments: argparse.Namespace, compression: str, passages: int, **_: object) -> dict[str, float]:
    from benchmarks.memory import Memory
    from pyterrier_jacolbert import JaColBERTIndexer, ShardedIndex
    from pyterrier_jacolbert.executors import SerialExecutor

    path = arguments.folder / f"{compression}-{passages}"
    notes = path.with_suffix(".json")
    if not ShardedIndex(path).built():
        shutil.rmtree(path, ignore_errors=True)
        encoded = real(arguments)
        making = 0.0

        def documents() -> Iterator[dict[str, Any]]:
            nonlocal making
            begun = time.perf_counter()
            for number, rows in enumerate(made(encoded, passages)):
                making += time.perf_counter() - begun
                yield {"docno": f"passage-{number:08}", "doc_embs": rows}
                begun = time.perf_counter()

        executor = SerialExecutor(SHARD)
        with Memory() as memory:
            JaColBERTIndexer(path, "mini", compression=compression, executor=executor).index(documents())
        figures = {"build_seconds": memory.seconds - making, "build_bytes": memory.anonymous}
        notes.write_text(json.dumps(figures))
    index = ShardedIndex(path)
    stats = index.stats()
    return {
        "tokens": stats["tokens"],
        **json.loads(notes.read_text()),
        "bytes_per_token": stats["bytes_per_token"],
    }


def search(arguments: argparse.Namespace, compression: str, passages: int, **_: object) -> dict[str, float]:
    from benchmarks.memory import Memory
    from pyterrier_jacolbert import ShardedIndex

    topics = _topics(arguments)
    with Memory() as memory:
        retriever = ShardedIndex(arguments.folder / f"{compression}-{passages}").retriever(num_results=100)
        retriever(topics)  # reads the files, and compiles
        times = []
        for _repeat in range(arguments.repeats):
            begun = time.perf_counter()
            retriever(topics)
            times.append((time.perf_counter() - begun) / len(topics) * 1000)
    return {"search_ms": statistics.median(times), "search_bytes": memory.anonymous}


def recall(arguments: argparse.Namespace, compression: str, passages: int, **_: object) -> dict[str, float]:
    from pyterrier_jacolbert import ShardedIndex

    topics = _topics(arguments).head(arguments.recall_queries)
    truth = exact(arguments, topics, passages)
    index = ShardedIndex(arguments.folder / f"{compression}-{passages}")
    found = index.retriever(num_results=100)(topics)
    shares = []
    for number, (_, rows) in enumerate(found.groupby("qid", sort=False)):
        best = {f"passage-{docid:08}" for docid in truth[number]}
        shares.append(len(best & set(rows["docno"])) / len(best))
    return {"recall_100": float(np.mean(shares))}


def exact(arguments: argparse.Namespace, topics: pd.DataFrame, passages: int) -> np.ndarray:
    """The best 100 passages of each query by float32 MaxSim: int64 ``(n_queries, 100)``, kept in the folder."""
    file = arguments.folder / f"exact-{passages}-{len(topics)}.npy"
    if file.is_file():
        return np.load(file)
    from pyterrier_jacolbert.index.lanes import FloatLane, TokenVectors

    queries = topics["query_embs"].tolist()
    scores = np.empty((len(queries), passages), dtype=np.float32)
    done, block = 0, []
    for rows in made(real(arguments), passages):
        block.append(rows)
        if len(block) == 5000 or done + len(block) == passages:
            scores[:, done : done + len(block)] = FloatLane(TokenVectors.of(block)).scores(queries)
            done, block = done + len(block), []
    best = np.argsort(-scores, axis=1, kind="stable")[:, :100]
    np.save(file, best)
    return best


def _topics(arguments: argparse.Namespace) -> pd.DataFrame:
    topics = real(arguments).topics(arguments.shared)[["qid", "query_embs"]]
    chosen = np.sort(np.random.default_rng(0).choice(len(topics), QUERIES, replace=False))
    return topics.iloc[chosen].reset_index(drop=True)


def _apart(arguments: argparse.Namespace, step: dict[str, Any], threads: int) -> dict[str, Any]:
    """Runs a step in a process of its own, with so many threads."""
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.scale", "--one", json.dumps(step)]
    for name in ("shared", "keep", "folder", "repeats", "recall_queries"):
        command += [f"--{name.replace('_', '-')}", str(getattr(arguments, name))]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


STEPS = {"build": build, "search": search, "recall": recall}

if __name__ == "__main__":
    main()
