"""On Ray: any number of workers makes the same bytes, the dead are raised, and nothing is done twice or lost."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
from conformance import contents

import pyterrier_jacolbert as pj
from pyterrier_jacolbert.executors import SerialExecutor
from pyterrier_jacolbert.index import build as index_build

DIM = 16
CENTRES = np.random.default_rng(7).standard_normal((20, DIM))
COUNT = 200
SETTINGS = {"compression": "4bit", "n_centroids": 16, "shard_documents": 16, "sample_tokens": 500}


def unit(generator, n):
    rows = CENTRES[generator.integers(20, size=n)] + 0.3 * generator.standard_normal((n, DIM))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def documents(numbers):
    vectors = [unit(np.random.default_rng(i), 0 if i % 7 == 6 else 1 + i % 9) for i in numbers]
    return [{"docno": f"文書{i}", "doc_embs": rows} for i, rows in zip(numbers, vectors, strict=True)]


@pytest.fixture(scope="module")
def topics():
    vectors = [unit(np.random.default_rng(1000 + i), 4 + i) for i in range(6)]
    return pd.DataFrame({"qid": [str(i) for i in range(6)], "query_embs": vectors})


@pytest.fixture(scope="module")
def ray():
    ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'pyterrier-jacolbert[ray]'")
    ray.init("local", num_cpus=4, include_dashboard=False, log_to_driver=False)  # whatever else runs
    yield ray
    ray.shutdown()


@pytest.fixture(scope="module")
def serial(tmp_path_factory):
    path = tmp_path_factory.mktemp("serial") / "i"
    return pj.JaColBERTIndexer(path, "somebody/unused", executor=SerialExecutor(64), **SETTINGS).index(
        documents(range(COUNT))
    )


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    path = tmp_path_factory.mktemp("one") / "i"
    return pj.JaColBERTIndexer(path, "somebody/unused", **SETTINGS).index(documents(range(COUNT)))


def on_ray(path, workers, **settings):
    from pyterrier_jacolbert.distributed import RayExecutor

    executor = RayExecutor(workers, documents_per_shard=64)
    return pj.JaColBERTIndexer(path, "somebody/unused", executor=executor, **{**SETTINGS, **settings})


def test_without_ray_a_sentence_says_what_to_install():
    code = (
        "import sys; sys.modules['ray'] = None\n"
        "import pyterrier_jacolbert as pj\n"
        "from pyterrier_jacolbert.distributed import RayExecutor\n"
        "docs = [{'docno': 'a', 'doc_embs': [[1.0, 0.0]]}]\n"
        "import tempfile; path = tempfile.mkdtemp() + '/i'\n"
        "try: pj.JaColBERTIndexer(path, 'some/name', executor=RayExecutor(2)).index(docs)\n"
        "except ImportError as error: print(error)\n"
    )
    found = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True)
    assert "pip install 'pyterrier-jacolbert[ray]'" in found.stdout, found.stderr


def test_settings_are_checked():
    from pyterrier_jacolbert.distributed import RayExecutor, RayRetriever

    with pytest.raises(ValueError, match="num_workers must be a positive integer, not 0"):
        RayExecutor(0)
    with pytest.raises(ValueError, match="quality must be one of"):
        RayRetriever(pj.ShardedIndex("i"), quality="best")


@pytest.mark.parametrize("workers", [1, 3])
def test_any_number_of_workers_makes_the_same_bytes(ray, serial, tmp_path, workers):
    made = on_ray(tmp_path / "i", workers).index(documents(range(COUNT)))
    assert contents(made.path) == contents(serial.path)


def test_documents_may_come_out_of_ray_data(ray, serial, tmp_path):
    pytest.importorskip("pyarrow", reason="Ray Data needs pyarrow, which is not installed")
    frames = [
        pd.DataFrame(
            [{"docno": doc["docno"], "flat": doc["doc_embs"].ravel()} for doc in documents(range(at, at + 50))]
        )
        for at in range(0, COUNT, 50)
    ]
    ray.data.DataContext.get_current().execution_options.preserve_order = True
    rows = ray.data.from_pandas(frames).map(lambda row: row).iter_rows()
    docs = ({"docno": row["docno"], "doc_embs": row["flat"].reshape(-1, DIM)} for row in rows)
    made = on_ray(tmp_path / "i", 2).index(docs)
    assert contents(made.path) == contents(serial.path)


def test_a_worker_that_is_killed_loses_nothing(ray, serial, tmp_path):
    def killing():
        for number, document in enumerate(documents(range(COUNT))):
            if number == 100:
                for worker in workers_of("_Worker")[:1]:
                    os.kill(worker, signal.SIGKILL)
            yield document

    made = on_ray(tmp_path / "i", 2).index(killing())
    assert contents(made.path) == contents(serial.path)


def workers_of(name, wait=60):
    """The processes of a class of actors, among those that this one started."""
    psutil = pytest.importorskip("psutil")
    for _ in range(wait * 2):
        found = [
            process.pid
            for process in psutil.Process().children(recursive=True)
            if any(part.startswith(f"ray::{name}") for part in process.cmdline())
        ]
        if found:
            return found
        time.sleep(0.5)
    raise AssertionError(f"no process of {name} came")


def test_an_error_in_a_worker_is_the_error_that_it_is(ray, tmp_path):
    docs = documents(range(COUNT))
    docs[180]["doc_embs"] = np.full((2, DIM), np.nan, dtype=np.float32)
    with pytest.raises(ValueError, match="document '文書180' hold NaN or infinity") as caught:
        on_ray(tmp_path / "i", 2).index(docs)
    assert any("mode='resume'" in note for note in caught.value.__notes__)


@pytest.mark.parametrize("num_actors", [None, 2])
def test_the_shards_of_a_cluster_rank_as_one_index(ray, one, serial, topics, num_actors):
    retriever = serial.ray_retriever(num_results=20, num_actors=num_actors)
    for name, settings in {
        "balanced": {},
        "few candidates": {"n_candidates": 40},
        "few probes": {"n_candidates": 40, "n_probe": 3},
        "exact": {"quality": "exact"},
        "filtered": {"docnos": [f"文書{i}" for i in range(40, 140)], "n_candidates": 30},
    }.items():
        expected = one.retriever(num_results=20)
        for setting, value in settings.items():
            setattr(retriever, setting, value)
            setattr(expected, setting, value)
        pd.testing.assert_frame_equal(retriever(topics), expected(topics), obj=name)
        for setting in settings:
            setattr(retriever, setting, {"quality": "balanced"}.get(setting))
    cut = (retriever % 5).compile()
    assert cut.num_results == 5
    assert len(cut(topics)) == 30
    assert list(cut(topics.iloc[:0]).columns) == ["qid", "query_embs", "docno", "score", "rank"]


def test_a_dead_process_of_a_search_is_raised(ray, one, serial, topics):
    retriever = serial.ray_retriever(num_results=20, num_actors=2)
    expected = one.retriever(num_results=20)(topics)
    pd.testing.assert_frame_equal(retriever(topics), expected)
    for worker in workers_of("ShardServer"):
        os.kill(worker, signal.SIGKILL)
    pd.testing.assert_frame_equal(retriever(topics), expected)


def test_what_cannot_be_answered_whole_is_an_error_or_marked(ray, tmp_path, topics):
    index = on_ray(tmp_path / "i", 2).index(documents(range(COUNT)))
    strict = index.ray_retriever(num_results=COUNT, quality="exact", num_actors=2)
    lenient = index.ray_retriever(num_results=COUNT, quality="exact", num_actors=2, partial=True)
    whole = lenient(topics)
    assert whole["complete"].all()
    assert list(lenient(topics.iloc[:0]).columns) == list(whole.columns)
    assert len(strict(topics)) == len(whole)
    ray.kill(strict._servers._actors[1])  # Ray does not start this one again, so we do
    assert len(strict(topics)) == len(whole)
    (index.path / "shards-1" / "0002").rename(tmp_path / "away")
    ray.kill(strict._servers._actors[1])
    with pytest.raises(
        RuntimeError,
        match=r"The shards \[1, 3\] of ShardedIndex\(.*\) did not answer \(.*0002 is missing.* partial=True",
    ):
        strict(topics)
    part = lenient(topics)
    assert not part["complete"].any()
    lost = {f"文書{i}" for i in (*range(64, 128), *range(192, COUNT))}  # what the second of the two processes held
    expected = whole[~whole["docno"].isin(lost)]
    assert part[["qid", "docno"]].values.tolist() == expected[["qid", "docno"]].values.tolist()


def test_the_stages_are_those_of_one_process_with_centroids_beside_int8(ray, tmp_path, topics, monkeypatch):
    monkeypatch.setattr(index_build, "INT8_CENTROIDS_TOKENS", 100)
    made = on_ray(tmp_path / "i", 2, compression="int8").index(documents(range(COUNT)))
    other = pj.JaColBERTIndexer(tmp_path / "j", "somebody/unused", **{**SETTINGS, "compression": "int8"})
    expected = other.index(documents(range(COUNT))).retriever(num_results=10, n_candidates=25)(topics)
    found = made.ray_retriever(num_results=10, n_candidates=25, num_actors=2)(topics)
    pd.testing.assert_frame_equal(found, expected)
