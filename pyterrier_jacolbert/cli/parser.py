"""The entry point of the command line. Commands are thin: everything they do is a few calls of the Python API."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from pyterrier_jacolbert.cli import evaluate, index, plan, search, train
from pyterrier_jacolbert.cli.output import print_line


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command.

    Args:
        arguments: the command line without the name of the program; None takes that of the process.

    Returns:
        The exit status: 0, or 1 after an error, which is printed to stderr in one line.
    """
    args = build_parser().parse_args(arguments)
    try:
        args.run(args)
    except (OSError, ValueError, KeyError, ImportError, FloatingPointError) as error:
        print_line(f"pyterrier-jacolbert: {_message(error)}", file=sys.stderr)
        return 1
    return 0


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of all commands."""
    parser = argparse.ArgumentParser(prog="pyterrier-jacolbert", description="Japanese multi-vector retrieval.")
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")
    for group in (index, search, evaluate, plan, train):
        group.add_commands(subparsers)
    return parser


def _message(error: Exception) -> str:
    if isinstance(error, FileNotFoundError) and error.filename:
        return f"There is no {error.filename}; check the path."
    return str(error.args[0] if isinstance(error, KeyError) and error.args else error)
