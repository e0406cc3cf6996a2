"""Re-ranking 1,000 BM25 candidates: from an index, from float32 in memory, and from their text; and feedback.

    python -m benchmarks.rerank [--shared ../shared] [--model mini] [--keep runs/vectors] [--queries 100] [--texts 2]

10,858 passages (JSQuAD validation and JaQuAD train), JSQuAD's questions, already encoded. Milliseconds a query, medians
for one query at a time; "frame" is all queries in one frame, a query. ``index.scorer()`` is timed as a pipeline runs
it, from frame to frame; float32 in memory is how colbert-ai re-ranks (the candidates' vectors gathered into one padded
block, a product and a maximum, by torch, with ``OMP_NUM_THREADS`` threads) without any frame. The text of candidates is
encoded anew for each query, for some queries only.

Then ColBERT-PRF on the same index: nDCG@10 and R@100 of all 4,442 questions without it and with it, by ``beta``, with
the 95 % interval of the difference (paired bootstrap over the questions). Its other settings are the paper's.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyterrier as pt
from ir_measures import R, nDCG

from benchmarks import arguments as common
from benchmarks.collections import Encoded, passages, questions
from benchmarks.intervals import difference
from pyterrier_jacolbert import JaColBERT, JaColBERTIndexer, JapaneseBM25

CANDIDATES = 1000
BETAS = (0.1, 0.5, 1.0)


def main() -> None:
    parser = common.parser(__doc__, "shared", "model", "keep")
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--texts", type=int, default=2, help="queries whose candidates are encoded")
    parser.add_argument("--feedback", action=argparse.BooleanOptionalAction, default=True)
    arguments = parser.parse_args()
    model = JaColBERT(arguments.model, verbose=False)
    encoded = Encoded(arguments.shared, arguments.keep, model)
    topics = encoded.topics(arguments.shared)
    topics["query"] = questions(arguments.shared)["query"]
    qrels = topics.rename(columns={"relevant": "docno"})[["qid", "docno"]].assign(label=1)
    texts = {doc["docno"]: doc["text"] for doc in passages(arguments.shared)}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        indexes = {
            compression: JaColBERTIndexer(folder / compression, arguments.model, compression=compression).index(
                encoded.documents()
            )
            for compression in ("int8", "4bit")
        }
        bm25 = JapaneseBM25(folder / "bm25").index({"docno": docno, "text": text} for docno, text in texts.items())
        sample = topics.sample(arguments.queries, random_state=0)
        candidates = bm25.retriever(num_results=CANDIDATES)(sample[["qid", "query"]])
        candidates = candidates.merge(sample[["qid", "query_embs"]], on="qid")
        candidates["text"] = candidates["docno"].map(texts)
        each = len(candidates) / len(sample)
        print(f"{each:.0f} candidates a query, {os.environ.get('OMP_NUM_THREADS', 'all')} threads")
        print("| re-ranked by | ms a query | frame | nDCG@10 | float32's first ten |\n|---|---|---|---|---|")
        in_memory = InMemory(encoded)
        systems: dict[str, Callable[[pd.DataFrame], pd.DataFrame]] = {
            "float32 in memory": in_memory,
            **{f"index.scorer(), {compression}": index.scorer() for compression, index in indexes.items()},
            "text_scorer()": model.text_scorer(),
        }
        few = sample["qid"].iloc[: arguments.texts].tolist()
        best = first_ten(in_memory(candidates))
        for name, system in systems.items():
            asked = candidates[candidates["qid"].isin(few)] if name == "text_scorer()" else candidates
            row(name, system, asked, qrels, best, in_memory)
        if arguments.feedback:
            feedback(indexes["int8"], topics.drop(columns=["query", "relevant"]), qrels)


class InMemory:
    """MaxSim of padded blocks of float32, by torch."""

    def __init__(self, encoded: Encoded) -> None:
        import torch

        self.torch = torch
        self.vectors = torch.from_numpy(np.asarray(encoded.vectors, dtype=np.float32))
        self.starts = encoded.starts
        self.docids = {docno: number for number, docno in enumerate(encoded.docnos)}
        self.spent = 0.0

    def __call__(self, inp: pd.DataFrame) -> pd.DataFrame:
        """Scores a frame; ``spent`` is what the scoring alone took, in seconds."""
        self.spent = 0.0
        scores = np.empty(len(inp), dtype=np.float32)
        for rows in inp.groupby("qid", sort=False).indices.values():
            query = self.torch.from_numpy(inp["query_embs"].iloc[rows[0]])
            docids = np.array([self.docids[docno] for docno in inp["docno"].iloc[rows]])
            begun = time.perf_counter()
            lengths = self.starts[docids + 1] - self.starts[docids]
            places = np.minimum(np.arange(lengths.max()), lengths[:, None] - 1) + self.starts[docids][:, None]
            block = self.vectors[self.torch.from_numpy(places)]  # the last vector repeated moves no maximum
            scores[rows] = (block @ query.T).amax(1).sum(1).numpy()
            self.spent += time.perf_counter() - begun
        return pt.model.add_ranks(inp.assign(score=scores))


def row(
    name: str,
    system: Callable[[pd.DataFrame], pd.DataFrame],
    candidates: pd.DataFrame,
    qrels: pd.DataFrame,
    best: dict[str, set[str]],
    in_memory: InMemory,
) -> None:
    """Prints a line of the table."""

    def seconds(frame: pd.DataFrame) -> float:
        begun = time.perf_counter()
        system(frame)
        return in_memory.spent if system is in_memory else time.perf_counter() - begun

    frames = [frame.reset_index(drop=True) for _, frame in candidates.groupby("qid", sort=False)]
    if len(frames) > 2:
        seconds(frames[0])  # compiles kernels, opens files
    alone = statistics.median(map(seconds, frames))
    together = min(seconds(candidates) for _ in range(3)) / len(frames) if len(frames) > 2 else None
    ranking = system(candidates)
    found = pt.Evaluate(ranking, qrels[qrels["qid"].isin(candidates["qid"])], [nDCG @ 10])["nDCG@10"]
    shares = [len(names & best[qid]) / len(best[qid]) for qid, names in first_ten(ranking).items()]
    frame = "" if together is None else f"{together * 1000:.1f}"
    cells = [f"{alone * 1000:.1f}", frame, f"{found:.4f}", f"{np.mean(shares):.4f}"]
    print(f"| {name} | {' | '.join(cells)} |", flush=True)


def first_ten(ranking: pd.DataFrame) -> dict[str, set[str]]:
    """The first ten documents of each query."""
    return {qid: set(rows["docno"]) for qid, rows in ranking[ranking["rank"] < 10].groupby("qid")}


def feedback(index: Any, topics: pd.DataFrame, qrels: pd.DataFrame) -> None:  # noqa: ANN401
    """Prints what ColBERT-PRF changes."""
    retriever = index.retriever(num_results=100)
    measures = [nDCG @ 10, R @ 100]

    def evaluated(pipeline: pt.Transformer) -> np.ndarray:
        found = pt.Evaluate(pipeline(topics), qrels, measures, perquery=True)
        return np.array([[found[qid][str(measure)] for measure in measures] for qid in topics["qid"]])

    before = evaluated(retriever)
    print("| feedback | nDCG@10 | difference (95 %) | R@100 | difference (95 %) |\n|---|---|---|---|---|")
    print(f"| none | {before[:, 0].mean():.4f} | | {before[:, 1].mean():.4f} | |")
    for beta in BETAS:
        after = evaluated(retriever >> index.prf(beta=beta) >> retriever)
        cells = []
        for values, gains in zip(after.T, (after - before).T, strict=True):
            cells += [f"{values.mean():.4f}", difference(gains)]
        print(f"| beta {beta} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
