"""The index artifact: whole or absent, opened cheaply, and wrong input named."""

import copy
import gc
import json
import pickle
import shutil

import conformance
import numpy as np
import pandas as pd
import pyterrier as pt
import pytest
import torch
from checkpoints import write_stanford_checkpoint
from sentence_transformers.multi_vector_encoder.modules import HierarchicalTokenPooling

import pyterrier_jacolbert as pj
from pyterrier_jacolbert.index.files import replace_json


def vectors_of(index):
    """All stored vectors: float32 (n_tokens, dim)."""
    return index.token_vectors().rows(0, len(index.docnos()))


def change_meta(folder, **changes):
    meta = json.loads((folder / "pt_meta.json").read_text(encoding="utf-8"))
    meta.pop("digest")
    replace_json(folder / "pt_meta.json", {**meta, **changes})


@pytest.mark.parametrize("behaviour", conformance.INDEXER)
def test_indexer(behaviour, model, docs, tmp_path):
    docs = [doc for doc in docs if doc["text"]]
    conformance.INDEXER[behaviour](lambda path: pj.JaColBERTIndexer(path, model), docs, tmp_path)


@pytest.mark.parametrize("behaviour", conformance.INDEXER)
def test_the_artifact_is_an_indexer_too(behaviour, model, docs, tmp_path):
    conformance.INDEXER[behaviour](lambda path: pj.JaColBERTIndex(path, model), docs, tmp_path)


@pytest.mark.parametrize("behaviour", conformance.ARTIFACT)
def test_artifact(behaviour, index, topics, tmp_path):
    conformance.ARTIFACT[behaviour](index, lambda opened: opened.retriever()(topics).values.tolist(), tmp_path)


def test_the_index_records_what_a_query_encoder_needs(index, model, checkpoint):
    opened = pj.JaColBERTIndex(index.path)
    assert opened.model.model == str(checkpoint)
    assert (opened.model.query_length, opened.model.max_document_length) == ("auto", None)
    meta = json.loads((index.path / "pt_meta.json").read_text(encoding="utf-8"))
    assert (meta["documents"], meta["dim"], meta["compression"]) == (8, 128, "float16")
    assert meta["model"]["fingerprint"] == model.fingerprint
    assert meta["tokens"] == index.token_vectors().starts[-1] == len(vectors_of(index))
    assert (meta["format_version"], meta["package_version"]) == (1, pj.__version__)
    assert opened.info == {name: value for name, value in meta.items() if name != "digest"}


def test_frames_that_carry_vectors_need_no_checkpoint(index, model, topics, tmp_path):
    encoded = model.query_encoder()(topics)
    shutil.copytree(index.path, tmp_path / "index")
    change_meta(tmp_path / "index", model={**index.meta()["model"], "model": "somebody/gone"})
    opened = pj.JaColBERTIndex(tmp_path / "index")
    found, expected = opened.retriever()(encoded), index.retriever()(topics)
    assert found["docno"].tolist() == expected["docno"].tolist()
    with pytest.raises(FileNotFoundError, match="somebody/gone"):
        opened.retriever()(topics)


def test_an_index_of_a_model_object_says_that_it_needs_one(model, docs, topics, tmp_path):
    pj.JaColBERTIndexer(tmp_path / "index", model.encoder.model).index(docs)
    opened = pj.JaColBERTIndex(tmp_path / "index")
    with pytest.raises(ValueError, match=r"open it with JaColBERTIndex\(path, model=...\)"):
        opened.retriever()(topics)
    assert len(pj.JaColBERTIndex(tmp_path / "index", model).retriever()(topics)) > 0


def test_another_checkpoint_is_warned_of_and_another_dimension_refused(index, topics, tmp_path):
    other = write_stanford_checkpoint(tmp_path / "other", hidden=64, dim=128, seed=1)
    with pytest.warns(UserWarning, match=rf"built with the checkpoint '{index.model.model}' .* encoded with .*other'"):
        pj.JaColBERTIndex(index.path, str(other)).retriever()(topics)
    small = write_stanford_checkpoint(tmp_path / "small", hidden=64, dim=16)
    with pytest.raises(ValueError, match="makes vectors of 16 numbers and .* stores 128"):
        pj.JaColBERTIndex(index.path, str(small)).retriever()(topics)


def test_documents_that_carry_vectors_are_stored_without_encoding(index, model, docs, topics, tmp_path):
    built = (model.doc_encoder() >> pj.JaColBERTIndexer(tmp_path / "index", model, compression="float16")).index(docs)
    np.testing.assert_array_equal(built.token_vectors().starts, index.token_vectors().starts)
    np.testing.assert_allclose(vectors_of(built), vectors_of(index), atol=1e-3)
    raw = [{"docno": "a", "doc_embs": np.eye(3, 128)}, {"docno": "b", "doc_embs": np.eye(2, 128)}]
    opened = pj.JaColBERTIndexer(tmp_path / "raw", model="somebody/unused", compression="float16").index(raw)
    assert opened.meta()["model"] is None
    query = pd.DataFrame({"qid": ["1"], "query_embs": [np.eye(3, 128, dtype=np.float32)]})
    assert opened.retriever()(query)[["docno", "score"]].values.tolist() == [["a", 3.0], ["b", 2.0]]


def test_a_document_without_text_keeps_its_place_and_is_never_found(index, topics, docs):
    assert list(index.docnos()) == [doc["docno"] for doc in docs]
    starts = index.token_vectors().starts
    assert starts[5] == starts[6]  # d6
    found = index.retriever()(topics)
    assert set(found["docno"]) == {doc["docno"] for doc in docs} - {"d6"}


def test_the_same_documents_give_the_same_bytes_whatever_block_or_verbosity(model, docs, tmp_path, capsys):
    pj.JaColBERTIndexer(tmp_path / "a", model).index(docs)
    pj.JaColBERTIndexer(tmp_path / "b", model, verbose=True).index(pd.DataFrame(docs))
    assert conformance.contents(tmp_path / "a") == conformance.contents(tmp_path / "b")
    assert "documents/s" in capsys.readouterr().err
    blocks = pj.JaColBERTIndexer(tmp_path / "c", model, shard_documents=3).index(docs)
    whole = pj.JaColBERTIndex(tmp_path / "a", model)
    np.testing.assert_array_equal(blocks.token_vectors().starts, whole.token_vectors().starts)
    np.testing.assert_allclose(vectors_of(blocks), vectors_of(whole), atol=5e-3)


def test_pooled_vectors_are_those_of_sentence_transformers(index, model, docs, topics, tmp_path):
    settings = {"pool_factor": 2, "compression": "float16"}
    pooled = pj.JaColBERTIndexer(tmp_path / "pooled", model, **settings).index(docs[:4])
    pooled.append(docs[4:])
    pooling = HierarchicalTokenPooling(2)
    for docid, doc in enumerate(docs):
        rows = model.encode_documents([doc["text"]])[0]
        expected = pooling.pool([torch.from_numpy(rows)])[0].numpy() if len(rows) else rows
        np.testing.assert_allclose(pooled.token_vectors().rows(docid, docid + 1), expected, atol=2e-3)
    assert pooled.stats()["tokens"] < 0.65 * index.stats()["tokens"]
    assert len(pooled.retriever()(topics)) == len(index.retriever()(topics))
    with pytest.raises(ValueError, match="pool_factor must be 1 or more"):
        pj.JaColBERTIndexer(tmp_path / "x", model, pool_factor=0.5)


def test_titles_come_before_texts(model, docs, tmp_path):
    joined = [{"docno": doc["docno"], "text": f"{doc['title']} {doc['text']}"} for doc in docs]
    titled = pj.JaColBERTIndexer(tmp_path / "titled", model, title_field="title").index(docs)
    plain = pj.JaColBERTIndexer(tmp_path / "plain", model).index(joined)
    np.testing.assert_array_equal(vectors_of(titled), vectors_of(plain))


def test_an_index_without_a_path_lives_as_long_as_its_object(model, docs, topics):
    with pytest.warns(UserWarning, match="temporary directory .* give a path to keep it"):
        built = pj.JaColBERTIndexer(model=model).index(docs)
    path, retriever = built.path, copy.deepcopy(built.retriever())
    assert "temporary" in repr(built)
    del built
    gc.collect()
    assert len(retriever(topics)) > 0  # the retriever's copy keeps the files
    del retriever
    gc.collect()
    assert not path.exists()


def test_opening_an_index_again_is_equal_and_by_its_path(index, model, tmp_path):
    assert pj.JaColBERTIndex(index.path, model) == index
    assert pj.JaColBERTIndex(index.path, str(tmp_path)) != index
    assert pj.JaColBERTIndex(tmp_path) != pj.JaColBERTIndex(index.path)
    assert pickle.loads(pickle.dumps(index)) == index
    assert str(index.path) in repr(index)


def test_a_damaged_file_is_named(index, tmp_path):
    shutil.copytree(index.path, tmp_path / "index")
    opened = pj.JaColBERTIndex(tmp_path / "index")
    opened.verify()
    file = tmp_path / "index" / "data-1" / "vectors.f2"
    size = file.stat().st_size
    file.write_bytes(file.read_bytes()[:-2] + b"??")
    with pytest.raises(ValueError, match=rf"damaged.*: data-1/vectors.f2, bytes 0 to {size}: the content is not what"):
        opened.verify()


def test_what_is_not_there_or_of_another_kind_or_version_is_one_sentence(index, tmp_path):
    with pytest.raises(FileNotFoundError, match="There is no index at .*missing"):
        pj.JaColBERTIndex(tmp_path / "missing").retriever().search("山")
    assert not pj.JaColBERTIndex(tmp_path / "missing").built()
    for change, message in ({"format": "other"}, "other artifact"), ({"format_version": 99}, "format version 99"):
        shutil.rmtree(tmp_path / "index", ignore_errors=True)
        shutil.copytree(index.path, tmp_path / "index")
        change_meta(tmp_path / "index", **change)
        with pytest.raises(ValueError, match=message):
            len(pj.JaColBERTIndex(tmp_path / "index"))


BAD = {
    "None as text": ({"docno": "x", "text": None}, "text of document 'x'.*missing"),
    "NaN as text": ({"docno": "x", "text": float("nan")}, "text of document 'x'.*missing"),
    "a number as text": ({"docno": "x", "text": 7}, "is a int, not a string"),
    "an integer docno": ({"docno": 7, "text": "山"}, "docno at position 1 is a int"),
    "None as docno": ({"docno": None, "text": "山"}, "docno at position 1 is missing"),
    "an empty docno": ({"docno": "", "text": "山"}, "docno at position 1 is"),
    "a repeated docno": ({"docno": "d1", "text": "山"}, "'d1' stands at positions 0 and 1"),
    "a lone surrogate in a text": ({"docno": "x", "text": "a\ud800"}, r"lone surrogate \(U\+D800 at character 1\)"),
    "a lone surrogate in a docno": ({"docno": "\ud800", "text": "山"}, "lone surrogate"),
    "vectors that are no matrix": ({"docno": "x", "doc_embs": np.ones(3)}, "'x' have shape"),
    "vectors of another dimension": ({"docno": "x", "doc_embs": np.ones((2, 3))}, r"'x' have shape \(2, 3\)"),
    "vectors that hold NaN": ({"docno": "x", "doc_embs": np.full((2, 128), np.nan)}, "'x' hold NaN"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_document_that_cannot_be_indexed_is_named_and_nothing_is_left(case, model, docs, tmp_path):
    bad, message = BAD[case]
    with pytest.raises(ValueError, match=message) as raised:
        pj.JaColBERTIndexer(tmp_path / "index", model).index([docs[0], bad])
    assert "\n" not in str(raised.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("docs", ["docs.jsonl", {"docno": "d", "text": "t"}, b""])
def test_what_is_no_collection_of_documents_is_refused(docs, model, tmp_path):
    with pytest.raises(ValueError, match="must be an iterable of dicts or a frame"):
        pj.JaColBERTIndexer(tmp_path / "index", model).index(docs)


@pytest.mark.parametrize("texts", [[""], ["", " "], ["山"]])
def test_tiny_collections_work(texts, model, topics, tmp_path):
    docs = [{"docno": f"d{i}", "text": text} for i, text in enumerate(texts)]
    built = pj.JaColBERTIndexer(tmp_path / "index", model).index(docs)
    assert len(built) == len(texts)
    assert len(built.retriever()(topics)) == sum(text.strip() != "" for text in texts) * len(topics)


def test_pt_finds_the_artifact_by_its_type(index):
    assert pt.Artifact.load(str(index.path)).ARTIFACT_FORMAT == "jacolbert"
