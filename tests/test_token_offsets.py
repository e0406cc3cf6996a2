"""Tokens map to the characters they stand for, regardless of the tokenizer's normalisation."""

import unicodedata

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import pyterrier_jacolbert as pj
from pyterrier_jacolbert.encoding.spans import search_spans
from pyterrier_jacolbert.encoding.token_offsets import (
    characters_read,
    document_tokens,
    query_tokens,
    token_counts,
    token_starts,
)
from pyterrier_jacolbert.japanese.normalization import normalize

#: Characters that NFKC changes, joins or reorders; characters outside the Basic Multilingual Plane, of half and full
#: width, and missing from every vocabulary; and characters that end a text early for MeCab.
HARD = [
    "㌔は５km、ｶﾞｷﾞの①と😀👨‍👩‍👧!!",
    "が\u3099 か\u3099 ﬁ ㍿ ﷺ",
    "  ＡＢＣ　１２３\n\nabc\t[SEP] x",
    "𠮷野家で𩸽を食べる𝔘𝔫𝔦",
    "a\u0323\u0307 q\u0307\u0323 각 \u1100\u1161\u11a8",
    "[MASK][CLS] [unused1]日本[UNK]",
    "前\x00後",
    "İstanbul ΣΑΣ ŉ",
    "\u200bゼロ\ufeff幅\u00ad",
    "漢" * 600,
    "無" + "ー" * 150,
]
TEXTS = st.lists(
    st.one_of(
        st.sampled_from(HARD[:-2]), st.text(max_size=8), st.text("日本で一番ｶﾞ゛\u3099か㌔①Ａa1 。、", max_size=12)
    ),
    max_size=4,
).map("".join)


@pytest.fixture(scope="module", params=["sentencepiece", "mecab", "tohoku"])
def encoder(request):
    names = {"sentencepiece": lambda: "mini", "mecab": lambda: str(request.getfixturevalue("checkpoint"))}
    names["tohoku"] = lambda: str(request.getfixturevalue("tohoku_checkpoint"))
    return pj.JaColBERT(names[request.param](), dtype="float32").encoder


@settings(max_examples=60)
@given(text=TEXTS)
@example(text="ŉ\x1f")
@example(text="ŉ\x1fo")
@example(text="0\x1f0")
@pytest.mark.parametrize("task", ["query", "document"])
def test_every_token_spells_its_piece_and_has_a_vector(encoder, task, text):
    check_tokens(encoder, task, text)


@pytest.mark.parametrize("text", HARD)
@pytest.mark.parametrize("task", ["query", "document"])
@pytest.mark.filterwarnings("ignore:.* queries are longer")
def test_hard_texts_are_aligned(encoder, task, text):
    check_tokens(encoder, task, text)


def check_tokens(encoder, task, text):
    tokens = (query_tokens if task == "query" else document_tokens)(encoder, text)
    vectors = encoder.encode_queries([text]) if task == "query" else encoder.encode_documents([text])
    assert len(tokens) == len(vectors[0])
    last = 0
    for token in tokens:
        assert 0 <= token.start <= token.end <= len(text)
        if token.kind != "text":
            assert (token.start, token.end, token.spelling) == (0, 0, token.piece)
            continue
        assert token.start < token.end
        assert token.start >= last  # in text order; one character may be two tokens
        last = token.start
        assert token.spelling == text[token.start : token.end]
        piece = token.piece.removeprefix("##").removeprefix("▁")
        if token.piece not in (encoder.tokenizer.unk_token, "▁"):
            # The tokenizers library is off by one if a character that NFKC decomposes precedes one that it drops:
            # in "ŉ\x1f" it places the n at the \x1f, and in "ŉ\x1fo" the \x1f is trimmed as white space.
            start = token.start - 2 * encoder.tokenizer.is_fast
            normal = normalize(text[max(0, start) : token.end])
            # SentencePiece drops control characters, even within a token.
            assert piece in "".join(c for c in normal if piece == c or unicodedata.category(c) not in ("Cc", "Cf"))


def test_released_tokenizer_tokens_keep_the_texts_spelling(tohoku_checkpoint):
    encoder = pj.JaColBERT(str(tohoku_checkpoint)).encoder
    words = [(token.piece, token.spelling) for token in document_tokens(encoder, "㍿のｶﾞﾗｽは５㌔、か\u3099。")]
    assert words == [
        ("[CLS]", "[CLS]"),
        ("[unused1]", "[unused1]"),
        ("株式", "㍿"),
        ("会社", "㍿"),
        ("の", "の"),
        ("ガラス", "ｶﾞﾗｽ"),
        ("は", "は"),
        ("5", "５"),
        ("キロ", "㌔"),
        ("、", "、"),
        ("が", "か\u3099"),
        ("。", "。"),
        ("[SEP]", "[SEP]"),
    ]


def test_masks_are_distinguished_from_the_words_of_a_query(tohoku_checkpoint):
    encoder = pj.JaColBERT(str(tohoku_checkpoint)).encoder
    kinds = [token.kind for token in query_tokens(encoder, "富士山[MASK]")]
    assert kinds == ["marker", "marker", *["text"] * 6, "marker", *["mask"] * 23]


def test_skipped_punctuation_has_no_token(model):
    assert [token.spelling for token in document_tokens(model.encoder, "a.b")[2:-1]] == ["a", "b"]
    assert document_tokens(model.encoder, "") == []


def test_tokens_of_unknown_tokenizers_are_searched_by_spelling(encoder):
    text = "ＡＢＣは日本の５キロ"
    ids = encoder.document_ids(text)[2:-1]
    spans = search_spans(encoder.tokenizer, text, ids)
    assert len(spans) == len(ids)
    assert all(0 <= start <= end <= len(text) for start, end in spans)
    assert (0, 3) in spans or (0, 1) in spans


def test_counts_and_starts_are_those_before_truncation(encoder):
    text = "日本で一番高い山は富士山である。" * 60
    base, short, long = token_counts(encoder, ["", "日本の山は高い", text])
    assert base < short < long
    assert long > encoder.max_document_length
    starts = token_starts(encoder, text)
    assert starts == sorted(set(starts))
    assert starts[0] == 0
    assert long - base - 60 <= len(starts) <= long - base + 1
    assert token_counts(encoder, []) == []


def test_characters_read_excludes_the_truncated_text(encoder):
    text = "日本で一番高い山は富士山である。" * 60
    read = characters_read(encoder, text)
    assert 200 < read < len(text)
    assert characters_read(encoder, text[:20] + "  ") == 22
    assert token_counts(encoder, [text[:read]])[0] <= encoder.max_document_length + 1
