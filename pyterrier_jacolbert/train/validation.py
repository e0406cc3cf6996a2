"""Checks of examples before training: which are invalid, and which teach nothing."""

from __future__ import annotations

import math
import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from pyterrier_jacolbert.columns import DOCNO, QID, check_text
from pyterrier_jacolbert.japanese.normalization import normalize
from pyterrier_jacolbert.train.example_files import Example, save
from pyterrier_jacolbert.train.stages import Loss

Degenerate = Literal["drop", "error"]

#: Differs from every text, also from a None in place of one.
_MISSING: Any = object()

#: Maximum number of problems in a message.
_MAX_REPORTED_PROBLEMS = 5


def validate(
    examples: Iterable[Example],
    *,
    n_ways: int,
    scored: bool = True,
    loss: Loss = "kl",
    normalize_student: bool = True,
    normalize_teacher: bool = True,
    degenerate: Degenerate = "error",
    qrels: pd.DataFrame | None = None,
    queries: Collection[str] | None = None,
    documents: Collection[str] | None = None,
    out: str | Path | None = None,
) -> int:
    """Checks examples before training.

    An example is degenerate if it is well-formed but teaches nothing under the given loss:

    - With ``"kl"`` and ``normalize_teacher``, the teacher's scores are all equal, so their min-max normalisation is
      undefined. Ties are compared in float32, in which losses are computed. They are no fault with other losses.
    - Fewer than two documents, or three with ``normalize_student``, have different texts; min-max makes two scores 0
      and 1. Imitation accepts any, and so does ``"contrastive"``, whose negatives are the documents of a batch.

    Args:
        examples: examples in the order of their file.
        n_ways: required number of documents per example.
        scored: whether to require a teacher's scores that are finite in float32, with the losses that use them
            (``"kl"`` and ``"margin_mse"``).
        loss: loss of the stage.
        normalize_student: whether the loss min-max normalises the student's scores.
        normalize_teacher: whether the loss min-max normalises the teacher's scores.
        degenerate: ``"error"`` rejects degenerate examples and examples with copies of a document; ``"drop"`` leaves
            out the former and keeps the latter, with a warning that counts them and names the first.
        qrels: relevance judgements; if given, the first document of each example must be judged relevant.
        queries: known qids, or a mapping from qid to text; None accepts any.
        documents: known docnos, or a mapping from docno to text, whose texts are compared after normalisation and
            regardless of white space; None accepts any.
        out: file to which the examples that pass are written, as by :func:`~pyterrier_jacolbert.train.save`.

    Returns:
        The number of examples that pass.

    Raises:
        ValueError: an example has a problem, or none is left. The message is one sentence with the number of problems
            and the first of them, with their lines counted from 1.
    """
    rules = Rules(
        n_ways=n_ways,
        loss=loss,
        scored=scored and loss in ("kl", "margin_mse"),
        normalize_student=normalize_student,
        normalize_teacher=normalize_teacher,
        relevant=None if qrels is None else _relevant_pairs(qrels),
        queries=LookedUpTexts(queries, "query") if isinstance(queries, Mapping) else queries,
        documents=LookedUpTexts(documents, "document") if isinstance(documents, Mapping) else documents,
    )
    checker = ExampleChecker(rules, degenerate)

    def passing() -> Iterator[Example]:
        yield from filter(checker.accepts, examples)
        checker.finish()

    if out is not None:
        try:
            save(passing(), out)
        finally:
            Path(f"{out}.part").unlink(missing_ok=True)
        return checker.n_accepted
    return sum(1 for _ in passing())


def _relevant_pairs(qrels: pd.DataFrame) -> set[tuple[str, str]]:
    return set(zip(*qrels[qrels["label"] > 0][[QID, DOCNO]].T.values, strict=True))


class LookedUpTexts(Collection[str]):
    """Ids of a mapping that were looked up. Each text is looked up once, and only a hash of it is kept.

    Args:
        texts: text by id.
        kind: what the texts are, for messages.
    """

    def __init__(self, texts: Mapping[str, str], kind: str) -> None:
        self._texts = texts
        self._kind = kind
        self._hashes: dict[str, int | None] = {}

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and self._hash(key) is not None

    def __iter__(self) -> Iterator[str]:
        return (key for key, value in self._hashes.items() if value is not None)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def first_copies(self, keys: Sequence[str]) -> list[str]:
        """Returns, for each known id, the first of the ids whose text is the same."""
        first: dict[int | None, str] = {}
        originals = [first.setdefault(self._hash(key), key) for key in keys]
        return [
            original if original == key or fold_text(self._texts[original]) == fold_text(self._texts[key]) else key
            for original, key in zip(originals, keys, strict=True)
        ]

    def _hash(self, key: str) -> int | None:
        if key not in self._hashes:
            text = self._texts.get(key, _MISSING)
            if text is not _MISSING:
                check_text(text, f"text of {self._kind} {key!r}")
            self._hashes[key] = None if text is _MISSING else hash(fold_text(text))
        return self._hashes[key]


def fold_text(text: str) -> str:
    """Returns what tokenizers of Japanese tell apart: the normalised text, without differences in white space."""
    return " ".join(normalize(text).split())


@dataclass(frozen=True)
class Rules:
    """Rules that examples must fulfil; see :func:`validate`."""

    n_ways: int
    loss: Loss
    scored: bool
    normalize_student: bool
    normalize_teacher: bool
    relevant: set[tuple[str, str]] | None = None
    queries: Collection[str] | None = None
    documents: Collection[str] | None = None

    def faults(self, example: Example) -> Iterator[str]:
        """Yields what is wrong with an example, whatever the loss makes of its scores."""
        if len(example.docnos) != self.n_ways:
            yield f"query {example.qid!r} has {len(example.docnos)} documents, not {self.n_ways}"
        repeated = [docno for number, docno in enumerate(example.docnos) if docno in example.docnos[:number]]
        if repeated:
            yield f"document {repeated[0]!r} is repeated"
        try:
            if self.queries is not None and example.qid not in self.queries:
                yield f"query {example.qid!r} is not among the queries"
            missing = [] if self.documents is None else [d for d in example.docnos if d not in self.documents]
            if missing:
                yield f"document {missing[0]!r} is not in the collection"
        except ValueError as error:  # of a text that is none
            yield str(error).removesuffix(".")
        if self.relevant is not None and (not example.docnos or (example.qid, example.docnos[0]) not in self.relevant):
            yield f"the first document of query {example.qid!r} is not judged relevant, so there is no positive"
        if self.scored:
            yield from self._score_faults(example)

    def _score_faults(self, example: Example) -> Iterator[str]:
        owner = f"query {example.qid!r} has"
        if example.scores is None:
            yield f"{owner} no scores"
            return
        if len(example.scores) != len(example.docnos):
            yield f"{owner} {len(example.scores)} scores for {len(example.docnos)} documents"
        try:
            finite = all(map(math.isfinite, example.scores))
        except (TypeError, OverflowError):
            yield f"{owner} a score that is not a number of float32"
            return
        if not finite:
            yield f"{owner} a score that is NaN or infinite"
        elif example.scores:
            scores = _to_float32(example.scores)
            with np.errstate(over="ignore", invalid="ignore"):
                spread = scores.max() - scores.min()
                squared = spread * spread
            if not np.isfinite(scores).all():
                yield f"{owner} the score {max(example.scores, key=abs):.6g}, which is beyond float32"
            elif not np.isfinite(spread):
                yield f"{owner} scores whose difference is beyond float32"
            elif self.loss == "margin_mse" and not self.normalize_teacher and not np.isfinite(squared):
                yield f"{owner} scores whose squared difference is beyond float32"

    def degeneracy(self, example: Example, copies: list[str]) -> str | None:
        """Returns why an example without faults, but perhaps with copies, teaches nothing; None if it teaches."""
        if self.scored and self.loss == "kl" and self.normalize_teacher and example.scores is not None:
            if len(set(_to_float32(example.scores).tolist())) < 2:
                where = "" if len(set(example.scores)) < 2 else " in float32"
                return (
                    f"the scores of query {example.qid!r} are all equal{where}, so min-max normalisation is undefined"
                )
        n_texts = len(example.docnos) - len(copies)
        if copies and self.loss != "contrastive" and n_texts < (3 if self.normalize_student else 2):
            return f"the documents of query {example.qid!r} have only {n_texts} different texts ({copies[0]})"
        return None

    def copies(self, example: Example) -> list[str]:
        """Returns a description of each document that has the text of an earlier one."""
        if self.loss == "imitation" or not isinstance(self.documents, LookedUpTexts):
            return []
        originals = self.documents.first_copies(example.docnos)
        return [
            f"document {docno!r} has the text of document {original!r}"
            for docno, original in zip(example.docnos, originals, strict=True)
            if docno != original
        ]


def _to_float32(scores: Iterable[float]) -> np.ndarray:
    with np.errstate(over="ignore", under="ignore"):
        return np.asarray(scores, dtype=np.float64).astype(np.float32)


class ExampleChecker:
    """Checks examples one by one, and reports at the end.

    Args:
        rules: what an example must fulfil.
        degenerate: whether degenerate examples are left out or are errors.
    """

    def __init__(self, rules: Rules, degenerate: Degenerate) -> None:
        if degenerate not in ("drop", "error"):
            raise ValueError(f"degenerate must be 'drop' or 'error', not {degenerate!r}.")
        self.n_accepted = 0
        self._n_examples = 0
        self._rules = rules
        self._drops = degenerate == "drop"
        self._problems = _Findings()
        self._degenerate = _Findings()
        self._copies = _Findings()

    def accepts(self, example: Example) -> bool:
        """Returns whether to train on the next example."""
        self._n_examples += 1
        n_before = self._problems.n
        for fault in self._rules.faults(example):
            self._problems.add(self._n_examples, fault)
        if self._problems.n > n_before:
            return False
        copies = self._rules.copies(example)
        degeneracy = self._rules.degeneracy(example, copies)
        if degeneracy is not None:
            self._degenerate.add(self._n_examples, degeneracy)
            return False
        if copies:
            self._copies.add(self._n_examples, copies[0])
        self.n_accepted += 1
        return True

    def finish(self) -> None:
        """Reports what was found.

        Raises:
            ValueError: examples have problems, or none is left.

        Warns:
            UserWarning: examples are left out, or have copies.
        """
        problems, remedy = self._problems, "repair or remove the lines"
        if not self._drops:
            if self._degenerate.n or self._copies.n:
                remedy += ", or leave out those that teach nothing with degenerate='drop'"
            problems = problems + self._degenerate + self._copies
        if problems.n:
            raise ValueError(
                f"{problems.n} problem{'s' * (problems.n > 1)} in {self._n_examples} examples; {remedy}: {problems}."
            )
        if not self._n_examples:
            raise ValueError("There are no examples to train on; make some with pyterrier_jacolbert.train.mine.")
        if not self.n_accepted:
            raise ValueError(
                f"None of the {self._n_examples} examples teaches anything, so there is nothing to train on; score "
                f"them with another teacher, or mine others: {self._degenerate}."
            )
        for findings, text in (
            (self._degenerate, "teach nothing and are left out"),
            (self._copies, "have documents with the same text and are kept"),
        ):
            if findings.n:
                warnings.warn(f"{findings.n} of {self._n_examples} examples {text}: {findings}.", stacklevel=3)


class _Findings:
    """A count of findings, and the first ones."""

    def __init__(self) -> None:
        self.n = 0
        self._first: list[tuple[int, str]] = []

    def add(self, line: int, text: str) -> None:
        self.n += 1
        if len(self._first) < _MAX_REPORTED_PROBLEMS:
            self._first.append((line, text))

    def __add__(self, other: _Findings) -> _Findings:
        total = _Findings()
        total.n = self.n + other.n
        total._first = sorted(self._first + other._first, key=lambda found: found[0])[:_MAX_REPORTED_PROBLEMS]
        return total

    def __str__(self) -> str:
        more = f"; and {self.n - len(self._first)} more" if self.n > len(self._first) else ""
        return "; ".join(f"line {line}: {text}" for line, text in self._first) + more
