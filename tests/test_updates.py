"""Append, delete, compact and merge; each takes effect in one step or not at all."""

import shutil
import tarfile

import lz4.frame
import numpy as np
import pandas as pd
import pyterrier as pt
import pytest
from conformance import contents
from hypothesis import given, settings
from hypothesis import strategies as st
from power_cuts import PowerCut, power_cut_after

import pyterrier_jacolbert as pj
from pyterrier_jacolbert.index import updates
from pyterrier_jacolbert.index.codecs import training
from pyterrier_jacolbert.index.storage.directory import META_FILE

DIM = 16
N_QUERIES = 4


def unit_vectors(rng, n):
    rows = rng.standard_normal((n, DIM))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def documents(numbers):
    """Returns documents that bring their vectors; each depends only on its number, and every seventh has none."""
    return [
        {"docno": f"文書{i}", "doc_embs": unit_vectors(np.random.default_rng(i), 0 if i % 7 == 6 else 1 + i % 5)}
        for i in numbers
    ]


def queries():
    vectors = [unit_vectors(np.random.default_rng(1000 + i), 4) for i in range(N_QUERIES)]
    return pd.DataFrame({"qid": [str(i) for i in range(N_QUERIES)], "query_embs": vectors})


def build_index(path, numbers, compression="int8", **settings):
    settings = {"compression": compression, "n_centroids": 4 if "bit" in compression else None, **settings}
    return pj.JaColBERTIndexer(path, "somebody/unused", **settings).index(documents(numbers))


def ranking(index):
    return index.retriever()(queries())[["qid", "docno", "score"]].values.tolist()


def stored_arrays(index):
    reader = index.token_vectors()
    return {name: np.array(array) for name, array in {**reader.columns, "starts": reader.starts}.items()}


def assert_same_content(index, other):
    assert ranking(index) == ranking(other)
    assert list(index.docnos()) == list(other.docnos())
    others = stored_arrays(other)
    for name, array in stored_arrays(index).items():
        np.testing.assert_array_equal(array, others[name])
    index.verify()


@pytest.mark.parametrize("compression", ["float16", "int8"])
@settings(deadline=None, max_examples=15)
@given(st.lists(st.integers(1, 29), max_size=3, unique=True))
def test_appending_in_steps_equals_one_build(tmp_path_factory, compression, cuts):
    folder = tmp_path_factory.mktemp("append")
    bounds = [0, *sorted(cuts), 30]
    index = build_index(folder / "steps", range(bounds[1]), compression)
    for first, end in zip(bounds[1:], bounds[2:], strict=False):
        index.append(documents(range(first, end)))
    whole = build_index(folder / "whole", range(30), compression)
    assert_same_content(index, whole)
    assert_same_content(pj.JaColBERTIndex(folder / "steps"), whole)
    assert len(index) == 30


@pytest.mark.parametrize("compression", ["4bit", "2bit", "1bit"])
def test_append_keeps_docids_codes_and_centroids(tmp_path, compression, monkeypatch):
    for name, value in {"RETRAINED_TOKENS": 0, "KEPT_TOKENS": 0, "_MAX_ERROR": 100}.items():
        monkeypatch.setattr(training, name, value)  # as in a large index that has not outgrown its codec
    index = build_index(tmp_path / "i", range(20), compression)
    before = stored_arrays(index)
    centroids = np.array(index.token_vectors().parameters["centroids"])
    index.append(documents(range(20, 30)))
    assert list(index.docnos()) == [f"文書{i}" for i in range(30)]
    for name, array in before.items():
        np.testing.assert_array_equal(stored_arrays(index)[name][: len(array)], array)
    np.testing.assert_array_equal(index.token_vectors().parameters["centroids"], centroids)
    vectors = np.concatenate([document["doc_embs"] for document in documents(range(20, 30))])
    stored = index.token_vectors().rows(20, 30)
    np.testing.assert_allclose(np.linalg.norm(stored, axis=1), 1, atol=0.2)  # trained on some 50 tokens
    least = {"4bit": 0.98, "2bit": 0.9, "1bit": 0.6}[compression]
    assert np.einsum("ij,ij->i", vectors, stored).mean() > least


@settings(deadline=None, max_examples=20)
@given(
    st.sets(st.integers(0, 29), max_size=30),
    st.sampled_from(["float16", "int8", "4bit"]),
    st.booleans(),
)
def test_deleting_and_compacting_equals_a_build_without(tmp_path_factory, deleted, compression, at_once):
    folder = tmp_path_factory.mktemp("delete")
    kept = [i for i in range(30) if i not in deleted]
    index = build_index(folder / "i", range(30), compression)
    reader = pj.JaColBERTIndex(folder / "i")
    before = ranking(reader)
    for numbers in [sorted(deleted)] if at_once else [[i] for i in sorted(deleted)]:
        index.delete([f"文書{i}" for i in numbers])
    docnos = {f"文書{i}" for i in deleted}
    expected = [row for row in before if row[1] not in docnos]
    assert ranking(reader) == before  # it keeps the state that it opened
    assert ranking(index) == ranking(pj.JaColBERTIndex(folder / "i")) == expected
    assert len(index) == len(kept)
    index.compact()
    assert ranking(index) == expected
    assert list(index.docnos()) == [f"文書{i}" for i in kept]
    assert ranking(reader) == before
    index.verify()
    if kept and compression != "4bit":
        assert_same_content(index, build_index(folder / "without", kept, compression))
    if deleted:
        index.append(documents(sorted(deleted)))
        if compression == "4bit":  # trained again on the documents in their new order
            assert_same_content(index, build_index(folder / "again", [*kept, *sorted(deleted)], compression))
        else:
            assert sorted(ranking(index)) == sorted(before)


def test_deleted_document_is_not_found_and_its_docno_is_free(tmp_path):
    index = build_index(tmp_path / "i", range(10))
    retriever, scorer = index.retriever(), index.scorer()
    frame = queries().merge(pd.DataFrame({"docno": ["文書3", "文書4"]}), how="cross").assign(score=0.0, rank=0)
    assert len(scorer(frame)) == len(frame)
    assert index.delete(["文書3"]) is index
    assert "文書3" not in set(retriever(queries())["docno"])
    with pytest.raises(ValueError, match="are not in .*first: '文書3'"):
        scorer(frame)
    with pytest.raises(ValueError, match="are not in .*first: '文書3'"):
        index.delete(["文書4", "文書3"])
    assert "文書4" in set(retriever(queries())["docno"])
    index.append([{"docno": "文書3", "doc_embs": queries()["query_embs"][0]}])
    assert retriever(queries())["docno"].iloc[0] == "文書3"
    assert index.stats()["deleted"] == 1
    with pytest.raises(ValueError, match="already has a document '文書4'; delete it first"):
        index.append(documents([50, 4]))
    assert len(index) == 10


@pytest.mark.parametrize("compression", ["float16", "int8"])
def test_merge_equals_one_build_without_deleted_documents(tmp_path, compression):
    first = build_index(tmp_path / "a", range(12), compression)
    second = build_index(tmp_path / "b", range(12, 30), compression)
    merged = pj.JaColBERTIndex.merge([first.path, second.path], tmp_path / "merged")
    assert_same_content(merged, build_index(tmp_path / "whole", range(30), compression))
    first.delete(["文書2"])
    merged = pj.JaColBERTIndex.merge([first.path, second.path], tmp_path / "without")
    assert_same_content(merged, build_index(tmp_path / "rest", [i for i in range(30) if i != 2], compression))


def test_merge_trains_residual_codecs_on_all_documents(tmp_path):
    indexes = [build_index(tmp_path / "a", range(12), "4bit"), build_index(tmp_path / "b", range(12, 30), "4bit")]
    merged = pj.JaColBERTIndex.merge([index.path for index in indexes], tmp_path / "merged")
    assert merged.meta()["compression"] == "4bit"
    assert list(merged.docnos()) == [f"文書{i}" for i in range(30)]
    exact = build_index(tmp_path / "exact", range(30), "float16").token_vectors().rows(0, 30)
    assert np.einsum("ij,ij->i", exact, merged.token_vectors().rows(0, 30)).mean() > 0.96


def test_merge_refuses_repeated_docnos_and_other_settings(tmp_path):
    a, b = build_index(tmp_path / "a", range(5)), build_index(tmp_path / "b", range(4, 9))
    other = build_index(tmp_path / "other", range(10, 12), "float16")
    with pytest.raises(ValueError, match="both have a document '文書4'; delete it in one of them"):
        pj.JaColBERTIndex.merge([a.path, b.path], tmp_path / "out")
    with pytest.raises(ValueError, match="compression='float16' and .* has 'int8'"):
        pj.JaColBERTIndex.merge([a.path, other.path], tmp_path / "out")
    with pytest.raises(FileExistsError):
        pj.JaColBERTIndex.merge([a.path], b.path)
    assert not (tmp_path / "out").exists()
    assert len(b) == 5


UPDATES = {
    "append": lambda index: index.append(documents(range(20, 32)), batch_documents=5),
    "delete": lambda index: index.delete(["文書3", "文書9"]),
    "compact": lambda index: index.compact(),
}


def contents_without_manifest(path):
    return {name: content for name, content in contents(path).items() if name.name != META_FILE}


@pytest.mark.parametrize("name", UPDATES)
def test_killed_update_leaves_the_old_or_the_new_index(tmp_path, name, monkeypatch):
    monkeypatch.setattr(updates, "_COPIED_DOCUMENTS", 5)
    start = build_index(tmp_path / "start", range(20))
    start.delete(["文書5"])
    before = ranking(start)
    shutil.copytree(start.path, tmp_path / "updated")
    updated = UPDATES[name](pj.JaColBERTIndex(tmp_path / "updated", "somebody/unused"))
    after, files_after = ranking(updated), contents_without_manifest(updated.path)
    stop, took_effect, completed = 0, set(), False
    while not completed:
        directory = tmp_path / f"stopped-{stop}"
        shutil.copytree(start.path, directory)
        try:
            with power_cut_after(stop, "fsync", "replace", "unlink"):
                UPDATES[name](pj.JaColBERTIndex(directory, "somebody/unused"))
            completed = True
        except PowerCut:
            pass
        index = pj.JaColBERTIndex(directory, "somebody/unused")
        found = ranking(index)
        assert found in (before, after), stop
        index.verify()
        took_effect.add(found == after)
        if found == before and before != after:
            UPDATES[name](index)
            assert contents_without_manifest(directory) == files_after, stop
            assert ranking(index) == after
        stop += 1
    assert stop > 6
    assert True in took_effect


def test_stored_texts_come_back_after_every_update(tmp_path, model, docs):
    index = pj.JaColBERTIndexer(tmp_path / "i", model, title_field="title", store_text=True).index(docs[:5])
    index.append(docs[5:])
    index.delete([docs[1]["docno"]]).compact()
    expected = {doc["docno"]: f"{doc['title']} {doc['text']}" for doc in docs if doc is not docs[1] and doc["text"]}
    frame = pd.DataFrame({"docno": list(expected)})
    assert pt.text.get_text(index)(frame)["text"].tolist() == list(expected.values())
    assert pt.text.get_text(index, "text")(frame)["text"].tolist() == list(expected.values())
    with pytest.raises(ValueError, match="'text', not 'title'"):
        index.text_loader("title")
    with pytest.raises(ValueError, match="stores no text; build it with store_text=True"):
        build_index(tmp_path / "plain", range(2)).text_loader()


def test_package_holds_only_the_files_of_the_manifest(tmp_path):
    index = build_index(tmp_path / "i", range(20)).delete(["文書3"])
    (index.path / "data-9").mkdir()
    (index.path / "data-9" / "journal.json").write_text("{}")
    index.build_package(str(tmp_path / "p.tar.lz4"), verbose=False)
    with lz4.frame.open(tmp_path / "p.tar.lz4") as stream, tarfile.open(fileobj=stream) as package:
        names = {member.name for member in package.getmembers() if member.isfile()}
    assert names == {str(name) for name in contents(index.path) if name.parts[0] not in (".lock", "data-9")}


def test_stats_count_every_file(tmp_path):
    index = build_index(tmp_path / "i", range(20), "int8")
    stats = index.stats()
    assert (stats["documents"], stats["deleted"], stats["dim"], stats["compression"]) == (20, 0, DIM, "int8")
    size = sum(file.stat().st_size for file in index.path.rglob("*") if file.is_file())
    assert stats["bytes_per_token"] == pytest.approx(size / stats["tokens"])
    assert stats["bytes_per_token_by_file"]["codes"] == DIM
    assert sum(stats["bytes_per_token_by_file"].values()) <= stats["bytes_per_token"]
