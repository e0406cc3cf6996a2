"""Measures what the compressions of an index and its two-stage searches lose against float16, and their size.

    python -m benchmarks.compression [--shared ../shared] [--model mini] [--keep runs/vectors]

JSQuAD's 4,442 questions over 10,858 passages (JSQuAD validation and JaQuAD train), 100 results per question, with each
quality of search that the index offers. Prints nDCG@10 and its difference from the exact search of float16 with a 95 %
interval (paired bootstrap over the questions, 10,000 draws), and R@10 and R@100, the shares of that search's first ten
and first hundred documents that are found. Bytes per token count every file.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pyterrier as pt
from ir_measures import nDCG

from benchmarks.arguments import benchmark_parser
from benchmarks.collections import EncodedCollection
from benchmarks.intervals import mean_with_interval
from pyterrier_jacolbert import JaColBERT, JaColBERTIndexer
from pyterrier_jacolbert.index.limits import COMPRESSIONS

DEPTH = 100


def main() -> None:
    args = benchmark_parser(__doc__, "shared", "model", "keep").parse_args()
    collection = EncodedCollection(args.shared, args.keep, JaColBERT(args.model, verbose=True))
    topics = collection.topics(args.shared)
    qrels = topics.rename(columns={"relevant": "docno"})[["qid", "docno"]].assign(label=1)
    print("| compression | search | bytes per token | nDCG@10 | difference (95 %) | R@10 | R@100 |")
    print("|---|---|---|---|---|---|---|")
    reference = pd.DataFrame()
    reference_values = np.empty(0)
    for compression in COMPRESSIONS:
        with tempfile.TemporaryDirectory() as folder:
            indexer = JaColBERTIndexer(Path(folder) / "index", args.model, compression=compression)
            index = indexer.index(collection.documents())
            size = index.stats()["bytes_per_token"]
            two_stage = index.token_vectors().two_stage_scorer is not None
            for quality in ("exact", "balanced", "fast") if two_stage else ("exact",):
                retriever = index.retriever(num_results=DEPTH, quality=quality)
                ranking = pd.DataFrame(retriever(topics[["qid", "query_embs"]]))
                by_query = pt.Evaluate(ranking, qrels, [nDCG @ 10], perquery=True)
                values = np.array([by_query.get(qid, {}).get("nDCG@10", 0.0) for qid in topics["qid"]])
                if reference.empty:
                    reference, reference_values = ranking, values
                shares = " | ".join(f"{overlap(ranking, reference, depth):.4f}" for depth in (10, DEPTH))
                print(
                    f"| {compression} | {quality} | {size:.1f} | {values.mean():.4f} "
                    f"| {mean_with_interval(values - reference_values)} | {shares} |",
                    flush=True,
                )


def overlap(ranking: pd.DataFrame, reference: pd.DataFrame, depth: int) -> float:
    """Returns the share of a reference's first documents that are among a ranking's first, to the same depth."""
    found, expected = (run.loc[run["rank"] < depth, ["qid", "docno"]] for run in (ranking, reference))
    return len(found.merge(expected, on=["qid", "docno"])) / len(expected)


if __name__ == "__main__":
    main()
