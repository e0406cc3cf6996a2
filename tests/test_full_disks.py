"""An update that fails gives its bytes back and leaves its path free; a merge is run again; deleting needs no space."""

import errno
import os
import shutil

import pytest
from clustered_documents import documents
from conformance import contents
from power_cuts import PowerCut, count_calls, power_cut_after

import pyterrier_jacolbert as pj
from pyterrier_jacolbert.artifacts.open import open_index
from pyterrier_jacolbert.building.executors import SerialExecutor
from pyterrier_jacolbert.index import updates

EVENTS = ("fsync", "replace", "rename", "unlink", "rmdir", "mkdir")
pytestmark = pytest.mark.usefixtures("no_fsync")


def build_index(path, numbers, compression="int8", documents_per_shard=None, **settings):
    executor = None if documents_per_shard is None else SerialExecutor(documents_per_shard)
    settings = {"n_centroids": 4 if "bit" in compression else None, "batch_documents": 4, **settings}
    indexer = pj.JaColBERTIndexer(path, "somebody/unused", compression=compression, executor=executor, **settings)
    return indexer.index(documents(numbers))


@pytest.fixture(params=[None, 8], ids=["single", "sharded"])
def index(request, tmp_path):
    return build_index(tmp_path / "i", range(20), documents_per_shard=request.param).delete(["文書3"])


def fail_after(docs, error):
    yield from docs
    raise error


def test_failed_append_gives_its_bytes_back_at_once(index):
    before = contents(index.path)
    with pytest.raises(RuntimeError, match="network"):
        index.append(fail_after(documents(range(20, 30)), RuntimeError("network")), batch_documents=4)
    with pytest.raises(ValueError, match="already has a document '文書4'"):
        index.append(documents([30, 31, 32, 33, 4]), batch_documents=4)
    assert contents(index.path) == before


@pytest.mark.parametrize("name", ["append", "compact", "delete"])
def test_full_disk_at_any_call_gives_the_bytes_back(index, name, monkeypatch):
    def update(opened):
        if name == "append":
            opened.append(documents(range(20, 30)), batch_documents=4)
        else:
            opened.delete(["文書5"]) if name == "delete" else opened.compact()

    before = contents(index.path)
    shutil.copytree(index.path, index.path.with_name("counted"))
    with count_calls("fsync") as calls:
        update(open_index(index.path.with_name("counted"), "somebody/unused"))
    for stop in range(0, len(calls), 1 + len(calls) // 8):
        remaining = iter(range(stop))

        def fail_once(_, remaining=remaining):
            if next(remaining, None) is None:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", fail_once)
            with pytest.raises(OSError, match="space"):
                update(open_index(index.path, "somebody/unused"))
        if open_index(index.path).meta()["generation"] == 2:
            assert contents(index.path) == before, stop
        else:  # the disk was full after the manifest had been replaced
            break
    open_index(index.path).verify()


def test_delete_frees_what_a_killed_append_left(tmp_path):
    index = build_index(tmp_path / "i", range(20))
    before = {name: len(content) for name, content in contents(index.path).items()}
    with pytest.raises(PowerCut), power_cut_after(60, *EVENTS):
        index.append(documents(range(20, 60)), batch_documents=4)
    assert any(len(content) > before.get(name, 0) for name, content in contents(index.path).items())
    open_index(index.path).delete(["文書3"])
    after = {name: len(content) for name, content in contents(index.path).items()}
    assert {name: size for name, size in after.items() if name in before and name.name != "pt_meta.json"} == {
        name: size for name, size in before.items() if name.name != "pt_meta.json"
    }
    open_index(index.path).verify()


@pytest.mark.parametrize("step", [pytest.param(1, marks=pytest.mark.exhaustive), 17])
@pytest.mark.parametrize("compression", ["int8", "4bit"])
def test_a_merge_killed_anywhere_is_run_again(tmp_path, compression, step, monkeypatch):
    monkeypatch.setattr(updates, "_COPIED_DOCUMENTS", 5)
    paths = [
        build_index(tmp_path / "a", range(12), compression).delete(["文書3"]).path,
        build_index(tmp_path / "b", range(12, 24), compression, documents_per_shard=8).path,
    ]
    with count_calls(*EVENTS) as calls:
        pj.JaColBERTIndex.merge(paths, tmp_path / "whole")
    expected, outcomes = contents(tmp_path / "whole"), set()
    for stop in range(0, len(calls), step):
        out = tmp_path / "merged"
        with pytest.raises(PowerCut), power_cut_after(stop, *EVENTS):
            pj.JaColBERTIndex.merge(paths, out)
        outcomes.add(pj.JaColBERTIndex(out).built())
        if pj.JaColBERTIndex(out).built():
            with pytest.raises(FileExistsError):
                pj.JaColBERTIndex.merge(paths, out)
        else:
            pj.JaColBERTIndex.merge(paths, out)
            assert contents(out) == expected, stop
        pj.JaColBERTIndex(out).verify()
        shutil.rmtree(out)
    assert False in outcomes


@pytest.mark.parametrize("compression", ["int8", "4bit"])
def test_a_merge_of_other_indexes_replaces_an_interrupted_one(tmp_path, compression):
    a, b, c = (build_index(tmp_path / name, numbers, compression) for name, numbers in (
        ("a", range(12)), ("b", range(12, 24)), ("c", range(30, 42)),
    ))  # fmt: skip
    with pytest.raises(PowerCut), power_cut_after(50, *EVENTS):
        pj.JaColBERTIndex.merge([a.path, b.path], tmp_path / "out")
    assert not pj.JaColBERTIndex(tmp_path / "out").built()
    with pytest.raises(ValueError, match="was started with .*; give the same settings"):
        build_index(tmp_path / "out", range(12), compression, mode="resume")
    merged = pj.JaColBERTIndex.merge([a.path, c.path], tmp_path / "out")
    expected = pj.JaColBERTIndex.merge([a.path, c.path], tmp_path / "whole")
    assert contents(merged.path) == contents(expected.path)


def test_an_interrupted_build_is_not_replaced_by_a_merge(tmp_path):
    a = build_index(tmp_path / "a", range(12))
    indexer = pj.JaColBERTIndexer(tmp_path / "out", "somebody/unused", compression="int8", batch_documents=4)
    with pytest.raises(RuntimeError):
        indexer.index(fail_after(documents(range(8)), RuntimeError("network")))
    with pytest.raises(FileExistsError, match="holds an interrupted build"):
        pj.JaColBERTIndex.merge([a.path], tmp_path / "out")


def test_full_disk_during_a_copying_merge_leaves_its_path_free(tmp_path, monkeypatch):
    a = build_index(tmp_path / "a", range(12))

    def fill_disk(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(updates, "write_docno_tables", fill_disk)
        with pytest.raises(OSError, match="space"):
            pj.JaColBERTIndex.merge([a.path], tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert len(pj.JaColBERTIndex.merge([a.path], tmp_path / "out")) == 12
