"""Search engines side by side, on the same token vectors: time a query, what they find, and what they take.

    python -m benchmarks.search [--shared ../shared] [--keep runs/vectors] [--engines NAME ...] [--queries 200]
    python -m benchmarks.search --corpus spliced --engines "two stages, 4 bits" "two stages, int8" "torch bfloat16"

``real`` is the 10,858 passages (JSQuAD validation and JaQuAD train) as ``mini`` encodes them, with JSQuAD's questions;
``spliced`` is 200,000 passages of about 100 tokens, each made of spans of 3 to 5 real ones with noise, so that no two
are near-copies (the gap of the scores from rank 10 to rank 100 is printed for both). Each engine runs in a process of
its own; one query goes to one engine after the other, then the next query; medians. ``batched`` is all queries in one
call, a query. Encoding is not counted. R@k: the share of the float32 exact first k that are among the first k.

``--passages 3000`` takes the first of the real passages alone, JSQuAD's before all: of all of them, fast-plaid had no
index after a quarter of an hour on two cores. ``--python fast-plaid=E/bin/python`` names the environment of a peer,
whose wheels do not run with this project's torch: ``E/bin/pip install torch==2.11.0 fast-plaid==1.7.0.2110
xtr-warp-rs==2.1.0.2110``, and another for ``lancedb`` and ``maxsim-cpu``. Engines without one run in this Python if
they are installed, and are left out, saying so, if not.
Writes ``figures.json``, a Markdown table and a plot to ``--output``.
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

from benchmarks import arguments as common
from benchmarks.collections import Encoded, part, spliced
from benchmarks.engines import BEST, ENGINES, Vectors
from pyterrier_jacolbert import JaColBERT
from pyterrier_jacolbert.plots import plot_latency

MODULES = {"fast-plaid": "fast_plaid", "xtr-warp-rs": "xtr_warp", "maxsim-cpu": "maxsim_cpu", "lancedb": "lancedb"}


def main() -> None:
    parser = common.parser(__doc__, "shared", "model", "keep")
    parser.add_argument("--corpus", choices=["real", "spliced"], default="real")
    parser.add_argument("--passages", type=int, help="the first so many of the real ones alone")
    parser.add_argument("--engines", nargs="+", choices=list(ENGINES), default=list(ENGINES), metavar="NAME")
    parser.add_argument("--python", nargs="+", default=[], metavar="PEER=PATH")
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--threads", type=int, nargs="+", default=[2, 1])
    parser.add_argument("--output", type=Path, default=Path("runs/search"))
    arguments = parser.parse_args()
    encoded = Encoded(arguments.shared, arguments.keep, JaColBERT(arguments.model, verbose=True))
    if arguments.passages:
        encoded = part(encoded, arguments.passages)
    folder = encoded.folder if arguments.corpus == "real" else spliced(encoded, arguments.keep / "spliced")
    vectors = Vectors(folder)
    topics = encoded.topics(arguments.shared)
    chosen = np.sort(np.random.default_rng(0).choice(len(topics), arguments.queries, replace=False)).tolist()
    truth, gap = exact(vectors, chosen)
    print(json.dumps({"documents": len(vectors.starts) - 1, "tokens": int(vectors.starts[-1]), "gap_10_to_100": gap}))
    relevant = None
    if arguments.corpus == "real":
        numbers = {docno: number for number, docno in enumerate(encoded.docnos)}
        relevant = [numbers[topics["relevant"].iloc[query]] for query in chosen]
    pythons = dict(pair.split("=", 1) for pair in arguments.python)
    output = arguments.output / (f"first-{arguments.passages}" if arguments.passages else arguments.corpus)
    rows: dict[str, dict[str, Any]] = {}
    for threads in arguments.threads:
        engines = [Engine(name, pythons, folder, output, threads) for name in arguments.engines if there(name, pythons)]
        for engine in engines:
            engine.ask(chosen[:3])  # opens files, compiles kernels
        singles: dict[str, list[dict[str, Any]]] = {engine.name: [] for engine in engines}
        for query in chosen:
            for engine in engines:
                singles[engine.name].append(engine.ask([query]))
        for engine in engines:
            together = engine.ask(chosen)
            row = rows.setdefault(engine.name, {**engine.facts, "resident": together["resident"]})
            row[f"ms_{threads}"] = statistics.median(answer["ms"] for answer in singles[engine.name])
            row[f"batched_ms_{threads}"] = together["ms"] / len(chosen)
            row |= quality([answer["found"][0] for answer in singles[engine.name]], truth, relevant)
            engine.close()
        output.mkdir(parents=True, exist_ok=True)
        facts = {"load": os.getloadavg()[0], "bandwidth_gb_s": bandwidth(), "queries": len(chosen), "engines": rows}
        (output / "figures.json").write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        print(table(rows, [count for count in arguments.threads if f"ms_{count}" in next(iter(rows.values()))]))
    print(json.dumps({name: facts[name] for name in ("load", "bandwidth_gb_s")}))
    plot(rows, relevant is not None, output / "latency.png", arguments.threads[0])


def there(name: str, pythons: dict[str, str]) -> bool:
    """Whether an engine can be run; says so where it cannot."""
    module = MODULES.get(name.split(",")[0])
    found = module is None or name.split(",")[0] in pythons or importlib.util.find_spec(module) is not None
    if not found:
        print(f"left out: {name} is not installed, and --python names no environment that has it")
    return found


class Engine:
    """An engine in its process."""

    def __init__(self, name: str, pythons: dict[str, str], vectors: Path, folder: Path, threads: int) -> None:
        self.name = name
        python = pythons.get(name.split(",")[0], sys.executable)
        variables = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS")
        self._process = subprocess.Popen(
            [python, "-m", "benchmarks.engines", name, str(vectors.resolve()), str((folder / "indexes").resolve())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[1],
            env={**os.environ, **dict.fromkeys(variables, str(threads))},
        )
        self.facts = self._answer()

    def ask(self, queries: list[int]) -> dict[str, Any]:
        """Milliseconds, and what was found for each query."""
        assert self._process.stdin is not None
        print(json.dumps(queries), file=self._process.stdin, flush=True)
        return self._answer()

    def close(self) -> None:
        """Ends the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            sys.exit(f"{self.name} ended: {self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer


def exact(vectors: Vectors, chosen: list[int]) -> tuple[list[list[int]], float]:
    """The float32 exact first 100 of each query, and the mean gap of scores from rank 10 to rank 100."""
    queries = [vectors.query(number) for number in chosen]
    columns = np.concatenate(queries).T
    ends = np.cumsum([0, *map(len, queries)])
    scores = np.empty((len(chosen), len(vectors.starts) - 1), dtype=np.float32)
    block = 500
    for first in range(0, scores.shape[1], block):
        bounds = vectors.starts[first : first + block + 1]
        rows = np.asarray(vectors.documents[bounds[0] : bounds[-1]], dtype=np.float32)
        best = np.maximum.reduceat(rows @ columns, bounds[:-1] - bounds[0], axis=0)
        scores[:, first : first + block] = np.add.reduceat(best, ends[:-1], axis=1).T
    order = np.argsort(-scores, axis=1, kind="stable")[:, :BEST]
    ranked = np.take_along_axis(scores, order, axis=1)
    return order.tolist(), float((ranked[:, 9] - ranked[:, BEST - 1]).mean())


def quality(found: list[list[int]], truth: list[list[int]], relevant: list[int] | None) -> dict[str, float]:
    """R@10, R@100, and with judgements nDCG@10 and R@1; a question has one relevant passage."""
    pairs = list(zip(found, truth, strict=True))
    measures = {f"R@{k}": statistics.mean(len(set(a[:k]) & set(b[:k])) / k for a, b in pairs) for k in (10, BEST)}
    if relevant is not None:
        ranks = [a.index(b) if b in a else BEST for a, b in zip(found, relevant, strict=True)]
        measures["nDCG@10"] = statistics.mean(1 / np.log2(rank + 2) if rank < 10 else 0.0 for rank in ranks)
        measures["R@1"] = statistics.mean(float(rank == 0) for rank in ranks)
    return measures


def bandwidth(size: int = 2**30, repeats: int = 5) -> float:
    """Gigabytes a second that numpy reads with one thread, the best of some."""
    numbers = np.ones(size // 8)
    spent = []
    for _ in range(repeats):
        begun = time.perf_counter()
        numbers.sum()
        spent.append(time.perf_counter() - begun)
    return size / min(spent) / 1e9


def table(rows: dict[str, dict[str, Any]], threads: list[int]) -> str:
    """A row an engine."""
    heads = ["engine", *(f"ms, {n} threads" for n in threads), *(f"batched, {n}" for n in threads)]
    heads += ["R@10", "R@100", "nDCG@10", "R@1", "bytes a token", "build s", "resident MB"]
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for name, row in rows.items():
        cells = [f"{row[f'ms_{n}']:.1f}" for n in threads] + [f"{row[f'batched_ms_{n}']:.1f}" for n in threads]
        cells += [f"{row[measure]:.4f}" if measure in row else "" for measure in ("R@10", "R@100", "nDCG@10", "R@1")]
        cells += [f"{row['bytes_per_token']:.1f}" if row["bytes_per_token"] else "", f"{row['build_seconds']:.0f}"]
        lines.append(f"| {name} | " + " | ".join([*cells, f"{row['resident'] / 1e6:.0f}"]) + " |")
    return "\n".join(lines)


def plot(rows: dict[str, dict[str, Any]], judged: bool, path: Path, threads: int) -> None:
    """Latency against nDCG@10, or against R@10 where nothing is judged; skipped, saying so, without matplotlib."""
    measure = "nDCG@10" if judged else "R@10"
    table = pd.DataFrame(
        {"name": name, "mrt": row[f"ms_{threads}"], measure: row[measure]} for name, row in rows.items()
    )
    try:
        plot_latency(table).savefig(path)
    except ImportError as error:
        print(f"no plot: {error}")


if __name__ == "__main__":
    main()
