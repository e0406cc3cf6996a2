"""Command-line options that several benchmarks share."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

#: Arguments of ``add_argument`` by name of the option.
OPTIONS: dict[str, dict[str, Any]] = {
    "shared": {
        "type": Path,
        "default": Path(__file__).parents[2] / "shared",
        "help": "folder with the data and the models (default: shared, next to the checkout)",
    },
    "model": {"default": "mini", "help": "ColBERT checkpoint (default: mini)"},
    "keep": {
        "type": Path,
        "default": Path("runs/vectors"),
        "help": "folder that keeps the vectors of the real collection (default: runs/vectors)",
    },
}


def benchmark_parser(description: str | None, *options: str) -> argparse.ArgumentParser:
    """Creates a parser with some of the :data:`OPTIONS`, whose help prints the description without reflowing it."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in options:
        parser.add_argument(f"--{name}", **OPTIONS[name])
    return parser
