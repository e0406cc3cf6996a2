"""A cluster of three Ray nodes on this machine: it makes the index of one process, whatever is killed on the way.

    python -m benchmarks.cluster [--shared ../shared] [--workers 2 4] [--queries 500] [--limit N] [--vectors]

The 10,858 real passages are indexed in this process, and then by so many workers on a cluster of three nodes (real
processes), during which a worker, and then a whole node, is killed. Then the shards are searched from the cluster,
during which again a process and a node are killed. Prints a line of JSON for each number of workers: whether the
cluster's index, merged, has the bytes of the one of this process; how many of the first 100 of each query are the same
documents in the same order; and the largest difference of a score.

``--vectors`` indexes vectors that were encoded before (kept in ``--keep``) in place of text; ``--limit`` takes so many
passages alone.
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
from pathlib import Path
from typing import Any

import pandas as pd
import psutil

from benchmarks import arguments as common
from benchmarks.collections import Encoded, passages, questions
from pyterrier_jacolbert import JaColBERT, JaColBERTIndex, JaColBERTIndexer, ShardedIndex
from pyterrier_jacolbert.distributed import RayExecutor


def main() -> None:
    parser = common.parser(__doc__, "shared", "model", "keep")
    parser.add_argument("--workers", type=int, nargs="+", default=[2, 4])
    parser.add_argument("--queries", type=int, default=500)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--vectors", action="store_true")
    parser.add_argument("--compression", default="4bit")
    parser.add_argument("--block", type=int, default=512)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    docs, topics = _collection(arguments)
    settings = {"compression": arguments.compression, "shard_documents": arguments.block}
    model = JaColBERT(arguments.model)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        begun = time.perf_counter()
        one = JaColBERTIndexer(folder / "one", model, **settings).index(docs)
        alone = time.perf_counter() - begun
        if "query_embs" not in topics:
            topics = model.query_encoder()(topics)
        expected = one.retriever(num_results=100)(topics)
        for workers in arguments.workers:
            begun = time.perf_counter()
            figures = _on_cluster(folder / f"{workers}", workers, docs, topics, one, expected, model, settings)
            seconds = time.perf_counter() - begun
            print(
                json.dumps({"documents": len(docs), "workers": workers, "seconds": seconds, "alone": alone, **figures})
            )
            shutil.rmtree(folder / f"{workers}")


def _collection(arguments: argparse.Namespace) -> tuple[list[dict[str, Any]], pd.DataFrame]:
    if arguments.vectors:
        encoded = Encoded(arguments.shared, arguments.keep, JaColBERT(arguments.model))
        docs = list(encoded.documents())
        topics = encoded.topics(arguments.shared)[["qid", "query_embs"]]
    else:
        docs = [{"docno": doc["docno"], "text": doc["text"]} for doc in passages(arguments.shared)]
        topics = questions(arguments.shared)[["qid", "query"]]
    return docs[: arguments.limit], topics.head(arguments.queries)


def _on_cluster(
    folder: Path,
    workers: int,
    docs: list[dict[str, Any]],
    topics: pd.DataFrame,
    one: JaColBERTIndex,
    expected: pd.DataFrame,
    model: JaColBERT,
    settings: dict[str, Any],
) -> dict[str, Any]:
    import ray
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
    nodes = [cluster.add_node(num_cpus=2) for _ in range(2)]
    ray.init(address=cluster.address, log_to_driver=False)
    try:
        size = -(-len(docs) // settings["shard_documents"])
        executor = RayExecutor(workers, documents_per_shard=settings["shard_documents"] * max(1, size // 5))
        killed: list[str] = []
        stream = _interrupted(
            docs,
            {
                len(docs) // 3: lambda: killed.append(_kill_one("_Worker")),
                2 * len(docs) // 3: lambda: killed.append(_remove(cluster, nodes.pop())),
            },
        )
        many = JaColBERTIndexer(folder / "many", model, executor=executor, **settings).index(stream)
        assert isinstance(many, ShardedIndex)
        merged = JaColBERTIndex.merge([many.path], folder / "merged")
        # A new node in the place of the dead one, and three frames: before, after a process died, after a node did.
        nodes.append(cluster.add_node(num_cpus=2))
        retriever = many.ray_retriever(num_results=100, num_actors=workers)
        third = max(1, len(topics) // 3)
        found = [retriever(topics[:third])]
        killed.append(_kill_one("ShardServer"))
        found.append(retriever(topics[third : 2 * third]))
        killed.append(_remove(cluster, nodes.pop()))
        found.append(retriever(topics[2 * third :]))
        return {
            "shards": len(many.shards()),
            "killed": killed,
            "same_bytes": _bytes(merged) == _bytes(one),
            **_compared(pd.concat(found, ignore_index=True), expected),
        }
    finally:
        ray.shutdown()
        cluster.shutdown()


def _interrupted(docs: list[dict[str, Any]], events: dict[int, Callable[[], None]]) -> Iterator[dict[str, Any]]:
    for number, doc in enumerate(docs):
        if number in events:
            events[number]()
        yield doc


def _kill_one(name: str) -> str:
    """Kills a process of a class of actors, among those that this one started."""
    for _ in range(240):
        for process in psutil.Process().children(recursive=True):
            if any(part.startswith(f"ray::{name}") for part in process.cmdline()):
                os.kill(process.pid, signal.SIGKILL)
                return name
        time.sleep(0.5)
    sys.exit(f"no process of {name} came")


def _remove(cluster: Any, node: Any) -> str:  # noqa: ANN401 (Ray's)
    cluster.remove_node(node, allow_graceful=False)
    return "node"


def _bytes(index: JaColBERTIndex) -> dict[str, bytes]:
    return {file.relative_to(index.path).as_posix(): file.read_bytes() for file in sorted(index.path.glob("data-*/*"))}


def _compared(found: pd.DataFrame, expected: pd.DataFrame) -> dict[str, Any]:
    same = 0
    for (_, rows), (_, others) in zip(
        found.groupby("qid", sort=False), expected.groupby("qid", sort=False), strict=True
    ):
        same += rows["docno"].tolist() == others["docno"].tolist()
    both = found.merge(expected, on=["qid", "docno"])
    return {
        "queries": expected["qid"].nunique(),
        "same_rankings": same,
        "largest_score_difference": float((both["score_x"] - both["score_y"]).abs().max()),
    }


if __name__ == "__main__":
    main()
