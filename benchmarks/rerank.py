"""Measures re-ranking of 1,000 BM25 candidates, from an index, from memory and from text; and ColBERT-PRF.

    python -m benchmarks.rerank [--shared ../shared] [--model mini] [--keep runs/vectors] [--queries 100] [--texts 2]

JSQuAD's questions, already encoded, over 10,858 passages (JSQuAD validation and JaQuAD train). Prints medians of
milliseconds per query for one query at a time, and milliseconds per query for all queries in one frame.
``index.scorer()`` is timed as a pipeline runs it, from frame to frame. float32 in memory re-ranks as colbert-ai does:
it gathers the candidates' vectors into one padded block and takes a product and a maximum, by torch, with
``OMP_NUM_THREADS`` threads; only this scoring is timed. ``text_scorer()`` encodes the candidates of every query, and is
measured on a few queries only.

Then measures ColBERT-PRF on the same index, by ``beta``: nDCG@10 and R@100 of all 4,442 questions, and the difference
from no feedback with its 95 % interval (paired bootstrap over the questions). The other settings are the paper's.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyterrier as pt
import torch
from ir_measures import R, nDCG

from benchmarks.arguments import benchmark_parser
from benchmarks.collections import EncodedCollection, passages, questions
from benchmarks.intervals import mean_with_interval
from pyterrier_jacolbert import JaColBERT, JaColBERTIndex, JaColBERTIndexer, JapaneseBM25

CANDIDATES = 1000
BETAS = (0.1, 0.5, 1.0)


def main() -> None:
    parser = benchmark_parser(__doc__, "shared", "model", "keep")
    parser.add_argument("--queries", type=int, default=100, help="number of questions to re-rank (default: 100)")
    parser.add_argument("--texts", type=int, default=2, help="questions whose candidates are encoded (default: 2)")
    parser.add_argument(
        "--feedback", action=argparse.BooleanOptionalAction, default=True, help="measure ColBERT-PRF, too (default)"
    )
    args = parser.parse_args()
    model = JaColBERT(args.model, verbose=False)
    collection = EncodedCollection(args.shared, args.keep, model)
    topics = collection.topics(args.shared)
    qrels = topics.rename(columns={"relevant": "docno"})[["qid", "docno"]].assign(label=1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        indexes = {
            compression: JaColBERTIndexer(folder / compression, args.model, compression=compression).index(
                collection.documents()
            )
            for compression in ("int8", "4bit")
        }
        candidates = bm25_candidates(args, topics, folder / "bm25")
        n_queries = candidates["qid"].nunique()
        threads = os.environ.get("OMP_NUM_THREADS", "all")
        print(f"{len(candidates) / n_queries:.0f} candidates per query, {threads} threads")
        in_memory = InMemoryReranker(collection)
        benchmark = RerankingBenchmark(candidates, qrels, in_memory)
        benchmark.print_row("float32 in memory", in_memory)
        for compression, index in indexes.items():
            benchmark.print_row(f"index.scorer(), {compression}", index.scorer())
        benchmark.print_row("text_scorer()", model.text_scorer(), max_queries=args.texts)
        if args.feedback:
            print_feedback(indexes["int8"], topics[["qid", "query_embs"]], qrels)


def bm25_candidates(args: argparse.Namespace, topics: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """Returns the BM25 candidates of a sample of the questions, with ``query_embs`` and ``text``."""
    texts = {doc["docno"]: doc["text"] for doc in passages(args.shared)}
    bm25 = JapaneseBM25(folder).index({"docno": docno, "text": text} for docno, text in texts.items())
    sample = topics.assign(query=questions(args.shared)["query"]).sample(args.queries, random_state=0)
    candidates = bm25.retriever(num_results=CANDIDATES)(sample[["qid", "query"]])
    candidates = candidates.merge(sample[["qid", "query_embs"]], on="qid")
    return candidates.assign(text=candidates["docno"].map(texts))


class InMemoryReranker:
    """MaxSim of padded blocks of float32, by torch.

    Attributes:
        scoring_seconds: duration of the scoring alone in the last call.
    """

    def __init__(self, collection: EncodedCollection) -> None:
        self._vectors = torch.from_numpy(np.asarray(collection.vectors, dtype=np.float32))
        self._starts = collection.starts
        self._docids = {docno: docid for docid, docno in enumerate(collection.docnos)}
        self.scoring_seconds = 0.0

    def __call__(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Scores and ranks the documents of a frame."""
        self.scoring_seconds = 0.0
        scores = np.empty(len(frame), dtype=np.float32)
        for rows in frame.groupby("qid", sort=False).indices.values():
            query = torch.from_numpy(frame["query_embs"].iloc[rows[0]])
            docids = np.array([self._docids[docno] for docno in frame["docno"].iloc[rows]])
            start = time.perf_counter()
            lengths = self._starts[docids + 1] - self._starts[docids]
            # Shorter documents repeat their last vector, which changes no maximum.
            positions = np.minimum(np.arange(lengths.max()), lengths[:, None] - 1) + self._starts[docids][:, None]
            block = self._vectors[torch.from_numpy(positions)]
            scores[rows] = (block @ query.T).amax(1).sum(1).numpy()
            self.scoring_seconds += time.perf_counter() - start
        return pt.model.add_ranks(frame.assign(score=scores))


class RerankingBenchmark:
    """Measures re-rankers on the same candidates, and prints a table. Creating it prints the head.

    Args:
        candidates: frame to re-rank.
        qrels: judgements.
        reference: re-ranker whose first ten documents count as found.
    """

    def __init__(self, candidates: pd.DataFrame, qrels: pd.DataFrame, reference: InMemoryReranker) -> None:
        self._candidates = candidates
        self._qrels = qrels
        self._reference = first_ten(reference(candidates))
        print("| re-ranker | ms per query | in one frame | nDCG@10 | float32's first ten |\n|---|---|---|---|---|")

    def print_row(
        self, name: str, reranker: Callable[[pd.DataFrame], pd.DataFrame], max_queries: int | None = None
    ) -> None:
        """Measures a re-ranker.

        Args:
            name: for the table.
            reranker: from frame to frame.
            max_queries: number of queries to measure; None measures all.
        """
        queries = self._candidates["qid"].drop_duplicates().head(max_queries or len(self._candidates))
        candidates = self._candidates[self._candidates["qid"].isin(queries)]
        frames = [frame.reset_index(drop=True) for _, frame in candidates.groupby("qid", sort=False)]
        enough = len(frames) > 2
        if enough:
            _seconds(reranker, frames[0])  # compiles kernels, opens files
        milliseconds = statistics.median(_seconds(reranker, frame) for frame in frames) * 1000
        together = ""
        if enough:
            together = f"{min(_seconds(reranker, candidates) for _ in range(3)) / len(frames) * 1000:.1f}"
        ranking = reranker(candidates)
        qrels = self._qrels[self._qrels["qid"].isin(candidates["qid"])]
        ndcg = pt.Evaluate(ranking, qrels, [nDCG @ 10])["nDCG@10"]
        shares = [
            len(docnos & self._reference[qid]) / len(self._reference[qid]) for qid, docnos in first_ten(ranking).items()
        ]
        print(f"| {name} | {milliseconds:.1f} | {together} | {ndcg:.4f} | {np.mean(shares):.4f} |", flush=True)


def _seconds(reranker: Callable[[pd.DataFrame], pd.DataFrame], frame: pd.DataFrame) -> float:
    start = time.perf_counter()
    reranker(frame)
    if isinstance(reranker, InMemoryReranker):
        return reranker.scoring_seconds
    return time.perf_counter() - start


def first_ten(ranking: pd.DataFrame) -> dict[str, set[str]]:
    """Returns the first ten documents of each query."""
    return {qid: set(rows["docno"]) for qid, rows in ranking[ranking["rank"] < 10].groupby("qid")}


def print_feedback(index: JaColBERTIndex, topics: pd.DataFrame, qrels: pd.DataFrame) -> None:
    """Measures ColBERT-PRF for each beta, and prints a table."""
    retriever = index.retriever(num_results=100)
    measures = [nDCG @ 10, R @ 100]

    def evaluate(pipeline: pt.Transformer) -> np.ndarray:
        by_query = pt.Evaluate(pipeline(topics), qrels, measures, perquery=True)
        return np.array([[by_query[qid][str(measure)] for measure in measures] for qid in topics["qid"]])

    before = evaluate(retriever)
    print("| feedback | nDCG@10 | difference (95 %) | R@100 | difference (95 %) |\n|---|---|---|---|---|")
    print(f"| none | {before[:, 0].mean():.4f} | | {before[:, 1].mean():.4f} | |")
    for beta in BETAS:
        after = evaluate(retriever >> index.prf(beta=beta) >> retriever)
        cells = []
        for values, differences in zip(after.T, (after - before).T, strict=True):
            cells += [f"{values.mean():.4f}", mean_with_interval(differences)]
        print(f"| beta {beta} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
