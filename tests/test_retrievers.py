"""Retrievers over every compression: filters, agreement, feedback, torch, and searches during updates."""

import pickle
import threading

import conformance
import numpy as np
import pandas as pd
import pyterrier as pt
import pytest

import pyterrier_jacolbert as pj
from pyterrier_jacolbert.index.codecs import training
from pyterrier_jacolbert.index.limits import COMPRESSIONS
from pyterrier_jacolbert.index.search.prf import CentroidIDF, expansion
from pyterrier_jacolbert.pipeline import Retriever, TorchRetriever

DIM = 32
#: Token vectors scatter around these.
CENTRES = np.random.default_rng(7).standard_normal((60, DIM))


def unit(rng, n):
    rows = CENTRES[rng.integers(60, size=n)] + 0.3 * rng.standard_normal((n, DIM))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def documents(numbers):
    rng = np.random.default_rng
    return [{"docno": f"d{i:03}", "doc_embs": unit(rng(i), 0 if i % 50 == 49 else 3 + i % 30)} for i in numbers]


@pytest.fixture(scope="module")
def topics():
    vectors = [unit(np.random.default_rng(1000 + i), 5 + 9 * i) for i in range(6)]
    return pd.DataFrame({"qid": [str(i) for i in range(6)], "query_embs": vectors})


def build_index(path, compression, numbers=range(300)):
    """Builds an index; its search has two stages unless the compression is float16."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "INT8_CENTROIDS_TOKENS", 100)
        return pj.JaColBERTIndexer(path, "somebody/unused", compression=compression, n_centroids=64).index(
            documents(numbers)
        )


@pytest.fixture(scope="module", params=COMPRESSIONS)
def index(request, tmp_path_factory):
    return build_index(tmp_path_factory.mktemp(request.param) / "index", request.param)


@pytest.fixture(scope="module")
def int8(tmp_path_factory):
    return build_index(tmp_path_factory.mktemp("two-stages") / "index", "int8")


def brute_force(index, query):
    reader = index.token_vectors()
    scores = {}
    for docid, docno in enumerate(reader.docnos):
        rows = reader.rows(docid, docid + 1)
        if len(rows):
            scores[docno] = float((query @ rows.T).max(axis=1).sum())
    return scores


def test_exact_and_two_stage_retrieval_match_brute_force(index, topics):
    exact = index.exact_retriever(num_results=20)(topics)
    conformance.assert_valid_ranking(exact)
    whole = index.retriever(num_results=20, n_candidates=300)(topics)
    conformance.assert_same_ranking(whole, exact, "enough candidates")
    few = index.retriever(num_results=20, n_candidates=60)(topics)
    conformance.assert_valid_ranking(few)
    found = few.merge(exact, on=["qid", "docno"])
    assert len(found) >= 0.6 * len(exact)
    assert (found["score_x"] == found["score_y"]).all()
    for qid, query in zip(topics["qid"], topics["query_embs"], strict=True):
        expected = brute_force(index, query)
        rows = exact[exact["qid"] == qid]
        differences = [abs(expected[docno] - score) for docno, score in zip(rows["docno"], rows["score"], strict=True)]
        assert max(differences) / len(query) < 4e-3
        assert min(rows["score"]) > sorted(expected.values())[-20] - 8e-3 * len(query)


def test_index_reranker_gives_the_scores_of_the_retriever(index, topics):
    exact = index.exact_retriever(num_results=50)(topics)
    scored = index.scorer()(exact.assign(score=0.0))
    conformance.assert_same_ranking(scored, exact, "scorer")


def test_retriever_absorbs_the_reranker_of_its_own_index(int8, index):
    retriever = int8.retriever()
    assert (retriever >> int8.scorer()).compile() == retriever
    assert (retriever % 5 >> int8.scorer()).compile() == int8.retriever(num_results=5)
    if index.path != int8.path:
        assert isinstance((retriever >> index.scorer()).compile(), type(retriever >> index.scorer()))


def test_filter_limits_the_documents_searched(index, topics):
    names = [f"d{i:03}" for i in range(0, 300, 7)]
    retriever = index.retriever(num_results=10)
    filtered = retriever.filter(names)
    found = filtered(topics)
    assert set(found["docno"]) <= set(names)
    everything = index.exact_retriever(num_results=300)(topics)
    expected = everything[everything["docno"].isin(names)].groupby("qid", sort=False).head(10)
    assert found[["qid", "docno"]].values.tolist() == expected[["qid", "docno"]].values.tolist()
    assert filtered.filter(names[:3] + ["d001"]).docnos == tuple(names[:3])
    assert retriever.docnos is None
    assert pickle.loads(pickle.dumps(filtered)) == filtered
    assert filtered.filter([])(topics).empty


def test_allowed_docnos_column_limits_each_query(int8, topics):
    lists = [["d001", "d002"], ["d003"], [], ["d001", "d002"], [f"d{i:03}" for i in range(100)], ["d049"]]
    found = int8.retriever(num_results=10)(topics.assign(allowed_docnos=lists))
    by_query = found.groupby("qid")["docno"].agg(set).to_dict()
    assert by_query["0"] == {"d001", "d002"}
    assert by_query["1"] == {"d003"}
    assert "2" not in by_query
    assert by_query["4"] <= set(lists[4])
    assert "5" not in by_query  # a document without tokens
    with pytest.raises(ValueError, match="allowed_docnos of qid '0' are 'd001'"):
        int8.retriever()(topics.assign(allowed_docnos="d001"))
    with pytest.raises(ValueError, match="'nowhere'"):
        int8.retriever()(topics.assign(allowed_docnos=[["nowhere"]] * 6))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "int8"])
def test_torch_agrees_with_the_kernels(index, topics, dtype):
    exact = index.exact_retriever(num_results=300)(topics)
    found = index.torch_retriever(num_results=300, device="cpu", dtype=dtype)(topics)
    conformance.assert_valid_ranking(found)
    both = exact.merge(found, on=["qid", "docno"], validate="1:1")
    assert len(both) == len(exact) == len(found)
    tokens = both["qid"].map(dict(zip(topics["qid"], map(len, topics["query_embs"]), strict=True)))
    assert ((both["score_x"] - both["score_y"]).abs() / tokens).max() < 6e-3


def test_torch_applies_cutoffs_filters_and_deletions(tmp_path, topics, monkeypatch):
    from pyterrier_jacolbert.index.search import torch as torch_search

    index = build_index(tmp_path / "i", "int8")
    retriever = index.torch_retriever(num_results=10, device="cpu", dtype="float32")
    whole = retriever(topics)
    conformance.assert_same_ranking((retriever % 3)(topics), whole[whole["rank"] < 3].reset_index(drop=True), "cut")
    deleted = whole["docno"].iloc[0]
    index.delete([deleted])
    assert deleted not in set(retriever(topics)["docno"])
    assert set(retriever.filter(["d001", "d002"])(topics)["docno"]) == {"d001", "d002"}
    monkeypatch.setattr(torch_search, "_BLOCK_TOKENS", 100)
    monkeypatch.setattr(torch_search, "_BLOCK_COLUMNS", 60)
    monkeypatch.setattr(torch_search.TorchSearch, "_free_memory", lambda self: 0)
    streamed = index.torch_retriever(num_results=10, device="cpu", dtype="float32")
    conformance.assert_same_ranking(streamed(topics), retriever(topics), "streamed, in small blocks")
    assert not streamed._on_device.resident
    assert pickle.loads(pickle.dumps(streamed)) == streamed


def test_equal_documents_tie_by_docno_in_every_compression(tmp_path, topics):
    same = unit(np.random.default_rng(0), 5)
    docs = [{"docno": name, "doc_embs": same} for name in ("b", "c", "a", "e", "d")]
    for compression in COMPRESSIONS:
        index = pj.JaColBERTIndexer(tmp_path / compression, "somebody/unused", compression=compression).index(docs)
        for retriever in (index.retriever(num_results=2), index.torch_retriever(num_results=2, device="cpu")):
            assert retriever(topics.head(1))["docno"].tolist() == ["e", "d"]


INDEX = pj.JaColBERTIndex("nowhere", "somebody/unused")


@pytest.mark.parametrize(
    ("create", "name", "value"),
    [
        (INDEX.retriever, "quality", "best"),
        (INDEX.retriever, "n_candidates", 0),
        (INDEX.retriever, "n_probe", 1.5),
        (INDEX.torch_retriever, "dtype", "int4"),
        (lambda **settings: Retriever(INDEX, **settings), "docnos", "d1"),
        (lambda **settings: TorchRetriever(INDEX, **settings), "docnos", "d1"),
        (INDEX.prf, "fb_docs", 0),
        (INDEX.prf, "beta", -1),
    ],
)
def test_invalid_settings_are_refused(create, name, value):
    with pytest.raises(ValueError, match=f"{name} must be .*not .*{value!r}"):
        create(**{name: value})


@pytest.mark.parametrize(
    ("name", "choices"),
    [("quality", ("fast", "balanced", "exact")), ("dtype", ("float32", "float16", "bfloat16", "int8"))],
)
def test_refused_choices_come_with_the_possible_ones(name, choices):
    create = INDEX.retriever if name == "quality" else INDEX.torch_retriever
    with pytest.raises(ValueError, match=".*".join(map(repr, choices))):
        create(**{name: "other"})


def test_query_vectors_of_other_dimensions_are_refused(int8, topics):
    wrong = topics.assign(query_embs=[np.ones((3, 8), dtype=np.float32)] * 6)
    for transformer in (int8.retriever(), int8.torch_retriever(device="cpu")):
        with pytest.raises(ValueError, match=r"query_embs have 8 dimensions and .* stores 32"):
            transformer(wrong)


def test_embs_loader_adds_stored_vectors(index, topics):
    ranking = index.exact_retriever(num_results=4)(topics)
    loaded = index.embs_loader()(ranking)
    reader = index.token_vectors()
    for docno, vectors in zip(loaded["docno"], loaded["doc_embs"], strict=True):
        docid = int(docno[1:])
        np.testing.assert_array_equal(vectors, reader.rows(docid, docid + 1))
    assert list(index.embs_loader()(ranking.head(0)).columns) == list(loaded.columns)
    assert (index.exact_retriever() >> index.embs_loader() % 3).compile() is not None
    pipeline = (index.exact_retriever() >> index.embs_loader()) % 3
    conformance.assert_same_ranking(pipeline.compile()(topics), pipeline(topics), "the cut before the vectors are read")


def test_feedback_appends_weighted_vectors_of_top_documents(index, topics):
    ranking = index.exact_retriever(num_results=10)(topics)
    frame = index.prf(fb_docs=2, fb_embs=3, beta=0.5, k=4)(ranking)
    assert frame["qid"].tolist() == topics["qid"].tolist()
    reader, centroid_idf = index.token_vectors(), CentroidIDF.of(index.token_vectors())
    for number, (query, expanded) in enumerate(zip(topics["query_embs"], frame["query_embs"], strict=True)):
        assert expanded.shape == (len(query) + 3, DIM)
        np.testing.assert_array_equal(expanded[: len(query)], query)
        best = ranking[ranking["qid"] == str(number)]["docno"].head(2)
        feedback = np.concatenate([reader.rows(int(docno[1:]), int(docno[1:]) + 1) for docno in best])
        centres, weights = expansion(feedback, centroid_idf, 4, 3)
        np.testing.assert_allclose(expanded[len(query) :], centres * (0.5 * weights)[:, None], rtol=1e-5)
    nothing = (index.exact_retriever() >> index.prf(beta=0) >> index.exact_retriever(num_results=10))(topics)
    conformance.assert_same_ranking(nothing, ranking, "a weight of 0 changes nothing")
    assert (index.exact_retriever() >> index.prf(fb_docs=4)).compile() == (
        index.exact_retriever(num_results=4) >> index.prf(fb_docs=4)
    )
    assert index.prf()(ranking.head(0)).empty


def test_centroid_idf_counts_documents(int8):
    reader = int8.token_vectors()
    centroid_idf = CentroidIDF.of(reader)
    ids = np.asarray(reader.columns["centroid_ids"])
    expected = np.zeros(len(centroid_idf.centroids), dtype=int)
    for first, end in zip(reader.starts, reader.starts[1:], strict=False):
        expected[np.unique(ids[first:end])] += 1
    np.testing.assert_array_equal(centroid_idf.document_frequencies, expected)
    common = centroid_idf.centroids[[int(expected.argmax())]]
    assert centroid_idf.idf(common)[0] == pytest.approx(np.log(301 / (expected.max() + 1)), rel=1e-5)


def test_int8_has_centroids_from_a_minimum_size_on(tmp_path, monkeypatch):
    small = pj.JaColBERTIndexer(tmp_path / "small", "somebody/unused", compression="int8").index(documents(range(50)))
    assert small.token_vectors().two_stage_scorer is None
    large = build_index(tmp_path / "large", "int8", range(50))
    assert large.token_vectors().two_stage_scorer is not None
    for name in ("codes", "scales"):
        np.testing.assert_array_equal(small.token_vectors().columns[name], large.token_vectors().columns[name])
    large.append(documents(range(50, 60)))
    assert len(large.token_vectors().columns["centroid_ids"]) == large.meta()["tokens"]
    large.verify()
    merged = pj.JaColBERTIndex.merge(
        [large.path, build_index(tmp_path / "more", "int8", range(100, 160)).path], tmp_path / "m"
    )
    merged.verify()
    assert len(merged) == 120
    mixed = [build_index(tmp_path / "other", "int8", range(200, 260)).path, small.path]
    for number, paths in enumerate((mixed, mixed[::-1])):
        both = pj.JaColBERTIndex.merge(paths, tmp_path / f"mixed{number}")
        both.verify()
        assert len(both) == 110


def test_searches_during_updates_each_see_one_state(tmp_path, topics):
    index = build_index(tmp_path / "i", "int8", range(100))
    states, failures = {}, []
    stop = threading.Event()

    def record():
        opened = pj.JaColBERTIndex(index.path, "somebody/unused")
        found = opened.retriever(num_results=200)(topics)
        states[tuple(map(tuple, found[["qid", "docno", "score"]].values))] = len(opened)

    seen = []

    def search():
        try:
            while not stop.is_set():
                opened = pj.JaColBERTIndex(index.path, "somebody/unused")
                for _ in range(3):
                    found = opened.retriever(num_results=200)(topics)
                    seen.append(tuple(map(tuple, found[["qid", "docno", "score"]].values)))
        except BaseException as error:
            failures.append(error)

    record()
    threads = [threading.Thread(target=search) for _ in range(8)]
    for thread in threads:
        thread.start()
    for change in range(8):
        if change % 2:
            index.delete([f"d{change:03}"])
        else:
            index.append(documents(range(100 + 10 * change, 110 + 10 * change)))
        record()
    stop.set()
    for thread in threads:
        thread.join()
    assert not failures
    assert len(seen) >= 24
    assert set(seen) <= set(states)


def test_retriever_is_inspected_without_an_index():
    retriever = pj.JaColBERTIndex("nowhere", "somebody/unused").retriever(num_results=5, quality="fast")
    assert pt.inspect.transformer_inputs(retriever) == [["qid", "query"], ["qid", "query_embs"]]
    assert repr(retriever).endswith("num_results=5, quality='fast')")
    assert (retriever % 3) == retriever.fuse_rank_cutoff(3) or (retriever % 3).compile().num_results == 3
