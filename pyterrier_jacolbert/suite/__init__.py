"""The benchmark suite: any system on the Japanese benchmarks, by the paper's protocols, beside what is published.

>>> from pyterrier_jacolbert.suite import CheckpointSystem, evaluate, write_report
>>> results = evaluate([CheckpointSystem("mini", "mini")], tasks=["jsquad"], output=Path("runs"))  # doctest: +SKIP
>>> write_report(results, Path("runs"))  # doctest: +SKIP

``protocols`` says how each task is run, ``systems`` what can be evaluated, ``runs`` how runs are kept, ``published``
what others report, ``tables`` and ``report`` put both side by side.
"""

from pyterrier_jacolbert.suite.evaluate import Results, evaluate
from pyterrier_jacolbert.suite.protocols import PAPER_TASKS, PROTOCOLS, TASKS, TaskProtocol, protocol_of
from pyterrier_jacolbert.suite.report import write_report
from pyterrier_jacolbert.suite.systems import CheckpointSystem, PipelineSystem, RunSystem, System, documents, system

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
    "system",
    "write_report",
]
