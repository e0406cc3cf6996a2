"""Directories that appear whole or not at all; docnos that come back as they went in."""

import signal
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyterrier_jacolbert.index.docnos import Docnos, write_docnos
from pyterrier_jacolbert.index.files import replace_json
from pyterrier_jacolbert.index.store import META_FILE, atomic_directory, read_meta

names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)


def build(path, mode="create", content="1"):
    with atomic_directory(path, mode=mode) as directory:
        (directory / "file").write_text(content)
        replace_json(directory / META_FILE, {"content": content})


def test_the_directory_appears_when_the_block_ends(tmp_path):
    path = tmp_path / "deep" / "index"
    with atomic_directory(path) as directory:
        assert not path.exists()
        (directory / "file").write_text("1")
    assert (path / "file").read_text() == "1"
    assert sorted(p.name for p in path.parent.iterdir()) == ["index"]


def test_a_failed_block_leaves_nothing(tmp_path):
    with pytest.raises(RuntimeError, match="disk"), atomic_directory(tmp_path / "index") as directory:  # noqa: PT012
        (directory / "file").write_text("1")
        raise RuntimeError("disk")
    assert list(tmp_path.iterdir()) == []


def test_a_killed_build_leaves_no_index(tmp_path):
    code = (
        "import sys, os, signal; from pathlib import Path\n"
        "from pyterrier_jacolbert.index.files import replace_json\n"
        "from pyterrier_jacolbert.index.store import atomic_directory\n"
        "with atomic_directory(Path(sys.argv[1])) as d:\n"
        "    (d / 'file').write_text('1'); replace_json(d / 'pt_meta.json', {}); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "index")], check=False)
    assert done.returncode == -signal.SIGKILL
    assert not (tmp_path / "index").exists()


def test_an_existing_path_is_refused_and_overwrite_is_named(tmp_path):
    build(tmp_path / "index")
    with pytest.raises(FileExistsError, match="mode='overwrite'"):
        build(tmp_path / "index", content="2")
    assert read_meta(tmp_path / "index") == {"content": "1"}


def test_overwrite_replaces_an_index_only_once_the_new_one_is_complete(tmp_path):
    path = tmp_path / "index"
    build(path)
    with pytest.raises(RuntimeError), atomic_directory(path, mode="overwrite"):  # noqa: PT012
        assert read_meta(path) == {"content": "1"}
        raise RuntimeError
    assert read_meta(path) == {"content": "1"}
    build(path, mode="overwrite", content="2")
    assert read_meta(path) == {"content": "2"}
    assert [p.name for p in tmp_path.iterdir()] == ["index"]


def test_overwrite_never_deletes_what_is_not_an_index(tmp_path):
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.tex").write_text("years of work")
    with pytest.raises(FileExistsError, match="is not an index"):
        build(tmp_path / "home", mode="overwrite")
    assert (tmp_path / "home" / "thesis.tex").read_text() == "years of work"


def test_an_empty_directory_is_taken(tmp_path):
    (tmp_path / "index").mkdir()
    build(tmp_path / "index")
    assert read_meta(tmp_path / "index") == {"content": "1"}


def test_a_place_that_cannot_be_written_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="Cannot write an index to .*choose another path"):
        build(tmp_path / "file" / "index")


def test_an_unknown_mode_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="'create' or 'overwrite', not 'append'"):
        build(tmp_path / "index", mode="append")


def test_no_index_and_a_damaged_one_are_told_apart(tmp_path):
    with pytest.raises(FileNotFoundError, match="There is no index at .*build one there"):
        read_meta(tmp_path)
    for content in ("{", "[]", ""):
        (tmp_path / META_FILE).write_text(content)
        with pytest.raises(ValueError, match="is damaged; build it again"):
            read_meta(tmp_path)


def test_an_unreadable_index_is_one_sentence(tmp_path):
    (tmp_path / META_FILE).mkdir()  # unreadable to root too
    with pytest.raises(OSError, match="Cannot read the index at .*check its rights"):
        read_meta(tmp_path)


@settings(deadline=None, max_examples=60)
@given(docnos=st.lists(names, min_size=1, max_size=30, unique=True), others=st.lists(names, max_size=10))
def test_docnos_come_back_by_docid_by_name_and_in_order(tmp_path_factory, docnos, others):
    directory = tmp_path_factory.mktemp("docnos")
    found = Docnos(directory, write_docnos(directory, docnos))
    assert list(found) == docnos
    assert found[-1] == docnos[-1]
    assert found.docids(docnos).tolist() == list(range(len(docnos)))
    assert found.docids(others).tolist() == [docnos.index(o) if o in docnos else -1 for o in others]
    by_rank = sorted(range(len(docnos)), key=found.ranks.__getitem__)
    assert [docnos[docid] for docid in by_rank] == sorted(docnos)


def test_docnos_that_share_a_hash_are_told_apart(tmp_path, monkeypatch):
    from pyterrier_jacolbert.index import docnos as module

    monkeypatch.setattr(module, "_hashes", lambda encoded: np.zeros(len(encoded), dtype=np.uint64))
    found = Docnos(tmp_path, write_docnos(tmp_path, ["a", "b", "c"]))
    assert found.docids(["c", "a", "z", "b"]).tolist() == [2, 0, -1, 1]
