"""An index that began small and was appended to is as good as one that was built of all documents at once."""

import contextlib
import shutil

import numpy as np
import pandas as pd
import pytest
from power_cuts import PowerCut, count_calls, power_cut_after

import pyterrier_jacolbert as pj
from pyterrier_jacolbert.index import retraining
from pyterrier_jacolbert.index.codecs import training
from pyterrier_jacolbert.index.storage.atomic import replace_json
from pyterrier_jacolbert.index.storage.directory import META_FILE

DIM = 32


def unit_rows(seed, n):
    """Unit rows around eight centres of their own, so that a codec that was trained on others fits them badly."""
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((8, DIM))[rng.integers(8, size=n)] + 0.4 * rng.standard_normal((n, DIM))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def documents(numbers):
    return [{"docno": f"d{i}", "doc_embs": unit_rows(i, 5 + i % 9)} for i in numbers]


COPIES = [{"docno": f"copy{i}", "doc_embs": np.tile(unit_rows(1, 1), (6, 1))} for i in range(4)]
EMPTY = [{"docno": "empty", "doc_embs": np.empty((0, DIM), dtype=np.float32)}]
#: Steps in which the same documents are indexed, by the way the index begins.
BEGINNINGS = {
    "one document": [documents(range(1)), documents(range(1, 41))],
    "an empty document": [EMPTY, documents(range(41))],
    "copies of a document": [COPIES, documents(range(30)), documents(range(30, 41))],
    "document by document": [documents([i]) for i in range(12)],
    "nothing new": [documents(range(41)), EMPTY],
}


def indexer(path, **settings):
    return pj.JaColBERTIndexer(path, "somebody/unused", **{"compression": "4bit", **settings})


def build_and_append(path, steps, **settings):
    index = indexer(path, **settings).index(steps[0])
    for step in steps[1:]:
        index.append(step)
    return index


def arrays(index):
    reader = index.token_vectors()
    names, name_starts = reader.docnos.arrays
    named = {"starts": reader.starts, "docno_bytes": names, "docno_starts": name_starts, "raw": reader.raw}
    return {**reader.columns, **reader.parameters, **named}


def assert_same_arrays(index, other):
    expected = arrays(other)
    for name, array in arrays(index).items():
        np.testing.assert_array_equal(array, expected[name], err_msg=name)
    assert index.meta()["training"] == other.meta()["training"]
    index.verify()


@pytest.mark.parametrize("compression", ["4bit", "2bit", "1bit"])
@pytest.mark.parametrize("beginning", BEGINNINGS)
def test_small_index_grows_into_that_of_a_single_build(tmp_path, beginning, compression):
    steps = BEGINNINGS[beginning]
    index = build_and_append(tmp_path / "steps", steps, compression=compression, n_centroids=16)
    whole = build_and_append(tmp_path / "whole", [sum(steps, [])], compression=compression, n_centroids=16)
    assert_same_arrays(index, whole)
    assert_same_arrays(pj.JaColBERTIndex(index.path), whole)
    queries = pd.DataFrame({"qid": ["1", "2"], "query_embs": [unit_rows(100, 8), unit_rows(101, 8)]})
    pd.testing.assert_frame_equal(index.retriever()(queries), whole.retriever()(queries))


LIMITS = {"RETRAINED_TOKENS": 100, "KEPT_TOKENS": 1000}


@pytest.fixture
def low_limits(monkeypatch):
    """Limits that a few documents cross."""
    for name, value in LIMITS.items():
        monkeypatch.setattr(training, name, value)


def mean_squared_error(index, docs):
    vectors = np.concatenate([doc["doc_embs"] for doc in docs])
    return float(((index.token_vectors().rows(0, len(docs)) - vectors) ** 2).sum(axis=1).mean())


def related_documents(numbers):
    """Documents of one collection, whose vectors lie around the same centres."""
    centres = np.random.default_rng(0).standard_normal((24, DIM))
    docs = []
    for number in numbers:
        rng = np.random.default_rng(number)
        rows = centres[rng.integers(24, size=5 + number % 9)] + 0.6 * rng.standard_normal((5 + number % 9, DIM))
        docs.append({"docno": f"d{number}", "doc_embs": rows / np.linalg.norm(rows, axis=1, keepdims=True)})
    return docs


@pytest.mark.parametrize("compression", ["4bit", "1bit"])
def test_error_of_a_growing_index_stays_near_that_of_one_build(tmp_path, compression, low_limits):
    docs = related_documents(range(160))
    index, whole = indexer(tmp_path / "i", compression=compression).index(docs[:3]), tmp_path / "whole"
    for first, end in ((3, 20), (20, 70), (70, 73), (73, 110), (110, 160)):
        index.append(docs[first:end])
        built = indexer(whole, compression=compression, mode="overwrite").index(docs[:end])
        assert mean_squared_error(index, docs[:end]) < 1.21 * mean_squared_error(built, docs[:end]), end
    assert index.token_vectors().raw is None
    index.verify()


@pytest.mark.parametrize("n_copies", [20, 300])
def test_index_that_began_with_near_copies_is_trained_again(tmp_path, n_copies, low_limits):
    rng = np.random.default_rng(5)
    near_copies = [
        {"docno": f"copy{i}", "doc_embs": unit_rows(1, 6) + 1e-4 * rng.standard_normal((6, DIM))}
        for i in range(n_copies)
    ]
    docs = related_documents(range(60))
    index = indexer(tmp_path / "i").index(near_copies)
    assert (index.token_vectors().raw is None) == (n_copies == 300)
    assert index.stats()["trained_on"]["error"] < 1e-4
    index.append(docs)
    whole = indexer(tmp_path / "whole").index([*near_copies, *docs])
    everything = [*near_copies, *docs]
    assert mean_squared_error(index, everything) < 1.21 * mean_squared_error(whole, everything)


def test_stats_tell_what_the_codec_was_trained_on(tmp_path, low_limits):
    index = indexer(tmp_path / "i", sample_tokens=150).index(related_documents(range(40)))
    tokens = index.stats()["tokens"]
    trained_on = index.stats()["trained_on"]
    assert (trained_on["tokens"], trained_on["sample"]) == (tokens, 150)
    assert 0 < trained_on["error"] == trained_on["error_now"]
    index.append(related_documents(range(40, 41)))
    assert index.stats()["trained_on"]["tokens"] == tokens  # not outgrown
    assert index.stats()["trained_on"]["error_now"] > 0
    assert indexer(tmp_path / "int8", compression="int8").index(documents(range(2))).stats()["trained_on"] is None
    assert indexer(tmp_path / "f", compression="float16").index(documents(range(2))).stats()["trained_on"] is None
    earlier = index.meta()
    del earlier["training"], earlier["files"]["raw"]
    replace_json(index.path / META_FILE, earlier)
    index = pj.JaColBERTIndex(index.path)
    assert index.stats()["trained_on"] == "unknown"


def test_int8_index_gets_centroids_as_it_grows(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "INT8_CENTROIDS_TOKENS", 300)
    steps = [documents(range(10)), documents(range(10, 30)), documents(range(30, 41))]
    index = build_and_append(tmp_path / "steps", steps, compression="int8")
    assert index.token_vectors().two_stage_scorer is not None
    assert_same_arrays(index, build_and_append(tmp_path / "whole", [sum(steps, [])], compression="int8"))
    index.append(documents(range(50, 53)))
    assert len(index.token_vectors().columns["centroid_ids"]) == index.stats()["tokens"]
    grown = [*sum(steps, []), *documents(range(100, 400))]
    index = build_and_append(tmp_path / "grown", [grown[:41], grown[41:]], compression="int8")
    assert_same_arrays(index, build_and_append(tmp_path / "at once", [grown], compression="int8"))


def test_merged_small_indexes_equal_a_single_build(tmp_path):
    parts = [indexer(tmp_path / str(i), n_centroids=16).index(documents(range(20 * i, 20 * i + 20))) for i in range(2)]
    merged = pj.JaColBERTIndex.merge([part.path for part in parts], tmp_path / "merged")
    assert_same_arrays(merged, indexer(tmp_path / "whole", n_centroids=16).index(documents(range(40))))
    merged = pj.JaColBERTIndex(merged.path, "somebody/unused").append(documents(range(40, 44)))
    assert_same_arrays(merged, indexer(tmp_path / "longer", n_centroids=16).index(documents(range(44))))


def test_compacted_index_keeps_only_the_vectors_that_are_left(tmp_path):
    index = indexer(tmp_path / "i", n_centroids=16).index(documents(range(20)))
    index.delete(["d3", "d7"]).compact()
    index.append(documents(range(20, 25)))
    kept = [doc for doc in documents(range(25)) if doc["docno"] not in ("d3", "d7")]
    assert_same_arrays(index, indexer(tmp_path / "whole", n_centroids=16).index(kept))


def test_append_that_trains_again_discards_a_begun_overwrite(tmp_path):
    index = indexer(tmp_path / "i", n_centroids=16).index(documents(range(20)))

    def failing_documents():
        yield from documents(range(30))
        raise RuntimeError("power")

    with pytest.raises(RuntimeError, match="power"):
        indexer(index.path, mode="overwrite", batch_documents=10).index(failing_documents())
    index.append(documents(range(20, 25)))
    assert_same_arrays(index, indexer(tmp_path / "whole", n_centroids=16).index(documents(range(25))))
    assert not list(index.path.glob("data-*/journal.json"))


@pytest.mark.parametrize(
    ("keeps", "step"),
    [
        pytest.param(True, 1, marks=pytest.mark.slow),
        pytest.param(False, 5, marks=pytest.mark.slow),
        pytest.param(False, 1, marks=pytest.mark.exhaustive),
    ],
)
def test_append_killed_anywhere_leaves_the_old_or_the_new_index(tmp_path, monkeypatch, keeps, step):
    for name, value in LIMITS.items():
        monkeypatch.setattr(training, name, value)
    monkeypatch.setattr(retraining, "_COMPRESSED_ROWS", 100)
    count = 5 if keeps else 58
    start = indexer(tmp_path / "start", n_centroids=8, compression="2bit").index(documents(range(count)))
    appended = documents(range(500, 504 if keeps else 566))
    shutil.copytree(start.path, tmp_path / "new")
    new = pj.JaColBERTIndex(tmp_path / "new", "somebody/unused").append(appended, batch_documents=40)
    assert start.token_vectors().raw is not None
    assert (new.token_vectors().raw is not None) == keeps
    whole = indexer(tmp_path / "whole", n_centroids=8, compression="2bit").index([*documents(range(count)), *appended])
    assert_same_arrays(new, whole)
    events = ("fsync", "replace", "rename", "unlink")
    with count_calls(*events) as calls:
        shutil.copytree(start.path, tmp_path / "counted")
        copied = len(calls)
        pj.JaColBERTIndex(tmp_path / "counted", "somebody/unused").append(appended, batch_documents=40)
    took_effect = []
    for stop in range(0, len(calls) - copied, step):
        directory = tmp_path / f"stopped-{stop}"
        shutil.copytree(start.path, directory)
        index = pj.JaColBERTIndex(directory, "somebody/unused")
        with contextlib.suppress(PowerCut), power_cut_after(stop, *events):
            index.append(appended, batch_documents=40)
        index = pj.JaColBERTIndex(directory, "somebody/unused")
        index.verify()
        took_effect.append(len(index) == len(new))
        if took_effect[-1]:
            assert_same_arrays(index, new)
        else:
            assert_same_arrays(index, start)
            assert_same_arrays(index.append(appended, batch_documents=40), new)
        shutil.rmtree(directory)
    assert sorted(took_effect) == took_effect
    assert set(took_effect) == {False, True}


@pytest.mark.parametrize("compression", ["4bit", "int8"])
def test_sharded_index_that_began_small_equals_a_single_build(tmp_path, monkeypatch, compression):
    monkeypatch.setattr(training, "INT8_CENTROIDS_TOKENS", 380)  # crossed by the last append
    settings = {"compression": compression, "n_centroids": 16, "batch_documents": 16}
    index = pj.ShardedIndex(tmp_path / "i", "somebody/unused").index(documents(range(3)), **settings)
    before = pj.ShardedIndex(index.path)
    rows = before.token_vectors().rows(0, 3)
    index.append(documents(range(3, 40))).delete(["d2"]).append(documents(range(40, 45)))
    whole = indexer(tmp_path / "whole", **settings).index(documents(range(45))).delete(["d2"])
    reader, expected = index.token_vectors(), whole.token_vectors()
    np.testing.assert_array_equal(reader.rows(0, 45), expected.rows(0, 45))
    for name, parameter in expected.parameters.items():
        np.testing.assert_array_equal(reader.parameters[name], parameter)
    assert (reader.two_stage_scorer is None) == (expected.two_stage_scorer is None)
    queries = pd.DataFrame({"qid": ["1", "2"], "query_embs": [unit_rows(100, 8), unit_rows(101, 8)]})
    pd.testing.assert_frame_equal(index.retriever()(queries), whole.retriever()(queries))
    assert index.stats()["trained_on"] == whole.stats()["trained_on"]
    np.testing.assert_array_equal(before.token_vectors().rows(0, 3), rows)  # it keeps what it opened
    index.verify()
    index.replace_shard(2, documents(range(60, 70)))
    assert len(index) == 49
    index.compact().verify()
    merged = pj.JaColBERTIndex.merge([index.path], tmp_path / "merged")
    np.testing.assert_array_equal(merged.token_vectors().rows(0, 49), index.token_vectors().rows(0, 49))


@pytest.mark.parametrize(
    "step", [pytest.param(19, marks=pytest.mark.slow), pytest.param(1, marks=pytest.mark.exhaustive)]
)
def test_killed_append_to_small_shards_leaves_the_old_or_the_new_index(tmp_path, step):
    settings = {"compression": "2bit", "n_centroids": 8, "batch_documents": 4}
    start = pj.ShardedIndex(tmp_path / "start", "somebody/unused")
    start.index(documents(range(6)), documents_per_shard=4, **settings)
    appended = documents(range(500, 504))
    shutil.copytree(start.path, tmp_path / "new")
    events = ("fsync", "replace", "rename", "unlink")
    with count_calls(*events) as calls:
        new = pj.ShardedIndex(tmp_path / "new", "somebody/unused").append(appended)
    old_rows, new_rows = start.token_vectors().rows(0, 6), new.token_vectors().rows(0, 10)
    took_effect = []
    for stop in range(0, len(calls), step):
        directory = tmp_path / f"stopped-{stop}"
        shutil.copytree(start.path, directory)
        with contextlib.suppress(PowerCut), power_cut_after(stop, *events):
            pj.ShardedIndex(directory, "somebody/unused").append(appended)
        index = pj.ShardedIndex(directory, "somebody/unused")
        index.verify()
        took_effect.append(len(index) == 10)
        if not took_effect[-1]:
            np.testing.assert_array_equal(index.token_vectors().rows(0, 6), old_rows)
            index.append(appended)
            index.verify()
        np.testing.assert_array_equal(index.token_vectors().rows(0, 10), new_rows)
        shutil.rmtree(directory)
    assert set(took_effect) == {False, True}
