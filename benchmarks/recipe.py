"""Compares the choices of the recipe with alternatives, for equal examples, steps and starting weights.

    python -m benchmarks.recipe [--runs runs/recipe] [--mini runs/mini] [--seeds 3] [--steps 150]

Trains a small student for every loss and seed, on the examples that ``examples/train_mini.py --until examples`` mined
from JaQuAD. Then measures nDCG@10 on questions about held-out articles over 10,000 passages (those of the articles and
an even draw of the others), cut at the 160 tokens that the student is trained on. Differences have 95 % intervals of a
paired bootstrap over the questions, where the score of a question is the mean over the seeds. Finished runs and
measurements are not repeated. Prints a Markdown table, and writes the table and the figures to ``--runs``.

The student is four layers of me5-small-ja, projected to 64 dimensions, and first learns for equally many steps to
imitate the token vectors of all twelve layers. A reduced but untrained encoder cannot rank, and a loss would do no more
than repair it.
"""

from __future__ import annotations

import argparse
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

from benchmarks.arguments import benchmark_parser
from benchmarks.intervals import mean_with_interval
from examples import jaquad
from examples.me5 import me5_encoder
from pyterrier_jacolbert import JaColBERT, JaColBERTIndex, JaColBERTIndexer
from pyterrier_jacolbert.train import Example, Stage, average, distill, keep_layers, new_student, read
from pyterrier_jacolbert.train.trainer import complete_checkpoints

LOSSES = {
    "KL + min-max": {"loss": "kl", "normalize_student": True},
    "KL alone": {"loss": "kl", "normalize_student": False, "normalize_teacher": False},
    "MarginMSE": {"loss": "margin_mse", "normalize_student": False, "normalize_teacher": False},
    "hard labels": {"loss": "hard_labels", "normalize_student": False},
}
REFERENCE = "KL + min-max"
#: Maximum number of tokens per passage, in training and in measuring.
DOCUMENT_LENGTH = 160


def main() -> None:
    parser = benchmark_parser(__doc__, "shared")
    parser.add_argument("--runs", type=Path, default=Path("runs/recipe"), help="folder of the runs")
    parser.add_argument("--mini", type=Path, default=Path("runs/mini"), help="folder of the examples")
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds (default: 3)")
    parser.add_argument("--steps", type=int, default=150, help="steps per run (default: 150)")
    parser.add_argument(
        "--layers",
        type=int,
        nargs="+",
        default=[0, 4, 9, 11],
        help="layers of me5-small-ja that are kept",
    )
    parser.add_argument("--dim", type=int, default=64, help="dimensions of a token vector (default: 64)")
    parser.add_argument("--questions", type=int, default=1000, help="number of held-out questions (default: 1000)")
    args = parser.parse_args()
    examples_file = args.mini / "examples.jsonl"
    if not examples_file.is_file():
        sys.exit(f"The folder {args.mini} has no examples; mine them with examples/train_mini.py --until examples.")
    args.runs.mkdir(parents=True, exist_ok=True)
    collection = jaquad.load(args.shared / "data" / "jaquad" / "train")
    trainer = StudentTrainer(args, collection, list(read(examples_file)))
    table = HeldOutTable(collection, args.runs, args.questions)
    start = trainer.imitate()
    table.measure("before training", 0, start)
    for seed in range(args.seeds):
        for name, changes in LOSSES.items():
            output = args.runs / f"{name.replace(' ', '')}-{seed}"
            final = trainer.train(start, output, seed=seed, **changes)
            if name != REFERENCE:
                table.measure(name, seed, str(final))
                continue
            table.measure(name, seed, str(final), {"fixed 32 at inference": 32, "no augmentation at inference": None})
            # The last checkpoint is the final one.
            checkpoints = complete_checkpoints(output)
            for checkpoint in checkpoints[:-1]:
                table.measure(f"its {checkpoint.name} alone", seed, str(checkpoint))
            averaged = output / "average"
            if not averaged.exists():
                average(checkpoints, out=averaged)
            table.measure("average of its three checkpoints", seed, str(averaged))
    (args.runs / "table.md").write_text(table.markdown() + "\n", encoding="utf-8")
    print(table.markdown())


class StudentTrainer:
    """Trains students on the same examples.

    Args:
        args: the command line.
        collection: passages and questions.
        examples: mined and scored examples.
    """

    def __init__(self, args: argparse.Namespace, collection: jaquad.JaQuAD, examples: list[Example]) -> None:
        self._args = args
        self._examples = examples
        self._documents = {doc["docno"]: f"{doc['title']} {doc['text']}" for doc in collection.docs}
        self._queries = dict(collection.train.topics[["qid", "query"]].itertuples(index=False))
        self._stage = Stage(
            name="recipe",
            start="some layers of me5-small-ja",
            examples="examples.jsonl",
            n_ways=len(examples[0].docnos),
            batch_size=16,
            steps=args.steps,
            learning_rate=2e-4,
            warmup_steps=args.steps // 10,
            document_length=DOCUMENT_LENGTH,
            precision="bfloat16",
            dropout=0.0,
            save_every=args.steps // 3,
        )

    def imitate(self) -> MultiVectorEncoder:
        """Trains the reduced encoder to imitate the whole one, and returns it with [MASK] augmentation."""
        whole = new_student(
            me5_encoder(self._args.shared / "models" / "me5-small-ja"),
            dim=self._args.dim,
            texts=list(self._documents.values())[:: max(1, len(self._documents) // 500)],
            augment_queries=False,
        )
        stage = dataclasses.replace(self._stage, loss="imitation", schedule="linear", learning_rate=3e-4)
        student = keep_layers(whole, self._args.layers)
        checkpoint = self._distill(stage, self._args.runs / "start", model=student, teacher=whole)
        start = MultiVectorEncoder(str(checkpoint), device="cpu")
        start[0].query_length = None
        start[0].query_expansion = {"strategy": "fixed", "length": stage.query_length, "attend": False}
        return start

    def train(self, start: MultiVectorEncoder, output: Path, **changes: object) -> Path:
        """Trains a student.

        Args:
            start: starting weights; they are not changed.
            output: folder of the run.
            **changes: settings of the stage that differ.

        Returns:
            The folder of the final checkpoint.
        """
        return self._distill(dataclasses.replace(self._stage, **changes), output, model=copy.deepcopy(start))

    def _distill(self, stage: Stage, output: Path, **models: MultiVectorEncoder) -> Path:
        return distill(self._examples, self._queries, self._documents, stage, output, mini_batch_size=16, **models)


class HeldOutTable:
    """nDCG@10 of each held-out question by system and seed, kept in a file.

    Args:
        collection: passages and questions.
        runs: folder of the file, ``found.json``.
        n_questions: maximum number of questions.
        n_passages: number of passages to search.
    """

    def __init__(self, collection: jaquad.JaQuAD, runs: Path, n_questions: int, n_passages: int = 10_000) -> None:
        split = collection.held_out
        self.topics = split.topics.sample(min(n_questions, len(split.topics)), random_state=2)
        self.qrels = split.qrels[split.qrels["qid"].isin(self.topics["qid"])]
        held_out = set(split.qrels["docno"])
        others = [doc for doc in collection.docs if doc["docno"] not in held_out]
        count = n_passages - len(held_out)
        searched = {others[number * len(others) // count]["docno"] for number in range(count)} | held_out
        self.docs = [doc for doc in collection.docs if doc["docno"] in searched]
        self._file = runs / "found.json"
        self._measured: dict[str, dict[str, dict[str, float]]] = {}
        if self._file.is_file():
            self._measured = json.loads(self._file.read_text(encoding="utf-8"))

    def measure(
        self,
        name: str,
        seed: int,
        checkpoint: str | MultiVectorEncoder,
        query_lengths: Mapping[str, int | None] = types.MappingProxyType({}),
    ) -> None:
        """Measures a checkpoint with dynamic query length, unless the file has it.

        Args:
            name: name of the system.
            seed: seed of its training.
            checkpoint: to measure.
            query_lengths: further systems by name, with the same index and another query length.
        """
        if all(str(seed) in self._measured.get(system, {}) for system in (name, *query_lengths)):
            return
        model = JaColBERT(checkpoint, max_document_length=DOCUMENT_LENGTH)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="The index is in a temporary directory")
            index = JaColBERTIndexer(None, model, compression="float16", title_field="title").index(self.docs)
        for system, query_length in {name: "dynamic", **query_lengths}.items():
            searched = JaColBERTIndex(index.path, JaColBERT(checkpoint, query_length=query_length))
            ranking = searched.retriever(num_results=10)(self.topics)
            values = pt.Evaluate(ranking, self.qrels, [nDCG @ 10], perquery=True)
            by_query = {qid: values.get(qid, {}).get("nDCG@10", 0.0) for qid in self.topics["qid"]}
            self._measured.setdefault(system, {})[str(seed)] = by_query
            self._file.write_text(json.dumps(self._measured), encoding="utf-8")
            print(f"{system}, seed {seed}: {np.mean(list(by_query.values())):.4f}", flush=True)

    def markdown(self) -> str:
        """Returns a table with one row per system: mean, value per seed, and difference from the reference."""
        means = {name: pd.DataFrame(seeds).mean(axis=1) for name, seeds in self._measured.items()}
        rows = [f"| system | nDCG@10 | by seed | difference from {REFERENCE} (95 %) |", "|---|---|---|---|"]
        for name, seeds in self._measured.items():
            by_seed = ", ".join(f"{np.mean(list(values.values())):.4f}" for values in seeds.values())
            difference = mean_with_interval((means[name] - means[REFERENCE]).to_numpy())
            rows.append(
                f"| {name} | {means[name].mean():.4f} | {by_seed} | {'' if name == REFERENCE else difference} |"
            )
        head = f"{len(self.docs):,} passages, {len(self.topics):,} questions about held-out articles.\n\n"
        return head + "\n".join(rows)


if __name__ == "__main__":
    main()
