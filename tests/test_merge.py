"""Averages of checkpoints against numpy's mean, in any order, in every layout."""

import itertools
import json
import shutil

import numpy as np
import pytest
from checkpoints import write_stanford_checkpoint
from safetensors.numpy import load_file, save_file
from sentence_transformers import MultiVectorEncoder

from pyterrier_jacolbert import JaColBERT
from pyterrier_jacolbert.train.merge import merge, select, soup

TEXTS = ["日本で一番高い山は富士山である。", "カレーライスは人気の料理だ。"]


@pytest.fixture(scope="module")
def stanford(tmp_path_factory):
    folder = tmp_path_factory.mktemp("parents")
    return [write_stanford_checkpoint(folder / name, seed=seed) for seed, name in enumerate("abc")]


@pytest.fixture(scope="module")
def native(stanford):
    """The same checkpoints as Sentence Transformers (and PyLate, but for its config) saves them."""
    folders = []
    for folder in stanford:
        MultiVectorEncoder(str(folder), device="cpu").save_pretrained(str(folder) + "-native")
        folders.append(folder.with_name(folder.name + "-native"))
    return folders


@pytest.fixture(params=["stanford", "native"])
def parents(request):
    return request.getfixturevalue(request.param)


def tensors(folder):
    files = sorted(file.relative_to(folder) for file in folder.rglob("*.safetensors"))
    return {f"{file}:{name}": value for file in files for name, value in load_file(folder / file).items()}


@pytest.mark.parametrize("weights", [None, (1, 2, 5)])
def test_merged_weights_are_the_float64_mean(parents, weights, tmp_path):
    found = tensors(merge(parents, weights=weights, out=tmp_path / "merged"))
    loaded = [tensors(folder) for folder in parents]
    assert found.keys() == loaded[0].keys()
    for name, value in found.items():
        stack = np.stack([one[name].astype(np.float64) for one in loaded])
        assert value.dtype == loaded[0][name].dtype
        np.testing.assert_allclose(value, np.average(stack, axis=0, weights=weights), rtol=1e-7, atol=1e-7)


def test_a_tokenizer_that_spells_out_more_of_its_settings_is_the_same(native, tmp_path):
    for name, changes in (
        ("more", {"pad_to_multiple_of": None, "padding_side": "right"}),
        ("other", {"unk_token": "[X]"}),
    ):
        shutil.copytree(native[1], tmp_path / name)
        file = tmp_path / name / "tokenizer_config.json"
        file.write_text(json.dumps({**json.loads(file.read_text(encoding="utf-8")), **changes}), encoding="utf-8")
    assert merge([native[0], tmp_path / "more"], out=tmp_path / "merged").is_dir()
    with pytest.raises(ValueError, match="their tokenizer_config.json differ, so their tokens do"):
        merge([native[0], tmp_path / "other"], out=tmp_path / "not")


def test_any_order_gives_the_same_files(parents, tmp_path):
    def content(order):
        folder = merge([parents[i] for i in order], out=tmp_path / "-".join(map(str, order)))
        return {file.relative_to(folder): file.read_bytes() for file in folder.rglob("*") if file.is_file()}

    first, *others = [content(order) for order in itertools.permutations(range(3))]
    assert all(other == first for other in others)


def test_a_merged_checkpoint_scores_through_sentence_transformers_as_here(parents, tmp_path):
    folder = merge(parents, out=tmp_path / "merged")
    theirs = MultiVectorEncoder(str(folder), device="cpu")
    ours = JaColBERT(str(folder), dtype="float32", query_length=32)
    queries, documents = theirs.encode_query(TEXTS), theirs.encode_document(TEXTS)
    for one, other in zip(queries, ours.encode_queries(TEXTS), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
    for one, other in zip(documents, ours.encode_documents(TEXTS), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_the_card_names_parents_and_weights(stanford, tmp_path):
    card = (merge(stanford[:2], weights=[1, 3], out=tmp_path / "merged") / "README.md").read_text(encoding="utf-8")
    assert "| a | 0.25 |" in card
    assert "| b | 0.75 |" in card


def test_what_a_run_leaves_beside_a_checkpoint_is_not_copied(native, tmp_path):
    parents = [shutil.copytree(folder, tmp_path / folder.name) for folder in native[:2]]
    for name in ("optimizer.pt", "trainer_state.json", "rng_state.pth"):
        (parents[0] / name).write_bytes(b"x")
    files = {file.name for file in merge(parents, out=tmp_path / "merged").iterdir()}
    assert not files & {"optimizer.pt", "trainer_state.json", "rng_state.pth"}
    assert {"modules.json", "config.json", "model.safetensors", "1_Dense"} <= files


def changed(folder, tmp_path, change):
    copy = shutil.copytree(folder, tmp_path / "changed")
    weights = load_file(copy / "model.safetensors")
    change(copy, weights)
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    return copy


def _drop(copy, weights):
    del weights["linear.weight"]


def _reshape(copy, weights):
    weights["linear.weight"] = weights["linear.weight"][:4].copy()


def _halve(copy, weights):
    weights["linear.weight"] = weights["linear.weight"].astype(np.float16)


def _another_vocabulary(copy, weights):
    with (copy / "vocab.txt").open("a", encoding="utf-8") as file:
        file.write("another\n")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_drop, r"only .* has the tensor 'linear.weight'"),
        (_reshape, r"'linear.weight' is F32 \(\d+, \d+\) in the first and F32 \(\d+, \d+\) in the second"),
        (_halve, r"'linear.weight' is F(32|16) .* and F(16|32)"),
        (_another_vocabulary, r"their vocab.txt differ, so their tokens do"),
    ],
)
def test_the_first_difference_is_named(stanford, tmp_path, change, message):
    with pytest.raises(ValueError, match="cannot be averaged: ") as caught:
        merge([stanford[0], changed(stanford[0], tmp_path, change)], out=tmp_path / "merged")
    caught.match(message)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["changed"]


def test_bad_input(stanford, native, tmp_path):
    with pytest.raises(ValueError, match="the weights are in"):
        merge([stanford[0], native[0]], out=tmp_path / "merged")
    with pytest.raises(ValueError, match="needs two checkpoints or more, not 1"):
        merge(stanford[:1], out=tmp_path / "merged")
    for weights in ([1], [1, -1], [1, float("nan")]):
        with pytest.raises(ValueError, match="need as many weights"):
            merge(stanford[:2], weights=weights, out=tmp_path / "merged")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"no weights in safetensors in .*empty; give a checkpoint's folder"):
        merge([stanford[0], tmp_path / "empty"], out=tmp_path / "merged")
    with pytest.raises(FileExistsError, match="exists already"):
        merge(stanford[:2], out=tmp_path / "empty")
    assert [file.name for file in tmp_path.iterdir()] == ["empty"]


def weight(model, name="linear.weight"):
    return float(next(value for key, value in model.encoder.model.state_dict().items() if key.endswith(name)).mean())


def test_selection_ranks_by_the_measure(stanford):
    found = select(stanford, weight)
    assert [measure for _, measure in found] == sorted((measure for _, measure in found), reverse=True)
    assert {folder for folder, _ in found} == set(stanford)


def test_a_soup_keeps_what_does_not_hurt(stanford, tmp_path):
    # The mean of a weight is best in the best parent alone: nothing else may go in.
    out, ingredients, measure = soup(stanford, weight, out=tmp_path / "soup")
    best = select(stanford, weight)[0]
    assert (ingredients, measure) == ([best[0]], best[1])
    # A measure that prefers small weights gains from every average.
    out, ingredients, measure = soup(
        stanford,
        lambda model: -float(abs(model.encoder.model[0].model.embeddings.word_embeddings.weight).mean()),
        out=tmp_path / "all",
    )
    assert len(ingredients) == 3
    merge(stanford, out=tmp_path / "mean")
    assert (out / "model.safetensors").read_bytes() == (tmp_path / "mean" / "model.safetensors").read_bytes()
    assert not list(tmp_path.glob(".*"))
    assert json.loads((out / "config.json").read_text(encoding="utf-8"))
