"""N-way scored examples in files: read, kept and validated."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pandas as pd

from pyterrier_jacolbert.frames import DOCNO, QID

#: How many problems a message of :func:`validate` names.
_NAMED_PROBLEMS = 5


@dataclass(frozen=True)
class Example:
    """A query and n documents with a teacher's scores.

    Attributes:
        qid: the query.
        docnos: ``(n,)``, the positive first.
        scores: ``(n,)``, the teacher's; None before a teacher has scored them.
    """

    qid: str
    docnos: tuple[str, ...]
    scores: tuple[float, ...] | None = None


class Resumable(Protocol):
    """A stream of examples that can be taken up in its middle: :func:`save` continues such a stream."""

    def outcomes(self, start: int) -> Iterator[Example | None]:
        """What becomes of the inputs from number ``start`` on: one example each, or None for one left out."""
        ...


def read(path: str | Path) -> Iterator[Example]:
    """Reads the project's own JSONL: ``{"qid": "q1", "docnos": ["d1", "d2"], "scores": [2.5, 0.5]}`` a line.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a line that is something else, named by its number.
    """
    for number, line in _json_lines(path):
        try:
            scores = line.get("scores")
            yield Example(line["qid"], tuple(line["docnos"]), None if scores is None else tuple(map(float, scores)))
        except (AttributeError, KeyError, TypeError, ValueError):
            raise ValueError(
                f"{path}, line {number}: this is not an object with qid, docnos and scores; make it one, "
                "or take read_colbert."
            ) from None


def read_colbert(path: str | Path) -> Iterator[Example]:
    """Reads ColBERT's JSONL: ``[qid, [pid, score], [pid, score], ...]`` a line, or pids without scores.

    Ids become strings. The positive is the first document.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a line that is something else, named by its number.
    """
    for number, line in _json_lines(path):
        try:
            qid, *documents = line
            scored = [isinstance(document, list) for document in documents]
            if not documents or any(scored) != all(scored) or isinstance(qid, (list, dict)):
                raise ValueError
            if all(scored):
                docnos, scores = zip(*documents, strict=True)
                yield Example(str(qid), tuple(map(str, docnos)), tuple(map(float, scores)))
            else:
                yield Example(str(qid), tuple(map(str, documents)))
        except (TypeError, ValueError):
            raise ValueError(
                f"{path}, line {number}: this is not [qid, [pid, score], ...]; make it one, or take read."
            ) from None


def read_released(
    split: str = "M3_full_normalized",
    source: str = "answerdotai/MMARCO-japanese-32-scored-triplets",
    revision: str | None = None,
) -> Iterator[Example]:
    """Reads the examples that JaColBERTv2.5 was trained on; their texts are ``mmarco/v2/ja`` in ir_datasets.

    Args:
        split: one of the data set's, such as ``"M3_full_normalized"`` (3.2M) or ``"M3"`` (320k).
        source: the hub's name of the data set, or a folder of its parquet files.
        revision: the hub's revision.

    Raises:
        ImportError: the extra ``train`` is not installed.
    """
    import datasets

    if Path(source).is_dir():
        files = sorted(map(str, Path(source).rglob(f"{split}*.parquet")))
        if not files:
            raise FileNotFoundError(
                f"There is no {split}*.parquet in {source}; give the folder of the data set's files."
            )
        rows = datasets.load_dataset("parquet", data_files=files, split="train", streaming=True)
    else:
        rows = datasets.load_dataset(source, split=split, revision=revision, streaming=True)
    for row in rows:
        docnos = (row["pos_id"], *row["neg_ids"])
        yield Example(str(row["query_id"]), tuple(map(str, docnos)), (row["pos_score"], *row["neg_scores"]))


def save(examples: Iterable[Example] | Resumable, path: str | Path) -> Path:
    """Writes examples as they come, and takes up a write that was interrupted.

    What is done so far stands in ``PATH.part`` and is not made again where the stream is one of :func:`mine` or
    :func:`score`; the file appears at ``path`` when it is whole.

    Args:
        examples: any, or the stream of :func:`mine` or :func:`score`.
        path: the file to write.

    Returns:
        The path.

    Raises:
        ValueError: what stands in ``PATH.part`` was made with other settings.
    """
    path = Path(path)
    part = path.with_name(path.name + ".part")
    path.parent.mkdir(parents=True, exist_ok=True)
    # A transformer without a repr of its own shows its address, which the next process does not repeat.
    settings = re.sub(r" at 0x[0-9a-fA-F]+", "", repr(examples)) if hasattr(examples, "outcomes") else None
    head = {"settings": settings}
    done = _recover(part, head) if hasattr(examples, "outcomes") else _start(part, head)
    stream = examples.outcomes(done) if hasattr(examples, "outcomes") else iter(examples)
    with part.open("a", encoding="utf-8") as file:
        for example in stream:
            file.write(_line(example))
            file.flush()
    with (
        part.open(encoding="utf-8") as lines,
        path.with_name(path.name + ".whole").open("w", encoding="utf-8") as whole,
    ):
        next(lines)
        whole.writelines(line for line in lines if line != _line(None))
        whole.flush()
        os.fsync(whole.fileno())
    path.with_name(path.name + ".whole").replace(path)
    part.unlink()
    return path


def validate(
    examples: Iterable[Example],
    *,
    n_ways: int,
    scored: bool = True,
    qrels: pd.DataFrame | None = None,
    queries: Collection[str] | None = None,
    documents: Collection[str] | None = None,
) -> int:
    """Checks examples before training; lines are numbered from 1.

    Args:
        examples: in the order of their file.
        n_ways: documents that each must have.
        scored: whether each must have a teacher's scores: finite, and not all alike (min-max is undefined there).
        qrels: where given, the first document of each must be judged relevant.
        queries: the qids there are, where given.
        documents: the docnos there are, where given.

    Returns:
        The number of examples.

    Raises:
        ValueError: one sentence with the first problems, each with its line, and their number.
    """
    relevant = None if qrels is None else set(zip(*qrels[qrels["label"] > 0][[QID, DOCNO]].T.values, strict=True))
    problems: list[str] = []
    n_problems = number = 0
    for number, example in enumerate(examples, start=1):
        for problem in _problems(example, n_ways, scored, relevant, queries, documents):
            n_problems += 1
            if len(problems) < _NAMED_PROBLEMS:
                problems.append(f"line {number}: {problem}")
    if n_problems:
        more = f"; and {n_problems - len(problems)} more" if n_problems > len(problems) else ""
        raise ValueError(
            f"{n_problems} problem{'s' * (n_problems > 1)} in {number} examples; repair them or leave them out: "
            f"{'; '.join(problems)}{more}."
        )
    if number == 0:
        raise ValueError("There are no examples to train on; make some with pyterrier_jacolbert.train.examples.mine.")
    return number


def _problems(
    example: Example,
    n_ways: int,
    scored: bool,
    relevant: set[tuple[str, str]] | None,
    queries: Collection[str] | None,
    documents: Collection[str] | None,
) -> Iterator[str]:
    if len(example.docnos) != n_ways:
        yield f"query {example.qid!r} has {len(example.docnos)} documents, not {n_ways}"
    repeated = [docno for number, docno in enumerate(example.docnos) if docno in example.docnos[:number]]
    if repeated:
        yield f"document {repeated[0]!r} is repeated"
    if queries is not None and example.qid not in queries:
        yield f"query {example.qid!r} is not among the queries"
    absent = [] if documents is None else [docno for docno in example.docnos if docno not in documents]
    if absent:
        yield f"document {absent[0]!r} is not in the collection"
    if relevant is not None and (not example.docnos or (example.qid, example.docnos[0]) not in relevant):
        yield f"the first document of query {example.qid!r} is not judged relevant, so the positive is missing"
    if scored and example.scores is None:
        yield f"query {example.qid!r} has no scores"
    elif scored and example.scores is not None:
        if len(example.scores) != len(example.docnos):
            yield f"query {example.qid!r} has {len(example.scores)} scores for {len(example.docnos)} documents"
        if not all(map(math.isfinite, example.scores)):
            yield f"query {example.qid!r} has a score that is NaN or infinite"
        elif len(set(example.scores)) < 2:
            yield f"the teacher's scores of query {example.qid!r} are all alike, for which min-max is undefined"


def _json_lines(path: str | Path) -> Iterator[tuple[int, Any]]:
    with Path(path).open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                try:
                    yield number, json.loads(line)
                except json.JSONDecodeError as error:
                    raise ValueError(f"{path}, line {number}: this is not JSON ({error.msg}); repair it.") from None


def _line(example: Example | None) -> str:
    if example is None:
        return "null\n"
    content: dict[str, Any] = {"qid": example.qid, "docnos": example.docnos}
    if example.scores is not None:
        content["scores"] = example.scores
    return json.dumps(content, ensure_ascii=False) + "\n"


def _start(part: Path, head: dict[str, Any]) -> int:
    part.write_text(json.dumps(head) + "\n", encoding="utf-8")
    return 0


def _recover(part: Path, head: dict[str, Any]) -> int:
    """How many outcomes stand in the part file; cuts off a line that was not finished."""
    if not part.is_file() or b"\n" not in (content := part.read_bytes()):
        return _start(part, head)
    whole = content[: content.rindex(b"\n") + 1]
    first, *lines = whole.splitlines(keepends=True)
    if json.loads(first) != head:
        raise ValueError(f"{part} was made with other settings; remove it to start again.")
    if len(whole) < len(content):
        part.write_bytes(whole)
    return len(lines)
