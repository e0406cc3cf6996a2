"""Files that grow: what was appended comes back, torn ends are cut off, and every damaged place is named."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyterrier_jacolbert.index import files
from pyterrier_jacolbert.index.files import GrowingArray, damage, map_array, replace_json, with_digest, write_array


def rows(n, dim, dtype="<f2", seed=0):
    return np.random.default_rng(seed).integers(0, 100, (n, dim)).astype(dtype)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.integers(0, 70), min_size=1, max_size=6),
    st.integers(1, 9),
    st.sampled_from(["<f2", "|u1", "<i8"]),
    st.integers(1, 200),
    st.data(),
)
def test_what_is_appended_in_any_pieces_comes_back(tmp_path_factory, pieces, dim, dtype, block, data):
    directory = tmp_path_factory.mktemp("index")
    content = rows(sum(pieces), dim, dtype)
    kept = data.draw(st.integers(0, pieces[0]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "BLOCK_BYTES", block)
        growing = GrowingArray(directory, "deep/a.x", dtype, (dim,))
        growing.append(content[: pieces[0]])  # more than counts, as a killed writer leaves it
        growing.flush()
        growing.close()
        done = kept
        for end in np.cumsum(pieces):
            growing = GrowingArray(directory, "deep/a.x", dtype, (dim,), rows=done)
            growing.append(content[done:end])
            entry = growing.flush()
            growing.close()
            done = int(end)
        again = write_array(directory, "b.x", content)
        assert {**again, "file": ""} == {**entry, "file": ""}
        for name in ("", ".sums"):
            assert (directory / f"b.x{name}").read_bytes() == (directory / f"deep/a.x{name}").read_bytes()
        assert json.loads(json.dumps(entry)) == entry
        mapped = map_array(directory, entry)
        assert mapped.dtype == np.dtype(dtype)
        assert np.array_equal(mapped, content)
        assert list(damage(directory, [entry])) == []
        with (directory / "b.x").open("ab") as file:
            file.write(b"what a killed writer left")
        assert np.array_equal(map_array(directory, again), content)
        assert list(damage(directory, [again])) == []


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 300), st.integers(1, 64), st.data())
def test_every_flipped_bit_and_every_cut_is_named(tmp_path_factory, n, block, data):
    directory = tmp_path_factory.mktemp("index")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "BLOCK_BYTES", block)
        entry = write_array(directory, "a.u1", rows(n, 1, "|u1")[:, 0])
        target = data.draw(st.sampled_from(["a.u1", "a.u1.sums"] if n >= block else ["a.u1"]))
        path = directory / target
        content = bytearray(path.read_bytes())
        place = data.draw(st.integers(0, len(content) - 1))
        if data.draw(st.booleans()):
            content[place] ^= 1 << data.draw(st.integers(0, 7))
            path.write_bytes(content)
            (found,) = damage(directory, [entry])
            assert found.file == "a.u1"
            covered = place if target == "a.u1" else place // 8 * block
            assert found.first <= covered < found.end <= n
            assert found.end - found.first <= block
        else:
            path.write_bytes(content[:place])
            found = list(damage(directory, [entry]))
            assert any(target == each.file for each in found)
            if target == "a.u1":
                with pytest.raises(ValueError, match=f"has {place} bytes, not {n}"):
                    map_array(directory, entry)
                with pytest.raises(ValueError, match=f"has {place} bytes, not {n}"):
                    GrowingArray(directory, "a.u1", "|u1", rows=n)


def test_a_missing_file_is_named(tmp_path):
    entry = write_array(tmp_path, "a.u1", rows(10, 1, "|u1"))
    (tmp_path / "a.u1").unlink()
    assert [str(found) for found in damage(tmp_path, [entry])] == ["a.u1, bytes 0 to 10: the file is missing"]
    with pytest.raises(ValueError, match="is missing, so the index is damaged"):
        map_array(tmp_path, entry)


def test_json_is_replaced_in_one_step_and_holds_its_checksum(tmp_path, monkeypatch):
    path = tmp_path / "m.json"
    replace_json(path, {"名": 1})
    first = path.read_text(encoding="utf-8")

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(files.os, "fsync", killed)
    with pytest.raises(KeyboardInterrupt):
        replace_json(path, {"名": 2})
    assert path.read_text(encoding="utf-8") == first
    content = json.loads(first)
    content.pop("digest")
    assert with_digest(content) == first


def test_a_file_that_a_writer_removes_while_it_is_opened_is_missing(tmp_path, monkeypatch):
    (tmp_path / "codes").write_bytes(bytes(8))

    def gone(path, **_):
        raise FileNotFoundError(2, "No such file or directory", str(path))

    monkeypatch.setattr(np, "memmap", gone)
    with pytest.raises(ValueError, match="codes is missing, so the index is damaged"):
        files.map_array(tmp_path, {"file": "codes", "dtype": "|u1", "shape": [8]})
