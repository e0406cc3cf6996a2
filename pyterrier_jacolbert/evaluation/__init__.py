"""Evaluation of any system on the Japanese benchmarks by the paper's protocols, next to published results.

>>> from pyterrier_jacolbert.evaluation import CheckpointSystem, evaluate, write_report
>>> results = evaluate([CheckpointSystem("mini", "mini")], tasks=["jsquad"], output=Path("runs"))  # doctest: +SKIP
>>> write_report(results, Path("runs"))  # doctest: +SKIP

``protocols`` defines how each task is run, ``systems`` the kinds of systems that can be evaluated, and ``runs`` how
runs are stored. ``results`` holds the measured values, ``published`` the published ones; ``tables`` and ``report``
show them side by side.
"""

from pyterrier_jacolbert.evaluation.evaluate import evaluate
from pyterrier_jacolbert.evaluation.protocols import PAPER_TASKS, PROTOCOLS, TASKS, TaskProtocol, protocol_of
from pyterrier_jacolbert.evaluation.report import write_report
from pyterrier_jacolbert.evaluation.results import Results
from pyterrier_jacolbert.evaluation.runs import read_qrels, read_run, write_run
from pyterrier_jacolbert.evaluation.systems import CheckpointSystem, PipelineSystem, RunSystem, System, system
from pyterrier_jacolbert.evaluation.task_data import documents

__all__ = [
    "PAPER_TASKS",
    "PROTOCOLS",
    "TASKS",
    "CheckpointSystem",
    "PipelineSystem",
    "Results",
    "RunSystem",
    "System",
    "TaskProtocol",
    "documents",
    "evaluate",
    "protocol_of",
    "read_qrels",
    "read_run",
    "system",
    "write_report",
    "write_run",
]
