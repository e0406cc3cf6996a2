"""Recipes are mined, trained and averaged from the command line, on the built-in collection."""

import dataclasses
import json
import re

import numpy as np
import pytest
from checkpoints import write_stanford_checkpoint
from safetensors.numpy import load_file
from sentence_transformers import MultiVectorEncoder

from pyterrier_jacolbert.cli.parser import main
from pyterrier_jacolbert.train import (
    Average,
    Mining,
    Recipe,
    RecipeDataset,
    Stage,
    average_recipe,
    read,
    train_recipe,
)
from pyterrier_jacolbert.train.texts import Texts


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recipe")
    start = write_stanford_checkpoint(folder / "start", hidden=32, layers=1, heads=2)
    stage = Stage(
        name="main", start=str(start), examples="mined.jsonl", n_ways=4, batch_size=2, steps=4, warmup_steps=0,
        learning_rate=1e-3, precision="float32", save_every=2, query_length=12, document_length=24,
    )  # fmt: skip
    recipe = Recipe(
        "tiny",
        (stage, dataclasses.replace(stage, name="post", start="main", steps=2)),
        (Average("mean", ("main@2", "main", "post"), (1.0, 1.0, 2.0)), Average("of-means", ("mean", "post"))),
        datasets=(RecipeDataset("demo", "jacolbert:demo", title_field="title"),),
        mining=(Mining("mined.jsonl", ("bm25", f"colbert:{start}"), n_ways=4, candidates=20),),
    )
    recipe.write(folder / "tiny.yaml")
    return folder / "tiny.yaml"


def test_mine_train_and_average_from_the_command_line(recipe, capsys):
    runs = recipe.with_suffix("")
    assert main(["mine", str(recipe)]) == 0
    mined = list(read(runs / "mined.jsonl"))
    assert len(mined) >= 15
    assert all(len(example.docnos) == 4 and max(example.scores) <= 2.0 for example in mined)
    assert main(["train", str(recipe), "--device", "cpu"]) == 0
    assert main(["average", str(recipe)]) == 0
    printed = capsys.readouterr().out
    assert all(str(runs / name) in printed for name in ("mined.jsonl", "main/final", "post/final", "mean", "of-means"))

    def projection(folder):
        return load_file(runs / folder / "1_Dense" / "model.safetensors")["linear.weight"].astype(np.float64)

    expected = (projection("main/checkpoint-2") + projection("main/final") + 2 * projection("post/final")) / 4
    np.testing.assert_allclose(projection("mean"), expected, atol=1e-7)
    assert not np.array_equal(projection("main/final"), projection("post/final"))
    assert MultiVectorEncoder(str(runs / "of-means"), device="cpu").encode_query("山").shape[0] == 12


def test_best_and_second_rank_all_checkpoints_but_the_last(recipe, tmp_path):
    plan = Recipe.read(recipe)
    stage = dataclasses.replace(plan.stages[0], save_every=1)
    plan = dataclasses.replace(plan, stages=(stage,), averages=(Average("a", ("main@best", "main@second")),))
    assert main(["mine", str(recipe)]) == 0
    measures = iter([0.2, 0.9, 0.5, 1.0])
    settings = {"examples_folder": recipe.with_suffix(""), "device": "cpu", "verbose": False}
    train_recipe(plan, tmp_path, measure=lambda model: next(measures), **settings)
    out = average_recipe(plan, tmp_path)["a"]
    card = (out / "README.md").read_text(encoding="utf-8")
    assert "| checkpoint-2 |" in card
    assert "| checkpoint-3 |" in card


def test_the_start_of_a_stage_can_be_averaged(recipe, tmp_path):
    plan = Recipe.read(recipe)
    assert main(["mine", str(recipe)]) == 0
    averages = (Average("a", ("main@0", "main"), (1.0, 3.0)), Average("b", ("post@0", "post")))
    plan = dataclasses.replace(plan, averages=averages)
    train_recipe(plan, tmp_path, examples_folder=recipe.with_suffix(""), device="cpu", verbose=False)
    folders = average_recipe(plan, tmp_path)
    start = load_file(recipe.parent / "start" / "model.safetensors")["linear.weight"]
    final, post, one, other = (
        load_file(folder / "1_Dense" / "model.safetensors")["linear.weight"]
        for folder in (tmp_path / "main" / "final", tmp_path / "post" / "final", *folders.values())
    )
    np.testing.assert_allclose(one, (start + 3 * final) / 4, atol=1e-6)
    np.testing.assert_allclose(other, (final + post) / 2, atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "command", "message"),
    [
        ({"mining": ()}, "mine", "has nothing to mine; add 'mining'"),
        ({"datasets": ()}, "train", "names no data set for .*; add 'datasets'"),
        ({}, "train", "mined.jsonl"),
        ({}, "average", "does not exist; run train first"),
    ],
)
def test_missing_parts_are_reported_in_one_line(recipe, changes, command, message, tmp_path, capsys):
    path = tmp_path / "tiny.yaml"
    dataclasses.replace(Recipe.read(recipe), **changes).write(path)
    assert main([command, str(path)]) == 1
    error = capsys.readouterr().err
    assert re.search(message, error)
    assert len(error.splitlines()) == 1


def test_texts_are_looked_up_with_titles():
    import pyterrier as pt

    data = pt.get_dataset("jacolbert:demo")
    first = next(iter(data.get_corpus_iter(verbose=False)))
    assert Texts(data, "title")[first["docno"]] == f"{first['title']} {first['text']}"
    assert Texts(data)[first["docno"]] == first["text"]
    assert first["docno"] in Texts(data)
    assert "nothing" not in Texts(data)


def test_teachers_of_another_kind_are_rejected():
    with pytest.raises(ValueError, match="teachers of 'x' must be a list of one or more of 'bm25', 'dense:NAME'"):
        Mining("x", ("bm26",))
    assert json.dumps(dataclasses.asdict(Mining("x", ("cross-encoder:some/name",))))
