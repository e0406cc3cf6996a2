"""Options and helpers that several commands share."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from pyterrier_jacolbert import JaColBERT

#: What argparse's ``add_subparsers`` returns.
Subparsers = Any
#: What a command does with its parsed arguments.
Run = Callable[[argparse.Namespace], None]


class Group(Protocol):
    """A module with a group of commands."""

    def add_commands(self, subparsers: Subparsers) -> None:
        """Adds the commands to a parser."""
        ...


def add_command(subparsers: Subparsers, name: str, run: Run, summary: str) -> argparse.ArgumentParser:
    """Adds a command.

    Args:
        subparsers: of the whole command line.
        name: of the command.
        run: called with the parsed arguments.
        summary: for ``--help``.

    Returns:
        The parser of the command, to add its options to.
    """
    parser: argparse.ArgumentParser = subparsers.add_parser(name, help=summary, description=f"{summary.capitalize()}.")
    parser.set_defaults(run=run)
    return parser


def add_model_options(
    parser: argparse.ArgumentParser,
    default: str | None = "answerdotai/JaColBERTv2.5",
    summary: str = "checkpoint: a folder or hub name (default: answerdotai/JaColBERTv2.5)",
) -> None:
    """Adds the options that name a checkpoint."""
    parser.add_argument("--model", default=default, metavar="PATH", help=summary)
    add_device_option(parser)
    add_dtype_option(parser)


def add_device_option(parser: argparse.ArgumentParser) -> None:
    """Adds ``--device``."""
    parser.add_argument("--device", help="cpu, cuda, ... (default: a GPU if there is one)")


def add_dtype_option(parser: argparse.ArgumentParser) -> None:
    """Adds ``--dtype``."""
    parser.add_argument("--dtype", default="auto", help="precision of documents: auto (default), float32 or bfloat16")


def model_of(args: argparse.Namespace) -> JaColBERT:
    """Returns the checkpoint that the options name."""
    from pyterrier_jacolbert import JaColBERT

    return JaColBERT(args.model, device=args.device, dtype=args.dtype)
