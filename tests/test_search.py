"""Exact MaxSim, against brute force and Sentence Transformers."""

import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sentence_transformers.util import maxsim

from pyterrier_jacolbert.index import threads
from pyterrier_jacolbert.index.codecs.kernels import float16_to_float32, float16_to_float32_reference
from pyterrier_jacolbert.index.codecs.kmeans import cluster
from pyterrier_jacolbert.index.codecs.residual import train_residual_codec
from pyterrier_jacolbert.index.codecs.scalar import Int8Codec
from pyterrier_jacolbert.index.kernels.maxsim import segment_max, segment_max_reference
from pyterrier_jacolbert.index.search import exact, quantized
from pyterrier_jacolbert.index.search.exact import ExactScorer, TokenVectors, search_exact
from pyterrier_jacolbert.index.search.pairs import score_pairs
from pyterrier_jacolbert.index.search.quantized import Int8Scorer, ResidualScorer
from pyterrier_jacolbert.index.search.top_k import top_k
from pyterrier_jacolbert.index.search.two_stage import best_positions, search_two_stage


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
def test_exact_search_equals_brute_force_for_any_block_size(collection, k, block):
    docs, queries = collection
    ranks = np.arange(len(docs), dtype=np.uint32)
    before = exact._BLOCK_TOKENS, exact._BLOCK_COLUMNS
    exact._BLOCK_TOKENS, exact._BLOCK_COLUMNS = block
    try:
        found = list(search_exact(ExactScorer(TokenVectors.of(docs)), queries, k, ranks))
    finally:
        exact._BLOCK_TOKENS, exact._BLOCK_COLUMNS = before
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
    before, exact._GATHERED_DOCUMENTS = exact._GATHERED_DOCUMENTS, together
    try:
        scores = score_pairs(ExactScorer(TokenVectors.of(docs)), queries, pairs[:, 0], pairs[:, 1])
    finally:
        exact._GATHERED_DOCUMENTS = before
    expected = brute_force(docs, queries)[pairs[:, 0], pairs[:, 1]]
    least = -np.array([len(queries[q]) for q in pairs[:, 0]], dtype=np.float32)
    np.testing.assert_allclose(scores, np.maximum(expected, least), atol=1e-4)


def test_scores_equal_sentence_transformers_maxsim():
    rng = np.random.default_rng(0)
    docs, queries = [unit(rng, n, 128) for n in (3, 40, 300)], [unit(rng, n, 128) for n in (32, 14)]
    expected = maxsim([torch.from_numpy(q) for q in queries], [torch.from_numpy(d) for d in docs]).numpy()
    numbers, docids = np.divmod(np.arange(6), 3)
    scores = score_pairs(ExactScorer(TokenVectors.of(docs)), queries, numbers, docids)
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


def test_float16_to_float32_equals_its_reference_for_all_numbers():
    halves = np.arange(2**16, dtype=np.uint16)
    halves = halves[np.isfinite(halves.view(np.float16))]
    out = np.empty(len(halves), dtype=np.float32)
    float16_to_float32(halves, out)
    expected = np.empty_like(out)
    float16_to_float32_reference(halves, expected)
    np.testing.assert_array_equal(out.view(np.uint32), expected.view(np.uint32))


def test_groups_of_queries_bound_the_memory_of_a_search(monkeypatch):
    rng = np.random.default_rng(1)
    docs, queries = [unit(rng, 5, 16) for _ in range(50)], [unit(rng, 4, 16) for _ in range(9)]
    documents, ranks = ExactScorer(TokenVectors.of(docs)), np.arange(50, dtype=np.uint32)
    whole = list(search_exact(documents, queries, 10, ranks))
    monkeypatch.setattr(exact, "_SCORES_BYTES", 4 * 50 * 2)
    for (docids, scores), (expected_docids, expected) in zip(
        search_exact(documents, queries, 10, ranks), whole, strict=True
    ):
        assert docids.tolist() == expected_docids.tolist()
        np.testing.assert_allclose(scores, expected, atol=1e-5)


def test_float16_changes_a_score_by_less_than_5e_3():
    rng = np.random.default_rng(2)
    docs, queries = [unit(rng, 200, 128) for _ in range(20)], [unit(rng, 64, 128)]
    halves = ExactScorer(TokenVectors.of([d.astype(np.float16) for d in docs]))
    numbers = np.zeros(20, dtype=np.int64)
    expected = score_pairs(ExactScorer(TokenVectors.of(docs)), queries, numbers, np.arange(20))
    assert np.abs(score_pairs(halves, queries, numbers, np.arange(20)) - expected).max() < 5e-3


@pytest.mark.parametrize("k", [1, 3])
def test_a_collection_of_one_document_of_one_token(k):
    documents = ExactScorer(TokenVectors.of([np.eye(1, 16, dtype=np.float32)]))
    ((docids, scores),) = search_exact(documents, [np.eye(2, 16, dtype=np.float32)], k, np.zeros(1, dtype=np.uint32))
    assert docids.tolist() == [0]
    assert scores.tolist() == [1.0]


def clustered(rng, n, dim, centres=60):
    """Returns unit vectors around a few directions with one large dimension in common, like real token vectors."""
    rows = rng.normal(size=(centres, dim))[rng.integers(centres, size=n)] + 0.5 * rng.normal(size=(n, dim))
    rows[:, 3] += 6
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def collection():
    rng = np.random.default_rng(5)
    lengths = rng.integers(0, 40, 600)
    starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    queries = [clustered(rng, n, 32) for n in (1, 7, 32, 33, 70, 12)]
    return clustered(rng, int(starts[-1]), 32), starts, queries


def scorer_of(vectors, starts, compression):
    if compression == "float16":
        return ExactScorer(TokenVectors(vectors.astype(np.float16), starts))
    if compression == "int8":
        codec = Int8Codec(32)
        return Int8Scorer(codec.encode(vectors), starts, codec)
    if compression == "int8 with centroids":
        plain = Int8Codec(32)
        codec = Int8Codec(32, cluster(plain.rotated(plain.encode(vectors)), 128).astype(np.float16))
        return Int8Scorer(codec.encode(vectors), starts, codec)
    codec = train_residual_codec(vectors, compression, 128)
    return ResidualScorer(codec.encode(vectors), starts, codec)


QUANTIZED = ["int8", "int8 with centroids", "4bit", "2bit", "1bit"]


@pytest.mark.parametrize("compression", ["float16", *QUANTIZED])
def test_scorers_score_the_vectors_that_codes_represent(collection, compression):
    vectors, starts, queries = collection
    scorer = scorer_of(vectors, starts, compression)
    decoded = vectors
    if compression.startswith("int8"):
        codec = Int8Codec(32)
        decoded = codec.decode(codec.encode(vectors))
    elif compression != "float16":
        codec = train_residual_codec(vectors, compression, 128)
        decoded = codec.decode(codec.encode(vectors))
    docs = [decoded[first:end] for first, end in zip(starts, starts[1:], strict=False)]
    expected, found = brute_force(docs, queries), scorer.scores(queries)
    np.testing.assert_array_equal(np.isfinite(found), np.isfinite(expected))
    tokens = np.array([len(query) for query in queries])[:, None]
    present = np.isfinite(expected[0])
    # The query is rounded to 8 bits: by at most half of 1/127 of its greatest value in each of 32 dimensions.
    assert np.abs((found[:, present] - expected[:, present]) / tokens).max() < 4e-3


@pytest.mark.parametrize("compression", ["float16", *QUANTIZED])
def test_scores_depend_on_neither_threads_nor_other_queries(collection, compression, monkeypatch):
    vectors, starts, queries = collection
    scorer = scorer_of(vectors, starts, compression)
    whole = scorer.scores(queries)
    docids = np.random.default_rng(0).permutation(len(starts) - 1)[:200]
    if compression == "float16":  # the last bits of a matrix product depend on its size
        np.testing.assert_allclose(scorer.scores(queries[2:3], docids)[0], whole[2, docids], atol=1e-5)
        return
    assert scorer.scores(queries[2:3], docids)[0].tobytes() == whole[2, docids].tobytes()
    monkeypatch.setattr(threads, "thread_count", lambda: 1)
    monkeypatch.setattr(quantized, "_CHUNK_TOKENS", 50)
    assert scorer.scores(queries).tobytes() == whole.tobytes()


@pytest.mark.parametrize("compression", QUANTIZED[1:])
@pytest.mark.parametrize("subset", [False, True])
def test_two_stages_equal_one_with_enough_candidates(collection, compression, subset):
    vectors, starts, queries = collection
    scorer = scorer_of(vectors, starts, compression)
    ranks = np.random.default_rng(1).permutation(600).astype(np.uint32)
    docids = np.sort(np.random.default_rng(2).permutation(600)[:300]) if subset else None
    exact_hits = list(search_exact(scorer, queries, 10, ranks, docids))
    same = list(search_two_stage(scorer, queries, 10, ranks, docids, n_candidates=len(starts)))
    for (found, scores), (expected, expected_scores) in zip(same, exact_hits, strict=True):
        assert found.tolist() == expected.tolist()
        assert scores.tobytes() == expected_scores.tobytes()
    for group in (queries, queries * 5):  # few queries share threads; many queries get one thread each
        few = list(search_two_stage(scorer, group, 10, ranks, docids, n_candidates=150))
        for (found, scores), (expected, expected_scores) in zip(few, exact_hits * (len(group) // 6), strict=True):
            assert (np.diff(scores) <= 0).all()
            both = set(found.tolist()) & set(expected.tolist())
            own, other = (dict(zip(*pair, strict=True)) for pair in ((found, scores), (expected, expected_scores)))
            assert all(own[docid] == other[docid] for docid in both)
            assert len(both) >= 3
            assert docids is None or np.isin(found, docids).all()


@pytest.mark.parametrize("compression", QUANTIZED[1:])
def test_candidates_have_the_best_centroid_scores(collection, compression):
    vectors, starts, queries = collection
    scorer = scorer_of(vectors, starts, compression)
    centroids, ids = scorer._centroids, scorer._centroid_ids
    for query in queries:
        prepared = scorer.prepare(query)
        rotated = query @ (scorer._rotation if compression.startswith("int8") else scorer._codec.rotation)
        docs = [centroids[ids[first:end]] for first, end in zip(starts, starts[1:], strict=False)]
        expected = set(np.argsort(-brute_force(docs, [rotated])[0])[:100].tolist())
        found = best_positions(scorer.centroid_scores(prepared, np.arange(len(docs))), 100)
        assert len(expected & set(found.tolist())) >= 93


@pytest.mark.parametrize("compression", QUANTIZED[1:])
def test_a_probe_selects_documents_of_the_nearest_centroids(collection, compression):
    vectors, starts, queries = collection
    scorer = scorer_of(vectors, starts, compression)
    ids, everything = np.asarray(scorer._centroid_ids), np.arange(len(starts) - 1)
    for query in queries:
        prepared = scorer.prepare(query)
        table = prepared.byte_table.reshape(len(prepared.byte_table), -1)[:, : len(query)].astype(int)
        nearest = {row for column in table.T for row in np.flatnonzero(column >= max(1, np.sort(column)[-2]))}
        centroids = prepared.best_centroids(2)
        assert set(centroids.tolist()) == nearest
        expected = [docid for docid in everything if nearest & set(ids[starts[docid] : starts[docid + 1]].tolist())]
        assert scorer.documents_of_centroids(centroids, everything).tolist() == expected
        third = [docid for docid in expected if docid % 3 == 0]
        assert scorer.documents_of_centroids(centroids, everything[::3]).tolist() == third


@pytest.mark.parametrize("subset", [False, True])
def test_probing_all_centroids_equals_scoring_all_documents(collection, subset):
    vectors, starts, queries = collection
    scorer = scorer_of(vectors, starts, "4bit")
    ranks = np.random.default_rng(1).permutation(600).astype(np.uint32)
    docids = np.sort(np.random.default_rng(2).permutation(600)[:300]) if subset else None
    expected = list(search_two_stage(scorer, queries, 10, ranks, docids, n_candidates=60))
    found = list(search_two_stage(scorer, queries, 10, ranks, docids, n_candidates=60, n_probe=128))
    assert [(a.tolist(), b.tolist()) for a, b in found] == [(a.tolist(), b.tolist()) for a, b in expected]
    few = list(search_two_stage(scorer, queries, 10, ranks, docids, n_candidates=60, n_probe=1))
    assert sum(len(set(a.tolist()) & set(b.tolist())) for (a, _), (b, _) in zip(few, expected, strict=True)) >= 30


def test_ties_with_the_last_candidate_are_candidates():
    scores = np.array([5, -1, 7, 5, 3, 5, 9], dtype=np.int32)
    assert best_positions(scores, 3).tolist() == [0, 2, 3, 5, 6]
    assert best_positions(scores, 2).tolist() == [2, 6]
    assert best_positions(scores, 99).tolist() == [0, 2, 3, 4, 5, 6]


def test_a_centroid_id_out_of_range_is_refused(collection):
    vectors, starts, _ = collection
    codec = train_residual_codec(vectors, "4bit", 128)
    columns = codec.encode(vectors)
    columns["centroid_ids"][7] = 60_000
    with pytest.raises(ValueError, match=r"names centroid 60000 of \d+, so the index is damaged"):
        ResidualScorer(columns, starts, codec)


def test_work_in_threads_keeps_its_order_and_its_errors():
    assert list(threads.in_threads(lambda value: value * 2, range(50))) == list(range(0, 100, 2))
    with pytest.raises(ZeroDivisionError):
        list(threads.in_threads(lambda value: 1 // value, [1, 0]))


def test_an_error_in_a_thread_ends_the_work(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    done = []

    def work(value):
        if value == 1:
            raise KeyboardInterrupt
        time.sleep(0.01)
        done.append(value)

    with pytest.raises(KeyboardInterrupt):
        threads.in_threads(work, range(1000))
    assert len(done) < 10


@pytest.mark.parametrize("count", ["1", "2", "5"])
def test_work_in_threads_may_have_work_in_threads_of_its_own(monkeypatch, count):
    monkeypatch.setenv("OMP_NUM_THREADS", count)

    def work(value):
        return sum(threads.in_threads(lambda other: value * other, range(10)))

    assert list(threads.in_threads(work, range(30))) == [45 * value for value in range(30)]


def test_the_thread_count_is_what_the_environment_says(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert threads.thread_count() == 3
    monkeypatch.setenv("OMP_NUM_THREADS", "4,2")
    assert threads.thread_count() == 4
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert threads.thread_count() >= 1


def test_pairs_of_many_queries_score_as_each_query_alone():
    rng = np.random.default_rng(0)
    rows = unit(rng, 400, 128)
    starts = np.array([0, 0, 3, 150, 151, 400], dtype=np.int64)
    codec = Int8Codec(rows.shape[1])
    scorer = Int8Scorer(codec.encode(rows), starts, codec)
    queries = [unit(rng, int(count), 128) for count in rng.integers(1, 40, 2 * threads.thread_count() + 5)]
    numbers, docids = rng.integers(len(queries), size=200), rng.integers(5, size=200)
    found = score_pairs(scorer, queries, numbers, docids)
    alone = [
        score_pairs(scorer, [queries[query]], np.zeros(1, dtype=np.int64), docids[pair : pair + 1])[0]
        for pair, query in enumerate(numbers)
    ]
    assert found.tolist() == alone
