"""The data of recipes: files of a user, several data sets, held-out queries, students and dense retrievers."""

import dataclasses
import json
import re
from collections import Counter

import numpy as np
import pytest
import yaml
from checkpoints import write_stanford_checkpoint, write_unigram_encoder
from safetensors.numpy import load_file
from sentence_transformers import MultiVectorEncoder

from pyterrier_jacolbert.cli.parser import main
from pyterrier_jacolbert.train import (
    Average,
    Example,
    ExampleFile,
    HeldOut,
    Interpolation,
    Mining,
    Recipe,
    RecipeDataset,
    Stage,
    Student,
    mine_recipe,
    read,
    save,
    train_recipe,
)
from pyterrier_jacolbert.train.recipe_collections import FileDataset, open_collections
from pyterrier_jacolbert.train.stage_input import StageInput

STAGE = Stage(
    name="main", start="checkpoint", examples="mined.jsonl", n_ways=3, batch_size=2, steps=4, warmup_steps=0,
    learning_rate=1e-3, precision="float32", save_every=1, query_length=12, document_length=24,
)  # fmt: skip
THINGS = "富士山 東京 小説 料理 日本 都市 湖 川 国 町 首都 作家".split()
OWN = RecipeDataset("own", documents="docs.jsonl", queries="queries.tsv", qrels="qrels.tsv", title_field="title")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A folder with a user's three files, and a checkpoint to start from."""
    folder = tmp_path_factory.mktemp("user")
    write_stanford_checkpoint(folder / "checkpoint", hidden=32, layers=1, heads=2)
    documents = [{"docno": f"d{i}", "title": thing, "text": f"{thing}である。"} for i, thing in enumerate(THINGS)]
    lines = [json.dumps(document, ensure_ascii=False) for document in documents]
    (folder / "docs.jsonl").write_text("\n".join(lines), encoding="utf-8")
    queries = [f"q{i}\t{thing}とは" for i, thing in enumerate(THINGS)]
    (folder / "queries.tsv").write_text("\n".join(queries), encoding="utf-8")
    (folder / "qrels.tsv").write_text("\n".join(f"q{i}\td{i}" for i in range(len(THINGS))), encoding="utf-8")
    return folder


def test_three_files_of_a_user_become_a_checkpoint(files, capsys):
    recipe = Recipe(
        "own",
        (STAGE,),
        (Average("best", ("main@best", "main@second")), Average("line", ("main@1", "main"), points=3)),
        datasets=(OWN,),
        mining=(
            Mining(
                "mined.jsonl",
                ("bm25",),
                retrievers=("colbert:checkpoint",),
                n_ways=3,
                candidates=12,
                false_negative_margin=None,
            ),
        ),
        held_out=(HeldOut("own", share=0.3),),
    )
    recipe.write(files / "own.yaml")
    for command in ("mine", "train", "average"):
        assert main([command, str(files / "own.yaml")]) == 0, capsys.readouterr().err
    runs = files / "own"
    held_out = open_collections(recipe, files)["own"].held_out_qids
    assert 0 < len(held_out) < len(THINGS)
    assert {example.qid for example in read(runs / "mined.jsonl")} == {f"q{i}" for i in range(12)} - held_out
    line = Interpolation.read(runs / "line")
    assert [point.weight for point in line.points] == [0, 0.5, 1]
    assert all(0 <= point.measure == point.by_dataset["own"] <= 1 for point in line.points)
    best = max(line.points, key=lambda point: point.measure).weight
    assert line.weight == best
    assert f"barrier {line.barrier:.4f}, disagreement {line.disagreement:.3f}" in capsys.readouterr().out

    def projection(folder):
        return load_file(runs / folder / "1_Dense" / "model.safetensors")["linear.weight"].astype(np.float64)

    expected = (1 - best) * projection("main/checkpoint-1") + best * projection("main/final")
    np.testing.assert_allclose(projection("line"), expected, atol=1e-7)
    assert MultiVectorEncoder(str(runs / "best"), device="cpu").encode_query("山").shape[0] == 12


def test_examples_of_several_data_sets_keep_their_texts_and_weights(files, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "docs.tsv").write_text("d0\t別の文書。\nd1\tもう一つの文書。\nd:2\t三つ目。\n", encoding="utf-8")
    (other / "queries.tsv").write_text("q0\t別の問い\n", encoding="utf-8")
    datasets = (OWN, RecipeDataset("other", documents=str(other / "docs.tsv"), queries=str(other / "queries.tsv")))
    save([Example(f"q{i}", (f"d{i}", f"d{i + 1}", f"d{i + 2}"), (1.0, 0.5, 0.0)) for i in range(5)], tmp_path / "a")
    save([Example("q0", ("d0", "d1", "d:2"), (3.0, 2.0, 1.0))], tmp_path / "b")
    examples = (ExampleFile("a", dataset="own", weight=1.4), ExampleFile("b", dataset="other", count=3))
    stage = dataclasses.replace(STAGE, examples=examples)
    recipe = Recipe("two", (stage,), datasets=datasets)
    part = StageInput(recipe, stage, open_collections(recipe, files), tmp_path)
    drawn = list(part.examples())
    counts = Counter(example.qid for example in drawn)
    assert counts["other:q0"] == 3
    assert sorted(counts[f"own:q{i}"] for i in range(5)) == [1, 1, 1, 2, 2]
    assert part.queries["own:q0"] == "富士山とは"
    assert part.queries["other:q0"] == "別の問い"
    assert part.documents["own:d0"] == "富士山 富士山である。"
    assert part.documents["other:d:2"] == "三つ目。"
    assert "third:d0" not in part.documents
    assert list(part.examples()) == drawn
    final = train_recipe(recipe, tmp_path / "runs", base=files, examples_folder=tmp_path, device="cpu", verbose=False)
    assert final["main"].is_dir()


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (HeldOut("own"), r"12 of 12 queries of the examples from 'own' are held out in 'own' \(first: 'q0'\)"),
        (HeldOut("own", share=0.3), r"of 12 queries of the examples from 'own' are held out"),
        (HeldOut("again"), r"1 of 12 queries of the examples from 'own' are held out in 'again' \(first: 'q3'\)"),
    ],
)
def test_held_out_queries_among_the_examples_are_refused(files, tmp_path, part, message):
    (tmp_path / "queries.tsv").write_text("x\t料理とは \n", encoding="utf-8")  # the same but for white space
    (tmp_path / "qrels.tsv").write_text("x\td3\n", encoding="utf-8")
    again = dataclasses.replace(
        OWN, name="again", queries=str(tmp_path / "queries.tsv"), qrels=str(tmp_path / "qrels.tsv")
    )
    save([Example(f"q{i}", ("d1", "d2", "d3"), (1.0, 0.5, 0.0)) for i in range(12)], tmp_path / "mined.jsonl")
    stage = dataclasses.replace(STAGE, examples=(ExampleFile("mined.jsonl", dataset="own"),))
    recipe = Recipe("r", (stage,), datasets=(OWN, again), held_out=(part,))
    with pytest.raises(ValueError, match=message):
        train_recipe(recipe, tmp_path, base=files, device="cpu")
    assert not (tmp_path / "main").exists()


def test_all_questions_about_an_article_are_held_out_together(files, tmp_path):
    rows = [f"q{i}-{j}\t問{i}{j}" for i in range(12) for j in range(3)]
    (tmp_path / "queries.tsv").write_text("\n".join(rows), encoding="utf-8")
    rows = [f"q{i}-{j} 0 d{i} 1" for i in range(12) for j in range(3)]
    (tmp_path / "qrels.txt").write_text("\n".join(rows), encoding="utf-8")
    own = dataclasses.replace(OWN, queries=str(tmp_path / "queries.tsv"), qrels=str(tmp_path / "qrels.txt"))
    recipe = Recipe("r", (STAGE,), datasets=(own,), held_out=(HeldOut("own", share=0.4, by="title"),))
    collection = open_collections(recipe, files)["own"]
    articles = Counter(qid.split("-")[0] for qid in collection.held_out_qids)
    assert set(articles.values()) == {3}
    assert 0 < len(articles) < 12
    assert len(collection.training_topics) == 36 - 3 * len(articles)
    assert len(collection.training_texts()) == 12 - len(articles)


@pytest.mark.parametrize(
    ("changes", "command", "message"),
    [
        ({"datasets": [{"name": "own", "dataset": "jacolbert:dema"}]}, "mine", "'own' of the recipe is not known"),
        ({"datasets": [{"name": "own"}]}, "mine", "needs either 'dataset'"),
        ({"datasets": [{"name": "own", "documents": "d", "queries": "q"}]}, "mine", "has its documents in .*d, which"),
        ({"mining": [{"name": "m", "teachers": ["bm25"], "dataset": "on"}]}, "mine", "names the data set 'on'; choose"),
        ({"held_out": [{"dataset": "own", "measure": "nDCG@ten"}]}, "train", "measure 'nDCG@ten' of held_out is unkn"),
        ({"held_out": [{"dataset": "own", "share": 1}]}, "train", "share of 'own' must be between 0 and 1"),
        ({"stages": [{"name": "s", "start": "student", "examples": "e"}]}, "train", "describes no student; add"),
        ({"averages": [{"name": "a", "of": ["main", "main@1"], "points": 1}]}, "average", "points of 'a' must be 2"),
        ({"averages": [{"name": "a", "of": ["main", "main@1"], "points": 3}]}, "average", "does not exist; run train"),
    ],
)
def test_mistakes_are_explained_in_one_line_before_anything_begins(files, tmp_path, changes, command, message, capsys):
    save([Example("q0", ("d0", "d1", "d2"), (1.0, 0.5, 0.0))], tmp_path / "r" / "mined.jsonl")
    content = {
        "name": "r",
        "datasets": [{"name": "own", **{name: str(files / f"{name}.tsv") for name in ("queries", "qrels")},
                      "documents": str(files / "docs.jsonl")}],
        "stages": [{"name": "main", "start": str(files / "checkpoint"), "examples": "mined.jsonl", "n_ways": 3}],
        **changes,
    }  # fmt: skip
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    assert main([command, str(tmp_path / "r.yaml")]) == 1
    error = capsys.readouterr().err
    assert re.search(message, error), error
    assert len(error.splitlines()) == 1
    assert [path.name for path in (tmp_path / "r").iterdir()] == ["mined.jsonl"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("queries.tsv", "q0 山\n", "queries.tsv, line 1: there is no tab"),
        ("qrels.tsv", "q0\td0\t1\nq1\n", "qrels.tsv .*line 2 "),
        ("qrels.tsv", "q0\td0\tgood\n", "qrels.tsv .*line 1 "),
        ("docs.jsonl", '{"docno": "d0", "body": "山"}\n', "document 1 has no 'text', only docno, body"),
    ],
)
def test_malformed_files_are_named_with_the_line(tmp_path, name, content, message):
    for file in ("docs.jsonl", "queries.tsv", "qrels.tsv"):
        (tmp_path / file).write_text(content if file == name else "", encoding="utf-8")
    dataset = FileDataset(OWN, tmp_path)
    readers = {"docs.jsonl": lambda: list(dataset.get_corpus_iter()), "queries.tsv": dataset.get_topics}
    with pytest.raises(ValueError, match=message):
        readers.get(name, dataset.get_qrels)()


# ------------------------------------------------------------------------------------------- students and teachers


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    """A folder with a tiny encoder that is no ColBERT, with a unigram tokenizer."""
    folder = tmp_path_factory.mktemp("encoder")
    return folder, write_unigram_encoder(folder, [*THINGS, "とはである。"])


def test_a_student_is_built_mined_with_and_trained_from_its_encoder(files, encoder, tmp_path):
    folder, n_pieces = encoder
    student = Student(
        str(folder),
        dim=8,
        layers=(0, 2),
        vocabulary=n_pieces - 3,
        query_prompt="と",
        augment_queries=False,
        skiplist="",
    )
    stage = dataclasses.replace(
        STAGE, start="student", teacher="whole-student", imitation_weight=2.0, steps=2, mini_batch_size=2
    )
    retrievers = (f"dense:{folder}", "colbert:student")
    recipe = Recipe(
        "r",
        (stage,),
        (Average("half", ("student", "main")),),
        datasets=(OWN,),
        mining=(Mining("mined.jsonl", ("bm25", *retrievers), retrievers=retrievers, depth=6, candidates=8, n_ways=3,
                       normalize="zscore", false_negative_margin=None, examples_per_positive=2),),
        student=student,
    )  # fmt: skip
    path = mine_recipe(recipe, tmp_path, base=files, device="cpu", verbose=False)["mined.jsonl"]
    mined = list(read(path))
    assert Counter(example.qid for example in mined) == {f"q{i}": 2 for i in range(12)}
    assert len({example.docnos for example in mined}) > 12  # the two draws differ
    built, whole = (MultiVectorEncoder(str(tmp_path / name), device="cpu") for name in ("student", "whole-student"))
    assert len(built[0].model.encoder.layer) == 2
    assert len(whole[0].model.encoder.layer) == 3
    assert len(built.tokenizer) == len(whole.tokenizer) < n_pieces
    assert built.prompts["query"] == "と"
    final = train_recipe(recipe, tmp_path, base=files, device="cpu", verbose=False)["main"]
    assert (final / "modules.json").is_file()
    before = (tmp_path / "student" / "model.safetensors").stat().st_mtime_ns
    train_recipe(recipe, tmp_path, base=files, device="cpu", verbose=False)
    assert (tmp_path / "student" / "model.safetensors").stat().st_mtime_ns == before


def test_an_encoder_that_is_not_there_is_named(files, tmp_path):
    stage = dataclasses.replace(STAGE, start="student")
    save([Example("q0", ("d0", "d1", "d2"), (1.0, 0.5, 0.0))], tmp_path / "mined.jsonl")
    recipe = Recipe("r", (stage,), datasets=(OWN,), student=Student("nobody/nothing"))
    with pytest.raises(FileNotFoundError, match="encoder 'nobody/nothing' is not on this machine"):
        train_recipe(recipe, tmp_path, base=files, device="cpu")
    mining = Mining("other.jsonl", ("cross-encoder:nobody/nothing",), n_ways=3)
    recipe = dataclasses.replace(recipe, mining=(mining,), student=None, stages=(STAGE,))
    with pytest.raises(FileNotFoundError, match="cross-encoder 'nobody/nothing' is not on this machine"):
        mine_recipe(recipe, tmp_path, base=files, device="cpu", verbose=False)
    assert not (tmp_path / "indexes").exists()
