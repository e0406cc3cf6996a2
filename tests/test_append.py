"""Documents are appended like those of the index: with its settings and its checkpoint, or not at all."""

import json

import pytest
from checkpoints import write_stanford_checkpoint
from clustered_documents import documents
from conformance import contents, no_network

import pyterrier_jacolbert as pj
from pyterrier_jacolbert.artifacts.open import open_index
from pyterrier_jacolbert.building.executors import SerialExecutor
from pyterrier_jacolbert.cli.parser import main


@pytest.fixture(params=[None, 4], ids=["single", "sharded"])
def build(request, tmp_path):
    """Builds an index, single or sharded."""

    def build_index(docs, model, **settings):
        executor = None if request.param is None else SerialExecutor(request.param)
        settings = {"compression": "int8", "batch_documents": 4, "executor": executor, **settings}
        return pj.JaColBERTIndexer(tmp_path / "i", model, **settings).index(docs)

    return build_index


@pytest.fixture(scope="module")
def retrained(tmp_path_factory):
    return write_stanford_checkpoint(tmp_path_factory.mktemp("retrained"), hidden=64, dim=128, seed=1)


def test_vectors_are_appended_without_a_checkpoint(build):
    index = open_index(build(documents(range(9)), "somebody/unused").path)
    with no_network():
        index.append(documents(range(9, 12)))
        assert len(index) == 12
        with pytest.raises(ValueError, match="records no checkpoint .* document 'd1' cannot be encoded; .*doc_embs"):
            index.append([{"docno": "d1", "text": "富士山"}])
    index.verify()


def test_an_unnamed_checkpoint_is_not_needed_for_vectors(build, model, docs):
    index = open_index(build(docs[:5], pj.JaColBERT(model.encoder.model, dtype="float32")).path)
    encoded = model.doc_encoder()(docs[5:])
    index.append([{"docno": row["docno"], "doc_embs": row["doc_embs"]} for row in encoded])
    assert len(index) == len(docs)


def test_another_checkpoint_is_refused_with_both_named(build, model, checkpoint, retrained, docs):
    index = build(docs[:5], model)
    before = contents(index.path)
    message = f"was built with .*{checkpoint.name}.* and .*{retrained.name}.* has other weights; give the checkpoint"
    with pytest.raises(ValueError, match=message):
        open_index(index.path, str(retrained)).append(docs[5:])
    with pytest.raises(ValueError, match="max_document_length=None, not 8"):
        open_index(index.path, pj.JaColBERT(str(checkpoint), max_document_length=8)).append(docs[5:])
    after = contents(index.path)
    assert {name: content for name, content in after.items() if name in before} == before
    assert len(open_index(index.path).append(docs[5:])) == len(docs)


def test_indexer_appends_with_the_settings_of_the_index(tmp_path, model, retrained, docs):
    settings = {"title_field": "title", "store_text": True, "compression": "float16", "pool_factor": 2.0}
    whole = pj.JaColBERTIndexer(tmp_path / "whole", model, **settings).index(docs)
    pj.JaColBERTIndexer(tmp_path / "i", model, **settings).index(docs[:5])
    for name, given, there in (
        ("text_field", "title", "text"),
        ("title_field", "text", "title"),
        ("compression", "int8", "float16"),
        ("pool_factor", 3.0, 2.0),
    ):
        with pytest.raises(ValueError, match=f"{name}={there!r}, not {given!r}; leave {name} out"):
            pj.JaColBERTIndexer(tmp_path / "i", model, mode="append", **{name: given}).index(docs[5:])
    pj.JaColBERTIndexer(tmp_path / "j", model, compression="int8", n_centroids=4).index(docs[:5])
    with pytest.raises(ValueError, match="n_centroids=4, not 8; leave n_centroids out"):
        pj.JaColBERTIndexer(tmp_path / "j", model, mode="append", n_centroids=8).index(docs[5:])
    with pytest.raises(ValueError, match="has other weights"):
        pj.JaColBERTIndexer(tmp_path / "i", str(retrained), mode="append").index(docs[5:])
    assert len(pj.JaColBERTIndex(tmp_path / "i")) == 5
    index = pj.JaColBERTIndexer(tmp_path / "i", mode="append").index(docs[5:7])
    pj.JaColBERTIndex(tmp_path / "i").index(docs[7:], mode="append")
    index = pj.JaColBERTIndex(index.path)
    assert [index.token_vectors().text(i) for i in range(len(docs))] == [
        whole.token_vectors().text(i) for i in range(len(docs))
    ]
    assert (index.token_vectors().starts == whole.token_vectors().starts).all()
    assert index.model.model == model.model


def test_command_line_appends_with_the_settings_of_the_index(tmp_path, checkpoint, retrained, docs, capsys):
    path, index = tmp_path / "docs.jsonl", str(tmp_path / "i")

    def append(docs, *options):
        path.write_text("".join(f"{json.dumps(doc)}\n" for doc in docs), encoding="utf-8")
        return main(["index", str(path), index, "--mode", "append", *options])

    pj.JaColBERTIndexer(index, str(checkpoint), title_field="title", compression="float16").index(docs[:5])
    assert append(docs[5:], "--compression", "4bit") == 1
    assert "compression='float16', not '4bit'" in capsys.readouterr().err
    assert append(docs[5:], "--model", str(retrained)) == 1
    assert "has other weights" in capsys.readouterr().err
    assert append(docs[5:]) == 0
    assert len(pj.JaColBERTIndex(index)) == len(docs)
