"""Trains ``mini``, the checkpoint that ships with the package, from me5-small-ja on JaQuAD.

    python examples/train_mini.py [--shared ../shared] [--runs runs/mini] [--recipe examples/recipes/mini.yaml]

Requires the extra ``train``, and me5-small-ja and JaQuAD's training files under ``--shared``. Each step stores its
result in ``--runs``, and finished steps are not repeated: passages, an index of the teacher's vectors, BM25, mined and
scored examples, the stages of the recipe, and their average. The student has nine of the twelve layers of me5-small-ja,
and the more frequent pieces of its vocabulary. It first learns to imitate the token vectors of the whole encoder
(projected to fewer dimensions), then to rank; training the reduced encoder on relevance alone ends with a lower
measure. JSQuAD is not used: all choices are made on held-out articles.
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
from pyterrier_jacolbert.train import (
    Recipe,
    Stage,
    average_recipe,
    distill,
    ensemble,
    keep_layers,
    mine,
    new_student,
    read,
    save,
    score,
    select,
)

sys.path.insert(0, str(Path(__file__).parent))
import jaquad
from me5 import me5_encoder, me5_model
from teachers import MeanVectors

from pyterrier_jacolbert.train.vocabulary import frequent_pieces

#: 45 MB hold 22M float16 weights: nine layers and 14,000 pieces. Of all choices of nine layers, these give the token
#: vectors closest to those of all twelve before training; fewer pieces cost no quality (benchmarks/smaller.py).
LAYERS = (0, 1, 2, 4, 5, 8, 9, 10, 11)
PIECES = 14_000
DIM = 128
#: Number of questions to mine, drawn with a fixed seed from those that are not held out.
QUESTIONS = 30_000
#: Number of candidates of BM25 and the dense encoder from which negatives are drawn.
CANDIDATES = 12
#: Maximum number of tokens per document in use. Training truncates documents earlier, for speed.
DOCUMENT_LENGTH = 300


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, default=Path(__file__).parents[2] / "shared")
    parser.add_argument("--runs", type=Path, default=Path("runs/mini"))
    parser.add_argument("--recipe", type=Path, default=Path(__file__).parent / "recipes" / "mini.yaml")
    parser.add_argument("--until", choices=["teacher", "examples"], help="stop after this step")
    args = parser.parse_args()
    args.runs.mkdir(parents=True, exist_ok=True)
    collection = jaquad.load(args.shared / "data" / "jaquad" / "train")
    recipe = Recipe.read(args.recipe)
    missing = {stage.examples: stage for stage in recipe.stages[::-1] if not (args.runs / stage.examples).is_file()}
    if missing or args.until == "teacher":
        teacher = Teacher(collection, args.shared, args.runs)
        if args.until == "teacher":
            print(teacher.compare(collection.held_out).to_string(float_format="{:.4f}".format))
            return
        for name, stage in missing.items():
            teacher.mine(args.runs / name, stage)
    if args.until == "examples":
        return
    held_out = HeldOut(collection)
    finals = train(recipe, collection, args.shared / "models" / "me5-small-ja", args.runs, held_out)
    ranked = select([*finals, *average_recipe(recipe, args.runs).values()], held_out)
    for checkpoint, measure in ranked:
        print(f"{measure:.4f}  {checkpoint}")
    print(export(ranked[0][0], args.runs / "mini"))


def train(recipe: Recipe, collection: jaquad.JaQuAD, me5: Path, runs: Path, held_out: HeldOut) -> list[Path]:
    """Runs the stages of the recipe, and returns their final checkpoints."""
    queries = dict(collection.train.topics[["qid", "query"]].itertuples(index=False))
    documents = {doc["docno"]: f"{doc['title']} {doc['text']}" for doc in collection.docs}
    judged = set(collection.held_out.qrels["docno"])
    texts = [text for docno, text in documents.items() if docno not in judged]
    pieces = frequent_pieces(PreTrainedTokenizerFast.from_pretrained(me5), texts, PIECES)
    whole = new_student(me5_encoder(me5, pieces), dim=DIM, texts=texts[:: len(texts) // 500], augment_queries=False)
    finals: dict[str, Path] = {}
    for stage in recipe.stages:
        finals[stage.name] = distill(
            read(runs / stage.examples),
            queries,
            documents,
            stage,
            runs / stage.name,
            model=finals.get(stage.start) or keep_layers(whole, LAYERS),
            teacher=whole,
            evaluate=held_out,
            mini_batch_size=16,
        )
    return list(finals.values())


def export(checkpoint: Path, out: Path) -> Path:
    """Writes the checkpoint for release: float16 weights, loaded as float32, and documents of up to 300 tokens."""
    encoder = MultiVectorEncoder(str(checkpoint), device="cpu").half()
    encoder[0].document_length, encoder[0].query_length = DOCUMENT_LENGTH, None
    shutil.rmtree(out, ignore_errors=True)
    encoder.save_pretrained(str(out))
    config = json.loads((out / "config.json").read_text(encoding="utf-8"))
    (out / "config.json").write_text(json.dumps({**config, "dtype": "float32"}, indent=2) + "\n", encoding="utf-8")
    return out


class QueryCachingIndex(JaColBERTIndex):
    """An index that caches the vectors of queries, because five systems of the teacher need the same ones."""

    def encode_queries(self, texts: list[str]) -> list[np.ndarray]:
        """Returns the token vectors of each text: float32 ``(n_positions, dim)``."""
        cache = self.__dict__.setdefault("_query_cache", {})
        if missing := [text for text in dict.fromkeys(texts) if text not in cache]:
            cache.update(zip(missing, super().encode_queries(missing), strict=True))
        return [cache[text] for text in texts]


class Teacher:
    """Indexes of the passages with BM25, me5's mean vectors and me5's token vectors, whose sum is the teacher."""

    def __init__(self, collection: jaquad.JaQuAD, shared: Path, runs: Path) -> None:
        model = me5_model(shared / "models" / "me5-small-ja", verbose=True)
        self.index = QueryCachingIndex(runs / "me5.jacolbert", model)
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
        """Mines and scores the examples of a stage."""
        train = self.collection.train
        topics = train.topics.sample(min(QUESTIONS, len(train.topics)), random_state=stage.seed)
        bm25, dense = self.bm25.scorer(), self.dense.scorer()
        teacher = ensemble(bm25, dense, self.index.scorer(), normalize="zscore")
        pool = (self.bm25.retriever() % 40) | (self.dense.retriever() % 40)
        candidates = pool >> ensemble(bm25, dense, normalize="zscore") % CANDIDATES
        mined = mine(candidates, topics, train.qrels, n_ways=stage.n_ways)
        save(score(mined, teacher, topics), path)

    def compare(self, split: jaquad.Split, questions: int = 1000) -> pd.DataFrame:
        """Evaluates each system and sum on questions of a split, with a paired test against BM25 + dense."""
        topics = split.topics.sample(min(questions, len(split.topics)), random_state=0)
        pool = (self.bm25.retriever() % 100) | (self.dense.retriever() % 100)
        bm25, dense, maxsim = self.bm25.scorer(), self.dense.scorer(), self.index.scorer()
        systems = {
            "BM25 + dense": pool >> ensemble(bm25, dense, normalize="zscore"),
            "BM25": pool >> bm25,
            "dense": pool >> dense,
            "MaxSim": pool >> maxsim,
            "BM25 + dense + MaxSim": pool >> ensemble(bm25, dense, maxsim, normalize="zscore"),
            "BM25 + MaxSim": pool >> ensemble(bm25, maxsim, normalize="zscore"),
        }
        return pt.Experiment(systems, topics, split.qrels, [nDCG @ 10, R @ 1], baseline=0)


class HeldOut:
    """nDCG@10 on questions about held-out articles, over their passages and some others, truncated as in use."""

    def __init__(self, collection: jaquad.JaQuAD, questions: int = 1000, passages: int = 1500) -> None:
        self.topics = collection.held_out.topics.sample(questions, random_state=1)
        self.qrels = collection.held_out.qrels
        judged = set(self.qrels["docno"])
        own = [doc for doc in collection.docs if doc["docno"] in judged]
        others = [doc for doc in collection.docs if doc["docno"] not in judged]
        self.docs = own + others[:: max(1, len(others) // max(1, passages - len(own)))]

    def __call__(self, model: JaColBERT) -> float:
        """Returns the measure of a checkpoint."""
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
