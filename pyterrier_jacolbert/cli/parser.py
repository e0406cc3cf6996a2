"""The entry point of the command line. Commands are thin: everything they do is a few calls of the Python API."""

from __future__ import annotations

import argparse
import sys
import traceback
import warnings
from collections.abc import Sequence
from typing import NoReturn, TextIO

from pyterrier_jacolbert.cli import evaluate, index, plan, search, train
from pyterrier_jacolbert.cli.output import escape, print_line, print_table


class _Parser(argparse.ArgumentParser):
    """A parser whose errors cannot address a terminal: arguments may be docnos of a stranger's index."""

    def error(self, message: str) -> NoReturn:
        super().error(escape(message))


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command.

    Args:
        arguments: the command line without the name of the program; None takes that of the process.

    Returns:
        The exit status: 0, or 1 after an error, which is printed to stderr in one line.
    """
    args = build_parser().parse_args(arguments)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # those of libraries, which users cannot mend
            warnings.showwarning = _print_warning
            args.run(args)
    except (OSError, ValueError, KeyError, ImportError, FloatingPointError) as error:
        print_line(f"pyterrier-jacolbert: {_message(error)}", file=sys.stderr)
        return 1
    except Exception:  # not foreseen, so where it happened matters
        print_table(traceback.format_exc(), file=sys.stderr)
        return 1
    return 0


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of all commands."""
    parser = _Parser(prog="pyterrier-jacolbert", description="Japanese multi-vector retrieval.")
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")
    for group in (index, search, evaluate, plan, train):
        group.add_commands(subparsers)
    return parser


def _message(error: Exception) -> str:
    if isinstance(error, FileNotFoundError) and error.filename:
        return f"There is no {error.filename}; check the path."
    text = str(error.args[0] if isinstance(error, KeyError) and error.args else error)
    return " ".join([text, *getattr(error, "__notes__", ())])


def _print_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    print_line(f"pyterrier-jacolbert: {category.__name__}: {message}", file=file or sys.stderr)
