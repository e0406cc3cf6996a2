"""Makes the notebooks from the scripts beside them, and runs them.

    python -m examples.notebooks                # all three; needs the extra `dev`, and no network
    python -m examples.notebooks experiment     # one

``NAME.py`` is what one edits: cells begin with ``# %%``, text with ``# %% [markdown]``. It is also a program,
``python examples/NAME.py``, and what shows notebooks in an editor shows it as one. ``NAME.ipynb`` is the same cells
with what they gave, without times, paths and the versions of the machine that ran them.
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
#: No network; and no word about progress bars for notebooks, which name a path.
_ENVIRONMENT = {"HF_HUB_OFFLINE": "1", "PYTHONWARNINGS": "ignore:IProgress not found"}
#: Seconds that a cell may take: a busy machine is slow, not wrong.
_TIMEOUT = 7200


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=NAMES, metavar="NAME", help=f"of {', '.join(NAMES)}")
    for name in parser.parse_args().names:
        notebook = executed(made((FOLDER / f"{name}.py").read_text(encoding="utf-8")))
        nbformat.write(notebook, FOLDER / f"{name}.ipynb")
        print(FOLDER / f"{name}.ipynb")


def made(script: str) -> Any:  # noqa: ANN401 (nbformat has no types)
    """The notebook of a script, without outputs.

    Raises:
        ValueError: there is something before the first cell.
    """
    before, *parts = f"\n{script}".split(f"\n{_MARK}")
    if before.strip():
        raise ValueError(f"The script begins with {before.strip()[:40]!r}; begin it with {_MARK!r}.")
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


def executed(notebook: Any) -> Any:  # noqa: ANN401
    """Runs a notebook in an empty folder, without a network, and keeps what its cells give.

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
