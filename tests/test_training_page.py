"""The page on training runs on three files of a user, and has the numbers of the paper's recipe."""

import json
import re
import shlex
import textwrap
from importlib.resources import files

import pytest
import recipe_tables
from miniature_recipes import THINGS

from pyterrier_jacolbert.cli.parser import main

PAGE = files("pyterrier_jacolbert").joinpath("pt_docs", "training.rst").read_text(encoding="utf-8")


def blocks(language):
    """Returns the code blocks of the section in a language."""
    headings = re.split(r"^(.+)\n-{4,}\n", PAGE, flags=re.MULTILINE)
    section = headings[headings.index("Train on your own data") + 1]
    found = re.findall(rf"^\.\. code-block:: {language}\n\n((?:(?:   .*)?\n)+)", section, re.MULTILINE)
    return [textwrap.dedent(block) for block in found]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder, with a user's three files in the forms of the page, and its recipe."""
    document = json.loads(blocks("json")[0])
    documents = [document, *(dict(zip(document, (f"d{n}", thing, f"{thing}についての文。"), strict=True))
                             for n, thing in enumerate(THINGS, start=2))]  # fmt: skip
    (tmp_path / "documents.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in documents), encoding="utf-8")
    queries = [f"q{row['docno']}\t{row['title']}とは何ですか\n" for row in documents]
    (tmp_path / "queries.tsv").write_text("".join(queries), encoding="utf-8")
    qrels = [f"q{row['docno']}\t{row['docno']}\n" for row in documents]
    (tmp_path / "qrels.tsv").write_text("".join(qrels), encoding="utf-8")
    (tmp_path / "faq.yaml").write_text(blocks("yaml")[0].replace("points: 5", "points: 2"), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_three_files_become_a_searchable_checkpoint(folder, capsys):
    (console,) = blocks("console")
    commands = [shlex.split(line) for line in re.findall(r"^\$ pyterrier-jacolbert (.*)$", console, re.MULTILINE)]
    assert [command[0] for command in commands] == ["mine", "train", "average", "index", "search"]
    for command in commands:
        assert main(command) == 0, capsys.readouterr().err
    printed = capsys.readouterr().out
    assert "barrier" in printed
    first = re.search(r"^ +1 +[\d.]+ +(\S+)$", printed, re.MULTILINE)[1]
    assert first == "d1"


def test_tables_of_the_paper_s_recipe_match_the_package():
    assert recipe_tables.filled(PAGE) == PAGE
    assert "``learning_rate: 3.0e-05``" in PAGE
    assert "count: 115365" in PAGE
    changed = PAGE.replace("learning_rate: 3.0e-05", "learning_rate: 1.0e-05")
    assert recipe_tables.filled(changed) == PAGE
