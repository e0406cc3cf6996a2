"""Parts of a recipe: the student, the stages that train it, and the averages of their checkpoints."""

from __future__ import annotations

import math
import string
from dataclasses import dataclass
from typing import Literal

from pyterrier_jacolbert.train.recipe_data import ExampleFile
from pyterrier_jacolbert.train.settings import check, check_types

Loss = Literal["kl", "margin_mse", "hard_labels", "contrastive", "imitation"]
Schedule = Literal["schedule_free", "linear", "constant"]
Precision = Literal["bfloat16", "float16", "float32"]
Head = Literal["linear", "residual"]

#: Names by which stages and averages refer to the student of a recipe before training, and to the same student with all
#: layers of its encoder.
STUDENT, WHOLE_STUDENT = "student", "whole-student"


@dataclass(frozen=True)
class Student:
    """A ColBERT built from an encoder that is none, see :func:`~pyterrier_jacolbert.train.new_student`.

    Attributes:
        encoder: folder or hub name of the encoder: a model of transformers, or one of Sentence Transformers whose
            first module is taken.
        dim: dimensions of a token vector.
        head: layers after the encoder: ``"linear"``, a projection, or ``"residual"``, two layers of which the first has
            twice the encoder's dimensions and a residual connection (arXiv 2510.12327); both rank alike before
            training.
        layers: layers to keep, counted from 0; a number keeps the lowest ones; None keeps all.
        vocabulary: number of tokens to keep, for encoders with a unigram tokenizer: all characters of JIS X 0208 and
            the most frequent other pieces of the recipe's documents and queries; None keeps all.
        query_prompt: text before each query.
        document_prompt: text before each document.
        augment_queries: whether queries are filled up with [MASK] positions.
        query_length: positions per query, or without [MASK] positions its maximum number of tokens.
        document_length: maximum number of tokens per document.
        skiplist: characters whose tokens do not score in documents.
        texts: number of documents of each data set from which the projection is computed.
    """

    encoder: str
    dim: int = 128
    head: Head = "linear"
    layers: tuple[int, ...] | int | None = None
    vocabulary: int | None = None
    query_prompt: str = ""
    document_prompt: str = ""
    augment_queries: bool = True
    query_length: int = 32
    document_length: int = 300
    skiplist: str = string.punctuation
    texts: int = 500

    @property
    def name(self) -> str:
        """The name by which stages and averages refer to it."""
        return STUDENT

    def __post_init__(self) -> None:
        check_types(self)
        for setting in ("dim", "query_length", "document_length", "texts"):
            check(self, setting, getattr(self, setting) >= 1, "1 or more")
        check(self, "vocabulary", self.vocabulary is None or self.vocabulary >= 1, "1 or more, or null")


@dataclass(frozen=True)
class Stage:
    """One run of the trainer over n-way scored examples.

    Attributes:
        name: name by which later stages and averages refer to the result.
        start: checkpoint to start from: a folder, a hub name, the name of an earlier stage, or ``"student"``, the
            recipe's own student.
        examples: examples to train on. The name of a file, relative to the folder of the runs, stands for all examples
            of that file.
        n_ways: documents per query, the positive first; 1 with the loss ``"contrastive"`` takes the positive alone.
        every: stride over the examples: 1 takes all of them, k takes every k-th from the first.
        batch_size: queries per step over all processes.
        steps: optimizer steps; None makes one pass over the examples.
        schedule: ``"schedule_free"`` (AdamWScheduleFree), or AdamW with ``"linear"`` decay or a ``"constant"`` rate.
        learning_rate: peak learning rate.
        warmup_steps: steps of linear warm-up.
        weight_decay: weight decay of AdamW.
        max_gradient_norm: norm to which gradients are clipped; 0 disables clipping.
        loss: ``"kl"`` (Kullback-Leibler divergence of the softmax over the n documents), ``"margin_mse"`` (squared
            error of the score differences to the positive), ``"hard_labels"`` (cross-entropy of the positive),
            ``"contrastive"`` (cross-entropy of the positive among the documents of the whole batch, which may be
            large), or ``"imitation"`` (cosine distance between the student's token vectors and another encoder's). The
            last three ignore the scores.
        teacher: encoder to imitate: a folder, a hub name, the name of an earlier stage, ``"student"``, or
            ``"whole-student"``, the recipe's student with all layers of its encoder. It must have the student's
            tokenizer and dimensions.
        imitation_weight: factor of the imitation loss that is added to another loss, so that the student keeps the
            vectors of the teacher while it learns to rank; 0 adds none.
        normalize_student: whether the loss min-max normalises the student's n scores, with gradients. Ranges below 1/8
            are divided by 1/8, which bounds the gradients of scores that are almost equal. Two documents per query are
            refused, because min-max makes their scores 0 and 1 whatever the student does.
        normalize_teacher: whether the loss min-max normalises the teacher's n scores.
        student_temperature: divisor of the student's (normalised) scores in the softmax.
        teacher_temperature: divisor of the teacher's (normalised) scores in the softmax.
        in_batch_negatives: whether to add a cross-entropy over the documents of the whole batch, which leaves out the
            positives of the same query and their copies. The batch is that of one process and one forward pass. The
            loss ``"contrastive"`` always has this cross-entropy, and no other.
        in_batch_temperature: divisor of the student's MaxSim scores in that cross-entropy.
        query_length: positions per query, including [MASK] positions.
        document_length: maximum number of tokens per document.
        mini_batch_size: documents per forward pass, which bounds memory; None encodes all of a batch at once. With the
            loss ``"contrastive"`` memory then depends on this number alone, and each text is encoded twice.
        gradient_checkpointing: whether to compute the activations of each layer again in the backward pass instead of
            keeping them: a step takes less memory and about a third more time, and its gradients are the same.
        precision: precision of the forward and backward passes; weights and optimizer state are float32.
        dropout: dropout rate; None keeps the checkpoint's own (0.1 in BERT). Without dropout a step takes a quarter
            less time on a CPU.
        save_every: steps between checkpoints.
        seed: seed for the order of examples and for dropout.
    """

    name: str
    start: str
    examples: str | tuple[ExampleFile, ...]
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
    imitation_weight: float = 0.0
    normalize_student: bool = True
    normalize_teacher: bool = True
    student_temperature: float = 1.0
    teacher_temperature: float = 1.0
    in_batch_negatives: bool = False
    in_batch_temperature: float = 1.0
    query_length: int = 32
    document_length: int = 300
    mini_batch_size: int | None = None
    gradient_checkpointing: bool = False
    precision: Precision = "float16"
    dropout: float | None = None
    save_every: int = 2000
    seed: int = 12345

    @property
    def example_files(self) -> tuple[ExampleFile, ...]:
        """The files of examples."""
        return (ExampleFile(self.examples),) if isinstance(self.examples, str) else self.examples

    def __post_init__(self) -> None:
        check_types(self)
        check(self, "examples", self.examples != (), "the name of a file, or a list of one or more files")
        for setting in ("n_ways", "every", "batch_size", "save_every", "query_length", "document_length"):
            minimum = 2 if setting == "n_ways" and self.loss != "contrastive" else 1
            check(self, setting, getattr(self, setting) >= minimum, f"{minimum} or more")
        for setting in ("steps", "mini_batch_size"):
            check(self, setting, getattr(self, setting) is None or getattr(self, setting) >= 1, "1 or more, or null")
        for setting in ("learning_rate", "student_temperature", "teacher_temperature", "in_batch_temperature"):
            check(self, setting, getattr(self, setting) > 0, "more than 0")
            check(self, setting, math.isfinite(getattr(self, setting)), "finite")
        for setting in ("warmup_steps", "weight_decay", "max_gradient_norm", "imitation_weight"):
            check(self, setting, getattr(self, setting) >= 0, "0 or more")
            check(self, setting, math.isfinite(getattr(self, setting)), "finite")
        check(
            self,
            "normalize_student",
            self.n_ways > 2 or self.loss in ("contrastive", "imitation") or not self.normalize_student,
            "false with n_ways 2 (min-max makes two scores 0 and 1, whose gradient is 0; or set n_ways to 3 or more)",
        )
        if self.loss == "contrastive":
            check(self, "imitation_weight", not self.imitation_weight, "0 with the contrastive loss")
            check(self, "batch_size", self.batch_size * self.n_ways > 1, "2 or more with n_ways 1")
        check(self, "dropout", self.dropout is None or 0 <= self.dropout < 1, "between 0 and 1")


@dataclass(frozen=True)
class Average:
    """A checkpoint that is the weighted mean of others.

    Attributes:
        name: name of the average.
        of: checkpoints to average. The name of a stage means its final checkpoint, ``"stage@2000"`` that of step 2000,
            ``"stage@0"`` the checkpoint that the stage starts from,
            and ``"stage@best"`` and ``"stage@second"`` the best and second best on held-out data, excluding the last.
            ``"student"`` is the recipe's student before training.
        weights: one weight per checkpoint; None gives all the same weight.
        points: number of points on the line from the first checkpoint to the second, of which the best on held-out data
            is taken; None takes the weights.
    """

    name: str
    of: tuple[str, ...]
    weights: tuple[float, ...] | None = None
    points: int | None = None

    def __post_init__(self) -> None:
        check_types(self)
        check(self, "of", len(self.of) >= 2, "a list of two or more checkpoints")
        check(self, "weights", self.weights is None or len(self.weights) == len(self.of), "one number per checkpoint")
        check(self, "points", self.points is None or self.points >= 2, "2 or more, or null")
        if self.points is not None and (len(self.of) != 2 or self.weights is not None):
            raise ValueError(
                f"The average {self.name!r} has points={self.points}, which lie between two checkpoints; give two "
                "checkpoints and no weights."
            )
