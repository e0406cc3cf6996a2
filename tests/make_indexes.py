"""Writes ``tests/data/indexes.zip``: small indexes of every kind, with the rankings that the same version gave.

``test_format.py`` opens them with the current version. To keep the indexes of a version, run this script in a checkout
of that version:

    git worktree add ../kept 1fafba2 && cd ../kept && PYTHONPATH=$PWD python OTHER/tests/make_indexes.py

Commit 1fafba2 wrote the present archive. Documents bring their vectors, so no checkpoint is needed.
"""

import json
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd

import pyterrier_jacolbert as pj

ARCHIVE = Path(__file__).parent / "data" / "indexes.zip"
DIM = 64
CENTRES = np.random.default_rng(3).standard_normal((12, DIM))
COMPRESSIONS = ("float16", "int8", "4bit", "2bit", "1bit")
WORDS = ("富士山は日本一高い。", "琵琶湖は大きい湖。", "東京は首都である。", "味噌汁に豆腐を入れる。", "新幹線は速い。")
RETRIEVERS = {
    "default": {"num_results": 10},
    "two stages": {"num_results": 5, "n_candidates": 12},
    "probed": {"num_results": 5, "n_candidates": 12, "n_probe": 2},
    "exact": {"num_results": 10, "quality": "exact"},
}


def vectors(seed: int, count: int) -> np.ndarray:
    """Unit vectors around the centres, rounded to float16 so that JSON keeps them exactly."""
    rng = np.random.default_rng(seed)
    rows = CENTRES[rng.integers(len(CENTRES), size=count)] + 0.5 * rng.standard_normal((count, DIM))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16).astype(np.float32)


def documents(numbers: range) -> list[dict[str, object]]:
    """Documents that bring their vectors; every ninth has none."""
    return [{"docno": f"文書{i}", "doc_embs": vectors(i, 0 if i % 9 == 8 else 3 + i % 7)} for i in numbers]


def topics() -> pd.DataFrame:
    """Queries that bring their vectors."""
    return pd.DataFrame({"qid": [str(i) for i in range(4)], "query_embs": [vectors(1000 + i, 5 + i) for i in range(4)]})


def rankings(index: object) -> dict[str, list[list[object]]]:
    """Returns the ranking of each retriever of an index: qid, docno and score, best first."""
    found = {}
    for name, settings in RETRIEVERS.items():
        frame = index.retriever(**settings)(topics())
        rows = zip(frame["qid"], frame["docno"], frame["score"], strict=True)
        found[name] = [[qid, docno, float(score)] for qid, docno, score in rows]
    return found


def write_archive(folder: Path) -> None:
    """Packs a folder; the same content gives the same bytes."""
    with zipfile.ZipFile(ARCHIVE, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and path.name not in (".lock", ".owner"):
                entry = zipfile.ZipInfo(path.relative_to(folder).as_posix())
                archive.writestr(entry, path.read_bytes(), zipfile.ZIP_DEFLATED)


def main() -> None:
    """Writes the archive."""
    with tempfile.TemporaryDirectory() as folder:
        write_indexes(Path(folder))
        write_archive(Path(folder))


def write_indexes(output: Path) -> None:
    """Writes the indexes and `rankings.json` to a folder."""
    import pyterrier_jacolbert.index.build as build
    from pyterrier_jacolbert.executors import SerialExecutor

    build.INT8_CENTROIDS_TOKENS = 100  # so that a small int8 index has centroids
    kept = {}
    for compression in COMPRESSIONS:
        settings = {"compression": compression, "n_centroids": 8}
        path = output / compression
        index = pj.JaColBERTIndexer(path, "somebody/unused", **settings).index(documents(range(50)))
        index.append(documents(range(50, 60)))
        index.delete(["文書3", "文書51"])
        kept[compression] = rankings(index)
    path = output / "shards"
    executor = SerialExecutor(32)
    indexer = pj.JaColBERTIndexer(
        path, "somebody/unused", compression="int8", n_centroids=8, shard_documents=16, executor=executor
    )
    index = indexer.index(documents(range(60)))
    index.delete(["文書40"])
    kept["shards"] = rankings(index)
    build.INT8_CENTROIDS_TOKENS = 10**9
    path = output / "one_stage"
    records = [{**record, "text": WORDS[i % len(WORDS)]} for i, record in enumerate(documents(range(20)))]
    index = pj.JaColBERTIndexer(path, "somebody/unused", compression="int8").index(records)
    kept["one_stage"] = rankings(index)
    texts = [{"docno": f"文書{i}", "text": f"{i}番。{WORDS[i % len(WORDS)]}"} for i in range(20)]
    bm25 = pj.JapaneseBM25(output / "bm25").index(texts).retriever(num_results=10)
    frame = bm25(pd.DataFrame({"qid": ["1", "2"], "query": ["日本一高い山", "豆腐の味噌汁"]}))
    rows = zip(frame["qid"], frame["docno"], frame["score"], strict=True)
    kept["bm25"] = {"default": [[qid, docno, float(score)] for qid, docno, score in rows]}
    text = json.dumps(kept, ensure_ascii=False, indent=1)
    (output / "rankings.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
