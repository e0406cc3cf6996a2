"""Files and folders appear whole or not at all, and replace old ones in one step."""

import json
import os
import signal
import subprocess
import sys

import pytest

from pyterrier_jacolbert.index.storage.atomic import META_FILE, atomic_index, json_with_digest, replace_json
from pyterrier_jacolbert.index.storage.manifest import read_meta


def write_index(path, mode="create", content="1"):
    with atomic_index(path, mode=mode) as directory:
        (directory / "file").write_text(content)
        replace_json(directory / META_FILE, {"content": content})


def test_directory_appears_when_the_block_ends(tmp_path):
    path = tmp_path / "deep" / "index"
    with atomic_index(path) as directory:
        assert not path.exists()
        (directory / "file").write_text("1")
    assert (path / "file").read_text() == "1"
    assert sorted(p.name for p in path.parent.iterdir()) == ["index"]


def test_failed_block_leaves_nothing(tmp_path):
    with pytest.raises(RuntimeError, match="disk"), atomic_index(tmp_path / "index") as directory:  # noqa: PT012
        (directory / "file").write_text("1")
        raise RuntimeError("disk")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_killed_writer_leaves_no_index(tmp_path):
    code = (
        "import sys, os, signal; from pathlib import Path\n"
        "from pyterrier_jacolbert.index.storage.atomic import META_FILE, atomic_index, replace_json\n"
        "with atomic_index(Path(sys.argv[1])) as d:\n"
        "    (d / 'file').write_text('1'); replace_json(d / META_FILE, {}); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    process = subprocess.run([sys.executable, "-c", code, str(tmp_path / "index")], check=False)
    assert process.returncode == -signal.SIGKILL
    assert not (tmp_path / "index").exists()


def test_existing_index_is_refused_and_overwrite_named(tmp_path):
    write_index(tmp_path / "index")
    with pytest.raises(FileExistsError, match="mode='overwrite'"):
        write_index(tmp_path / "index", content="2")
    assert read_meta(tmp_path / "index") == {"content": "1"}


def test_overwrite_replaces_an_index_when_it_is_complete(tmp_path):
    path = tmp_path / "index"
    write_index(path)
    with pytest.raises(RuntimeError), atomic_index(path, mode="overwrite"):  # noqa: PT012
        assert read_meta(path) == {"content": "1"}
        raise RuntimeError
    assert read_meta(path) == {"content": "1"}
    write_index(path, mode="overwrite", content="2")
    assert read_meta(path) == {"content": "2"}
    assert [p.name for p in tmp_path.iterdir()] == ["index"]


def test_overwrite_never_deletes_a_folder_that_is_no_index(tmp_path):
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.tex").write_text("years of work")
    with pytest.raises(FileExistsError, match="is not an index"):
        write_index(tmp_path / "home", mode="overwrite")
    assert (tmp_path / "home" / "thesis.tex").read_text() == "years of work"


def test_empty_directory_is_replaced(tmp_path):
    (tmp_path / "index").mkdir()
    write_index(tmp_path / "index")
    assert read_meta(tmp_path / "index") == {"content": "1"}


def test_path_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="Cannot write an index to .*choose another path"):
        write_index(tmp_path / "file" / "index")


def test_unknown_mode_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="'create' or 'overwrite', not 'append'"):
        write_index(tmp_path / "index", mode="append")


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
