"""The README's example runs as it stands, but for the collection and the checkpoint."""

import re
import warnings
from pathlib import Path

import pandas as pd

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
