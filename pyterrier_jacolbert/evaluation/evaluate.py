"""Running systems on tasks, and measuring their runs."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import ir_measures
import pandas as pd
import pyterrier as pt

from pyterrier_jacolbert.columns import QID, QUERY
from pyterrier_jacolbert.evaluation.protocols import PAPER_TASKS, TaskProtocol, protocol_of
from pyterrier_jacolbert.evaluation.results import Results, SystemResult, TaskResult
from pyterrier_jacolbert.evaluation.runs import RunStore, check_qrels
from pyterrier_jacolbert.evaluation.systems import System
from pyterrier_jacolbert.index.storage.atomic import replacing


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
    """Runs systems on tasks and measures the runs. Runs that are already stored are not computed again.

    Each run is stored in ``output/runs`` as soon as it is complete, so an interrupted evaluation resumes with the first
    missing run. ``results.json`` is written at the end.

    Args:
        systems: systems to evaluate.
        output: folder of runs and results.
        tasks: names of tasks from :data:`~pyterrier_jacolbert.evaluation.TASKS`.
        protocol: ``"corrected"`` or ``"paper-v1"``.
        baseline: name of the system that the others are tested against.
        qrels: judgements per task that replace those of the dataset, so that stored runs can be measured without the
            dataset.
        fresh: whether to compute stored runs again. This is necessary if the code of a pipeline function has changed,
            because its settings do not show the change.
        progress: called with a line of text for each run.

    Returns:
        The results.

    Raises:
        ValueError: a task, the protocol or the baseline is unknown, two systems have the same name, or a run has none
            of the judged queries.
        FileNotFoundError: a dataset or a stored run is not available.
    """
    names = [system.name for system in systems]
    if len(set(names)) != len(names):
        raise ValueError(f"Two of the systems {', '.join(names)} have the same name; name them apart: NAME=SYSTEM.")
    if baseline is not None and baseline not in names:
        raise ValueError(f"The baseline {baseline!r} is not one of the systems; name one of {', '.join(names)}.")
    for task, frame in (qrels or {}).items():
        check_qrels(frame, f"qrels of {task}")
    store = RunStore(output / "runs")
    task_results: dict[str, TaskResult] = {}
    for task_protocol in [protocol_of(task, protocol) for task in tasks]:
        task_qrels = (qrels or {}).get(task_protocol.task)
        if task_qrels is None:
            task_qrels = pt.get_dataset(f"jacolbert:{task_protocol.dataset}").get_qrels()
        runs = {system.name: _stored_run(system, task_protocol, store, fresh, progress) for system in systems}
        task_results[task_protocol.task] = measure(runs, task_protocol, task_qrels, baseline)
    results = Results(protocol, task_results, baseline)
    output.mkdir(parents=True, exist_ok=True)
    with replacing(output / "results.json") as file:
        file.write(json.dumps(results.as_json(), ensure_ascii=False, indent=1) + "\n")
    return results


def measure(
    runs: Mapping[str, pd.DataFrame], protocol: TaskProtocol, qrels: pd.DataFrame, baseline: str | None = None
) -> TaskResult:
    """Measures the runs of a task. A judged query without results counts as 0.

    Args:
        runs: ``{system: run}``.
        protocol: protocol with the measures.
        qrels: judgements with ``qid``, ``docno`` and ``label``.
        baseline: name of the system that the others are tested against.

    Raises:
        ValueError: a run has none of the judged queries.
    """
    qids = qrels[QID].drop_duplicates()
    for name, run in runs.items():
        if not run[QID].isin(qids).any():
            raise ValueError(
                f"The run of {name} has none of the {len(qids)} judged queries of {protocol.task}; check that its qids "
                "are those of the task."
            )
    topics = pd.DataFrame({QID: qids.to_numpy(), QUERY: ""})
    with_tests = baseline is not None and len(runs) > 1
    table = pt.Experiment(
        dict(runs),
        topics,
        qrels,
        [ir_measures.parse_measure(name) for name in protocol.measures],
        baseline=baseline if with_tests else None,
        correction="holm" if with_tests else None,
        verbose=False,
    ).set_index("name")
    cells = table.to_dict("index")
    system_results = {}
    for name in runs:
        p_values = {}
        if with_tests and name != baseline:
            columns = {measure: f"{measure} p-value corrected" for measure in protocol.measures}
            p_values = {m: float(cells[name][c]) for m, c in columns.items() if not pd.isna(cells[name][c])}
        system_results[name] = SystemResult({m: float(cells[name][m]) for m in protocol.measures}, p_values)
    return TaskResult(protocol, len(qids), system_results)


def _stored_run(
    system: System, protocol: TaskProtocol, store: RunStore, fresh: bool, progress: Callable[[str], object]
) -> pd.DataFrame:
    """Returns the run of a system from the store, after computing it if necessary."""
    settings = system.settings(protocol)
    run_name = f"{protocol.task}.{protocol.protocol}"
    if fresh:
        store.forget(system.name, run_name)
    is_stored = store.has(system.name, run_name, settings)
    progress(f"{protocol.task}: {system.name}, {'stored run' if is_stored else 'running'}")
    return store.get(system.name, run_name, settings, lambda: system.run(protocol))
