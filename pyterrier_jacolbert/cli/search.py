"""Commands that search: ``search`` and ``demo``."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyterrier_jacolbert.cli.options import Subparsers, add_command, add_model_options, model_of
from pyterrier_jacolbert.cli.output import print_json, print_line, print_table

if TYPE_CHECKING:
    import pandas as pd


def add_commands(subparsers: Subparsers) -> None:
    """Adds ``search`` and ``demo``."""
    search = add_command(subparsers, "search", run_search, "search an index")
    search.add_argument("index", type=Path, help="the index")
    search.add_argument("query", nargs="+", help="one or more queries")
    search.add_argument(
        "-k", "--num-results", type=int, default=10, help="maximum number of results per query (default: 10)"
    )
    search.add_argument("--json", action="store_true", help="print one JSON object per result")
    summary = "checkpoint that encodes queries (default: the one that the index records)"
    add_model_options(search, default=None, summary=summary)
    demo = add_command(subparsers, "demo", run_demo, "search and evaluate on a small built-in collection")
    summary = "ColBERT checkpoint (default: mini, which ships with the package)"
    add_model_options(demo, default="mini", summary=summary)


def run_search(args: argparse.Namespace) -> None:
    """Prints the ranking of each query."""
    import pandas as pd

    from pyterrier_jacolbert.artifacts.open import open_index

    index = open_index(args.index, model_of(args) if args.model else None)
    topics = pd.DataFrame({"qid": [str(n) for n in range(1, len(args.query) + 1)], "query": args.query})
    ranking = pd.DataFrame(index.retriever(num_results=args.num_results)(topics))
    ranking = ranking[["qid", "query", "rank", "docno", "score"]]
    if args.json:
        for row in ranking.to_dict("records"):
            print_json(row)
        return
    for _, rows in ranking.groupby("qid", sort=False):
        print_line(rows["query"].iloc[0])
        for rank, score, docno in zip(rows["rank"], rows["score"], rows["docno"], strict=True):
            print_line(f"  {rank + 1:3d}  {score:8.4f}  {docno}")


def run_demo(args: argparse.Namespace) -> None:
    """Searches the built-in collection and evaluates."""
    import pandas as pd
    import pyterrier as pt
    from ir_measures import RR, nDCG

    from pyterrier_jacolbert import JaColBERTIndexer, JapaneseBM25
    from pyterrier_jacolbert.datasets import no_shared_word

    dataset = pt.get_dataset("jacolbert:demo")
    docs, topics = pd.DataFrame(list(dataset.get_corpus_iter(verbose=False))), dataset.get_topics()
    hard = no_shared_word()
    with tempfile.TemporaryDirectory() as folder:
        bm25 = JapaneseBM25(Path(folder) / "bm25", title_field="title").index(docs).retriever()
        index = JaColBERTIndexer(Path(folder) / "jacolbert", model_of(args), title_field="title").index(docs)
        jacolbert = index.retriever()
        systems: dict[str, Any] = {
            "BM25": bm25,
            "JaColBERT": jacolbert,
            "BM25 % 100 >> JaColBERT": bm25 % 100 >> index.scorer(),
        }
        examples = topics.iloc[:: len(topics) // 3].head(3)
        _print_best(pd.DataFrame(jacolbert(examples)), docs.set_index("docno")["text"])
        measures: list[Any] = [nDCG @ 10, RR, "mrt"]
        tables = {
            f"all {len(topics)} questions": pt.Experiment(systems, topics, dataset.get_qrels(), measures),
            f"the {len(hard)} questions that share no word with their answer": pt.Experiment(
                systems, topics[topics["qid"].isin(hard)], dataset.get_qrels(), measures
            ),
        }
    for name, table in tables.items():
        print_line("")
        print_line(f"{len(docs)} documents, {name} (mrt: ms per question):")
        print_table(table[["name", "nDCG@10", "RR", "mrt"]].to_string(index=False, float_format="{:.3f}".format))


def _print_best(ranking: pd.DataFrame, texts: pd.Series) -> None:
    best = ranking[ranking["rank"] < 2]
    for query, rows in best.groupby("query", sort=False):
        print_line("")
        print_line(query)
        for docno, score in zip(rows["docno"], rows["score"], strict=True):
            print_line(f"  {score:7.3f}  {docno}: {texts[docno]}")
