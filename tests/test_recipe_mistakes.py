"""Mistakes in a recipe are told in one sentence by mine, train and average, before anything long begins."""

import json
import re

import pytest
import yaml
from checkpoints import write_stanford_checkpoint
from miniature_recipes import THINGS

from pyterrier_jacolbert.cli.parser import main
from pyterrier_jacolbert.train import Example, save

NOWHERE = "nobody/nothing"
OWN = {"name": "own", "documents": "docs.jsonl", "queries": "queries.tsv", "qrels": "qrels.tsv"}
MINING = {"name": "mined.jsonl", "teachers": ["bm25"], "n_ways": 3, "candidates": 12}
STAGE = {"name": "main", "start": "checkpoint", "examples": "given.jsonl", "n_ways": 3, "batch_size": 2, "steps": 2,
         "precision": "float32", "warmup_steps": 0, "save_every": 1}  # fmt: skip
RECIPE = {
    "name": "r",
    "datasets": [OWN],
    "mining": [MINING],
    "stages": [STAGE],
    "averages": [{"name": "a", "of": ["main@1", "main"]}],
}
MISSING_FILE = ({"datasets": [{**OWN, "qrels": "none.tsv"}]}, "'own' has its qrels in .*none.tsv, which does not exist")
UNKNOWN = ({"datasets": [{"name": "own", "dataset": "irds:nothing/here"}]}, "'own' of the recipe is not known")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_stanford_checkpoint("checkpoint", hidden=32, layers=1, heads=2)
    documents = [{"docno": f"d{i}", "text": f"{thing}である。"} for i, thing in enumerate(THINGS)]
    lines = {
        "docs.jsonl": [json.dumps(document, ensure_ascii=False) for document in documents],
        "queries.tsv": [f"q{i}\t{thing}とは" for i, thing in enumerate(THINGS)],
        "qrels.tsv": [f"q{i}\td{i}" for i in range(len(THINGS))],
    }
    for name, rows in lines.items():
        (tmp_path / name).write_text("\n".join(rows), encoding="utf-8")
    save([Example(f"q{i}", ("d0", "d1", "d2"), (1.0, 0.5, 0.0)) for i in range(5)], "r/given.jsonl")
    return tmp_path


@pytest.mark.parametrize(
    ("command", "changes", "message"),
    [
        *((command, *MISSING_FILE) for command in ("mine", "train", "average")),
        *((command, *UNKNOWN) for command in ("mine", "train", "average")),
        ("mine", {"mining": [MINING, {**MINING, "name": "m", "teachers": [f"cross-encoder:{NOWHERE}"]}]},
         f"The cross-encoder '{NOWHERE}' is not on this machine"),
        ("mine", {"mining": [MINING, {**MINING, "name": "m", "teachers": [f"colbert:{NOWHERE}"]}]},
         f"The checkpoint '{NOWHERE}' is not on this machine"),
        ("mine", {"mining": [MINING, {**MINING, "name": "m", "retrievers": [f"dense:{NOWHERE}"]}]},
         f"The dense model '{NOWHERE}' is not on this machine"),
        ("mine", {"mining": [MINING, {**MINING, "name": "m", "retrievers": ["colbert:student"]}],
                  "student": {"encoder": NOWHERE}}, f"The encoder '{NOWHERE}' is not on this machine"),
        ("train", {"stages": [STAGE, {**STAGE, "name": "b", "start": NOWHERE}]},
         f"The checkpoint '{NOWHERE}' is not on this machine"),
        ("train", {"stages": [STAGE, {**STAGE, "name": "b", "teacher": NOWHERE, "imitation_weight": 1.0}]},
         f"The checkpoint '{NOWHERE}' is not on this machine"),
        ("train", {"student": {"encoder": NOWHERE}}, f"The encoder '{NOWHERE}' is not on this machine"),
        ("train", {"held_out": [{"dataset": "own"}]}, "5 of 5 queries of the examples from 'own' are held out"),
        ("average", {}, "needs 'main@1', but .* does not exist; run train first"),
        ("average", {"averages": [{"name": "a", "of": ["main@0", "main"]}], "stages": [{**STAGE, "start": NOWHERE}]},
         f"The checkpoint '{NOWHERE}' is not on this machine"),
    ],
)  # fmt: skip
def test_mistakes_are_told_before_anything_long_begins(folder, command, changes, message, capsys):
    (folder / "r.yaml").write_text(yaml.safe_dump({**RECIPE, **changes}), encoding="utf-8")
    assert main([command, "r.yaml"]) == 1
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1, error
    assert re.search(message, error), error
    assert [path.name for path in (folder / "r").rglob("*") if path.is_file()] == ["given.jsonl"]


@pytest.mark.parametrize("command", ["mine", "train"])
def test_without_a_gpu_the_cpu_is_used_and_said(folder, command, capsys):
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    mining = {**MINING, "retrievers": ["colbert:checkpoint"], "false_negative_margin": None}
    (folder / "r.yaml").write_text(yaml.safe_dump({**RECIPE, "mining": [mining]}), encoding="utf-8")
    assert main([command, "r.yaml", "--device", "cuda"]) == 0
    assert "There is no GPU for device='cuda'" in capsys.readouterr().err
