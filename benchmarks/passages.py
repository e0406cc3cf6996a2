"""Compares long documents indexed by passage, where the best one counts, with documents cut at the model's length.

    python -m benchmarks.passages [--model mini] [--articles 100] [--shared ../shared]

Documents are JaQuAD's training articles, joined from their contexts. Questions are those about articles that ``mini``
was not trained on; the article that a question was asked about is relevant. Exact search over float16 vectors, title
first. p-values are those of paired t-tests against the cut documents over the questions.
"""

from __future__ import annotations

import gzip
import json
import tempfile
from pathlib import Path

import pandas as pd
import pyterrier as pt
from ir_measures import R, nDCG

from benchmarks.arguments import benchmark_parser
from examples.jaquad import is_held_out
from pyterrier_jacolbert import JaColBERT, JaColBERTIndexer, JapaneseBM25


def main() -> None:
    parser = benchmark_parser(__doc__, "shared", "model")
    parser.add_argument("--articles", type=int, help="maximum number of articles, held-out ones first (default: all)")
    parser.add_argument("--questions", type=int, help="maximum number of questions (default: all)")
    args = parser.parse_args()
    docs, topics, qrels = load_articles(args.shared / "data" / "jaquad" / "train", args.articles)
    topics = topics.head(args.questions or len(topics))
    model = JaColBERT(args.model, verbose=True)
    lengths = docs["text"].str.len()
    print(f"{len(docs)} articles of {lengths.mean():.0f} characters (longest {lengths.max()}), {len(topics)} questions")
    cutters = {
        "passages, best score": model.passages(),
        "passages that overlap by half, best score": model.passages(stride=model.encoder.max_document_length // 2),
    }
    with tempfile.TemporaryDirectory() as folder:

        def exact_retriever(name: str, docs: pd.DataFrame, **settings: str) -> pt.Transformer:
            indexer = JaColBERTIndexer(Path(folder) / name, model, compression="float16", verbose=True, **settings)
            index = indexer.index(docs)
            print(f"{name}: {len(index)} documents, {index.stats()['tokens']} token vectors")
            return index.exact_retriever(num_results=1000)

        systems = {"cut at the model's length": exact_retriever("cut", docs, title_field="title")}
        for name, cutter in cutters.items():
            systems[name] = exact_retriever(name.replace(",", ""), cutter(docs)) >> pt.text.max_passage()
        bm25 = JapaneseBM25(Path(folder) / "bm25", title_field="title").index(docs)
        systems["BM25, whole articles"] = bm25.retriever(num_results=100)
        table = pt.Experiment(systems, topics, qrels, [nDCG @ 10, R @ 1, R @ 10], baseline=0, batch_size=64)
    columns = ["name", "nDCG@10", "nDCG@10 p-value", "R@1", "R@1 p-value", "R@10"]
    print(table[columns].to_string(index=False, float_format="{:.4g}".format))


def load_articles(folder: Path, max_articles: int | None = None) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Returns the articles (``docno``, ``title``, ``text``), and the topics and qrels of the held-out ones."""
    contexts: dict[str, dict[str, None]] = {}
    questions = []
    for file in sorted(folder.glob("*.json.gz")):
        with gzip.open(file, "rt", encoding="utf-8") as stream:
            articles = json.load(stream)["data"]
        for article in articles:
            for paragraph in article["paragraphs"]:
                contexts.setdefault(article["title"], {})[paragraph["context"]] = None
                for question in paragraph["qas"] if is_held_out(article["title"]) else ():
                    questions.append((question["id"], question["question"], article["title"]))
    if not contexts:
        raise FileNotFoundError(f"The folder {folder} has no *.json.gz; give the folder with data/jaquad as --shared.")
    titles = sorted(contexts, key=lambda title: (not is_held_out(title), title))[:max_articles]
    docs = pd.DataFrame(
        [(f"a{number}", title, "\n".join(contexts[title])) for number, title in enumerate(titles)],
        columns=["docno", "title", "text"],
    )
    docnos = dict(zip(docs["title"], docs["docno"], strict=True))
    topics = pd.DataFrame([row for row in questions if row[2] in docnos], columns=["qid", "query", "title"])
    qrels = pd.DataFrame({"qid": topics["qid"], "docno": topics["title"].map(docnos), "label": 1})
    return docs, topics[["qid", "query"]], qrels


if __name__ == "__main__":
    main()
