"""The documentation: every Python block of every page runs, in the page's order."""

import re
import subprocess
import sys
import textwrap
import warnings
from importlib.resources import files
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks import documentation

PAGES = sorted(
    (page.name, page.read_text(encoding="utf-8"))
    for page in files("pyterrier_jacolbert").joinpath("pt_docs").iterdir()
    if page.name.endswith(".rst")
)
BLOCK = re.compile(r"^\.\. code-block:: python\n\n((?:(?:   .*)?\n)+)", re.MULTILINE)


def blocks(text):
    """The Python blocks of a page, each with the number of its first line."""
    return [(text[: match.start(1)].count("\n") + 1, textwrap.dedent(match[1])) for match in BLOCK.finditer(text)]


@pytest.mark.parametrize(("name", "text"), [pytest.param(*page, id=page[0]) for page in PAGES if blocks(page[1])])
def test_the_blocks_of_a_page_run(name, text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": "__main__"}
    for line, code in blocks(text):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            exec(compile("\n" * (line - 1) + code, name, "exec"), namespace)


def test_there_are_blocks_to_run():
    assert sum(len(blocks(text)) for _, text in PAGES) >= 20


def test_every_page_is_reached():
    pages = dict(PAGES)
    reached = re.findall(r"^   ([a-z-]+)$", pages["index.rst"], re.MULTILINE)
    assert sorted(f"{name}.rst" for name in reached) == sorted(set(pages) - {"index.rst"})


def test_the_pages_build_without_a_warning(tmp_path):
    source = files("pyterrier_jacolbert").joinpath("pt_docs")
    settings = Path(__file__).parent / "sphinx"
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-c", settings, source, tmp_path / "html"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "schematic" in (tmp_path / "html" / "overview.html").read_text(encoding="utf-8")


def test_the_tables_of_the_benchmarks_are_what_the_package_knows():
    page = dict(PAGES)["benchmarks.rst"]
    assert documentation.filled(page) == page
    assert "``jacolbert:jsquad/validation``" in page
    emptied = page.replace('"JaColBERT', '"JaColBERTT')
    assert documentation.filled(emptied) == page


def test_the_pictures_of_the_pages_are_there_and_small():
    folder = files("pyterrier_jacolbert").joinpath("pt_docs")
    shown = {name for _, text in PAGES for name in re.findall(r"^ *\.\. (?:image|figure):: (\S+)$", text, re.MULTILINE)}
    there = {f"_static/{path.name}" for path in folder.joinpath("_static").iterdir()}
    assert shown == there
    assert len(there) >= 5
    assert all(len(folder.joinpath(name).read_bytes()) < 150_000 for name in there)
