"""Token vectors and ids equal those of Sentence Transformers and colbert-ai, regardless of the other texts."""

import json
import random
import warnings
from pathlib import Path

import numpy as np
import pyterrier as pt
import pytest
import torch
from sentence_transformers import MultiVectorEncoder

import pyterrier_jacolbert as pj
from pyterrier_jacolbert.encoding.query_length import target_length

COLBERT_AI = json.loads((Path(__file__).parent / "data" / "colbert_ai_ids.json").read_text(encoding="utf-8"))
TYPED_SPECIAL = ("[CLS]", "[SEP]", "[MASK]", "[PAD]", "[UNK]")
QUERIES = [
    "日本の首都は？",
    "富士山の高さ",
    "東京 " * 40,
    "琵琶湖は滋賀県にある日本で一番大きい湖で、京都の水源でもあるが、その面積はどれほどか",
    "ＪａＣｏｌＢＥＲＴ とは何か 2024",
]
DOCS = [
    "富士山は静岡県と山梨県にまたがる、日本で一番高い山である。",
    "新幹線は東京と大阪を二時間半で結ぶ。Shinkansen, since 1964! (「ひかり」)",
    "夏目漱石は小説家である。" * 40,
    "!?",
]


def largest_difference(ours, theirs):
    assert [len(rows) for rows in ours] == [len(rows) for rows in theirs]
    return max(float(np.abs(a - np.asarray(b)).max(initial=0)) for a, b in zip(ours, theirs, strict=True))


@pytest.fixture(scope="module")
def sentence_transformers(tohoku_checkpoint):
    return MultiVectorEncoder(str(tohoku_checkpoint), device="cpu")


def encode_query_to(model, length, query):
    """Returns the vectors of Sentence Transformers for a query augmented to a length."""
    model[0].query_expansion = None if length is None else {"strategy": "fixed", "attend": False, "length": length}
    return model.encode_query([query], convert_to_numpy=True)[0]


@pytest.mark.parametrize("rule", ["dynamic", "evaluator", 32, 48, None])
def test_query_vectors_and_scores_equal_sentence_transformers(tohoku_checkpoint, sentence_transformers, rule):
    model = pj.JaColBERT(str(tohoku_checkpoint), dtype="float32", query_length=rule)
    if rule == 32:
        with pytest.warns(UserWarning, match="longer than the 32 tokens"):
            ours = model.encode_queries(QUERIES)
    else:
        ours = model.encode_queries(QUERIES)
    theirs = []
    for query, rows in zip(QUERIES, ours, strict=True):
        n_tokens = len(encode_query_to(sentence_transformers, None, query))
        length = target_length(rule, n_tokens)
        assert len(rows) == length
        theirs.append(encode_query_to(sentence_transformers, None if rule is None else length, query))
    assert largest_difference(ours, theirs) < 1e-5
    docs = sentence_transformers.encode_document(DOCS, convert_to_numpy=True)
    expected = sentence_transformers.similarity(theirs, docs)
    scored = torch.from_numpy(maxsim(ours, model.encode_documents(DOCS)))
    assert torch.allclose(scored, expected.cpu(), atol=1e-3)


def maxsim(queries, docs):
    return np.array([[(q @ d.T).max(axis=1).sum() for d in docs] for q in queries], dtype=np.float32)


def test_document_vectors_equal_sentence_transformers(tohoku_checkpoint, sentence_transformers):
    model = pj.JaColBERT(str(tohoku_checkpoint), dtype="float32")
    ours = model.encode_documents(DOCS)
    assert largest_difference(ours, sentence_transformers.encode_document(DOCS, convert_to_numpy=True)) < 1e-5
    assert max(map(len, ours)) <= 300
    for rows in ours:
        assert rows.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)


@pytest.fixture(scope="module")
def fixed_length_encoders(tohoku_checkpoint):
    return {str(n): pj.JaColBERT(str(tohoku_checkpoint), query_length=n).encoder for n in (32, 48)}


@pytest.mark.filterwarnings("ignore:1 of 1 queries are longer")
@pytest.mark.parametrize("number", range(len(COLBERT_AI["texts"])))
def test_ids_equal_colbert_ai(fixed_length_encoders, number):
    entry = COLBERT_AI["texts"][number]
    preparation = fixed_length_encoders["48"].preparation
    if preparation.prepare(entry["text"]) != entry["text"]:
        pytest.skip("the oracle reads typed special tokens as tokens, and zero-width spaces as unknown words")
    for length, encoder in fixed_length_encoders.items():
        assert encoder.query_ids(entry["text"]) == entry["queries"][length]["ids"]
    assert encoder.document_ids(entry["text"]) == entry["document"]


def test_typed_special_tokens_are_read_as_text(fixed_length_encoders):
    # Both oracles read [SEP], [MASK] and others as the tokens; Sentence Transformers also reads [unused0] so.
    encoder = fixed_length_encoders["48"]
    entries = [entry for entry in COLBERT_AI["texts"] if any(literal in entry["text"] for literal in TYPED_SPECIAL)]
    assert len(entries) == 3
    for entry in entries:
        pieces = encoder.tokenizer.tokenize(entry["text"], split_special_tokens=True)
        ids = encoder.tokenizer.convert_tokens_to_ids(pieces)[: encoder.max_document_length - 3]
        assert encoder.document_ids(entry["text"]) == [2, 6, *ids, 3]


def test_only_the_punctuation_that_colbert_ai_skips_is_skipped(tohoku_checkpoint):
    encoder = pj.JaColBERT(str(tohoku_checkpoint), dtype="float32").encoder
    skipped = set(COLBERT_AI["skiplist_ids"])
    for text in ["a, b. (c)!", "「東京」、京都。", "!?"]:
        ids = encoder.document_ids(text)
        assert len(encoder.encode_documents([text])[0]) == sum(i not in skipped for i in ids)


def test_query_vectors_do_not_depend_on_other_queries(model):
    alone = [model.encode_queries([query])[0] for query in QUERIES]
    assert largest_difference(model.encode_queries(QUERIES), alone) < 1e-5
    assert largest_difference(model.encode_queries(QUERIES[::-1])[::-1], alone) < 1e-5


@pytest.mark.parametrize("batch_tokens", [64, 500, 100_000])
def test_document_vectors_do_not_depend_on_batch_or_order(checkpoint, model, batch_tokens):
    texts = [text * n for n in (1, 2, 5) for text in DOCS] + ["", "東京"]
    expected = model.encode_documents(texts)
    other = pj.JaColBERT(str(checkpoint), dtype="float32", batch_tokens=batch_tokens)
    order = random.Random(0).sample(range(len(texts)), len(texts))
    shuffled = other.encode_documents([texts[i] for i in order])
    assert largest_difference(shuffled, [expected[i] for i in order]) < 1e-5


def test_document_vectors_are_bitwise_reproducible(model):
    for first, second in zip(model.encode_documents(DOCS), model.encode_documents(DOCS[::-1])[::-1], strict=True):
        np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_document_vectors_do_not_depend_on_thread_count(dtype, monkeypatch):
    texts = [doc["text"] for doc in pt.get_dataset("jacolbert:demo").get_corpus_iter(verbose=False)]
    # 35 to 74 tokens each, six per batch: oneDNN splits the sums of such a product among its threads.
    texts = ["".join(texts[i : i + 3])[: 60 + 9 * i] for i in range(24)]
    model, threads = pj.JaColBERT("mini", dtype=dtype), torch.get_num_threads()
    found = []
    try:
        for count in (1, 2, 3):
            monkeypatch.setenv("OMP_NUM_THREADS", str(count))
            torch.set_num_threads(count)
            found.append(np.concatenate(model.encode_documents(texts)))
            assert torch.get_num_threads() == count
    finally:
        torch.set_num_threads(threads)
    for other in found[1:]:
        np.testing.assert_array_equal(found[0], other)


def test_thread_count_changes_vectors_by_rounding_only(model):
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        documents, queries = model.encode_documents(DOCS), model.encode_queries(QUERIES)
    finally:
        torch.set_num_threads(threads)
    assert largest_difference(model.encode_documents(DOCS), documents) < 1e-5
    assert largest_difference(model.encode_queries(QUERIES), queries) < 1e-5


def test_bfloat16_documents_are_close_and_queries_stay_float32(checkpoint, model):
    reduced = pj.JaColBERT(str(checkpoint), dtype="bfloat16")
    documents, exact = reduced.encode_documents(DOCS), model.encode_documents(DOCS)
    cosines = np.concatenate([(a * b).sum(axis=1) for a, b in zip(documents, exact, strict=True)])
    assert 0.999 < cosines.min() < 0.999999  # close, but not float32 in disguise
    assert largest_difference(reduced.encode_queries(QUERIES), model.encode_queries(QUERIES)) == 0


def test_an_empty_document_has_no_vectors_an_empty_query_has(model):
    assert [rows.shape for rows in model.encode_documents(["", "東京"])][0] == (0, 128)
    assert model.encode_queries([""])[0].shape == (32, 128)
    assert model.encode_documents([]) == []
    assert model.encode_queries([]) == []


def test_an_overlong_query_is_truncated_and_keeps_eight_masks(model):
    with pytest.warns(UserWarning, match="1 of 2 queries are longer than the 504 tokens") as caught:
        long, short = model.encode_queries(["山" * 5000, "山"])
    assert len(caught) == 1
    assert (len(long), len(short)) == (512, 32)
    encoder = model.encoder
    with pytest.warns(UserWarning, match="504"):
        ids = encoder.query_ids("山" * 5000)
    assert ids[-8:] == [encoder.tokenizer.mask_token_id] * 8
    assert ids[-9] == encoder.tokenizer.sep_token_id


def test_progress_counts_every_text_once(model):
    done = []
    model.encode_documents([*DOCS, DOCS[0], "", ""], done.append)
    assert sum(done) == len(DOCS) + 3


def test_a_loaded_encoder_is_accepted_instead_of_a_name(tohoku_checkpoint, sentence_transformers):
    sentence_transformers[0].query_expansion = {"strategy": "fixed", "attend": False, "length": 32}
    given = pj.JaColBERT(sentence_transformers, dtype="float32").encode_queries(QUERIES)
    named = pj.JaColBERT(str(tohoku_checkpoint), dtype="float32").encode_queries(QUERIES)
    assert largest_difference(given, named) < 1e-6


def test_augmenting_a_checkpoint_trained_without_it_warns(checkpoint):
    plain = MultiVectorEncoder(str(checkpoint), device="cpu")
    plain[0].query_expansion = None
    with pytest.warns(UserWarning, match="not trained with query augmentation"):
        pj.JaColBERT(plain, query_length="dynamic").encode_queries(["山"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rows = pj.JaColBERT(plain).encode_queries(["山"])[0]
    assert len(rows) == len(plain.encode_query("山"))


@pytest.mark.parametrize(
    "settings", [{"dtype": "float16"}, {"query_length": "longest"}, {"batch_tokens": 0}, {"max_document_length": "300"}]
)
def test_an_invalid_setting_is_an_error(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        pj.JaColBERT(**settings)


def test_max_document_length_counts_special_tokens(checkpoint):
    model = pj.JaColBERT(str(checkpoint), max_document_length=20)
    assert len(model.encoder.document_ids("山" * 100)) == 20


def test_a_text_of_a_million_characters_is_truncated(model):
    long = "富士山は日本で一番高い山である。" * 62_500
    ids = model.encoder.document_ids(long)
    assert len(ids) == 300
    assert ids == model.encoder.document_ids(long[:10_000])
    with pytest.warns(UserWarning, match="longer than the 504 tokens"):
        assert model.encode_queries([long])[0].shape == (512, 128)


def test_truncated_vectors_are_normalised_leading_dimensions(checkpoint, tmp_path):
    whole, cut = (
        pj.JaColBERT(str(checkpoint), dtype="float32"),
        pj.JaColBERT(str(checkpoint), dtype="float32", truncate_dim=48),
    )
    for encode in ("encode_queries", "encode_documents"):
        for rows, shorter in zip(getattr(whole, encode)(DOCS), getattr(cut, encode)(DOCS), strict=True):
            leading = rows[:, :48]
            np.testing.assert_allclose(shorter, leading / np.linalg.norm(leading, axis=1, keepdims=True), atol=1e-5)
    assert cut.dim == 48
    index = pj.JaColBERTIndexer(tmp_path / "i", cut).index([{"docno": "a", "text": DOCS[0]}])
    assert pj.JaColBERTIndex(index.path).model.truncate_dim == 48
    assert pj.JaColBERTIndex(index.path).retriever().search("山")["docno"].tolist() == ["a"]
    with pytest.raises(ValueError, match="truncate_dim=999 .* 128 dimensions of the checkpoint"):
        pj.JaColBERT(str(checkpoint), truncate_dim=999).encode_queries(["山"])
    with pytest.raises(ValueError, match="truncate_dim must be a positive integer"):
        pj.JaColBERT(str(checkpoint), truncate_dim=0)
