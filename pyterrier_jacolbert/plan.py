"""The plan of ``pyterrier-jacolbert plan``: what a collection will take, as text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pyterrier_jacolbert.index.limits import COMPRESSIONS
from pyterrier_jacolbert.sizing import Prediction, Size, disk_bytes, disk_bytes_building, predict

#: The width of a predicted cell, with two numbers of threads.
_CELL = 50


def plan(
    size: Size, entries: Sequence[Mapping[str, Any]], probed: float | None = None, model: str = "the checkpoint"
) -> str:
    """What a collection will take.

    Args:
        size: of the collection.
        entries: what was measured; see :func:`pyterrier_jacolbert.sizing.measurements`.
        probed: documents a second that this machine encodes; None where that was not measured.
        model: the checkpoint that was.
    """
    return "\n".join([*_head(size), *_encoding(size, entries, probed, model), "", *_indexes(size, entries)])


def _head(size: Size) -> Iterator[str]:
    mean = size.tokens / max(1, size.documents)
    yield f"{size.documents:,} documents of {mean:.0f} tokens: {size.tokens:,} token vectors of {size.dim} numbers"
    yield ""


def _encoding(size: Size, entries: Sequence[Mapping[str, Any]], probed: float | None, model: str) -> Iterator[str]:
    yield "encoding"
    if probed is not None:
        hours = size.documents / probed / 3600
        yield f"  {hours:10,.1f} hours  this machine, {model}, as measured now: {probed:,.1f} documents a second"
    for entry in entries:
        if entry["measure"] == "encode":
            yield f"  {size.tokens / entry['value'] / 3600:10,.1f} hours  {entry['device']}, {entry['model']}"
    yield "  divided by the number of workers, where each has a device like this"


#: What is predicted of each compression: the measure, its column's head, the unit, and how many of it one is.
_COLUMNS = (
    ("build_seconds", "training and coding", "h", 1 / 3600),
    ("build_bytes", "memory to build", "GB", 1e-9),
    ("search_ms", "a query, of 100 in a frame", "ms", 1.0),
)


def _indexes(size: Size, entries: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    yield _row("index", "disk", "while building", *(head for _, head, _, _ in _COLUMNS))
    for compression in COMPRESSIONS:
        disk, peak = (f"{count(size, compression) / 1e9:,.1f} GB" for count in (disk_bytes, disk_bytes_building))
        predicted = ((predict(entries, measure, size, compression), unit, one) for measure, _, unit, one in _COLUMNS)
        yield _row(compression, disk, peak, *(_shown(*cell) for cell in predicted))
    yield "disk: by the format, right to a few in a hundred; where memory does not hold as much, a search takes several"
    yield "times as long as said here (benchmarks/RESULTS.md)"
    yield "times: by the measurements in sizing.json, on their machines; the error is that of predicting the largest"
    yield "measurement from the others, and a collection far beyond it may be further off"


def _row(name: str, disk: str, peak: str, *cells: str) -> str:
    return f"{name:8} {disk:>10} {peak:>16}   " + "  ".join(f"{cell:<{_CELL}}" for cell in cells).rstrip()


def _shown(predictions: Mapping[int, Prediction], unit: str, factor: float) -> str:
    if not predictions:
        return "not measured"
    shown = []
    for threads, found in predictions.items():
        error = "" if found.error is None else f" ± {found.error:.0%}"
        shown.append(f"{found.value * factor:,.2f} {unit}{error} ({threads} {'thread' if threads == 1 else 'threads'})")
    return ", ".join(shown)
