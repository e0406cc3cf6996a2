"""Threads do not wait for each other's queries, forked processes work, and compiled kernels follow their sources."""

import ast
import multiprocessing
import os
import pickle
import shutil
import subprocess
import sys
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from clustered_documents import documents, queries

import pyterrier_jacolbert as pj
from pyterrier_jacolbert.index.threads import cached_attribute, lock_of

FOLDER = Path(pj.__file__).parent
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")


def run_python(code, timeout=120, folder=None, **environment):
    """Runs code in a new process, and returns the lines that it prints; it is killed after the timeout."""
    variables = {**os.environ, "OMP_NUM_THREADS": "2", "TOKENIZERS_PARALLELISM": "false", **environment}
    command = [sys.executable, "-W", "ignore", "-c", code]
    settings = {"capture_output": True, "text": True, "env": variables, "timeout": timeout, "cwd": folder}
    done = subprocess.run(command, check=False, **settings)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


class Squares:
    """An attribute that waits until two objects compute it at the same time."""

    meeting = threading.Barrier(2)

    def __init__(self, number):
        self.number = number
        self.calls = 0

    @cached_attribute
    def square(self):
        """Returns the square."""
        self.calls += 1
        self.meeting.wait(timeout=20)
        return self.number**2

    @cached_attribute
    def failing(self):
        self.calls += 1
        if self.calls == 1:
            raise KeyError(self.number)
        return self.calls


class TestLocks:
    def test_objects_of_a_class_compute_at_the_same_time(self):
        objects = [Squares(3), Squares(4)]
        with ThreadPoolExecutor(2) as pool:
            assert list(pool.map(lambda item: item.square, objects)) == [9, 16]
        assert Squares.square.__doc__ == "Returns the square."

    def test_threads_share_one_result_of_an_object(self):
        item = Squares(5)
        with ThreadPoolExecutor(9) as pool:
            others = [pool.submit(lambda: item.square) for _ in range(8)]
            assert pool.submit(lambda: Squares(6).square).result() == 36
            assert [other.result() for other in others] == [25] * 8
        assert item.calls == 1
        assert pickle.loads(pickle.dumps(item)).square == 25

    def test_a_failed_attribute_is_computed_again(self):
        item = Squares(7)
        with pytest.raises(KeyError):
            _ = item.failing
        assert item.failing == 2

    def test_no_attribute_holds_a_lock_of_its_class(self):
        """Python 3.11's cached_property holds one."""
        users = [
            path.name
            for path in FOLDER.rglob("*.py")
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, (ast.Name, ast.Attribute, ast.alias))
            and "cached_property" in (getattr(node, "id", ""), getattr(node, "attr", ""), getattr(node, "name", ""))
        ]
        assert users == []

    @pytest.mark.parametrize("compression", ["int8", "4bit", "float16"])
    def test_threads_rank_like_one(self, tmp_path, compression):
        indexer = pj.JaColBERTIndexer(tmp_path / "i", "somebody/unused", compression=compression)
        index = indexer.index(documents(range(60)))
        expected = index.retriever(num_results=20)(queries())
        for _ in range(3):
            retriever = pj.JaColBERTIndex(index.path).retriever(num_results=20)  # whose scorer threads create together
            with ThreadPoolExecutor(4) as pool:
                for ranking in pool.map(lambda _, retriever=retriever: retriever(queries()), range(8)):
                    assert ranking.equals(expected)


class TestTokenizers:
    def test_threads_that_share_a_checkpoint_cut_texts_at_their_own_lengths(self, model):
        """A tokenizer keeps the maximum length of its last call."""
        shared = pj.JaColBERT(model.encoder.model, dtype="float32", max_document_length=20)
        text = "日本で一番高い山は富士山である。" * 20
        tasks = {"query": lambda: shared.encoder.query_ids(text), "document": lambda: shared.encoder.document_ids(text)}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the query is too long
            expected = {name: task() for name, task in tasks.items()}
            assert len(expected["document"]) == 20 < len(expected["query"])
            with ThreadPoolExecutor(4) as pool:
                found = [(name, pool.submit(tasks[name])) for _ in range(150) for name in tasks]
                assert all(ids.result() == expected[name] for name, ids in found)

    @needs_fork
    def test_forking_waits_for_a_locked_object(self):
        item, held, done = Squares(1), threading.Event(), []

        def hold():
            with lock_of(item):
                held.set()
                time.sleep(0.2)
                done.append(True)

        thread = threading.Thread(target=hold)
        thread.start()
        held.wait()
        child = os.fork()
        if child == 0:
            os._exit(0 if done and lock_of(item).acquire(timeout=5) else 1)
        assert os.waitpid(child, 0)[1] == 0
        thread.join()
        with lock_of(item):
            child = os.fork()  # the thread that holds a lock may fork
            if child == 0:
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0


MODEL = """
import os, sys, threading
import numpy as np, pandas as pd
import pyterrier_jacolbert as pj
model = pj.JaColBERT("mini", dtype="float32")
texts = [f"日本で一番高い山は何ですか。{i}" for i in range(64)]
docs = [{"docno": f"d{i}", "text": "富士山は日本で一番高い山である。" * (i % 9 + 1)} for i in range(64)]
def same(first, second): return all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
"""

IN_A_CHILD = (
    MODEL
    + """
import multiprocessing
import faiss
vectors = model.encode_queries(texts)
doc_vectors = model.encode_documents([doc["text"] for doc in docs])
index = pj.JaColBERTIndexer(os.environ["FOLDER"] + "/i", model, compression="4bit").index(docs)
topics = pd.DataFrame({"qid": [str(i) for i in range(64)], "query": texts})
ranking = index.retriever(num_results=5)(topics)
faiss.IndexFlatIP(4).search(np.ones((999, 4), dtype="float32"), 1)  # starts the threads of its OpenMP
def work(number):
    found = index.retriever(num_results=5)(topics)
    again = pj.JaColBERTIndexer(f"{os.environ['FOLDER']}/{number}", model, compression="4bit").index(docs)
    return (
        same(vectors, model.encode_queries(texts)),
        same(doc_vectors, model.encode_documents([doc["text"] for doc in docs])),
        found.equals(ranking),
        again.retriever(num_results=5)(topics).equals(ranking),
    )
"""
)


WHILE_THREADS_SEARCH = """
import os, threading
import numpy as np, pandas as pd
import pyterrier_jacolbert as pj
path, vectors = os.environ["FOLDER"] + "/i", np.eye(16, dtype="float32")
docs = [{"docno": f"d{i}", "doc_embs": vectors[i % 16 : i % 16 + 3]} for i in range(64)]
pj.JaColBERTIndexer(path, "somebody/unused", compression="4bit").index(docs)
topics = pd.DataFrame({"qid": ["1", "2"], "query_embs": [vectors[:4], vectors[4:]]})
def search():
    return pj.JaColBERTIndex(path).retriever(num_results=5, n_candidates=9, n_probe=2)(topics)
stop = threading.Event()
def search_on():
    while not stop.is_set(): search()
threads = [threading.Thread(target=search_on) for _ in range(3)]
for thread in threads: thread.start()
for number in range(20):
    child = os.fork()
    if not child: os._exit(0 if len(search()) == 10 else 1)
    if status := os.waitpid(child, 0)[1]: print(status)
stop.set()
"""


WHILE_THREADS_MULTIPLY = (
    MODEL
    + """
import threading
index = pj.JaColBERTIndexer(os.environ["FOLDER"] + "/i", model, compression="float16").index(docs)
exact = index.retriever(num_results=5, quality="exact")
topics = pd.DataFrame({"qid": ["1"], "query_embs": model.encode_queries(texts[:1])})
pairs = topics.merge(pd.DataFrame(docs), how="cross")
scorer = model.text_scorer()
expected, scores = exact(topics), scorer(pairs.head(8))
def search():
    return exact(topics).equals(expected)
def score():
    return np.allclose(scorer(pairs.head(8))["score"], scores["score"], atol=1e-4)
stop = threading.Event()
def repeat(call):
    while not stop.is_set(): call()
threads = [threading.Thread(target=repeat, args=(call,)) for call in (search, score)]
for thread in threads: thread.start()
for number in range(8):
    child = os.fork()
    if not child: os._exit(0 if search() and score() else 1)
    if status := os.waitpid(child, 0)[1]: print(status)
stop.set()
"""
)


@needs_fork
class TestFork:
    """Each test runs in a process of its own, which is killed if it hangs; torch has two threads there."""

    def test_a_child_encodes_searches_and_builds(self, tmp_path):
        code = IN_A_CHILD + (
            "with multiprocessing.get_context('fork').Pool(2) as pool: print(pool.map(work, [1, 2]))\n"
            "print(same(vectors, model.encode_queries(texts)))"
        )
        assert run_python(code, FOLDER=str(tmp_path)) == [str([(True,) * 4] * 2), "True"]

    def test_a_grandchild_encodes(self):
        code = MODEL + (
            "vectors = model.encode_queries(texts)\n"
            "for generation in range(3):\n"
            "    child = os.fork()\n"
            "    if child: sys.exit(os.waitpid(child, 0)[1])\n"
            "    print(same(vectors, model.encode_queries(texts)), flush=True)\n"
        )
        assert run_python(code) == ["True"] * 3

    def test_workers_of_a_data_loader_encode(self):
        code = MODEL + (
            "from torch.utils.data import DataLoader\n"
            "vectors = model.encode_queries(texts)\n"
            "loader = DataLoader(texts, batch_size=16, num_workers=2, multiprocessing_context='fork',\n"
            "    collate_fn=model.encode_queries)\n"
            "print(same(vectors, [rows for batch in loader for rows in batch]))\n"
        )
        assert run_python(code) == ["True"]

    def test_a_child_multiplies_while_threads_of_its_parent_multiply(self, tmp_path):
        assert run_python(WHILE_THREADS_MULTIPLY, FOLDER=str(tmp_path)) == []

    def test_a_child_searches_while_threads_of_its_parent_search(self, tmp_path):
        """Also while they compile kernels, open the index and create its scorer."""
        code = WHILE_THREADS_SEARCH
        assert run_python(code, FOLDER=str(tmp_path), NUMBA_CACHE_DIR=str(tmp_path / "kernels")) == []

    def test_a_child_does_not_wait_for_an_attribute_that_a_thread_of_its_parent_computes(self):
        item = Squares(8)
        thread = threading.Thread(target=lambda: item.square)
        thread.start()
        while not Squares.meeting.n_waiting:
            pass

        def in_child(queue):
            Squares.meeting = threading.Barrier(1)
            queue.put(item.square)

        context = multiprocessing.get_context("fork")
        queue = context.Queue()
        child = context.Process(target=in_child, args=(queue,))
        child.start()
        assert queue.get(timeout=20) == 64
        child.join()
        Squares.meeting.wait(timeout=20)
        thread.join()


class TestKernelsOnDisk:
    """A copy of the package has a kernel that imports a constant, whose file changes behind numba's back."""

    @pytest.fixture
    def package(self, tmp_path):
        copy = tmp_path / "site" / "pyterrier_jacolbert"
        shutil.copytree(FOLDER, copy, ignore=shutil.ignore_patterns("__pycache__", "pt_docs"))
        kernels = copy / "index" / "kernels"
        (kernels / "kernel_of_tests.py").write_text(
            "from pyterrier_jacolbert.index.kernels.constant_of_tests import FACTOR\n"
            "from pyterrier_jacolbert.index.kernels.jit import kernel\n\n\n"
            "@kernel(lambda value: value)\ndef scaled(value):\n    return value * FACTOR\n"
        )
        self.set_factor(copy, 2)
        return copy

    def set_factor(self, package, factor):
        """Keeps the size and the time of the file."""
        file = package / "index" / "kernels" / "constant_of_tests.py"
        file.write_text(f"FACTOR = {factor}\n")
        os.utime(file, (0, 0))

    def run(self, package, **environment):
        """Returns what the kernel computes of 1, and whether it was on disk."""
        code = (
            "from pyterrier_jacolbert.index.kernels.kernel_of_tests import scaled\n"
            "print(scaled(1), sum(scaled.stats.cache_hits.values()))"
        )
        variables = {"PYTHONPATH": str(package.parent), "PYTHONDONTWRITEBYTECODE": "1", **environment}
        return [int(number) for number in run_python(code, folder=package.parent, **variables)[0].split()]

    def test_a_change_of_an_imported_module_is_seen(self, package):
        assert self.run(package) == [2, 0]
        assert self.run(package) == [2, 1]
        self.set_factor(package, 3)
        assert self.run(package) == [3, 0]
        assert self.run(package) == [3, 1]
        self.set_factor(package, 2)
        assert self.run(package) == [2, 1]  # both versions are on disk

    def test_files_of_others_stay(self, package, tmp_path):
        cache = tmp_path / "cache"
        (cache / "kernels_of_others").mkdir(parents=True)
        (cache / "kernels_of_others" / "a.nbi").write_bytes(b"theirs")
        for factor in (2, 3):
            self.set_factor(package, factor)
            assert self.run(package, NUMBA_CACHE_DIR=str(cache)) == [factor, 0]
        assert (cache / "kernels_of_others" / "a.nbi").read_bytes() == b"theirs"
        assert len(list(cache.glob("*/jacolbert-*"))) == 2
        assert not list(package.rglob("*.nb?"))

    def test_a_package_without_writable_folders_compiles_every_time(self, package, tmp_path):
        (tmp_path / "file").touch()
        (package / "index" / "kernels" / "__pycache__").touch()  # a file, so that numba cannot make the folder
        nowhere = str(tmp_path / "file" / "below")
        for _ in range(2):
            assert self.run(package, HOME=nowhere, XDG_CACHE_HOME=nowhere) == [2, 0]

    def test_a_package_with_a_blocked_folder_uses_the_home(self, package, tmp_path):
        (package / "index" / "kernels" / "__pycache__").touch()
        home = str(tmp_path / "home")
        assert self.run(package, HOME=home, XDG_CACHE_HOME=home) == [2, 0]
        assert self.run(package, HOME=home, XDG_CACHE_HOME=home) == [2, 1]
