"""A checkpoint is a trained ColBERT, or an error names the remedy."""

import importlib.util
import json
import shutil

import numpy as np
import pytest
import torch
from checkpoints import write_stanford_checkpoint
from safetensors.numpy import load_file, save_file
from sentence_transformers import MultiVectorEncoder, SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

import pyterrier_jacolbert as pj
from pyterrier_jacolbert.encoding.checkpoint import fingerprint, load_checkpoint

TEXTS = ["富士山は日本で一番高い山である。", "味噌汁"]


def test_no_network_and_no_local_copy_names_the_remedy():
    with pytest.raises(FileNotFoundError, match="hf download answerdotai/JaColBERTv2.5 --local-dir FOLDER"):
        pj.JaColBERT().encode_queries(["山"])


@pytest.mark.parametrize("name", ["./missing", "/no/such/folder", "~/missing", "a/b/c"])
def test_a_missing_folder_is_refused_before_anything_loads(name):
    with pytest.raises(FileNotFoundError, match="There is no checkpoint folder"):
        pj.JaColBERT(name)


def test_a_plain_transformer_is_refused(checkpoint, tmp_path):
    shutil.copytree(checkpoint, tmp_path / "bert")
    config = json.loads((checkpoint / "config.json").read_text())
    (tmp_path / "bert" / "config.json").write_text(json.dumps({**config, "architectures": ["BertModel"]}))
    with pytest.raises(ValueError, match="is not a ColBERT checkpoint: it is a BertModel without a token projection"):
        load_checkpoint(str(tmp_path / "bert"))


def test_a_single_vector_sentence_transformer_is_refused(checkpoint, tmp_path):
    backbone = Transformer(str(checkpoint))
    pooling = Pooling(backbone.get_embedding_dimension())
    SentenceTransformer(modules=[backbone, pooling], device="cpu").save(str(tmp_path / "single"))
    with pytest.raises(ValueError, match="not a ColBERT checkpoint: it is a SentenceTransformer"):
        load_checkpoint(str(tmp_path / "single"))


def test_a_stanford_checkpoint_without_its_projection_is_refused(checkpoint, tmp_path):
    shutil.copytree(checkpoint, tmp_path / "cut")
    weights = load_file(checkpoint / "model.safetensors")
    del weights["linear.weight"]
    save_file(weights, tmp_path / "cut" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match="not a ColBERT checkpoint: its weights have no 'linear.weight'"):
        load_checkpoint(str(tmp_path / "cut"))


def test_sentence_transformers_own_layout_gives_the_same_vectors(checkpoint, model, tmp_path):
    MultiVectorEncoder(str(checkpoint), device="cpu").save(str(tmp_path / "own"))
    own = pj.JaColBERT(str(tmp_path / "own"), dtype="float32")
    for ours, theirs in zip(own.encode_documents(TEXTS), model.encode_documents(TEXTS), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)
    for ours, theirs in zip(own.encode_queries(TEXTS), model.encode_queries(TEXTS), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_pylates_layout_gives_the_same_vectors(checkpoint, model, tmp_path):
    # PyLate 1.x saves modules.json with its own class names, and the markers in the configuration.
    folder = tmp_path / "pylate"
    MultiVectorEncoder(str(checkpoint), device="cpu").save(str(folder))
    modules = json.loads((folder / "modules.json").read_text())
    dense = next(entry for entry in modules if entry["type"].endswith("Dense"))
    backbone = {**modules[0], "type": "sentence_transformers.models.Transformer"}
    dense = {**dense, "idx": 1, "name": "1", "type": "pylate.models.Dense.Dense"}
    (folder / "modules.json").write_text(json.dumps([backbone, dense]))
    (folder / "config_sentence_transformers.json").write_text(
        json.dumps(
            {
                "model_type": "ColBERT",
                "query_prefix": "[unused0] ",
                "document_prefix": "[unused1] ",
                "query_length": 32,
                "document_length": 300,
                "attend_to_expansion_tokens": False,
            }
        )
    )
    (folder / "sentence_bert_config.json").unlink(missing_ok=True)
    pylate = pj.JaColBERT(str(folder), dtype="float32")
    for ours, theirs in zip(pylate.encode_documents(TEXTS), model.encode_documents(TEXTS), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)
    for ours, theirs in zip(pylate.encode_queries(TEXTS), model.encode_queries(TEXTS), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


@pytest.mark.parametrize(("package", "pip_name"), [("fugashi", "fugashi"), ("unidic_lite", "unidic-lite")])
def test_a_missing_tokenizer_package_is_named_with_pip_install(checkpoint, monkeypatch, package, pip_name):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == package else find_spec(name))
    with pytest.raises(ImportError, match=f"needs MeCab and its dictionary: pip install {pip_name}$"):
        load_checkpoint(str(checkpoint))


def test_the_fingerprint_distinguishes_weights(checkpoint, tmp_path):
    weights = load_file(checkpoint / "model.safetensors")
    shutil.copytree(checkpoint, tmp_path / "other")
    weights["linear.weight"] = weights["linear.weight"] * np.float32(1.01)
    save_file(weights, tmp_path / "other" / "model.safetensors", metadata={"format": "pt"})
    first, again, other = (fingerprint(load_checkpoint(str(f))) for f in (checkpoint, checkpoint, tmp_path / "other"))
    assert first == again != other


def test_neither_a_name_nor_an_encoder_is_refused():
    with pytest.raises(ValueError, match="of type dict"):
        pj.JaColBERT({})


def test_the_fingerprint_ignores_the_unused_pooler(tmp_path):
    encoder = load_checkpoint(str(write_stanford_checkpoint(tmp_path / "c")), None, "cpu")
    before = fingerprint(encoder)
    with torch.no_grad():
        pooler = encoder[0].model.pooler
        pooler.dense.weight.add_(1.0)
        assert fingerprint(encoder) == before
        encoder[0].model.embeddings.word_embeddings.weight.add_(1e-3)
    assert fingerprint(encoder) != before
