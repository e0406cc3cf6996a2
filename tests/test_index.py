"""The index as PyTerrier sees it: an artifact that is complete or absent, and errors that name wrong input."""

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
from pyterrier_jacolbert.index.storage.atomic import replace_json


def vectors_of(index):
    """Returns all stored vectors: float32 ``(n_tokens, dim)``."""
    return index.token_vectors().rows(0, len(index.docnos()))


def change_manifest(folder, **changes):
    """Changes fields of a manifest, with a correct checksum."""
    meta = json.loads((folder / "pt_meta.json").read_text(encoding="utf-8"))
    meta.pop("digest")
    replace_json(folder / "pt_meta.json", {**meta, **changes})


@pytest.mark.parametrize("behaviour", conformance.INDEXER)
def test_indexer(behaviour, model, docs, tmp_path):
    docs = [doc for doc in docs if doc["text"]]
    conformance.INDEXER[behaviour](lambda path: pj.JaColBERTIndexer(path, model), docs, tmp_path)


@pytest.mark.parametrize("behaviour", conformance.INDEXER)
def test_artifact_is_an_indexer_too(behaviour, model, docs, tmp_path):
    conformance.INDEXER[behaviour](lambda path: pj.JaColBERTIndex(path, model), docs, tmp_path)


@pytest.mark.parametrize("behaviour", conformance.ARTIFACT)
def test_artifact(behaviour, index, topics, tmp_path):
    conformance.ARTIFACT[behaviour](index, lambda opened: opened.retriever()(topics).values.tolist(), tmp_path)


def test_index_records_what_encoding_queries_needs(index, model, checkpoint):
    opened = pj.JaColBERTIndex(index.path)
    assert opened.model.model == str(checkpoint)
    assert (opened.model.query_length, opened.model.max_document_length) == ("auto", None)
    meta = json.loads((index.path / "pt_meta.json").read_text(encoding="utf-8"))
    assert (meta["documents"], meta["dim"], meta["compression"]) == (8, 128, "float16")
    assert meta["model"]["fingerprint"] == model.fingerprint
    assert meta["tokens"] == index.token_vectors().starts[-1] == len(vectors_of(index))
    assert (meta["format_version"], meta["package_version"]) == (1, pj.__version__)
    assert opened.info == {name: value for name, value in meta.items() if name != "digest"}


def test_frames_with_vectors_need_no_checkpoint(index, model, topics, tmp_path):
    encoded = model.query_encoder()(topics)
    shutil.copytree(index.path, tmp_path / "index")
    change_manifest(tmp_path / "index", model={**index.meta()["model"], "model": "somebody/gone"})
    opened = pj.JaColBERTIndex(tmp_path / "index")
    found, expected = opened.retriever()(encoded), index.retriever()(topics)
    assert found["docno"].tolist() == expected["docno"].tolist()
    with pytest.raises(FileNotFoundError, match="somebody/gone"):
        opened.retriever()(topics)


def test_index_built_with_a_model_object_asks_for_it(model, docs, topics, tmp_path):
    pj.JaColBERTIndexer(tmp_path / "index", model.encoder.model).index(docs)
    opened = pj.JaColBERTIndex(tmp_path / "index")
    with pytest.raises(ValueError, match=r"open it with JaColBERTIndex\(path, model=...\)"):
        opened.retriever()(topics)
    assert len(pj.JaColBERTIndex(tmp_path / "index", model).retriever()(topics)) > 0


def test_other_weights_warn_and_other_dimensions_are_refused(index, topics, tmp_path):
    other = write_stanford_checkpoint(tmp_path / "other", hidden=64, dim=128, seed=1)
    with pytest.warns(UserWarning, match=rf"checkpoint '{index.model.model}' .* encoded with .*other'"):
        pj.JaColBERTIndex(index.path, str(other)).retriever()(topics)
    small = write_stanford_checkpoint(tmp_path / "small", hidden=64, dim=16)
    with pytest.raises(ValueError, match="vectors of 16 dimensions and .* stores 128"):
        pj.JaColBERTIndex(index.path, str(small)).retriever()(topics)


def test_documents_with_vectors_are_stored_without_encoding(index, model, docs, topics, tmp_path):
    pipeline = model.doc_encoder() >> pj.JaColBERTIndexer(tmp_path / "index", model, compression="float16")
    encoded_before = pipeline.index(docs)
    np.testing.assert_array_equal(encoded_before.token_vectors().starts, index.token_vectors().starts)
    np.testing.assert_allclose(vectors_of(encoded_before), vectors_of(index), atol=1e-3)
    with_vectors = [{"docno": "a", "doc_embs": np.eye(3, 128)}, {"docno": "b", "doc_embs": np.eye(2, 128)}]
    indexer = pj.JaColBERTIndexer(tmp_path / "with_vectors", model="somebody/unused", compression="float16")
    opened = indexer.index(with_vectors)
    assert opened.meta()["model"] is None
    query = pd.DataFrame({"qid": ["1"], "query_embs": [np.eye(3, 128, dtype=np.float32)]})
    assert opened.retriever()(query)[["docno", "score"]].values.tolist() == [["a", 3.0], ["b", 2.0]]


def test_document_without_text_has_a_docid_and_is_never_found(index, topics, docs):
    assert list(index.docnos()) == [doc["docno"] for doc in docs]
    starts = index.token_vectors().starts
    assert starts[5] == starts[6]  # d6
    found = index.retriever()(topics)
    assert set(found["docno"]) == {doc["docno"] for doc in docs} - {"d6"}


def test_bytes_depend_on_neither_input_type_nor_verbosity(model, docs, tmp_path, capsys):
    pj.JaColBERTIndexer(tmp_path / "a", model).index(docs)
    pj.JaColBERTIndexer(tmp_path / "b", model, verbose=True).index(pd.DataFrame(docs))
    assert conformance.contents(tmp_path / "a") == conformance.contents(tmp_path / "b")
    assert "documents/s" in capsys.readouterr().err
    small_batches = pj.JaColBERTIndexer(tmp_path / "c", model, batch_documents=3).index(docs)
    whole = pj.JaColBERTIndex(tmp_path / "a", model)
    np.testing.assert_array_equal(small_batches.token_vectors().starts, whole.token_vectors().starts)
    np.testing.assert_allclose(vectors_of(small_batches), vectors_of(whole), atol=5e-3)


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
    with_titles = [{"docno": doc["docno"], "text": f"{doc['title']} {doc['text']}"} for doc in docs]
    titled = pj.JaColBERTIndexer(tmp_path / "titled", model, title_field="title").index(docs)
    plain = pj.JaColBERTIndexer(tmp_path / "plain", model).index(with_titles)
    np.testing.assert_array_equal(vectors_of(titled), vectors_of(plain))


def test_index_without_a_path_lives_as_long_as_its_object(model, docs, topics):
    with pytest.warns(UserWarning, match="temporary directory .* give a path to keep it"):
        temporary = pj.JaColBERTIndexer(model=model).index(docs)
    path, retriever = temporary.path, copy.deepcopy(temporary.retriever())
    assert "temporary" in repr(temporary)
    del temporary
    gc.collect()
    assert len(retriever(topics)) > 0  # the retriever's copy keeps the files
    del retriever
    gc.collect()
    assert not path.exists()


def test_indexes_are_equal_by_path_and_model(index, model, tmp_path):
    assert pj.JaColBERTIndex(index.path, model) == index
    assert pj.JaColBERTIndex(index.path, str(tmp_path)) != index
    assert pj.JaColBERTIndex(tmp_path) != pj.JaColBERTIndex(index.path)
    assert pickle.loads(pickle.dumps(index)) == index
    assert str(index.path) in repr(index)


def test_damaged_file_is_named(index, tmp_path):
    shutil.copytree(index.path, tmp_path / "index")
    opened = pj.JaColBERTIndex(tmp_path / "index")
    opened.verify()
    file = tmp_path / "index" / "data-1" / "vectors.f2"
    size = file.stat().st_size
    file.write_bytes(file.read_bytes()[:-2] + b"??")
    with pytest.raises(ValueError, match=rf"damaged.*: data-1/vectors.f2, bytes 0 to {size}: the content"):
        opened.verify()


def test_missing_and_foreign_artifacts_are_named(index, tmp_path):
    with pytest.raises(FileNotFoundError, match="There is no index at .*missing"):
        pj.JaColBERTIndex(tmp_path / "missing").retriever().search("山")
    assert not pj.JaColBERTIndex(tmp_path / "missing").built()
    for change, message in ({"format": "other"}, "other artifact"), ({"format_version": 99}, "format version 99"):
        shutil.rmtree(tmp_path / "index", ignore_errors=True)
        shutil.copytree(index.path, tmp_path / "index")
        change_manifest(tmp_path / "index", **change)
        with pytest.raises(ValueError, match=message):
            len(pj.JaColBERTIndex(tmp_path / "index"))


INVALID_DOCUMENTS = {
    "None as text": ({"docno": "x", "text": None}, "text of document 'x'.*missing"),
    "NaN as text": ({"docno": "x", "text": float("nan")}, "text of document 'x'.*missing"),
    "a number as text": ({"docno": "x", "text": 7}, "is of type int, not a string"),
    "an integer docno": ({"docno": 7, "text": "山"}, "docno at position 1 is of type int"),
    "None as docno": ({"docno": None, "text": "山"}, "docno at position 1 is missing"),
    "an empty docno": ({"docno": "", "text": "山"}, "docno at position 1 is"),
    "a repeated docno": ({"docno": "d1", "text": "山"}, "'d1' is at positions 0 and 1"),
    "a lone surrogate in a text": ({"docno": "x", "text": "a\ud800"}, r"lone surrogate \(U\+D800 at character 1\)"),
    "a lone surrogate in a docno": ({"docno": "\ud800", "text": "山"}, "lone surrogate"),
    "vectors that are no matrix": ({"docno": "x", "doc_embs": np.ones(3)}, "'x' have shape"),
    "vectors of another dimension": ({"docno": "x", "doc_embs": np.ones((2, 3))}, r"'x' have shape \(2, 3\)"),
    "vectors that hold NaN": ({"docno": "x", "doc_embs": np.full((2, 128), np.nan)}, "'x' hold NaN"),
}


@pytest.mark.parametrize("case", INVALID_DOCUMENTS)
def test_invalid_document_is_named_and_nothing_is_left(case, model, docs, tmp_path):
    document, message = INVALID_DOCUMENTS[case]
    with pytest.raises(ValueError, match=message) as raised:
        pj.JaColBERTIndexer(tmp_path / "index", model).index([docs[0], document])
    assert "\n" not in str(raised.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("docs", ["docs.jsonl", {"docno": "d", "text": "t"}, b""])
def test_anything_but_a_collection_of_documents_is_refused(docs, model, tmp_path):
    with pytest.raises(ValueError, match="must be an iterable of dicts or a frame"):
        pj.JaColBERTIndexer(tmp_path / "index", model).index(docs)


@pytest.mark.parametrize("texts", [[""], ["", " "], ["山"]])
def test_collections_of_one_or_two_documents_are_indexed(texts, model, topics, tmp_path):
    docs = [{"docno": f"d{i}", "text": text} for i, text in enumerate(texts)]
    small = pj.JaColBERTIndexer(tmp_path / "index", model).index(docs)
    assert len(small) == len(texts)
    assert len(small.retriever()(topics)) == sum(text.strip() != "" for text in texts) * len(topics)


def test_pyterrier_finds_the_class_of_the_artifact(index):
    assert pt.Artifact.load(str(index.path)).ARTIFACT_FORMAT == "jacolbert"
