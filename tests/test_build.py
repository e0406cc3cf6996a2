"""Builds store what they are given; an interrupted build ends with the bytes of an uninterrupted one."""

import hashlib
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from power_cuts import PowerCut, count_calls, power_cut_after

from pyterrier_jacolbert.index import builder as builder_module
from pyterrier_jacolbert.index.builder import Builder
from pyterrier_jacolbert.index.codecs import training
from pyterrier_jacolbert.index.codecs.registry import codec_of
from pyterrier_jacolbert.index.codecs.training import default_n_centroids, train_codec
from pyterrier_jacolbert.index.encoded_batch import EncodedBatch
from pyterrier_jacolbert.index.journal import BuildSettings
from pyterrier_jacolbert.index.limits import COMPRESSIONS
from pyterrier_jacolbert.index.reader import IndexReader
from pyterrier_jacolbert.index.storage.blocks import find_damage
from pyterrier_jacolbert.index.storage.directory import interrupted_build, publish, sweep, writing
from pyterrier_jacolbert.index.storage.manifest import ReadingSettings

ORIGIN = {"model": "some/name"}


def document_batches(n_documents=60, dim=16, size=7, seed=0):
    """Yields documents of 0 to 9 tokens around a few directions, in batches."""
    rng = np.random.default_rng(seed)
    directions = rng.standard_normal((5, dim))
    for first in range(0, n_documents, size):
        numbers = range(first, min(first + size, n_documents))
        vectors = []
        for number in numbers:
            rows = directions[rng.integers(5, size=number % 10)] + 0.3 * rng.standard_normal((number % 10, dim))
            vectors.append((rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32))
        yield EncodedBatch([f"文書{number}" for number in numbers], [number * 7 for number in numbers], vectors)


def build_index(directory, settings, batches=None):
    """Starts or resumes a build, finishes and publishes it, and returns the manifest."""
    build = Builder(directory, "data-1", settings, ORIGIN)
    n_encoded = build.documents
    position = 0
    for batch in document_batches() if batches is None else batches:
        if position >= n_encoded:
            build.add(batch)
        else:
            for number, (docno, digest) in enumerate(zip(batch.docnos, batch.digests, strict=True), start=position):
                build.check(number, docno, digest)
        position += len(batch.docnos)
    manifest = build.finish().manifest(ReadingSettings(), generation=1)
    publish(directory, manifest)
    return manifest


def file_hashes(directory):
    return {
        str(file.relative_to(directory)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(directory.rglob("*"))
        if file.is_file()
    }


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_vectors_come_back_within_the_error_of_the_codec(tmp_path, compression):
    manifest = build_index(tmp_path, BuildSettings(compression, n_centroids=8))
    reader = IndexReader(tmp_path, manifest)
    vectors = [rows for batch in document_batches() for rows in batch.vectors]
    assert len(reader) == len(vectors) == manifest.documents == 60
    assert manifest.tokens == sum(map(len, vectors))
    assert list(reader.docnos) == [f"文書{number}" for number in range(60)]
    error = {"float16": 5e-4, "int8": 5e-3, "4bit": 0.08, "2bit": 0.3, "1bit": 0.5}[compression]
    np.testing.assert_allclose(reader.rows(0, 60), np.concatenate(vectors), atol=error)
    taken = reader.take(np.array([59, 3, 3, 10]))
    np.testing.assert_array_equal(taken.vectors, np.concatenate([reader.rows(i, i + 1) for i in (59, 3, 3, 10)]))
    assert taken.starts.tolist() == [0, 9, 12, 15, 15]
    assert list(find_damage(tmp_path, manifest.files.values())) == []
    assert not list(tmp_path.glob("*/journal.json"))


def test_auto_is_int8_for_small_collections_and_4bit_beyond(tmp_path, monkeypatch):
    # int8 compresses each batch as it comes, "auto" all vectors at the end.
    int8 = build_index(tmp_path / "int8", BuildSettings("int8"))
    auto = build_index(tmp_path / "auto", BuildSettings("auto"))
    assert auto.compression == "int8"
    vectors = IndexReader(tmp_path / "int8", int8).rows(0, 60)
    np.testing.assert_array_equal(IndexReader(tmp_path / "auto", auto).rows(0, 60), vectors)
    monkeypatch.setattr(training, "AUTO_INT8_TOKENS", 10)
    assert build_index(tmp_path / "large", BuildSettings("auto")).compression == "4bit"


@pytest.mark.parametrize("compression", ["float16", "int8", "4bit"])
def test_resume_gives_the_bytes_of_an_uninterrupted_build(tmp_path, compression, monkeypatch):
    settings = BuildSettings(compression, n_centroids=8)
    monkeypatch.setattr(builder_module, "_COMPRESSED_ROWS", 50)
    build_index(tmp_path / "whole", settings)
    expected = file_hashes(tmp_path / "whole")
    with count_calls("fsync") as calls:
        build_index(tmp_path / "counted", settings)
    for stop in range(0, len(calls), 3):
        directory = tmp_path / f"stopped-{stop}"
        with pytest.raises(PowerCut), power_cut_after(stop, "fsync"):
            build_index(directory, settings)
        build_index(directory, settings)
        assert file_hashes(directory) == expected, stop


@pytest.mark.parametrize("compression", ["float16", "int8", "4bit", "auto"])
def test_builds_with_a_common_codec_have_the_codes_of_one(tmp_path, compression, monkeypatch):
    monkeypatch.setattr(training, "INT8_CENTROIDS_TOKENS", 50)
    settings = BuildSettings(compression, n_centroids=8, sample_tokens=100)
    whole = IndexReader(tmp_path / "whole", build_index(tmp_path / "whole", settings))
    batches, builds = list(document_batches()), []
    for number, part in enumerate((batches[:4], batches[4:])):
        builds.append(Builder(tmp_path / str(number), "data-1", settings, ORIGIN))
        for batch in part:
            builds[-1].add(batch)
        builds[-1].stop()
    if compression in ("4bit", "auto"):  # the others have compressed the vectors already
        docnos = [[f"文書{i}" for i in range(28)], [f"文書{i}" for i in range(28, 60)]]
        assert [build.as_batch().docnos for build in builds] == docnos
    codec = train_codec(builds, settings)
    readers = []
    for number in range(2):
        finished = Builder.resume(tmp_path / str(number), "data-1").finish(codec=codec)
        manifest = finished.manifest(ReadingSettings(), generation=1)
        readers.append(IndexReader(tmp_path / str(number), manifest))
    for name, column in whole.columns.items():
        np.testing.assert_array_equal(np.concatenate([reader.columns[name] for reader in readers]), column)
    for name, parameter in whole.parameters.items():
        np.testing.assert_array_equal(readers[1].parameters[name], parameter)


def test_build_records_its_checkpoint_and_refuses_another(tmp_path):
    build = Builder(tmp_path, "data-1", BuildSettings("int8"), ORIGIN)
    first, second, *_ = document_batches()
    build.add(first, {"model": "a", "fingerprint": "1"})
    assert Builder.resume(tmp_path, "data-1").model == {"model": "a", "fingerprint": "1"}
    with pytest.raises(ValueError, match="checkpoint .*'1'.* are encoded with .*'2'"):
        build.add(second, {"model": "a", "fingerprint": "2"})
    with pytest.raises(FileNotFoundError, match="data-2"):
        Builder.resume(tmp_path, "data-2")


def test_resume_refuses_other_settings_and_other_documents(tmp_path):
    settings = BuildSettings("int8")
    build = Builder(tmp_path, "data-1", settings, ORIGIN)
    build.add(next(document_batches()))
    build.close()
    with pytest.raises(ValueError, match="compression='int8', not '4bit'; give the same settings"):
        Builder(tmp_path, "data-1", BuildSettings("4bit"), ORIGIN)
    with pytest.raises(ValueError, match="model='some/name', not 'other'"):
        Builder(tmp_path, "data-1", settings, {"model": "other"})
    resumed = Builder(tmp_path, "data-1", settings, ORIGIN)
    assert resumed.documents == 7
    with pytest.raises(ValueError, match="position 3, '文書3', is not the one .* same docno but other content"):
        resumed.check(3, "文書3", 1)
    with pytest.raises(ValueError, match="position 3, '新', is not the one .*, '文書3'"):
        resumed.check(3, "新", 1)


def test_vectors_that_cannot_be_stored_are_named(tmp_path):
    build = Builder(tmp_path, "data-1", BuildSettings("int8"), ORIGIN)
    with pytest.raises(ValueError, match=r"document 'b' have shape \(2, 3\), not \(n_tokens, 4\)"):
        build.add(EncodedBatch(["a", "b"], [1, 2], [np.eye(4), np.ones((2, 3))]))
    with pytest.raises(ValueError, match="document 'a' hold NaN or infinity"):
        build.add(EncodedBatch(["a"], [1], [np.full((1, 4), np.nan)]))


def test_default_n_centroids_is_that_of_colbert():
    # ColBERT's collection_indexer: 2 ** floor(log2(16 * sqrt(n)))
    assert [default_n_centroids(n) for n in (0, 1, 10_000, 2_600_000, 10**12)] == [1, 16, 1024, 16384, 65536]


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_writers_exclude_each_other_until_they_die(tmp_path):
    code = (
        "import sys, time; from pathlib import Path\n"
        "from pyterrier_jacolbert.index.storage.directory import writing\n"
        "with writing(Path(sys.argv[1])): print('writing', flush=True); time.sleep(60)\n"
    )
    other = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "i")], stdout=subprocess.PIPE, text=True)
    assert other.stdout.readline() == "writing\n"
    with pytest.raises(BlockingIOError, match=f"process {other.pid} of "), writing(tmp_path / "i"):
        pass
    other.kill()
    other.wait()
    with writing(tmp_path / "i"):
        assert Path(tmp_path / "i").is_dir()


def test_sweep_keeps_foreign_files_and_interrupted_builds(tmp_path):
    manifest = build_index(tmp_path, BuildSettings("4bit"))
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "data-1" / "left.u1").write_text("by a killed writer")
    (tmp_path / "data-7").mkdir()
    Builder(tmp_path, "data-9", BuildSettings("int8"), ORIGIN).add(next(document_batches()))
    sweep(tmp_path, manifest)
    assert (tmp_path / "notes.txt").is_file()
    assert not (tmp_path / "data-1" / "left.u1").exists()
    assert not (tmp_path / "data-7").exists()
    assert interrupted_build(tmp_path, manifest) == "data-9"


@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_collections_of_one_and_of_equal_vectors_are_stored(tmp_path, n, compression):
    rows = np.eye(8, dtype=np.float32)[:1]
    batches = [EncodedBatch([str(i) for i in range(n)], list(range(n)), [rows] * n)]
    manifest = build_index(tmp_path, BuildSettings(compression), batches)
    np.testing.assert_allclose(IndexReader(tmp_path, manifest).rows(0, n), np.repeat(rows, n, axis=0), atol=2e-3)


def test_collection_without_tokens_is_stored(tmp_path):
    batches = [EncodedBatch(["a", "b"], [1, 2], [np.empty((0, 8), dtype=np.float32)] * 2)]
    for compression in COMPRESSIONS:
        manifest = build_index(tmp_path / compression, BuildSettings(compression), batches)
        assert IndexReader(tmp_path / compression, manifest).rows(0, 2).shape == (0, 8)
    assert codec_of("int8", 8, {}).dim == 8
