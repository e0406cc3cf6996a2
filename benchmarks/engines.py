"""Search engines over token vectors, each in a process of its own that answers each line with one line.

    PYTHON -m benchmarks.engines ENGINE VECTORS FOLDER

``ENGINE`` is one of :data:`ENGINES`; ``VECTORS`` holds ``documents.npy`` (float16 ``(n_tokens, dim)``),
``documents.starts.npy``, ``queries.npy`` and ``queries.starts.npy``; ``FOLDER`` keeps the indexes. The process first
builds the index if there is none, and prints how long that took and its bytes per token. Then it reads lines, each the
numbers of queries to search together, ``[3, 5]``, and prints the milliseconds and the 100 best documents of each. This
file imports nothing of the package at its top, so that it runs in environments that have only the peer.
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

from benchmarks.memory import resident_bytes

THREADS = int(os.environ.get("OMP_NUM_THREADS", "2"))
NUM_RESULTS = 100
#: Documents that fast-plaid and xtr-warp-rs train their centroids on. By default fast-plaid takes more, and had not
#: built the index of 10,858 passages after eight minutes.
PEER_SAMPLE = 2000


class Vectors:
    """Token vectors of documents and queries, memory-mapped.

    Attributes:
        documents: float16 ``(n_tokens, dim)``.
        starts: int64 ``(n_docs + 1,)``: document ``i`` has the rows ``starts[i]`` to ``starts[i + 1]``.
    """

    def __init__(self, folder: Path) -> None:
        self.documents = np.load(folder / "documents.npy", mmap_mode="r")
        self.starts = np.load(folder / "documents.starts.npy")
        self._queries = np.load(folder / "queries.npy", mmap_mode="r")
        self._query_starts = np.load(folder / "queries.starts.npy")

    def query(self, number: int) -> np.ndarray:
        """Returns the vectors of a query: float32 ``(n_tokens, dim)``."""
        rows = self._queries[self._query_starts[number] : self._query_starts[number + 1]]
        return np.array(rows, dtype=np.float32)

    def document_list(self) -> list[np.ndarray]:
        """Returns the vectors of each document: float32 ``(n_tokens, dim)``."""
        return [
            np.array(self.documents[a:b], dtype=np.float32) for a, b in zip(self.starts, self.starts[1:], strict=False)
        ]


#: Searches queries together and returns the docids of the best documents of each.
Search = Callable[[list[np.ndarray]], list[list[int]]]
#: Opens an engine on vectors, with a folder for its index, which it builds if there is none.
OpenEngine = Callable[[Vectors, Path], Search]


def this_package(compression: str, **settings: Any) -> OpenEngine:
    """This package, below its transformers: arrays in, arrays out.

    Args:
        compression: of the index.
        **settings: ``quality`` of the search, and ``n_probe``.
    """

    def open_engine(vectors: Vectors, folder: Path) -> Search:
        from pyterrier_jacolbert import JaColBERTIndex, JaColBERTIndexer
        from pyterrier_jacolbert.index.search.exact import search_exact
        from pyterrier_jacolbert.index.search.two_stage import default_n_candidates, default_n_probe, search_two_stage

        index = JaColBERTIndex(folder, "unused/name")
        if not index.built():
            bounds = enumerate(zip(vectors.starts, vectors.starts[1:], strict=False))
            docs = (
                {"docno": str(docid), "doc_embs": np.array(vectors.documents[first:end], dtype=np.float32)}
                for docid, (first, end) in bounds
            )
            index = JaColBERTIndexer(folder, "unused/name", compression=compression).index(docs)
        reader = index.token_vectors()
        tie_ranks = np.array(reader.docnos.ranks)
        quality = settings["quality"]
        if quality != "exact" and reader.two_stage_scorer is None:
            raise ValueError(f"{compression} has no centroids for {reader.starts[-1]} tokens; take more passages.")

        def search(queries: list[np.ndarray]) -> list[list[int]]:
            if quality == "exact":
                hits = search_exact(reader.scorer, queries, NUM_RESULTS, tie_ranks)
            else:
                assert reader.two_stage_scorer is not None
                hits = search_two_stage(
                    reader.two_stage_scorer,
                    queries,
                    NUM_RESULTS,
                    tie_ranks,
                    n_candidates=default_n_candidates(quality, NUM_RESULTS),
                    n_probe=settings.get("n_probe") or default_n_probe(quality, reader.starts, None),
                )
            return [docids.tolist() for docids, _ in hits]

        return search

    return open_engine


def torch_exact(dtype: str) -> OpenEngine:
    """Exact MaxSim by torch: one matrix product and one maximum per block of documents of similar length."""

    def open_engine(vectors: Vectors, folder: Path) -> Search:
        import torch

        torch.set_num_threads(THREADS)
        torch_dtype = getattr(torch, dtype)
        lengths = np.diff(vectors.starts)
        order = np.argsort(lengths, kind="stable")
        blocks = []
        for first in range(0, len(order), 512):
            docids = order[first : first + 512]
            # Shorter documents repeat their last token, which changes no maximum.
            positions = np.minimum(np.arange(lengths[docids].max()), lengths[docids][:, None] - 1)
            rows = vectors.starts[docids][:, None] + positions
            block = torch.from_numpy(np.asarray(vectors.documents[rows.ravel()]))
            blocks.append(block.to(torch_dtype).view(*rows.shape, -1))
        docids_in_order = torch.from_numpy(order)

        def search(queries: list[np.ndarray]) -> list[list[int]]:
            found = []
            for query in queries:
                columns = torch.from_numpy(query).to(torch_dtype).T
                scores = [
                    (block.view(-1, block.shape[2]) @ columns).view(*block.shape[:2], -1).amax(1).float().sum(1)
                    for block in blocks
                ]
                found.append(docids_in_order[torch.cat(scores).topk(NUM_RESULTS).indices].tolist())
            return found

        return search

    return open_engine


def maxsim_cpu(vectors: Vectors, folder: Path) -> Search:
    """Exact MaxSim by the package maxsim-cpu."""
    import maxsim_cpu as package

    documents = vectors.document_list()

    def search(queries: list[np.ndarray]) -> list[list[int]]:
        found = []
        for query in queries:
            scores = np.asarray(package.maxsim_scores_variable(query, documents))
            best = np.argpartition(-scores, NUM_RESULTS)[:NUM_RESULTS]
            found.append(best[np.argsort(-scores[best])].tolist())
        return found

    return search


def fast_plaid(**settings: int) -> OpenEngine:
    """The package fast-plaid with its defaults, except for the sample of its centroids and the given settings."""

    def open_engine(vectors: Vectors, folder: Path) -> Search:
        import torch
        from fast_plaid.search import FastPlaid

        torch.set_num_threads(THREADS)
        index = FastPlaid(index=str(folder), device="cpu")
        if not (folder / "metadata.json").is_file():
            documents = [torch.from_numpy(rows) for rows in vectors.document_list()]
            index.create(documents_embeddings=documents, n_samples_kmeans=PEER_SAMPLE)

        def search(queries: list[np.ndarray]) -> list[list[int]]:
            found = []
            for query in queries:
                tensor = torch.from_numpy(query)[None]
                (hits,) = index.search(queries_embeddings=tensor, top_k=NUM_RESULTS, show_progress=False, **settings)
                found.append([int(docid) for docid, _ in hits])
            return found

        return search

    return open_engine


def xtr_warp(vectors: Vectors, folder: Path) -> Search:
    """The package xtr-warp-rs with its defaults, except for the sample of its centroids."""
    import torch
    from xtr_warp import XTRWarp

    torch.set_num_threads(THREADS)
    index = XTRWarp(index=str(folder))
    if not folder.is_dir() or not any(folder.iterdir()):
        documents = [torch.from_numpy(rows) for rows in vectors.document_list()]
        index.create(embeddings_source=documents, device="cpu", n_samples_kmeans=PEER_SAMPLE)
    index.load(device="cpu", dtype=torch.float32)

    def search(queries: list[np.ndarray]) -> list[list[int]]:
        found = []
        for query in queries:
            tensor = torch.from_numpy(query)[None]
            (hits,) = index.search(queries_embeddings=tensor, top_k=NUM_RESULTS, num_threads=THREADS)
            found.append([int(hit[0]) for hit in hits])
        return found

    return search


def lancedb(vectors: Vectors, folder: Path) -> Search:
    """The package lancedb with an IVF-PQ index of multivectors: 20 probes, four times the results refined."""
    import lancedb as package
    import pyarrow as pa

    dim = vectors.documents.shape[1]
    database = package.connect(str(folder))
    if not (folder / "documents.lance").is_dir():
        schema = pa.schema([("id", pa.int32()), ("vector", pa.list_(pa.list_(pa.float32(), dim)))])
        rows = [{"id": docid, "vector": list(document)} for docid, document in enumerate(vectors.document_list())]
        table = database.create_table("documents", pa.Table.from_pylist(rows, schema=schema))
        table.create_index(metric="cosine", vector_column_name="vector")
    table = database.open_table("documents")

    def search(queries: list[np.ndarray]) -> list[list[int]]:
        found = []
        for query in queries:
            hits = table.search(query).nprobes(20).refine_factor(4).limit(NUM_RESULTS).select(["id"])
            found.append([row["id"] for row in hits.to_list()])
        return found

    return search


#: By name: the function that opens an engine, and the folder of its index, which several engines may share.
ENGINES: dict[str, tuple[OpenEngine, str]] = {
    "two stages, int8": (this_package("int8", quality="balanced"), "ours-int8"),
    "two stages, int8, fast": (this_package("int8", quality="fast"), "ours-int8"),
    "two stages, 4 bits": (this_package("4bit", quality="balanced"), "ours-4bit"),
    "two stages, 4 bits, fast": (this_package("4bit", quality="fast"), "ours-4bit"),
    "two stages, 2 bits": (this_package("2bit", quality="balanced"), "ours-2bit"),
    "exact, int8": (this_package("int8", quality="exact"), "ours-int8"),
    "torch float32": (torch_exact("float32"), "torch"),
    "torch bfloat16": (torch_exact("bfloat16"), "torch"),
    "maxsim-cpu": (maxsim_cpu, "maxsim-cpu"),
    "fast-plaid": (fast_plaid(), "fast-plaid"),
    "fast-plaid, widest": (fast_plaid(n_ivf_probe=32, n_full_scores=8192), "fast-plaid"),
    "xtr-warp-rs": (xtr_warp, "xtr-warp-rs"),
    "lancedb": (lancedb, "lancedb"),
}


def main() -> None:
    name, vectors_folder, folder = sys.argv[1:]
    open_engine, index_name = ENGINES[name]
    index_folder = Path(folder) / index_name
    build_file = Path(folder) / f"{index_name}.json"
    if not build_file.is_file():
        shutil.rmtree(index_folder, ignore_errors=True)  # of an interrupted build
    # Only answers go to the standard output; what libraries print goes to stderr.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    Path(folder).mkdir(parents=True, exist_ok=True)
    vectors = Vectors(Path(vectors_folder))
    start = time.perf_counter()
    search = open_engine(vectors, index_folder)
    if not build_file.is_file():
        size = sum(file.stat().st_size for file in index_folder.rglob("*") if file.is_file())
        figures = {"build_seconds": time.perf_counter() - start, "bytes_per_token": size / int(vectors.starts[-1])}
        build_file.write_text(json.dumps(figures), encoding="utf-8")
    print(build_file.read_text(encoding="utf-8"), file=answers, flush=True)
    for line in sys.stdin:
        queries = [vectors.query(number) for number in json.loads(line)]
        start = time.perf_counter()
        found = search(queries)
        milliseconds = (time.perf_counter() - start) * 1000
        answer = {"ms": milliseconds, "found": found, "resident": resident_bytes()}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
