"""A training recipe: every number of it, and where the number comes from.

The tags of the sources: P is the paper (Clavié, arXiv 2407.20750v1), A the published ``artifact.metadata`` of
JaColBERTv2.4, C the author's fork of ColBERT, and "assumed" what no source says.
"""

from __future__ import annotations

import dataclasses
import difflib
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import UnionType
from typing import Any, Literal

Loss = Literal["kl", "margin_mse", "hard_labels", "imitation"]
Schedule = Literal["schedule_free", "linear", "constant"]
Precision = Literal["bfloat16", "float16", "float32"]


@dataclass(frozen=True)
class Stage:
    """One run of the trainer over n-way scored examples.

    Attributes:
        name: what later stages and averages call its result.
        start: the checkpoint it starts from: a folder, a hub name, or the name of an earlier stage.
        examples: the file of its examples; relative to the recipe's file.
        n_ways: documents a query, the positive first.
        every: takes every so-many-th example, from the first.
        batch_size: queries a step, over all processes.
        steps: optimizer steps; None goes through the examples once.
        schedule: ``"schedule_free"`` (AdamWScheduleFree), or AdamW with ``"linear"`` decay or ``"constant"``.
        learning_rate: the peak.
        warmup_steps: steps of linear warm-up.
        weight_decay: of AdamW.
        max_gradient_norm: clips gradients; 0 does not.
        loss: ``"kl"`` (divergence of the softmax over the n documents), ``"margin_mse"`` (score differences to the
            positive), ``"hard_labels"`` (cross-entropy of the positive), or ``"imitation"`` (cosine distance of the
            token vectors to another encoder's; looks at no scores).
        teacher: for ``"imitation"`` the encoder that is imitated, of the student's tokens and dimensions: a folder or
            hub name.
        normalize_student: whether the student's n scores are min-max normalised in the loss, gradients included.
        normalize_teacher: whether the teacher's n scores are min-max normalised.
        student_temperature: divides the student's (normalised) scores in the softmax.
        teacher_temperature: divides the teacher's.
        in_batch_negatives: whether a cross-entropy over the documents of the whole batch is added.
        in_batch_temperature: divides the student's sums of similarities in it.
        query_length: positions of a query, [MASK] positions included.
        document_length: the most tokens of a document.
        precision: of the forward and backward products; weights and optimizer are float32.
        dropout: the share of activations that is dropped; None keeps what the checkpoint says (0.1 in BERT). Without it
            a step takes a quarter less time on a CPU.
        save_every: steps between checkpoints.
        seed: of the order of examples and of dropout.
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
        _check_types(self)
        for name in ("n_ways", "every", "batch_size", "save_every", "query_length", "document_length"):
            least = 2 if name == "n_ways" else 1
            _check(self, name, getattr(self, name) >= least, f"{least} or more")
        _check(self, "steps", self.steps is None or self.steps >= 1, "1 or more, or null")
        for name in ("learning_rate", "student_temperature", "teacher_temperature", "in_batch_temperature"):
            _check(self, name, getattr(self, name) > 0, "more than 0")
        for name in ("warmup_steps", "weight_decay", "max_gradient_norm"):
            _check(self, name, getattr(self, name) >= 0, "0 or more")
        _check(self, "dropout", self.dropout is None or 0 <= self.dropout < 1, "between 0 and 1")


@dataclass(frozen=True)
class Mining:
    """Where examples come from when they are made anew.

    Attributes:
        name: the file to write.
        teachers: what scores the examples: ``"bm25"``, ``"cross-encoder:NAME"`` or ``"colbert:NAME"``, each NAME a
            folder or hub name; several are added up.
        normalize: how the scores of several are made comparable: ``"minmax"`` or ``"zscore"``, per query.
        candidates: how deep BM25 searches for negatives.
        n_ways: documents an example, the positive first.
        false_negative_margin: leaves out candidates above this share of the positive's score; None keeps them.
        queries: only so many queries, drawn by the seed; None takes all.
        seed: of the draws.
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
        _check_types(self)
        _check(self, "teachers", bool(self.teachers), "one teacher or more")
        _check(self, "n_ways", self.n_ways >= 2, "2 or more")
        _check(self, "candidates", self.candidates >= self.n_ways, f"n_ways, {self.n_ways}, or more")
        for teacher in self.teachers:
            kind, colon, name = teacher.partition(":")
            right = teacher == "bm25" or (kind in ("cross-encoder", "colbert") and bool(colon and name))
            _check(self, "teachers", right, "made of 'bm25', 'cross-encoder:NAME' and 'colbert:NAME'")


@dataclass(frozen=True)
class Average:
    """A checkpoint that is the mean of others.

    Attributes:
        name: what it is called.
        of: the checkpoints: a stage's name is its last one, ``"stage@2000"`` the one of that step, ``"stage@best"``
            and ``"stage@second"`` the best ones on held-out data, the last left aside.
        weights: one a checkpoint; None weighs all alike.
    """

    name: str
    of: tuple[str, ...]
    weights: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        _check_types(self)
        _check(self, "of", len(self.of) >= 2, "two checkpoints or more")
        _check(self, "weights", self.weights is None or len(self.weights) == len(self.of), "one for each checkpoint")


@dataclass(frozen=True)
class Recipe:
    """Stages in order, and the averages of what they leave.

    Attributes:
        name: of the recipe.
        stages: in the order in which they run.
        averages: made after them, in order.
        dataset: the PyTerrier data set with the texts, such as ``"irds:mmarco/v2/ja/train"``.
        title_field: a field of its documents that is put before the text.
        mining: how its examples are made; None where they are given.
        sources: for a setting, by name, where its value comes from.
    """

    name: str
    stages: tuple[Stage, ...]
    averages: tuple[Average, ...] = ()
    dataset: str | None = None
    title_field: str | None = None
    mining: Mining | None = None
    sources: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_types(self)
        _check(self, "stages", bool(self.stages), "one stage or more")
        known: set[str] = set()
        parts: list[Stage | Average] = [*self.stages, *self.averages]
        for part in parts:
            if part.name in known:
                raise ValueError(f"The recipe {self.name!r} calls two of its parts {part.name!r}; rename one.")
            for of in part.of if isinstance(part, Average) else ():
                if of.partition("@")[0] not in known:
                    raise ValueError(
                        f"The average {part.name!r} is of {of!r}, which names no earlier part of the recipe; "
                        f"name one of {', '.join(sorted(known))}."
                    )
            known.add(part.name)

    @classmethod
    def jacolbert_v2_5(cls) -> Recipe:
        """The paper's recipe: 3.2M 32-way lines in global batches of 64, two post-trainings, two averages.

        Returns:
            The recipe, with the source of each number in ``sources``.
        """
        main = Stage(name="main", start="bclavie/JaColBERT", examples="mmarco-ja-32way.jsonl")
        post = Stage("post", "main", "post-training-with-mmarco.jsonl", warmup_steps=140, save_every=1000)
        return cls(
            name="jacolbert-v2.5",
            stages=(
                main,
                post,
                dataclasses.replace(post, name="post-without-mmarco", examples="post-training.jsonl"),
            ),
            averages=(
                Average("v2.4", ("main@best", "main@second", "main")),
                Average("v2.5", ("post", "post-without-mmarco", "main@best", "main@second", "main")),
            ),
            dataset="irds:mmarco/v2/ja/train",
            sources=_SOURCES,
        )

    @classmethod
    def as_released_code(cls) -> Recipe:
        """What the published fork does: each of its four processes sees the same every fourth line, 16 at a time.

        Returns:
            The recipe, with the source of each number in ``sources``.
        """
        paper = cls.jacolbert_v2_5()
        main = dataclasses.replace(paper.stages[0], every=4, batch_size=16)
        sources = {
            **_SOURCES,
            "every": "C, Examples.tolist: every process takes lines 0, 4, 8, ... whatever its rank",
            "batch_size": "A: 16 a process; four processes with the same lines are one batch of 16",
        }
        stages = (main, *paper.stages[1:])
        return dataclasses.replace(paper, name="jacolbert-as-released-code", stages=stages, sources=sources)

    @classmethod
    def read(cls, path: str | Path) -> Recipe:
        """Reads a recipe from YAML.

        Args:
            path: of the file.

        Returns:
            The recipe.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it is not YAML, lacks a setting, has one that is unknown (the message names the nearest), or
                one of the wrong type.
        """
        import yaml

        try:
            content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        except yaml.YAMLError as error:
            raise ValueError(f"{path} is not YAML; repair it: {' '.join(str(error).split())}.") from None
        try:
            recipe: Recipe = _build(cls, content)
            return recipe
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None

    def write(self, path: str | Path) -> None:
        """Writes the recipe as YAML, every setting spelled out; :meth:`read` gives an equal one.

        Args:
            path: of the file; one that is there is replaced.
        """
        import yaml

        content = _plain(self)
        text = yaml.safe_dump(content, allow_unicode=True, sort_keys=False, width=120)
        if yaml.safe_load(text) != content:  # PyYAML does not escape U+0085, which it reads as a line's end
            text = yaml.safe_dump(content, allow_unicode=False, sort_keys=False, width=120)
        Path(path).write_text(text, encoding="utf-8")

    def stage(self, name: str) -> Stage:
        """Gives the stage of a name.

        Args:
            name: of the stage.

        Returns:
            The stage.

        Raises:
            KeyError: there is none; the message names those there are.
        """
        for stage in self.stages:
            if stage.name == name:
                return stage
        raise KeyError(
            f"The recipe {self.name!r} has no stage {name!r}; it has {', '.join(s.name for s in self.stages)}."
        )


_SOURCES = {
    "start": "A (checkpoint), P section 3: JaColBERTv1",
    "examples": "P 3.2: 3.2M lines of ColBERTv2's 64-way MS MARCO set in Japanese; P 3.8 for post-training",
    "n_ways": "A (nway), P 3.2: the positive and 31 of 63 negatives",
    "every": "P: every line once",
    "batch_size": "A: 16 a process on four GPUs",
    "steps": "A, P: one pass, 50,000 steps",
    "schedule": "A (schedule_free), P 3.6",
    "learning_rate": "A, P table 3",
    "warmup_steps": "A, P: 2,500, 5 % of the steps; for post-training assumed, 5 % too",
    "weight_decay": "A (schedule_free_wd)",
    "max_gradient_norm": "C: gradients are not clipped with schedule-free",
    "loss": "A (kldiv_loss), P table 4",
    "teacher": "not used: imitation is no part of the paper",
    "normalize_student": "A (normalise_training_scores, minmax), P table 4",
    "normalize_teacher": "P 3.3: normalised per query, offline",
    "student_temperature": "C: none",
    "teacher_temperature": "C: none",
    "in_batch_negatives": "A (use_ib_negatives), P table 2",
    "in_batch_temperature": "not used: no in-batch negatives",
    "query_length": "A (query_maxlen)",
    "document_length": "A (doc_maxlen), P note 14",
    "precision": "A (amp), C: float16 with a gradient scaler",
    "dropout": "the 0.1 in the starting checkpoint's config, which no source changes",
    "save_every": "P: every 2,000 steps; for post-training assumed",
    "seed": "C: 12345 on every process",
}


def _check(settings: Stage | Mining | Average | Recipe, name: str, right: bool, rule: str) -> None:
    if not right:
        raise ValueError(f"{name} of {settings.name!r} must be {rule}, not {getattr(settings, name)!r}.")


def _check_types(settings: Any) -> None:  # noqa: ANN401
    for name, kind in typing.get_type_hints(type(settings)).items():
        value = getattr(settings, name)
        if not _fits(value, kind):
            raise ValueError(f"{name} of {settings.name!r} must be {_spell(kind)}, not {value!r}.")


def _fits(value: object, kind: Any) -> bool:  # noqa: ANN401
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (UnionType, typing.Union):
        return any(_fits(value, one) for one in inner)
    if origin is Literal:
        return value in inner
    if origin is tuple:
        return isinstance(value, tuple) and all(_fits(one, inner[0]) for one in value)
    if kind is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, origin or kind)


def _spell(kind: Any) -> str:  # noqa: ANN401
    if typing.get_origin(kind) is Literal:
        return " or ".join(map(repr, typing.get_args(kind)))
    return getattr(kind, "__name__", str(kind)) if typing.get_origin(kind) is None else str(kind)


def _plain(value: Any) -> Any:  # noqa: ANN401
    """Dataclasses as dicts and tuples as lists, for YAML."""
    if dataclasses.is_dataclass(value):
        return {one.name: _plain(getattr(value, one.name)) for one in dataclasses.fields(value)}
    if isinstance(value, tuple):
        return [_plain(one) for one in value]
    return dict(value) if isinstance(value, Mapping) else value


def _build(kind: Any, content: Any) -> Any:  # noqa: ANN401
    """The reverse of :func:`_plain`, with every key checked."""
    name = kind.__name__.lower()
    what = f"An {name}" if name[0] in "aeiou" else f"A {name}"
    if not isinstance(content, dict):
        raise ValueError(f"{what} must be a mapping of settings, not {content!r}.")
    fields = {one.name: one for one in dataclasses.fields(kind)}
    for key in content:
        if key not in fields:
            nearest = difflib.get_close_matches(str(key), fields, n=1, cutoff=0.0)[0]
            raise ValueError(f"{what} has no setting {key!r}; the nearest is {nearest!r}.")
    missing = [
        n for n, f in fields.items() if n not in content and f.default is f.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise ValueError(f"{what} lacks a setting; add {', '.join(map(repr, missing))}.")
    parts = {"stages": Stage, "averages": Average}
    values = {}
    for key, value in content.items():
        if key in parts and kind is Recipe:
            value = tuple(_build(parts[key], one) for one in _list(key, value))
        elif key == "mining" and value is not None:
            value = _build(Mining, value)
        elif isinstance(value, list):
            value = tuple(value)
        values[key] = value
    return kind(**values)


def _list(key: str, value: object) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError(f"{key} must be a list, not {value!r}.")
    return value
