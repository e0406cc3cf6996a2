"""Builds notebooks from the scripts in this folder, and executes them.

    python -m examples.notebooks                # all three; needs the extra `dev`, but no network
    python -m examples.notebooks experiment     # one of them

Edit ``NAME.py``, where code cells begin with ``# %%`` and text cells with ``# %% [markdown]``. The script is also a
program, ``python examples/NAME.py``, and editors that support this format show it as a notebook. ``NAME.ipynb`` holds
the same cells with their outputs, without times, paths and versions of the machine that ran them.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

FOLDER = Path(__file__).parent
NAMES = ("search_and_explain", "experiment", "distil")
_MARK = "# %%"
#: Forbids network access, and hides a warning about progress bars that contains a path.
_ENVIRONMENT = {"HF_HUB_OFFLINE": "1", "PYTHONWARNINGS": "ignore:IProgress not found"}
#: Time limit per cell in seconds, generous because the machine may be busy.
_TIMEOUT = 7200


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "names", nargs="*", default=NAMES, metavar="NAME", help=f"notebooks to build: {', '.join(NAMES)} (default: all)"
    )
    for name in parser.parse_args().names:
        notebook = execute(to_notebook((FOLDER / f"{name}.py").read_text(encoding="utf-8")))
        nbformat.write(notebook, FOLDER / f"{name}.ipynb")
        print(FOLDER / f"{name}.ipynb")


def to_notebook(script: str) -> Any:
    """Converts a script to a notebook without outputs.

    Args:
        script: text of the script.

    Returns:
        The notebook, an nbformat node.

    Raises:
        ValueError: the script has content before the first cell.
    """
    before, *parts = f"\n{script}".split(f"\n{_MARK}")
    if before.strip():
        raise ValueError(f"The script begins with {before.strip()[:40]!r}; start it with {_MARK!r}.")
    cells = []
    for number, part in enumerate(parts):
        kind, _, body = part.partition("\n")
        if kind.strip() == "[markdown]":
            text = "\n".join(line.removeprefix("#").removeprefix(" ") for line in body.strip("\n").splitlines())
            cell = nbformat.v4.new_markdown_cell(text)
        else:
            cell = nbformat.v4.new_code_cell(body.strip("\n"))
        cell["id"] = f"cell-{number:02d}"
        cells.append(cell)
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel, "language_info": {"name": "python"}})


def execute(notebook: Any) -> Any:
    """Executes a notebook in an empty folder, without a network, and stores the outputs of its cells.

    Args:
        notebook: notebook to execute; it is changed.

    Returns:
        The same notebook.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell raises.
    """
    with tempfile.TemporaryDirectory() as folder:
        resources = {"metadata": {"path": folder}}
        client = NotebookClient(notebook, timeout=_TIMEOUT, record_timing=False, resources=resources)
        client.execute(env={**os.environ, **_ENVIRONMENT})
    notebook["metadata"]["language_info"] = {"name": "python"}
    return notebook


if __name__ == "__main__":
    main()
