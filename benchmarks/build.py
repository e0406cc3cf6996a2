"""Building an index from ready vectors, beside fast-plaid; and the memory of a build by the size of the collection.

    python -m benchmarks.build [--shared ../shared] [--model mini] [--keep runs/vectors] [--peer PYTHON] [--repeats 3]
    python -m benchmarks.build --memory

The first builds 4-bit and 2-bit indexes of 10,858 real passages (JSQuAD validation and JaQuAD train), each build in a
process of its own that has imported everything and opened the vectors before the clock starts; the peer, where its
Python is named, gets the same vectors (it takes them as a list in memory, which is not counted) in alternation.
Medians; the first build of each process is the one that counts. Peak memory is what the process adds while it builds.
The second builds from 20,000 and from 200,000 synthetic passages of 100 tokens with as many centroids and the same
sample, and prints the peaks.

The peer: ``python -m venv E; E/bin/pip install torch==2.11.0 fast-plaid==1.7.0.2110 numpy``, and ``--peer
E/bin/python``; its wheels do not run with the torch that this project uses. Its centroids are made of 2,000 documents:
at its default it had not built the index after eight minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import arguments as common
from benchmarks.engines import PEER_SAMPLE

THREADS = 2
_PEER = """
import json, sys, tempfile, time
from pathlib import Path
import numpy as np, torch
sys.path.insert(0, {root!r})
from benchmarks.memory import Memory
from fast_plaid import search
torch.set_num_threads({threads})
vectors = np.load({folder!r} + "/documents.npy")
starts = np.load({folder!r} + "/documents.starts.npy")
documents = [torch.from_numpy(vectors[a:b].astype(np.float32)) for a, b in zip(starts, starts[1:])]
with tempfile.TemporaryDirectory() as out:
    index = search.FastPlaid(index=out, device="cpu")
    with Memory() as before: time.sleep(0.05)
    with Memory() as memory:
        index.create(documents_embeddings=documents, nbits={bits}, n_samples_kmeans={sample})
    size = sum(file.stat().st_size for file in Path(out).rglob("*") if file.is_file())
print(json.dumps({{"seconds": memory.seconds, "peak": memory.anonymous - before.anonymous,
                   "bytes_per_token": size / int(starts[-1])}}))
"""


def main() -> None:
    parser = common.parser(__doc__, "shared", "model", "keep")
    parser.add_argument("--peer", help="the Python of an environment with fast-plaid")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--bits", type=int, nargs="+", default=[4, 2], choices=[4, 2, 1])
    parser.add_argument("--passages", type=int, help="the first so many alone")
    parser.add_argument("--memory", action="store_true", help="the second benchmark")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(_build(json.loads(arguments.one))))
        return
    if arguments.memory:
        for passages in (20_000, 200_000):
            print(
                json.dumps({"passages": passages, **_ours({"synthetic": passages, "compression": "4bit"})}), flush=True
            )
        return
    from benchmarks.collections import Encoded, part
    from pyterrier_jacolbert import JaColBERT

    encoded = Encoded(arguments.shared, arguments.keep, JaColBERT(arguments.model, verbose=True))
    if arguments.passages:
        encoded = part(encoded, arguments.passages)
    print(json.dumps({"tokens": int(encoded.starts[-1]), "dim": encoded.vectors.shape[1], "threads": THREADS}))
    for bits in arguments.bits:
        runs: dict[str, list[dict[str, float]]] = {"here": [], "peer": []}
        for _ in range(arguments.repeats):
            runs["here"].append(_ours({"folder": str(encoded.folder), "compression": f"{bits}bit"}))
            if arguments.peer:
                code = _PEER.format(
                    root=str(Path(__file__).parents[1]),
                    folder=str(encoded.folder),
                    bits=bits,
                    threads=THREADS,
                    sample=PEER_SAMPLE,
                )
                runs["peer"].append(_run([arguments.peer, "-c", code]))
        medians = {
            name: {key: round(statistics.median(run[key] for run in done), 3) for key in done[0]}
            for name, done in runs.items()
            if done
        }
        print(json.dumps({"bits": bits, **medians}), flush=True)


def _ours(settings: dict[str, Any]) -> dict[str, float]:
    return _run([sys.executable, "-m", "benchmarks.build", "--one", json.dumps(settings)])


def _run(command: list[str]) -> dict[str, float]:
    environment = {**os.environ, "OMP_NUM_THREADS": str(THREADS), "NUMBA_NUM_THREADS": str(THREADS)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=Path(__file__).parents[1])
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def _build(settings: dict[str, Any]) -> dict[str, float]:
    """A build in this process."""
    import time

    import torch

    from benchmarks.collections import Encoded
    from benchmarks.memory import Memory
    from pyterrier_jacolbert import JaColBERTIndexer

    torch.set_num_threads(THREADS)
    if "synthetic" in settings:
        documents: Iterator[dict[str, Any]] = synthetic(settings["synthetic"])
        more: dict[str, Any] = {"n_centroids": 16_384}
    else:
        documents, more = Encoded(Path(), Path(settings["folder"])).documents(), {}
    more["compression"] = settings["compression"]
    with tempfile.TemporaryDirectory() as out:
        # Imports and compiled kernels are there before the clock starts, as they are for the peer.
        JaColBERTIndexer(Path(out) / "warm", "unused/name", **{**more, "n_centroids": 16}).index(synthetic(50))
        with Memory() as before:
            time.sleep(0.05)
        with Memory() as memory:
            index = JaColBERTIndexer(Path(out) / "index", "unused/name", **more).index(documents)
        stats = index.stats()
    return {
        "seconds": memory.seconds,
        "peak": memory.anonymous - before.anonymous,
        "anonymous": memory.anonymous,
        "bytes_per_token": stats["bytes_per_token"],
    }


def synthetic(passages: int, tokens: int = 100, dim: int = 128) -> Iterator[dict[str, Any]]:
    """Passages of unit vectors around 1,000 directions; each depends on its number alone."""
    directions = np.random.default_rng(0).standard_normal((1000, dim)).astype(np.float32)
    for number in range(passages):
        draws = np.random.default_rng(number)
        rows = directions[draws.integers(1000, size=tokens)] + draws.standard_normal((tokens, dim), dtype=np.float32)
        yield {"docno": f"d{number}", "doc_embs": rows / np.linalg.norm(rows, axis=1, keepdims=True)}


if __name__ == "__main__":
    main()
