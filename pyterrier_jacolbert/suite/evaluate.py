"""Runs systems on tasks, measures them, and writes what came out."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ir_measures
import pandas as pd
import pyterrier as pt

from pyterrier_jacolbert.suite.protocols import PAPER_TASKS, TaskProtocol, protocol_of
from pyterrier_jacolbert.suite.runs import RunStore
from pyterrier_jacolbert.suite.systems import System


@dataclass(frozen=True)
class Measured:
    """What a system reached on a task.

    Attributes:
        values: ``{measure: mean over queries}``.
        p_values: ``{measure: p}`` of a paired two-sided t-test against the baseline, corrected by Holm for the number
            of systems; empty without a baseline, for the baseline itself, and where the two never differ.
    """

    values: dict[str, float]
    p_values: dict[str, float]


@dataclass(frozen=True)
class TaskResult:
    """A task, its protocol and what each system reached.

    Attributes:
        protocol: how it was run.
        queries: how many were judged and measured.
        systems: ``{name: Measured}``, in the order given.
    """

    protocol: TaskProtocol
    queries: int
    systems: dict[str, Measured]


@dataclass(frozen=True)
class Results:
    """What an evaluation measured.

    Attributes:
        protocol: its name.
        tasks: ``{task: TaskResult}``, in the order given.
        baseline: the name of the system that others are tested against, or None.
    """

    protocol: str
    tasks: dict[str, TaskResult]
    baseline: str | None = None

    def systems(self) -> list[str]:
        """The names of the systems, in the order given."""
        return list(dict.fromkeys(name for task in self.tasks.values() for name in task.systems))

    def mean(self, system: str) -> float | None:
        """The mean of a system over the paper's five tasks, each by the paper's measure; None if one is missing."""
        found = [self.tasks.get(task) for task in PAPER_TASKS]
        values = [t.systems[system].values[t.protocol.measure] for t in found if t is not None and system in t.systems]
        return sum(values) / len(values) if len(values) == len(PAPER_TASKS) else None

    def as_json(self) -> dict[str, Any]:
        """The results as JSON: no times, no paths, so that two of them can be compared line by line."""
        return {
            "protocol": self.protocol,
            "baseline": self.baseline,
            "tasks": {
                name: {
                    "dataset": task.protocol.dataset,
                    "measure": task.protocol.measure,
                    "queries": task.queries,
                    "systems": {
                        system: {
                            "values": _rounded(measured.values),
                            **(
                                {"p_values": {m: float(f"{p:.3g}") for m, p in measured.p_values.items()}}
                                if measured.p_values
                                else {}
                            ),
                        }
                        for system, measured in task.systems.items()
                    },
                }
                for name, task in self.tasks.items()
            },
            "means": {system: _round(mean) for system in self.systems() if (mean := self.mean(system)) is not None},
        }


def evaluate(
    systems: Sequence[System],
    *,
    output: Path,
    tasks: Sequence[str] = PAPER_TASKS,
    protocol: str = "corrected",
    baseline: str | None = None,
    qrels: Mapping[str, pd.DataFrame] | None = None,
    fresh: bool = False,
    progress: Callable[[str], object] = lambda line: None,
) -> Results:
    """Runs systems on tasks and measures them; runs that are there already are not made again.

    Each run is written when it is complete (:class:`~pyterrier_jacolbert.suite.runs.RunStore`, in ``output/runs``),
    so an evaluation that was interrupted goes on with the first run that is missing. ``results.json`` is written at
    the end.

    Args:
        systems: what to evaluate.
        output: the folder of runs and results.
        tasks: which tasks, of :data:`~pyterrier_jacolbert.suite.protocols.TASKS`.
        protocol: ``"corrected"`` or ``"paper-v1"``.
        baseline: the name of a system that the others are tested against.
        qrels: judgements of a task that replace those of its data set, so that stored runs can be measured where the
            data set cannot be had.
        fresh: makes runs again that are there: for a function whose code has changed, which its settings do not tell.
        progress: called with a line for each run.

    Returns:
        The results.

    Raises:
        ValueError: an unknown task, protocol or baseline, two systems of one name, or a run without a judged query.
        FileNotFoundError: a data set or a stored run cannot be had.
    """
    names = [system.name for system in systems]
    if len(set(names)) != len(names):
        raise ValueError(f"Two systems have one name in {', '.join(names)}; name them apart: NAME=SYSTEM.")
    if baseline is not None and baseline not in names:
        raise ValueError(f"The baseline {baseline!r} is not among the systems; name one of {', '.join(names)}.")
    store = RunStore(output / "runs")
    found: dict[str, TaskResult] = {}
    for how in [protocol_of(task, protocol) for task in tasks]:
        judged = (qrels or {}).get(how.task)
        if judged is None:
            judged = pt.get_dataset(f"jacolbert:{how.dataset}").get_qrels()
        runs = {system.name: _run(system, how, store, fresh, progress) for system in systems}
        found[how.task] = measure(runs, how, judged, baseline)
    results = Results(protocol, found, baseline)
    output.mkdir(parents=True, exist_ok=True)
    text = json.dumps(results.as_json(), ensure_ascii=False, indent=1)
    (output / "results.json").write_text(text + "\n", encoding="utf-8")
    return results


def measure(
    runs: Mapping[str, pd.DataFrame], protocol: TaskProtocol, qrels: pd.DataFrame, baseline: str | None = None
) -> TaskResult:
    """Measures the runs of a task. A judged query without results counts as 0.

    Args:
        runs: ``{system: run}``.
        protocol: names the measures.
        qrels: ``qid``, ``docno``, ``label``.
        baseline: the system that others are tested against.

    Raises:
        ValueError: a run has none of the judged queries.
    """
    qids = qrels["qid"].drop_duplicates()
    for name, run in runs.items():
        if not run["qid"].isin(qids).any():
            raise ValueError(
                f"The run of {name} has none of the {len(qids)} judged queries of {protocol.task}; check that its qids "
                "are those of the task."
            )
    topics = pd.DataFrame({"qid": qids.to_numpy(), "query": ""})
    tested = baseline is not None and len(runs) > 1
    table = pt.Experiment(
        dict(runs),
        topics,
        qrels,
        [ir_measures.parse_measure(name) for name in protocol.measures],
        baseline=baseline if tested else None,
        correction="holm" if tested else None,
        verbose=False,
    ).set_index("name")
    cells = table.to_dict("index")
    systems = {}
    for name in runs:
        p_values = {}
        if tested and name != baseline:
            columns = {measure: f"{measure} p-value corrected" for measure in protocol.measures}
            p_values = {m: float(cells[name][c]) for m, c in columns.items() if not pd.isna(cells[name][c])}
        systems[name] = Measured({m: float(cells[name][m]) for m in protocol.measures}, p_values)
    return TaskResult(protocol, len(qids), systems)


def _run(
    system: System, protocol: TaskProtocol, store: RunStore, fresh: bool, progress: Callable[[str], object]
) -> pd.DataFrame:
    settings = system.settings(protocol)
    name = f"{protocol.task}.{protocol.protocol}"
    if fresh:
        store.forget(system.name, name)
    there = store.has(system.name, name, settings)
    progress(f"{protocol.task}: {system.name}, {'stored run' if there else 'running'}")
    return store.get(system.name, name, settings, lambda: system.run(protocol))


def _rounded(values: Mapping[str, float]) -> dict[str, float]:
    return {name: _round(value) for name, value in values.items()}


def _round(value: float) -> float:
    # Six digits tell any two runs apart that differ in a query, and leave out the last bits of a sum's order.
    return round(value, 6)
