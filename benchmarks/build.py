"""Measures building an index from token vectors: time and size, next to fast-plaid, or memory by collection size.

    python -m benchmarks.build [--shared ../shared] [--model mini] [--keep runs/vectors] [--peer PYTHON] [--repeats 3]
    python -m benchmarks.build --memory

The first command builds 4-bit and 2-bit indexes of 10,858 real passages (JSQuAD validation and JaQuAD train). Each
build has a process of its own, which imports everything and opens the vectors before the clock starts. With ``--peer``,
builds alternate with those of fast-plaid, which takes the same vectors as a list in memory, whose creation is not
timed. Prints medians over the repeats. Peak memory is what the process adds during the build.

The second command builds indexes of 20,000 and of 200,000 synthetic passages of 100 tokens, with equally many centroids
and equally large training samples, and prints their peak memory.

fast-plaid needs an environment of its own, because its wheels do not run with the torch of this project: ``python -m
venv E; E/bin/pip install torch==2.11.0 fast-plaid==1.7.0.2110 numpy``, then ``--peer E/bin/python``. Its centroids are
trained on 2,000 documents: with its default it had not finished the index after eight minutes.
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
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.arguments import benchmark_parser
from benchmarks.engines import PEER_SAMPLE

ROOT = Path(__file__).parents[1]
THREADS = 2
_PEER_SCRIPT = """
import json, sys, tempfile, time
from pathlib import Path
import numpy as np, torch
sys.path.insert(0, {root!r})
from benchmarks.memory import PeakMemory
from fast_plaid import search
torch.set_num_threads({threads})
vectors = np.load({folder!r} + "/documents.npy")
starts = np.load({folder!r} + "/documents.starts.npy")
documents = [torch.from_numpy(vectors[a:b].astype(np.float32)) for a, b in zip(starts, starts[1:])]
with tempfile.TemporaryDirectory() as out:
    index = search.FastPlaid(index=out, device="cpu")
    with PeakMemory() as before: time.sleep(0.05)
    with PeakMemory() as memory:
        index.create(documents_embeddings=documents, nbits={bits}, n_samples_kmeans={sample})
    size = sum(file.stat().st_size for file in Path(out).rglob("*") if file.is_file())
print(json.dumps({{"seconds": memory.seconds, "peak": memory.anonymous - before.anonymous,
                   "bytes_per_token": size / int(starts[-1])}}))
"""


def main() -> None:
    parser = benchmark_parser(__doc__, "shared", "model", "keep")
    parser.add_argument("--peer", metavar="PYTHON", help="Python of an environment with fast-plaid")
    parser.add_argument("--repeats", type=int, default=3, help="builds of each kind (default: 3)")
    parser.add_argument(
        "--bits", type=int, nargs="+", default=[4, 2], choices=[4, 2, 1], help="bits per dimension (default: 4 2)"
    )
    parser.add_argument("--passages", type=int, metavar="N", help="use only the first N passages")
    parser.add_argument("--memory", action="store_true", help="run the second benchmark")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        print(json.dumps(build(json.loads(args.child))))
    elif args.memory:
        for passages in (20_000, 200_000):
            figures = run_build({"synthetic": passages, "compression": "4bit"})
            print(json.dumps({"passages": passages, **figures}), flush=True)
    else:
        compare_with_peer(args)


def compare_with_peer(args: argparse.Namespace) -> None:
    """Builds indexes of the real passages here and with the peer, and prints the medians."""
    from benchmarks.collections import EncodedCollection, first_passages
    from pyterrier_jacolbert import JaColBERT

    collection = EncodedCollection(args.shared, args.keep, JaColBERT(args.model, verbose=True))
    if args.passages:
        collection = first_passages(collection, args.passages)
    print(json.dumps({"tokens": int(collection.starts[-1]), "dim": collection.vectors.shape[1], "threads": THREADS}))
    for bits in args.bits:
        runs: dict[str, list[dict[str, float]]] = {"pyterrier_jacolbert": [], "fast-plaid": []}
        for _ in range(args.repeats):
            settings = {"folder": str(collection.folder), "compression": f"{bits}bit"}
            runs["pyterrier_jacolbert"].append(run_build(settings))
            if args.peer:
                runs["fast-plaid"].append(run_peer_build(args.peer, collection.folder, bits))
        medians = {
            name: {key: round(statistics.median(run[key] for run in measured), 3) for key in measured[0]}
            for name, measured in runs.items()
            if measured
        }
        print(json.dumps({"bits": bits, **medians}), flush=True)


def run_build(settings: dict[str, Any]) -> dict[str, float]:
    """Runs :func:`build` in a process of its own."""
    return _run([sys.executable, "-m", "benchmarks.build", "--child", json.dumps(settings)])


def run_peer_build(python: str, folder: Path, bits: int) -> dict[str, float]:
    """Builds an index with fast-plaid in a process of its own."""
    script = _PEER_SCRIPT.format(root=str(ROOT), folder=str(folder), bits=bits, threads=THREADS, sample=PEER_SAMPLE)
    return _run([python, "-c", script])


def _run(command: list[str]) -> dict[str, float]:
    environment = {**os.environ, "OMP_NUM_THREADS": str(THREADS), "NUMBA_NUM_THREADS": str(THREADS)}
    process = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT)
    if process.returncode:
        sys.exit(process.stderr)
    figures: dict[str, float] = json.loads(process.stdout.splitlines()[-1])
    return figures


def build(settings: dict[str, Any]) -> dict[str, float]:
    """Builds an index in this process.

    Args:
        settings: ``compression``, and either ``folder``, the vectors of real passages, or ``synthetic``, a number of
            passages.
    """
    import torch

    from benchmarks.collections import EncodedCollection
    from benchmarks.memory import PeakMemory
    from pyterrier_jacolbert import JaColBERTIndexer

    torch.set_num_threads(THREADS)
    options: dict[str, Any] = {"compression": settings["compression"]}
    if "synthetic" in settings:
        documents = synthetic_passages(settings["synthetic"])
        options["n_centroids"] = 16_384
    else:
        documents = EncodedCollection(Path(), Path(settings["folder"])).documents()
    with tempfile.TemporaryDirectory() as out:
        # Imports everything and compiles the kernels before the clock starts, as the peer has done.
        warm_up = JaColBERTIndexer(Path(out) / "warm-up", "unused/name", **{**options, "n_centroids": 16})
        warm_up.index(synthetic_passages(50))
        with PeakMemory() as before:
            time.sleep(0.05)
        with PeakMemory() as memory:
            index = JaColBERTIndexer(Path(out) / "index", "unused/name", **options).index(documents)
        stats = index.stats()
    return {
        "seconds": memory.seconds,
        "peak": memory.anonymous - before.anonymous,
        "anonymous": memory.anonymous,
        "bytes_per_token": stats["bytes_per_token"],
    }


def synthetic_passages(n_passages: int, tokens: int = 100, dim: int = 128) -> Iterator[dict[str, Any]]:
    """Yields passages of unit vectors around 1,000 directions; each depends only on its number."""
    directions = np.random.default_rng(0).standard_normal((1000, dim)).astype(np.float32)
    for number in range(n_passages):
        rng = np.random.default_rng(number)
        rows = directions[rng.integers(1000, size=tokens)] + rng.standard_normal((tokens, dim), dtype=np.float32)
        yield {"docno": f"d{number}", "doc_embs": rows / np.linalg.norm(rows, axis=1, keepdims=True)}


if __name__ == "__main__":
    main()
