"""The checkpoint that ships with the package: small, in an ordinary layout, and able to retrieve."""

import json
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from sentence_transformers import MultiVectorEncoder

import pyterrier_jacolbert
from pyterrier_jacolbert import JaColBERT, JaColBERTIndex, JaColBERTIndexer

FOLDER = Path(pyterrier_jacolbert.__file__).parent / "mini"


def test_mini_has_at_most_45_megabytes_and_no_pickles():
    files = [file for file in FOLDER.rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) <= 45_000_000
    assert {file.suffix for file in files} == {".safetensors", ".json", ".md"}
    tensors = [tensor for file in files if file.suffix == ".safetensors" for tensor in load_file(file).values()]
    assert {tensor.dtype for tensor in tensors} == {torch.float16}
    assert all(torch.isfinite(tensor).all() for tensor in tensors)


def test_sentence_transformers_loads_mini_in_float32():
    model = MultiVectorEncoder(str(FOLDER), device="cpu")
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}
    texts = ["富士山は日本で最も高い山である。", "東京は日本の首都である。"]
    ours = JaColBERT("mini", dtype="float32").encode_documents(texts)
    for one, other in zip(ours, model.encode_document(texts), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_index_finds_mini_again_by_its_name(tmp_path):
    docs = [
        {"docno": "a", "text": "富士山は日本で最も高い山である。"},
        {"docno": "b", "text": "猫は魚を好んで食べる。"},
    ]
    JaColBERTIndexer(tmp_path / "i", JaColBERT("mini")).index(docs)
    assert JaColBERTIndex(tmp_path / "i").retriever().search("いちばん高い山")["docno"].tolist() == ["a", "b"]


def test_model_card_names_licence_and_sources():
    card = (FOLDER / "README.md").read_text(encoding="utf-8")
    for word in ("license: mit", "multilingual-e5-small", "JaQuAD", "CC BY-SA 3.0", "examples/train_mini.py"):
        assert word in card
    assert json.loads((FOLDER / "config.json").read_text(encoding="utf-8"))["dtype"] == "float32"
