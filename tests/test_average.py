"""Averages of checkpoints equal numpy's mean, in any order and every layout."""

import itertools
import json
import shutil

import numpy as np
import pytest
from checkpoints import write_stanford_checkpoint
from safetensors.numpy import load_file, save_file
from sentence_transformers import MultiVectorEncoder

from pyterrier_jacolbert import JaColBERT
from pyterrier_jacolbert.train import average, select, soup

TEXTS = ["日本で一番高い山は富士山である。", "カレーライスは人気の料理だ。"]


@pytest.fixture(scope="module")
def stanford(tmp_path_factory):
    folder = tmp_path_factory.mktemp("parents")
    return [write_stanford_checkpoint(folder / name, seed=seed) for seed, name in enumerate("abc")]


@pytest.fixture(scope="module")
def native(stanford):
    """The same checkpoints in the layout of Sentence Transformers (and of PyLate, except for its config)."""
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
def test_averaged_weights_are_the_float64_mean(parents, weights, tmp_path):
    averaged = tensors(average(parents, weights=weights, out=tmp_path / "average"))
    loaded = [tensors(folder) for folder in parents]
    assert averaged.keys() == loaded[0].keys()
    for name, value in averaged.items():
        stack = np.stack([parent[name].astype(np.float64) for parent in loaded])
        assert value.dtype == loaded[0][name].dtype
        np.testing.assert_allclose(value, np.average(stack, axis=0, weights=weights), rtol=1e-7, atol=1e-7)


def test_tokenizers_may_differ_in_settings_of_calls_only(native, tmp_path):
    for name, changes in (
        ("more", {"padding_side": "right", "max_length": 24, "stride": 0, "truncation_side": "right"}),
        ("other", {"unk_token": "[X]"}),
        ("left", {"truncation_side": "left"}),
    ):
        shutil.copytree(native[1], tmp_path / name)
        file = tmp_path / name / "tokenizer_config.json"
        file.write_text(json.dumps({**json.loads(file.read_text(encoding="utf-8")), **changes}), encoding="utf-8")
    assert average([native[0], tmp_path / "more"], out=tmp_path / "average").is_dir()
    for name in ("other", "left"):
        with pytest.raises(ValueError, match="their tokenizer_config.json differ"):
            average([native[0], tmp_path / name], out=tmp_path / "not")


def test_every_order_gives_the_same_files(parents, tmp_path):
    def content(order):
        folder = average([parents[i] for i in order], out=tmp_path / "-".join(map(str, order)))
        return {file.relative_to(folder): file.read_bytes() for file in folder.rglob("*") if file.is_file()}

    first, *others = [content(order) for order in itertools.permutations(range(3))]
    assert all(other == first for other in others)


def test_sentence_transformers_encodes_an_average_the_same_way(parents, tmp_path):
    folder = average(parents, out=tmp_path / "average")
    theirs = MultiVectorEncoder(str(folder), device="cpu")
    ours = JaColBERT(str(folder), dtype="float32", query_length=32)
    queries, documents = theirs.encode_query(TEXTS), theirs.encode_document(TEXTS)
    for one, other in zip(queries, ours.encode_queries(TEXTS), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
    for one, other in zip(documents, ours.encode_documents(TEXTS), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_the_card_names_parents_and_weights(stanford, tmp_path):
    card = (average(stanford[:2], weights=[1, 3], out=tmp_path / "average") / "README.md").read_text(encoding="utf-8")
    assert "| a | 0.25 |" in card
    assert "| b | 0.75 |" in card


def test_the_state_of_a_training_run_is_not_copied(native, tmp_path):
    parents = [shutil.copytree(folder, tmp_path / folder.name) for folder in native[:2]]
    for name in ("optimizer.pt", "trainer_state.json", "rng_state.pth"):
        (parents[0] / name).write_bytes(b"x")
    files = {file.name for file in average(parents, out=tmp_path / "average").iterdir()}
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
        (_another_vocabulary, r"their vocab.txt differ"),
    ],
)
def test_the_first_difference_is_named(stanford, tmp_path, change, message):
    with pytest.raises(ValueError, match="cannot be averaged: ") as caught:
        average([stanford[0], changed(stanford[0], tmp_path, change)], out=tmp_path / "average")
    caught.match(message)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["changed"]


def test_invalid_arguments_are_rejected_without_a_trace(stanford, native, tmp_path):
    with pytest.raises(ValueError, match="their weights are in"):
        average([stanford[0], native[0]], out=tmp_path / "average")
    with pytest.raises(ValueError, match="needs two checkpoints or more, not 1"):
        average(stanford[:1], out=tmp_path / "average")
    for weights in ([1], [1, -1], [1, float("nan")]):
        with pytest.raises(ValueError, match="weights must be 2 finite numbers"):
            average(stanford[:2], weights=weights, out=tmp_path / "average")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"empty has no safetensors weights; give the folder of a checkpoint"):
        average([stanford[0], tmp_path / "empty"], out=tmp_path / "average")
    with pytest.raises(FileExistsError, match="exists already"):
        average(stanford[:2], out=tmp_path / "empty")
    assert [file.name for file in tmp_path.iterdir()] == ["empty"]


def weight(model, name="linear.weight"):
    return float(next(value for key, value in model.encoder.model.state_dict().items() if key.endswith(name)).mean())


def test_selection_ranks_by_the_measure(stanford):
    selected = select(stanford, weight)
    assert [measure for _, measure in selected] == sorted((measure for _, measure in selected), reverse=True)
    assert {folder for folder, _ in selected} == set(stanford)


def test_a_soup_keeps_what_does_not_lower_the_measure(stanford, tmp_path):
    # The mean of a weight is greatest in the best parent alone, so no other may be added.
    out, ingredients, measure = soup(stanford, weight, out=tmp_path / "soup")
    best = select(stanford, weight)[0]
    assert (ingredients, measure) == ([best[0]], best[1])
    # A measure that prefers small weights improves with every average.
    out, ingredients, measure = soup(
        stanford,
        lambda model: -float(abs(model.encoder.model[0].model.embeddings.word_embeddings.weight).mean()),
        out=tmp_path / "all",
    )
    assert len(ingredients) == 3
    average(stanford, out=tmp_path / "mean")
    assert (out / "model.safetensors").read_bytes() == (tmp_path / "mean" / "model.safetensors").read_bytes()
    assert not list(tmp_path.glob(".*"))
    assert json.loads((out / "config.json").read_text(encoding="utf-8"))
