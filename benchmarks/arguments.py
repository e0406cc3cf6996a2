"""The command line that the benchmarks have in common."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

COMMON: dict[str, dict[str, Any]] = {
    "shared": {
        "type": Path,
        "default": Path(__file__).parents[2] / "shared",
        "help": "where the real data and models are",
    },
    "model": {"default": "mini", "help": "a ColBERT checkpoint"},
    "keep": {"type": Path, "default": Path("runs/vectors"), "help": "where the real passages' vectors are kept"},
}


def parser(description: str | None, *names: str) -> argparse.ArgumentParser:
    """A parser with some of the :data:`COMMON` options, its description as it was written."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in names:
        made.add_argument(f"--{name}", **COMMON[name])
    return made
