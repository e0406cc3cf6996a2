"""On Ray: the bytes do not depend on the number of workers, dead processes are restarted, and nothing is lost."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
from clustered_documents import DIM, documents, queries
from conformance import contents

import pyterrier_jacolbert as pj
from pyterrier_jacolbert.building.executors import SerialExecutor
from pyterrier_jacolbert.distributed import RayExecutor, RayRetriever
from pyterrier_jacolbert.index.codecs import training

N_DOCUMENTS = 200
SETTINGS = {"compression": "4bit", "n_centroids": 16, "batch_documents": 16, "sample_tokens": 500}


@pytest.fixture(scope="module")
def topics():
    return queries()


@pytest.fixture(scope="module")
def ray():
    ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'pyterrier-jacolbert[ray]'")
    ray.init("local", num_cpus=4, include_dashboard=False, log_to_driver=False)  # never a cluster that is running
    yield ray
    ray.shutdown()


@pytest.fixture(scope="module")
def sharded(tmp_path_factory):
    """A sharded index that was built in this process."""
    path = tmp_path_factory.mktemp("sharded") / "i"
    indexer = pj.JaColBERTIndexer(path, "somebody/unused", executor=SerialExecutor(64), **SETTINGS)
    return indexer.index(documents(range(N_DOCUMENTS)))


@pytest.fixture(scope="module")
def single(tmp_path_factory):
    """A single index of the same documents."""
    path = tmp_path_factory.mktemp("single") / "i"
    return pj.JaColBERTIndexer(path, "somebody/unused", **SETTINGS).index(documents(range(N_DOCUMENTS)))


def ray_indexer(path, num_workers, **settings):
    executor = RayExecutor(num_workers, documents_per_shard=64)
    return pj.JaColBERTIndexer(path, "somebody/unused", executor=executor, **{**SETTINGS, **settings})


def wait_for_processes(actor_class, seconds=60):
    """Returns the ids of the processes of actors of a class, among those that this process started."""
    psutil = pytest.importorskip("psutil")
    for _ in range(seconds * 2):
        pids = [
            process.pid
            for process in psutil.Process().children(recursive=True)
            if any(part.startswith(f"ray::{actor_class}") for part in process.cmdline())
        ]
        if pids:
            return pids
        time.sleep(0.5)
    raise AssertionError(f"No process of {actor_class} started within {seconds} seconds.")


def test_missing_ray_is_named_with_the_extra_to_install():
    code = (
        "import sys; sys.modules['ray'] = None\n"
        "import pyterrier_jacolbert as pj\n"
        "from pyterrier_jacolbert.distributed import RayExecutor\n"
        "docs = [{'docno': 'a', 'doc_embs': [[1.0, 0.0]]}]\n"
        "import tempfile; path = tempfile.mkdtemp() + '/i'\n"
        "try: pj.JaColBERTIndexer(path, 'some/name', executor=RayExecutor(2)).index(docs)\n"
        "except ImportError as error: print(error)\n"
    )
    process = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True)
    assert "pip install 'pyterrier-jacolbert[ray]'" in process.stdout, process.stderr


def test_invalid_settings_are_refused():
    with pytest.raises(ValueError, match="num_workers must be a positive integer, not 0"):
        RayExecutor(0)
    with pytest.raises(ValueError, match="quality must be one of"):
        RayRetriever(pj.ShardedIndex("i"), quality="best")


@pytest.mark.parametrize("num_workers", [1, 3])
def test_bytes_do_not_depend_on_the_number_of_workers(ray, sharded, tmp_path, num_workers):
    index = ray_indexer(tmp_path / "i", num_workers).index(documents(range(N_DOCUMENTS)))
    assert contents(index.path) == contents(sharded.path)


def test_documents_may_come_from_ray_data(ray, sharded, tmp_path):
    pytest.importorskip("pyarrow", reason="Ray Data needs pyarrow, which is not installed")
    frames = [
        pd.DataFrame(
            [{"docno": doc["docno"], "flat": doc["doc_embs"].ravel()} for doc in documents(range(first, first + 50))]
        )
        for first in range(0, N_DOCUMENTS, 50)
    ]
    ray.data.DataContext.get_current().execution_options.preserve_order = True
    rows = ray.data.from_pandas(frames).map(lambda row: row).iter_rows()
    docs = ({"docno": row["docno"], "doc_embs": row["flat"].reshape(-1, DIM)} for row in rows)
    index = ray_indexer(tmp_path / "i", 2).index(docs)
    assert contents(index.path) == contents(sharded.path)


def test_killed_worker_changes_no_byte(ray, sharded, tmp_path):
    def docs_with_a_kill():
        for number, document in enumerate(documents(range(N_DOCUMENTS))):
            if number == 100:
                os.kill(wait_for_processes("Worker")[0], signal.SIGKILL)
            yield document

    index = ray_indexer(tmp_path / "i", 2).index(docs_with_a_kill())
    assert contents(index.path) == contents(sharded.path)


def test_error_in_a_worker_is_raised_as_it_is(ray, tmp_path):
    docs = documents(range(N_DOCUMENTS))
    docs[180]["doc_embs"] = np.full((2, DIM), np.nan, dtype=np.float32)
    with pytest.raises(ValueError, match="document '文書180' hold NaN or infinity") as caught:
        ray_indexer(tmp_path / "i", 2).index(docs)
    assert any("mode='resume'" in note for note in caught.value.__notes__)


@pytest.mark.parametrize("num_actors", [None, 2])
def test_ray_retriever_ranks_like_a_single_index(ray, single, sharded, topics, num_actors):
    retriever = sharded.ray_retriever(num_results=20, num_actors=num_actors)
    for name, settings in {
        "balanced": {},
        "few candidates": {"n_candidates": 40},
        "few probes": {"n_candidates": 40, "n_probe": 3},
        "exact": {"quality": "exact"},
        "filtered": {"docnos": [f"文書{i}" for i in range(40, 140)], "n_candidates": 30},
    }.items():
        expected = single.retriever(num_results=20)
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


def test_int8_with_centroids_ranks_like_a_single_index(ray, tmp_path, topics, monkeypatch):
    monkeypatch.setattr(training, "INT8_CENTROIDS_TOKENS", 100)
    sharded = ray_indexer(tmp_path / "sharded", 2, compression="int8").index(documents(range(N_DOCUMENTS)))
    indexer = pj.JaColBERTIndexer(tmp_path / "single", "somebody/unused", **{**SETTINGS, "compression": "int8"})
    single = indexer.index(documents(range(N_DOCUMENTS)))
    settings = {"num_results": 10, "n_candidates": 25}
    found = sharded.ray_retriever(num_actors=2, **settings)(topics)
    pd.testing.assert_frame_equal(found, single.retriever(**settings)(topics))


def test_killed_server_processes_are_restarted(ray, single, sharded, topics):
    retriever = sharded.ray_retriever(num_results=20, num_actors=2)
    expected = single.retriever(num_results=20)(topics)
    pd.testing.assert_frame_equal(retriever(topics), expected)
    for pid in wait_for_processes("ShardServer"):
        os.kill(pid, signal.SIGKILL)
    pd.testing.assert_frame_equal(retriever(topics), expected)


def test_missing_shards_raise_or_mark_the_ranking(ray, tmp_path, topics):
    index = ray_indexer(tmp_path / "i", 2).index(documents(range(N_DOCUMENTS)))
    settings = {"num_results": N_DOCUMENTS, "quality": "exact", "num_actors": 2}
    strict, partial = index.ray_retriever(**settings), index.ray_retriever(partial=True, **settings)
    whole = partial(topics)
    assert whole["complete"].all()
    assert list(partial(topics.iloc[:0]).columns) == list(whole.columns)
    assert len(strict(topics)) == len(whole)
    ray.kill(strict._servers._actors[1])  # Ray does not restart this one, so the retriever does
    assert len(strict(topics)) == len(whole)
    (index.path / "shards-1" / "0002").rename(tmp_path / "away")
    ray.kill(strict._servers._actors[1])
    with pytest.raises(RuntimeError, match=r"shards \[1, 3\] of ShardedIndex\(.*0002 is missing.* partial=True"):
        strict(topics)
    ranking = partial(topics)
    assert not ranking["complete"].any()
    lost = {f"文書{i}" for i in (*range(64, 128), *range(192, N_DOCUMENTS))}  # held by the second process
    expected = whole[~whole["docno"].isin(lost)]
    assert ranking[["qid", "docno"]].values.tolist() == expected[["qid", "docno"]].values.tolist()
