"""Checkpoints as other people save them: half precision, foreign names, missing parts, shards.

The right vectors are those of Sentence Transformers for the same weights in float32, in a layout that it reads.
"""

import json
import shutil
import threading

import numpy as np
import pytest
import torch
from checkpoints import rewrite_weights, save_as_pytorch, shard_weights, write_stanford_checkpoint
from safetensors.torch import load_file
from sentence_transformers import MultiVectorEncoder

import pyterrier_jacolbert as pj
from pyterrier_jacolbert.encoding.checkpoint import fingerprint, load_checkpoint

TEXTS = ["富士山は日本で一番高い山である。", "味噌汁", "新幹線は東京と大阪を二時間半で結ぶ。" * 9]
HALVES = [torch.float16, torch.bfloat16]


def largest_difference(ours, theirs):
    assert [len(rows) for rows in ours] == [len(rows) for rows in theirs]
    return max(float(np.abs(a - np.asarray(b)).max()) for a, b in zip(ours, theirs, strict=True))


def assert_vectors_of(model, reference):
    """Checks documents and queries (of 32 positions) against Sentence Transformers in float32."""
    ours = model if isinstance(model, pj.JaColBERT) else pj.JaColBERT(model, dtype="float32", query_length=32)
    assert largest_difference(ours.encode_documents(TEXTS), reference.encode_document(TEXTS)) < 1e-5
    assert largest_difference(ours.encode_queries(TEXTS[:2]), reference.encode_query(TEXTS[:2])) < 1e-5


@pytest.fixture
def stanford(tmp_path):
    return write_stanford_checkpoint(tmp_path / "stanford", hidden=64, dim=128)


@pytest.fixture
def own(stanford, tmp_path):
    MultiVectorEncoder(str(stanford), device="cpu").save_pretrained(str(tmp_path / "own"))
    return tmp_path / "own"


@pytest.fixture
def reference(stanford):
    return MultiVectorEncoder(str(stanford), device="cpu")


def cast(dtype, chosen=lambda name: True):
    return lambda weights: {name: value.to(dtype) if chosen(name) else value for name, value in weights.items()}


# Weights in half precision


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize(
    "part",
    [
        lambda name: True,
        lambda name: name.startswith("bert."),
        lambda name: name == "linear.weight",
        lambda name: "layer.1" in name,
    ],
    ids=["all", "backbone", "projection", "one layer"],
)
def test_stanford_weights_in_half_precision_encode_as_in_float32(stanford, dtype, part):
    rewrite_weights(stanford, cast(dtype, part))
    exact = shutil.copytree(stanford, stanford.parent / "exact")
    rewrite_weights(exact, cast(torch.float32))
    assert_vectors_of(str(stanford), MultiVectorEncoder(str(exact), device="cpu"))


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("parts", [("",), ("1_Dense",), ("", "1_Dense")], ids=["backbone", "projection", "both"])
@pytest.mark.parametrize("layout", ["own", "pylate"])
def test_modules_in_half_precision_encode_as_in_float32(own, dtype, parts, layout):
    if layout == "pylate":
        write_pylate_configuration(own)
    for part in parts:
        rewrite_weights(own / part, cast(dtype))
    exact = shutil.copytree(own, own.parent / "exact")
    for part in parts:
        rewrite_weights(exact / part, cast(torch.float32))
    assert_vectors_of(str(own), MultiVectorEncoder(str(exact), device="cpu"))


def write_pylate_configuration(folder):
    modules = json.loads((folder / "modules.json").read_text())
    backbone = {**modules[0], "type": "sentence_transformers.models.Transformer"}
    dense = {**modules[1], "type": "pylate.models.Dense.Dense"}
    (folder / "modules.json").write_text(json.dumps([backbone, dense]))
    settings = {"model_type": "ColBERT", "query_prefix": "[unused0] ", "document_prefix": "[unused1] "}
    settings |= {"query_length": 32, "document_length": 300, "attend_to_expansion_tokens": False}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(settings))


@pytest.mark.parametrize("named", ["dtype", "torch_dtype"])
def test_a_dtype_in_the_configuration_does_not_round_the_weights(stanford, reference, named):
    config = json.loads((stanford / "config.json").read_text())
    (stanford / "config.json").write_text(json.dumps({**config, named: "float16"}))
    assert_vectors_of(str(stanford), reference)


@pytest.mark.parametrize("dtype", [*HALVES, torch.float64])
@pytest.mark.parametrize("modules", [(0,), (1,), (0, 1)], ids=["backbone", "projection", "both"])
def test_a_given_encoder_in_another_dtype_is_not_changed(stanford, dtype, modules):
    given, exact = (MultiVectorEncoder(str(stanford), device="cpu") for _ in range(2))
    for number in modules:
        given[number].to(dtype)
        exact[number].to(dtype).float()
    dtypes = {name: value.dtype for name, value in given.state_dict().items()}
    assert_vectors_of(given, exact)
    assert pj.JaColBERT(given, dtype="bfloat16").encode_documents(TEXTS)[0].dtype == np.float32
    assert {name: value.dtype for name, value in given.state_dict().items()} == dtypes


def test_a_float32_encoder_is_used_without_a_copy(stanford):
    given = MultiVectorEncoder(str(stanford), device="cpu")
    assert pj.JaColBERT(given).encoder.model is given


# Weights that do not cover the model


def prefixed(prefix, infix=None):
    def change(weights):
        names = {name: name.replace(*infix) if infix else name for name in weights}
        return {prefix + names[name]: value for name, value in weights.items()}

    return change


PREFIXES = ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module.", "model.", "backbone.", "colbert.module."]


@pytest.mark.parametrize("prefix", PREFIXES)
def test_known_prefixes_of_stanford_weights_are_mapped(stanford, reference, prefix):
    rewrite_weights(stanford, prefixed(prefix))
    assert_vectors_of(str(stanford), reference)


@pytest.mark.parametrize(
    "prefix", ["bert.", "roberta.", "model.", "module.bert.", "model.bert.", "backbone.bert.", "0.auto_model."]
)
def test_known_prefixes_of_a_backbone_are_mapped(own, reference, prefix):
    rewrite_weights(own, prefixed(prefix))
    rewrite_weights(own / "1_Dense", prefixed("module."))
    assert_vectors_of(str(own), reference)


@pytest.mark.parametrize("wrapper", ["_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "module"])
@pytest.mark.parametrize("prefix", ["", "bert.", "_orig_mod.bert.", "module.model.module."])
def test_wrappers_within_names_are_removed(own, reference, wrapper, prefix):
    rewrite_weights(own, prefixed(prefix, ("layer.1.", f"layer.1.{wrapper}.")))
    assert_vectors_of(str(own), reference)


def test_names_of_old_layer_norms_are_mapped_under_a_prefix(own, reference):
    # The names that TensorFlow gave them, which transformers still reads.
    rewrite_weights(own, prefixed("module.bert.", ("LayerNorm.weight", "LayerNorm.gamma")))
    rewrite_weights(own, prefixed("", ("LayerNorm.bias", "LayerNorm.beta")))
    assert_vectors_of(str(own), reference)


def test_an_unknown_prefix_is_refused_with_the_missing_names(own):
    rewrite_weights(own, prefixed("tower_b."))
    with pytest.raises(ValueError, match=r"do not cover.*'embeddings\.LayerNorm\.bias'.* and \d+ more"):
        load_checkpoint(str(own))


def test_a_weight_under_two_names_is_refused(own):
    halves = cast(torch.float16)
    rewrite_weights(own, lambda weights: prefixed("module.")(weights) | prefixed("student.")(halves(weights)))
    with pytest.raises(ValueError, match="'module.*'student"):
        load_checkpoint(str(own))


PARTS = [
    "embeddings.word_embeddings.weight",
    "embeddings.position_embeddings.weight",
    "encoder.layer.1.attention.self.query.weight",
    "encoder.layer.0.output.LayerNorm.bias",
]


@pytest.mark.parametrize("name", PARTS)
@pytest.mark.parametrize("layout", ["stanford", "own"])
@pytest.mark.parametrize("fault", ["missing", "shape"])
def test_a_missing_or_misshapen_weight_is_named(name, layout, fault, request):
    folder = request.getfixturevalue(layout)
    stored = f"bert.{name}" if layout == "stanford" else name

    def break_weight(weights):
        value = weights.pop(stored)
        return weights if fault == "missing" else weights | {stored: value[:-1]}

    rewrite_weights(folder, break_weight)
    with pytest.raises(ValueError, match=f"'{name}'"):
        load_checkpoint(str(folder))


def test_a_missing_layer_is_named_with_the_number_of_its_weights(stanford):
    rewrite_weights(stanford, lambda weights: {n: v for n, v in weights.items() if ".layer.1." not in n})
    with pytest.raises(ValueError, match=r"'encoder\.layer\.1\.attention.* and 10 more are missing"):
        load_checkpoint(str(stanford))


def test_a_configuration_with_more_layers_than_weights_is_refused(stanford):
    config = json.loads((stanford / "config.json").read_text())
    (stanford / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 3}))
    with pytest.raises(ValueError, match=r"'encoder\.layer\.2\."):
        load_checkpoint(str(stanford))


def test_a_missing_or_misshapen_projection_is_named(own):
    weights = load_file(own / "1_Dense" / "model.safetensors")
    rewrite_weights(own / "1_Dense", lambda _: {"linear.weight": weights["linear.weight"][:, 1:]})
    with pytest.raises(ValueError, match=r"'linear\.weight' .*1_Dense.* \(128, 63\).* \(128, 64\)"):
        load_checkpoint(str(own))
    rewrite_weights(own / "1_Dense", lambda _: {"projection.weight": weights["linear.weight"]})
    with pytest.raises(ValueError, match=r"1_Dense.*'linear\.weight'"):
        load_checkpoint(str(own))


def test_a_projection_for_another_width_is_refused(stanford):
    rewrite_weights(stanford, lambda weights: weights | {"linear.weight": weights["linear.weight"][:, :32]})
    with pytest.raises(ValueError, match="32 dimensions .* 64"):
        load_checkpoint(str(stanford))


@pytest.mark.parametrize("layout", ["stanford", "own"])
def test_heads_that_the_encoder_does_not_use_may_be_missing_or_there(layout, reference, request):
    folder = request.getfixturevalue(layout)
    prefix = "bert." if layout == "stanford" else ""
    rewrite_weights(folder, lambda weights: {n: v for n, v in weights.items() if "pooler" not in n})
    assert_vectors_of(str(folder), reference)
    heads = {name: torch.zeros(64, 64) for name in ("cls.predictions.transform.dense.weight", "lm_head.weight")}
    rewrite_weights(folder, lambda weights: weights | heads | {f"{prefix}pooler.dense.weight": torch.zeros(9, 9)})
    assert_vectors_of(str(folder), reference)


def test_a_checkpoint_without_a_pooler_is_saved_without_one(own, tmp_path):
    rewrite_weights(own, lambda weights: {n: v for n, v in weights.items() if "pooler" not in n})
    load_checkpoint(str(own)).save_pretrained(str(tmp_path / "saved"))
    assert load_file(tmp_path / "saved" / "model.safetensors").keys() == load_file(own / "model.safetensors").keys()


def test_a_tokenizer_with_more_tokens_than_the_embedding_is_refused(own):
    tokenizer = MultiVectorEncoder(str(own), device="cpu").tokenizer
    tokenizer.add_tokens(["富士山頂"])
    tokenizer.save_pretrained(str(own))
    with pytest.raises(ValueError, match="'富士山頂' cannot be encoded"):
        load_checkpoint(str(own))


def test_pytorch_weights_are_read_and_must_cover_the_model(stanford, reference):
    rewrite_weights(stanford, prefixed("module."))
    save_as_pytorch(stanford)
    assert_vectors_of(str(stanford), reference)
    torch.save({"module.linear.weight": torch.zeros(128, 64)}, stanford / "pytorch_model.bin")
    with pytest.raises(ValueError, match="do not cover"):
        load_checkpoint(str(stanford))


def test_several_threads_load_at_once(stanford, own):
    found = {}

    def load(number, folder):
        found[number] = fingerprint(load_checkpoint(str(folder), None, "cpu"))

    threads = [threading.Thread(target=load, args=pair) for pair in enumerate([stanford, own] * 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 6
    assert len(set(found.values())) == 1


# Stanford layout with sharded safetensors


@pytest.mark.parametrize("prefix", ["", "module."])
def test_stanford_weights_in_shards_encode_alike(stanford, reference, prefix):
    rewrite_weights(stanford, prefixed(prefix))
    shard_weights(stanford)
    assert_vectors_of(str(stanford), reference)


def test_shards_without_the_projection_are_refused(stanford):
    rewrite_weights(stanford, lambda weights: {n: v for n, v in weights.items() if n != "linear.weight"})
    shard_weights(stanford)
    with pytest.raises(ValueError, match=r"'linear\.weight'"):
        load_checkpoint(str(stanford))
