"""The README's example runs as it stands, but for the collection and the checkpoint."""

import re
import warnings
from pathlib import Path

import pandas as pd

from pyterrier_jacolbert.suite import PAPER_TASKS, protocol_of
from pyterrier_jacolbert.suite.published import published
from pyterrier_jacolbert.suite.tables import label

README = (Path(__file__).resolve().parents[1] / "README.md").read_text(encoding="utf-8")


def test_the_example_gives_a_table_of_three_systems(tmp_path, monkeypatch, checkpoint):
    (example,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(example.strip().splitlines()) <= 10
    replacements = {
        "jacolbert:jsquad/validation": "jacolbert:demo",
        'JaColBERTIndexer("jsquad.jacolbert")': f'JaColBERTIndexer("jsquad.jacolbert", {str(checkpoint)!r})',
    }
    for text, replacement in replacements.items():
        assert example.count(text) == 1
        example = example.replace(text, replacement)
    *statements, last = example.strip().splitlines()
    monkeypatch.chdir(tmp_path)
    names = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exec("\n".join(statements), names)
        table = eval(last, names)
    assert isinstance(table, pd.DataFrame)
    assert len(table) == 3
    assert table["ndcg_cut_10"].iloc[0] > 0.3  # BM25's, on questions half of which share no word with their answer


def test_the_commands_are_those_that_the_continuous_integration_runs():
    commands = dict(re.findall(r"<!-- command: (\w+) -->\n```bash\n(.*?)\n```", README, re.DOTALL))
    assert set(commands) == {"demo", "tests"}
    script = (Path(__file__).resolve().parents[1] / ".ci" / "run").read_text(encoding="utf-8")
    assert "for name in demo tests; do" in script
    assert "pytest" in commands["tests"]


def test_published_values_in_the_text_are_those_of_published_yaml():
    claim = re.search(r"JaColBERTv2 \(110M\) is published with R@1 (\.\d+) and R@10 (\.\d+)", README)
    (row,) = [row for row in published() if (row.model, row.source) == ("JaColBERTv2", "nouu")]
    scores = row.scores["jsquad"]
    assert [float(value) for value in claim.groups()] == [round(scores["R@1"], 3), round(scores["R@10"], 3)]
    values = {row.source: row.scores["jqara"]["nDCG@10"] for row in published() if row.model == "JaColBERTv2.5"}
    (corrected, paper) = re.search(r"JaColBERTv2\.5 has (\.\d+) there, and not the paper's (\.\d+)", README).groups()
    assert (float(corrected), float(paper)) == (values["jqara"], values["paper"])


def test_the_table_of_benchmarks_is_that_of_the_protocols():
    rows = re.findall(r"^\| `(\w+)` \| `(\S+)` \| ([\d,]+) \| (\w+[\w-]*) ([\d,]+) [\w ]+ \| (\S+) \|$", README, re.M)
    assert [row[0] for row in rows] == list(PAPER_TASKS)
    for task, dataset, queries, verb, size, measure in rows:
        how = protocol_of(task)
        assert (dataset, int(queries.replace(",", ""))) == (how.dataset, how.queries)
        assert int(size.replace(",", "")) == (how.documents or how.candidates)
        assert verb == {"retrieve": "search", "rerank": "re-rank"}[how.stage]
        assert measure == label(how.measure)
