"""The command line, ``pyterrier-jacolbert COMMAND``: one file per group of commands."""

from pyterrier_jacolbert.cli.parser import main

__all__ = ["main"]
