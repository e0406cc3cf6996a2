"""Trains ``mini``, the checkpoint that ships with the package, from me5-small-ja on JaQuAD, in stages that resume.

    python examples/train_mini.py [--shared ../shared] [--runs runs/mini] [--recipe examples/recipes/mini.yaml]

Needs the extra ``train``, me5-small-ja and JaQuAD's training files under ``--shared``. Each step leaves its result in
``--runs`` and is not done again: passages, an index of the teacher's vectors, BM25, mined and scored examples, the
stages of the recipe, their average. The student is nine of the twelve layers of me5-small-ja, with the more frequent
pieces of its vocabulary. It first learns to make the token vectors of the whole (projected to fewer numbers), then to
rank: relevance alone, from the cut encoder, ends lower. Nothing here has seen JSQuAD; choices are made on held-out
articles.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyterrier as pt
from ir_measures import R, nDCG
from sentence_transformers import MultiVectorEncoder
from transformers import PreTrainedTokenizerFast

from pyterrier_jacolbert import JaColBERT, JaColBERTIndex, JaColBERTIndexer, JapaneseBM25
from pyterrier_jacolbert.train import examples
from pyterrier_jacolbert.train.distill import distill
from pyterrier_jacolbert.train.merge import select
from pyterrier_jacolbert.train.recipe import Recipe, Stage
from pyterrier_jacolbert.train.run import merge_recipe
from pyterrier_jacolbert.train.student import keep_layers, new_student

sys.path.insert(0, str(Path(__file__).parent))
import jaquad
from me5 import me5_encoder, me5_model
from teachers import MeanVectors
from vocabulary import frequent_pieces

#: 45 MB hold 22M float16 weights: nine layers and 14,000 pieces. Of all choices of nine layers, these make the token
#: vectors nearest to those of all twelve before any training; fewer pieces cost nothing (benchmarks/smaller.py).
LAYERS = (0, 1, 2, 4, 5, 8, 9, 10, 11)
PIECES = 14_000
DIM = 128
#: Questions that are mined, drawn with a fixed seed; all but those that the script holds out.
QUESTIONS = 30_000
#: Negatives are drawn from so many best candidates of BM25 and the dense encoder.
CANDIDATES = 12
#: The most tokens of a document when it is used; in training they are cut shorter, for speed.
DOCUMENT_LENGTH = 300


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, default=Path(__file__).parents[2] / "shared")
    parser.add_argument("--runs", type=Path, default=Path("runs/mini"))
    parser.add_argument("--recipe", type=Path, default=Path(__file__).parent / "recipes" / "mini.yaml")
    parser.add_argument("--until", choices=["teacher", "examples"], help="stop after this step")
    arguments = parser.parse_args()
    arguments.runs.mkdir(parents=True, exist_ok=True)
    collection = jaquad.load(arguments.shared / "data" / "jaquad" / "train")
    recipe = Recipe.read(arguments.recipe)
    missing = {
        stage.examples: stage for stage in recipe.stages[::-1] if not (arguments.runs / stage.examples).is_file()
    }
    if missing or arguments.until == "teacher":
        teacher = Teacher(collection, arguments.shared, arguments.runs)
        if arguments.until == "teacher":
            print(teacher.compare(collection.held_out).to_string(float_format="{:.4f}".format))
            return
        for name, stage in missing.items():
            teacher.mine(arguments.runs / name, stage)
    if arguments.until == "examples":
        return
    queries = dict(collection.train.topics[["qid", "query"]].itertuples(index=False))
    documents = {doc["docno"]: f"{doc['title']} {doc['text']}" for doc in collection.docs}
    held_out = HeldOut(collection)
    judged = set(collection.held_out.qrels["docno"])
    texts = [text for docno, text in documents.items() if docno not in judged]
    me5 = arguments.shared / "models" / "me5-small-ja"
    pieces = frequent_pieces(PreTrainedTokenizerFast.from_pretrained(me5), texts, PIECES)
    whole = new_student(me5_encoder(me5, pieces), dim=DIM, texts=texts[:: len(texts) // 500], augment_queries=False)
    results: dict[str, Path] = {}
    for stage in recipe.stages:
        results[stage.name] = distill(
            examples.read(arguments.runs / stage.examples),
            queries,
            documents,
            stage,
            arguments.runs / stage.name,
            model=results.get(stage.start) or keep_layers(whole, LAYERS),
            teacher=whole,
            evaluate=held_out,
            mini_batch_size=16,
        )
    finals = [*results.values(), *merge_recipe(recipe, arguments.runs).values()]
    ranked = select(finals, held_out)
    for checkpoint, measure in ranked:
        print(f"{measure:.4f}  {checkpoint}")
    print(export(ranked[0][0], arguments.runs / "mini"))


def export(checkpoint: Path, out: Path) -> Path:
    """Writes the checkpoint as it ships: float16 weights, which load as float32, and documents of up to 300 tokens."""
    encoder = MultiVectorEncoder(str(checkpoint), device="cpu").half()
    encoder[0].document_length, encoder[0].query_length = DOCUMENT_LENGTH, None
    shutil.rmtree(out, ignore_errors=True)
    encoder.save_pretrained(str(out))
    config = json.loads((out / "config.json").read_text(encoding="utf-8"))
    (out / "config.json").write_text(json.dumps({**config, "dtype": "float32"}, indent=2) + "\n", encoding="utf-8")
    return out


class RememberingIndex(JaColBERTIndex):
    """An index that keeps the vectors of queries: five systems of the teacher ask for the same ones."""

    def encode_queries(self, texts: list[str]) -> list[np.ndarray]:
        """For each text float32 ``(n_positions, dim)``."""
        known = self.__dict__.setdefault("_known", {})
        if new := [text for text in dict.fromkeys(texts) if text not in known]:
            known.update(zip(new, super().encode_queries(new), strict=True))
        return [known[text] for text in texts]


class Teacher:
    """BM25, me5's mean vectors and me5's token vectors over the passages, and their sum."""

    def __init__(self, collection: jaquad.JaQuAD, shared: Path, runs: Path) -> None:
        model = me5_model(shared / "models" / "me5-small-ja", verbose=True)
        self.index = RememberingIndex(runs / "me5.jacolbert", model)
        if not self.index.built():
            indexer = JaColBERTIndexer(
                runs / "me5.jacolbert", model, compression="float16", title_field="title", verbose=True
            )
            indexer.index(collection.docs)
        self.bm25 = JapaneseBM25(runs / "bm25", title_field="title")
        if not self.bm25.built():
            self.bm25.index(collection.docs)
        self.dense = MeanVectors(self.index)
        self.collection = collection

    def mine(self, path: Path, stage: Stage) -> None:
        """Mines and scores a stage's examples."""
        train = self.collection.train
        topics = train.topics.sample(min(QUESTIONS, len(train.topics)), random_state=stage.seed)
        bm25, dense = self.bm25.scorer(), self.dense.scorer()
        teacher = examples.ensemble(bm25, dense, self.index.scorer(), normalize="zscore")
        found = (self.bm25.retriever() % 40) | (self.dense.retriever() % 40)
        candidates = found >> examples.ensemble(bm25, dense, normalize="zscore") % CANDIDATES
        mined = examples.mine(candidates, topics, train.qrels, n_ways=stage.n_ways)
        examples.save(examples.score(mined, teacher, topics), path)

    def compare(self, split: jaquad.Split, questions: int = 1000) -> pd.DataFrame:
        """Each system and sum on questions of a split, with a paired test against BM25 + dense."""
        topics = split.topics.sample(min(questions, len(split.topics)), random_state=0)
        found = (self.bm25.retriever() % 100) | (self.dense.retriever() % 100)
        bm25, dense, maxsim = self.bm25.scorer(), self.dense.scorer(), self.index.scorer()
        systems = {
            "BM25 + dense": found >> examples.ensemble(bm25, dense, normalize="zscore"),
            "BM25": found >> bm25,
            "dense": found >> dense,
            "MaxSim": found >> maxsim,
            "BM25 + dense + MaxSim": found >> examples.ensemble(bm25, dense, maxsim, normalize="zscore"),
            "BM25 + MaxSim": found >> examples.ensemble(bm25, maxsim, normalize="zscore"),
        }
        return pt.Experiment(systems, topics, split.qrels, [nDCG @ 10, R @ 1], baseline=0)


class HeldOut:
    """nDCG@10 on questions of held-out articles, over their passages and some of the others, cut as in use."""

    def __init__(self, collection: jaquad.JaQuAD, questions: int = 1000, passages: int = 1500) -> None:
        self.topics = collection.held_out.topics.sample(questions, random_state=1)
        self.qrels = collection.held_out.qrels
        judged = set(self.qrels["docno"])
        own = [doc for doc in collection.docs if doc["docno"] in judged]
        others = [doc for doc in collection.docs if doc["docno"] not in judged]
        self.docs = own + others[:: max(1, len(others) // max(1, passages - len(own)))]

    def __call__(self, model: JaColBERT) -> float:
        """The measure of a checkpoint."""
        import warnings

        model = JaColBERT(model.model, query_length=model.query_length, max_document_length=DOCUMENT_LENGTH)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="The index is in a temporary directory")
            index = JaColBERTIndexer(None, model, compression="float16", title_field="title").index(self.docs)
        ranking = index.retriever(num_results=10)(self.topics)
        return float(
            pt.Evaluate(ranking, self.qrels[self.qrels["qid"].isin(self.topics["qid"])], [nDCG @ 10])["nDCG@10"]
        )


if __name__ == "__main__":
    main()
