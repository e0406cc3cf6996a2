"""The command that runs the benchmarks."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from pyterrier_jacolbert.cli.options import Subparsers, add_command, add_device_option, add_dtype_option
from pyterrier_jacolbert.cli.output import print_line, print_table


def add_commands(subparsers: Subparsers) -> None:
    """Adds ``evaluate``."""
    summary = "run the benchmarks and compare with published results"
    command = add_command(subparsers, "evaluate", run_evaluate, summary)
    command.add_argument(
        "systems",
        nargs="+",
        metavar="SYSTEM",
        help="a checkpoint (mini, a folder, a hub name), bm25, MODULE:NAME of a pipeline or of a function that returns "
        "one for a task, a run file, or a folder with TASK.trec for each task; NAME=SYSTEM names it in the tables",
    )
    command.add_argument("--tasks", default="paper", help="comma-separated names; paper (default): its five; all")
    command.add_argument("--output", type=Path, default=Path("evaluation"), help="output folder (default: evaluation)")
    command.add_argument("--protocol", default="corrected", help="corrected (default) or paper-v1")
    command.add_argument("--baseline", metavar="NAME", help="system that the others are tested against")
    command.add_argument(
        "--qrels", action="append", default=[], metavar="TASK=FILE", help="qrels that replace those of the data set"
    )
    command.add_argument("--fresh", action="store_true", help="repeat runs that exist already")
    add_device_option(command)
    add_dtype_option(command)


def run_evaluate(args: argparse.Namespace) -> None:
    """Runs the benchmarks and prints measured beside published results."""
    from pyterrier_jacolbert.evaluation import evaluate, system, write_report
    from pyterrier_jacolbert.evaluation.protocols import task_names
    from pyterrier_jacolbert.evaluation.report import summary
    from pyterrier_jacolbert.evaluation.runs import read_qrels

    qrels_files = dict(option.partition("=")[::2] for option in args.qrels)
    results = evaluate(
        [system(spec, device=args.device, dtype=args.dtype) for spec in args.systems],
        output=args.output,
        tasks=task_names(args.tasks),
        protocol=args.protocol,
        baseline=args.baseline,
        qrels={task: read_qrels(Path(file)) for task, file in qrels_files.items()},
        fresh=args.fresh,
        progress=lambda line: print_line(line, file=sys.stderr),
    )
    print_table(summary(results))
    for path in write_report(results, args.output):
        print_line(path)
