"""The choices of the recipe against their alternatives, at equal negatives, steps and start, on held-out articles.

    python -m benchmarks.recipe [--runs runs/recipe] [--mini runs/mini] [--seeds 3] [--steps 150]

Trains a small student, once a seed and loss, on the examples that ``examples/train_mini.py --until examples`` mined
from JaQuAD; then measures nDCG@10 on questions of held-out articles over 10,000 passages (theirs and an even draw of
the others), cut at the 160 tokens that the student is trained with, and the differences with 95 % intervals of a paired
bootstrap over the questions (a question's score is the mean over the seeds). Runs and measures that are there are not
made again. Prints a Markdown table, and writes it and the figures to ``--runs``.

The student is four layers of me5-small-ja, projected to 64 numbers, that learned for as many steps to make the token
vectors of all twelve: cut and untrained it ranks nothing, and all that a loss then does is to repair it.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import sys
import types
import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pyterrier as pt
from ir_measures import nDCG
from sentence_transformers import MultiVectorEncoder

from benchmarks import arguments as common
from benchmarks.intervals import difference
from examples import jaquad
from examples.me5 import me5_encoder
from pyterrier_jacolbert import JaColBERT, JaColBERTIndex, JaColBERTIndexer
from pyterrier_jacolbert.train import examples
from pyterrier_jacolbert.train.distill import distill
from pyterrier_jacolbert.train.merge import merge
from pyterrier_jacolbert.train.recipe import Stage
from pyterrier_jacolbert.train.student import keep_layers, new_student
from pyterrier_jacolbert.train.trainer import whole_checkpoints

LOSSES = {
    "KL + min-max": {"loss": "kl", "normalize_student": True},
    "KL alone": {"loss": "kl", "normalize_student": False, "normalize_teacher": False},
    "MarginMSE": {"loss": "margin_mse", "normalize_student": False, "normalize_teacher": False},
    "hard labels": {"loss": "hard_labels", "normalize_student": False},
}
REFERENCE = "KL + min-max"
#: Tokens of a passage that are read, in training and in measuring.
DOCUMENT_LENGTH = 160


def main() -> None:
    parser = common.parser(__doc__, "shared")
    parser.add_argument("--runs", type=Path, default=Path("runs/recipe"))
    parser.add_argument("--mini", type=Path, default=Path("runs/mini"), help="where the examples are")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--layers", type=int, nargs="+", default=[0, 4, 9, 11], help="of me5-small-ja that stay")
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--questions", type=int, default=1000)
    arguments = parser.parse_args()
    mined = arguments.mini / "examples.jsonl"
    if not mined.is_file():
        sys.exit(f"There are no examples in {arguments.mini}; make them with examples/train_mini.py --until examples.")
    arguments.runs.mkdir(parents=True, exist_ok=True)
    collection = jaquad.load(arguments.shared / "data" / "jaquad" / "train")
    lines = list(examples.read(mined))
    table = HeldOut(collection, arguments.runs, arguments.questions)
    documents = {doc["docno"]: f"{doc['title']} {doc['text']}" for doc in collection.docs}
    queries = dict(collection.train.topics[["qid", "query"]].itertuples(index=False))
    stage = Stage(
        name="recipe",
        start="some layers of me5-small-ja",
        examples=mined.name,
        n_ways=len(lines[0].docnos),
        batch_size=16,
        steps=arguments.steps,
        learning_rate=2e-4,
        warmup_steps=arguments.steps // 10,
        document_length=DOCUMENT_LENGTH,
        precision="bfloat16",
        dropout=0.0,
        save_every=arguments.steps // 3,
    )
    whole = new_student(
        me5_encoder(arguments.shared / "models" / "me5-small-ja"),
        dim=arguments.dim,
        texts=list(documents.values())[:: len(documents) // 500],
        augment_queries=False,
    )
    imitation = dataclasses.replace(stage, loss="imitation", schedule="linear", learning_rate=3e-4)
    imitated = distill(
        lines,
        queries,
        documents,
        imitation,
        arguments.runs / "start",
        model=keep_layers(whole, arguments.layers),
        teacher=whole,
        mini_batch_size=16,
    )
    start = MultiVectorEncoder(str(imitated), device="cpu")
    start[0].query_length = None
    start[0].query_expansion = {"strategy": "fixed", "length": stage.query_length, "attend": False}
    table.measure("before training", 0, start)
    for seed in range(arguments.seeds):
        for name, changes in LOSSES.items():
            output = arguments.runs / f"{name.replace(' ', '')}-{seed}"
            chosen = dataclasses.replace(stage, seed=seed, **changes)
            final = distill(lines, queries, documents, chosen, output, model=copy.deepcopy(start), mini_batch_size=16)
            if name == REFERENCE:
                table.measure(
                    name, seed, str(final), {"fixed 32 at inference": 32, "no augmentation at inference": None}
                )
                # The last checkpoint is what the run ends with.
                checkpoints = whole_checkpoints(output)
                for checkpoint in checkpoints[:-1]:
                    table.measure(f"its {checkpoint.name} alone", seed, str(checkpoint))
                average = output / "average"
                if not average.exists():
                    merge(checkpoints, out=average)
                table.measure("average of its three checkpoints", seed, str(average))
            else:
                table.measure(name, seed, str(final))
    (arguments.runs / "table.md").write_text(table.markdown() + "\n", encoding="utf-8")
    print(table.markdown())


class HeldOut:
    """nDCG@10 a question, by system and seed."""

    def __init__(self, collection: jaquad.JaQuAD, runs: Path, questions: int, passages: int = 10_000) -> None:
        split = collection.held_out
        self.topics = split.topics.sample(min(questions, len(split.topics)), random_state=2)
        self.qrels = split.qrels[split.qrels["qid"].isin(self.topics["qid"])]
        own = set(split.qrels["docno"])
        others = [doc for doc in collection.docs if doc["docno"] not in own]
        count = passages - len(own)
        chosen = {others[number * len(others) // count]["docno"] for number in range(count)} | own
        self.docs = [doc for doc in collection.docs if doc["docno"] in chosen]
        self.kept = runs / "found.json"
        self.found: dict[str, dict[str, dict[str, float]]] = {}
        if self.kept.is_file():
            self.found = json.loads(self.kept.read_text(encoding="utf-8"))

    def measure(
        self, name: str, seed: int, checkpoint: object, others: Mapping[str, object] = types.MappingProxyType({})
    ) -> None:
        """Adds a system, with dynamic query length, and with others over the same index, by name."""
        if all(str(seed) in self.found.get(system, {}) for system in (name, *others)):
            return
        model = JaColBERT(checkpoint, max_document_length=DOCUMENT_LENGTH)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="The index is in a temporary directory")
            index = JaColBERTIndexer(None, model, compression="float16", title_field="title").index(self.docs)
        for system, length in {name: "dynamic", **others}.items():
            changed = JaColBERTIndex(index.path, JaColBERT(checkpoint, query_length=length))
            ranking = changed.retriever(num_results=10)(self.topics)
            scores = pt.Evaluate(ranking, self.qrels, [nDCG @ 10], perquery=True)
            by_query = {qid: scores.get(qid, {}).get("nDCG@10", 0.0) for qid in self.topics["qid"]}
            self.found.setdefault(system, {})[str(seed)] = by_query
            self.kept.write_text(json.dumps(self.found), encoding="utf-8")
            print(f"{system}, seed {seed}: {np.mean(list(by_query.values())):.4f}", flush=True)

    def markdown(self) -> str:
        """A row a system: its mean, each seed's, and the difference of the reference with its interval."""
        means = {name: pd.DataFrame(seeds).mean(axis=1) for name, seeds in self.found.items()}
        rows = ["| system | nDCG@10 | by seed | difference to KL + min-max (95 %) |", "|---|---|---|---|"]
        for name, seeds in self.found.items():
            each = ", ".join(f"{np.mean(list(one.values())):.4f}" for one in seeds.values())
            gained = difference((means[name] - means[REFERENCE]).to_numpy())
            rows.append(f"| {name} | {means[name].mean():.4f} | {each} | {'' if name == REFERENCE else gained} |")
        head = f"{len(self.docs):,} passages, {len(self.topics):,} questions of held-out articles.\n\n"
        return head + "\n".join(rows)


if __name__ == "__main__":
    main()
