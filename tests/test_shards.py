"""A sharded index is, to the last bit, one index over the same documents; its shards come and go at once."""

import os
import pickle
import shutil

import numpy as np
import pandas as pd
import pyterrier as pt
import pytest
from conformance import contents

import pyterrier_jacolbert as pj
from pyterrier_jacolbert.executors import SerialExecutor, piece_of
from pyterrier_jacolbert.index import build as index_build
from pyterrier_jacolbert.index.manifest import META_FILE
from pyterrier_jacolbert.index.shards import Joined
from pyterrier_jacolbert.plots import length_statistics
from pyterrier_jacolbert.shard_build import join_shards
from pyterrier_jacolbert.sharded import open_index

DIM = 16
CENTRES = np.random.default_rng(7).standard_normal((20, DIM))
COUNT = 200


def unit(generator, n):
    rows = CENTRES[generator.integers(20, size=n)] + 0.3 * generator.standard_normal((n, DIM))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def documents(numbers):
    """Documents that bring their vectors; each depends on its number alone, and every seventh has none."""
    vectors = [unit(np.random.default_rng(i), 0 if i % 7 == 6 else 1 + i % 9) for i in numbers]
    return [{"docno": f"文書{i}", "doc_embs": rows} for i, rows in zip(numbers, vectors, strict=True)]


@pytest.fixture(scope="module")
def topics():
    vectors = [unit(np.random.default_rng(1000 + i), 4 + i) for i in range(6)]
    return pd.DataFrame({"qid": [str(i) for i in range(6)], "query_embs": vectors})


def indexer(path, compression="int8", shards_of=64, **settings):
    executor = None if shards_of is None else SerialExecutor(shards_of)
    settings = {"n_centroids": 16, "shard_documents": 16, "sample_tokens": 500, "executor": executor, **settings}
    return pj.JaColBERTIndexer(path, "somebody/unused", compression=compression, **settings)


@pytest.fixture(scope="module", autouse=True)
def _two_stages():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(index_build, "INT8_CENTROIDS_TOKENS", 100)
        yield


@pytest.fixture(scope="module", params=["float16", "int8", "4bit", "auto"])
def pair(request, tmp_path_factory):
    """One index, and one in shards, of the same documents."""
    folder = tmp_path_factory.mktemp(request.param)
    one = indexer(folder / "one", request.param, None).index(documents(range(COUNT)))
    return one, indexer(folder / "many", request.param).index(documents(range(COUNT)))


@pytest.fixture
def many(tmp_path):
    return indexer(tmp_path / "many").index(documents(range(COUNT)))


def data_of(index):
    """The bytes of an index's files but for the manifest, which lists them in its own order."""
    return {name: content for name, content in contents(index.path).items() if name.name != META_FILE}


def test_every_retriever_and_scorer_gives_the_same_ranking(pair, topics):
    one, many = pair
    assert isinstance(many, pj.ShardedIndex)
    assert len(many.shards()) == 4
    assert (len(many), many.stats()["tokens"]) == (len(one), one.stats()["tokens"])
    assert list(many.docnos()) == list(one.docnos())
    settings = {"num_results": 20}
    makers = {
        "balanced": lambda index: index.retriever(**settings),
        "few candidates": lambda index: index.retriever(n_candidates=40, **settings),
        "few probes": lambda index: index.retriever(n_candidates=40, n_probe=3, **settings),
        "exact": lambda index: index.exact_retriever(**settings),
        "torch": lambda index: index.torch_retriever(device="cpu", **settings),
        "filtered": lambda index: index.retriever(**settings).filter([f"文書{i}" for i in range(40, 140)]),
        "feedback": lambda index: index.retriever(num_results=3) >> index.prf(k=4) >> index.retriever(**settings),
        "scorer": lambda index: index.exact_retriever(num_results=30) >> index.scorer(),
    }
    for name, make in makers.items():
        found, expected = make(many)(topics), make(one)(topics)
        assert len(found) > 50, name
        pd.testing.assert_frame_equal(found, expected, obj=name)
    frame = pd.DataFrame({"docno": ["文書150", "文書0", "文書150", "文書63", "文書64"]})
    stored, expected = many.embs_loader()(frame), one.embs_loader()(frame)
    for rows, others in zip(stored["doc_embs"], expected["doc_embs"], strict=True):
        np.testing.assert_array_equal(rows, others)


def test_explanations_and_statistics_are_the_same(pair, topics):
    one, many = pair
    ranking = one.exact_retriever(num_results=5)(topics)
    found, expected = many.explainer()(ranking), one.explainer()(ranking)
    for contributions, others in zip(found["contributions"], expected["contributions"], strict=True):
        np.testing.assert_array_equal(contributions, others)
    pd.testing.assert_series_equal(length_statistics(many), length_statistics(one))


def test_shards_merged_are_the_bytes_of_one_build(pair, tmp_path):
    one, many = pair
    merged = pj.JaColBERTIndex.merge([many.path], tmp_path / "merged")
    assert data_of(merged) == data_of(one)
    assert merged.meta().keys() == one.meta().keys()
    assert {**merged.meta(), "files": 0} == {**one.meta(), "files": 0}
    merged.verify()


def test_each_shard_opens_by_itself(many, topics):
    whole = many.exact_retriever(num_results=COUNT)(topics)
    for number, shard in enumerate(many.shards()):
        shard.verify()
        names = {f"文書{i}" for i in range(64 * number, min(64 * number + 64, COUNT))}
        expected = whole[whole["docno"].isin(names)][["qid", "docno", "score"]].reset_index(drop=True)
        pd.testing.assert_frame_equal(shard.exact_retriever()(topics)[["qid", "docno", "score"]], expected)


def test_the_artifact_is_found_again_moved_packed_and_pickled(many, topics, tmp_path):
    expected = many.retriever()(topics)
    copied = tmp_path / "copied"
    shutil.copytree(many.path, copied)
    loaded = pt.Artifact.load(str(copied))
    assert isinstance(loaded, pj.ShardedIndex)
    for other in (loaded, open_index(copied), pickle.loads(pickle.dumps(many))):
        pd.testing.assert_frame_equal(other.retriever()(topics), expected)
    packed = {name for name, _ in many._package_files()}
    assert packed == {str(name) for name in contents(many.path) if name.name != ".lock"}


def test_appending_makes_a_shard_coded_as_the_others(many, topics):
    before = many.retriever(num_results=COUNT)(topics)
    reader = pj.ShardedIndex(many.path)
    reader.token_vectors()
    many.append(documents(range(COUNT, COUNT + 30)), shard_documents=16)
    assert (len(many), len(many.shards())) == (COUNT + 30, 5)
    assert list(many.docnos()) == [f"文書{i}" for i in range(COUNT + 30)]
    after = many.retriever(num_results=2 * COUNT)(topics)
    old = after[after["docno"].isin(set(before["docno"]))].drop(columns="rank").reset_index(drop=True)
    pd.testing.assert_frame_equal(old, before.drop(columns="rank"))
    pd.testing.assert_frame_equal(reader.retriever(num_results=COUNT)(topics), before)  # it keeps its view
    many.verify()
    with pytest.raises(ValueError, match="has a document '文書3' already; delete that first"):
        many.append(documents([500, 3]))
    assert len(pj.ShardedIndex(many.path).shards()) == 5


def test_deleted_replaced_and_compacted(many, topics, tmp_path):
    gone = [f"文書{i}" for i in (3, 70, 150)]
    everything = many.exact_retriever()(topics)
    many.delete(gone)
    expected = everything[~everything["docno"].isin(gone)].drop(columns="rank").reset_index(drop=True)
    for index in (many, pj.ShardedIndex(many.path)):
        assert len(index) == COUNT - 3
        pd.testing.assert_frame_equal(index.exact_retriever()(topics).drop(columns="rank"), expected)
    merged = pj.JaColBERTIndex.merge([many.path], tmp_path / "merged")
    pd.testing.assert_frame_equal(merged.exact_retriever()(topics).drop(columns="rank"), expected)
    many.replace_shard(1, documents(range(64, 100)))
    assert list(many.docnos())[64:101] == [*(f"文書{i}" for i in range(64, 100)), "文書128"]
    assert len(many) == COUNT - 28 - 2  # 文書70 is back
    left = many.exact_retriever()(topics)
    assert not {"文書3", "文書150", "文書110"} & set(left["docno"])
    many.compact()
    assert many.stats()["deleted"] == 0
    pd.testing.assert_frame_equal(many.exact_retriever()(topics), left)
    assert sorted(path.name for path in many.path.glob("shards-1/*")) == ["0004", "0005", "0006", "0007"]
    many.verify()


def test_a_docno_in_two_shards_is_named_with_both(tmp_path):
    docs = documents(range(96))
    make = indexer(tmp_path / "i")
    for number, part in ((1, docs), (2, [*docs[:70], docs[5], *docs[71:]])):
        make.index_shard(part, number, 2)
    with pytest.raises(ValueError, match=r"0001 and .*0002 both have a document '文書5'; rename or drop one"):
        join_shards(tmp_path / "i")
    assert not pj.ShardedIndex(tmp_path / "i").built()


def test_a_shard_that_was_changed_or_lost_is_named(many):
    many.shards()[1].delete(["文書70"])
    with pytest.raises(ValueError, match=r"shards-1/0002 was changed by itself; put it back"):
        pj.ShardedIndex(many.path).docnos()
    with pytest.raises(ValueError, match=r"shards-1/0002 was changed by itself; put it back"):
        many.verify()
    shutil.rmtree(many.path / "shards-1" / "0002")
    with pytest.raises(ValueError, match=r"shards-1/0002 is missing, so .* is damaged"):
        pj.ShardedIndex(many.path).docnos()


@pytest.mark.parametrize("compression", ["int8", "4bit"])
def test_shards_encoded_by_hand_are_those_of_one_build(tmp_path, compression):
    docs = documents(range(COUNT))
    one = indexer(tmp_path / "one", compression, None).index(docs)
    make = indexer(tmp_path / "many", compression, None)
    with pytest.raises(ValueError, match="make no more shards than 13, not 14; ask for fewer"):
        make.index_shard(docs, 1, 14)
    with pytest.raises(ValueError, match="give a list, not a generator"):
        make.index_shard(iter(docs), 1, 3)
    for number in (2, 1):  # each would be on a machine of its own
        make.index_shard(pd.DataFrame(docs), number, 3)
    with pytest.raises(ValueError, match="has 2 shards of 3; shard 3 is missing, so encode it"):
        join_shards(tmp_path / "many")
    with pytest.raises(FileExistsError, match="holds an interrupted build"):
        make.index_shard(docs, 1, 3)
    make.index_shard(docs, 3, 3)
    many = join_shards(tmp_path / "many")
    assert [entry["documents"] for entry in many.meta()["shards"]] == [64, 64, 72]
    assert data_of(pj.JaColBERTIndex.merge([many.path], tmp_path / "merged")) == data_of(one)
    with pytest.raises(FileExistsError, match="is an index already"):
        join_shards(tmp_path / "many")


class PowerCut(BaseException):
    """Nothing catches it."""


@pytest.mark.parametrize("compression", ["int8", "4bit"])
def test_a_build_that_stops_anywhere_ends_with_the_same_bytes_and_encodes_nothing_twice(
    tmp_path, compression, monkeypatch
):
    docs = documents(range(60))
    make = {"compression": compression, "shards_of": 32, "n_centroids": 4, "sample_tokens": 100}
    whole = contents(indexer(tmp_path / "whole", **make).index(docs).path)
    calls = []
    original = os.fsync
    monkeypatch.setattr(os, "fsync", lambda descriptor: calls.append(1) or original(descriptor))
    indexer(tmp_path / "counted", **make).index(docs)
    encoded = []
    first = pj.JaColBERTIndexer.encoded

    def counted(self, block, *rest):
        encoded.append(len(block))
        return first(self, block, *rest)

    monkeypatch.setattr(pj.JaColBERTIndexer, "encoded", counted)
    for stop in range(0, len(calls), 23):
        directory = tmp_path / f"stopped-{stop}"
        left = iter(range(stop))

        def fsync(descriptor, left=left):
            if next(left, None) is None:
                raise PowerCut
            original(descriptor)

        encoded.clear()
        monkeypatch.setattr(os, "fsync", fsync)
        with pytest.raises(PowerCut):
            indexer(directory, **make).index(docs)
        monkeypatch.setattr(os, "fsync", original)
        found = indexer(directory, mode="resume", **make).index(docs)
        assert contents(found.path) == whole, stop
        assert sum(encoded) in (60, 72, 76), stop  # at most the block that was cut is done again
        shutil.rmtree(directory)


def test_a_build_goes_on_only_with_the_same_documents_and_settings(tmp_path):
    docs = documents(range(COUNT))

    def failing(upto):
        yield from docs[:upto]
        raise RuntimeError("the network went away")

    with pytest.raises(RuntimeError, match="network") as caught:
        indexer(tmp_path / "i").index(failing(150))
    assert any("mode='resume' goes on" in note for note in caught.value.__notes__)
    assert piece_of(tmp_path / "i" / "shards-1" / "pieces", 8).is_dir()
    with pytest.raises(FileExistsError, match="holds an interrupted build"):
        indexer(tmp_path / "i").index(docs)
    again = {"mode": "resume"}
    with pytest.raises(ValueError, match="was begun with compression='int8', not '4bit'"):
        indexer(tmp_path / "i", "4bit", **again).index(docs)
    with pytest.raises(ValueError, match="was begun with documents_per_shard=64, not 32"):
        indexer(tmp_path / "i", shards_of=32, **again).index(docs)
    other = [*docs[:130], {**docs[130], "doc_embs": docs[1]["doc_embs"]}, *docs[131:]]
    with pytest.raises(ValueError, match=r"'文書130', is not the one .* but with other content"):
        indexer(tmp_path / "i", **again).index(other)
    with pytest.raises(ValueError, match=r"There are 100 documents, and the interrupted build .* found more"):
        indexer(tmp_path / "i", **again).index(docs[:100])
    with pytest.raises(ValueError, match="make it a multiple of shard_documents, 16"):
        indexer(tmp_path / "j", shards_of=40).index(docs)
    assert not (tmp_path / "j").exists()
    done = indexer(tmp_path / "i", **again).index(docs)
    assert contents(done.path) == contents(indexer(tmp_path / "whole").index(docs).path)
    assert len(indexer(tmp_path / "i", **again).index(docs)) == COUNT


def test_overwriting_leaves_the_old_index_readable_until_the_new_one_is_there(many, topics):
    before = many.retriever()(topics)
    reader = pj.ShardedIndex(many.path)
    with pytest.raises(ValueError, match="stands at positions"):
        indexer(many.path, mode="overwrite").index([*documents(range(40)), *documents([3])])
    pd.testing.assert_frame_equal(reader.retriever()(topics), before)
    indexer(many.path, mode="overwrite").index(documents(range(300, 340)))
    assert list(pj.ShardedIndex(many.path).docnos()) == [f"文書{i}" for i in range(300, 340)]
    assert [path.name for path in many.path.glob("shards-*")] == ["shards-2"]


def test_texts_and_queries_go_through_a_checkpoint(tmp_path, model, docs, topics):
    settings = {"store_text": True, "shard_documents": 2, "title_field": "title"}
    make = pj.JaColBERTIndexer(tmp_path / "many", model, executor=SerialExecutor(4), **settings)
    many = make.index(docs)
    one = pj.JaColBERTIndexer(tmp_path / "one", model, **settings).index(docs)
    assert many.meta()["model"] == one.meta()["model"] == many.shards()[0].meta()["model"]
    queries = pd.DataFrame({"qid": ["1"], "query": ["日本で一番高い山"]})
    pd.testing.assert_frame_equal(pj.ShardedIndex(many.path).retriever()(queries), one.retriever()(queries))
    frame = pd.DataFrame({"docno": [doc["docno"] for doc in docs]})
    pd.testing.assert_frame_equal(pt.text.get_text(many)(frame), pt.text.get_text(one)(frame))


def test_arrays_end_to_end():
    parts = [np.arange(3), np.empty(0, dtype=np.int64), np.arange(3, 8)]
    joined, plain = Joined(parts), np.arange(8)
    assert len(joined) == 8
    for rows in (slice(None), slice(1, 3), slice(2, 5), slice(3, 3), slice(8, 8), slice(0, 8, 2), np.array([7, 0, 3])):
        np.testing.assert_array_equal(joined[rows], plain[rows])
