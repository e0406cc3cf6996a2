"""Shared fixtures: no network, tiny checkpoints, a small index, and the real data if it is available."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"
if "PYTEST_XDIST_WORKER" in os.environ:
    # Processes of several threads each, side by side, wait for each other's cores.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

from pathlib import Path

import pandas as pd
import pytest
from checkpoints import write_stanford_checkpoint
from hypothesis import settings

import pyterrier_jacolbert as pj

# On a busy machine, a slow test is not a failure.
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")

SHARED = Path(__file__).resolve().parents[2] / "shared"

DOCS = [
    {"docno": "d1", "title": "富士山", "text": "富士山は静岡県と山梨県にまたがる、日本で一番高い山である。"},
    {"docno": "d2", "title": "琵琶湖", "text": "琵琶湖は滋賀県にある日本で一番大きい湖で、京都の水源でもある。"},
    {"docno": "d3", "title": "東京", "text": "東京は日本の首都で、人口は一千万人を超える。"},
    {"docno": "d4", "title": "味噌汁", "text": "味噌汁は出汁に味噌を溶いた汁物で、豆腐やわかめを入れる。"},
    {"docno": "d5", "title": "新幹線", "text": "新幹線は東京と大阪を二時間半で結ぶ。Shinkansen, since 1964!"},
    {"docno": "d6", "title": "空", "text": ""},
    {"docno": "d7", "title": "夏目漱石", "text": "夏目漱石は「吾輩は猫である」を書いた小説家である。"},
    {"docno": "d8", "title": "蕎麦", "text": "蕎麦は蕎麦粉で作る麺で、冷たくても温かくても食べる。"},
]


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder of the real data and weights, beside the checkout."""
    if not SHARED.is_dir():
        pytest.skip(f"the shared data and weights are not at {SHARED}")
    return SHARED


@pytest.fixture(scope="session")
def tohoku(shared) -> Path:
    """The tokenizer of the released checkpoints."""
    return shared / "models" / "tohoku-bert-base-japanese-v3-tokenizer"


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory) -> Path:
    """A random checkpoint in Stanford ColBERT's layout, with a small vocabulary of its own."""
    return write_stanford_checkpoint(tmp_path_factory.mktemp("checkpoint"), hidden=64, dim=128)


@pytest.fixture(scope="session")
def tohoku_checkpoint(tmp_path_factory, tohoku) -> Path:
    """A random checkpoint with the vocabulary of the released ones."""
    return write_stanford_checkpoint(tmp_path_factory.mktemp("tohoku"), tohoku, hidden=64, dim=128)


@pytest.fixture(scope="session")
def model(checkpoint) -> pj.JaColBERT:
    return pj.JaColBERT(str(checkpoint), dtype="float32")


@pytest.fixture(scope="session")
def docs() -> list[dict[str, str]]:
    return [dict(doc) for doc in DOCS]


@pytest.fixture(scope="session")
def index(tmp_path_factory, model, docs) -> pj.JaColBERTIndex:
    path = tmp_path_factory.mktemp("index") / "docs.jacolbert"
    return pj.JaColBERTIndexer(path, model, compression="float16").index(docs)


@pytest.fixture
def no_fsync(monkeypatch) -> None:
    """Flushes nothing to disk, which takes most of the time of a test that kills often: no machine goes down here."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture
def topics() -> pd.DataFrame:
    return pd.DataFrame(
        {"qid": ["q2", "q1", "q3"], "query": ["日本で一番高い山", "味噌汁の具", "漱石の小説"], "qtype": ["a", "b", "c"]}
    )


@pytest.fixture
def candidates(topics, docs) -> pd.DataFrame:
    """Every document for every query, with its text and a first-stage score."""
    frame = topics.merge(pd.DataFrame(docs), how="cross")
    return frame.assign(score=[float(-i) for i in range(len(frame))], rank=list(range(len(docs))) * len(topics))
