"""Fills the tables of the documentation that follow from the package: tasks, datasets and published results.

    python -m benchmarks.documentation          # writes them into pyterrier_jacolbert/pt_docs/benchmarks.rst

Needs the extra ``evaluate`` but no network. The tests compare the page with the output of this script.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import pyterrier_jacolbert
from pyterrier_jacolbert.datasets._catalog import DATASET_BY_IRDS_ID
from pyterrier_jacolbert.evaluation.protocols import PAPER_TASKS, TASKS, protocol_of
from pyterrier_jacolbert.evaluation.published import published
from pyterrier_jacolbert.evaluation.tables import label

PAGE = Path(pyterrier_jacolbert.__file__).parent / "pt_docs" / "benchmarks.rst"


def main() -> None:
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    print(PAGE)


def filled(page: str) -> str:
    """Returns the page with current tables. The place of each table is marked by a comment ``.. table: NAME``."""
    tables = {"tasks": task_table(), "data sets": dataset_table(), "published": published_table()}
    for name, table in tables.items():
        page, n_places = re.subn(
            rf"(?<=^\.\. table: {name}\n\n)(?:\.\. csv-table::\n(?:(?:   .*)?\n)*)?", f"{table}\n", page, flags=re.M
        )
        if n_places != 1:
            raise ValueError(f"{PAGE.name} has {n_places} comments '.. table: {name}'; make it one.")
    return page


def task_table() -> str:
    """Returns a table with a row per task, starting with the paper's tasks."""
    rows = []
    for task in TASKS:
        how = protocol_of(task)
        work = f"search {how.documents:,}" if how.stage == "retrieve" else f"re-rank {how.candidates} candidates"
        rows.append((f"``{task}``", f"``jacolbert:{how.dataset}``", f"{how.queries:,}", work, label(how.measure)))
    return _csv_table(("task", "data set", "queries", "what is done", "measure"), rows)


def dataset_table() -> str:
    """Returns a table with a row per dataset of this package."""
    rows = []
    for irds_id, dataset in DATASET_BY_IRDS_ID.items():
        metadata = dataset.metadata()
        counts = [metadata.get(kind, {}).get("count") for kind in ("docs", "queries")]
        cells = [f"{count:,}" if count else "" for count in counts]
        rows.append((f"``{irds_id.removeprefix('jacolbert-')}``", *cells, dataset.documentation()["licence"]))
    return _csv_table(("name", "documents", "queries", "licence"), rows)


def published_table() -> str:
    """Returns a table with the published rows that have all of the paper's five tasks, best mean first."""
    measures = {task: protocol_of(task).measure for task in PAPER_TASKS}
    rows = []
    for row in sorted((row for row in published() if row.mean is not None), key=lambda row: -(row.mean or 0)):
        values = []
        for task in PAPER_TASKS:
            marks = "†" * (task in row.without_projection) + r"\*" * (task in row.in_domain)
            values.append(_three_digits(row.scores[task][measures[task]]) + marks)
        rows.append((row.model, _three_digits(row.mean or 0), *values))
    return _csv_table(("model", "mean", *(f"{task} {label(measures[task])}" for task in PAPER_TASKS)), rows)


def _three_digits(value: float) -> str:
    return f"{value:.3f}".removeprefix("0")


def _csv_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["   " + ", ".join(f'"{cell}"' for cell in row) for row in (header, *rows)]
    return "\n".join([".. csv-table::", "   :header-rows: 1", "", *lines, ""])


if __name__ == "__main__":
    main()
