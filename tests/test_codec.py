"""Codecs: what comes back is what went in, within the stated error; kernels say what their references say."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pyterrier_jacolbert.index.codecs import kernels
from pyterrier_jacolbert.index.codecs import kmeans as centroids_module
from pyterrier_jacolbert.index.codecs.kmeans import Centroids, cluster, nearest
from pyterrier_jacolbert.index.codecs.registry import codec_of
from pyterrier_jacolbert.index.codecs.residual import lloyd_levels, packed_width, train_residual_codec
from pyterrier_jacolbert.index.codecs.scalar import Float16Codec, Int8Codec, cosine_transform
from pyterrier_jacolbert.index.limits import COMPRESSIONS, check_choice

RESIDUAL = ("4bit", "2bit", "1bit")


def unit(n, dim, seed=0, clusters=None):
    """Unit rows: around a few directions, as token vectors are, or in all directions."""
    generator = np.random.default_rng(seed)
    rows = generator.standard_normal((n, dim))
    if clusters:
        rows = generator.standard_normal((clusters, dim))[generator.integers(clusters, size=n)] + 0.4 * rows
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@settings(deadline=None)
@given(hnp.arrays(np.float32, st.tuples(st.integers(0, 9), st.integers(1, 40)), elements=st.floats(-1, 1, width=32)))
def test_int8_keeps_the_length_and_nearly_the_direction(vectors):
    codec = Int8Codec(vectors.shape[1])
    columns = codec.encode(vectors)
    assert {name: (c.dtype.str, c.shape[1:]) for name, c in columns.items()} == {
        name: (column.dtype, column.row_shape) for name, column in codec.columns.items()
    }
    decoded = codec.decode(columns)
    lengths = np.linalg.norm(vectors, axis=1)
    # A scale is a float16, and at its least 6e-8 times up to 127.
    np.testing.assert_allclose(np.linalg.norm(decoded, axis=1), lengths, rtol=1e-3, atol=1e-4)
    # Rounded by at most half a step of 1/127 of the largest number, in each dimension.
    bound = lengths / 127 * np.sqrt(vectors.shape[1]) / 2 * 1.1 + lengths * 1e-3 + 1e-4
    assert (np.linalg.norm(decoded - vectors, axis=1) <= bound).all()
    for row in range(len(vectors)):
        alone = codec.encode(vectors[row : row + 1])
        assert alone["codes"].tobytes() == columns["codes"][row].tobytes()
        assert alone["scales"][0] == columns["scales"][row]


def test_int8_bits_are_not_wasted_on_one_large_number():
    vectors = unit(500, 128)
    vectors[:, 5] = 2
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    codec = Int8Codec(128)
    error = np.linalg.norm(codec.decode(codec.encode(vectors)) - vectors, axis=1).mean()
    step = np.abs(vectors).max(axis=1, keepdims=True) / 127
    assert error < np.linalg.norm(np.rint(vectors / step) * step - vectors, axis=1).mean() / 2


@pytest.mark.parametrize("dim", [1, 2, 13, 96, 128])
def test_the_cosine_transform_is_a_rotation(dim):
    rotation = cosine_transform(dim)
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(dim), atol=2e-6)
    assert np.array_equal(rotation, cosine_transform(dim))


@given(hnp.arrays(np.float32, st.tuples(st.integers(0, 9), st.integers(1, 40)), elements=st.floats(-1, 1, width=32)))
def test_float16_rounds(vectors):
    codec = Float16Codec(vectors.shape[1])
    assert np.array_equal(codec.decode(codec.encode(vectors)), vectors.astype(np.float16).astype(np.float32))


@pytest.mark.parametrize("compression", RESIDUAL)
@pytest.mark.parametrize("dim", [16, 24, 96, 128, 13])
def test_residual_codes_are_unit_vectors_near_their_own(compression, dim):
    vectors = unit(3000, dim, clusters=40)
    codec = train_residual_codec(vectors, compression, 64)
    columns = codec.encode(vectors)
    for name, column in codec.columns.items():
        assert columns[name].dtype.str == column.dtype
        assert columns[name].shape == (3000, *column.row_shape)
    assert sum(column.row_bytes for column in codec.columns.values()) == packed_width(dim, codec.bits) + 4
    decoded = codec.decode(columns)
    cosines = (decoded * vectors).sum(axis=1) / np.linalg.norm(decoded, axis=1)
    off = np.abs(np.linalg.norm(decoded, axis=1) - 1)
    assert np.quantile(off, 0.99) < 0.004  # factors beyond the sample's quantiles are clipped
    assert off.max() < 0.1
    assert cosines.mean() > {4: 0.998, 2: 0.98, 1: 0.94}[codec.bits]
    again = codec_of(compression, dim, codec.parameters())
    assert np.array_equal(again.decode(columns), decoded)


def test_more_bits_are_nearer():
    vectors = unit(2000, 64, clusters=20)
    errors = []
    for compression in ("int8", *RESIDUAL):
        codec = Int8Codec(64) if compression == "int8" else train_residual_codec(vectors, compression, 32)
        errors.append(float(((codec.decode(codec.encode(vectors)) - vectors) ** 2).sum(axis=1).mean()))
    assert errors == sorted(errors)
    assert errors[0] < 2e-3


@pytest.mark.parametrize("compression", RESIDUAL)
def test_a_row_s_code_depends_on_its_vector_alone(compression):
    vectors = unit(700, 32, clusters=10)
    codec = train_residual_codec(vectors, compression, 16)
    whole = codec.encode(vectors)
    order = np.random.default_rng(1).permutation(700)
    for part in (order[:1], order[1:350], order[350:]):
        for name, rows in codec.encode(vectors[part]).items():
            assert np.array_equal(rows, whole[name][part]), name


@pytest.mark.parametrize("compression", RESIDUAL)
@pytest.mark.parametrize(
    "sample",
    [
        np.empty((0, 16), dtype=np.float32),
        unit(1, 16),
        unit(3, 16),
        np.repeat(unit(1, 16), 500, axis=0),
        np.zeros((5, 16), dtype=np.float32),
        np.eye(16, dtype=np.float32),
    ],
    ids=["none", "one", "three", "identical", "zeros", "basis"],
)
def test_any_sample_makes_a_codec(compression, sample):
    codec = train_residual_codec(sample, compression, 64)
    for vectors in (sample, unit(50, 16, seed=3)):
        decoded = codec.decode(codec.encode(vectors))
        assert decoded.shape == vectors.shape
        assert np.isfinite(decoded).all()
    if len(sample) and sample.any():
        np.testing.assert_allclose(codec.decode(codec.encode(sample)), sample, atol=2e-3)


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 2, 4]), st.integers(1, 33), st.integers(0, 20))
def test_kernels_equal_their_references(seed, bits, dim, n):
    generator = np.random.default_rng(seed)
    vectors, centroids = unit(n, dim, seed), unit(7, dim, seed + 1)
    ids = generator.integers(7, size=n).astype(np.uint16)
    stds = generator.uniform(0.1, 1, dim).astype(np.float32)
    levels = np.sort(generator.standard_normal(2**bits)).astype(np.float32)
    codes = np.empty((n, packed_width(dim, bits)), dtype=np.uint8)
    sums = np.empty((n, 5), dtype=np.float32)
    tables = kernels.ResidualTables(centroids, stds, levels, bits)
    kernels.quantize_residuals(vectors, ids, tables, codes, sums)
    expected, products = np.empty_like(codes), np.empty_like(sums)
    kernels.quantize_residuals_reference(vectors, ids, tables, expected, products)
    assert (codes != expected).sum() <= 1  # a number may fall on the middle between two levels
    if np.array_equal(codes, expected):
        np.testing.assert_allclose(sums, products, atol=1e-5)
    factors = kernels.TokenFactors(*(generator.uniform(0.5, 2, n).astype(np.float32) for _ in range(2)))
    out = np.empty((n, dim), dtype=np.float32)
    kernels.dequantize_residuals(codes, ids, factors, tables, out)
    reference = np.empty_like(out)
    kernels.dequantize_residuals_reference(codes, ids, factors, tables, reference)
    np.testing.assert_allclose(out, reference, rtol=1e-5, atol=1e-6)


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(1, 20))
def test_the_int8_kernel_equals_its_reference(seed, dim, n):
    vectors, rotation = unit(n, dim, seed), cosine_transform(dim)
    vectors[0] = 0
    codes, scales = np.empty((n, dim), dtype=np.uint8), np.empty(n, dtype=np.float32)
    kernels.quantize_int8(vectors, rotation, codes, scales)
    expected, expected_scales = np.empty_like(codes), np.empty_like(scales)
    kernels.quantize_int8_reference(vectors, rotation, expected, expected_scales)
    # A number may fall on the middle between two codes.
    assert (np.abs(codes.astype(int) - expected) <= 1).all()
    assert (codes != expected).mean() < 0.05
    np.testing.assert_allclose(scales, expected_scales, rtol=1e-2)


def test_the_nearest_centroid_is_the_nearest_but_for_rounding():
    vectors, centroids = unit(500, 48, clusters=30), unit(100, 48, seed=5) * np.linspace(0.5, 1, 100)[:, None]
    centroids = centroids.astype(np.float32)
    distances = ((vectors[:, None] - centroids[None]) ** 2).sum(axis=2)
    chosen = nearest(vectors, centroids)
    assert (distances[np.arange(500), chosen] - distances.min(axis=1)).max() < 0.02


@pytest.mark.parametrize("columns", [1, 31, 32, 333])
def test_argmax_equals_its_reference(columns):
    import torch

    products = torch.randn(50, columns, generator=torch.Generator().manual_seed(columns)).bfloat16()
    products[:, columns // 2] = products[:, -1]  # ties
    products = products.view(torch.int16).numpy()
    bias = np.random.default_rng(0).integers(-1, 2, columns).astype(np.float32)
    places, greatest = np.empty(50, dtype=np.uint16), np.empty(50, dtype=np.float32)
    kernels.argmax_rows(products, bias, places, greatest)
    expected_places, expected_greatest = np.empty_like(places), np.empty_like(greatest)
    kernels.argmax_rows_reference(products, bias, expected_places, expected_greatest)
    np.testing.assert_array_equal(places, expected_places)
    np.testing.assert_array_equal(greatest, expected_greatest)


def test_the_nearest_of_many_centroids_is_nearly_always_found(monkeypatch):
    vectors = unit(4000, 32, clusters=200)
    centroids = cluster(vectors, 1000)
    exact = nearest(vectors, centroids)
    monkeypatch.setattr(centroids_module, "_MAX_FLAT_CENTROIDS", 500)
    finder = Centroids(centroids)
    assert len(finder._groups) == 31
    found = finder.nearest(vectors)
    assert (found == exact).mean() > 0.97
    errors = [((vectors - centroids[numbers]) ** 2).sum() for numbers in (exact, found)]
    assert errors[1] < 1.01 * errors[0]
    monkeypatch.setattr(centroids_module, "_SORTED_ROWS", 7)
    monkeypatch.setattr(centroids_module, "_PRODUCT_ROWS", 5)
    np.testing.assert_array_equal(finder.nearest(vectors[:100]), found[:100])
    assert finder.nearest(vectors[:0]).shape == (0,)


def test_many_centroids_are_found_in_groups_nearly_as_well(monkeypatch):
    vectors = unit(8000, 16, clusters=300)
    errors = []
    for at_once in (1024, 100):
        monkeypatch.setattr(centroids_module, "_MAX_ONE_STEP_CENTROIDS", at_once)
        centroids = cluster(vectors, 400)
        assert 390 <= len(centroids) <= 400
        errors.append(((vectors - centroids[nearest(vectors, centroids)]) ** 2).sum())
    assert errors[1] < 1.3 * errors[0]  # groups that cut across the 300 clusters cost something
    assert len(cluster(np.repeat(vectors[:3], 500, axis=0), 400)) <= 400


def test_clustering_is_the_same_every_time_and_lowers_the_error():
    vectors = unit(4000, 32, clusters=50)
    one, other = cluster(vectors, 50, seed=3), cluster(vectors, 50, seed=3)
    assert np.array_equal(one, other)
    random = vectors[:50]
    error = [((vectors - c[nearest(vectors, c)]) ** 2).sum() for c in (one, random)]
    assert error[0] < 0.7 * error[1]


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_lloyd_s_levels_for_a_normal_distribution(bits):
    # The least mean squared errors are Max's, "Quantizing for minimum distortion", 1960, table 1.
    values = np.random.default_rng(0).standard_normal(200_000)
    levels = lloyd_levels(values, bits, rounds=100)
    error = (np.abs(values[:, None] - levels[None]).min(axis=1) ** 2).mean()
    assert error == pytest.approx({1: 0.3634, 2: 0.1175, 4: 0.009497}[bits], rel=0.03)


def test_an_unknown_compression_names_those_there_are():
    with pytest.raises(ValueError, match="compression must be one of 'auto', 'float16', 'int8', '4bit'.*not '3bit'"):
        check_choice("compression", "3bit", ("auto", *COMPRESSIONS))
    for name in COMPRESSIONS:
        check_choice("compression", name, COMPRESSIONS)
