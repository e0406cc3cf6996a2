"""Frames as people have them: missing titles, misspelt fields, repeated qids, and rewritten queries.

Vectors are in ``test_frames_and_files_vectors.py``, encodings and the import in ``test_frames_and_files_import.py``.
"""

import conformance
import numpy as np
import pandas as pd
import pyterrier as pt
import pytest

import pyterrier_jacolbert as pj
from pyterrier_jacolbert import train
from pyterrier_jacolbert.train.texts import Texts

#: What stands for "no value" in the cells of frames and dicts.
MISSING = {"None": None, "NaN": float("nan"), "float32 NaN": np.float32("nan"), "NA": pd.NA, "NaT": pd.NaT}
missing_values = pytest.mark.parametrize("missing", MISSING.values(), ids=MISSING)


class TestTitles:
    """A missing title is no title, everywhere alike; a misspelt field names the nearest one."""

    @pytest.mark.parametrize(
        "missing", [*MISSING.values(), "", " ", "\u3000\n"], ids=[*MISSING, "empty", "blank", "wide"]
    )
    def test_missing_title_is_no_title_everywhere(self, missing, model, docs, topics, tmp_path):
        titled = [{**doc, "title": missing if number % 2 else doc["title"]} for number, doc in enumerate(docs)]
        joined = [
            {"docno": d["docno"], "text": d["text"] if n % 2 else f"{d['title']} {d['text']}"}
            for n, d in enumerate(docs)
        ]
        for kind in (list, pd.DataFrame):
            found, expected = tmp_path / f"{kind.__name__}-found", tmp_path / f"{kind.__name__}-expected"
            pj.JaColBERTIndexer(found, model, title_field="title").index(kind(titled))
            pj.JaColBERTIndexer(expected, model).index(kind(joined))
            files = (name for name in conformance.contents(found) if name.name != "pt_meta.json")
            assert all(conformance.contents(found)[name] == conformance.contents(expected)[name] for name in files)
            bm25 = [
                pj.JapaneseBM25(tmp_path / f"{kind.__name__}-{name}", title_field=field).index(kind(some)).retriever()
                for name, field, some in (("bm25", "title", titled), ("joined", None, joined))
            ]
            conformance.assert_same_ranking(bm25[0](topics), bm25[1](topics), "BM25")
        frames = [topics.merge(pd.DataFrame(some), how="cross").assign(score=0.0, rank=0) for some in (titled, joined)]
        for make in (model.text_scorer, model.explainer, model.doc_encoder):
            found, expected = make(title_field="title")(frames[0]), make()(frames[1])
            for column in {"score", "contributions", "doc_embs"} & set(found.columns):
                for one, other in zip(found[column], expected[column], strict=True):
                    np.testing.assert_allclose(one, other, atol=1e-6)
        passages = model.passages(prepend="title")(pd.DataFrame(titled))
        assert passages["text"].tolist() == [doc["text"] for doc in joined]
        texts = Texts(_Dataset(titled), "title")
        assert dict(texts) == {doc["docno"]: doc["text"] for doc in joined}

    @missing_values
    def test_a_missing_text_stays_an_error(self, missing, model, docs, tmp_path):
        wrong = [*docs, {"docno": "d9", "title": "空", "text": missing}]
        for make in (
            lambda: pj.JaColBERTIndexer(tmp_path / "index", model, title_field="title").index(wrong),
            lambda: pj.JapaneseBM25(tmp_path / "bm25", title_field="title").index(wrong),
            lambda: model.doc_encoder(title_field="title")(pd.DataFrame(wrong)),
            lambda: model.passages()(pd.DataFrame(wrong)),
        ):
            with pytest.raises(ValueError, match="text of .*'d9'"):
                make()

    @pytest.mark.parametrize(
        ("field", "nearest"),
        [({"title_field": "titel"}, "title"), ({"text_field": "txt", "title_field": None}, "text")],
    )
    def test_a_misspelt_field_names_the_nearest(self, field, nearest, model, docs, tmp_path):
        name = field.get("text_field") or field["title_field"]
        makers = [
            lambda: pj.JaColBERTIndexer(tmp_path / "index", model, **field).index(docs),
            lambda: pj.JaColBERTIndexer(tmp_path / "index", model, **field).index(iter(docs)),
            lambda: pj.JaColBERTIndexer(tmp_path / "index", model, **field).index(pd.DataFrame(docs)),
            lambda: pj.JaColBERTIndexer(tmp_path / "index", model, **field).index_shard(docs, 1, 1),
            lambda: pj.JapaneseBM25(tmp_path / "bm25", **field).index(docs),
            lambda: model.doc_encoder(**field)(pd.DataFrame(docs)),
        ]
        ranking = pd.DataFrame(docs).assign(qid="1", query="山", score=0.0, rank=0)
        makers += [lambda make=make: make(**field)(ranking) for make in (model.text_scorer, model.explainer)]
        if nearest == "title":
            makers += [lambda: Texts(pt.get_dataset("jacolbert:demo"), name), lambda: Texts(_Dataset(docs), name)]
            makers += [lambda: model.passages(prepend=name)(pd.DataFrame(docs))]
        for make in makers:
            with pytest.raises(KeyError, match=f"'{name}'.*'{nearest}'"):
                make()
        assert not (tmp_path / "bm25").exists()

    def test_a_first_batch_may_have_titles_in_some_documents_only(self, model, docs, tmp_path):
        some = [{name: value for name, value in doc.items() if name != "title" or doc is docs[3]} for doc in docs]
        settings = {"title_field": "title", "batch_documents": 4}
        assert len(pj.JaColBERTIndexer(tmp_path / "some", model, **settings).index(iter(some))) == len(docs)
        assert len(pj.JapaneseBM25(tmp_path / "bm25", title_field="title").index(iter(some))) == len(docs)
        read = []
        with pytest.raises(KeyError, match="None of the first 3 documents .*'title'"):
            pj.JaColBERTIndexer(tmp_path / "none", model, title_field="title", batch_documents=3).index(
                read.append(doc["docno"]) or doc for doc in some
            )
        assert read == [doc["docno"] for doc in docs[:3]]  # no further than the first batch
        assert not (tmp_path / "none").exists()

    def test_documents_with_vectors_need_no_title(self, tmp_path):
        docs = [{"docno": name, "doc_embs": np.eye(2, 16)} for name in ("a", "b")]
        assert len(pj.JaColBERTIndexer(tmp_path / "index", "somebody/unused", title_field="title").index(docs)) == 2


class _Dataset:
    """A dataset that does not come from ir_datasets."""

    def __init__(self, docs):
        self._docs = docs

    def get_corpus_iter(self):
        return iter(self._docs)


class TestRepeatedQids:
    """A qid stands for one query. The same query in two rows gets one ranking, and two queries are an error."""

    @pytest.fixture
    def bm25(self, docs, tmp_path):
        return pj.JapaneseBM25(tmp_path / "bm25").index(docs)

    @pytest.fixture
    def retrievers(self, index, bm25):
        return {
            "two-stage": index.retriever(),
            "exact": index.exact_retriever(),
            "torch": index.torch_retriever(device="cpu"),
            "filtered": index.retriever().filter(["d1", "d4"]),
            "BM25": bm25.retriever(),
        }

    def test_the_same_query_twice_gets_one_ranking(self, retrievers, topics):
        repeated = pd.concat([topics, topics.iloc[[1, 0]].assign(qtype="other")], ignore_index=True)
        for name, retriever in retrievers.items():
            conformance.assert_same_ranking(retriever(repeated), retriever(topics), name)
            pd.testing.assert_frame_equal(retriever(repeated), retriever(topics))

    def test_the_same_vectors_twice_get_one_ranking(self, index, model, topics):
        encoded = model.query_encoder()(topics).drop(columns="query")
        copies = encoded.assign(query_embs=[rows.copy() for rows in encoded["query_embs"]])
        repeated = pd.concat([encoded, copies], ignore_index=True)
        pd.testing.assert_frame_equal(
            index.retriever()(repeated).drop(columns="query_embs"),
            index.retriever()(encoded).drop(columns="query_embs"),
        )

    def test_two_queries_with_one_qid_are_an_error_everywhere(self, retrievers, index, bm25, model, docs):
        wrong = pd.DataFrame({"qid": ["1", "q7", "q7"], "query": ["山", "湖", "海"]})
        for retriever in retrievers.values():
            with pytest.raises(ValueError, match="'q7'"):
                retriever(wrong)
        ranking = wrong.merge(pd.DataFrame(docs), how="cross").assign(score=0.0, rank=0)
        text = (model.text_scorer(), model.explainer())
        for transformer in (*text, index.scorer(), index.explainer(), bm25.scorer(), index.prf()):
            with pytest.raises(ValueError, match="'q7'"):
                transformer(ranking)
        with pytest.raises(ValueError, match="'q7'"):
            train.mine(bm25.retriever(), wrong, pd.DataFrame({"qid": ["q7"], "docno": ["d1"], "label": [1]}))
        with pytest.raises(ValueError, match="'q7'"):
            train.score([], index.scorer(), wrong)

    def test_different_vectors_with_one_qid_are_an_error(self, index, model, docs):
        query = model.encode_queries(["山"])[0]
        for other in (query * 2, query[:-1], None):
            cells = pd.Series([query, query, other], dtype=object)
            wrong = pd.DataFrame({"qid": ["1", "q7", "q7"], "query": "山", "query_embs": cells})
            with pytest.raises(ValueError, match="'q7'"):
                index.retriever()(wrong)
            ranking = wrong.assign(docno=["d1", "d1", "d2"], text="山", score=0.0, rank=0)
            for transformer in (index.scorer(), model.text_scorer(), index.explainer(), index.prf()):
                with pytest.raises(ValueError, match="'q7'"):
                    transformer(ranking)

    def test_different_allowed_docnos_with_one_qid_are_an_error(self, index):
        frame = pd.DataFrame({"qid": ["1", "1"], "query": "山", "allowed_docnos": [["d1", "d2"], ["d1", "d2"]]})
        assert sorted(index.retriever()(frame)["docno"]) == ["d1", "d2"]
        frame["allowed_docnos"] = [["d1"], ["d2"]]
        with pytest.raises(ValueError, match="'1'"):
            index.retriever()(frame)


class TestFeedback:
    """ColBERT-PRF keeps the query as PyTerrier's rewriters do: ``query``, ``query_0``, ``query_1`` and so on."""

    def test_the_query_survives_as_pyterrier_pushes_it(self, index, topics):
        expanded = (index.retriever() >> index.prf(k=3))(topics)
        pushed = pt.model.push_queries(topics, keep_original=True)
        assert set(expanded.columns) == {*pushed.columns, "query_embs"}
        pd.testing.assert_frame_equal(expanded[pushed.columns.tolist()], pushed)

    def test_reset_restores_the_query(self, index, model, topics):
        reset = (index.retriever() >> index.prf(k=3) >> pt.rewrite.reset())(topics)
        pd.testing.assert_frame_equal(reset[topics.columns.tolist()], topics, check_like=True)
        again = (index.retriever() >> index.prf(k=3) >> pt.rewrite.reset() >> model.query_encoder())(topics)
        conformance.assert_same_ranking(index.retriever()(again), index.retriever()(topics), "encoded again")

    def test_nested_rewriting_is_undone_one_by_one(self, index, topics):
        rewritten = pt.model.push_queries(topics).assign(query="日本で")
        twice = index.prf(k=3)(index.retriever()(index.prf(k=3)(index.retriever()(rewritten))))
        for name in ("query", "query_0", "query_1"):
            assert twice[name].tolist() == ["日本で"] * 3
        assert twice["query_2"].tolist() == topics["query"].tolist()
        original = pt.model.pop_queries(pt.model.pop_queries(pt.model.pop_queries(twice)))
        assert original["query"].tolist() == topics["query"].tolist()

    def test_vectors_win_in_the_next_retrieval(self, index, topics):
        expanded = index.prf(k=3, beta=2)(index.retriever()(topics))
        vectors_only = expanded[["qid", "query_embs"]]
        conformance.assert_same_ranking(index.retriever()(expanded), index.retriever()(vectors_only), "vectors")
        found, first = index.retriever()(expanded), index.retriever()(topics)
        assert not np.allclose(found["score"], first["score"])

    def test_text_rerankers_and_bm25_can_follow(self, index, model, docs, topics, tmp_path):
        bm25 = pj.JapaneseBM25(tmp_path / "bm25").index(docs)
        text = pt.apply.text(lambda row: next(doc["text"] for doc in docs if doc["docno"] == row["docno"]))
        feedback = index.retriever() >> index.prf(k=3)
        expected = bm25.retriever()(topics)
        conformance.assert_same_ranking((feedback >> bm25.retriever())(topics), expected, "BM25 retrieves")
        second = feedback >> index.retriever()
        conformance.assert_same_ranking(
            (second >> bm25.scorer())(topics), (index.retriever() >> bm25.scorer())(topics), "BM25 re-ranks"
        )
        scored = (second >> text >> model.text_scorer())(topics)
        assert {"query", "query_0"} <= set(scored.columns)
        found, expected = (frame.set_index(["qid", "docno"])["score"] for frame in (scored, second(topics)))
        np.testing.assert_allclose(found, expected[found.index], atol=2e-2)  # with the expanded vectors, from float16

    def test_frames_without_text_keep_their_columns(self, index, model, topics):
        encoded = model.query_encoder()(topics).drop(columns="query")
        expanded = (index.retriever() >> index.prf(k=3))(encoded)
        assert expanded.columns.tolist() == ["qid", "qtype", "query_embs"]
        empty = index.prf()(index.retriever()(topics).head(0))
        assert set(empty.columns) == {"qid", "query", "query_0", "qtype", "query_embs"}
