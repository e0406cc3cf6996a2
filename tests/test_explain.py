"""Contributions sum to the score, and explanations display the unaltered text."""

import html.parser
import re
import subprocess
import sys

import conformance
import numpy as np
import pandas as pd
import pyterrier as pt
import pytest
from hypothesis import given, settings
from test_token_offsets import HARD, TEXTS

import pyterrier_jacolbert as pj
from pyterrier_jacolbert.explain.html import shaded_segments, to_html
from pyterrier_jacolbert.index.limits import COMPRESSIONS
from pyterrier_jacolbert.pipeline.base import SettingsTransformer

WORDS = "日本 富士山 琵琶湖 東京 は が の を に 高い 大きい 山 湖 味噌汁 食べる 漱石 猫".split()
WORDS += "１９６４ 年 。 、 Ｓｈｉｎ ka n㌔ 😀 「 」".split()


@pytest.fixture(scope="module")
def pairs():
    """Returns 1,000 random pairs of a query and a text."""
    rng = np.random.default_rng(0)
    queries = ["".join(rng.choice(WORDS, rng.integers(1, 12))) for _ in range(50)]
    texts = ["".join(rng.choice(WORDS, rng.integers(0, 40))) for _ in range(200)]
    frame = pd.DataFrame({"qid": np.repeat([f"q{i}" for i in range(50)], 20), "query": np.repeat(queries, 20)})
    numbers = rng.integers(0, 200, 1000)
    frame = frame.assign(docno=[f"d{i}" for i in numbers], text=[texts[i] for i in numbers])
    return frame.drop_duplicates(["qid", "docno"], ignore_index=True)


@pytest.fixture(scope="module", params=["mini", "mecab"])
def either(request, model):
    return model if request.param == "mecab" else pj.JaColBERT("mini", dtype="float32")


@pytest.fixture(scope="module")
def reader(tmp_path_factory, model, docs):
    path = tmp_path_factory.mktemp("stored") / "index"
    return pj.JaColBERTIndexer(path, model, compression="float16", title_field="title", store_text=True).index(docs)


def test_contributions_of_1000_pairs_sum_to_the_text_score(either, pairs):
    pairs = pd.concat([pairs, pairs.assign(qid="x" + pairs["qid"], query=pairs["query"] + "？")]).head(1000)
    assert len(pairs) == 1000
    explained = either.explainer()(either.text_scorer()(pairs))
    sums = np.array([row.sum() for row in explained["contributions"]])
    np.testing.assert_allclose(sums, explained["score"], atol=1e-4)
    for row in explained.sample(20, random_state=1).itertuples():
        explanation = either.explain(row.query, row.text)
        assert explanation.score == pytest.approx(row.score, abs=1e-4)
        assert explanation.to_frame()["similarity"].sum() == pytest.approx(row.score, abs=1e-4)
        np.testing.assert_allclose(explanation.contributions, row.contributions, atol=1e-4)
        if explanation.document_tokens:
            received = explanation.received("text", "marker", "mask")
            assert received.sum() == pytest.approx(row.score, abs=1e-4)


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_contributions_from_an_index_sum_to_its_scores(compression, model, pairs, tmp_path):
    docs = pairs[["docno", "text"]].drop_duplicates("docno")
    index = pj.JaColBERTIndexer(tmp_path / "index", model, compression=compression, store_text=True).index(docs)
    ranking = index.retriever(num_results=20)(pairs[["qid", "query"]].drop_duplicates())
    assert len(ranking) == 1000
    explained = index.explainer()(ranking)
    sums = np.array([row.sum() for row in explained["contributions"]])
    # The kernels of compressed indexes round the query to 8 bits per dimension.
    assert np.abs(sums - explained["score"]).max() < (1e-4 if compression == "float16" else 0.05)
    for row in explained.sample(5, random_state=2).itertuples():
        explanation = index.explain(row.query, row.docno)
        assert explanation.score == pytest.approx(row.contributions.sum(), abs=1e-4)
        assert explanation.docno == row.docno
    pd.testing.assert_frame_equal(explained.drop(columns="contributions"), ranking)


def test_each_query_position_matches_its_greatest_cosine(model):
    query, text = "日本で一番高い山", "富士山は日本で一番高い山である。"
    explanation = model.explain(query, text)
    asked, found = model.encode_queries([query])[0], model.encode_documents([text])[0]
    np.testing.assert_allclose(explanation.similarities, asked @ found.T, atol=1e-5)
    frame = explanation.to_frame()
    assert frame["share"].sum() == pytest.approx(1)
    assert frame["kind"].value_counts().to_dict() == {"mask": 21, "text": 8, "marker": 3}
    for row, best in zip(frame.itertuples(), (asked @ found.T).argmax(axis=1), strict=True):
        assert row.document_token == explanation.document_tokens[best].spelling
        if row.document_end:
            assert row.document_token == text[row.document_start : row.document_end]


def test_a_document_without_text_gives_minus_one_per_position(either):
    for text in ("", " \u3000"):
        explanation = either.explain("富士山", text)
        assert explanation.score == -len(explanation.query_tokens)
        frame = explanation.to_frame()
        assert frame["document_token"].isna().all()
        assert (frame["similarity"] == -1).all()
        assert "no text" in to_html(explanation)
        assert "score -" in repr(explanation)
        with pytest.raises(ValueError, match="nothing to plot"):
            explanation.plot()


# ---------------------------------------------------------------------------------------------------------- highlights


class Shown(html.parser.HTMLParser):
    """Collects the text that a browser shows in the pre-wrapped parts of a page."""

    def __init__(self):
        super().__init__()
        self.depth, self.texts = 0, []

    def handle_starttag(self, tag, attributes):
        if self.depth or "white-space:pre-wrap" in dict(attributes).get("style", ""):
            if not self.depth:
                self.texts.append("")
            self.depth += 1

    def handle_endtag(self, tag):
        self.depth = max(0, self.depth - 1)

    def handle_data(self, data):
        if self.depth:
            self.texts[-1] += data


def check_highlights(model, text):
    explanation = model.explain("日本の５㌔ｶﾞＡ😀", text)
    segments = list(shaded_segments(explanation, "text", "marker", "mask"))
    assert "".join(characters for characters, _, _ in segments) == explanation.text
    assert explanation.text == (text if text.strip() else "")
    for number, token in enumerate(explanation.document_tokens):
        covered = "".join(characters for characters, _, numbers in segments if number in numbers)
        assert covered == text[token.start : token.end]
    shown = Shown()
    shown.feed(to_html(explanation))
    pictures = "".join(chr(0x2400 + ord(c)) if ord(c) < 32 and c not in "\t\n" else c for c in explanation.text)
    assert set(shown.texts) <= {pictures}
    assert bool(shown.texts) == bool(explanation.text)


@pytest.mark.parametrize("text", [*HARD, '<b>&amp;</b> <script>alert("日本")</script> &lt;', "富士山は高い。" * 200])
def test_highlighted_characters_are_the_text(either, text):
    check_highlights(either, text)


@settings(max_examples=60)
@given(text=TEXTS)
def test_highlighted_characters_are_any_text(either, text):
    check_highlights(either, text)


def test_lone_surrogates_and_missing_text_are_refused(either, reader):
    for query, text, owner in (("山", "山\ud800", "text"), ("\udc00山", "山", "query"), ("山", None, "text")):
        with pytest.raises(ValueError, match=f"The {owner}"):
            either.explain(query, text)
    with pytest.raises(ValueError, match="lone surrogate"):
        reader.explain("\udc00山", "d1")


def test_html_separates_kinds_of_tokens_and_shows_truncation(model):
    page = to_html(model.explain("日本で一番高い山", "富士山は日本で一番高い山である。" * 60))
    assert re.findall(r"<summary[^>]*>([^:<]*):", page) == ["[MASK] positions", "Special tokens"]
    assert "The model read the first 2" in page
    assert (page[:4], page[-6:]) == ("<div", "</div>")
    assert not re.search("<(script|style|link)", page)


# ------------------------------------------------------------------------------------------------------------ indexes


def test_an_index_explains_its_retrievers_score_from_stored_text(reader, model, docs):
    ranking = reader.retriever().search("日本で一番高い山")
    for row in ranking.itertuples():
        explanation = reader.explain("日本で一番高い山", row.docno)
        assert explanation.score == pytest.approx(row.score, abs=1e-4)
        document = next(doc for doc in docs if doc["docno"] == row.docno)
        assert explanation.text == f"{document['title']} {document['text']}"


def test_an_index_without_text_names_the_remedy(index, docs):
    with pytest.raises(ValueError, match=r"holds no text.*store_text=True.*text=\.\.\."):
        index.explain("山", "d1")
    assert index.explain("山", "d1", text=docs[0]["text"]).text == docs[0]["text"]
    with pytest.raises(ValueError, match="'d1' has .* tokens.* vectors.*as it was indexed"):
        index.explain("山", "d1", text=docs[0]["text"] + "と思う")
    with pytest.raises(ValueError, match="not in JaColBERTIndex"):
        index.explain("山", "zz", text="")


def test_pooled_vectors_are_not_explained(model, docs, tmp_path):
    pooled = pj.JaColBERTIndexer(tmp_path / "index", model, pool_factor=2, store_text=True).index(docs)
    with pytest.raises(ValueError, match=r"pool_factor=2.*index\.model\.explain"):
        pooled.explain("山", "d1")


# -------------------------------------------------------------------------------------------------------- transformers


@pytest.fixture(params=["text", "index"])
def explainer(request, model, index):
    return model.explainer if request.param == "text" else index.explainer


@pt.testing.transformer_test_class
def test_pt_testing_text_explainer():
    return pj.JaColBERT("name").explainer()


@pt.testing.transformer_test_class
def test_pt_testing_index_explainer():
    return pj.JaColBERTIndex("index", "name").explainer()


class Explained(SettingsTransformer):
    """Scores documents by the sum of their contributions, so that the shared checks of scorers apply."""

    schematic = {"help_url": None}

    def __init__(self, explainer):
        self.explainer = explainer

    def transform(self, inp):
        from pyterrier_jacolbert.pipeline.frames import ranked

        explained = self.explainer(inp)
        sums = [float(row.sum()) for row in explained["contributions"]]
        return ranked(explained.drop(columns="contributions"), np.array(sums))


@pytest.mark.parametrize("behaviour", [name for name in conformance.SCORER if name[:3] not in ("S01", "S07")])
def test_sums_of_contributions_are_a_scorer(behaviour, explainer, candidates):
    conformance.SCORER[behaviour](lambda: Explained(explainer()), candidates)


def test_an_explainer_adds_one_column_and_keeps_the_rest(explainer, candidates):
    frame = candidates.sample(frac=1, random_state=0)
    before = frame.copy()
    out = explainer()(frame)
    pd.testing.assert_frame_equal(frame, before)
    pd.testing.assert_frame_equal(out.drop(columns="contributions"), before)
    assert all(row.dtype == np.float32 and row.ndim == 1 for row in out["contributions"])
    assert list(explainer()(frame.head(0)).columns) == list(out.columns)
    assert pt.inspect.transformer_outputs(explainer(), list(frame.columns)) == list(out.columns)
    assert repr((explainer() % 3).compile()) == repr(pt.RankCutoff(3) >> explainer())
    empty = out[out["docno"] == "d6"]
    assert all((row == -1).all() for row in empty["contributions"])


@pytest.mark.parametrize("missing", ["qid", "query", "docno"])
def test_a_missing_column_is_named(missing, explainer, candidates):
    with pytest.raises(pt.validate.InputValidationError, match=missing):
        explainer()(candidates.drop(columns=missing))


def test_explaining_needs_no_matplotlib_until_it_plots():
    code = (
        "import sys, pyterrier_jacolbert as pj; sys.modules['matplotlib'] = None\n"
        "explanation = pj.JaColBERT('mini').explain('富士山', '高い山')\n"
        "assert '<div' in explanation._repr_html_()\n"
        "try: explanation.plot()\n"
        "except ImportError as error: print(error)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "pip install matplotlib matplotlib-fontja" in found
