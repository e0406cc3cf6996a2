"""Kills processes and nodes of a Ray cluster while it builds and searches an index, and compares with one process.

    python -m benchmarks.cluster [--shared ../shared] [--num-workers 2 4] [--queries 500] [--passages N] [--vectors]

Indexes the 10,858 real passages in this process. Then, for each number of workers, indexes them on a cluster of three
nodes (real processes of this machine) and searches the shards on the cluster. During the build, a worker and then a
node is killed; during the search, a process that holds shards and then a node. Prints one JSON line per number of
workers: whether the index of the cluster, once merged, has the bytes of that of this process; for how many queries the
first 100 documents are the same in the same order; and the largest difference of a score.

``--vectors`` indexes the vectors in ``--keep`` instead of text; ``--passages`` takes only the first passages.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import psutil

from benchmarks.arguments import benchmark_parser
from benchmarks.collections import EncodedCollection, passages, questions
from pyterrier_jacolbert import JaColBERT, JaColBERTIndex, JaColBERTIndexer, ShardedIndex
from pyterrier_jacolbert.distributed import RayExecutor


@dataclass(frozen=True)
class Expected:
    """The collection, and what one process made of it.

    Attributes:
        docs: documents to index.
        topics: queries with their vectors.
        index: index built in one process.
        ranking: its results.
    """

    docs: list[dict[str, Any]]
    topics: pd.DataFrame
    index: JaColBERTIndex
    ranking: pd.DataFrame


def main() -> None:
    parser = benchmark_parser(__doc__, "shared", "model", "keep")
    parser.add_argument("--num-workers", type=int, nargs="+", default=[2, 4], help="numbers of workers (default: 2 4)")
    parser.add_argument("--queries", type=int, default=500, help="number of questions (default: 500)")
    parser.add_argument("--passages", type=int, metavar="N", help="use only the first N passages")
    parser.add_argument("--vectors", action="store_true", help="index vectors instead of text")
    parser.add_argument("--compression", default="4bit", help="compression of the index (default: 4bit)")
    parser.add_argument("--batch-documents", type=int, default=512, help="documents per batch (default: 512)")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    docs, topics = load_collection(args)
    settings = {"compression": args.compression, "batch_documents": args.batch_documents}
    model = JaColBERT(args.model)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        start = time.perf_counter()
        index = JaColBERTIndexer(folder / "one", model, **settings).index(docs)
        seconds_in_one_process = time.perf_counter() - start
        if "query_embs" not in topics:
            topics = model.query_encoder()(topics)
        expected = Expected(docs, topics, index, index.retriever(num_results=100)(topics))
        for num_workers in args.num_workers:
            start = time.perf_counter()
            figures = {
                "documents": len(docs),
                "num_workers": num_workers,
                **run_on_cluster(folder / f"{num_workers}", num_workers, expected, model, settings),
                "seconds": time.perf_counter() - start,
                "seconds_in_one_process": seconds_in_one_process,
            }
            print(json.dumps(figures))
            shutil.rmtree(folder / f"{num_workers}")


def load_collection(args: argparse.Namespace) -> tuple[list[dict[str, Any]], pd.DataFrame]:
    """Returns the documents and the queries, as text or as vectors."""
    if args.vectors:
        collection = EncodedCollection(args.shared, args.keep, JaColBERT(args.model))
        docs = list(collection.documents())
        topics = collection.topics(args.shared)[["qid", "query_embs"]]
    else:
        docs = [{"docno": doc["docno"], "text": doc["text"]} for doc in passages(args.shared)]
        topics = questions(args.shared)[["qid", "query"]]
    return docs[: args.passages], topics.head(args.queries)


def run_on_cluster(
    folder: Path, num_workers: int, expected: Expected, model: JaColBERT, settings: dict[str, Any]
) -> dict[str, Any]:
    """Builds and searches the index on a cluster, kills processes and nodes, and compares the results.

    Args:
        folder: folder for the indexes.
        num_workers: number of processes that encode, and of those that search.
        expected: collection and results of one process.
        model: checkpoint.
        settings: ``compression`` and ``batch_documents``.
    """
    import ray
    from ray.cluster_utils import Cluster

    docs, topics = expected.docs, expected.topics
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
    nodes = [cluster.add_node(num_cpus=2) for _ in range(2)]
    ray.init(address=cluster.address, log_to_driver=False)
    try:
        n_batches = -(-len(docs) // settings["batch_documents"])
        executor = RayExecutor(num_workers, documents_per_shard=settings["batch_documents"] * max(1, n_batches // 5))
        killed: list[str] = []
        events = {
            len(docs) // 3: lambda: killed.append(kill_actor("_Worker")),
            2 * len(docs) // 3: lambda: killed.append(remove_node(cluster, nodes.pop())),
        }
        stream = with_events(docs, events)
        index = JaColBERTIndexer(folder / "sharded", model, executor=executor, **settings).index(stream)
        assert isinstance(index, ShardedIndex)
        merged = JaColBERTIndex.merge([index.path], folder / "merged")
        # A new node replaces the dead one. Then three frames: before, after a process dies, after a node dies.
        nodes.append(cluster.add_node(num_cpus=2))
        retriever = index.ray_retriever(num_results=100, num_actors=num_workers)
        third = max(1, len(topics) // 3)
        rankings = [retriever(topics[:third])]
        killed.append(kill_actor("ShardServer"))
        rankings.append(retriever(topics[third : 2 * third]))
        killed.append(remove_node(cluster, nodes.pop()))
        rankings.append(retriever(topics[2 * third :]))
        return {
            "shards": len(index.shards()),
            "killed": killed,
            "same_bytes": file_contents(merged) == file_contents(expected.index),
            **compare_rankings(pd.concat(rankings, ignore_index=True), expected.ranking),
        }
    finally:
        ray.shutdown()
        cluster.shutdown()


def with_events(docs: list[dict[str, Any]], events: dict[int, Callable[[], None]]) -> Iterator[dict[str, Any]]:
    """Yields documents, and calls an event before the document of its number."""
    for number, doc in enumerate(docs):
        if number in events:
            events[number]()
        yield doc


def kill_actor(name: str) -> str:
    """Kills one process of a class of actors, among the descendants of this process; waits up to two minutes for one.

    Args:
        name: name of the class.

    Returns:
        The name.
    """
    for _ in range(240):
        for process in psutil.Process().children(recursive=True):
            if any(part.startswith(f"ray::{name}") for part in process.cmdline()):
                os.kill(process.pid, signal.SIGKILL)
                return name
        time.sleep(0.5)
    sys.exit(f"No process of {name} started within two minutes; check that Ray can start processes.")


def remove_node(cluster: Any, node: Any) -> str:
    """Kills a node of the cluster."""
    cluster.remove_node(node, allow_graceful=False)
    return "node"


def file_contents(index: JaColBERTIndex) -> dict[str, bytes]:
    """Returns the bytes of the files of an index, without its manifest."""
    return {file.relative_to(index.path).as_posix(): file.read_bytes() for file in sorted(index.path.glob("data-*/*"))}


def compare_rankings(ranking: pd.DataFrame, expected: pd.DataFrame) -> dict[str, Any]:
    """Counts the queries with the same documents in the same order, and finds the largest difference of a score."""
    n_same = 0
    for (_, rows), (_, expected_rows) in zip(
        ranking.groupby("qid", sort=False), expected.groupby("qid", sort=False), strict=True
    ):
        n_same += rows["docno"].tolist() == expected_rows["docno"].tolist()
    both = ranking.merge(expected, on=["qid", "docno"])
    return {
        "queries": expected["qid"].nunique(),
        "same_rankings": n_same,
        "largest_score_difference": float((both["score_x"] - both["score_y"]).abs().max()),
    }


if __name__ == "__main__":
    main()
