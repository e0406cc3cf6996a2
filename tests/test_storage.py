"""The files of an index: arrays that grow, checksums that locate damage, docnos, and the manifest."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyterrier_jacolbert.index.storage import arrays, blocks, files
from pyterrier_jacolbert.index.storage import docnos as docnos_module
from pyterrier_jacolbert.index.storage.arrays import GrowingArray, map_array, write_array
from pyterrier_jacolbert.index.storage.blocks import find_damage
from pyterrier_jacolbert.index.storage.directory import META_FILE
from pyterrier_jacolbert.index.storage.docnos import Docnos, write_docnos
from pyterrier_jacolbert.index.storage.manifest import ArrayEntry, read_meta

#: Docnos, without lone surrogates.
NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)


def random_rows(n, dim, dtype="<f2", seed=0):
    return np.random.default_rng(seed).integers(0, 100, (n, dim)).astype(dtype)


def set_block_bytes(patch, size):
    """Sets the number of bytes per checksum."""
    for module in (arrays, blocks):
        patch.setattr(module, "BLOCK_BYTES", size)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.integers(0, 70), min_size=1, max_size=6),
    st.integers(1, 9),
    st.sampled_from(["<f2", "|u1", "<i8"]),
    st.integers(1, 200),
    st.data(),
)
def test_array_is_the_same_however_it_is_appended(tmp_path_factory, counts, dim, dtype, block_bytes, data):
    directory = tmp_path_factory.mktemp("index")
    rows = random_rows(sum(counts), dim, dtype)
    n_recorded = data.draw(st.integers(0, counts[0]))
    with pytest.MonkeyPatch.context() as patch:
        set_block_bytes(patch, block_bytes)
        growing = GrowingArray(directory, "data-1/a.x", dtype, (dim,))
        growing.append(rows[: counts[0]])  # more rows than are recorded, as a killed writer leaves them
        growing.flush()
        growing.close()
        n_written = n_recorded
        for end in np.cumsum(counts):
            growing = GrowingArray(directory, "data-1/a.x", dtype, (dim,), rows=n_written)
            growing.append(rows[n_written:end])
            entry = growing.flush()
            growing.close()
            n_written = int(end)
        at_once = write_array(directory, "b.x", rows)
        assert (at_once.dtype, at_once.shape, at_once.rest) == (entry.dtype, entry.shape, entry.rest)
        for suffix in ("", ".sums"):
            assert (directory / f"b.x{suffix}").read_bytes() == (directory / f"data-1/a.x{suffix}").read_bytes()
        assert ArrayEntry.from_json(json.loads(json.dumps(entry.to_json()))) == entry
        mapped = map_array(directory, entry)
        assert mapped.dtype == np.dtype(dtype)
        assert np.array_equal(mapped, rows)
        assert list(find_damage(directory, [entry])) == []
        with (directory / "b.x").open("ab") as file:
            file.write(b"left by a killed writer")
        assert np.array_equal(map_array(directory, at_once), rows)
        assert list(find_damage(directory, [at_once])) == []


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 300), st.integers(1, 64), st.data())
def test_flipped_bits_and_cut_files_are_located(tmp_path_factory, n, block_bytes, data):
    directory = tmp_path_factory.mktemp("index")
    with pytest.MonkeyPatch.context() as patch:
        set_block_bytes(patch, block_bytes)
        entry = write_array(directory, "a.u1", random_rows(n, 1, "|u1")[:, 0])
        target = data.draw(st.sampled_from(["a.u1", "a.u1.sums"] if n >= block_bytes else ["a.u1"]))
        path = directory / target
        content = bytearray(path.read_bytes())
        place = data.draw(st.integers(0, len(content) - 1))
        if data.draw(st.booleans()):
            content[place] ^= 1 << data.draw(st.integers(0, 7))
            path.write_bytes(content)
            (damage,) = find_damage(directory, [entry])
            assert damage.file == "a.u1"
            covered = place if target == "a.u1" else place // 8 * block_bytes
            assert damage.first <= covered < damage.end <= n
            assert damage.end - damage.first <= block_bytes
        else:
            path.write_bytes(content[:place])
            assert target in [damage.file for damage in find_damage(directory, [entry])]
            if target == "a.u1":
                with pytest.raises(ValueError, match=f"has {place} bytes, not {n}"):
                    map_array(directory, entry)
                with pytest.raises(ValueError, match=f"has {place} bytes, not {n}"):
                    GrowingArray(directory, "a.u1", "|u1", rows=n)


def test_missing_file_is_named(tmp_path):
    entry = write_array(tmp_path, "a.u1", random_rows(10, 1, "|u1"))
    (tmp_path / "a.u1").unlink()
    assert [str(damage) for damage in find_damage(tmp_path, [entry])] == ["a.u1, bytes 0 to 10: the file is missing"]
    with pytest.raises(ValueError, match=r"a\.u1 is missing, so the index is damaged"):
        map_array(tmp_path, entry)


def test_file_removed_while_it_is_opened_is_missing(tmp_path, monkeypatch):
    (tmp_path / "codes").write_bytes(bytes(8))

    def raise_not_found(path, *_):
        raise FileNotFoundError(2, "No such file or directory", str(path))

    monkeypatch.setattr(files.os, "open", raise_not_found)
    with pytest.raises(ValueError, match="codes is missing, so the index is damaged"):
        map_array(tmp_path, ArrayEntry("codes", "|u1", (8,), ""))


@settings(deadline=None, max_examples=60)
@given(docnos=st.lists(NAMES, min_size=1, max_size=30, unique=True), others=st.lists(NAMES, max_size=10))
def test_docnos_are_found_by_docid_by_name_and_by_rank(tmp_path_factory, docnos, others):
    directory = tmp_path_factory.mktemp("docnos")
    stored = Docnos(directory, write_docnos(directory, docnos, ""))
    assert list(stored) == docnos
    assert stored[-1] == docnos[-1]
    assert stored.docids(docnos).tolist() == list(range(len(docnos)))
    assert stored.docids(others).tolist() == [docnos.index(o) if o in docnos else -1 for o in others]
    by_rank = sorted(range(len(docnos)), key=stored.ranks.__getitem__)
    assert [docnos[docid] for docid in by_rank] == sorted(docnos)


def test_docnos_with_the_same_hash_are_distinguished(tmp_path, monkeypatch):
    monkeypatch.setattr(docnos_module, "_hashes", lambda encoded: np.zeros(len(encoded), dtype=np.uint64))
    stored = Docnos(tmp_path, write_docnos(tmp_path, ["a", "b", "c"], ""))
    assert stored.docids(["c", "a", "z", "b"]).tolist() == [2, 0, -1, 1]


def test_missing_and_damaged_manifests_are_distinguished(tmp_path):
    with pytest.raises(FileNotFoundError, match="There is no index at .*build one there"):
        read_meta(tmp_path)
    for content in ("{", "[]", ""):
        (tmp_path / META_FILE).write_text(content)
        with pytest.raises(ValueError, match=f"{META_FILE} .* damaged; build or fetch it again"):
            read_meta(tmp_path)


def test_unreadable_manifest_is_one_sentence(tmp_path, monkeypatch):
    (tmp_path / META_FILE).write_text("{}")

    def refuse(path, **_):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_text", refuse)  # root may read everything
    with pytest.raises(OSError, match="Cannot read the index at .*check its permissions"):
        read_meta(tmp_path)
