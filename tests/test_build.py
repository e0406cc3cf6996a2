"""Builds: what is written is what was given; an interrupted one ends with the bytes of one that was not."""

import hashlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pyterrier_jacolbert.index import build, manifest
from pyterrier_jacolbert.index.build import Builder, Settings, Shard, decide_coding, default_centroids
from pyterrier_jacolbert.index.codec import codec_of
from pyterrier_jacolbert.index.files import damage
from pyterrier_jacolbert.index.limits import COMPRESSIONS
from pyterrier_jacolbert.index.stored import Stored

ORIGIN = {"model": "some/name"}


def shards(n_documents=60, dim=16, size=7, seed=0):
    """Documents of 0 to 9 tokens around a few directions, in shards."""
    generator = np.random.default_rng(seed)
    directions = generator.standard_normal((5, dim))
    for first in range(0, n_documents, size):
        numbers = range(first, min(first + size, n_documents))
        vectors = []
        for number in numbers:
            rows = directions[generator.integers(5, size=number % 10)] + 0.3 * generator.standard_normal(
                (number % 10, dim)
            )
            vectors.append((rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32))
        yield Shard([f"文書{number}" for number in numbers], [number * 7 for number in numbers], vectors)


SETTINGS = Settings("4bit")


def built(directory, settings=SETTINGS, given=None, mode_meta=None):
    """Builds, or goes on with a build, and publishes it."""
    builder = Builder(directory, "data-1", settings, ORIGIN)
    done = builder.documents
    position = 0
    for shard in given if given is not None else shards():
        if position >= done:
            builder.add(shard)
        else:
            for number, (docno, digest) in enumerate(zip(shard.docnos, shard.digests, strict=True), start=position):
                builder.check(number, docno, digest)
        position += len(shard.docnos)
    facts = builder.finish()
    manifest.publish(directory, {"kind": "test", **facts})
    return facts


def content(directory):
    return {
        str(file.relative_to(directory)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(directory.rglob("*"))
        if file.is_file()
    }


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_what_is_stored_is_what_was_given_within_the_codec_s_error(tmp_path, compression):
    meta = built(tmp_path, Settings(compression, n_centroids=8))
    stored = Stored(tmp_path, meta)
    given = [rows for shard in shards() for rows in shard.vectors]
    assert len(stored) == len(given) == meta["documents"] == 60
    assert meta["tokens"] == sum(map(len, given))
    assert list(stored.docnos) == [f"文書{number}" for number in range(60)]
    error = {"float16": 5e-4, "int8": 5e-3, "4bit": 0.08, "2bit": 0.3, "1bit": 0.5}[compression]
    whole = stored.rows(0, 60)
    np.testing.assert_allclose(whole, np.concatenate(given), atol=error)
    taken = stored.take(np.array([59, 3, 3, 10]))
    np.testing.assert_array_equal(taken.vectors, np.concatenate([stored.rows(i, i + 1) for i in (59, 3, 3, 10)]))
    assert taken.starts.tolist() == [0, 9, 12, 15, 15]
    assert list(damage(tmp_path, meta["files"].values())) == []
    assert not list(tmp_path.glob("*/journal.json"))


def test_float16_and_int8_are_coded_as_they_come_and_auto_at_the_end(tmp_path, monkeypatch):
    one = built(tmp_path / "int8", Settings("int8"))
    auto = built(tmp_path / "auto", Settings("auto"))
    assert auto["compression"] == "int8"
    codes = [Stored(tmp_path / name, meta).rows(0, 60) for name, meta in (("int8", one), ("auto", auto))]
    np.testing.assert_array_equal(*codes)
    monkeypatch.setattr(build, "AUTO_INT8_TOKENS", 10)
    assert built(tmp_path / "large", Settings("auto"))["compression"] == "4bit"


class PowerCut(BaseException):
    """Nothing catches it."""


@pytest.mark.parametrize("compression", ["float16", "int8", "4bit"])
def test_a_build_that_stops_anywhere_ends_with_the_same_bytes(tmp_path, compression, monkeypatch):
    settings = Settings(compression, n_centroids=8)
    monkeypatch.setattr(build, "_CODED_AT_ONCE", 50)
    built(tmp_path / "whole", settings)
    whole = content(tmp_path / "whole")
    calls = []
    original = os.fsync
    monkeypatch.setattr(os, "fsync", lambda descriptor: calls.append(1) or original(descriptor))
    built(tmp_path / "counted", settings)
    total = len(calls)
    for stop in range(0, total, 3):
        directory = tmp_path / f"stopped-{stop}"
        left = iter(range(stop))

        def fsync(descriptor, left=left):
            if next(left, None) is None:
                raise PowerCut
            original(descriptor)

        monkeypatch.setattr(os, "fsync", fsync)
        with pytest.raises(PowerCut):
            built(directory, settings)
        monkeypatch.setattr(os, "fsync", original)
        built(directory, settings)
        assert content(directory) == whole, stop


@pytest.mark.parametrize("compression", ["float16", "int8", "4bit", "auto"])
def test_builds_that_are_coded_together_have_the_codes_of_one(tmp_path, compression, monkeypatch):
    monkeypatch.setattr(build, "INT8_CENTROIDS_TOKENS", 50)
    settings = Settings(compression, n_centroids=8, sample_tokens=100)
    whole = Stored(tmp_path / "whole", built(tmp_path / "whole", settings))
    given, parts = list(shards()), []
    for number, group in enumerate((given[:4], given[4:])):
        parts.append(Builder(tmp_path / str(number), "data-1", settings, ORIGIN))
        for shard in group:
            parts[-1].add(shard)
        parts[-1].stop()
    again = [shard.docnos for shard in (part.shard() for part in parts if "raw" in part._arrays.entries)]
    assert again in ([], [[f"文書{i}" for i in range(28)], [f"文書{i}" for i in range(28, 60)]])
    coding = decide_coding(parts)
    stored = [
        Stored(tmp_path / str(number), Builder.taken_up(tmp_path / str(number), "data-1").finish(coding=coding))
        for number in range(2)
    ]
    for name, column in whole.columns.items():
        np.testing.assert_array_equal(np.concatenate([part.columns[name] for part in stored]), column)
    for name, parameter in whole.parameters.items():
        np.testing.assert_array_equal(stored[1].parameters[name], parameter)


def test_a_build_keeps_what_is_said_of_its_checkpoint(tmp_path):
    builder = Builder(tmp_path, "data-1", Settings("int8"), ORIGIN)
    first, second, *_ = shards()
    builder.add(first, {"model": "a", "fingerprint": "1"})
    assert Builder.taken_up(tmp_path, "data-1").model == {"model": "a", "fingerprint": "1"}
    with pytest.raises(ValueError, match="was begun with the checkpoint .*'1'.* are encoded with .*'2'"):
        builder.add(second, {"model": "a", "fingerprint": "2"})
    with pytest.raises(FileNotFoundError, match="There is no build in"):
        Builder.taken_up(tmp_path, "data-2")


def test_a_build_goes_on_only_with_the_same_documents_and_settings(tmp_path):
    settings = Settings("int8")
    builder = Builder(tmp_path, "data-1", settings, ORIGIN)
    first, second, *_ = shards()
    builder.add(first)
    builder.close()
    with pytest.raises(ValueError, match=r"was begun with compression='int8', not '4bit'; give the same settings"):
        Builder(tmp_path, "data-1", Settings("4bit"), ORIGIN)
    with pytest.raises(ValueError, match=r"was begun with model='some/name', not 'other'"):
        Builder(tmp_path, "data-1", settings, {"model": "other"})
    again = Builder(tmp_path, "data-1", settings, ORIGIN)
    assert again.documents == 7
    with pytest.raises(ValueError, match=r"position 3, '文書3', is not the one .* but with other content"):
        again.check(3, "文書3", 1)
    with pytest.raises(
        ValueError, match=r"position 3, '新', is not the one that the interrupted build found there, '文書3'"
    ):
        again.check(3, "新", 1)


def test_vectors_that_cannot_be_stored_are_named(tmp_path):
    builder = Builder(tmp_path, "data-1", Settings("int8"), ORIGIN)
    with pytest.raises(ValueError, match=r"vectors of document 'b' have shape \(2, 3\), not \(n_tokens, 4\)"):
        builder.add(Shard(["a", "b"], [1, 2], [np.eye(4), np.ones((2, 3))]))
    with pytest.raises(ValueError, match="document 'a' hold NaN or infinity"):
        builder.add(Shard(["a"], [1], [np.full((1, 4), np.nan)]))


def test_the_number_of_centroids():
    # ColBERT's collection_indexer: 2 ** floor(log2(16 * sqrt(n)))
    assert [default_centroids(n) for n in (0, 1, 10_000, 2_600_000, 10**12)] == [1, 16, 1024, 16384, 65536]


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_one_writer_at_a_time_and_a_killed_one_holds_no_lock(tmp_path):
    code = (
        "import sys, time; from pathlib import Path\n"
        "from pyterrier_jacolbert.index.manifest import writing\n"
        "with writing(Path(sys.argv[1])): print('in', flush=True); time.sleep(60)\n"
    )
    other = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "i")], stdout=subprocess.PIPE, text=True)
    assert other.stdout.readline() == "in\n"
    with (
        pytest.raises(BlockingIOError, match=rf"is being written by process {other.pid} of "),
        manifest.writing(tmp_path / "i"),
    ):
        pass
    other.kill()
    other.wait()
    with manifest.writing(tmp_path / "i"):
        assert Path(tmp_path / "i").is_dir()


def test_sweeping_leaves_other_people_s_files_and_interrupted_builds(tmp_path):
    meta = {"kind": "test", **built(tmp_path)}
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "data-1" / "left.u1").write_text("by a killed writer")
    (tmp_path / "data-7").mkdir()
    Builder(tmp_path, "data-9", Settings("int8"), ORIGIN).add(next(shards()))
    manifest.sweep(tmp_path, meta)
    assert (tmp_path / "notes.txt").is_file()
    assert not (tmp_path / "data-1" / "left.u1").exists()
    assert not (tmp_path / "data-7").exists()
    assert manifest.interrupted_build(tmp_path, meta) == "data-9"


@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_tiny_and_identical_collections(tmp_path, n, compression):
    rows = np.eye(8, dtype=np.float32)[:1]
    given = [Shard([str(i) for i in range(n)], list(range(n)), [rows] * n)]
    meta = built(tmp_path, Settings(compression), given)
    np.testing.assert_allclose(Stored(tmp_path, meta).rows(0, n), np.repeat(rows, n, axis=0), atol=2e-3)


def test_a_collection_without_a_single_token(tmp_path):
    given = [Shard(["a", "b"], [1, 2], [np.empty((0, 8), dtype=np.float32)] * 2)]
    for number, compression in enumerate(COMPRESSIONS):
        meta = built(tmp_path / str(number), Settings(compression), given)
        assert Stored(tmp_path / str(number), meta).rows(0, 2).shape == (0, 8)
    assert codec_of("int8", 8, {}).dim == 8
