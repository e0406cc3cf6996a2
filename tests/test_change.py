"""The life of an index after its build: append, delete, compact, merge; each is there at once or not at all."""

import os
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

import pyterrier_jacolbert as pj
from pyterrier_jacolbert.index import change
from pyterrier_jacolbert.index.manifest import META_FILE

DIM = 16
QUERIES = 4


def unit(generator, n):
    rows = generator.standard_normal((n, DIM))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def documents(numbers):
    """Documents that bring their vectors; each depends on its number alone, and every seventh has none."""
    return [
        {"docno": f"文書{i}", "doc_embs": unit(np.random.default_rng(i), 0 if i % 7 == 6 else 1 + i % 5)}
        for i in numbers
    ]


def topics():
    vectors = [unit(np.random.default_rng(1000 + i), 4) for i in range(QUERIES)]
    return pd.DataFrame({"qid": [str(i) for i in range(QUERIES)], "query_embs": vectors})


def build(path, numbers, compression="int8", **settings):
    settings = {"compression": compression, "n_centroids": 4 if "bit" in compression else None, **settings}
    return pj.JaColBERTIndexer(path, "somebody/unused", **settings).index(documents(numbers))


def ranking(index):
    found = index.retriever()(topics())
    return found[["qid", "docno", "score"]].values.tolist()


def files(index):
    """What is stored, by name."""
    return {
        name: np.array(array)
        for name, array in {**index.token_vectors().columns, "starts": index.token_vectors().starts}.items()
    }


def assert_alike(one, other):
    assert ranking(one) == ranking(other)
    assert list(one.docnos()) == list(other.docnos())
    for name, array in files(one).items():
        np.testing.assert_array_equal(array, files(other)[name])
    one.verify()


@pytest.mark.parametrize("compression", ["float16", "int8"])
@settings(deadline=None, max_examples=15)
@given(st.lists(st.integers(1, 29), max_size=3, unique=True))
def test_appending_in_any_pieces_equals_one_build(tmp_path_factory, compression, cuts):
    folder = tmp_path_factory.mktemp("split")
    bounds = [0, *sorted(cuts), 30]
    index = build(folder / "pieces", range(bounds[1]), compression)
    for first, end in zip(bounds[1:], bounds[2:], strict=False):
        index.append(documents(range(first, end)))
    whole = build(folder / "whole", range(30), compression)
    assert_alike(index, whole)
    assert_alike(pj.JaColBERTIndex(folder / "pieces"), whole)
    assert len(index) == 30


@pytest.mark.parametrize("compression", ["4bit", "2bit", "1bit"])
def test_appending_to_residual_codes_keeps_docids_and_codes_around_the_old_centroids(tmp_path, compression):
    index = build(tmp_path / "i", range(20), compression)
    before = files(index)
    centroids = np.array(index.token_vectors().parameters["centroids"])
    index.append(documents(range(20, 30)))
    assert list(index.docnos()) == [f"文書{i}" for i in range(30)]
    for name, array in before.items():
        np.testing.assert_array_equal(files(index)[name][: len(array)], array)
    np.testing.assert_array_equal(index.token_vectors().parameters["centroids"], centroids)
    given_vectors = np.concatenate([doc["doc_embs"] for doc in documents(range(20, 30))])
    stored = index.token_vectors().rows(20, 30)
    np.testing.assert_allclose(np.linalg.norm(stored, axis=1), 1, atol=0.2)  # trained on some 50 tokens
    least = {"4bit": 0.98, "2bit": 0.9, "1bit": 0.6}[compression]
    assert np.einsum("ij,ij->i", given_vectors, stored).mean() > least


@settings(deadline=None, max_examples=20)
@given(
    st.sets(st.integers(0, 29), max_size=30),
    st.sampled_from(["float16", "int8", "4bit"]),
    st.booleans(),
)
def test_deleted_then_compacted_ranks_as_a_build_without_them(tmp_path_factory, gone, compression, at_once):
    folder = tmp_path_factory.mktemp("delete")
    kept = [i for i in range(30) if i not in gone]
    index = build(folder / "i", range(30), compression)
    other = pj.JaColBERTIndex(folder / "i")
    everything = ranking(other)
    for part in [sorted(gone)] if at_once else [[i] for i in sorted(gone)]:
        index.delete([f"文書{i}" for i in part])
    names = {f"文書{i}" for i in gone}
    expected = [row for row in everything if row[1] not in names]
    assert ranking(other) == everything  # a reader that was open keeps its view
    assert ranking(index) == ranking(pj.JaColBERTIndex(folder / "i")) == expected
    assert len(index) == len(kept)
    index.compact()
    assert ranking(index) == expected
    assert list(index.docnos()) == [f"文書{i}" for i in kept]
    assert ranking(other) == everything
    index.verify()
    if kept and compression != "4bit":
        assert_alike(index, build(folder / "without", kept, compression))
    if gone:
        index.append(documents(sorted(gone)))
        assert sorted(ranking(index)) == sorted(everything)


def test_a_deleted_document_is_found_and_scored_no_more_and_its_name_is_free(tmp_path):
    index = build(tmp_path / "i", range(10))
    retriever, scorer = index.retriever(), index.scorer()
    frame = topics().merge(pd.DataFrame({"docno": ["文書3", "文書4"]}), how="cross").assign(score=0.0, rank=0)
    assert len(scorer(frame)) == len(frame)
    assert index.delete(["文書3"]) is index
    assert "文書3" not in set(retriever(topics())["docno"])
    with pytest.raises(ValueError, match=r"are not in .*first: '文書3'"):
        scorer(frame)
    with pytest.raises(ValueError, match=r"are not in .*first: '文書3'"):
        index.delete(["文書4", "文書3"])
    assert "文書4" in set(retriever(topics())["docno"])
    index.append([{"docno": "文書3", "doc_embs": topics()["query_embs"][0]}])
    assert retriever(topics())["docno"].iloc[0] == "文書3"
    assert index.stats()["deleted"] == 1
    with pytest.raises(ValueError, match="has a document '文書4' already; delete that first"):
        index.append(documents([50, 4]))
    assert len(index) == 10


def test_what_two_indexes_hold_is_merged_without_what_was_deleted(tmp_path):
    for compression in ("float16", "int8"):
        folder = tmp_path / compression
        parts = [build(folder / "a", range(12), compression), build(folder / "b", range(12, 30), compression)]
        merged = pj.JaColBERTIndex.merge([part.path for part in parts], folder / "merged")
        assert_alike(merged, build(folder / "whole", range(30), compression))
        parts[0].delete(["文書2"])
        merged = pj.JaColBERTIndex.merge([part.path for part in parts], folder / "without")
        assert_alike(merged, build(folder / "rest", [i for i in range(30) if i != 2], compression))


def test_residual_indexes_are_merged_around_centroids_of_all(tmp_path):
    parts = [build(tmp_path / "a", range(12), "4bit"), build(tmp_path / "b", range(12, 30), "4bit")]
    merged = pj.JaColBERTIndex.merge([part.path for part in parts], tmp_path / "merged")
    assert merged.meta()["compression"] == "4bit"
    assert list(merged.docnos()) == [f"文書{i}" for i in range(30)]
    exact = build(tmp_path / "exact", range(30), "float16").token_vectors().rows(0, 30)
    assert np.einsum("ij,ij->i", exact, merged.token_vectors().rows(0, 30)).mean() > 0.96


def test_indexes_that_do_not_fit_together_are_not_merged(tmp_path):
    a, b = build(tmp_path / "a", range(5)), build(tmp_path / "b", range(4, 9))
    other = build(tmp_path / "other", range(10, 12), "float16")
    with pytest.raises(ValueError, match="both have a document '文書4'; delete it in one of them"):
        pj.JaColBERTIndex.merge([a.path, b.path], tmp_path / "out")
    with pytest.raises(
        ValueError, match="has compression='float16' and .* has 'int8'; merge indexes that were built alike"
    ):
        pj.JaColBERTIndex.merge([a.path, other.path], tmp_path / "out")
    with pytest.raises(FileExistsError):
        pj.JaColBERTIndex.merge([a.path], b.path)
    assert not (tmp_path / "out").exists()
    assert len(b) == 5


class PowerCut(BaseException):
    """Nothing catches it."""


CHANGES = {
    "append": lambda index: index.append(documents(range(20, 32)), shard_documents=5),
    "delete": lambda index: index.delete(["文書3", "文書9"]),
    "compact": lambda index: index.compact(),
}


@pytest.mark.parametrize("name", CHANGES)
def test_after_a_kill_the_index_is_the_old_or_the_new_one(tmp_path, name, monkeypatch):
    monkeypatch.setattr(change, "_COPIED_AT_ONCE", 5)
    start = build(tmp_path / "start", range(20))
    start.delete(["文書5"])
    old = ranking(start)
    shutil.copytree(start.path, tmp_path / "changed")
    changed = CHANGES[name](pj.JaColBERTIndex(tmp_path / "changed", "somebody/unused"))
    new, after = ranking(changed), contents(tmp_path / "changed")
    steps = {"fsync": os.fsync, "replace": os.replace, "unlink": os.unlink}
    stop, seen = 0, set()
    while True:
        directory = tmp_path / f"stopped-{stop}"
        shutil.copytree(start.path, directory)
        left = iter(range(stop))

        def dying(step, left=left):
            def act(*arguments, **named):
                if next(left, None) is None:
                    raise PowerCut
                return step(*arguments, **named)

            return act

        with pytest.MonkeyPatch.context() as patch:
            for call, step in steps.items():
                patch.setattr(os, call, dying(step))
            try:
                CHANGES[name](pj.JaColBERTIndex(directory, "somebody/unused"))
                done = True
            except PowerCut:
                done = False
        reader = pj.JaColBERTIndex(directory, "somebody/unused")
        found = ranking(reader)
        assert found in (old, new), stop
        reader.verify()
        seen.add(found == new)
        if found == old and old != new:
            CHANGES[name](reader)
            assert {k: v for k, v in contents(directory).items() if k.name != META_FILE} == {
                k: v for k, v in after.items() if k.name != META_FILE
            }, stop
            assert ranking(reader) == new
        if done:
            break
        stop += 1
    assert stop > 5
    assert True in seen


def test_stored_texts_come_back_after_every_change(tmp_path, model, docs):
    index = pj.JaColBERTIndexer(tmp_path / "i", model, title_field="title", store_text=True).index(docs[:5])
    index.append(docs[5:])
    index.delete([docs[1]["docno"]]).compact()
    expected = {doc["docno"]: f"{doc['title']} {doc['text']}" for doc in docs if doc is not docs[1] and doc["text"]}
    frame = pd.DataFrame({"docno": list(expected)})
    assert pt.text.get_text(index)(frame)["text"].tolist() == list(expected.values())
    assert pt.text.get_text(index, "text")(frame)["text"].tolist() == list(expected.values())
    with pytest.raises(ValueError, match="stores the field 'text' alone, not 'title'"):
        index.text_loader("title")
    with pytest.raises(ValueError, match="holds no text; build it with store_text=True"):
        build(tmp_path / "plain", range(2)).text_loader()


def test_a_package_holds_what_the_manifest_names_and_nothing_else(tmp_path):
    index = build(tmp_path / "i", range(20)).delete(["文書3"])
    (index.path / "data-9").mkdir()
    (index.path / "data-9" / "journal.json").write_text("{}")
    index.build_package(str(tmp_path / "p.tar.lz4"), verbose=False)
    with lz4.frame.open(tmp_path / "p.tar.lz4") as stream, tarfile.open(fileobj=stream) as package:
        names = {member.name for member in package.getmembers() if member.isfile()}
    assert names == {str(name) for name in contents(index.path) if name.parts[0] not in (".lock", "data-9")}


def test_stats_count_every_file(tmp_path):
    index = build(tmp_path / "i", range(20), "int8")
    stats = index.stats()
    assert (stats["documents"], stats["deleted"], stats["dim"], stats["compression"]) == (20, 0, DIM, "int8")
    size = sum(file.stat().st_size for file in index.path.rglob("*") if file.is_file())
    assert stats["bytes_per_token"] == pytest.approx(size / stats["tokens"])
    assert stats["bytes_per_token_by_file"]["codes"] == DIM
    assert sum(stats["bytes_per_token_by_file"].values()) <= stats["bytes_per_token"]
