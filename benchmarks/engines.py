"""Search engines over ready token vectors, each in a process of its own that answers one line with one line.

    PYTHON -m benchmarks.engines ENGINE VECTORS FOLDER

``ENGINE`` is one of :data:`ENGINES`; ``VECTORS`` holds ``documents.npy`` (float16 ``(n_tokens, dim)``),
``documents.starts.npy``, ``queries.npy`` and ``queries.starts.npy``; ``FOLDER`` is where engines keep what they built.
The process builds what is not there yet, says how long that took and what it needs, and then reads lines: ``[numbers]``
of queries that are searched together. It answers with the milliseconds and, for each, the 100 best documents. This file
imports nothing of the project at its top, so that it runs where only the peer is installed.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

THREADS = int(os.environ.get("OMP_NUM_THREADS", "2"))
BEST = 100
#: Documents that fast-plaid and xtr-warp-rs make their centroids of. By default fast-plaid takes more, and had not
#: built the index of 10,858 passages after eight minutes.
PEER_SAMPLE = 2000


class Vectors:
    """Documents and queries, memory-mapped."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.documents = np.load(folder / "documents.npy", mmap_mode="r")
        self.starts = np.load(folder / "documents.starts.npy")
        self._queries = np.load(folder / "queries.npy", mmap_mode="r")
        self._query_starts = np.load(folder / "queries.starts.npy")

    def query(self, number: int) -> np.ndarray:
        """float32 ``(n_tokens, dim)``."""
        rows = self._queries[self._query_starts[number] : self._query_starts[number + 1]]
        return np.array(rows, dtype=np.float32)

    def each(self) -> list[np.ndarray]:
        """The documents, each float32 ``(n_tokens, dim)``."""
        return [
            np.array(self.documents[a:b], dtype=np.float32) for a, b in zip(self.starts, self.starts[1:], strict=False)
        ]


#: Searches some queries, given together, and returns the numbers of the best documents of each.
Search = Callable[[list[np.ndarray]], list[list[int]]]
#: What opens an engine, after building it where it is not there.
Open = Callable[[Vectors, Path], Search]


def ours(compression: str, **settings: Any) -> Open:  # noqa: ANN401
    """This project, at the level of arrays."""

    def start(vectors: Vectors, folder: Path) -> Search:
        from pyterrier_jacolbert import JaColBERTIndex, JaColBERTIndexer
        from pyterrier_jacolbert.index.search import search_exact, search_two_stage
        from pyterrier_jacolbert.pipeline.retrievers import candidate_count, probes_of

        index = JaColBERTIndex(folder, "unused/name")
        if not index.built():
            pairs = enumerate(zip(vectors.starts, vectors.starts[1:], strict=False))
            docs = (
                {"docno": str(i), "doc_embs": np.array(vectors.documents[a:b], dtype=np.float32)} for i, (a, b) in pairs
            )
            index = JaColBERTIndexer(folder, "unused/name", compression=compression).index(docs)
        stored = index.token_vectors()
        ranks = np.array(stored.docnos.ranks)

        def search(queries: list[np.ndarray]) -> list[list[int]]:
            if settings["quality"] == "exact":
                found = search_exact(stored.lane, queries, BEST, ranks)
            else:
                assert stored.two_stage_lane is not None
                count = candidate_count(settings["quality"], BEST)
                probes = settings.get("n_probe") or probes_of(settings["quality"], stored.starts, None)
                found = search_two_stage(
                    stored.two_stage_lane, queries, BEST, ranks, n_candidates=count, n_probe=probes
                )
            return [docids.tolist() for docids, _ in found]

        return search

    return start


def torch_exact(dtype: str) -> Open:
    """Exact MaxSim by torch: documents in blocks of like length, a product and a maximum a block."""

    def start(vectors: Vectors, folder: Path) -> Search:
        import torch

        torch.set_num_threads(THREADS)
        kind = getattr(torch, dtype)
        lengths = np.diff(vectors.starts)
        order = np.argsort(lengths, kind="stable")
        blocks = []
        for first in range(0, len(order), 512):
            chosen = order[first : first + 512]
            rows = vectors.starts[chosen][:, None] + np.minimum(
                np.arange(lengths[chosen].max()), lengths[chosen][:, None] - 1
            )
            blocks.append(torch.from_numpy(np.asarray(vectors.documents[rows.ravel()])).to(kind).view(*rows.shape, -1))
        numbers = torch.from_numpy(order)

        def search(queries: list[np.ndarray]) -> list[list[int]]:
            found = []
            for query in queries:
                columns = torch.from_numpy(query).to(kind).T
                scores = [
                    (block.view(-1, block.shape[2]) @ columns).view(*block.shape[:2], -1).amax(1).float().sum(1)
                    for block in blocks
                ]
                found.append(numbers[torch.cat(scores).topk(BEST).indices].tolist())
            return found

        return search

    return start


def maxsim_cpu(vectors: Vectors, folder: Path) -> Search:
    """The package maxsim-cpu."""
    import maxsim_cpu as package

    documents = vectors.each()

    def search(queries: list[np.ndarray]) -> list[list[int]]:
        found = []
        for query in queries:
            scores = np.asarray(package.maxsim_scores_variable(query, documents))
            best = np.argpartition(-scores, BEST)[:BEST]
            found.append(best[np.argsort(-scores[best])].tolist())
        return found

    return search


def fast_plaid(**settings: int) -> Open:
    """The package fast-plaid, with its defaults where nothing is given but for the sample of its centroids."""

    def start(vectors: Vectors, folder: Path) -> Search:
        import torch
        from fast_plaid.search import FastPlaid

        torch.set_num_threads(THREADS)
        index = FastPlaid(index=str(folder), device="cpu")
        if not (folder / "metadata.json").is_file():
            documents = [torch.from_numpy(rows) for rows in vectors.each()]
            index.create(documents_embeddings=documents, n_samples_kmeans=PEER_SAMPLE)

        def search(queries: list[np.ndarray]) -> list[list[int]]:
            found = []
            for query in queries:
                (best,) = index.search(
                    queries_embeddings=torch.from_numpy(query)[None], top_k=BEST, show_progress=False, **settings
                )
                found.append([int(docid) for docid, _ in best])
            return found

        return search

    return start


def xtr_warp(vectors: Vectors, folder: Path) -> Search:
    """The package xtr-warp-rs at its defaults but for the sample of its centroids."""
    import torch
    from xtr_warp import XTRWarp

    torch.set_num_threads(THREADS)
    index = XTRWarp(index=str(folder))
    if not folder.is_dir() or not any(folder.iterdir()):
        documents = [torch.from_numpy(rows) for rows in vectors.each()]
        index.create(embeddings_source=documents, device="cpu", n_samples_kmeans=PEER_SAMPLE)
    index.load(device="cpu", dtype=torch.float32)

    def search(queries: list[np.ndarray]) -> list[list[int]]:
        found = []
        for query in queries:
            tensor = torch.from_numpy(query)[None]
            (best,) = index.search(queries_embeddings=tensor, top_k=BEST, num_threads=THREADS)
            found.append([int(row[0]) for row in best])
        return found

    return search


def lancedb(vectors: Vectors, folder: Path) -> Search:
    """The package lancedb: an IVF-PQ index of its multivectors, 20 probes, 4 times the results refined."""
    import lancedb as package
    import pyarrow as pa

    dim = vectors.documents.shape[1]
    database = package.connect(str(folder))
    if not (folder / "documents.lance").is_dir():
        kind = pa.schema([("id", pa.int32()), ("vector", pa.list_(pa.list_(pa.float32(), dim)))])
        rows = [{"id": number, "vector": list(document)} for number, document in enumerate(vectors.each())]
        table = database.create_table("documents", pa.Table.from_pylist(rows, schema=kind))
        table.create_index(metric="cosine", vector_column_name="vector")
    table = database.open_table("documents")

    def search(queries: list[np.ndarray]) -> list[list[int]]:
        found = []
        for query in queries:
            asked = table.search(query).nprobes(20).refine_factor(4).limit(BEST).select(["id"])
            found.append([row["id"] for row in asked.to_list()])
        return found

    return search


#: By name: what opens it, and the folder that it shares with others.
ENGINES: dict[str, tuple[Open, str]] = {
    "two stages, int8": (ours("int8", quality="balanced"), "ours-int8"),
    "two stages, int8, fast": (ours("int8", quality="fast"), "ours-int8"),
    "two stages, 4 bits": (ours("4bit", quality="balanced"), "ours-4bit"),
    "two stages, 4 bits, fast": (ours("4bit", quality="fast"), "ours-4bit"),
    "two stages, 2 bits": (ours("2bit", quality="balanced"), "ours-2bit"),
    "exact, int8": (ours("int8", quality="exact"), "ours-int8"),
    "torch float32": (torch_exact("float32"), "torch"),
    "torch bfloat16": (torch_exact("bfloat16"), "torch"),
    "maxsim-cpu": (maxsim_cpu, "maxsim-cpu"),
    "fast-plaid": (fast_plaid(), "fast-plaid"),
    "fast-plaid, widest": (fast_plaid(n_ivf_probe=32, n_full_scores=8192), "fast-plaid"),
    "xtr-warp-rs": (xtr_warp, "xtr-warp-rs"),
    "lancedb": (lancedb, "lancedb"),
}


def main() -> None:
    name, vectors, folder = sys.argv[1:]
    start, shared = ENGINES[name]
    place = Path(folder) / shared
    facts = Path(folder) / f"{shared}.json"
    if not facts.is_file():
        shutil.rmtree(place, ignore_errors=True)  # of a build that was interrupted
    # What libraries print goes to the errors' stream.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    Path(folder).mkdir(parents=True, exist_ok=True)
    opened = Vectors(Path(vectors))
    begun = time.perf_counter()
    search = start(opened, place)
    if not facts.is_file():
        size = sum(file.stat().st_size for file in place.rglob("*") if file.is_file()) if place.is_dir() else 0
        built = {"build_seconds": time.perf_counter() - begun, "bytes_per_token": size / int(opened.starts[-1])}
        facts.write_text(json.dumps(built), encoding="utf-8")
    print(facts.read_text(encoding="utf-8"), file=answers, flush=True)
    for line in sys.stdin:
        queries = [opened.query(number) for number in json.loads(line)]
        begun = time.perf_counter()
        found = search(queries)
        spent = (time.perf_counter() - begun) * 1000
        print(json.dumps({"ms": spent, "found": found, "resident": _resident()}), file=answers, flush=True)


def _resident() -> int:
    """Bytes that the process holds in memory, mapped files included (Linux)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) * 1024
    return 0


if __name__ == "__main__":
    main()
