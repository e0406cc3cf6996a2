"""Sentence Transformers loads the tiny checkpoints of the tests as Stanford ColBERT checkpoints."""

import os
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import numpy as np
import pytest
from checkpoints import tiny_vocabulary, write_stanford_checkpoint
from sentence_transformers import MultiVectorEncoder

TOHOKU = Path(__file__).resolve().parents[2] / "shared" / "models" / "tohoku-bert-base-japanese-v3-tokenizer"
QUERY = "日本で一番高い山は何ですか？"
DOCS = [
    "富士山は日本で最も高い山である。",
    "Curry and rice: カレーライスは人気の料理だ。",
    "夏目漱石は小説「こころ」を書いた。",
]


@pytest.fixture(scope="module", params=["tiny", "tohoku"])
def checkpoint(request, tmp_path_factory):
    if request.param == "tohoku" and not TOHOKU.is_dir():
        pytest.skip(f"the released vocabulary is not at {TOHOKU}")
    folder = tmp_path_factory.mktemp("checkpoint") / request.param
    return write_stanford_checkpoint(folder, TOHOKU if request.param == "tohoku" else None)


@pytest.fixture(scope="module")
def encoder(checkpoint):
    return MultiVectorEncoder(str(checkpoint), device="cpu")


def test_sentence_transformers_gives_unit_vectors_of_dim(encoder):
    query = encoder.encode_query(QUERY, convert_to_numpy=True)
    assert query.shape == (32, 16)
    for doc in encoder.encode_document(DOCS, convert_to_numpy=True):
        assert doc.ndim == 2
        assert doc.shape[1] == 16
        np.testing.assert_allclose(np.linalg.norm(doc, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(query, axis=1), 1, atol=1e-5)


def test_markers_are_one_token_with_the_released_ids(encoder):
    query = encoder.preprocess([QUERY], prompt=encoder.prompts["query"], task="query")["input_ids"][0].tolist()
    doc = encoder.preprocess([DOCS[0]], prompt=encoder.prompts["document"], task="document")["input_ids"][0].tolist()
    assert query[:2] == [2, 5]
    assert doc[:2] == [2, 6]
    assert doc[-1] == 3
    assert 1 not in query + doc  # ordinary Japanese contains no unknown token


def test_vectors_of_different_tokens_spread(encoder):
    doc = encoder.encode_document(DOCS[0] + DOCS[2], convert_to_numpy=True)
    off_diagonal = (doc @ doc.T)[~np.eye(len(doc), dtype=bool)]
    assert abs(off_diagonal.mean()) < 0.3
    assert off_diagonal.std() > 0.2


def test_the_bytes_depend_only_on_the_arguments(tmp_path):
    first, second = write_stanford_checkpoint(tmp_path / "a"), write_stanford_checkpoint(tmp_path / "b")
    other = write_stanford_checkpoint(tmp_path / "c", seed=1)
    for file in first.iterdir():
        assert file.read_bytes() == (second / file.name).read_bytes()
    assert (first / "model.safetensors").read_bytes() != (other / "model.safetensors").read_bytes()


def test_sizes_are_those_requested(tmp_path):
    folder = write_stanford_checkpoint(tmp_path, hidden=48, layers=1, heads=4, dim=24, query_maxlen=16, doc_maxlen=12)
    encoder = MultiVectorEncoder(str(folder), device="cpu")
    assert encoder.encode_query(QUERY, convert_to_numpy=True).shape == (16, 24)
    assert len(encoder.encode_document(DOCS[1] * 9, convert_to_numpy=True)) <= 12


def test_pieces_of_the_tiny_vocabulary_are_distinct():
    vocabulary = tiny_vocabulary()
    assert len(set(vocabulary)) == len(vocabulary)
