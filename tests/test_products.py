"""Products and exact scores of a vector depend on nothing but the vector and the query, to the last bit."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyterrier_jacolbert.index.codecs.registry import codec_of
from pyterrier_jacolbert.index.codecs.residual import train_residual_codec
from pyterrier_jacolbert.index.kernels.products import matrix_product
from pyterrier_jacolbert.index.search.exact import ExactScorer, TokenVectors

DRAWS = np.random.default_rng(0)
ROWS = DRAWS.standard_normal((3000, 48)).astype(np.float32)
COLUMNS = DRAWS.standard_normal((48, 200)).astype(np.float32)
PRODUCT = matrix_product(ROWS, COLUMNS)


def test_products_are_those_of_numpy():
    np.testing.assert_allclose(PRODUCT, ROWS.astype(np.float64) @ COLUMNS.astype(np.float64), atol=1e-4)
    assert matrix_product(ROWS[:0], COLUMNS).shape == (0, 200)
    assert matrix_product(ROWS, COLUMNS[:, :0]).shape == (3000, 0)
    np.testing.assert_array_equal(matrix_product(np.zeros((2, 0)), np.zeros((0, 3))), np.zeros((2, 3)))


@given(st.lists(st.integers(0, 2999), min_size=1, max_size=70), st.lists(st.integers(0, 199), min_size=1, max_size=70))
def test_a_number_depends_on_its_row_and_column_only(rows, columns):
    np.testing.assert_array_equal(matrix_product(ROWS[rows], COLUMNS[:, columns]), PRODUCT[np.ix_(rows, columns)])


@pytest.mark.parametrize("threads", ["1", "2", "3"])
def test_a_number_does_not_depend_on_threads(threads, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", threads)
    np.testing.assert_array_equal(matrix_product(ROWS, COLUMNS), PRODUCT)


@given(st.data())
def test_an_exact_score_depends_on_its_query_and_document_only(data):
    lengths = data.draw(st.lists(st.integers(0, 40), min_size=1, max_size=60))
    texts = [ROWS[first : first + length] for first, length in enumerate(lengths)]
    queries = [COLUMNS.T[first : first + length] for first, length in enumerate(data.draw(LENGTHS))]
    scores = ExactScorer(TokenVectors.of(texts)).scores(queries)
    query, document = data.draw(st.integers(0, len(queries) - 1)), data.draw(st.integers(0, len(texts) - 1))
    alone = ExactScorer(TokenVectors.of([texts[document]])).scores([queries[query]])[0, 0]
    assert alone == scores[query, document]
    rows = texts[document].astype(np.float64)
    expected = (queries[query] @ rows.T).max(axis=1, initial=-np.inf).sum() if len(rows) else -np.inf
    assert alone == pytest.approx(expected, rel=1e-4, abs=1e-4)


LENGTHS = st.lists(st.integers(1, 50), min_size=1, max_size=12)


@pytest.mark.parametrize("compression", ["int8", "4bit"])
def test_a_vector_is_compressed_and_decompressed_by_itself(compression):
    vectors = ROWS / np.linalg.norm(ROWS, axis=1, keepdims=True)
    parameters = train_residual_codec(vectors, compression, 16).parameters() if compression == "4bit" else {}
    codec = codec_of(compression, 48, parameters)
    columns = codec.encode(vectors)
    decoded = codec.decode(columns)
    for first, end in ((0, 1), (17, 50), (2990, 3000)):
        part = codec.encode(vectors[first:end])
        for name, values in part.items():
            np.testing.assert_array_equal(values, columns[name][first:end])
        np.testing.assert_array_equal(codec.decode(part), decoded[first:end])
