"""Tables of a report, as data: measured results next to published ones."""

from __future__ import annotations

from dataclasses import dataclass

from pyterrier_jacolbert.evaluation.protocols import PAPER_TASKS
from pyterrier_jacolbert.evaluation.published import Published, published, same_model
from pyterrier_jacolbert.evaluation.results import Results, SystemResult, TaskResult

_LABELS = {"AP@10": "MAP@10", "RR@10": "MRR@10", "Success@10": "Hit@10"}

_THIS_EVALUATION = "this evaluation"
_IN_DOMAIN = "* in-domain: the model was trained on the task's training split."
_WITHOUT_PROJECTION = (
    "† computed without the model's projection (in some cases also without [MASK] positions), because the evaluator "
    "loaded the checkpoint without its linear layer. A correct evaluator cannot reproduce this value; "
    "`--protocol paper-v1` evaluates in the same way."
)


@dataclass(frozen=True)
class Row:
    """A row of a table.

    Attributes:
        name: name of the system or model.
        cells: texts of the other cells.
        measured: whether this evaluation measured the values.
        value: sort key of the table.
    """

    name: str
    cells: tuple[str, ...]
    measured: bool
    value: float


@dataclass(frozen=True)
class Table:
    """A table with the notes that explain its values.

    Attributes:
        title: title of the table.
        header: names of the columns.
        rows: rows, best first.
        notes: sentences below the table.
    """

    title: str
    header: tuple[str, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...]


def label(measure: str) -> str:
    """Returns a measure's name as the papers write it."""
    return _LABELS.get(measure, measure)


def tables(results: Results) -> list[Table]:
    """Builds all tables of a report: the means over the paper's five tasks (if available), then a table per task."""
    mean = mean_table(results)
    return [*([mean] if mean is not None else []), *(task_table(result, results) for result in results.tasks.values())]


def task_table(result: TaskResult, results: Results) -> Table:
    """Builds the table of a task from the measured results and all published values of the task's measure.

    A measured system with the name of a published model also shows the published value and the difference from it,
    preferably from a source that evaluated the model in the same way.
    """
    protocol = result.protocol
    with_tests = results.baseline is not None and len(result.systems) > 1
    rows = [
        _measured_row(name, system_result, result, results.baseline if with_tests else None)
        for name, system_result in result.systems.items()
    ]
    rows += [_published_row(row, result, with_tests) for row in _published_on(protocol.task, protocol.measure)]
    rows.sort(key=lambda row: -row.value)
    header = (
        "system",
        label(protocol.measure),
        "published",
        "difference",
        *map(label, protocol.other_measures),
        *(["p-value"] if with_tests else []),
        "source",
    )
    title = f"{protocol.task}: {label(protocol.measure)}, protocol {protocol.protocol}"
    return Table(title, header, tuple(rows), tuple(_notes(result, rows)))


def mean_table(results: Results) -> Table | None:
    """Builds the table of the paper's five tasks and their mean, with the published models that have all five values.

    Returns:
        The table, or None if no system was measured on all five tasks.
    """
    means = {name: mean for name in results.systems() if (mean := results.mean(name)) is not None}
    if not means:
        return None
    measures = {task: results.tasks[task].protocol.measure for task in PAPER_TASKS}
    rows = []
    for name, mean in means.items():
        values = (_number(results.tasks[task].systems[name].values[measures[task]]) for task in PAPER_TASKS)
        rows.append(Row(name, (_number(mean), *values, _THIS_EVALUATION), True, mean))
    for row in published():
        if row.mean is not None:
            values = (_published_number(row.scores[task][measures[task]]) + _marks(row, task) for task in PAPER_TASKS)
            rows.append(Row(row.model, (_published_number(row.mean), *values, row.source_title), False, row.mean))
    rows.sort(key=lambda row: -row.value)
    header = ("system", "mean", *(f"{task} {label(measures[task])}" for task in PAPER_TASKS), "source")
    notes = [_IN_DOMAIN, _WITHOUT_PROJECTION]
    if results.protocol == "corrected":
        notes.append(
            "Published means include two columns computed without the projection; with the corrected JQaRA value of "
            ".642, the mean of .752 would be .757."
        )
    return Table(f"Mean over the paper's five tasks, protocol {results.protocol}", header, tuple(rows), tuple(notes))


def _measured_row(name: str, system_result: SystemResult, result: TaskResult, baseline: str | None) -> Row:
    """Builds the row of a measured system; it has a p-value cell if a baseline is given."""
    protocol = result.protocol
    value = system_result.values[protocol.measure]
    published_cell = difference = ""
    if (counterpart := _published_counterpart(name, result)) is not None:
        published_value = counterpart.scores[protocol.task][protocol.measure]
        published_cell = _published_number(published_value)
        difference = f"{value - published_value:+.4f}".replace("0.", ".", 1)
    other_cells = [_number(system_result.values[measure]) for measure in protocol.other_measures]
    p_value = system_result.p_values.get(protocol.measure)
    p_cell = "baseline" if name == baseline else "" if p_value is None else f"{p_value:.2g}"
    test_cells = [p_cell] if baseline is not None else []
    return Row(
        name,
        (_number(value), published_cell, difference, *other_cells, *test_cells, _THIS_EVALUATION),
        True,
        value,
    )


def _published_row(row: Published, result: TaskResult, with_tests: bool) -> Row:
    """Builds the row of a published model; its cell in the p-value column is empty."""
    protocol = result.protocol
    scores = row.scores[protocol.task]
    other_cells = [
        _published_number(scores[measure]) if measure in scores else "" for measure in protocol.other_measures
    ]
    published_cell = _published_number(scores[protocol.measure]) + _marks(row, protocol.task)
    test_cells = [""] if with_tests else []
    return Row(
        row.model,
        ("", published_cell, "", *other_cells, *test_cells, row.source_title),
        False,
        scores[protocol.measure],
    )


def _notes(result: TaskResult, rows: list[Row]) -> list[str]:
    protocol = result.protocol
    stage = (
        f"re-ranking of {protocol.candidates} candidates per query"
        if protocol.stage == "rerank"
        else f"retrieval from all {protocol.documents:,} documents"
    )
    max_length = f"{protocol.max_document_length} tokens" if protocol.max_document_length else "the checkpoint's limit"
    notes = [
        f"Dataset {protocol.dataset}: {result.queries:,} queries, {stage}. The protocol's encoding: title and text "
        f"joined by {protocol.separator!r}, documents truncated to {max_length}, query length rule "
        f"{protocol.query_length!r}, {'with' if protocol.projection else 'without'} projection."
    ]
    if result.queries != protocol.queries:
        notes.append(
            f"The benchmark has {protocol.queries:,} queries; the judgements used here cover {result.queries:,}."
        )
    if protocol.note:
        notes.append(protocol.note)
    published_cells = "".join(row.cells[1] for row in rows)
    notes += [note for mark, note in (("*", _IN_DOMAIN), ("†", _WITHOUT_PROJECTION)) if mark in published_cells]
    return notes


def _published_on(task: str, measure: str) -> list[Published]:
    return [row for row in published() if measure in row.scores.get(task, {})]


def _published_counterpart(name: str, result: TaskResult) -> Published | None:
    """Returns the published row of a model, preferably one that was evaluated in the same way as here."""
    protocol = result.protocol
    candidates = [row for row in _published_on(protocol.task, protocol.measure) if same_model(name, row.model)]
    same_way = [row for row in candidates if (protocol.task in row.without_projection) == (not protocol.projection)]
    return next(iter([*same_way, *candidates]), None)


def _marks(row: Published, task: str) -> str:
    return ("*" if task in row.in_domain else "") + ("†" if task in row.without_projection else "")


def _number(value: float) -> str:
    text = f"{value:.4f}"
    return text[1:] if text.startswith("0.") else text


def _published_number(value: float) -> str:
    """Formats a published value with its three or four digits."""
    return _number(value)[:-1] if round(value, 3) == value else _number(value)
