"""A build killed at any moment resumes to the same bytes; damage and full disks are named, and nothing is lost."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
from conformance import contents

import pyterrier_jacolbert as pj
from pyterrier_jacolbert.index import builder
from pyterrier_jacolbert.index.storage.directory import META_FILE

#: Builds an index of documents that bring their vectors; with a residual codec, it has every step: encoding, training,
#: compressing, publishing.
SCRIPT = """
import sys
import numpy as np
import pyterrier_jacolbert as pj
from pyterrier_jacolbert.index import builder

builder._COMPRESSED_ROWS = 2000

def documents(count, dim=32):
    for number in range(count):
        rows = np.random.default_rng(number).standard_normal((number % 12, dim))
        yield {"docno": f"d{number}", "doc_embs": rows / np.linalg.norm(rows, axis=1, keepdims=True)}

def build_index(path, mode, count=3000, compression="4bit"):
    settings = {"mode": mode, "compression": compression, "n_centroids": 64, "batch_documents": 100}
    return pj.JaColBERTIndexer(path, "somebody/unused", **settings).index(documents(count))
"""


def prepare_build(path, mode, max_file_bytes=None):
    """Starts a process that imports and compiles everything, and builds once :func:`begin` says so.

    The process prints the seconds that the build took.
    """
    code = SCRIPT + (
        "import time, tempfile, resource\n"
        "build_index(tempfile.mkdtemp() + '/warm-up', 'create', 40)\n"
        f"limit = {max_file_bytes!r}\n"
        "if limit: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))\n"
        "print('ready', flush=True); sys.stdin.readline(); started = time.monotonic()\n"
        f"build_index({str(path)!r}, {mode!r}); print(time.monotonic() - started, flush=True)\n"
    )
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", code],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def begin(process):
    """Lets a prepared process build, and returns it."""
    assert process.stdout.readline() == "ready\n", process.stderr.read()
    process.stdin.write("go\n")
    process.stdin.flush()
    return process


def start_build(path, mode, max_file_bytes=None):
    """Starts a build in a process of its own."""
    return begin(prepare_build(path, mode, max_file_bytes))


def build_one_by_one(paths):
    """Yields, for each path, a process that has just begun to build; the next one imports its modules meanwhile."""
    prepared = prepare_build(paths[0], "create")
    for path in [*paths[1:], None]:
        process = begin(prepared)
        if path is not None:
            prepared = prepare_build(path, "create")
        yield process


@pytest.fixture(scope="module")
def script():
    """The functions of SCRIPT, in this process."""
    functions: dict = {}
    with pytest.MonkeyPatch.context() as patch:
        # So that what the script sets is reset after the last test.
        patch.setattr(builder, "_COMPRESSED_ROWS", 2000)
        exec(SCRIPT, functions)
        yield functions


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_build_killed_at_50_moments_resumes_to_the_same_bytes(tmp_path, script):
    whole = [tmp_path / f"whole-{number}" for number in range(3)]
    killed = [tmp_path / f"killed-{number}" for number in range(50)]
    builds = build_one_by_one([*whole, *killed])
    # The shortest of three, so that the moments lie within the builds to come.
    seconds = min(float(next(builds).communicate()[0]) for _ in whole)
    expected = contents(whole[0])
    draws, n_completed = random.Random(0), 0
    for number, (directory, process) in enumerate(zip(killed, builds, strict=True)):
        delay = seconds * (number + draws.random()) / 50
        time.sleep(delay)
        process.kill()
        process.communicate()
        if (directory / META_FILE).is_file():
            n_completed += 1
            seconds = delay  # the machine has become faster
        else:
            with pytest.raises(FileNotFoundError, match="There is no index at"):
                pj.JaColBERTIndex(directory).meta()
        script["build_index"](directory, "resume")
        assert contents(directory) == expected, number
    assert n_completed < 10


def test_resume_encodes_only_the_documents_that_are_missing(tmp_path, model, monkeypatch):
    docs = [{"docno": f"d{i}", "text": f"{i}番目の文書"} for i in range(250)]

    def failing_documents(count):
        yield from docs[:count]
        raise RuntimeError("the network went away")

    def indexer(name="i", **changes):
        settings = {"mode": "resume", "compression": "int8", "batch_documents": 100, **changes}
        return pj.JaColBERTIndexer(tmp_path / name, model, **settings)

    with pytest.raises(RuntimeError, match="network") as caught:
        indexer().index(failing_documents(230))
    assert any("200 documents" in note and "mode='resume'" in note for note in caught.value.__notes__)
    assert not pj.JaColBERTIndex(tmp_path / "i").built()
    with pytest.raises(FileExistsError, match="interrupted build; .* mode='resume'"):
        indexer(mode="create").index(docs)
    changed = [*docs[:7], {"docno": "d7", "text": "別の文"}, *docs[8:]]
    with pytest.raises(ValueError, match="position 7, 'd7', is not the one .* other content"):
        indexer().index(changed)
    with pytest.raises(ValueError, match="150 documents, and the interrupted build encoded 200"):
        indexer().index(docs[:150])
    encoded = []
    original = type(model).encode_documents

    def record_and_encode(self, texts, *args):
        encoded.extend(texts)
        return original(self, texts, *args)

    monkeypatch.setattr(type(model), "encode_documents", record_and_encode)
    index = indexer().index(docs)
    assert encoded == [doc["text"] for doc in docs[200:]]
    assert len(index) == 250
    assert contents(index.path) == contents(indexer("whole", mode="create").index(docs).path)
    encoded.clear()
    assert len(indexer().index(docs)) == 250  # a complete index is returned as it is
    assert encoded == []


def test_overwrite_keeps_the_old_index_until_it_is_complete(tmp_path, script):
    index = script["build_index"](tmp_path / "i", "create", 150, "int8")
    before = contents(index.path)

    def failing_documents():
        yield from script["documents"](140)
        assert len(pj.JaColBERTIndex(tmp_path / "i")) == 150
        raise RuntimeError("power")

    settings = {"compression": "int8", "n_centroids": 64, "batch_documents": 100}
    indexer = pj.JaColBERTIndexer(tmp_path / "i", "somebody/unused", mode="overwrite", **settings)
    with pytest.raises(RuntimeError, match="power"):
        indexer.index(failing_documents())
    kept = {name: content for name, content in contents(index.path).items() if name in before}
    assert kept == before
    pj.JaColBERTIndex(tmp_path / "i").verify()
    replaced = indexer.index(script["documents"](120))
    assert len(replaced) == 120
    replaced.verify()
    assert len({name.parts[0] for name in contents(replaced.path) if name.parts[0].startswith("data-")}) == 1


@pytest.fixture(scope="module")
def small(tmp_path_factory, script):
    index = script["build_index"](tmp_path_factory.mktemp("small") / "i", "create", 300)
    return index.delete(["d7"])


def test_every_flipped_bit_and_every_cut_file_is_named(small):
    draws = random.Random(1)
    files = {name: content for name, content in contents(small.path).items() if content}
    names = sorted(files)
    weights = [len(files[name]) for name in names]
    opened = pj.JaColBERTIndex(small.path)
    opened.verify()
    bits = [(name, 8 * draws.randrange(len(files[name])) + draws.randrange(8)) for name in names]
    while len(bits) < 200:
        name = draws.choices(names, weights)[0]
        bits.append((name, draws.randrange(8 * len(files[name]))))
    for name, bit in bits:
        path = small.path / name
        content = bytearray(files[name])
        content[bit // 8] ^= 1 << bit % 8
        path.write_bytes(content)
        with pytest.raises(ValueError, match="damaged") as caught:
            pj.JaColBERTIndex(small.path).verify()
        assert name.name.removesuffix(".sums") in str(caught.value), (name, bit)
        open_and_search(small.path)
        path.write_bytes(files[name])
    for name in names:
        path = small.path / name
        path.write_bytes(files[name][: draws.randrange(len(files[name]))])
        with pytest.raises(ValueError, match="damaged"):
            pj.JaColBERTIndex(small.path).verify()
        open_and_search(small.path)
        path.write_bytes(files[name])
    opened.verify()


def open_and_search(path):
    """Searches a damaged index, which may raise an error but must not crash the interpreter."""
    query = pd.DataFrame({"qid": ["1"], "query_embs": [np.eye(4, 32, dtype=np.float32)]})
    with contextlib.suppress(ValueError, IndexError):
        pj.JaColBERTIndex(path).retriever(num_results=5)(query)


def test_full_disk_keeps_the_old_index_and_names_the_bytes(tmp_path, script):
    index = script["build_index"](tmp_path / "i", "create", 120, "int8")
    before = contents(index.path)
    for limit in (20_000, 100_000, 300_000):
        process = start_build(tmp_path / "i", "overwrite", max_file_bytes=limit)
        _, errors = process.communicate()
        assert process.returncode == 1
        assert "has no space for" in errors
        assert "more bytes" in errors
        kept = {name: content for name, content in contents(index.path).items() if name in before}
        assert kept == before
        assert len(pj.JaColBERTIndex(index.path)) == 120
    pj.JaColBERTIndex(index.path).verify()
    process = start_build(tmp_path / "i", "overwrite")
    assert process.communicate()[0], "the build fails although there is space again"
    assert len(pj.JaColBERTIndex(index.path)) == 3000


@pytest.mark.parametrize("compression", ["auto", "float16", "int8", "4bit", "2bit", "1bit"])
@pytest.mark.parametrize("count", [1, 2, 1000])
def test_tiny_and_identical_collections_are_searched(tmp_path, compression, count):
    docs = [{"docno": f"d{i:04}", "doc_embs": np.eye(1, 32)} for i in range(count)]
    index = pj.JaColBERTIndexer(tmp_path / "i", "somebody/unused", compression=compression).index(docs)
    query = pd.DataFrame({"qid": ["1"], "query_embs": [np.eye(1, 32, dtype=np.float32)]})
    found = index.retriever(num_results=2000)(query)
    assert found["docno"].tolist() == [doc["docno"] for doc in reversed(docs)]  # ties: docno, descending
    np.testing.assert_allclose(found["score"], 1, atol=2e-3)
