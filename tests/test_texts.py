"""Texts as people have them: what Unicode ignores, long words, spellings, typed special tokens, endless white space.

The sections follow the list of what is promised; right values come from Unicode's tables and from plain text.
"""

import unicodedata

import numpy as np
import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st

import pyterrier_jacolbert as pj
from pyterrier_jacolbert.encoding.token_offsets import characters_read, document_tokens
from pyterrier_jacolbert.japanese import FOLDS, normalize, tokenize
from pyterrier_jacolbert.japanese.normalization import normalize_with_spans

FAMILY, HEART, KEYCAP = "👨\u200d👩\u200d👧", "❤\ufe0f", "1\ufe0f\u20e3"
ENGLAND = "\U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f"
#: Texts as found outside, and the plain texts that say the same.
SAME = {
    "ideographic variation selector": ("葛\U000e0100城市の人", "葛城市の人"),
    "standardised variation selector": ("神\ufe00社の鳥居", "神社の鳥居"),
    "soft hyphen": ("Shin\u00adkansenで行く", "Shinkansenで行く"),
    "zero-width space": ("新幹\u200b線で行く", "新幹線で行く"),
    "zero-width non-joiner": ("新幹\u200c線で行く", "新幹線で行く"),
    "zero-width joiner": ("新幹\u200d線で行く", "新幹線で行く"),
    "word joiner": ("新幹\u2060線で行く", "新幹線で行く"),
    "byte order mark": ("\ufeff新幹\ufeff線で行く", "新幹線で行く"),
    "direction marks": ("\u202a新幹線\u202cで\u200e行く", "新幹線で行く"),
    "combining grapheme joiner": ("新\u034f幹線で行く", "新幹線で行く"),
    "Hangul filler": ("新\u3164幹線で行く", "新幹線で行く"),
    "half-width voiced kana": ("ﾊﾟﾝと牛乳ｶﾞ好き", "パンと牛乳ガ好き"),
    "decomposed kana": ("か\u3099くせいとハ\u309aン", "がくせいとパン"),
    "decomposed with an ignorable character": ("か\u200b\u3099くせい", "がくせい"),
    "decomposed Latin": ("cafe\u0301の客", "caféの客"),
    "decomposed Hangul": ("\u1112\u1161\u11ab글", "한글"),
    "CJK radicals": ("⻑⾕川の⼈", "長谷川の人"),
    "compatibility ideograph": ("\ufa19社", "神社"),
    "NUL": ("富士山\x00は高い山", "富士山 は高い山"),
    "other control characters": ("富士山\x07\x1b\x85は高い", "富士山   は高い"),
    "line separator": ("富士山\u2028は高い", "富士山 は高い"),
}


@pytest.fixture(scope="module", params=["mini", "tohoku"])
def model(request):
    name = "mini" if request.param == "mini" else str(request.getfixturevalue("tohoku_checkpoint"))
    return pj.JaColBERT(name, dtype="float32")


class TestIgnorableAndControlCharacters:
    @pytest.mark.parametrize(("found", "plain"), SAME.values(), ids=SAME.keys())
    def test_words_and_vectors_are_those_of_plain_text(self, model, found, plain):
        assert tokenize(found) == tokenize(plain)
        for encode in (model.encode_documents, model.encode_queries):
            np.testing.assert_array_equal(encode([found])[0], encode([plain])[0])

    @pytest.mark.parametrize(("found", "plain"), SAME.values(), ids=SAME.keys())
    def test_passages_and_explanations_point_into_the_users_text(self, model, found, plain):
        text = f"{found}。" * 3
        passages = model.passages(prepend=None, length=8)([{"docno": "d", "text": text}])
        assert "".join(row["text"] for row in passages) == text
        ours, theirs = (document_tokens(model.encoder, t) for t in (found, plain))
        assert [token.piece for token in ours] == [token.piece for token in theirs]
        assert [normalize(token.spelling) for token in ours] == [normalize(token.spelling) for token in theirs]
        assert all(token.spelling == found[token.start : token.end] for token in ours if token.kind == "text")

    def test_default_ignorable_characters_of_unicode_are_removed(self):
        # The property itself is the oracle, from the tables of the regex package.
        ignorable = [c for c in map(chr, range(0x110000)) if regex.match(r"\p{Default_Ignorable_Code_Point}", c)]
        assert len(ignorable) > 4000
        assert {normalize(f"葛{character}城") for character in ignorable} == {"葛城"}

    def test_control_characters_of_unicode_are_spaces(self):
        for character in map(chr, [*range(32), *range(0x7F, 0xA0)]):
            expected = character if character in "\t\n\r" else " "
            assert normalize(f"a{character}b") == f"a{expected}b"

    @pytest.mark.parametrize("emoji", [FAMILY, HEART, KEYCAP, ENGLAND, "👍🏽", "🏳\ufe0f\u200d🌈", "🇯🇵"])
    def test_emoji_sequences_stay_whole(self, emoji):
        for compatibility in (True, False):
            assert normalize(f"家{emoji}だ", compatibility=compatibility) == f"家{emoji}だ"
        assert emoji.replace("\ufe0f", "") in tokenize(f"家{emoji}だ")

    def test_parts_of_emoji_elsewhere_are_removed(self):
        assert normalize("字\ufe0f\u200d👩 ™\ufe0f") == "字👩 TM"

    def test_radicals_are_the_ideographs_of_unicodes_table(self):
        # Five rows of EquivalentUnifiedIdeograph.txt, for radicals that NFKC keeps.
        assert normalize("⺟⻄⻑⻝⺡", compatibility=False) == "母西長食氵"
        kangxi = "".join(map(chr, range(0x2F00, 0x2FD6)))
        assert normalize(kangxi, compatibility=False) == unicodedata.normalize("NFKC", kangxi)

    def test_bm25_finds_the_plain_and_the_marked_name(self):
        docs = [{"docno": "a", "text": "葛城市の歴史"}, {"docno": "b", "text": "葛\U000e0100城市の地図"}]
        bm25 = pj.JapaneseBM25().index(docs).retriever()
        for query in ("葛城市", "葛\U000e0100城市"):
            assert set(bm25.search(query)["docno"]) == {"a", "b"}


CHARACTERS = st.one_of(
    st.characters(),
    st.sampled_from(
        "かガｶﾞﾟ゛\u3099\u309a\u200d\ufe0f❤👨™1#\u20e3\u200b\u00ad\ufeff\x00\x85⻑⼈Ａ\u0301가ᄀ\u1161㌔神ー−〜～ \n"
    ),
)
TEXTS = st.one_of(st.text(), st.lists(CHARACTERS).map("".join))


class TestNormalization:
    @settings(max_examples=500)
    @given(TEXTS, st.booleans())
    def test_normalising_twice_changes_nothing(self, text, compatibility):
        once = normalize(text, compatibility=compatibility)
        assert normalize(once, compatibility=compatibility) == once

    @settings(max_examples=500)
    @given(TEXTS, st.booleans())
    def test_spans_cover_what_their_characters_come_from(self, text, compatibility):
        normalized, spans = normalize_with_spans(text, compatibility=compatibility)
        assert normalized == normalize(text, compatibility=compatibility)
        assert len(spans) == len(normalized)
        assert spans == sorted(spans)
        assert all(0 <= start < end <= len(text) for start, end in spans)
        covered = sorted(set(spans))
        assert all(end == start for (_, end), (start, _) in zip(covered, covered[1:], strict=False))

    @settings(max_examples=500)
    @given(TEXTS)
    def test_bm25_and_encoders_read_the_same_text(self, text):
        assert normalize(normalize(text, compatibility=False)) == normalize(text)

    @settings(max_examples=300)
    @given(st.text("日本で一番高い山はＪＲ㌔①、。ｱｲ「」 \nabc0～〜…"))
    def test_ordinary_text_reaches_the_tokenizer_unchanged(self, text):
        assert normalize(text, compatibility=False) == text

    def test_jsquad_texts_reach_the_tokenizers_unchanged(self, model, shared):
        texts = jsquad_texts(shared)
        assert len(texts) > 5000
        assert [text for text in texts if model.encoder.preparation.prepare(text) != text] == []

    def test_demo_questions_in_half_width_rank_alike(self):
        data = pj.datasets.JaColBERTDatasetProvider().get_dataset("demo")
        topics = data.get_topics().head(40)
        narrow = topics.assign(query=[to_half_width(query) for query in topics["query"]])
        assert (narrow["query"] != topics["query"]).sum() > 5
        mini = pj.JaColBERT("mini", dtype="float32")
        for one, other in zip(
            mini.encode_queries(list(topics["query"])), mini.encode_queries(list(narrow["query"])), strict=True
        ):
            np.testing.assert_array_equal(one, other)


def to_half_width(text: str) -> str:
    narrow = {unicodedata.normalize("NFKC", c): c for c in map(chr, range(0xFF66, 0xFF9E))}
    for kana in map(chr, range(0x30A1, 0x30FB)):
        base, *mark = unicodedata.normalize("NFD", kana)
        if mark and base in narrow:
            narrow[kana] = narrow[base] + {"\u3099": "ﾞ", "\u309a": "ﾟ"}[mark[0]]
    return "".join(narrow.get(character, character) for character in text)


def jsquad_texts(shared) -> list[str]:
    data = pj.datasets.JaColBERTDatasetProvider()
    pj.datasets.use_local(shared / "data")
    dataset = data.get_dataset("jsquad/validation")
    documents = dataset.get_corpus_iter(verbose=False)
    return [*dataset.get_topics()["query"], *(document["text"] for document in documents)]


class TestLongWords:
    @pytest.mark.parametrize(
        "word",
        [
            "pneumonoultramicroscopicsilicovolcanoconiosis",
            "донаудампфшиффартсгезелльшафт",
            "1234567890123456789012345678901234567890",
            "ａｂｃｄｅｆｇｈｉｊｋｌｍｎｏｐｑｒｓｔｕｖｗｘｙｚａｂｃ",
            "x" * 5000,
        ],
        ids=["Latin", "Cyrillic", "digits", "full width", "5,000 letters"],
    )
    def test_long_words_stay_whole(self, word):
        words = tokenize(f"これは{word}です")
        expected = normalize(word).lower()
        assert "".join(words) == f"これは{expected}です"
        assert max(map(len, words)) == min(len(expected), 4096)

    def test_no_single_letters_are_left_of_base64_and_links(self):
        base64 = "iVBORwoaCgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVRkYPhfDwAChwGAkYH"
        link = "https://example.org/articles/internationalizationandlocalization?title=Antidisestablishmentarianism"
        for text in (base64, link):
            words = tokenize(text)
            assert "".join(words) == text.lower()
            assert sum(map(len, words)) / len(words) > 4
        assert "internationalizationandlocalization" in tokenize(link)

    @settings(max_examples=50)
    @given(st.lists(st.sampled_from(["富士山は", "a" * 30, "高い", "Ａ" * 26, "1" * 25, "、", FAMILY])).map("".join))
    def test_words_together_are_the_text(self, text):
        assert "".join(tokenize(text)) == normalize(text).lower()


class TestSpellings:
    @pytest.mark.parametrize(
        ("fold", "one", "other"),
        [
            ("dashes", "コンピュ−タ", "コンピュータ"),
            ("dashes", "サ―バ─ル", "サーバール"),
            ("dashes", "2020–2021", "2020-2021"),
            ("waves", "東京〜大阪", "東京～大阪"),
            ("kanji", "國學院", "国学院"),
            ("kanji", "髙島屋の邊", "高島屋の辺"),
            ("numbers", "1,000円と1,234,567円", "1000円と1234567円"),
            ("long_vowels", "コンピューター", "コンピュータ"),
        ],
    )
    def test_folded_spellings_are_the_same_words(self, fold, one, other):
        assert tokenize(one, normalize=fold) == tokenize(other, normalize=fold)
        rest = [name for name in FOLDS if name != fold]
        assert tokenize(one, normalize=rest) != tokenize(other, normalize=rest)

    def test_what_looks_similar_is_not_folded(self):
        assert tokenize("1,2,3 と 12,34 と 3.14", normalize="all") == tokenize("1,2,3 と 12,34 と 3.14")
        assert tokenize("エラー", normalize="all") == ["エラー"]

    def test_the_index_records_its_folds_and_queries_follow(self, tmp_path):
        docs = [{"docno": "old", "text": "國の歴史"}, {"docno": "other", "text": "山の地図"}]
        pj.JapaneseBM25(tmp_path / "bm25", normalize=["kanji"]).index(docs)
        opened = pj.JapaneseBM25(tmp_path / "bm25")
        assert opened.normalize == ("kanji",)
        assert list(opened.retriever().search("国")["docno"]) == ["old"]
        plain = pj.JapaneseBM25(tmp_path / "plain", normalize=()).index(docs)
        assert list(plain.retriever().search("国")["docno"]) == []

    def test_the_manifest_is_read_once_per_frame_not_per_query(self, tmp_path, monkeypatch):
        bm25 = pj.JapaneseBM25(tmp_path / "bm25").index([{"docno": "a", "text": "国の歴史"}])
        reads = []
        meta = pj.JapaneseBM25.meta
        monkeypatch.setattr(pj.JapaneseBM25, "meta", lambda index: reads.append(1) or meta(index))
        bm25.retriever().search("国")
        counts = []
        for n_queries in (1, 9):
            reads.clear()
            bm25.retriever()([{"qid": str(n), "query": f"国{n}"} for n in range(n_queries)])
            counts.append(len(reads))
        assert counts[0] == counts[1]

    def test_unknown_folds_are_refused_by_name(self):
        for wrong in ("kana", ["kanji", "kana"], 3):
            with pytest.raises(ValueError, match="long_vowels"):
                pj.JapaneseBM25(normalize=wrong)

    def test_tokens_for_other_engines_fold_alike(self):
        frame = pj.JapaneseTokens(normalize="numbers")([{"qid": "1", "query": "1,000円"}])
        assert frame[0]["query_toks"] == {"1000": 1, "円": 1}


class TestTypedSpecialTokens:
    @pytest.mark.parametrize("kind", ["{}", "a{}b", "富士{}山", "{0}{0}", "{} 、{}"])
    def test_special_tokens_are_text_in_documents_and_queries(self, model, kind):
        tokenizer = model.encoder.tokenizer
        special = {*tokenizer.all_special_ids, *tokenizer.added_tokens_decoder} - {tokenizer.unk_token_id}
        plain = model.encoder.document_ids("富士")
        count = sum(token in special for token in plain)
        for token in [*tokenizer.all_special_tokens, "[unused0]", "[unused1]"]:
            text = kind.format(token, token)
            assert sum(token in special for token in model.encoder.document_ids(text)) == count
            ids = [token for token in model.encoder.query_ids(text) if token != model.encoder.mask_id]
            assert sum(token in special for token in ids) == count

    def test_wide_special_tokens_are_text(self, model):
        tokenizer = model.encoder.tokenizer
        wide = "".join(chr(ord(c) + 0xFEE0) for c in tokenizer.mask_token)
        assert tokenizer.mask_token_id not in model.encoder.document_ids(f"富士{wide}山")

    def test_pieces_are_those_without_special_tokens(self, tohoku_checkpoint):
        # transformers' own way of reading special tokens as text is the oracle.
        encoder = pj.JaColBERT(str(tohoku_checkpoint)).encoder
        for text in ("[MASK]の山", "富士山[SEP]は[unused0]高い", "[CLS][PAD]"):
            expected = encoder.tokenizer.tokenize(text, split_special_tokens=True)
            assert encoder.tokenizer.convert_ids_to_tokens(encoder.document_ids(text))[2:-1] == expected

    def test_students_are_trained_on_the_texts_that_are_encoded(self, model, tmp_path):
        from pyterrier_jacolbert.train import Example, Stage, dataset

        texts = {"a": "葛\U000e0100城[MASK]</s>", "b": "富士山", "c": "前\x00後"}
        stage = Stage(name="kl", start="mini", examples="examples.jsonl", n_ways=3)
        dataset.write([Example("q", ("a", "b", "c"), (3.0, 2.0, 1.0))], {"q": "ｶﾞｷﾞ<mask>"}, texts, stage, tmp_path)
        prepare = model.encoder.preparation.prepare
        (row,) = list(dataset.read(tmp_path, prepare))
        assert list(row.values())[:4] == [prepare(text) for text in ("ｶﾞｷﾞ<mask>", *texts.values())]
        assert row["query"].startswith("ガギ")

    def test_explanations_point_at_typed_special_tokens(self, model):
        text = f"富士{model.encoder.tokenizer.mask_token}山"
        tokens = [token for token in document_tokens(model.encoder, text) if token.kind == "text"]
        covered = {position for token in tokens for position in range(token.start, token.end)}
        assert {position for position, character in enumerate(text) if character not in "[]<>"} <= covered


class TestEndlessWhiteSpace:
    @pytest.mark.parametrize("blank", [" ", "\n", "\u3000", "\t \r\n", "\u200b", "\x00", "\u00a0"])
    def test_what_follows_white_space_is_read(self, model, blank):
        text = f"{blank * 30_000}富士山は{blank * 30_000}高い山"
        plain = f"富士山は{'' if blank == chr(0x200B) else ' '}高い山"
        for encode in (model.encode_documents, model.encode_queries):
            np.testing.assert_array_equal(encode([text])[0], encode([plain])[0])
        assert tokenize(text) == tokenize(plain)
        assert characters_read(model.encoder, text) == len(text)

    @pytest.mark.parametrize("nothing", ["", " \n", "\u200b\ufeff", "\x00\x07", "\u00ad"])
    def test_texts_of_nothing_visible_have_no_vectors(self, model, nothing):
        assert model.encode_documents([nothing])[0].shape == (0, model.dim)
        assert document_tokens(model.encoder, nothing) == []
        assert tokenize(nothing) == []
