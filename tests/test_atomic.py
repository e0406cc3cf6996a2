"""Files and folders appear whole or not at all, and replace old ones; what killed writers leave is removed."""

import fcntl
import json
import os
import threading

import numpy as np
import pytest
from conformance import contents
from power_cuts import killed_before_event

from pyterrier_jacolbert.index.storage import atomic
from pyterrier_jacolbert.index.storage.atomic import json_with_digest, replace_json, replacing_directory
from pyterrier_jacolbert.index.storage.blocks import check_saved

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


def write_folder(path, content="1", **settings):
    with replacing_directory(path, **settings) as folder:
        (folder / "file").write_text(content)
        (folder / "more").mkdir()
        (folder / "more" / "other").write_text(content)


def names(folder):
    return sorted(entry.name for entry in folder.iterdir())


def test_folder_appears_when_the_block_ends(tmp_path):
    path = tmp_path / "deep" / "folder"
    with replacing_directory(path) as folder:
        assert not path.exists()
        (folder / "file").write_text("1")
    assert (path / "file").read_text() == "1"
    assert names(path.parent) == ["folder"]
    assert path.stat().st_mode & 0o777 == 0o777 & ~atomic._umask()


def test_failed_block_leaves_nothing(tmp_path):
    with pytest.raises(RuntimeError, match="disk"), replacing_directory(tmp_path / "folder") as folder:  # noqa: PT012
        (folder / "file").write_text("1")
        raise RuntimeError("disk")
    assert names(tmp_path) == []


def test_folder_is_replaced_when_the_new_one_is_complete(tmp_path):
    path = tmp_path / "folder"
    write_folder(path)
    with pytest.raises(RuntimeError), replacing_directory(path):
        raise RuntimeError
    assert (path / "file").read_text() == "1"
    write_folder(path, "2")
    assert (path / "file").read_text() == "2"
    with pytest.raises(OSError, match="not empty"):
        write_folder(path, "3", replace=False)
    assert (path / "file").read_text() == "2"
    assert names(tmp_path) == ["folder"]


def test_empty_folder_is_replaced(tmp_path):
    (tmp_path / "folder").mkdir()
    write_folder(tmp_path / "folder", replace=False)
    assert (tmp_path / "folder" / "file").read_text() == "1"


@forks
def test_interrupt_between_the_renames_puts_the_old_folder_back(tmp_path, monkeypatch):
    path = tmp_path / "folder"
    write_folder(path)
    before = contents(path)
    renames = []

    def interrupt_second(self, target):
        renames.append(target)
        if len(renames) == 2:
            raise KeyboardInterrupt
        os.rename(self, target)

    monkeypatch.setattr("pathlib.Path.rename", interrupt_second)
    with pytest.raises(KeyboardInterrupt):
        write_folder(path, "2")
    assert len(renames) == 3
    assert contents(path) == before
    assert names(tmp_path) == ["folder"]


@forks
@pytest.mark.parametrize("replace", [False, True])
def test_writer_killed_at_every_file_event_leaves_no_trace_for_the_next(tmp_path, replace):
    places = set()
    write_folder(tmp_path / "new", "2")
    new = contents(tmp_path / "new")
    for event in range(1000):
        path = tmp_path / str(event) / "folder"
        path.parent.mkdir()
        if replace:
            write_folder(path)
        old = contents(path)
        killed = killed_before_event(event, lambda path=path: write_folder(path, "2"))
        places.add((path / "file").read_text() if path.exists() else "")
        with pytest.raises(RuntimeError), replacing_directory(path):
            raise RuntimeError  # the next writer cleans up even if it fails
        left = contents(path)
        assert left in (old, new), event
        assert names(path.parent) == (["folder"] if left else [])
        write_folder(path, "3")
        assert names(path.parent) == ["folder"]
        assert set(contents(path).values()) == {b"3"}
        if not killed:
            break
    assert event > 8
    assert places == ({"", "1", "2"} if replace else {"", "2"})


def test_folders_of_running_writers_and_of_others_stay(tmp_path):
    path = tmp_path / "folder"
    stray = tmp_path / ".folder.notes.building"
    stray.mkdir()
    begun, finish = threading.Event(), threading.Event()

    def write_slowly():
        with replacing_directory(path) as folder:
            (folder / "file").write_text("slow")
            begun.set()
            assert finish.wait(60)

    writer = threading.Thread(target=write_slowly)
    writer.start()
    assert begun.wait(60)
    write_folder(path, "fast")
    assert len(names(tmp_path)) == 3
    finish.set()
    writer.join()
    assert (path / "file").read_text() == "slow"
    assert names(tmp_path) == [".folder.notes.building", "folder"]


def test_file_systems_without_locks_are_written_to(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    write_folder(tmp_path / "folder")
    write_folder(tmp_path / "folder", "2")
    assert (tmp_path / "folder" / "file").read_text() == "2"
    assert names(tmp_path) == ["folder"]


def test_json_is_replaced_in_one_step_with_its_checksum(tmp_path, monkeypatch):
    path = tmp_path / "m.json"
    replace_json(path, {"名": 1})
    written = path.read_text(encoding="utf-8")

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        replace_json(path, {"名": 2})
    assert path.read_text(encoding="utf-8") == written
    content = json.loads(written)
    content.pop("digest")
    assert json_with_digest(content) == written


@pytest.mark.parametrize("shape", [(0,), (3,), (4, 5)])
def test_array_that_numpy_cut_short_is_an_error(tmp_path, shape):
    array = np.ones(shape, dtype=np.float32)
    path = tmp_path / "array.npy"
    np.save(path, array)
    check_saved(path, array)
    if array.size:
        path.write_bytes(path.read_bytes()[:-1])
        with pytest.raises(OSError, match="No space left"):
            check_saved(path, array)
