"""Recipes have the published numbers, survive YAML, and explain what is wrong with a file."""

import dataclasses
from pathlib import Path

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from pyterrier_jacolbert.train import Average, ExampleFile, HeldOut, Mining, Recipe, RecipeDataset, Stage, Student


def test_the_recipe_has_the_paper_s_numbers():
    main = Recipe.jacolbert_v2_5().stage("main")
    assert (main.n_ways, main.batch_size, main.every, main.steps) == (32, 64, 1, None)
    assert 3_200_000 / main.batch_size == 50_000
    assert (main.schedule, main.learning_rate, main.warmup_steps, main.weight_decay) == ("schedule_free", 3e-5, 2500, 0)
    assert (main.loss, main.normalize_student, main.normalize_teacher) == ("kl", True, True)
    assert (main.student_temperature, main.teacher_temperature, main.in_batch_negatives) == (1, 1, False)
    assert (main.query_length, main.document_length, main.start) == (32, 300, "bclavie/JaColBERT")
    assert [average.name for average in Recipe.jacolbert_v2_5().averages] == ["v2.4", "v2.5"]
    assert [len(average.of) for average in Recipe.jacolbert_v2_5().averages] == [3, 5]


def test_the_released_code_uses_every_fourth_line():
    main = Recipe.as_released_code().stage("main")
    assert (main.every, main.batch_size) == (4, 16)
    assert 3_200_000 / main.every / main.batch_size == 50_000


@pytest.mark.parametrize("recipe", [Recipe.jacolbert_v2_5(), Recipe.as_released_code()])
def test_every_number_has_a_source_and_survives_yaml(recipe, tmp_path):
    settings = {field.name for field in dataclasses.fields(Stage)}
    for part, kind in (("examples", ExampleFile), ("mining", Mining), ("held_out", HeldOut)):
        settings |= {f"{part}.{field.name}" for field in dataclasses.fields(kind)}
    settings |= {f"datasets.{dataset.name}" for dataset in recipe.datasets}
    settings |= {f"averages.{average.name}" for average in recipe.averages}
    assert settings - {"name", "mining.name"} == set(recipe.sources)
    assert recipe.student is None
    recipe.write(tmp_path / "recipe.yaml")
    assert Recipe.read(tmp_path / "recipe.yaml") == recipe


example_files = st.builds(
    ExampleFile, st.text(), weight=st.floats(0.01, 10), dataset=st.none() | st.just("d")
) | st.builds(ExampleFile, released=st.text(), count=st.none() | st.integers(1, 10**7))


@example(Stage(name="次の\x85行", start="", examples=""))  # a line break that PyYAML does not escape
@given(
    st.builds(
        Stage,
        name=st.text(min_size=1),
        start=st.text(),
        examples=st.text() | st.lists(example_files, min_size=1, max_size=3).map(tuple),
        n_ways=st.integers(3, 64),
        steps=st.none() | st.integers(1, 10**6),
        learning_rate=st.floats(1e-9, 1, exclude_min=True),
        loss=st.sampled_from(["kl", "margin_mse", "hard_labels"]),
        in_batch_negatives=st.booleans(),
    )
)
def test_any_recipe_survives_yaml(tmp_path_factory, stage):
    path = tmp_path_factory.mktemp("recipe") / "recipe.yaml"
    settings = {
        "datasets": (RecipeDataset("d", "jacolbert:demo"),),
        "mining": (Mining("m.jsonl", ("bm25", "dense:x/y"), retrievers=("bm25", "colbert:student")),),
        "held_out": (HeldOut("d", share=0.1, by="title"),),
        "student": Student("x/y", head="residual", layers=(0, 2), vocabulary=100),
    }
    recipe = (
        Recipe("any", (stage,), (Average("mean", (stage.name + "@10", stage.name), (0.25, 0.75)),), **settings)
        if ("@" not in stage.name and stage.name != "mean")
        else Recipe("any", (stage,), **settings)
    )
    recipe.write(path)
    assert Recipe.read(path) == recipe


RECIPES = Path(__file__).resolve().parents[1] / "examples" / "recipes"


def test_the_published_recipes_are_among_the_examples():
    assert Recipe.read(RECIPES / "jacolbert_v2_5.yaml") == Recipe.jacolbert_v2_5()
    assert Recipe.read(RECIPES / "as_released_code.yaml") == Recipe.as_released_code()
    assert Recipe.read(RECIPES / "mini.yaml").name == "mini"


def recipe_file(tmp_path, **changes):
    stage = {"name": "main", "start": "x", "examples": "e.jsonl", **changes.pop("stage", {})}
    content = {"name": "mine", "stages": [stage], **changes}
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stage": {"learning_rat": 1e-5}}, r"A stage has no setting 'learning_rat'; the nearest is 'learning_rate'"),
        ({"stagse": []}, r"A recipe has no setting 'stagse'; the nearest is 'stages'"),
        ({"stage": {"batch_size": "64"}}, r"batch_size of 'main' must be int, not '64'"),
        ({"stage": {"loss": "kld"}}, r"loss of 'main' must be 'kl' or .* or 'imitation', not 'kld'"),
        ({"stage": {"learning_rate": 0}}, r"learning_rate of 'main' must be more than 0, not 0"),
        ({"stage": {"dropout": 1.5}}, r"dropout of 'main' must be between 0 and 1, not 1.5"),
        ({"stage": {"n_ways": 1}}, r"n_ways of 'main' must be 2 or more, not 1"),
        ({"stages": []}, r"stages of 'mine' must be a list of one or more stages"),
        ({"stages": {}}, r"stages must be a list"),
        (
            {"averages": [{"name": "a", "of": ["mian", "main"]}]},
            r"'mian', which is not an earlier part.*choose from main",
        ),
        ({"averages": [{"name": "a", "of": ["main"]}]}, r"of of 'a' must be a list of two or more checkpoints"),
        ({"averages": [{"name": "main", "of": ["main", "main@2"]}]}, r"has two parts named 'main'"),
        ({"averages": [{"of": ["main", "main@2"]}]}, r"An average lacks a setting; add 'name'"),
    ],
)
def test_invalid_files_are_explained_in_one_line(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message) as caught:
        Recipe.read(recipe_file(tmp_path, **changes))
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(str(tmp_path / "recipe.yaml"))


def test_invalid_yaml_is_explained_in_one_line(tmp_path):
    (tmp_path / "recipe.yaml").write_text("stages: [", encoding="utf-8")
    with pytest.raises(ValueError, match="is not YAML") as caught:
        Recipe.read(tmp_path / "recipe.yaml")
    assert "\n" not in str(caught.value)


def test_recipes_are_immutable():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Recipe.jacolbert_v2_5().stages[0].learning_rate = 1.0
