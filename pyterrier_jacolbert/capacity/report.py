"""The report of ``pyterrier-jacolbert plan``: what a collection takes, as text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pyterrier_jacolbert.capacity.model import Prediction, Size, disk_bytes, disk_bytes_building, predict
from pyterrier_jacolbert.index.limits import COMPRESSIONS

#: Width of a cell with predictions for two numbers of threads.
_CELL = 50
#: Predicted columns: measure, heading, unit, and factor from the unit of the measure.
_COLUMNS = (
    ("build_seconds", "training and compression", "h", 1 / 3600),
    ("build_bytes", "memory to build", "GB", 1e-9),
    ("search_ms", "search, per query in a frame of 100", "ms", 1.0),
)


def plan(
    size: Size, entries: Sequence[Mapping[str, Any]], rate: float | None = None, model: str = "the checkpoint"
) -> str:
    """Returns the report of what a collection takes.

    Args:
        size: of the collection.
        entries: measurements; see :func:`pyterrier_jacolbert.capacity.model.measurements`.
        rate: documents per second that this machine encodes; None if it was not measured.
        model: name of the checkpoint of the rate.
    """
    return "\n".join([*_head(size), *_encoding(size, entries, rate, model), "", *_indexes(size, entries)])


def _head(size: Size) -> Iterator[str]:
    mean = size.tokens / max(1, size.documents)
    yield f"{size.documents:,} documents of {mean:.0f} tokens: {size.tokens:,} token vectors of {size.dim} dimensions"
    yield ""


def _encoding(size: Size, entries: Sequence[Mapping[str, Any]], rate: float | None, model: str) -> Iterator[str]:
    yield "encoding"
    if rate is not None:
        hours = size.documents / rate / 3600
        yield f"  {hours:10,.1f} hours  this machine, {model}, measured now: {rate:,.1f} documents per second"
    for entry in entries:
        if entry["measure"] == "encode":
            yield f"  {size.tokens / entry['value'] / 3600:10,.1f} hours  {entry['device']}, {entry['model']}"
    yield "  divide by the number of workers with such a device"


def _indexes(size: Size, entries: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    yield _row("index", "disk", "while building", *(heading for _, heading, _, _ in _COLUMNS))
    for compression in COMPRESSIONS:
        disk, peak = (f"{count(size, compression) / 1e9:,.1f} GB" for count in (disk_bytes, disk_bytes_building))
        predicted = (
            _cell(predict(entries, measure, size, compression), unit, factor) for measure, _, unit, factor in _COLUMNS
        )
        yield _row(compression, disk, peak, *predicted)
    yield "disk: from the format, to within a few percent; if memory is smaller than the index, a search takes several"
    yield "times as long as stated here (benchmarks/RESULTS.md)"
    yield "times: predicted from the project's own measurements, on their machines; the error is that of predicting the"
    yield "largest measurement from the others, and may be greater far beyond it"


def _row(name: str, disk: str, peak: str, *cells: str) -> str:
    return f"{name:8} {disk:>10} {peak:>16}   " + "  ".join(f"{cell:<{_CELL}}" for cell in cells).rstrip()


def _cell(predictions: Mapping[int, Prediction], unit: str, factor: float) -> str:
    if not predictions:
        return "not measured"
    values = []
    for threads, found in predictions.items():
        error = "" if found.error is None else f" ± {found.error:.0%}"
        values.append(
            f"{found.value * factor:,.2f} {unit}{error} ({threads} {'thread' if threads == 1 else 'threads'})"
        )
    return ", ".join(values)
