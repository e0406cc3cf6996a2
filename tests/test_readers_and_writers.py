"""An index that another process changes is read whole, in one of its states, and is not called damaged."""

import itertools
import tarfile
import threading

import lz4.frame
import pytest
from clustered_documents import documents

import pyterrier_jacolbert as pj
from pyterrier_jacolbert.artifacts import base
from pyterrier_jacolbert.artifacts.open import open_index
from pyterrier_jacolbert.building.executors import SerialExecutor
from pyterrier_jacolbert.index.storage.directory import read_consistently

#: Runs of each reader while a thread changes the index.
N_READS = 5


def fail(*_):
    raise ValueError("is damaged")


def test_reading_starts_again_only_if_the_manifest_changed():
    manifests = iter([1, 2, 3])
    assert read_consistently(lambda: next(manifests), lambda manifest: manifest if manifest == 3 else fail()) == 3
    with pytest.raises(ValueError, match="is damaged"):
        read_consistently(lambda: 1, fail)
    with pytest.raises(BlockingIOError, match="while it was read; wait for the process that writes it"):
        read_consistently(itertools.count().__next__, fail)


@pytest.fixture(params=[None, 16], ids=["single", "sharded"])
def index(request, tmp_path):
    executor = None if request.param is None else SerialExecutor(request.param)
    settings = {"compression": "int8", "batch_documents": 16, "executor": executor}
    return pj.JaColBERTIndexer(tmp_path / "i", "somebody/unused", **settings).index(documents(range(40)))


def test_verify_while_the_index_is_compacted(index, monkeypatch):
    index.delete(["文書3"])
    writer, original = open_index(index.path), base.find_damage

    def compact_and_find_damage(*args):
        monkeypatch.setattr(base, "find_damage", original)
        writer.compact()
        return original(*args)

    monkeypatch.setattr(base, "find_damage", compact_and_find_damage)
    index.verify()
    assert index.stats()["deleted"] == 0
    name = next(iter(index.manifest().files.values())).file
    (index.path / name).unlink()
    with pytest.raises(ValueError, match="is damaged.*the file is missing"):
        index.verify()


def test_readers_see_whole_states_while_a_thread_writes(index, tmp_path):
    stop, failures = threading.Event(), []

    def write():
        try:
            writer = open_index(index.path, "somebody/unused")
            for number in itertools.count(100):
                if stop.is_set():
                    break
                writer.append(documents([number])).delete([f"文書{number}"]).compact()
        except Exception as error:
            failures.append(error)

    def package():
        path = opened.build_package(str(tmp_path / "package.tar.lz4"), verbose=False)
        with lz4.frame.open(path) as stream, tarfile.open(fileobj=stream) as content:
            content.extractall(tmp_path / "unpacked", filter="data")
        open_index(tmp_path / "unpacked").verify()

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for _ in range(N_READS):
            opened = open_index(index.path)
            opened.verify()
            assert opened.stats()["documents"] in (40, 41)
            assert len(opened) in (40, 41)
            assert len(opened.token_vectors()) in (40, 41)
            package()
    finally:
        stop.set()
        thread.join()
    assert failures == []
