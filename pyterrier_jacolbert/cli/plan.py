"""The command that predicts what a collection takes."""

from __future__ import annotations

import argparse

from pyterrier_jacolbert.cli.options import Subparsers, add_command, add_model_options, model_of
from pyterrier_jacolbert.cli.output import print_table


def add_commands(subparsers: Subparsers) -> None:
    """Adds ``plan``."""
    summary = "predict the hours, disk, memory and milliseconds that a collection takes"
    command = add_command(subparsers, "plan", run_plan, summary)
    command.add_argument("--documents", type=int, required=True, help="number of documents")
    command.add_argument("--mean-tokens", type=float, required=True, help="mean number of token vectors per document")
    command.add_argument("--dim", type=int, default=128, help="dimensions of a token vector (default: 128)")
    command.add_argument("--no-probe", action="store_true", help="skip measuring this machine, which takes 10 seconds")
    add_model_options(command)


def run_plan(args: argparse.Namespace) -> None:
    """Prints what a collection takes."""
    from pyterrier_jacolbert.capacity.model import Size, measurements, probe
    from pyterrier_jacolbert.capacity.report import plan

    if args.documents < 1 or not args.mean_tokens > 0:
        raise ValueError("--documents and --mean-tokens must be positive.")
    size = Size(args.documents, round(args.documents * args.mean_tokens), args.dim)
    rate = None if args.no_probe else probe(model_of(args), args.mean_tokens)
    print_table(plan(size, measurements(), rate, args.model))
