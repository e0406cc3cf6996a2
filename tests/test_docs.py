"""The documentation runs, builds, and names only what exists."""

import re
import shlex
import subprocess
import sys
import textwrap
import warnings
from importlib import import_module
from importlib.resources import files
from pathlib import Path

import pytest

from pyterrier_jacolbert.cli.parser import build_parser
from pyterrier_jacolbert.evaluation.published import published

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks import documentation

FOLDER = files("pyterrier_jacolbert").joinpath("pt_docs")
PAGES = {
    page.name: page.read_text(encoding="utf-8")
    for page in sorted(FOLDER.iterdir(), key=lambda page: page.name)
    if page.name.endswith(".rst")
}
PACKAGE = "pyterrier_jacolbert"
#: The modules that pages may name.
PUBLIC = {PACKAGE} | {
    f"{PACKAGE}.{name}"
    for name in ("datasets", "distributed", "evaluation", "explain", "japanese", "pipeline", "plots", "train")
}


def code_blocks(text, language):
    """Returns the code blocks of a page in a language, each with the number of its first line."""
    pattern = rf"^\.\. code-block:: {language}\n\n((?:(?:   .*)?\n)+)"
    matches = re.finditer(pattern, text, re.MULTILINE)
    return [(text[: match.start(1)].count("\n") + 1, textwrap.dedent(match[1])) for match in matches]


def shell_commands():
    """Returns the arguments of each ``pyterrier-jacolbert`` command in the pages."""
    consoles = [code for text in PAGES.values() for _, code in code_blocks(text, "console")]
    lines = re.findall(r"^\$ pyterrier-jacolbert (.*)$", "\n".join(consoles), re.MULTILINE)
    literals = re.findall(r"``pyterrier-jacolbert ([a-z][^`]*)``", "\n".join(PAGES.values()))
    return [shlex.split(line, comments=True) for line in [*lines, *literals]]


@pytest.mark.parametrize("name", [name for name, text in PAGES.items() if code_blocks(text, "python")])
def test_python_blocks_of_a_page_run_in_order(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": "__main__"}
    for line, code in code_blocks(PAGES[name], "python"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            exec(compile("\n" * (line - 1) + code, name, "exec"), namespace)


def test_most_pages_have_python_blocks():
    assert sum(len(code_blocks(text, "python")) for text in PAGES.values()) >= 20


@pytest.mark.parametrize("arguments", shell_commands(), ids=" ".join)
def test_shell_commands_parse(arguments):
    if len(arguments) > 1:
        assert build_parser().parse_args(arguments).run
    else:
        with pytest.raises(SystemExit, match="0"):
            build_parser().parse_args([*arguments, "--help"])


def test_pages_name_only_public_modules():
    text = "\n".join(PAGES.values())
    imported = re.findall(rf"^ *(?:from|import) ({PACKAGE}[\w.]*)", text, re.MULTILINE)
    named = re.findall(rf"(?::: |`~?)({PACKAGE}\.[\w.]+)\.\w+[`\n]", text)
    assert {*imported, *named} <= PUBLIC


def test_every_name_of_a_page_exists():
    text = "\n".join(PAGES.values())
    names = re.findall(rf"(?::: |`~?)({PACKAGE}(?:\.[a-z]\w*)*)\.(\w+)[`\n]", text)
    assert len(names) >= 40
    for module, name in names:
        assert hasattr(import_module(module), name), f"{module}.{name}"


def test_table_of_contents_has_every_page():
    listed = re.findall(r"^   ([a-z-]+)$", PAGES["index.rst"], re.MULTILINE)
    assert sorted(f"{name}.rst" for name in listed) == sorted(set(PAGES) - {"index.rst"})


@pytest.mark.parametrize("name", ["query-to-ranking.rst", "documents-to-index.rst"])
def test_source_walks_name_existing_code(name):
    steps = re.findall(r"\*\*([\w/]+\.py)\*\*, ``(?:\w+\.)?(\w+)``", PAGES[name])
    assert len(steps) >= 10
    for path, function in steps:
        source = files(PACKAGE).joinpath(path).read_text(encoding="utf-8")
        assert re.search(rf"(?:def|class) {function}\b", source), f"{path} has no {function}"
    paths = re.findall(r"(?:\*\*|``)([\w/]+\.py)(?:\*\*|``)", PAGES[name])
    assert [path for path in paths if not files(PACKAGE).joinpath(path).is_file()] == []


def test_pages_build_without_warnings(tmp_path):
    config = Path(__file__).parent / "sphinx"
    options = ["-W", "--keep-going", "-q", "-c", config]
    command = [sys.executable, "-m", "sphinx", *options, FOLDER, tmp_path / "html"]
    finished = subprocess.run(command, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    assert "schematic" in (tmp_path / "html" / "overview.html").read_text(encoding="utf-8")


def test_benchmark_tables_match_the_package():
    page = PAGES["benchmarks.rst"]
    assert documentation.filled(page) == page
    assert "``jacolbert:jsquad/validation``" in page
    changed = page.replace('"JaColBERT', '"JaColBERTT')
    assert documentation.filled(changed) == page


def test_published_results_match_published_yaml():
    jqara = {row.source: row.scores["jqara"]["nDCG@10"] for row in published() if row.model == "JaColBERTv2.5"}
    corrected, paper = re.search(r"JaColBERTv2\.5\s+reaches (\.\d+)[^.]*(\.\d+)", PAGES["benchmarks.rst"]).groups()
    assert (float(corrected), float(paper)) == (jqara["jqara"], jqara["paper"])
    (row,) = [row for row in published() if (row.model, row.source) == ("JaColBERTv2", "nouu")]
    recalls = re.search(r"JaColBERTv2 \(110M\)\D+R@1 (\.\d+) and R\\@10 (\.\d+)", PAGES["performance.rst"]).groups()
    assert [float(value) for value in recalls] == [round(row.scores["jsquad"][m], 3) for m in ("R@1", "R@10")]


def test_pictures_are_used_and_small():
    text = "\n".join(PAGES.values())
    shown = set(re.findall(r"^ *\.\. (?:image|figure):: (\S+)$", text, re.MULTILINE))
    assert shown == {f"_static/{path.name}" for path in FOLDER.joinpath("_static").iterdir()}
    assert len(shown) >= 5
    assert all(len(FOLDER.joinpath(name).read_bytes()) < 150_000 for name in shown)
