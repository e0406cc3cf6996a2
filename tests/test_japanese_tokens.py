"""Japanese words as dicts of counts, and indexing and retrieval with PISA."""

import subprocess
import sys
import warnings
from collections import Counter

import conformance
import numpy as np
import pandas as pd
import pyterrier as pt
import pytest
from test_japanese_bm25 import DOCS, TEXTS, TOPICS, read_jsquad

from pyterrier_jacolbert import JapaneseBM25, JapaneseTokens
from pyterrier_jacolbert.japanese import tokenize
from pyterrier_jacolbert.pipeline.base import SettingsTransformer
from pyterrier_jacolbert.pipeline.frames import ranked

RESULTS = pd.DataFrame(
    {"qid": ["q1", "q1"], "query": ["高い山", "高い山"], "docno": ["d0", "d7"], "text": [TEXTS[0], ""], "score": 1.0}
)


def counts(text):
    return dict(Counter(tokenize(text)))


# ------------------------------------------------------------------------------------------------ frames


def test_query_frames_get_query_toks():
    found = JapaneseTokens()(TOPICS)
    assert found.columns.tolist() == ["qid", "query", "query_toks"]
    assert found["query_toks"].tolist() == [counts(query) for query in TOPICS["query"]]
    assert found["query_toks"][2]["大きい"] == 2


def test_document_frames_get_toks():
    found = JapaneseTokens()(pd.DataFrame(DOCS))
    assert found.columns.tolist() == ["docno", "text", "toks"]
    assert found["toks"].tolist() == [counts(text) for text in TEXTS]
    assert found["toks"][7] == {}


@pytest.mark.parametrize(
    ("columns", "added"),
    [
        (["qid", "query", "docno", "text"], ["query_toks", "toks"]),
        (["qid", "query", "docno"], ["query_toks"]),
        (["qid", "docno", "text"], ["toks"]),
    ],
)
def test_ranking_frames_get_the_columns_they_have_text_for(columns, added):
    for frame in (RESULTS[columns], RESULTS[columns].iloc[:0]):
        found = JapaneseTokens()(frame)
        assert found.columns.tolist() == columns + added
        assert len(found) == len(frame)
        assert pt.inspect.transformer_outputs(JapaneseTokens(), columns) == columns + added
    full, empty = JapaneseTokens()(RESULTS[columns]), JapaneseTokens()(RESULTS[columns].iloc[:0])
    assert full.dtypes.to_dict() == empty.dtypes.to_dict()


def test_inputs_are_documents_queries_and_rankings():
    assert pt.inspect.transformer_inputs(JapaneseTokens("body")) == [
        ["docno", "body"],
        ["qid", "query"],
        ["qid", "docno", "query", "body"],
        ["qid", "docno", "body"],
        ["qid", "docno", "query"],
    ]


@pytest.mark.parametrize("columns", [["qid"], ["docno"], ["qid", "docno"], ["query"], ["text"]])
def test_frames_without_text_are_an_input_error(columns):
    with pytest.raises(pt.validate.InputValidationError):
        JapaneseTokens()(RESULTS[columns])


def test_missing_text_is_an_error_that_names_its_document():
    with pytest.raises(ValueError, match="text of docno 'd1'"):
        JapaneseTokens()(pd.DataFrame({"docno": ["d0", "d1"], "text": pd.Series(["山", None], dtype=object)}))


def test_rows_keep_order_and_index_and_the_input_is_unchanged():
    odd = TOPICS.set_axis([7, 7, 3]).assign(query_toks="old")
    before = odd.copy(deep=True)
    found = JapaneseTokens()(odd)
    pd.testing.assert_frame_equal(odd, before)
    assert found.index.tolist() == [7, 7, 3]
    assert found["query_toks"].tolist() == [counts(query) for query in TOPICS["query"]]


def test_equal_texts_do_not_share_a_dict():
    found = JapaneseTokens()(RESULTS)["query_toks"]
    assert found[0] == found[1]
    assert found[0] is not found[1]


def test_rank_cutoff_moves_before_the_tokens():
    assert (JapaneseTokens() % 3).compile() == pt.RankCutoff(3) >> JapaneseTokens()


def test_equal_settings_are_equal_and_shown():
    assert JapaneseTokens("body") == JapaneseTokens("body") != JapaneseTokens()
    assert repr(JapaneseTokens("body")) == "JapaneseTokens(text_field='body')"


@pt.testing.transformer_test_class
def TestTokensInPyTerriersOwnTests():  # noqa: N802 (it becomes a class)
    return JapaneseTokens()


# ------------------------------------------------------------------------------------------------ PISA


@pytest.fixture
def pisa():
    return pytest.importorskip("pyterrier_pisa", reason="pyterrier-pisa is not installed")


@pytest.fixture
def pisa_index(pisa, tmp_path):
    return pisa.PisaIndex(str(tmp_path / "pisa"), stemmer="none", stops="none")


def test_pisa_scores_of_one_word_are_ours_times_a_constant(pisa_index, tmp_path):
    pipeline = JapaneseTokens() >> pisa_index.toks_indexer(scale=1.0)
    built = pipeline.index(iter(DOCS))
    assert len(built) == len(DOCS)
    pisa_bm25 = JapaneseTokens() >> built.bm25(k1=1.2, b=0.75, toks_scale=1.0)
    ours = JapaneseBM25(tmp_path / "ours").index(DOCS).retriever()
    compared = 0
    for word in ("東京", "大きい", "高い", "湖", "python"):
        df = sum(word in tokenize(text) for text in TEXTS)
        odds = (len(TEXTS) - df + 0.5) / (df + 0.5)
        # PISA: ln(odds) (k1 + 1) tf'; Lucene: ln(1 + odds) tf'.
        constant = 2.2 * np.log(odds) / np.log(1 + odds)
        expected = ours.search(word).set_index("docno")["score"] * constant
        found = pisa_bm25.search(word).set_index("docno")["score"]
        assert set(found.index) == set(expected.index)
        np.testing.assert_allclose(found[expected.index], expected, rtol=1e-4)
        compared += len(found)
    assert compared >= 9


def test_pisa_scores_follow_its_formula_over_our_words(pisa_index):
    built = (JapaneseTokens() >> pisa_index.toks_indexer(scale=1.0)).index(DOCS)
    found = (JapaneseTokens() >> built.bm25(k1=1.2, b=0.75, toks_scale=1.0))(TOPICS)
    documents = [counts(text) for text in TEXTS]
    lengths = np.array([sum(document.values()) for document in documents])
    for qid, query in TOPICS.itertuples(index=False):
        expected = np.zeros(len(TEXTS))
        for word in set(tokenize(query)):  # PISA takes each word of a query once
            tf = np.array([document.get(word, 0) for document in documents])
            df = (tf > 0).sum()
            idf = max(1e-6, np.log((len(TEXTS) - df + 0.5) / (df + 0.5)))
            expected += idf * 2.2 * tf / (tf + 1.2 * (0.25 + 0.75 * lengths / lengths.mean()))
        rows = found[found["qid"] == qid]
        positions = [int(docno[1:]) for docno in rows["docno"]]
        np.testing.assert_allclose(rows["score"], expected[positions], rtol=1e-4, atol=1e-5)
        assert set(positions) == set(np.flatnonzero(expected > 0))


@pytest.mark.parametrize(("most_df", "least_overlap"), [(10, 0.99), (1145, 0.9)])
def test_pisa_and_our_rankings_agree_on_jsquad(pisa_index, tmp_path, most_df, least_overlap):
    # The two differ in idf: hardly for rare words, but PISA's is 0 for words of at least half of the documents.
    docs, topics, _ = read_jsquad()
    docs = [{"docno": doc["docno"], "text": f"{doc['title']} {doc['text']}"} for doc in docs]
    df = Counter(word for doc in docs for word in set(tokenize(doc["text"])))
    queries = [sorted({word for word in tokenize(query) if df[word] <= most_df}) for query in topics["query"][::10]]
    built = (JapaneseTokens() >> pisa_index.toks_indexer(scale=1.0)).index(docs)
    pisa_bm25 = built.bm25(k1=1.2, b=0.75, num_results=2000, toks_scale=1.0)
    ours = JapaneseBM25(tmp_path / "ours").index(docs)
    overlaps = []
    for words in filter(None, queries):
        found = pisa_bm25(pd.DataFrame({"qid": ["q"], "query_toks": [dict.fromkeys(words, 1.0)]}))
        # PISA leaves ties at the cut in any order, so all of its results are sorted as ours are.
        found = found.assign(score=found["score"].round(4)).sort_values(["score", "docno"], ascending=False)
        docids, _ = ours.best_documents(words, 10)
        expected = [docs[docid]["docno"] for docid in docids]
        overlaps.append(len(set(found["docno"][: len(expected)]) & set(expected)) / max(1, len(expected)))
    assert len(overlaps) > 300
    assert np.mean(overlaps) > least_overlap


def test_text_indexers_of_pisa_are_refused_with_a_remedy(pisa, pisa_index, tmp_path):
    remedy = r"toks_indexer\(scale=1\.\).*bm25\(toks_scale=1\.\)"
    texts = pisa.PisaIndex(str(tmp_path / "texts"), text_field="text", stemmer="none")
    identity = pt.Transformer.identity()
    for indexer in (texts, pisa_index, texts.indexer(), pisa.PisaIndexer("x"), texts.indexer() >> identity):
        with pytest.raises(ValueError, match=remedy):
            JapaneseTokens() >> indexer


def test_pisa_scales_other_than_one_warn(pisa_index):
    with pytest.warns(UserWarning, match=r"PisaToksIndexer.*scale=100.*scale=1\."):
        pipeline = JapaneseTokens() >> pisa_index.toks_indexer()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        built = pipeline.index(DOCS)
    with pytest.warns(UserWarning, match=r"toks_scale=100"):
        JapaneseTokens() >> built.bm25()
    with pytest.warns(UserWarning, match=r"toks_scale=100"):
        JapaneseTokens() >> built.bm25() % 10
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        JapaneseTokens() >> pisa_index.toks_indexer(scale=1.0)
        JapaneseTokens() >> built.bm25(toks_scale=1.0)


@pytest.mark.parametrize("texts", [["", ""], ["", " ", "山"]])
def test_first_batch_without_words_is_an_error_not_an_abort(pisa, tmp_path, texts):
    index = pisa.PisaIndex(str(tmp_path / "pisa"), stemmer="none", stops="none", batch_size=2)
    docs = [{"docno": f"d{i}", "text": text} for i, text in enumerate(texts)]
    with pytest.raises(ValueError, match="first 2 documents"):
        (JapaneseTokens() >> index.toks_indexer(scale=1.0)).index(docs)


def test_pisa_still_aborts_on_batches_without_words(pisa, tmp_path):
    # If this fails, PISA reports the error itself, and the guard can be removed.
    code = (
        "import sys, pyterrier_pisa\n"
        "index = pyterrier_pisa.PisaIndex(sys.argv[1], stemmer='none', stops='none')\n"
        "index.toks_indexer(scale=1.).index([{'docno': 'd1', 'toks': {}}])"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "pisa")], capture_output=True)
    assert done.returncode == -6


def test_documents_without_words_keep_the_others_aligned_in_pisa(pisa_index):
    docs = [{"docno": f"d{i}", "text": text} for i, text in enumerate(["", "山", " ", "川", ""])]
    built = (JapaneseTokens() >> pisa_index.toks_indexer(scale=1.0)).index(docs)
    retriever = JapaneseTokens() >> built.bm25(toks_scale=1.0)
    assert [retriever.search(query)["docno"].tolist() for query in ("山", "川", "", "海")] == [["d1"], ["d3"], [], []]


def test_indexing_pipeline_of_pisa_is_inspectable(pisa_index):
    pipeline = JapaneseTokens() >> pisa_index.toks_indexer(scale=1.0)
    assert pt.inspect.transformer_inputs(JapaneseTokens())[0] == ["docno", "text"]
    assert pt.inspect.indexer_inputs(pipeline[1]) == [["docno", "toks"]]


# ------------------------------------------------------------------------------------------------ conformance checks


class LengthScorer(SettingsTransformer):
    """Scores a document by its length: the simplest re-ranker with every behaviour of conformance.SCORER."""

    schematic = {"help_url": None}

    def __init__(self):
        pass

    def transform(self, inp):
        pt.validate.result_frame(inp, ["query", "text"], context=self)
        return ranked(inp, inp["text"].str.len().to_numpy(dtype=float))


RANKING = pd.DataFrame(
    [(qid, query, f"d{i}", TEXTS[i], 9.0 - i, i) for qid, query in TOPICS.itertuples(index=False) for i in range(7)],
    columns=["qid", "query", "docno", "text", "score", "rank"],
)


@pytest.mark.parametrize("behaviour", conformance.SCORER)
def test_conformance_checks_pass_for_the_simplest_reranker(behaviour):
    conformance.SCORER[behaviour](LengthScorer, RANKING)


@pytest.mark.parametrize("behaviour", ["S03", "S04"])
def test_conformance_checks_catch_a_reranker_without_effect(behaviour):
    check = next(check for name, check in conformance.SCORER.items() if name.startswith(behaviour))
    with pytest.raises(AssertionError):
        check(pt.Transformer.identity, RANKING.sample(frac=1, random_state=1))


def test_analyzer_is_a_setting():
    pytest.importorskip("sudachipy", reason="sudachipy is in the dev extra")
    tokens = JapaneseTokens(analyzer="sudachi")
    assert tokens([{"docno": "d1", "text": "附属と付属"}])[0]["toks"] == {"付属": 2, "と": 1}
    assert tokens != JapaneseTokens()
    assert repr(tokens) == "JapaneseTokens(analyzer='sudachi')"
    with pytest.raises(ValueError, match="analyzer must be one of"):
        JapaneseTokens(analyzer="juman")
