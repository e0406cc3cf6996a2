"""Measured values of an evaluation, per task and system."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pyterrier_jacolbert.evaluation.protocols import PAPER_TASKS, TaskProtocol


@dataclass(frozen=True)
class SystemResult:
    """Values of a system on a task.

    Attributes:
        values: ``{measure: mean over queries}``.
        p_values: ``{measure: p}`` of a paired two-sided t-test against the baseline, with Holm's correction for the
            number of systems. A measure is missing if the two systems never differ; the mapping is empty for the
            baseline itself and if there is no baseline.
    """

    values: dict[str, float]
    p_values: dict[str, float]

    def as_json(self) -> dict[str, Any]:
        """Returns the rounded values as JSON."""
        content = {"values": {measure: _round(value) for measure, value in self.values.items()}}
        if self.p_values:
            content["p_values"] = {measure: float(f"{p:.3g}") for measure, p in self.p_values.items()}
        return content


@dataclass(frozen=True)
class TaskResult:
    """Values of all systems on a task.

    Attributes:
        protocol: protocol by which the task was run.
        queries: number of judged queries.
        systems: ``{name: SystemResult}`` in the given order.
    """

    protocol: TaskProtocol
    queries: int
    systems: Mapping[str, SystemResult]

    def as_json(self) -> dict[str, Any]:
        """Returns the result as JSON."""
        return {
            "dataset": self.protocol.dataset,
            "measure": self.protocol.measure,
            "queries": self.queries,
            "systems": {name: result.as_json() for name, result in self.systems.items()},
        }


@dataclass(frozen=True)
class Results:
    """Results of an evaluation.

    Attributes:
        protocol: name of the protocol.
        tasks: ``{task: TaskResult}`` in the given order.
        baseline: name of the system that the others are tested against, or None.
    """

    protocol: str
    tasks: dict[str, TaskResult]
    baseline: str | None = None

    def systems(self) -> list[str]:
        """Returns the names of the systems in the given order.

        Returns:
            The names, each once.
        """
        return list(dict.fromkeys(name for task in self.tasks.values() for name in task.systems))

    def mean(self, system: str) -> float | None:
        """Averages the paper's measures over the paper's five tasks.

        Args:
            system: name of the system.

        Returns:
            The mean; None if a task is missing.
        """
        paper_results = [self.tasks[task] for task in PAPER_TASKS if task in self.tasks]
        values = [
            result.systems[system].values[result.protocol.measure]
            for result in paper_results
            if system in result.systems
        ]
        return sum(values) / len(values) if len(values) == len(PAPER_TASKS) else None

    def as_json(self) -> dict[str, Any]:
        """Returns the results without times and paths, so that two evaluations can be compared with diff.

        Returns:
            The results, as JSON; values have six decimals.
        """
        return {
            "protocol": self.protocol,
            "baseline": self.baseline,
            "tasks": {name: task.as_json() for name, task in self.tasks.items()},
            "means": {system: _round(mean) for system in self.systems() if (mean := self.mean(system)) is not None},
        }


def _round(value: float) -> float:
    # Six digits distinguish any two runs that differ in a query, and drop the last bits, which depend on the order of
    # summation.
    return round(value, 6)
