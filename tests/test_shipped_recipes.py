"""Every recipe of the examples is mined, trained and averaged from the command line, on miniature data."""

from pathlib import Path

import pytest
from miniature_recipes import shrink

import pyterrier_jacolbert as pj
from pyterrier_jacolbert.cli.parser import main
from pyterrier_jacolbert.train import Recipe, read

RECIPES = sorted((Path(__file__).resolve().parents[1] / "examples" / "recipes").glob("*.yaml"))
STUDENT_FROM_AN_ENCODER = """
name: mini
datasets:
- {name: jaquad, dataset: "jacolbert:jaquad/train", title_field: title}
- {name: jsts, dataset: "jacolbert:jsts/train"}
student:
  encoder: me5-small-ja
  vocabulary: 20000
  query_prompt: "query: "
  document_prompt: "passage: "
  augment_queries: false
  query_length: 48
  skiplist: ""
mining:
- name: jaquad.jsonl
  dataset: jaquad
  retrievers: [bm25, "colbert:student"]
  teachers: [bm25, "dense:me5-small-ja", "colbert:student"]
  normalize: zscore
  depth: 30
  candidates: 12
  n_ways: 4
  queries: 8000
- name: jsts.jsonl
  dataset: jsts
  retrievers: ["colbert:student", "dense:me5-small-ja"]
  teachers: ["dense:me5-small-ja", "colbert:student"]
  normalize: zscore
  depth: 30
  candidates: 30
  n_ways: 4
held_out:
- {dataset: jaquad, share: 0.1, by: title, queries: 400, documents: 1200}
- {dataset: jsts, share: 0.25, queries: 300, documents: 4000}
stages:
- name: rank
  start: student
  examples:
  - {file: jaquad.jsonl, dataset: jaquad}
  - {file: jsts.jsonl, dataset: jsts, weight: 0.5}
  n_ways: 4
  batch_size: 16
  steps: 500
  teacher: student
  imitation_weight: 1.0
  in_batch_negatives: true
  in_batch_temperature: 0.1
  precision: float32
averages:
- {name: average, of: [student, rank], points: 6}
"""


TEXTS = {path.stem: path.read_text(encoding="utf-8") for path in RECIPES}
IN_PROSE = pytest.mark.xfail(reason="its start is described in words", strict=True)


@pytest.fixture(
    params=[
        *(pytest.param(name, marks=[] if "datasets:" in text else IN_PROSE) for name, text in TEXTS.items()),
        "student-from-an-encoder",
    ]
)
def recipe(request, tmp_path):
    """A recipe of the examples, or one that builds its own student."""
    path = tmp_path / f"{request.param}.yaml"
    path.write_text(TEXTS.get(request.param, STUDENT_FROM_AN_ENCODER), encoding="utf-8")
    whole = Recipe.read(path)
    shrunk = shrink(whole, tmp_path)
    for parts in ("stages", "averages", "datasets", "mining", "held_out"):
        assert [part.name for part in getattr(shrunk, parts)] == [part.name for part in getattr(whole, parts)]
    shrunk.write(path)
    return path


def test_the_three_commands_run_to_the_end(recipe, capsys):
    runs, plan = recipe.with_suffix(""), Recipe.read(recipe)
    for command in (["mine", "--device", "cpu"], ["train", "--device", "cpu"], ["average"]):
        assert main([command[0], str(recipe), *command[1:]]) == 0, capsys.readouterr().err
    for mining in plan.mining:
        assert all(len(example.docnos) == mining.n_ways for example in read(runs / mining.name))
    for stage in plan.stages:
        assert (runs / stage.name / "final" / "modules.json").is_file()
    for average in plan.averages:
        model = pj.JaColBERT(str(runs / average.name), device="cpu")
        assert model.encode_queries(["山"])[0].shape[1] == model.dim
        assert (runs / average.name / "points.json").is_file() == (average.points is not None)
