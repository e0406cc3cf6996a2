"""Search kernels equal their numpy references, in every layout whose instructions this processor has."""

import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pyterrier_jacolbert.index.codecs.residual import packed_width
from pyterrier_jacolbert.index.codecs.scalar import Int8Codec
from pyterrier_jacolbert.index.kernels import centroid_scores, maxsim
from pyterrier_jacolbert.index.kernels.arguments import Documents, Int8Codes, ResidualCodes
from pyterrier_jacolbert.index.kernels.maxsim import LAYOUTS
from pyterrier_jacolbert.index.kernels.query_layout import TILE_ROWS, TILE_STEP, PackedQuery, pack, unpack
from pyterrier_jacolbert.index.search import inverted_lists as inverted
from pyterrier_jacolbert.index.search.quantized import Int8Scorer

DIMS = (16, 64, 96, 128, 384)


@st.composite
def searches(draw):
    """A generator, document lengths, query length and dim."""
    lengths = draw(st.lists(st.sampled_from([0, 1, 2, 3, 4, 5, 63, 64, 65, 130]), min_size=1, max_size=8))
    lengths += draw(st.sampled_from([[], [1000]]))
    return (
        np.random.default_rng(draw(st.integers(0, 2**32 - 1))),
        np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        draw(st.integers(1, 96)),
        draw(st.sampled_from(DIMS)),
    )


def of_kind(rng, kind, shape):
    """Vectors: unit, all zero, one non-zero number each, or with one number far greater than the others."""
    vectors = rng.standard_normal(shape).astype(np.float32)
    if kind == "zero":
        vectors[:] = 0
    elif kind == "basis":
        vectors[:] = np.eye(shape[1], dtype=np.float32)[rng.integers(shape[1], size=shape[0])]
    elif kind == "spike":
        vectors[:, 0] *= 1000
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)


KINDS = st.sampled_from(["unit", "zero", "basis", "spike"])


def takes(layout, dim):
    return layout != "amx" or dim % TILE_STEP == 0


def whole_tiles(rows):
    """Pads to the 16 rows that a tile needs; the padding must not matter."""
    return np.concatenate([rows, np.full((max(0, TILE_ROWS - len(rows)), *rows.shape[1:]), 255, dtype=rows.dtype)])


def both(kernel, reference, *arguments, n, dtype):
    found, expected = np.empty(n, dtype=dtype), np.empty(n, dtype=dtype)
    kernel(*arguments, found)
    reference(*arguments, expected)
    return found, expected


@settings(deadline=None, max_examples=60)
@given(given_search=searches(), layout=st.sampled_from(LAYOUTS), of_documents=KINDS, of_query=KINDS)
def test_int8_scores_equal_the_reference(given_search, layout, of_documents, of_query):
    rng, starts, tokens, dim = given_search
    assume(takes(layout, dim))
    columns = Int8Codec(dim).encode(of_kind(rng, of_documents, (int(starts[-1]), dim)))
    docids = rng.permutation(len(starts) - 1)
    found, expected = both(
        maxsim.maxsim_int8,
        maxsim.maxsim_int8_reference,
        Int8Codes(whole_tiles(columns["codes"]), columns["scales"].view(np.uint16)),
        Documents(starts, docids),
        PackedQuery.of(of_kind(rng, of_query, (tokens, dim)), layout),
        n=len(docids),
        dtype=np.float32,
    )
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@settings(deadline=None, max_examples=60)
@given(given_search=searches(), layout=st.sampled_from(LAYOUTS), bits=st.sampled_from([4, 2, 1]), of_query=KINDS)
def test_residual_scores_equal_the_reference(given_search, layout, bits, of_query):
    rng, starts, tokens, dim = given_search
    assume(takes(layout, dim))
    n = int(starts[-1])
    query = PackedQuery.of(of_kind(rng, of_query, (tokens, dim)), layout)
    docids = rng.permutation(len(starts) - 1)
    levels = np.zeros(16, dtype=np.uint8)
    levels[: 2**bits] = np.sort(rng.integers(1, 256, 2**bits))
    codes = ResidualCodes(
        residuals=rng.integers(256, size=(n, packed_width(dim, bits))).astype(np.uint8),
        centroid_ids=rng.integers(50, size=n).astype(np.uint16),
        factor_codes=rng.integers(256, size=(n, 2)).astype(np.uint8),
        reconstruction_levels=levels,
        bits=bits,
        length_factors=rng.uniform(0.001, 0.01, 256).astype(np.float32),
        norm_factors=rng.uniform(0.5, 2, 256).astype(np.float32),
    )
    found, expected = both(
        maxsim.maxsim_residual,
        maxsim.maxsim_residual_reference,
        codes,
        Documents(starts, docids),
        query,
        rng.uniform(-1, 1, (50, *query.scales.shape)).astype(np.float32),
        n=len(docids),
        dtype=np.float32,
    )
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-4)


@settings(deadline=None, max_examples=60)
@given(given_search=searches(), layout=st.sampled_from(LAYOUTS), n=st.integers(1, 70), of_query=KINDS)
def test_int8_dot_products_equal_the_reference(given_search, layout, n, of_query):
    rng, _, tokens, dim = given_search
    assume(takes(layout, dim))
    query = PackedQuery.of(of_kind(rng, of_query, (tokens, dim)), layout)
    codes = whole_tiles(rng.integers(1, 256, size=(n, dim)).astype(np.uint8))[:n]
    factors = rng.uniform(0, 0.01, n).astype(np.float32)
    found, expected = (np.zeros((n, *query.scales.shape), dtype=np.float32) for _ in range(2))
    centroid_scores.dot_int8(codes, factors, query, found)
    centroid_scores.dot_int8_reference(codes, factors, query, expected)
    found, expected = (table.reshape(n, -1)[:, :tokens] for table in (found, expected))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@settings(deadline=None, max_examples=60)
@given(given_search=searches(), blocks=st.integers(1, 3))
def test_scores_by_centroids_equal_the_reference(given_search, blocks):
    rng, starts, _, _ = given_search
    docids = rng.permutation(len(starts) - 1)
    ids = rng.integers(300, size=starts[-1]).astype(np.uint16)
    table = rng.integers(256, size=(300, blocks, 32)).astype(np.uint8)
    kernels = centroid_scores.score_centroids, centroid_scores.score_centroids_reference
    found, expected = both(*kernels, ids, Documents(starts, docids), table, n=len(docids), dtype=np.int32)
    np.testing.assert_array_equal(found, expected)


@settings(deadline=None, max_examples=60)
@given(given_search=searches(), n_centroids=st.integers(1, 300), count=st.integers(1, 40))
def test_inverted_lists_and_probes_equal_their_references(given_search, n_centroids, count):
    rng, starts, tokens, _ = given_search
    ids = rng.integers(n_centroids, size=int(starts[-1])).astype(np.uint16)
    lists = inverted.InvertedLists.of(ids, starts, n_centroids)
    counts, docids = np.zeros(n_centroids, dtype=np.int64), np.empty_like(lists.docids)
    last = np.empty(0, dtype=np.int64)
    inverted.count_postings_reference(ids, starts, last, counts)
    assert np.diff(lists.starts).tolist() == counts.tolist()
    inverted.fill_postings_reference(ids, starts, last, lists.starts[:-1].copy(), docids)
    assert lists.docids.tolist() == docids.tolist()
    # Few distinct entries, so that many are equal.
    table = rng.integers(0, rng.integers(1, 256), size=(n_centroids, 96)).astype(np.uint8)
    chosen, expected = (np.zeros(n_centroids, dtype=np.bool_) for _ in range(2))
    inverted.probe(table, tokens, count, chosen)
    inverted.probe_reference(table, tokens, count, expected)
    assert chosen.tolist() == expected.tolist()
    marks = np.zeros(len(starts) - 1, dtype=np.bool_)
    inverted.mark_postings_reference(lists.starts, lists.docids, np.flatnonzero(chosen), marks)
    assert lists.documents(np.flatnonzero(chosen)).tolist() == np.flatnonzero(marks).tolist()


@given(layout=st.sampled_from(["amx", "vnni", "avx2", "generic"]), tokens=st.integers(1, 70), dim=st.integers(1, 40))
def test_packed_queries_hold_the_query_in_any_layout(layout, tokens, dim):
    dim = dim if layout != "amx" else 64 * (1 + dim % 3)
    query = np.random.default_rng(tokens).standard_normal((tokens, dim)).astype(np.float32)
    packed = PackedQuery.of(query, layout)
    codes = unpack(packed.rows).reshape(-1, packed.rows.size // packed.scales.size)
    restored = codes * packed.scales.reshape(-1, 1)
    assert np.abs(restored[:tokens, :dim] - query).max() <= packed.scales.max() / 2 * 1.0001
    assert not restored[tokens:].any()
    assert not restored[:, dim:].any()
    np.testing.assert_array_equal(pack(codes.astype(np.int8), layout), packed.rows)


def test_every_layout_gives_the_same_scores():
    rng = np.random.default_rng(0)
    starts = np.array([0, 30, 37, 200], dtype=np.int64)
    columns = Int8Codec(128).encode(of_kind(rng, "unit", (200, 128)))
    query = of_kind(rng, "unit", (40, 128))
    codes = Int8Codes(columns["codes"], columns["scales"].view(np.uint16))
    scores = []
    for layout in LAYOUTS:
        out = np.empty(3, dtype=np.float32)
        maxsim.maxsim_int8(codes, Documents(starts, np.arange(3)), PackedQuery.of(query, layout), out)
        scores.append(out.tobytes())
    assert len(set(scores)) == 1


@pytest.mark.parametrize(
    ("name", "features", "layouts"),
    [
        ("x86-64", "+sse2", ("generic",)),
        ("haswell", "+sse4.2,+ssse3,+avx,+avx2,+fma", ("avx2", "generic")),
        (
            "icelake-client",
            "+ssse3,+avx,+avx2,+fma,+avx512f,+avx512vl,+avx512bw,+avx512vnni",
            ("vnni", "avx2", "generic"),
        ),
    ],
)
def test_other_processors_get_other_instructions(name, features, layouts):
    """numba compiles for the processor that its variables name; each of these has a subset of this one's features."""
    from llvmlite.binding import get_host_cpu_features

    there = get_host_cpu_features()
    missing = [flag[1:] for flag in features.split(",") if not there.get(flag[1:])]
    if missing:
        pytest.skip(f"this processor has no {', '.join(missing)}")
    environment = {**os.environ, "NUMBA_CPU_NAME": name, "NUMBA_CPU_FEATURES": features}
    code = "from pyterrier_jacolbert.index.kernels.maxsim import LAYOUTS; print(*LAYOUTS)"
    found = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert tuple(found.stdout.split()) == layouts
    tests = ["equal_the_reference", "equal_their_references"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__, "-k", " or ".join(tests)],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-2000:]
    assert "6 passed" in done.stdout


CHECK = """
import numpy as np
from pyterrier_jacolbert.index.kernels import maxsim, llvm
from pyterrier_jacolbert.index.codecs.scalar import Int8Codec
from pyterrier_jacolbert.index.kernels.arguments import Documents, Int8Codes
from pyterrier_jacolbert.index.kernels.query_layout import PackedQuery
rng = np.random.default_rng(0)
starts = np.array([0, 30, 37, 200], dtype=np.int64)
columns = Int8Codec(128).encode(rng.standard_normal((200, 128), dtype=np.float32))
query = PackedQuery.of(rng.standard_normal((40, 128), dtype=np.float32), "vnni")
codes = Int8Codes(columns["codes"], columns["scales"].view(np.uint16))
found, expected = np.empty(3, dtype=np.float32), np.empty(3, dtype=np.float32)
for kernel, out in ((maxsim.maxsim_int8, found), (maxsim.maxsim_int8_reference, expected)):
    kernel(codes, Documents(starts, np.arange(3)), query, out)
np.testing.assert_allclose(found, expected, rtol=1e-5)
print("equal")
"""


def test_vpdpbusd_of_half_the_width_equals_the_reference(tmp_path):
    """vpdpbusd of AVX-VNNI, for processors without AVX-512; those with AVX-512 VL have it, too."""
    from pyterrier_jacolbert.index.kernels.llvm import FEATURES

    if not {"avx512vnni", "avx512vl"} <= FEATURES:
        pytest.skip("this processor has no vpdpbusd of half the width")
    swap = "llvm.FEATURES = llvm.FEATURES - {'avx512vnni'} | {'avxvnni'}\n"
    code = CHECK.replace("rng =", swap + "rng =", 1)
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.stdout == "equal\n", done.stderr


def test_without_numba_numpy_runs_and_warns_once():
    code = "import sys; sys.modules['numba'] = None\n" + CHECK.replace(
        "print", "assert maxsim.maxsim_int8 is maxsim.maxsim_int8_reference\nprint"
    ).replace(", llvm", "").replace('"vnni"', "maxsim.LAYOUTS[0]")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "equal\n", done.stderr
    assert done.stderr.count("numba is not installed") == 1


def test_without_a_writable_cache_kernels_compile_and_warn_once():
    code = "from numba.core import caching; caching.CacheImpl._locator_classes = []\n" + CHECK
    done = subprocess.run(
        [sys.executable, "-c", code.replace('"vnni"', "maxsim.LAYOUTS[0]")], capture_output=True, text=True
    )
    assert done.stdout == "equal\n", done.stderr
    assert done.stderr.count("set NUMBA_CACHE_DIR") == 1


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 70), st.integers(1, 140), st.integers(1, 3), st.integers(0, 2**32 - 1))
def test_matrix_products_equal_the_reference_row_by_row(n, k, blocks, seed):
    rng = np.random.default_rng(seed)
    rows, columns = (rng.standard_normal(shape).astype(np.float32) for shape in ((n, k), (k, 32 * blocks)))
    found, expected, alone = (np.empty((n, 32 * blocks), dtype=np.float32) for _ in range(3))
    centroid_scores.matmul(rows, columns, found)
    centroid_scores.matmul_reference(rows, columns, expected)
    np.testing.assert_allclose(found, expected, atol=1e-5 * k)
    for row in range(n):
        centroid_scores.matmul(rows[row : row + 1], columns, alone[row : row + 1])
    assert alone.tobytes() == found.tobytes()


@pytest.mark.parametrize("refused", ["by the system", "by the processor", "elsewhere"])
def test_amx_is_used_only_with_permission(monkeypatch, refused):
    from pyterrier_jacolbert.index.kernels import amx, llvm

    asked = []

    class Library:
        @staticmethod
        def syscall(*arguments):
            asked.append([argument.value for argument in arguments])
            return -1 if refused == "by the system" else 0

    needed = {"amx-int8", "amx-tile", "avx512f"}
    monkeypatch.setattr(amx.ctypes, "CDLL", lambda name: Library)
    monkeypatch.setattr(amx.sys, "platform", "darwin" if refused == "elsewhere" else "linux")
    monkeypatch.setattr(amx.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(llvm, "FEATURES", needed - {"amx-int8"} if refused == "by the processor" else needed)
    assert not amx.permitted()
    assert asked == ([[158, 0x1023, 18]] if refused == "by the system" else [])
    monkeypatch.setattr(amx.sys, "platform", "linux")
    monkeypatch.setattr(llvm, "FEATURES", needed)
    assert amx.permitted() == (refused != "by the system")


def test_few_tokens_are_read_in_whole_tiles():
    """The collection has fewer tokens than a tile has rows."""
    rng = np.random.default_rng(0)
    starts = np.array([0, 1, 1, 5], dtype=np.int64)
    vectors, query = of_kind(rng, "unit", (5, 128)), of_kind(rng, "unit", (20, 128))
    codec = Int8Codec(128)
    scorer = Int8Scorer(codec.encode(vectors), starts, codec)
    found = scorer.scores([query])[0]
    products = vectors @ query.T
    assert found[1] == -np.inf
    np.testing.assert_allclose(found[[0, 2]], [products[0].sum(), products[1:].max(axis=0).sum()], atol=0.05)
