"""A BM25 index is whole or absent: kills at every file event, full disks, two writers, readers, earlier layouts."""

import contextlib
import json
import multiprocessing
import os
import pickle
import resource
import shutil
import tarfile
import threading
import zipfile
from pathlib import Path

import lz4.frame
import pandas as pd
import pytest
from conformance import contents
from make_indexes import ARCHIVE
from power_cuts import killed_before_event

from pyterrier_jacolbert import JaColBERTIndex, JaColBERTIndexer, JapaneseBM25
from pyterrier_jacolbert.index.bm25_reader import BM25Reader
from pyterrier_jacolbert.index.storage.atomic import META_FILE

OLD = [{"docno": f"old{i}", "text": text} for i, text in enumerate(["富士山は高い山である。", "湖は大きい。", ""])]
NEW = [{"docno": f"new{i}", "text": text} for i, text in enumerate(["山の上の湖", "高い塔", "海と山", "川"])]
TOPICS = pd.DataFrame({"qid": ["1", "2"], "query": ["高い山", "大きい湖"]})

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


def ranking(path):
    return JapaneseBM25(path).retriever()(TOPICS)[["qid", "docno", "score"]].values.tolist()


def index_files(path):
    """Returns the content of the files of an index, without the lock and without the generation."""
    files = {str(name): content for name, content in contents(path).items() if name.name not in (".lock", META_FILE)}
    meta = json.loads((path / META_FILE).read_text(encoding="utf-8"))
    named = {entry["file"]: entry | {"file": ""} for entry in meta.pop("files").values()}
    folder = f"data-{meta.pop('generation')}/"
    meta.pop("digest")
    assert {name for name in files if not name.endswith(".sums")} == {*named}
    assert {name.removesuffix(".sums") for name in files} == {*named}
    flat = {name.removeprefix(folder): content for name, content in files.items()}
    return flat, {name.removeprefix(folder): entry for name, entry in named.items()}, meta


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """Rankings of the old and of the new documents, and the files of an index of the new ones."""
    folder = tmp_path_factory.mktemp("expected")
    old, new = (JapaneseBM25(folder / name).index(docs).path for name, docs in (("old", OLD), ("new", NEW)))
    return ranking(old), ranking(new), index_files(new)


@pytest.fixture
def earlier(tmp_path):
    """An index of an earlier release, whose files are in the folder of the index itself."""
    with zipfile.ZipFile(ARCHIVE) as archive:
        names = [name for name in archive.namelist() if name.startswith("bm25/")]
        archive.extractall(tmp_path, names)
    return tmp_path / "bm25"


@pytest.fixture(autouse=True)
def fast_disk(monkeypatch):
    """Flushes nothing: the files of a killed process are whole without it, and the tests take a third of the time."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


# ------------------------------------------------------------------------------------------------------------- kills

#: Every file event, in the slow tests, and some of them, in the others.
EVENTS = [pytest.param(1, marks=pytest.mark.slow), 11]


@forks
@pytest.mark.parametrize("step", EVENTS)
def test_create_killed_at_every_file_event_can_be_repeated(tmp_path, expected, step):
    for event in range(0, 1000, step):
        path = tmp_path / str(event) / "index"
        killed = killed_before_event(event, lambda path=path: JapaneseBM25(path).index(NEW))
        index = JapaneseBM25(path)
        if index.built():
            index.verify()
        else:
            with pytest.raises(FileNotFoundError, match="There is no index at"):
                index.retriever()(TOPICS)
            index.index(NEW)
        assert ranking(path) == expected[1], event
        if not killed:
            break
        index.index(NEW, mode="overwrite")
        assert index_files(path) == expected[2], event
        assert [entry.name for entry in path.parent.iterdir()] == ["index"]
    assert event > 50


@forks
@pytest.mark.filterwarnings("ignore:.*was built with words of")
@pytest.mark.parametrize("step", EVENTS)
@pytest.mark.parametrize("layout", ["folder", "flat"])
def test_overwrite_killed_at_every_file_event_keeps_one_index(tmp_path, expected, earlier, layout, step):
    found = set()
    if layout == "folder":
        earlier = JapaneseBM25(tmp_path / "old").index(OLD).path
    before = ranking(earlier)
    for event in range(0, 1000, step):
        path = tmp_path / str(event) / "index"
        shutil.copytree(earlier, path)
        (path / "notes.txt").write_text("by the user")
        killed = killed_before_event(event, lambda path=path: JapaneseBM25(path).index(NEW, mode="overwrite"))
        JapaneseBM25(path).verify()
        after = ranking(path)
        assert after in (before, expected[1]), event
        found.add(after == expected[1])
        JapaneseBM25(path).index(NEW, mode="overwrite")
        assert (path / "notes.txt").read_text() == "by the user"
        (path / "notes.txt").unlink()
        assert index_files(path) == expected[2], event
        assert [entry.name for entry in path.parent.iterdir()] == ["index"]
        if not killed:
            break
    assert event > 50
    assert found == {False, True}


@forks
@pytest.mark.parametrize("step", EVENTS)
def test_kill_amid_the_removal_of_a_killed_build_blocks_nothing(tmp_path, expected, step):
    assert killed_before_event(40, lambda: JapaneseBM25(tmp_path / "killed").index(NEW))
    left = {file.parent.name for file in (tmp_path / "killed").glob("data-1/*")}
    assert left == {"data-1"}
    for event in range(0, 60, step):  # the first ones remove it
        path = tmp_path / str(event)
        shutil.copytree(tmp_path / "killed", path)
        assert killed_before_event(event, lambda path=path: JapaneseBM25(path).index(NEW))
        assert index_files(JapaneseBM25(path).index(NEW).path) == expected[2], event


# ------------------------------------------------------------------------------------- full disks and failing documents


def errors_with_small_files(max_file_bytes, action):
    """Returns the error of an action in a child whose files may have only so many bytes; "" if there is none."""
    receiver, sender = multiprocessing.Pipe(duplex=False)

    def limited():
        resource.setrlimit(resource.RLIMIT_FSIZE, (max_file_bytes, max_file_bytes))
        try:
            action()
            sender.send("")
        except OSError as error:
            sender.send(str(error))

    child = multiprocessing.get_context("fork").Process(target=limited)
    child.start()
    child.join()
    assert child.exitcode == 0
    return receiver.recv()


@forks
def test_full_disk_is_named_and_leaves_the_old_index(tmp_path, expected):
    docs = [{"docno": f"document number {i}", "text": f"山{i} 川{i % 7} 海 湖 {i}"} for i in range(300)]
    path = tmp_path / "folder" / "index"
    old = tmp_path / "folder" / "old"
    JapaneseBM25(old).index(OLD)
    before = contents(old)
    needed = max(len(content) for content in contents(JapaneseBM25(tmp_path / "whole").index(docs).path).values())
    for limit in (100, 1000, 4000, needed // 2, needed - 1):
        for index, mode in ((JapaneseBM25(path), "create"), (JapaneseBM25(old), "overwrite")):
            error = errors_with_small_files(limit, lambda index=index, mode=mode: index.index(docs, mode=mode))
            assert "has no space for" in error, (limit, error)
            assert "free some space and try again" in error
        assert [entry.name for entry in path.parent.iterdir()] == ["old"]
        assert contents(old) == before
        assert ranking(old) == expected[0]
    assert errors_with_small_files(needed, lambda: JapaneseBM25(old).index(docs, mode="overwrite")) == ""


@pytest.mark.parametrize("mode", ["create", "overwrite"])
def test_failing_documents_leave_what_was_there(tmp_path, expected, mode):
    def failing():
        yield from NEW[:2]
        raise RuntimeError("the network went away")

    path = tmp_path / "folder" / "index"
    if mode == "overwrite":
        JapaneseBM25(path).index(OLD)
    before = contents(tmp_path)
    with pytest.raises(RuntimeError, match="went away"):
        JapaneseBM25(path).index(failing(), mode=mode)
    assert contents(tmp_path) == before
    assert JapaneseBM25(path).built() == (mode == "overwrite")
    JapaneseBM25(path).index(NEW, mode=mode)
    assert index_files(path) == expected[2]


# ------------------------------------------------------------------------------------------------ two at the same time


def test_second_writer_is_refused_and_loses_nothing(tmp_path, expected):
    path = tmp_path / "index"
    JapaneseBM25(path).index(OLD)
    begun, refused = threading.Event(), threading.Event()

    def slow_documents():
        yield from NEW[:2]
        begun.set()
        assert refused.wait(60)
        yield from NEW[2:]

    first = threading.Thread(target=lambda: JapaneseBM25(path).index(slow_documents(), mode="overwrite"))
    first.start()
    assert begun.wait(60)
    with pytest.raises(BlockingIOError, match=f"{path} is being written by process {os.getpid()} of"):
        JapaneseBM25(path).index(OLD, mode="overwrite")
    assert ranking(path) == expected[0]
    refused.set()
    first.join()
    assert index_files(path) == expected[2]


@pytest.mark.parametrize("opening", ["manifest", "files"])
def test_reader_takes_the_new_index_if_a_writer_replaces_the_old_one(tmp_path, expected, opening, monkeypatch):
    path = tmp_path / "index"
    JapaneseBM25(path).index(OLD)
    opens = []

    def overwrite_and_open(self, *args):
        opens.append(args)
        if opening == "manifest" and len(opens) == 1:
            JapaneseBM25(path).index(NEW, mode="overwrite")
        original(self, *args)
        if opening == "files" and len(opens) == 1:  # mapped files stay
            JapaneseBM25(path).index(NEW, mode="overwrite")

    original = BM25Reader.__init__
    monkeypatch.setattr(BM25Reader, "__init__", overwrite_and_open)
    index = JapaneseBM25(path)
    found = index.retriever()(TOPICS)[["qid", "docno", "score"]].values.tolist()
    assert found == expected[1 if opening == "manifest" else 0]
    assert len(opens) == (2 if opening == "manifest" else 1)
    assert ranking(path) == expected[1]


def test_open_index_is_searched_with_its_own_words(tmp_path):
    docs = [{"docno": "a", "text": "國の歴史"}, {"docno": "b", "text": "国の地図"}]
    index = JapaneseBM25(tmp_path / "index").index(docs)
    assert index.retriever().search("國")["docno"].tolist() == ["a"]
    JapaneseBM25(tmp_path / "index", normalize="kanji", k1=0.5).index(docs, mode="overwrite")
    assert (index.normalize, index.k1) == ((), 1.2)
    assert index.tokenize("國") == ["國"]
    assert index.retriever().search("國")["docno"].tolist() == ["a"]
    assert sorted(JapaneseBM25(tmp_path / "index").retriever().search("國")["docno"]) == ["a", "b"]


def test_rebuilding_the_same_object_shows_the_new_documents(tmp_path, expected):
    index = JapaneseBM25(tmp_path / "index").index(OLD)
    retriever = index.retriever()
    assert retriever(TOPICS)["docno"].str.startswith("old").all()
    index.index(NEW, mode="overwrite")
    assert retriever(TOPICS)[["qid", "docno", "score"]].values.tolist() == expected[1]
    assert pickle.loads(pickle.dumps(index)).retriever()(TOPICS)["docno"].str.startswith("new").all()


# -------------------------------------------------------------------------------------- folders that are no such index


@pytest.mark.parametrize("mode", ["create", "overwrite"])
def test_foreign_folders_are_left_as_they_are(tmp_path, mode):
    docs = [{"docno": "a", "doc_embs": [[1.0, 0.0]]}]
    (tmp_path / "photos" / "data-1").mkdir(parents=True)
    (tmp_path / "photos" / "data-1" / "me.jpg").write_text("a photo")
    (tmp_path / "file").write_text("text")
    JaColBERTIndexer(tmp_path / "other", "somebody/unused", compression="float16").index(docs)
    with pytest.raises(RuntimeError):
        JaColBERTIndexer(tmp_path / "begun", "somebody/unused", batch_documents=1).index(failing_after(docs))
    before = contents(tmp_path)
    for name in ("photos", "file", "begun"):
        with pytest.raises(FileExistsError, match=f"{name}.*choose another path"):
            JapaneseBM25(tmp_path / name).index(NEW, mode=mode)
    with pytest.raises(ValueError, match="multivec_index.jacolbert artifact, not a sparse_index.jabm25"):
        JapaneseBM25(tmp_path / "other").index(NEW, mode=mode)
    assert contents(tmp_path) == before
    JaColBERTIndex(tmp_path / "other").verify()


def failing_after(docs):
    yield from docs
    raise RuntimeError


def test_files_of_the_user_stay_and_are_not_packaged(tmp_path):
    path = tmp_path / "index"
    index = JapaneseBM25(path).index(OLD)
    for name in ("notes.txt", "params.json"):
        (path / name).write_text("by the user")
    (path / "figures").mkdir()
    (path / "figures" / "plot.png").write_text("by the user")
    index.index(NEW, mode="overwrite")
    assert {name: content for name, content in contents(path).items() if content == b"by the user"}.keys() == {
        Path("notes.txt"), Path("params.json"), Path("figures/plot.png")
    }  # fmt: skip
    index.build_package(str(tmp_path / "p.tar.lz4"), verbose=False)
    with lz4.frame.open(tmp_path / "p.tar.lz4") as stream, tarfile.open(fileobj=stream) as package:
        packaged = {member.name for member in package.getmembers() if member.isfile()}
    meta = index.meta()
    named = {entry["file"] for entry in meta["files"].values()}
    assert packaged == {META_FILE, *named, *(f"{name}.sums" for name in named)}
    assert {name.partition("/")[0] for name in named} == {"data-2"}


def test_path_without_permission_is_named(tmp_path, monkeypatch):
    JapaneseBM25(tmp_path / "index").index(OLD)

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("filelock.FileLock.acquire", refuse)
    for name, mode in (("index", "overwrite"), ("new", "create")):
        with pytest.raises(PermissionError, match=f"Cannot write an index to {tmp_path / name}.*choose another path"):
            JapaneseBM25(tmp_path / name).index(NEW, mode=mode)


@pytest.mark.parametrize("mode", ["resume", "append", "", None])
def test_other_modes_are_refused_before_anything_is_written(tmp_path, mode):
    with pytest.raises(ValueError, match="mode must be 'create' or 'overwrite'"):
        JapaneseBM25(tmp_path / "index").index(NEW, mode=mode)
    assert list(tmp_path.iterdir()) == []


# ----------------------------------------------------------------------------------------- indexes of the first layout


@pytest.mark.filterwarnings("ignore:.*was built with words of")
def test_flat_index_is_never_modified_by_reading(earlier, tmp_path):
    before = contents(earlier)
    index = JapaneseBM25(earlier)
    index.verify()
    assert len(index.retriever()(TOPICS)) > 0
    index.build_package(str(tmp_path / "p.tar.lz4"), verbose=False)
    with pytest.raises(FileExistsError, match="mode='overwrite'"):
        index.index(NEW)
    with contextlib.suppress(RuntimeError):
        index.index(failing_after(NEW), mode="overwrite")
    assert {name: content for name, content in contents(earlier).items() if name.name != ".lock"} == before
    assert (index.manifest().generation, index.analyzer, index.normalize) == (1, "mecab", ())


def test_flat_index_is_replaced_by_a_generation(earlier, expected):
    (earlier / "docno_hashes.txt").write_text("by the user")
    JapaneseBM25(earlier).index(NEW, mode="overwrite")
    (earlier / "docno_hashes.txt").unlink()
    assert JapaneseBM25(earlier).manifest().generation == 2
    assert index_files(earlier) == expected[2]
