"""The README is short, its example gives the output below it, and its commands and links work."""

import re
from pathlib import Path

import pandas as pd
import pytest

from pyterrier_jacolbert.evaluation.published import published

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def code_block(language: str) -> str:
    (block,) = re.findall(rf"^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
    return block


def test_the_readme_can_be_read_to_its_end():
    assert len(README.splitlines()) <= 150


def test_the_example_gives_the_output_below_it(tmp_path, monkeypatch):
    statements = code_block("python").strip().splitlines()
    assert len(statements) <= 11
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    for _ in range(2):  # a notebook cell is run again
        exec("\n".join(statements[:-1]), names)
        table = eval(statements[-1], names)
    assert isinstance(table, pd.DataFrame)
    header, *rows = code_block("text").rstrip().splitlines()
    assert header.split() == list(table.columns)
    shown = [re.fullmatch(r"\d+ +(.+?)  +([\d.]+)  +([\d.]+)", row.strip()).groups() for row in rows]
    assert [name for name, *_ in shown] == table["name"].tolist()
    for column, values in zip(table.columns[1:], zip(*[row[1:] for row in shown], strict=True), strict=True):
        # Documents are encoded in bfloat16 where the processor multiplies it, and near ties of 114 questions differ.
        assert [float(value) for value in values] == pytest.approx(table[column].tolist(), abs=0.01)


def test_ci_runs_the_commands_of_the_readme():
    commands = dict(re.findall(r"<!-- command: (\w+) -->\n```bash\n(.*?)\n```", README, re.DOTALL))
    assert set(commands) == {"demo", "tests"}
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert "for name in demo tests; do" in script
    assert "pytest" in commands["tests"]


def test_published_values_are_those_of_published_yaml():
    claim = re.search(r"JaColBERTv2 is published with R@1 (\.\d+) and R@10 (\.\d+)", README)
    (row,) = [row for row in published() if (row.model, row.source) == ("JaColBERTv2", "nouu")]
    scores = row.scores["jsquad"]
    assert [float(value) for value in claim.groups()] == [round(scores["R@1"], 3), round(scores["R@10"], 3)]


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\((?!http|#)([^)]+)\)", README))))
def test_a_link_leads_to_a_file(target):
    assert (ROOT / target).is_file()


def test_extras_are_those_of_the_package():
    from importlib.metadata import metadata

    named = re.search(r"Extras: (.*?)\.\n", README, re.DOTALL)[1]
    assert set(re.findall(r"`(\w+)`", named)) == set(metadata("pyterrier-jacolbert").get_all("Provides-Extra"))
