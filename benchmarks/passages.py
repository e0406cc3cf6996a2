"""Long documents: passages and their best score, beside documents that are cut at the model's length.

    python -m benchmarks.passages [--model mini] [--articles 100] [--shared ../shared]

JaQuAD's training contexts joined per article are the documents; the questions are those of the articles that ``mini``
was not trained on, and the article that a question was asked of is relevant. Exact search over float16 vectors, title
first. p-values: paired t-tests against the documents that are cut, over the questions.
"""

from __future__ import annotations

import gzip
import json
import tempfile
from pathlib import Path

import pandas as pd
import pyterrier as pt
from ir_measures import R, nDCG

from benchmarks import arguments as common
from examples.jaquad import is_held_out
from pyterrier_jacolbert import JaColBERT, JaColBERTIndexer, JapaneseBM25, japanese


def main() -> None:
    parser = common.parser(__doc__, "shared", "model")
    parser.add_argument("--articles", type=int, help="at most so many, held-out ones first; all unless given")
    parser.add_argument("--questions", type=int, help="at most so many; all unless given")
    arguments = parser.parse_args()
    docs, topics, qrels = articles(arguments.shared / "data" / "jaquad" / "train", arguments.articles)
    topics = topics.head(arguments.questions or len(topics))
    model = JaColBERT(arguments.model, verbose=True)
    lengths = docs["text"].str.len()
    print(f"{len(docs)} articles of {lengths.mean():.0f} characters (longest {lengths.max()}), {len(topics)} questions")
    cutters = {
        "passages, best score": japanese.passages(model),
        "passages that overlap by half, best score": japanese.passages(
            model, stride=model.encoder.max_document_length // 2
        ),
    }
    with tempfile.TemporaryDirectory() as folder:

        def index(name: str, frame: pd.DataFrame, **settings: str) -> pt.Transformer:
            built = JaColBERTIndexer(Path(folder) / name, model, compression="float16", verbose=True, **settings)
            found = built.index(frame)
            print(f"{name}: {len(found)} documents, {found.stats()['tokens']} tokens")
            return found.exact_retriever(num_results=1000)

        systems = {"cut at the model's length": index("cut", docs, title_field="title")}
        for name, cutter in cutters.items():
            systems[name] = index(name.replace(",", ""), cutter(docs)) >> pt.text.max_passage()
        systems["BM25, whole"] = JapaneseBM25(Path(folder) / "bm25", title_field="title").index(docs).retriever(100)
        table = pt.Experiment(systems, topics, qrels, [nDCG @ 10, R @ 1, R @ 10], baseline=0, batch_size=64)
    columns = ["name", "nDCG@10", "nDCG@10 p-value", "R@1", "R@1 p-value", "R@10"]
    print(table[columns].to_string(index=False, float_format="{:.4g}".format))


def articles(folder: Path, most: int | None = None) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Documents (``docno``, ``title``, ``text``), and the topics and qrels of the articles held out."""
    contexts: dict[str, dict[str, None]] = {}
    questions = []
    for file in sorted(folder.glob("*.json.gz")):
        with gzip.open(file, "rt", encoding="utf-8") as stream:
            data = json.load(stream)["data"]
        for article in data:
            for paragraph in article["paragraphs"]:
                contexts.setdefault(article["title"], {})[paragraph["context"]] = None
                for question in paragraph["qas"] if is_held_out(article["title"]) else ():
                    questions.append((question["id"], question["question"], article["title"]))
    if not contexts:
        raise FileNotFoundError(f"There is no *.json.gz in {folder}; give --shared with data/jaquad/train in it.")
    titles = sorted(contexts, key=lambda title: (not is_held_out(title), title))[:most]
    docs = pd.DataFrame(
        [(f"a{number}", title, "\n".join(contexts[title])) for number, title in enumerate(titles)],
        columns=["docno", "title", "text"],
    )
    docnos = dict(zip(docs["title"], docs["docno"], strict=True))
    asked = pd.DataFrame([row for row in questions if row[2] in docnos], columns=["qid", "query", "title"])
    qrels = pd.DataFrame({"qid": asked["qid"], "docno": asked["title"].map(docnos), "label": 1})
    return docs, asked[["qid", "query"]], qrels


if __name__ == "__main__":
    main()
