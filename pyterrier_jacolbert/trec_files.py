"""TREC's formats of runs and judgements: one reader and one writer, without quoting and without missing values.

Fields are separated by spaces and tabs, and everything else belongs to a field, so the ids ``NA``, ``null`` and ``"a``
are read as they are.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from pyterrier_jacolbert.columns import check_text
from pyterrier_jacolbert.text_files import read_lines

#: qid, docno and score of a line of a run.
Row = tuple[str, str, float]

#: Characters that no field can hold: white space, which includes all line ends; NUL and ESC, by which other encodings
#: than UTF-8 are recognised.
_SEPARATORS = re.compile(r"[\s\0\x1b]")
_BYTE_ORDER_MARK = "\ufeff"
_LARGEST_LABEL = 2**31 - 1

_Row = TypeVar("_Row")


def check_id(value: object, kind: str) -> str:
    """Returns an id if a line of a run or of judgements can hold it.

    Args:
        value: the id.
        kind: ``"qid"`` or ``"docno"``.

    Raises:
        ValueError: the id is not a string, is empty, or holds white space, a line end, NUL, ESC or a lone surrogate; or
            a qid begins with a byte order mark, which readers drop at the start of a line.
    """
    text = check_text(value, f"{kind} {value!r}")
    if not text:
        raise ValueError(f'A {kind} is "", which a run cannot hold; give it a name.')
    found = _SEPARATORS.search(text)
    if found is None and kind == "qid" and text.startswith(_BYTE_ORDER_MARK):
        found = re.match(_BYTE_ORDER_MARK, text)
    if found is not None:
        raise ValueError(
            f"The {kind} {text!r} holds U+{ord(found[0]):04X} at character {found.start()}, which the lines of runs "
            f"and judgements cannot represent; rename it, for example with {kind}.replace({found[0]!r}, '_')."
        )
    return text


def check_ids_of(qids: Iterable[object], docnos: Iterable[object] = ()) -> None:
    """Checks ids with :func:`check_id`, each distinct one once."""
    for kind, values in (("qid", qids), ("docno", docnos)):
        for value in dict.fromkeys(values):
            check_id(value, kind)


def run_lines(rows: Iterable[Row], tag: str) -> Iterator[str]:
    """Yields the lines of a run, with ranks from 0 in the order of the rows.

    Args:
        rows: qid, docno and score; those of a query follow each other.
        tag: name of the system.

    Raises:
        ValueError: see :func:`check_id`; or a score is NaN, or a query has a document twice.
    """
    docnos: dict[str, set[str]] = {}
    for qid, docno, score in rows:
        of_query = docnos.setdefault(qid, set())
        _check_row(qid, docno, score, of_query)
        yield f"{check_id(qid, 'qid')} Q0 {check_id(docno, 'docno')} {len(of_query) - 1} {score!r} {tag}\n"


def read_run_rows(path: Path) -> list[Row]:
    """Reads a run: qid, docno and score of each line, ``QID Q0 DOCNO RANK SCORE TAG``.

    Args:
        path: of the file; a name that ends in ``.gz`` is decompressed.

    Raises:
        ValueError: a line has another form, is not UTF-8, has the score NaN or repeats a document, and the message
            gives its number; or there are no lines.
    """
    docnos: dict[str, set[str]] = {}

    def parse(fields: list[str]) -> Row:
        qid, _, docno, rank, score, _ = fields
        float(rank)  # a docno with white space would shift the fields
        row = qid, docno, float(score)
        _check_row(*row, docnos.setdefault(qid, set()))
        return row

    return _read(path, (6,), parse)


def read_qrels_rows(path: Path, *, short: bool = False) -> list[tuple[str, str, int]]:
    """Reads judgements: qid, docno and label of each line, ``QID 0 DOCNO LABEL``.

    Args:
        path: of the file; a name that ends in ``.gz`` is decompressed.
        short: whether lines may also be ``QID DOCNO LABEL``, or ``QID DOCNO`` with the label 1.

    Raises:
        ValueError: a line has another form, is not UTF-8 or gives a document another label than an earlier one, and the
            message gives its number; or there are no lines.
    """
    labels: dict[tuple[str, str], int] = {}

    def parse(fields: list[str]) -> tuple[str, str, int]:
        qid, docno, text = (*fields, "1") if len(fields) == 2 else (fields[0], *fields[-2:])
        label = int(text)
        if abs(label) > _LARGEST_LABEL:
            raise ValueError(f"the label {label} has more than 32 bits")
        if labels.setdefault((qid, docno), label) != label:
            raise ValueError(f"an earlier line gives the label {labels[qid, docno]}")
        return qid, docno, label

    return list(dict.fromkeys(_read(path, (2, 3, 4) if short else (4,), parse)))


def check_rows(rows: Iterable[Row]) -> None:
    """Checks the rows of a run that does not come from lines; see :func:`read_run_rows`."""
    docnos: dict[str, set[str]] = {}
    for qid, docno, score in rows:
        _check_row(qid, docno, score, docnos.setdefault(qid, set()))


def _check_row(qid: str, docno: str, score: float, docnos: set[str]) -> None:
    """Checks a row of a run, and adds its docno to those of its query."""
    if math.isnan(score):
        raise ValueError(f"the score of docno {docno!r} for qid {qid!r} is NaN, which has no rank")
    if docno in docnos:
        raise ValueError(f"qid {qid!r} has docno {docno!r} twice")
    docnos.add(docno)


def _read(path: Path, n_fields: tuple[int, ...], parse: Callable[[list[str]], _Row]) -> list[_Row]:
    rows = []
    for number, line in read_lines(path):
        fields = re.findall(r"[^ \t]+", line)
        if not fields:
            continue
        try:
            if len(fields) not in n_fields:
                raise ValueError(f"it has {len(fields)} fields instead of {' or '.join(map(str, n_fields))}")
            rows.append(parse(fields))
        except ValueError as error:
            raise ValueError(f"line {number} is {line[:80]!r}: {error}") from None
    if not rows:
        raise ValueError("it is empty")
    return rows
