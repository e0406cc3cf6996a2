"""Compares ``mini``, the checkpoint that ships with the package, with BM25 and its source encoder on JSQuAD validation.

    python -m benchmarks.mini [--model mini] [--shared ../shared]

1,145 paragraphs, 4,442 questions, text form "TITLE TEXT", float16 and exact search. p-values are those of paired
t-tests against the model over the questions. me5-small-ja is used with its own token vectors (12 layers, 384
dimensions).
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import pandas as pd
import pyterrier as pt
from ir_measures import R, nDCG

import pyterrier_jacolbert as pj
from benchmarks.arguments import benchmark_parser
from benchmarks.collections import me5
from pyterrier_jacolbert import JaColBERT, JaColBERTIndexer, JapaneseBM25


def main() -> None:
    args = benchmark_parser(__doc__, "shared", "model").parse_args()
    pj.datasets.use_local(args.shared / "data")
    dataset = pt.get_dataset("jacolbert:jsquad/validation")
    docs = pd.DataFrame(dataset.get_corpus_iter(verbose=False))
    models = {args.model: JaColBERT(args.model), "me5-small-ja, MaxSim": me5(args.shared)}
    with tempfile.TemporaryDirectory() as folder:
        indexes = {
            name: JaColBERTIndexer(
                Path(folder) / str(number), model, title_field="title", compression="float16", verbose=True
            ).index(docs)
            for number, (name, model) in enumerate(models.items())
        }
        bm25 = JapaneseBM25(Path(folder) / "bm25", title_field="title").index(docs)
        systems = {name: index.retriever(num_results=100) for name, index in indexes.items()}
        systems["BM25"] = bm25.retriever(num_results=100)
        systems[f"BM25 % 100 >> {args.model}"] = bm25.retriever() % 100 >> indexes[args.model].scorer()
        table = pt.Experiment(
            systems, dataset.get_topics(), dataset.get_qrels(), [nDCG @ 10, R @ 1, R @ 3, R @ 10], baseline=0
        )
        sizes = {
            name: index.stats()["tokens"] * index.stats()["bytes_per_token"] / 2**20 for name, index in indexes.items()
        }
    columns = ["name", "nDCG@10", "nDCG@10 p-value", "R@1", "R@1 p-value", "R@3", "R@10"]
    print(table[columns].to_string(index=False, float_format="{:.4g}".format))
    print("Indexes in float16:", ", ".join(f"{name} {size:.0f} MiB" for name, size in sizes.items()))


if __name__ == "__main__":
    main()
