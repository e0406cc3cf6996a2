"""Parts of a recipe: how examples are mined, how a stage trains, and which checkpoints are averaged."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from pyterrier_jacolbert.train.settings import check, check_types

Loss = Literal["kl", "margin_mse", "hard_labels", "imitation"]
Schedule = Literal["schedule_free", "linear", "constant"]
Precision = Literal["bfloat16", "float16", "float32"]


@dataclass(frozen=True)
class Stage:
    """One run of the trainer over n-way scored examples.

    Attributes:
        name: name by which later stages and averages refer to the result.
        start: checkpoint to start from: a folder, a hub name, or the name of an earlier stage.
        examples: file of examples, relative to the recipe's file.
        n_ways: documents per query, the positive first.
        every: stride over the examples: 1 takes all of them, k takes every k-th from the first.
        batch_size: queries per step over all processes.
        steps: optimizer steps; None makes one pass over the examples.
        schedule: ``"schedule_free"`` (AdamWScheduleFree), or AdamW with ``"linear"`` decay or a ``"constant"`` rate.
        learning_rate: peak learning rate.
        warmup_steps: steps of linear warm-up.
        weight_decay: weight decay of AdamW.
        max_gradient_norm: norm to which gradients are clipped; 0 disables clipping.
        loss: ``"kl"`` (Kullback-Leibler divergence of the softmax over the n documents), ``"margin_mse"`` (squared
            error of the score differences to the positive), ``"hard_labels"`` (cross-entropy of the positive), or
            ``"imitation"`` (cosine distance between the student's token vectors and another encoder's; it ignores the
            scores).
        teacher: encoder to imitate with ``"imitation"``, a folder or hub name. It must have the student's tokenizer and
            dimensions.
        normalize_student: whether the loss min-max normalises the student's n scores, with gradients. Ranges below 1/8
            are divided by 1/8, which bounds the gradients of scores that are almost equal. Two documents per query are
            refused, because min-max makes their scores 0 and 1 whatever the student does.
        normalize_teacher: whether the loss min-max normalises the teacher's n scores.
        student_temperature: divisor of the student's (normalised) scores in the softmax.
        teacher_temperature: divisor of the teacher's (normalised) scores in the softmax.
        in_batch_negatives: whether to add a cross-entropy over the documents of the whole batch, which leaves out the
            positives of the same query and their copies. The batch is that of one process and one forward pass.
        in_batch_temperature: divisor of the student's MaxSim scores in that cross-entropy.
        query_length: positions per query, including [MASK] positions.
        document_length: maximum number of tokens per document.
        precision: precision of the forward and backward passes; weights and optimizer state are float32.
        dropout: dropout rate; None keeps the checkpoint's own (0.1 in BERT). Without dropout a step takes a quarter
            less time on a CPU.
        save_every: steps between checkpoints.
        seed: seed for the order of examples and for dropout.
    """

    name: str
    start: str
    examples: str
    n_ways: int = 32
    every: int = 1
    batch_size: int = 64
    steps: int | None = None
    schedule: Schedule = "schedule_free"
    learning_rate: float = 3e-5
    warmup_steps: int = 2500
    weight_decay: float = 0.0
    max_gradient_norm: float = 0.0
    loss: Loss = "kl"
    teacher: str | None = None
    normalize_student: bool = True
    normalize_teacher: bool = True
    student_temperature: float = 1.0
    teacher_temperature: float = 1.0
    in_batch_negatives: bool = False
    in_batch_temperature: float = 1.0
    query_length: int = 32
    document_length: int = 300
    precision: Precision = "float16"
    dropout: float | None = None
    save_every: int = 2000
    seed: int = 12345

    def __post_init__(self) -> None:
        check_types(self)
        for setting in ("n_ways", "every", "batch_size", "save_every", "query_length", "document_length"):
            minimum = 2 if setting == "n_ways" else 1
            check(self, setting, getattr(self, setting) >= minimum, f"{minimum} or more")
        check(self, "steps", self.steps is None or self.steps >= 1, "1 or more, or null")
        for setting in ("learning_rate", "student_temperature", "teacher_temperature", "in_batch_temperature"):
            check(self, setting, getattr(self, setting) > 0, "more than 0")
            check(self, setting, math.isfinite(getattr(self, setting)), "finite")
        for setting in ("warmup_steps", "weight_decay", "max_gradient_norm"):
            check(self, setting, getattr(self, setting) >= 0, "0 or more")
            check(self, setting, math.isfinite(getattr(self, setting)), "finite")
        check(
            self,
            "normalize_student",
            self.n_ways > 2 or self.loss == "imitation" or not self.normalize_student,
            "false with n_ways 2 (min-max makes two scores 0 and 1, whose gradient is 0; or set n_ways to 3 or more)",
        )
        check(self, "dropout", self.dropout is None or 0 <= self.dropout < 1, "between 0 and 1")


@dataclass(frozen=True)
class Mining:
    """Settings for mining and scoring the examples of a recipe.

    Attributes:
        name: file to write.
        teachers: scorers of the examples: ``"bm25"``, ``"cross-encoder:NAME"`` or ``"colbert:NAME"``, where NAME is a
            folder or hub name. The scores of several teachers are summed.
        normalize: per-query normalisation of the scores before they are summed: ``"minmax"`` or ``"zscore"``.
        candidates: number of BM25 results from which negatives are drawn.
        n_ways: documents per example, the positive first.
        false_negative_margin: share of the positive's score above which a candidate is left out; None keeps all.
        queries: number of queries to draw with the seed; None takes all.
        seed: seed for the draws.
    """

    name: str
    teachers: tuple[str, ...]
    normalize: Literal["minmax", "zscore"] = "minmax"
    candidates: int = 250
    n_ways: int = 32
    false_negative_margin: float | None = 0.95
    queries: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        check_types(self)
        check(self, "teachers", bool(self.teachers), "a list of one or more teachers")
        check(self, "n_ways", self.n_ways >= 2, "2 or more")
        check(self, "candidates", self.candidates >= self.n_ways, f"{self.n_ways} (n_ways) or more")
        for teacher in self.teachers:
            kind, colon, name = teacher.partition(":")
            valid = teacher == "bm25" or (kind in ("cross-encoder", "colbert") and bool(colon and name))
            check(self, "teachers", valid, "a list of 'bm25', 'cross-encoder:NAME' or 'colbert:NAME'")


@dataclass(frozen=True)
class Average:
    """A checkpoint that is the weighted mean of others.

    Attributes:
        name: name of the average.
        of: checkpoints to average. The name of a stage means its final checkpoint, ``"stage@2000"`` that of step 2000,
            and ``"stage@best"`` and ``"stage@second"`` the best and second best on held-out data, excluding the last.
        weights: one weight per checkpoint; None gives all the same weight.
    """

    name: str
    of: tuple[str, ...]
    weights: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        check_types(self)
        check(self, "of", len(self.of) >= 2, "a list of two or more checkpoints")
        check(self, "weights", self.weights is None or len(self.weights) == len(self.of), "one number per checkpoint")
