"""Importing the package and creating transformers loads no heavy library."""

import subprocess
import sys

HEAVY = ("torch", "numba", "transformers", "sentence_transformers", "faiss", "bm25s", "fugashi", "jnius", "ray")


def heavy_modules_after(code):
    """Returns the heavy libraries that a fresh process has loaded after running the code."""
    script = f"{code}\nimport sys; print(*[name for name in {HEAVY!r} if name in sys.modules])"
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()


def test_importing_loads_neither_torch_nor_numba_nor_java():
    assert heavy_modules_after("import pyterrier_jacolbert") == []


def test_creating_transformers_loads_no_heavy_library():
    code = (
        "import pyterrier_jacolbert as pj\n"
        "model = pj.JaColBERT('some/name'); index = pj.JaColBERTIndex('index', model)\n"
        "bm25 = pj.JapaneseBM25('bm25').retriever()\n"
        "shards = pj.ShardedIndex('shards', model); cluster = shards.ray_retriever(num_actors=2) % 10\n"
        "from pyterrier_jacolbert.distributed import RayExecutor\n"
        "indexer = pj.JaColBERTIndexer('index', model, executor=RayExecutor(2))\n"
        "pipelines = [bm25 % 10 >> model.text_scorer(), index.retriever() % 5, bm25 >> index.scorer()]\n"
        "print(*map(repr, pipelines), file=__import__('sys').stderr)"
    )
    assert heavy_modules_after(code) == []


def test_public_names_are_importable():
    script = "import pyterrier_jacolbert as pj; assert all(getattr(pj, name) for name in pj.__all__); print('all')"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout == "all\n"
