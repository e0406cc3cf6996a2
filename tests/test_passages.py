"""Sentences and passages: they lose nothing of the text, and no passage exceeds the model's length."""

import copy
import pickle

import pandas as pd
import pyterrier as pt
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from test_token_offsets import HARD, TEXTS

import pyterrier_jacolbert as pj
from pyterrier_jacolbert.encoding.token_offsets import token_counts
from pyterrier_jacolbert.japanese import split_sentences
from pyterrier_jacolbert.japanese.sentences import cut_passages


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("富士山は高い。琵琶湖は広い！", ["富士山は高い。", "琵琶湖は広い！"]),
        ("「行こう。」と言った。次の日。", ["「行こう。」と言った。", "次の日。"]),
        ("山（高い。広い！）だ。『「え？」と。』", ["山（高い。広い！）だ。", "『「え？」と。』"]),
        ("「すごい！？」\n彼は言った。", ["「すごい！？」\n", "彼は言った。"]),
        ("｢半角｡｣だ｡次｡", ["｢半角｡｣だ｡", "次｡"]),
        ("本当か！？！そうだ。」", ["本当か！？！", "そうだ。」"]),
        ("「閉じない。次の文。\n\nここ」は。", ["「閉じない。", "次の文。\n\n", "ここ」は。"]),
        ("円周率は3.14、３．１４だ。", ["円周率は3.14、３．１４だ。"]),
        ("It rained. Why? He left!", ["It rained. ", "Why? ", "He left!"]),
        ("https://a.jp/?q=1を見た。", ["https://a.jp/?q=1を見た。"]),
        ("題\n\n  本文", ["題\n\n  ", "本文"]),
        ("句点がない", ["句点がない"]),
        ("", []),
    ],
)
def test_split_sentences(text, sentences):
    assert split_sentences(text) == sentences


@settings(max_examples=200)
@given(st.text("ab。．.！?\n 「」（）()『』、1", max_size=60))
def test_sentences_concatenate_to_the_text_and_keep_brackets(text):
    sentences = split_sentences(text)
    assert "".join(sentences) == text
    assert all(sentences)
    if "\n" not in text:
        for opening, closing in ("「」", "（）"):
            # In a text with a single pair of brackets, the pair stays in one sentence.
            only = "".join("。" if c in "「」（）()『』" and c not in (opening, closing) else c for c in text)
            if only.count(opening) == only.count(closing) == 1 and only.index(opening) < only.index(closing):
                assert any(opening in sentence and closing in sentence for sentence in split_sentences(only))


@given(st.text("あいう。、「」\n", max_size=120), st.integers(1, 12), st.integers(1, 14), st.booleans())
def test_passages_hold_the_whole_text_and_are_short_enough(text, length, stride, strict):
    """Every character is a token here, and where it is strict, only passages of one sentence may have them all."""

    def count(texts):
        return [len(text) for text in texts]

    def fits(passage):
        return len(passage) < length or (len(passage) == length and not strict)

    spans = cut_passages(text, length, stride, count=count, starts=lambda text: range(len(text)), fits=fits)
    assert (spans[0][0], spans[-1][1]) == (0, len(text))
    assert all(end - start <= length for start, end in spans)
    for (start, end), (following, _) in zip(spans, spans[1:], strict=False):
        assert start < following <= end
        if stride >= length:
            assert following == end


@pytest.fixture(scope="module", params=["mini", "tohoku"])
def cutter(request):
    name = "mini" if request.param == "mini" else str(request.getfixturevalue("tohoku_checkpoint"))
    return pj.JaColBERT(name, dtype="float32", max_document_length=32)


LONG = "富士山（標高3,776m。）は、静岡県と山梨県にまたがる活火山である。「日本一の山！」と言われる。" * 6


def check_passages(model, frame, **settings):
    found = model.passages(**settings)(frame)
    limit = model.encoder.max_document_length
    for docno, text in frame[["docno", "text"]].itertuples(index=False):
        passages = found[found["docno"].str.rpartition("%p")[0] == docno]
        assert passages["docno"].tolist() == [f"{docno}%p{number}" for number in range(len(passages))]
        assert max(token_counts(model.encoder, passages["text"].tolist())) <= limit
        if settings.get("prepend", "title") is None and settings.get("stride") == settings.get("length"):
            assert "".join(passages["text"]) == text
    return found


@pytest.mark.parametrize("text", [*HARD, LONG, "漢字" * 300, "a" * 700, " " * 5000 + "。" + " " * 5000, ""])
@pytest.mark.parametrize("length", [None, 8, 20])
def test_passages_concatenate_to_the_document(cutter, text, length):
    check_passages(cutter, pd.DataFrame({"docno": ["d1"], "text": [text]}), length=length, stride=length, prepend=None)


@settings(max_examples=20)
@given(text=st.lists(TEXTS, max_size=6).map("。".join))
@example(text="無" * 100)
def test_passages_of_any_text_concatenate_to_it(cutter, text):
    check_passages(cutter, pd.DataFrame({"docno": ["d1"], "text": [text]}), prepend=None)


def test_titles_precede_each_passage_and_count_as_tokens(cutter):
    frame = pd.DataFrame({"docno": ["d1", "d2", "d3"], "title": ["富士山", "", "山" * 500], "text": [LONG] * 3})
    found = check_passages(cutter, frame)
    assert list(found.columns) == ["docno", "text"]
    for docno, start in (("d1", "富士山 "), ("d3", "山山")):
        assert found[found["docno"].str.startswith(docno)]["text"].str.startswith(start).all()
    assert "".join(found[found["docno"].str.startswith("d2")]["text"]) == LONG
    assert "".join(text.removeprefix("富士山 ") for text in found[found["docno"].str.startswith("d1")]["text"]) == LONG


def test_stride_below_length_makes_passages_overlap(cutter):
    frame = pd.DataFrame({"docno": ["d1"], "text": ["山は高い。川は長い。湖は広い。海は深い。空は青い。" * 3]})
    disjoint = check_passages(cutter, frame, length=20, stride=20, prepend=None)
    overlapping = check_passages(cutter, frame, length=20, stride=10, prepend=None)
    assert len(overlapping) > len(disjoint)
    assert sum(map(len, overlapping["text"])) > len(frame["text"][0])
    for passage in disjoint["text"]:
        assert passage.endswith("。")


def test_short_documents_stay_whole_and_keep_their_columns(model, candidates):
    found = model.passages()(candidates)
    assert list(found.columns) == [column for column in candidates.columns if column != "title"]
    assert found["docno"].tolist() == [f"{docno}%p0" for docno in candidates["docno"]]
    expected = [f"{row.title} {row.text}" for row in candidates.itertuples()]
    assert found["text"].tolist() == expected
    for column in ("qid", "query", "score", "rank", "qtype"):
        assert found[column].tolist() == candidates[column].tolist()


def test_max_passage_inverts_passages(cutter, topics):
    docs = pd.DataFrame({"docno": ["d1", "d2"], "text": [LONG, "味噌汁は汁物である。" * 20]})
    frame = topics[["qid", "query"]].merge(docs, how="cross")
    passages = cutter.passages(prepend=None)
    scored = (passages >> cutter.text_scorer())(frame)
    found = (passages >> cutter.text_scorer() >> pt.text.max_passage())(frame)
    best = scored.assign(docno=scored["docno"].str.partition("%p")[0]).groupby(["qid", "docno"])["score"].max()
    assert len(best) == len(found) == 6
    assert found.set_index(["qid", "docno"])["score"].to_dict() == best.to_dict()


def test_passages_are_indexed_and_retrieved(cutter, tmp_path):
    docs = [{"docno": "d1", "title": "山", "text": LONG}, {"docno": "d2", "title": "汁", "text": "味噌汁である。"}]
    index = (cutter.passages() >> pj.JaColBERTIndexer(tmp_path / "index", cutter)).index(docs)
    assert len(index) > 5
    found = (index.retriever() >> pt.text.max_passage()).search("富士山")
    assert sorted(found["docno"]) == ["d1", "d2"]


def test_invalid_settings_and_docnos_with_separator_are_refused(model, candidates):
    for invalid, name in (({"length": 7}, "length"), ({"length": "8"}, "length"), ({"stride": 0}, "stride")):
        with pytest.raises(ValueError, match=f"{name} must be a number of tokens"):
            model.passages(**invalid)
    with pytest.raises(ValueError, match=r"'a%p1'.*'%p'"):
        model.passages()(candidates.assign(docno="a%p1"))
    for column in ("docno", "title", "text"):
        with pytest.raises(pt.validate.InputValidationError, match=column):
            model.passages()(candidates.drop(columns=column))
    with pytest.raises(ValueError, match="text of docno 'd1' is missing"):
        model.passages()(candidates.astype({"text": object}).assign(text=None))


@pt.testing.transformer_test_class
def test_pt_testing_passages():
    return pj.JaColBERT("name").passages()


def test_passages_transformer_follows_the_conventions(model, candidates):
    one, other = model.passages(), model.passages(length=40)
    assert one == model.passages()
    assert one != other
    assert hash(one) == hash(model.passages())
    assert "length=40" in repr(other)
    before = candidates.copy()
    expected = one(candidates)
    pd.testing.assert_frame_equal(candidates, before)
    for twin in (pickle.loads(pickle.dumps(one)), copy.deepcopy(one)):
        assert twin == one
        pd.testing.assert_frame_equal(twin(candidates), expected)
    for frame in (candidates, candidates[["docno", "title", "text"]]):
        assert pt.inspect.transformer_outputs(one, list(frame.columns)) == list(one(frame).columns)
        assert list(one(frame.head(0)).columns) == list(one(frame).columns)
    assert pt.inspect.transformer_inputs(one)[0] == ["docno", "title", "text"]
