"""What the compressions of an index, and its searches in two stages, lose against float16, and what they take.

    python -m benchmarks.compression [--shared ../shared] [--model mini] [--keep runs/vectors]

JSQuAD's 4,442 questions over 10,858 passages (JSQuAD validation and JaQuAD train), 100 results a question, by each
quality of search that the index offers. nDCG@10 with the difference to the exact search of float16 and its 95 %
interval (paired bootstrap over the questions, 10,000 draws); R@10 and R@100: the share of that search's first ten and
hundred that are found. Bytes a token count every file.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pyterrier as pt
from ir_measures import nDCG

from benchmarks import arguments as common
from benchmarks.collections import Encoded
from benchmarks.intervals import difference
from pyterrier_jacolbert import JaColBERT, JaColBERTIndexer
from pyterrier_jacolbert.index.limits import COMPRESSIONS

DEPTH = 100


def main() -> None:
    parser = common.parser(__doc__, "shared", "model", "keep")
    arguments = parser.parse_args()
    encoded = Encoded(arguments.shared, arguments.keep, JaColBERT(arguments.model, verbose=True))
    topics = encoded.topics(arguments.shared)
    qrels = topics.rename(columns={"relevant": "docno"})[["qid", "docno"]].assign(label=1)
    print("| compression | search | bytes a token | nDCG@10 | difference (95 %) | R@10 | R@100 |")
    print("|---|---|---|---|---|---|---|")
    reference = pd.DataFrame()
    expected = np.empty(0)
    for compression in COMPRESSIONS:
        with tempfile.TemporaryDirectory() as folder:
            indexer = JaColBERTIndexer(Path(folder) / "index", arguments.model, compression=compression)
            index = indexer.index(encoded.documents())
            size = index.stats()["bytes_per_token"]
            two_stages = index.token_vectors().two_stage_lane is not None
            for quality in ("exact", "balanced", "fast") if two_stages else ("exact",):
                retriever = index.retriever(num_results=DEPTH, quality=quality)
                ranking = pd.DataFrame(retriever(topics[["qid", "query_embs"]]))
                found = pt.Evaluate(ranking, qrels, [nDCG @ 10], perquery=True)
                measures = np.array([found.get(qid, {}).get("nDCG@10", 0.0) for qid in topics["qid"]])
                if reference.empty:
                    reference, expected = ranking, measures
                shares = " | ".join(f"{share(ranking, reference, depth):.4f}" for depth in (10, DEPTH))
                print(
                    f"| {compression} | {quality} | {size:.1f} | {measures.mean():.4f} "
                    f"| {difference(measures - expected)} | {shares} |",
                    flush=True,
                )


def share(ranking: pd.DataFrame, reference: pd.DataFrame, depth: int) -> float:
    """The share of a reference's first documents that are among as many first ones of a ranking."""
    first, best = (run.loc[run["rank"] < depth, ["qid", "docno"]] for run in (ranking, reference))
    return len(first.merge(best, on=["qid", "docno"])) / len(best)


if __name__ == "__main__":
    main()
