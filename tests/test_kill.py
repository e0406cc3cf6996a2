"""A build killed at any moment goes on to the same bytes; damage and full disks are named, and nothing is lost."""

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
from pyterrier_jacolbert.index.manifest import META_FILE

#: A build of documents that bring their vectors, with a residual codec: encoding, training, coding, publishing.
SCRIPT = """
import sys
import numpy as np
import pyterrier_jacolbert as pj
from pyterrier_jacolbert.index import build

build._CODED_AT_ONCE = 2000

def documents(count, dim=32):
    for number in range(count):
        rows = np.random.default_rng(number).standard_normal((number % 12, dim))
        yield {"docno": f"d{number}", "doc_embs": rows / np.linalg.norm(rows, axis=1, keepdims=True)}

def run(path, mode, count=3000, compression="4bit"):
    settings = {"mode": mode, "compression": compression, "n_centroids": 64, "shard_documents": 100}
    return pj.JaColBERTIndexer(path, "somebody/unused", **settings).index(documents(count))
"""


def child(path, mode, **limits):
    """A process that imports everything, says "ready", waits for a line, builds, and says how long it took."""
    code = SCRIPT + (
        "import time, tempfile, resource\n"
        "run(tempfile.mkdtemp() + '/warm', 'create', 40)\n"
        f"limit = {limits.get('file_bytes')!r}\n"
        "if limit: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))\n"
        "print('ready', flush=True); sys.stdin.readline(); begun = time.monotonic()\n"
        f"run({str(path)!r}, {mode!r}); print(time.monotonic() - begun, flush=True)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", code],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert process.stdout.readline() == "ready\n", process.stderr.read()
    process.stdin.write("go\n")
    process.stdin.flush()
    return process


@pytest.fixture(scope="module")
def parts():
    """SCRIPT's functions in this process."""
    names: dict = {}
    exec(SCRIPT, names)  # noqa: S102
    return names


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_a_build_killed_at_50_moments_ends_with_the_same_bytes(tmp_path, parts):
    # The shortest of some: the moments are to lie within the builds to come.
    seconds = min(float(child(tmp_path / f"whole-{run}", "create").communicate()[0]) for run in range(3))
    whole = contents(tmp_path / "whole-0")
    draws, finished = random.Random(0), 0
    for number in range(50):
        directory = tmp_path / f"killed-{number}"
        process = child(directory, "create")
        time.sleep(seconds * (number + draws.random()) / 50)
        process.kill()
        process.communicate()
        complete = (directory / META_FILE).is_file()
        finished += complete
        if not complete:
            with pytest.raises(FileNotFoundError, match="There is no index at"):
                pj.JaColBERTIndex(directory).meta()
        parts["run"](directory, "resume")
        assert contents(directory) == whole, number
    assert finished < 10


def test_a_resume_encodes_nothing_again_and_names_the_first_difference(tmp_path, parts, model, monkeypatch):
    docs = [{"docno": f"d{i}", "text": f"{i}番目の文書"} for i in range(250)]

    def failing(upto):
        yield from docs[:upto]
        raise RuntimeError("the network went away")

    make = {"mode": "resume", "compression": "int8", "shard_documents": 100}
    with pytest.raises(RuntimeError, match="network") as caught:
        pj.JaColBERTIndexer(tmp_path / "i", model, **make).index(failing(230))
    assert any("200 documents are done" in note and "mode='resume'" in note for note in caught.value.__notes__)
    assert not pj.JaColBERTIndex(tmp_path / "i").built()
    with pytest.raises(FileExistsError, match=r"holds an interrupted build; go on with it with mode='resume'"):
        pj.JaColBERTIndexer(tmp_path / "i", model, compression="int8", shard_documents=100).index(docs)
    changed = [*docs[:7], {"docno": "d7", "text": "別の文"}, *docs[8:]]
    with pytest.raises(ValueError, match=r"position 7, 'd7', is not the one .* but with other content"):
        pj.JaColBERTIndexer(tmp_path / "i", model, **make).index(changed)
    with pytest.raises(ValueError, match=r"There are 150 documents, and the interrupted build .* found more \(200\)"):
        pj.JaColBERTIndexer(tmp_path / "i", model, **make).index(docs[:150])
    seen = []
    original = type(model).encode_documents
    monkeypatch.setattr(
        type(model), "encode_documents", lambda self, texts, *rest: seen.extend(texts) or original(self, texts, *rest)
    )
    done = pj.JaColBERTIndexer(tmp_path / "i", model, **make).index(docs)
    assert seen == [doc["text"] for doc in docs[200:]]
    assert len(done) == 250
    whole = pj.JaColBERTIndexer(tmp_path / "whole", model, compression="int8", shard_documents=100).index(docs)
    assert contents(done.path) == contents(whole.path)
    seen.clear()
    again = pj.JaColBERTIndexer(tmp_path / "i", model, **make).index(docs)  # a finished index is returned
    assert (seen, len(again)) == ([], 250)


def test_overwriting_leaves_the_old_index_readable_until_the_new_one_is_complete(tmp_path, parts):
    index = parts["run"](tmp_path / "i", "create", 150, "int8")
    before = contents(index.path)

    def failing():
        yield from parts["documents"](140)
        assert len(pj.JaColBERTIndex(tmp_path / "i")) == 150
        raise RuntimeError("power")

    settings = {"compression": "int8", "n_centroids": 64, "shard_documents": 100}
    with pytest.raises(RuntimeError, match="power"):
        pj.JaColBERTIndexer(tmp_path / "i", "somebody/unused", mode="overwrite", **settings).index(failing())
    kept = {name: content for name, content in contents(index.path).items() if name in before}
    assert kept == before
    pj.JaColBERTIndex(tmp_path / "i").verify()
    done = pj.JaColBERTIndexer(tmp_path / "i", "somebody/unused", mode="overwrite", **settings).index(
        parts["documents"](120)
    )
    assert len(done) == 120
    done.verify()
    assert len({name.parts[0] for name in contents(done.path) if name.parts[0].startswith("data-")}) == 1


@pytest.fixture(scope="module")
def small(tmp_path_factory, parts):
    index = parts["run"](tmp_path_factory.mktemp("small") / "i", "create", 300)
    return index.delete(["d7"])


def test_every_flipped_bit_and_every_cut_is_reported(small, tmp_path):
    draws = random.Random(1)
    files = {name: content for name, content in contents(small.path).items() if content}
    names = sorted(files)
    weights = [len(files[name]) for name in names]
    opened = pj.JaColBERTIndex(small.path)
    opened.verify()
    places = [(name, 8 * draws.randrange(len(files[name])) + draws.randrange(8)) for name in names]
    while len(places) < 200:
        name = draws.choices(names, weights)[0]
        places.append((name, draws.randrange(8 * len(files[name]))))
    for name, bit in places:
        path = small.path / name
        content = bytearray(files[name])
        content[bit // 8] ^= 1 << bit % 8
        path.write_bytes(content)
        with pytest.raises(ValueError, match="damaged") as caught:
            pj.JaColBERTIndex(small.path).verify()
        assert name.name.removesuffix(".sums") in str(caught.value), (name, bit)
        _open_and_search(small.path)
        path.write_bytes(files[name])
    for name in names:
        path = small.path / name
        path.write_bytes(files[name][: draws.randrange(len(files[name]))])
        with pytest.raises(ValueError, match="damaged"):
            pj.JaColBERTIndex(small.path).verify()
        _open_and_search(small.path)
        path.write_bytes(files[name])
    opened.verify()


def _open_and_search(path):
    """Whatever is damaged, the interpreter lives: a search ends, be it with an error."""
    query = pd.DataFrame({"qid": ["1"], "query_embs": [np.eye(4, 32, dtype=np.float32)]})
    with contextlib.suppress(ValueError, IndexError):
        pj.JaColBERTIndex(path).retriever(num_results=5)(query)


def test_a_full_disk_leaves_the_old_index_and_names_the_bytes(tmp_path, parts):
    old = parts["run"](tmp_path / "i", "create", 120, "int8")
    before = contents(old.path)
    for limit in (20_000, 100_000, 300_000):
        process = child(tmp_path / "i", "overwrite", file_bytes=limit)
        _, errors = process.communicate()
        assert process.returncode == 1
        assert "There is no room in" in errors
        assert "bytes more" in errors
        kept = {name: content for name, content in contents(old.path).items() if name in before}
        assert kept == before
        assert len(pj.JaColBERTIndex(old.path)) == 120
    pj.JaColBERTIndex(old.path).verify()
    process = child(tmp_path / "i", "overwrite")
    assert process.communicate()[0], "with room again"
    assert len(pj.JaColBERTIndex(old.path)) == 3000


@pytest.mark.parametrize("compression", ["auto", "float16", "int8", "4bit", "2bit", "1bit"])
@pytest.mark.parametrize("count", [1, 2, 1000])
def test_tiny_and_identical_collections_are_searched(tmp_path, compression, count):
    docs = [{"docno": f"d{i:04}", "doc_embs": np.eye(1, 32)} for i in range(count)]
    index = pj.JaColBERTIndexer(tmp_path / "i", "somebody/unused", compression=compression).index(docs)
    query = pd.DataFrame({"qid": ["1"], "query_embs": [np.eye(1, 32, dtype=np.float32)]})
    found = index.retriever(num_results=2000)(query)
    assert found["docno"].tolist() == [doc["docno"] for doc in reversed(docs)]  # ties: docno, descending
    np.testing.assert_allclose(found["score"], 1, atol=2e-3)
