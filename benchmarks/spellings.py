"""Measures what each fold of ``JapaneseBM25(normalize=...)`` does to BM25 on JaQuAD's held-out articles and on JSQuAD.

    python -m benchmarks.spellings [--shared ../shared]

JaQuAD: all passages, and the questions about one article in ten. JSQuAD validation: 1,145 paragraphs, 4,442 questions.
Per fold: nDCG@10, its difference to no fold with a 95 % interval (bootstrap over questions), and the number of
questions whose nDCG@10 changed. The default of the package is chosen on JaQuAD.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import pandas as pd
import pyterrier as pt
from ir_measures import nDCG

import pyterrier_jacolbert as pj
from benchmarks.arguments import benchmark_parser
from benchmarks.intervals import mean_with_interval
from examples import jaquad
from pyterrier_jacolbert.japanese import FOLDS


def main() -> None:
    args = benchmark_parser(__doc__, "shared").parse_args()
    pj.datasets.use_local(args.shared / "data")
    dataset = pt.get_dataset("jacolbert:jsquad/validation")
    collection = jaquad.load(args.shared / "data" / "jaquad" / "train")
    held_out = collection.held_out
    print_table("JaQuAD, held-out articles", collection.docs, held_out.topics, held_out.qrels)
    documents = list(dataset.get_corpus_iter(verbose=False))
    print_table("JSQuAD", documents, dataset.get_topics(), dataset.get_qrels())


def print_table(name: str, docs: Iterable[Mapping[str, str]], topics: pd.DataFrame, qrels: pd.DataFrame) -> None:
    docs = list(docs)
    systems = {"none": (), **{fold: (fold,) for fold in FOLDS}, "all": FOLDS}
    scores: dict[str, pd.Series] = {}
    for system, folds in systems.items():
        with tempfile.TemporaryDirectory() as folder:
            index = pj.JapaneseBM25(Path(folder) / "bm25", title_field="title", normalize=folds).index(docs)
            table = pt.Experiment([index.retriever(num_results=100)], topics, qrels, [nDCG @ 10], perquery=True)
        scores[system] = table.set_index("qid")["value"].reindex(topics["qid"]).fillna(0)
    print(f"{name}: {len(docs):,} documents, {len(topics):,} questions\n\n| fold | nDCG@10 | difference | changed |")
    print("|---|---|---|---|")
    for system, values in scores.items():
        differences = (values - scores["none"]).to_numpy()
        shown = mean_with_interval(differences) if differences.any() else "0"
        print(f"| {system} | {values.mean():.4f} | {shown} | {(differences != 0).sum()} |")
    print()


if __name__ == "__main__":
    main()
