"""What the compressions of an index lose against float16, and what they take.

    python -m benchmarks.compression [--shared ../shared] [--model mini] [--keep runs/vectors]

JSQuAD's 4,442 questions over 10,858 passages (JSQuAD validation and JaQuAD train), exact search over the stored
vectors. nDCG@10 with the difference to float16 and its 95 % interval (paired bootstrap over the questions, 10,000
draws); R@10: the share of float16's first ten that are among the first ten. Bytes a token count every file.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pyterrier as pt
from ir_measures import nDCG

from benchmarks.collections import Encoded
from pyterrier_jacolbert import JaColBERT, JaColBERTIndexer
from pyterrier_jacolbert.index.limits import COMPRESSIONS

DRAWS = 10_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, default=Path(__file__).parents[2] / "shared")
    parser.add_argument("--model", default="mini", help="a ColBERT checkpoint")
    parser.add_argument("--keep", type=Path, default=Path("runs/vectors"), help="where the vectors are kept")
    arguments = parser.parse_args()
    encoded = Encoded(arguments.shared, arguments.keep, JaColBERT(arguments.model, verbose=True))
    topics = encoded.topics(arguments.shared)
    qrels = topics.rename(columns={"relevant": "docno"})[["qid", "docno"]].assign(label=1)
    print("| compression | bytes a token | nDCG@10 | difference to float16 (95 %) | R@10 against float16 |")
    print("|---|---|---|---|---|")
    reference: pd.DataFrame | None = None
    expected = np.empty(0)
    for compression in COMPRESSIONS:
        with tempfile.TemporaryDirectory() as folder:
            indexer = JaColBERTIndexer(Path(folder) / "index", arguments.model, compression=compression)
            index = indexer.index(encoded.documents())
            ranking = pd.DataFrame(index.retriever(num_results=10)(topics[["qid", "query_embs"]]))
            size = index.stats()["bytes_per_token"]
        found = pt.Evaluate(ranking, qrels, [nDCG @ 10], perquery=True)
        measures = np.array([found.get(qid, {}).get("nDCG@10", 0.0) for qid in topics["qid"]])
        if reference is None:
            reference, expected = ranking, measures
        shared = ranking.merge(reference, on=["qid", "docno"])
        draws = np.random.default_rng(0).choice(measures - expected, (DRAWS, len(measures))).mean(axis=1)
        low, high = np.percentile(draws, [2.5, 97.5])
        print(
            f"| {compression} | {size:.1f} | {measures.mean():.4f} | {np.mean(measures - expected):+.4f} "
            f"[{low:+.4f}, {high:+.4f}] | {len(shared) / len(reference):.4f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
