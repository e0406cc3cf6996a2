"""Measured beside published: the tables of a report, as data."""

from __future__ import annotations

from dataclasses import dataclass

from pyterrier_jacolbert.suite.evaluate import Results, TaskResult
from pyterrier_jacolbert.suite.protocols import PAPER_TASKS
from pyterrier_jacolbert.suite.published import Published, published, same_model

_LABELS = {"AP@10": "MAP@10", "RR@10": "MRR@10", "Success@10": "Hit@10", "R@1": "R@1"}


@dataclass(frozen=True)
class Row:
    """A line of a table.

    Attributes:
        name: the system or model.
        cells: the other cells, as text.
        measured: whether it was measured here.
        value: what the table is sorted by.
    """

    name: str
    cells: tuple[str, ...]
    measured: bool
    value: float


@dataclass(frozen=True)
class Table:
    """A table with the notes that its values need.

    Attributes:
        title: what it is of.
        header: names of the columns.
        rows: best first.
        notes: sentences below it.
    """

    title: str
    header: tuple[str, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...]


def label(measure: str) -> str:
    """A measure's name as the papers write it."""
    return _LABELS.get(measure, measure)


def tables(results: Results) -> list[Table]:
    """All tables of a report: the means of the paper's five tasks if a system has one, then one a task."""
    mean = mean_table(results)
    return [*([mean] if mean is not None else []), *(task_table(result, results) for result in results.tasks.values())]


def task_table(result: TaskResult, results: Results) -> Table:
    """A task: what was measured, and every published value of the task's measure.

    A measured system whose name is a published model's has the published value of the source beside it that
    was evaluated in the same way, if there is one, and the difference.
    """
    protocol = result.protocol
    tested = results.baseline is not None and len(result.systems) > 1
    rows = []
    for name, measured in result.systems.items():
        value = measured.values[protocol.measure]
        beside = _beside(name, result)
        others = [_number(measured.values[measure]) for measure in protocol.other_measures]
        p = measured.p_values.get(protocol.measure)
        significance = [("baseline" if name == results.baseline else "" if p is None else f"{p:.2g}")] if tested else []
        published_cell = "" if beside is None else _as_published(beside.scores[protocol.task][protocol.measure])
        difference = (
            ""
            if beside is None
            else f"{value - beside.scores[protocol.task][protocol.measure]:+.4f}".replace("0.", ".", 1)
        )
        cells = (_number(value), published_cell, difference, *others, *significance, "measured here")
        rows.append(Row(name, cells, True, value))
    for row in _published_on(protocol.task, protocol.measure):
        scores = row.scores[protocol.task]
        others = [_as_published(scores[measure]) if measure in scores else "" for measure in protocol.other_measures]
        marks = _marks(row, protocol.task)
        cells = (
            "",
            _as_published(scores[protocol.measure]) + marks,
            "",
            *others,
            *([""] if tested else []),
            row.source_title,
        )
        rows.append(Row(row.model, cells, False, scores[protocol.measure]))
    rows.sort(key=lambda row: -row.value)
    header = (
        "system",
        label(protocol.measure),
        "published",
        "difference",
        *map(label, protocol.other_measures),
        *(["p"] if tested else []),
        "source",
    )
    title = f"{protocol.task}: {label(protocol.measure)}, {protocol.protocol}"
    return Table(title, header, tuple(rows), tuple(_notes(result, rows)))


def mean_table(results: Results) -> Table | None:
    """The five tasks of the paper and their mean, beside the published rows that have all five; None without any."""
    means = {name: mean for name in results.systems() if (mean := results.mean(name)) is not None}
    if not means:
        return None
    measures = {task: results.tasks[task].protocol.measure for task in PAPER_TASKS}
    rows = [
        Row(
            name,
            (
                _number(mean),
                *(_number(results.tasks[task].systems[name].values[measures[task]]) for task in PAPER_TASKS),
                "measured here",
            ),
            True,
            mean,
        )
        for name, mean in means.items()
    ]
    for row in published():
        if row.mean is not None:
            values = (_as_published(row.scores[task][measures[task]]) + _marks(row, task) for task in PAPER_TASKS)
            rows.append(Row(row.model, (_as_published(row.mean), *values, row.source_title), False, row.mean))
    rows.sort(key=lambda row: -row.value)
    header = ("system", "mean", *(f"{task} {label(measures[task])}" for task in PAPER_TASKS), "source")
    notes = [_IN_DOMAIN, _WITHOUT_PROJECTION]
    if results.protocol == "corrected":
        notes.append("Published means hold two columns without the projection; with JQaRA's .642, .752 would be .757.")
    return Table(f"The paper's five tasks, {results.protocol}", header, tuple(rows), tuple(notes))


_IN_DOMAIN = "* in-domain: the model was trained on the task's training split."
_WITHOUT_PROJECTION = (
    "† made without the model's projection (or without [MASK] positions too), by an evaluator that loaded the "
    "checkpoint without its linear layer; not to be reached by a correct one. `--protocol paper-v1` does the same."
)


def _notes(result: TaskResult, rows: list[Row]) -> list[str]:
    protocol = result.protocol
    what = (
        f"{protocol.candidates} candidates for each query, re-ranked"
        if protocol.stage == "rerank"
        else f"all {protocol.documents:,} documents searched"
    )
    lengths = protocol.max_document_length or "as many as the checkpoint says"
    notes = [
        f"{protocol.dataset}, {result.queries:,} queries, {what}. The protocol's encoding: title and text with "
        f"{protocol.separator!r} between, document tokens {lengths}, [MASK] positions by the rule "
        f"{protocol.query_length!r}, {'with' if protocol.projection else 'without'} projection."
    ]
    if result.queries != protocol.queries:
        notes.append(
            f"The benchmark has {protocol.queries:,} queries; the judgements given here have {result.queries:,}."
        )
    if protocol.note:
        notes.append(protocol.note)
    published_cells = "".join(row.cells[1] for row in rows)
    notes += [note for mark, note in (("*", _IN_DOMAIN), ("†", _WITHOUT_PROJECTION)) if mark in published_cells]
    return notes


def _published_on(task: str, measure: str) -> list[Published]:
    return [row for row in published() if measure in row.scores.get(task, {})]


def _beside(name: str, result: TaskResult) -> Published | None:
    """The published row of a model that was evaluated as it was here, if there is one; else any."""
    protocol = result.protocol
    found = [row for row in _published_on(protocol.task, protocol.measure) if same_model(name, row.model)]
    same = [row for row in found if (protocol.task in row.without_projection) == (not protocol.projection)]
    return next(iter([*same, *found]), None)


def _marks(row: Published, task: str) -> str:
    return ("*" if task in row.in_domain else "") + ("†" if task in row.without_projection else "")


def _number(value: float) -> str:
    text = f"{value:.4f}"
    return text[1:] if text.startswith("0.") else text


def _as_published(value: float) -> str:
    """A published value with the three or four digits that it has."""
    return _number(value)[:-1] if round(value, 3) == value else _number(value)
