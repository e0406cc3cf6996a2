"""Encoders, retrievers and re-rankers in pipelines: the same scores everywhere, and PyTerrier's conventions."""

import copy
import pickle

import conformance
import numpy as np
import pandas as pd
import pyterrier as pt
import pytest
import torch
from ir_measures import nDCG
from pandas.testing import assert_frame_equal
from sentence_transformers import MultiVectorEncoder

import pyterrier_jacolbert as pj
from pyterrier_jacolbert.pipeline.frames import ranked


@pytest.mark.filterwarnings("ignore:.* queries are longer")
@pytest.mark.parametrize("behaviour", conformance.RETRIEVER)
def test_retriever(behaviour, index, topics, docs):
    conformance.RETRIEVER[behaviour](index.retriever, topics[["qid", "query"]], len(docs))


@pytest.mark.parametrize("behaviour", conformance.SCORER)
def test_text_reranker(behaviour, model, candidates):
    conformance.SCORER[behaviour](model.text_scorer, candidates)


@pytest.mark.parametrize("behaviour", conformance.SCORER)
def test_index_reranker(behaviour, index, candidates):
    conformance.SCORER[behaviour](index.scorer, candidates)


@pt.testing.transformer_test_class
def test_pt_testing_retriever():
    return pj.JaColBERTIndex("index", "name").retriever()


@pt.testing.transformer_test_class
def test_pt_testing_text_reranker():
    return pj.JaColBERT("name").text_scorer()


@pt.testing.transformer_test_class
def test_pt_testing_index_reranker():
    return pj.JaColBERTIndex("index", "name").scorer()


@pt.testing.transformer_test_class
def test_pt_testing_query_encoder():
    return pj.JaColBERT("name").query_encoder()


@pt.testing.transformer_test_class
def test_pt_testing_doc_encoder():
    return pj.JaColBERT("name").doc_encoder()


def scores(frame):
    return frame.set_index(["qid", "docno"])["score"].sort_index()


def test_scores_agree_everywhere_and_with_sentence_transformers(index, model, topics, candidates, docs, checkpoint):
    retrieved = scores(index.retriever()(topics))
    from_texts = scores(model.text_scorer()(candidates))[retrieved.index]
    from_index = scores(index.scorer()(candidates))[retrieved.index]
    encoder = MultiVectorEncoder(str(checkpoint), device="cpu")
    encoder[0].query_expansion = {"strategy": "fixed", "attend": False, "length": 32}
    matrix = encoder.similarity(
        encoder.encode_query(list(topics["query"])), encoder.encode_document([doc["text"] for doc in docs])
    )
    expected = pd.Series(
        {(qid, doc["docno"]): float(matrix[i, j]) for i, qid in enumerate(topics["qid"]) for j, doc in enumerate(docs)}
    )[retrieved.index]
    assert (from_texts - expected).abs().max() < 1e-3
    for other in (retrieved, from_index):
        assert (other - expected).abs().max() < 5e-3
    assert (retrieved - from_index).abs().max() < 1e-4


def assert_same_up_to_near_ties(found, expected, tolerance=5e-3):
    """Asserts that each query's documents come in the expected order, except for neighbours with similar scores."""
    expected_scores = scores(expected)
    for qid, group in found.groupby("qid", sort=False):
        in_order = expected_scores.loc[[(qid, docno) for docno in group["docno"]]].to_numpy()
        assert (np.diff(in_order) <= tolerance).all()
        np.testing.assert_allclose(group["score"], in_order, atol=tolerance)


def test_rankings_do_not_depend_on_batches_threads_or_row_order(index, model, topics, candidates, checkpoint):
    expected = model.text_scorer()(candidates)
    shuffled = candidates.sample(frac=1, random_state=0)
    assert_same_up_to_near_ties(index.scorer()(shuffled), expected)
    assert_same_up_to_near_ties(index.retriever()(topics.iloc[::-1]), expected)
    small_batches = pj.JaColBERT(str(checkpoint), dtype="float32", batch_tokens=50)
    assert_same_up_to_near_ties(small_batches.text_scorer()(shuffled), expected)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        assert_same_up_to_near_ties(model.text_scorer()(candidates), expected)
        assert_same_up_to_near_ties(index.retriever()(topics), expected)
    finally:
        torch.set_num_threads(threads)


def test_retrieval_equals_encoding_the_queries_first(index, model, topics):
    encoded = (model.query_encoder() >> index.retriever())(topics)
    assert_frame_equal(encoded.drop(columns="query_embs"), index.retriever()(topics), atol=1e-5)


def test_duplicate_documents_tie_by_docno_descending(model, tmp_path):
    docs = [{"docno": docno, "text": "富士山は高い"} for docno in ("b", "d", "a", "c")]
    built = pj.JaColBERTIndexer(tmp_path / "index", model).index(docs)
    for k, expected in (10, ["d", "c", "b", "a"]), (2, ["d", "c"]):
        assert built.retriever(num_results=k).search("富士山")["docno"].tolist() == expected
    frame = pd.DataFrame(docs).assign(qid="1", query="富士山")
    for scorer in (model.text_scorer(), built.scorer()):
        assert scorer(frame)["docno"].tolist() == ["d", "c", "b", "a"]


def test_document_without_text_scores_minus_one_per_position(index, model, candidates):
    for scorer in (index.scorer(), model.text_scorer()):
        ranking = scorer(candidates)
        assert ranking[ranking.docno == "d6"]["score"].tolist() == [-32.0, -32.0, -32.0]
        assert ranking.groupby("qid")["docno"].last().tolist() == ["d6", "d6", "d6"]


def test_reranking_encodes_each_query_and_text_once(model, candidates, monkeypatch):
    encoded = {"queries": [], "documents": []}
    encode_queries, encode_documents = pj.JaColBERT.encode_queries, pj.JaColBERT.encode_documents
    monkeypatch.setattr(
        pj.JaColBERT,
        "encode_queries",
        lambda self, texts: encoded["queries"].extend(texts) or encode_queries(self, texts),
    )
    monkeypatch.setattr(
        pj.JaColBERT,
        "encode_documents",
        lambda self, texts, progress=None: (
            encoded["documents"].extend(texts) or encode_documents(self, texts, progress)
        ),
    )
    model.text_scorer()(candidates)
    assert sorted(encoded["queries"]) == sorted(set(candidates["query"]))
    assert sorted(encoded["documents"]) == sorted(set(candidates["text"]))


def test_titles_come_before_texts_in_scorer_and_encoder(model, candidates):
    joined = candidates.assign(text=candidates["title"] + " " + candidates["text"])
    with_titles, plain = model.text_scorer(title_field="title")(candidates), model.text_scorer()(joined)
    np.testing.assert_allclose(scores(with_titles), scores(plain), atol=1e-5)
    encoded = model.doc_encoder(title_field="title")(candidates.head(3))["doc_embs"]
    for ours, expected in zip(encoded, model.encode_documents(list(joined["text"][:3])), strict=True):
        np.testing.assert_allclose(ours, expected, atol=1e-5)


@pytest.mark.parametrize("kind", ["query", "doc"])
def test_encoders_add_one_column_and_keep_the_rest(kind, model, topics, docs):
    encoder = model.query_encoder() if kind == "query" else model.doc_encoder()
    frame = topics if kind == "query" else pd.DataFrame(docs)
    frame = frame.set_index(np.array([5, 3, 9, 1, 0, 7, 2, 8])[: len(frame)])
    before, added = frame.copy(), f"{kind}_embs"
    out = encoder(frame)
    assert_frame_equal(frame, before)
    assert_frame_equal(out.drop(columns=added), before)
    assert all(v.dtype == np.float32 and v.ndim == 2 and v.shape[1] == 128 for v in out[added])
    assert list(encoder(frame.head(0)).columns) == list(out.columns)
    assert pt.inspect.transformer_outputs(encoder, list(frame.columns)) == list(out.columns)
    for twin in (pickle.loads(pickle.dumps(encoder)), copy.deepcopy(encoder)):
        assert twin == encoder
        assert hash(twin) == hash(encoder)
        np.testing.assert_allclose(twin(frame)[added].iloc[0], out[added].iloc[0], atol=1e-6)
    one = encoder(frame.head(1))
    assert one[added].iloc[0].ndim == 2


def test_rank_cutoff_moves_before_encoders(model):
    encoder = model.query_encoder()
    assert repr((encoder % 3).compile()) == repr(pt.RankCutoff(3) >> encoder)
    assert repr((model.doc_encoder() % 3).compile()) == repr(pt.RankCutoff(3) >> model.doc_encoder())


@pytest.mark.parametrize("missing", ["qid", "query", "docno", "text"])
def test_missing_column_is_named(missing, model, index, candidates):
    frame = candidates.drop(columns=missing)
    transformers = {
        "qid": [model.query_encoder(), index.retriever(), index.scorer(), model.text_scorer()],
        "query": [model.query_encoder(), index.scorer(), model.text_scorer()],
        "docno": [model.doc_encoder(), index.scorer(), model.text_scorer()],
        "text": [model.doc_encoder(), model.text_scorer()],
    }[missing]
    for transformer in transformers:
        with pytest.raises(pt.validate.InputValidationError, match=missing):
            transformer(frame)


def test_retriever_refuses_rankings_and_reranker_unknown_docnos(index, candidates):
    with pytest.raises(pt.validate.InputValidationError, match="docno"):
        index.retriever()(candidates)
    with pytest.raises(ValueError, match=r"JaColBERTIndex.*'zz'"):
        index.scorer()(candidates.assign(docno=["zz", *candidates["docno"][1:]]))


def test_cells_that_are_not_text_are_named_by_their_id(model, index, candidates):
    for value, message in ((None, "missing"), (float("nan"), "missing"), ("\udc00", "lone surrogate")):
        texts = candidates.astype({"text": object, "query": object})
        texts.loc[3, "text"] = value
        with pytest.raises(ValueError, match=f"text of docno 'd4'.*{message}"):
            model.text_scorer()(texts)
        queries = candidates.astype({"query": object})
        queries.loc[0, "query"] = value
        with pytest.raises(ValueError, match=f"query of qid 'q2'.*{message}"):
            index.scorer()(queries)
    with pytest.raises(ValueError, match="'qid' must hold strings, not integer"):
        index.scorer()(candidates.assign(qid=1))


def test_malformed_query_embs_and_ambiguous_qids_are_named(index, topics):
    with pytest.raises(ValueError, match="query_embs of qid 'q2'"):
        index.retriever()(topics.assign(query_embs=[np.ones(128)] * 3))
    with pytest.raises(ValueError, match="qid 'q2'"):
        index.retriever()(topics.assign(qid="q2"))


def test_experiments_agree_for_tree_and_linear_plans(index, model, topics, docs):
    qrels = pd.DataFrame({"qid": ["q2", "q1", "q3"], "docno": ["d1", "d4", "d7"], "label": 1})
    texts = pd.DataFrame(docs)[["docno", "text"]]
    add_text = pt.apply.generic(lambda frame: frame.merge(texts, on="docno"), transform_outputs=lambda c: [*c, "text"])
    systems = [
        index.retriever(),
        index.retriever() % 5 >> index.scorer(),
        index.retriever() % 5 >> add_text >> model.text_scorer(),
    ]
    linear = pt.Experiment(systems, topics[["qid", "query"]], qrels, [nDCG @ 10], names=list("abc"))
    tree = pt.Experiment(systems, topics[["qid", "query"]], qrels, [nDCG @ 10], names=list("abc"), plan="tree")
    assert_frame_equal(linear, tree)
    assert linear["nDCG@10"].nunique() >= 1
    assert linear["nDCG@10"].between(0, 1).all()


def test_passages_from_pt_text_are_scored_and_aggregated(model, candidates):
    window = pt.text.sliding("text", length=8, stride=4, prepend_attr=None, tokenizer=model.encoder.tokenizer)
    ranking = (window >> model.text_scorer() >> pt.text.max_passage())(candidates[candidates.docno.isin(["d1", "d5"])])
    assert sorted(zip(ranking["qid"], ranking["docno"], strict=True)) == sorted(
        (qid, docno) for qid in candidates["qid"].unique() for docno in ("d1", "d5")
    )


def test_caches_answer_repeated_calls_without_the_model(index, model, topics, candidates, tmp_path, monkeypatch):
    caching = pytest.importorskip("pyterrier_caching", reason="pyterrier-caching is in the dev extra")
    retriever = caching.RetrieverCache(str(tmp_path / "retriever"), index.retriever())
    scorer = caching.ScorerCache(str(tmp_path / "scorer"), model.text_scorer())
    first = [scores(retriever(topics[["qid", "query"]])), scores(scorer(candidates))]
    monkeypatch.setattr(pj.JaColBERT, "encode_queries", None)
    second = [scores(retriever(topics[["qid", "query"]])), scores(scorer(candidates))]
    for once, again in zip(first, second, strict=True):
        pd.testing.assert_series_equal(once, again)
        assert len(once) > 0


def test_schematics_are_drawn_without_network(index, model):
    with conformance.no_network():
        for transformer in (index.retriever(), index.scorer(), model.text_scorer(), model.query_encoder()):
            assert "JaColBERT" in pt.schematic.draw(transformer)
        assert "JaColBERT" in pt.schematic.draw(pj.JaColBERTIndexer("index", model))


@pytest.mark.parametrize("score", [1.0, -np.inf, np.nan])
def test_ties_go_by_docno_regardless_of_row_order(score):
    frame = pd.DataFrame({"qid": "1", "docno": ["b", "d", "a", "c"]})
    for rows in ([0, 1, 2, 3], [3, 2, 1, 0]):
        assert ranked(frame.iloc[rows], np.full(4, score))["docno"].tolist() == ["d", "c", "b", "a"]
