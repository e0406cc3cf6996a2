"""Exact MaxSim, against brute force and Sentence Transformers."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sentence_transformers.util import maxsim

from pyterrier_jacolbert.index import lanes, search
from pyterrier_jacolbert.index.codec_kernels import widen, widen_reference
from pyterrier_jacolbert.index.kernels import segment_max, segment_max_reference
from pyterrier_jacolbert.index.lanes import FloatLane, TokenVectors
from pyterrier_jacolbert.index.search import score_pairs, search_exact
from pyterrier_jacolbert.index.topk import top_k


def unit(rng, n, dim):
    vectors = rng.normal(size=(n, dim)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@st.composite
def collections(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    dim = draw(st.sampled_from([1, 3, 16]))
    docs = [unit(rng, n, dim) for n in draw(st.lists(st.integers(0, 9), min_size=1, max_size=20))]
    queries = [unit(rng, n, dim) for n in draw(st.lists(st.integers(1, 6), min_size=1, max_size=5))]
    return docs, queries


def brute_force(docs, queries):
    return np.array([[(q @ d.T).max(axis=1).sum() if len(d) else -np.inf for d in docs] for q in queries])


@settings(deadline=None, max_examples=60)
@given(collection=collections(), k=st.integers(1, 25), block=st.sampled_from([(1, 1), (4, 3), (1024, 512)]))
def test_retrieval_equals_brute_force_whatever_the_blocks(collection, k, block):
    docs, queries = collection
    ranks = np.arange(len(docs), dtype=np.uint32)
    before = lanes._BLOCK_TOKENS, lanes._BLOCK_COLUMNS
    lanes._BLOCK_TOKENS, lanes._BLOCK_COLUMNS = block
    try:
        found = list(search_exact(FloatLane(TokenVectors.of(docs)), queries, k, ranks))
    finally:
        lanes._BLOCK_TOKENS, lanes._BLOCK_COLUMNS = before
    for (docids, scores), expected in zip(found, brute_force(docs, queries), strict=True):
        matching = np.isfinite(expected).sum()
        assert len(docids) == min(k, matching)
        assert len(set(docids.tolist())) == len(docids)
        np.testing.assert_allclose(scores, expected[docids], atol=1e-4)
        np.testing.assert_allclose(scores, np.sort(expected)[::-1][: len(scores)], atol=1e-4)


@settings(deadline=None, max_examples=40)
@given(collection=collections(), seed=st.integers(0, 99), together=st.sampled_from([1, 3, 512]))
def test_pair_scores_equal_brute_force_in_any_order(collection, seed, together):
    docs, queries = collection
    pairs = np.array([(q, d) for q in range(len(queries)) for d in range(len(docs))])
    pairs = np.random.default_rng(seed).permutation(pairs)
    before, lanes._TAKEN_AT_ONCE = lanes._TAKEN_AT_ONCE, together
    try:
        scores = score_pairs(FloatLane(TokenVectors.of(docs)), queries, pairs[:, 0], pairs[:, 1])
    finally:
        lanes._TAKEN_AT_ONCE = before
    expected = brute_force(docs, queries)[pairs[:, 0], pairs[:, 1]]
    least = -np.array([len(queries[q]) for q in pairs[:, 0]], dtype=np.float32)
    np.testing.assert_allclose(scores, np.maximum(expected, least), atol=1e-4)


def test_scores_equal_sentence_transformers_maxsim():
    rng = np.random.default_rng(0)
    docs, queries = [unit(rng, n, 128) for n in (3, 40, 300)], [unit(rng, n, 128) for n in (32, 14)]
    expected = maxsim([torch.from_numpy(q) for q in queries], [torch.from_numpy(d) for d in docs]).numpy()
    numbers, docids = np.divmod(np.arange(6), 3)
    scores = score_pairs(FloatLane(TokenVectors.of(docs)), queries, numbers, docids)
    np.testing.assert_allclose(scores.reshape(2, 3), expected, atol=1e-4)


@settings(deadline=None)
@given(
    scores=st.lists(st.sampled_from([0.0, 1.0, 2.0, -1.0, float("-inf")]), min_size=1, max_size=30),
    k=st.integers(1, 35),
    seed=st.integers(0, 99),
)
def test_ties_go_to_the_greater_rank_also_at_the_cut(scores, k, seed):
    ranks = np.random.default_rng(seed).permutation(len(scores)).astype(np.uint32)
    expected = sorted(
        (i for i in range(len(scores)) if scores[i] > float("-inf")), key=lambda i: (-scores[i], -int(ranks[i]))
    )
    assert top_k(np.array(scores, dtype=np.float32), k, ranks).tolist() == expected[:k]


@settings(deadline=None, max_examples=40)
@given(lengths=st.lists(st.integers(0, 7), min_size=1, max_size=12), columns=st.integers(1, 40), seed=st.integers())
def test_the_segment_max_kernel_equals_its_reference(lengths, columns, seed):
    similarities = np.random.default_rng(abs(seed)).normal(size=(sum(lengths), columns)).astype(np.float32)
    starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    out = np.empty((len(lengths), columns), dtype=np.float32)
    segment_max(similarities, starts, out)
    expected = np.empty_like(out)
    segment_max_reference(similarities, starts, expected)
    np.testing.assert_array_equal(out, expected)


def test_the_widen_kernel_equals_its_reference_for_every_finite_number():
    halves = np.arange(2**16, dtype=np.uint16)
    halves = halves[np.isfinite(halves.view(np.float16))]
    out = np.empty(len(halves), dtype=np.float32)
    widen(halves, out)
    expected = np.empty_like(out)
    widen_reference(halves, expected)
    np.testing.assert_array_equal(out.view(np.uint32), expected.view(np.uint32))


def test_many_queries_are_searched_in_groups_that_bound_the_memory(monkeypatch):
    rng = np.random.default_rng(1)
    docs, queries = [unit(rng, 5, 16) for _ in range(50)], [unit(rng, 4, 16) for _ in range(9)]
    documents, ranks = FloatLane(TokenVectors.of(docs)), np.arange(50, dtype=np.uint32)
    whole = list(search_exact(documents, queries, 10, ranks))
    monkeypatch.setattr(search, "_SCORES_BYTES", 4 * 50 * 2)
    for (docids, scores), (expected_docids, expected) in zip(
        search_exact(documents, queries, 10, ranks), whole, strict=True
    ):
        assert docids.tolist() == expected_docids.tolist()
        np.testing.assert_allclose(scores, expected, atol=1e-5)


def test_float16_storage_moves_a_score_by_less_than_5e_3():
    rng = np.random.default_rng(2)
    docs, queries = [unit(rng, 200, 128) for _ in range(20)], [unit(rng, 64, 128)]
    halves = FloatLane(TokenVectors.of([d.astype(np.float16) for d in docs]))
    numbers = np.zeros(20, dtype=np.int64)
    exact = score_pairs(FloatLane(TokenVectors.of(docs)), queries, numbers, np.arange(20))
    assert np.abs(score_pairs(halves, queries, numbers, np.arange(20)) - exact).max() < 5e-3


@pytest.mark.parametrize("k", [1, 3])
def test_a_collection_of_one_document_of_one_token(k):
    documents = FloatLane(TokenVectors.of([np.eye(1, 16, dtype=np.float32)]))
    ((docids, scores),) = search_exact(documents, [np.eye(2, 16, dtype=np.float32)], k, np.zeros(1, dtype=np.uint32))
    assert docids.tolist() == [0]
    assert scores.tolist() == [1.0]
