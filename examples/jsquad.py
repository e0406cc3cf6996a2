"""Evaluates BM25, JaColBERT over the whole collection, and BM25 re-ranked by JaColBERT on JSQuAD.

    python examples/jsquad.py                                  # answerdotai/JaColBERTv2.5 from the hub
    python examples/jsquad.py --model FOLDER                   # a checkpoint on this machine
    python examples/jsquad.py --me5 ../shared/models/me5-small-ja --data ../shared/data    # without a network

JSQuAD has 1,145 paragraphs and 4,442 questions. Both BM25 and the encoder index "TITLE TEXT".
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import pandas as pd
import pyterrier as pt
from ir_measures import R, nDCG

import pyterrier_jacolbert as pj
from pyterrier_jacolbert import JaColBERT, JaColBERTIndexer, JapaneseBM25


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="answerdotai/JaColBERTv2.5", help="folder or hub name of a checkpoint")
    parser.add_argument("--me5", type=Path, help="folder of me5-small-ja, to use it as the encoder instead")
    parser.add_argument("--data", help="folder with jsquad/valid-v1.3.json, instead of a download")
    parser.add_argument("--dtype", default="auto", help="precision of the encoder: auto, float32 or bfloat16")
    parser.add_argument("--queries", type=int, help="number of questions to use, from the first (default: all)")
    args = parser.parse_args()
    if args.data:
        pj.datasets.use_local(args.data)
    if args.me5:
        from me5 import me5_model

        model = me5_model(args.me5, dtype=args.dtype, verbose=True)
    else:
        model = JaColBERT(args.model, dtype=args.dtype, verbose=True)
    with tempfile.TemporaryDirectory() as folder:
        table = experiment(model, Path(folder), args.queries)
    print(table.to_string(index=False, float_format="{:.4f}".format))


def experiment(model: JaColBERT, folder: Path, n_queries: int | None = None) -> pd.DataFrame:
    """Returns a table with a row per system: nDCG@10, R@1, R@3, R@10 and milliseconds per query (mrt)."""
    dataset = pt.get_dataset("jacolbert:jsquad/validation")
    docs = pd.DataFrame(dataset.get_corpus_iter(verbose=False))
    index = JaColBERTIndexer(folder / "jsquad.jacolbert", model, title_field="title", verbose=True).index(docs)
    bm25 = JapaneseBM25(folder / "jsquad.bm25", title_field="title").index(docs)
    jacolbert = index.retriever(num_results=100)
    return pt.Experiment(
        {
            "BM25": bm25.retriever(num_results=100),
            "JaColBERT": jacolbert,
            "BM25 % 100 >> JaColBERT": bm25.retriever() % 100 >> index.scorer(),
        },
        dataset.get_topics().head(n_queries or 10**9),
        dataset.get_qrels(),
        [nDCG @ 10, R @ 1, R @ 3, R @ 10, "mrt"],
    )


if __name__ == "__main__":
    main()
