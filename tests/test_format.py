"""Indexes written by an earlier version are read, searched and updated; see ``make_indexes.py``."""

import json
import zipfile
from dataclasses import dataclass

import conformance
import numpy as np
import pandas as pd
import pytest
from make_indexes import ARCHIVE, COMPRESSIONS, RETRIEVERS, documents, topics

import pyterrier_jacolbert as pj
from pyterrier_jacolbert.artifacts.open import open_index
from pyterrier_jacolbert.index.codecs import training
from pyterrier_jacolbert.index.storage.manifest import Manifest


@dataclass(frozen=True)
class EarlierIndex:
    """Contents of an index of the archive.

    Attributes:
        documents: number of documents, deleted ones included.
        deleted: deleted docnos.
        generation: follows from the names of the files.
    """

    documents: int
    deleted: frozenset[str]
    generation: int


SINGLE = {
    **dict.fromkeys(COMPRESSIONS, EarlierIndex(60, frozenset({"文書3", "文書51"}), generation=2)),
    "one_stage": EarlierIndex(20, frozenset(), generation=1),
}
INDEXES = {**SINGLE, "shards": EarlierIndex(60, frozenset({"文書40"}), generation=1)}


@pytest.fixture
def earlier(tmp_path):
    """Folder with the indexes of the earlier version."""
    with zipfile.ZipFile(ARCHIVE) as archive:
        archive.extractall(tmp_path / "earlier")
    return tmp_path / "earlier"


def recorded_rankings(earlier, name):
    """Returns what each retriever found in an index: lists of qid, docno and score, by its name."""
    return json.loads((earlier / "rankings.json").read_text(encoding="utf-8"))[name]


def assert_ranking(frame, rows):
    assert frame[["qid", "docno"]].values.tolist() == [row[:2] for row in rows]
    np.testing.assert_allclose(frame["score"], [row[2] for row in rows], rtol=1e-5, atol=1e-4)


def all_scores(index):
    """Returns the scores of all documents for all queries."""
    return index.exact_retriever()(topics()).set_index(["qid", "docno"])["score"].sort_index()


def docnos_of(numbers, without=frozenset()):
    return [f"文書{i}" for i in numbers if f"文書{i}" not in without]


@pytest.mark.parametrize("name", INDEXES)
def test_earlier_indexes_are_whole_and_give_the_same_rankings(earlier, name):
    index = open_index(earlier / name)
    index.verify()
    assert len(index) == INDEXES[name].documents - len(INDEXES[name].deleted)
    recorded = recorded_rankings(earlier, name)
    assert recorded.keys() == RETRIEVERS.keys()
    for retriever, rows in recorded.items():
        assert_ranking(index.retriever(**RETRIEVERS[retriever])(topics()), rows)


def test_earlier_bm25_index_gives_the_same_ranking(earlier):
    index = pj.JapaneseBM25(earlier / "bm25")
    index.verify()
    queries = pd.DataFrame({"qid": ["1", "2"], "query": ["日本一高い山", "豆腐の味噌汁"]})
    assert_ranking(index.retriever(num_results=10)(queries), recorded_rankings(earlier, "bm25")["default"])


@pytest.mark.parametrize("behaviour", conformance.ARTIFACT)
@pytest.mark.parametrize("name", ["4bit", "shards"])
def test_earlier_indexes_are_artifacts(earlier, name, behaviour, tmp_path):
    def ranking(index):
        return index.retriever()(topics())[["qid", "docno", "score"]].values.tolist()

    (tmp_path / "empty").mkdir()
    conformance.ARTIFACT[behaviour](open_index(earlier / name), ranking, tmp_path / "empty")


@pytest.mark.parametrize("name", INDEXES)
def test_first_update_takes_unused_file_names(earlier, name):
    assert "generation" not in json.loads((earlier / name / "pt_meta.json").read_text(encoding="utf-8"))
    generation = Manifest.read(earlier / name).generation
    assert generation == INDEXES[name].generation
    files = {path.relative_to(earlier / name).as_posix() for path in (earlier / name).rglob("*")}
    open_index(earlier / name).delete(["文書0"])
    updated = Manifest.read(earlier / name)
    assert updated.generation == generation + 1
    assert updated.files["deleted"].file == f"data-1/{generation + 1}.deleted.u4"
    assert updated.files["deleted"].file not in files


@pytest.mark.parametrize("name", INDEXES)
def test_earlier_indexes_are_updated(earlier, name):
    n_documents, deleted = INDEXES[name].documents, INDEXES[name].deleted
    reader = open_index(earlier / name)
    before = all_scores(reader)
    index = open_index(earlier / name, "somebody/unused")

    appended = documents(range(n_documents, n_documents + 10))
    index.append(appended)
    scores = all_scores(index)
    assert list(index.docnos()) == docnos_of(range(n_documents + 10))
    with_vectors = {document["docno"] for document in appended if len(document["doc_embs"])}
    assert with_vectors <= set(scores.index.get_level_values("docno"))
    pd.testing.assert_series_equal(scores[before.index], before)

    index.delete(["文書5", f"文書{n_documents}"])
    deleted = deleted | {"文書5", f"文書{n_documents}"}
    expected = scores[~scores.index.get_level_values("docno").isin(deleted)]
    pd.testing.assert_series_equal(all_scores(index), expected)

    index.compact()
    assert list(index.docnos()) == docnos_of(range(n_documents + 10), deleted)
    pd.testing.assert_series_equal(all_scores(index), expected)
    index.verify()
    pd.testing.assert_series_equal(all_scores(reader), before)  # it keeps the state that it opened


@pytest.mark.parametrize("name", INDEXES)
def test_earlier_indexes_are_merged(earlier, name, tmp_path):
    merged = pj.JaColBERTIndex.merge([earlier / name], tmp_path / "merged")
    assert list(merged.docnos()) == docnos_of(range(INDEXES[name].documents), INDEXES[name].deleted)
    pd.testing.assert_series_equal(all_scores(merged), all_scores(open_index(earlier / name)))
    assert_ranking(merged.exact_retriever(num_results=10)(topics()), recorded_rankings(earlier, name)["exact"])
    merged.verify()


@pytest.mark.parametrize("name", SINGLE)
def test_earlier_and_new_indexes_are_merged(earlier, name, tmp_path, monkeypatch):
    if name == "int8":  # so that a small index has centroids
        monkeypatch.setattr(training, "INT8_CENTROIDS_TOKENS", 100)
    n_documents, deleted = SINGLE[name].documents, SINGLE[name].deleted
    numbers = range(n_documents, n_documents + 30)
    settings = {"compression": "int8" if name == "one_stage" else name, "n_centroids": 8}
    new = pj.JaColBERTIndexer(tmp_path / "new", "somebody/unused", **settings).index(documents(numbers))
    merged = pj.JaColBERTIndex.merge([earlier / name, new.path], tmp_path / "merged")
    merged.verify()
    assert list(merged.docnos()) == docnos_of(range(n_documents), deleted) + docnos_of(numbers)
    scores = all_scores(merged)
    expected = pd.concat([all_scores(open_index(earlier / name)), all_scores(new)]).sort_index()
    assert scores.index.equals(expected.index)
    if name in ("float16", "one_stage"):  # the others are compressed again, with a codec for all documents
        pd.testing.assert_series_equal(scores, expected)
