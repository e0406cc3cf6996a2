"""Files of n-way scored examples: reading and writing."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from pyterrier_jacolbert.index.storage.atomic import replacing
from pyterrier_jacolbert.text_files import read_lines


@dataclass(frozen=True)
class Example:
    """A query and n documents with a teacher's scores.

    Attributes:
        qid: id of the query.
        docnos: ids of the documents, ``(n,)``, the positive first.
        scores: scores of the teacher, ``(n,)``; None if no teacher has scored the documents yet.
    """

    qid: str
    docnos: tuple[str, ...]
    scores: tuple[float, ...] | None = None


class Resumable(Protocol):
    """A stream of examples that can start at any input, so that :func:`save` can resume it."""

    def outcomes(self, start: int) -> Iterator[Example | None]:
        """Yields one outcome per input, from input number ``start``: an example, or None if the input is left out."""
        ...


def read(path: str | Path) -> Iterator[Example]:
    """Reads the package's own JSONL, with ``{"qid": "q1", "docnos": ["d1", "d2"], "scores": [2.5, 0.5]}`` per line.

    Args:
        path: file to read.

    Yields:
        The examples in the order of the file.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: a line has another form, or is not UTF-8; the message gives its number.
    """
    for number, line in _json_lines(path):
        try:
            scores = line.get("scores")
            if isinstance(line["docnos"], str) or isinstance(scores, str):
                raise ValueError
            yield Example(line["qid"], tuple(line["docnos"]), None if scores is None else tuple(map(float, scores)))
        except (AttributeError, KeyError, OverflowError, TypeError, ValueError):
            raise ValueError(
                f"{path}, line {number}: expected an object with qid, docnos and scores; repair it, or "
                "read ColBERT's format with read_colbert()."
            ) from None


def read_colbert(path: str | Path) -> Iterator[Example]:
    """Reads ColBERT's JSONL, with ``[qid, [pid, score], [pid, score], ...]`` or ``[qid, pid, pid, ...]`` per line.

    Ids become strings. The positive is the first document.

    Args:
        path: file to read.

    Yields:
        The examples in the order of the file.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: a line has another form, or is not UTF-8; the message gives its number.
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
        except (OverflowError, TypeError, ValueError):
            raise ValueError(
                f"{path}, line {number}: expected [qid, [pid, score], ...]; repair it, or read the package's own "
                "format with read()."
            ) from None


def read_released(
    split: str = "M3_full_normalized",
    source: str = "answerdotai/MMARCO-japanese-32-scored-triplets",
    revision: str | None = None,
) -> Iterator[Example]:
    """Reads the examples that JaColBERTv2.5 was trained on; ir_datasets has their texts as ``mmarco/v2/ja``.

    Args:
        split: split of the dataset, such as ``"M3_full_normalized"`` (3.2M examples) or ``"M3"`` (320k).
        source: hub name of the dataset, or a folder with its parquet files.
        revision: revision on the hub.

    Yields:
        The examples in the order of the dataset.

    Raises:
        ImportError: the extra ``train`` is not installed.
        FileNotFoundError: the folder has no parquet file of the split.
    """
    import datasets

    if Path(source).is_dir():
        files = sorted(map(str, Path(source).rglob(f"{split}*.parquet")))
        if not files:
            raise FileNotFoundError(
                f"The folder {source} has no {split}*.parquet; give the folder that holds the dataset's files."
            )
        rows = datasets.load_dataset("parquet", data_files=files, split="train", streaming=True)
    else:
        rows = datasets.load_dataset(source, split=split, revision=revision, streaming=True)
    for row in rows:
        docnos = (row["pos_id"], *row["neg_ids"])
        yield Example(str(row["query_id"]), tuple(map(str, docnos)), (row["pos_score"], *row["neg_scores"]))


def save(examples: Iterable[Example] | Resumable, path: str | Path) -> Path:
    """Writes examples as they arrive, and resumes an interrupted write.

    Finished examples are kept in ``PATH.part``. With a stream of :func:`~pyterrier_jacolbert.train.mine` or
    :func:`~pyterrier_jacolbert.train.score` they are not computed again. The file appears at ``path`` once it is
    complete.

    Args:
        examples: examples, or a stream of ``mine`` or ``score``.
        path: file to write.

    Returns:
        The path.

    Raises:
        ValueError: ``PATH.part`` was written with other settings.
    """
    path = Path(path)
    part = path.with_name(path.name + ".part")
    path.parent.mkdir(parents=True, exist_ok=True)
    # The repr of a transformer may show its address, which differs in the next process.
    settings = re.sub(r" at 0x[0-9a-fA-F]+", "", repr(examples)) if hasattr(examples, "outcomes") else None
    header = {"settings": settings}
    n_finished = _recover_part(part, header) if hasattr(examples, "outcomes") else _start_part(part, header)
    stream = examples.outcomes(n_finished) if hasattr(examples, "outcomes") else iter(examples)
    with part.open("a", encoding="utf-8") as file:
        for example in stream:
            file.write(_to_line(example))
            file.flush()
    with part.open(encoding="utf-8") as lines, replacing(path) as complete:
        next(lines)
        complete.writelines(line for line in lines if line != _to_line(None))
    part.unlink()
    return path


def _json_lines(path: str | Path) -> Iterator[tuple[int, Any]]:
    for number, line in read_lines(Path(path)):
        if line.strip():
            try:
                yield number, json.loads(line)
            except json.JSONDecodeError as error:
                raise ValueError(f"{path}, line {number}: this is not JSON ({error.msg}); repair the line.") from None


def _to_line(example: Example | None) -> str:
    if example is None:
        return "null\n"
    content: dict[str, Any] = {"qid": example.qid, "docnos": example.docnos}
    if example.scores is not None:
        content["scores"] = example.scores
    return json.dumps(content, ensure_ascii=False) + "\n"


def _start_part(part: Path, header: dict[str, str | None]) -> int:
    """Starts an empty part file and returns 0, the number of its outcomes."""
    part.write_text(json.dumps(header) + "\n", encoding="utf-8")
    return 0


def _recover_part(part: Path, header: dict[str, str | None]) -> int:
    """Removes an unfinished last line from the part file, and returns the number of outcomes in it."""
    if not part.is_file() or b"\n" not in (content := part.read_bytes()):
        return _start_part(part, header)
    complete = content[: content.rindex(b"\n") + 1]
    first, *lines = complete.splitlines(keepends=True)
    if json.loads(first) != header:
        raise ValueError(f"{part} was written with other settings; remove it to start again.")
    if len(complete) < len(content):
        part.write_bytes(complete)
    return len(lines)
