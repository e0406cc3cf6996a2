"""A sharded index gives, to the last bit, the results of a single index of the same documents, also after updates."""

import pickle
import shutil

import numpy as np
import pandas as pd
import pyterrier as pt
import pytest
from clustered_documents import documents, queries
from conformance import contents
from power_cuts import PowerCut, count_calls, power_cut_after

import pyterrier_jacolbert as pj
from pyterrier_jacolbert.artifacts.open import open_index
from pyterrier_jacolbert.building.batches import batch_folder
from pyterrier_jacolbert.building.encoding import DocumentEncoder
from pyterrier_jacolbert.building.executors import SerialExecutor
from pyterrier_jacolbert.index.codecs import training
from pyterrier_jacolbert.index.storage.concatenated import ConcatenatedArray
from pyterrier_jacolbert.index.storage.directory import META_FILE
from pyterrier_jacolbert.plots.lengths import length_statistics

N_DOCUMENTS = 200


@pytest.fixture(scope="module")
def topics():
    return queries()


def indexer(path, compression="int8", documents_per_shard=64, **settings):
    """Returns an indexer; it builds a single index if ``documents_per_shard`` is None."""
    executor = None if documents_per_shard is None else SerialExecutor(documents_per_shard)
    settings = {"n_centroids": 16, "batch_documents": 16, "sample_tokens": 500, "executor": executor, **settings}
    return pj.JaColBERTIndexer(path, "somebody/unused", compression=compression, **settings)


@pytest.fixture(scope="module", autouse=True)
def _two_stages():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "INT8_CENTROIDS_TOKENS", 100)
        yield


@pytest.fixture(scope="module", params=["float16", "int8", "4bit", "auto"])
def single_and_sharded(request, tmp_path_factory):
    """A single and a sharded index of the same documents."""
    folder = tmp_path_factory.mktemp(request.param)
    single = indexer(folder / "single", request.param, None).index(documents(range(N_DOCUMENTS)))
    return single, indexer(folder / "sharded", request.param).index(documents(range(N_DOCUMENTS)))


@pytest.fixture
def sharded(tmp_path):
    return indexer(tmp_path / "sharded").index(documents(range(N_DOCUMENTS)))


def contents_without_manifest(index):
    """Returns the content of an index's files but for the manifest, which lists them in its own order."""
    return {name: content for name, content in contents(index.path).items() if name.name != META_FILE}


def failing_documents(docs, count):
    yield from docs[:count]
    raise RuntimeError("the network went away")


def test_every_retriever_and_reranker_gives_the_same_ranking(single_and_sharded, topics):
    single, sharded = single_and_sharded
    assert isinstance(sharded, pj.ShardedIndex)
    assert len(sharded.shards()) == 4
    assert (len(sharded), sharded.stats()["tokens"]) == (len(single), single.stats()["tokens"])
    assert list(sharded.docnos()) == list(single.docnos())
    settings = {"num_results": 20}
    factories = {
        "balanced": lambda index: index.retriever(**settings),
        "few candidates": lambda index: index.retriever(n_candidates=40, **settings),
        "few probes": lambda index: index.retriever(n_candidates=40, n_probe=3, **settings),
        "exact": lambda index: index.exact_retriever(**settings),
        "torch": lambda index: index.torch_retriever(device="cpu", **settings),
        "filtered": lambda index: index.retriever(**settings).filter([f"文書{i}" for i in range(40, 140)]),
        "feedback": lambda index: index.retriever(num_results=3) >> index.prf(k=4) >> index.retriever(**settings),
        "scorer": lambda index: index.exact_retriever(num_results=30) >> index.scorer(),
    }
    for name, create in factories.items():
        found, expected = create(sharded)(topics), create(single)(topics)
        assert len(found) > 50, name
        pd.testing.assert_frame_equal(found, expected, obj=name)
    frame = pd.DataFrame({"docno": ["文書150", "文書0", "文書150", "文書63", "文書64"]})
    loaded, expected = sharded.embs_loader()(frame), single.embs_loader()(frame)
    for rows, others in zip(loaded["doc_embs"], expected["doc_embs"], strict=True):
        np.testing.assert_array_equal(rows, others)


def test_explanations_and_length_statistics_are_the_same(single_and_sharded, topics):
    single, sharded = single_and_sharded
    ranking = single.exact_retriever(num_results=5)(topics)
    found, expected = sharded.explainer()(ranking), single.explainer()(ranking)
    for contributions, others in zip(found["contributions"], expected["contributions"], strict=True):
        np.testing.assert_array_equal(contributions, others)
    pd.testing.assert_series_equal(length_statistics(sharded), length_statistics(single))


def test_merged_shards_have_the_bytes_of_a_single_build(single_and_sharded, tmp_path):
    single, sharded = single_and_sharded
    merged = pj.JaColBERTIndex.merge([sharded.path], tmp_path / "merged")
    assert contents_without_manifest(merged) == contents_without_manifest(single)
    assert merged.meta().keys() == single.meta().keys()
    assert {**merged.meta(), "files": 0} == {**single.meta(), "files": 0}
    merged.verify()


def test_each_shard_is_an_index_of_its_own(sharded, topics):
    whole = sharded.exact_retriever(num_results=N_DOCUMENTS)(topics)
    for number, shard in enumerate(sharded.shards()):
        shard.verify()
        docnos = {f"文書{i}" for i in range(64 * number, min(64 * number + 64, N_DOCUMENTS))}
        expected = whole[whole["docno"].isin(docnos)][["qid", "docno", "score"]].reset_index(drop=True)
        pd.testing.assert_frame_equal(shard.exact_retriever()(topics)[["qid", "docno", "score"]], expected)


def test_artifact_is_moved_packaged_and_pickled(sharded, topics, tmp_path):
    expected = sharded.retriever()(topics)
    copied = tmp_path / "copied"
    shutil.copytree(sharded.path, copied)
    loaded = pt.Artifact.load(str(copied))
    assert isinstance(loaded, pj.ShardedIndex)
    for other in (loaded, open_index(copied), pickle.loads(pickle.dumps(sharded))):
        pd.testing.assert_frame_equal(other.retriever()(topics), expected)
    packaged = {name for name, _ in sharded._package_files()}
    assert packaged == {str(name) for name in contents(sharded.path) if name.name != ".lock"}


def test_append_adds_a_shard_with_the_same_codec(sharded, topics):
    before = sharded.retriever(num_results=N_DOCUMENTS)(topics)
    reader = pj.ShardedIndex(sharded.path)
    reader.token_vectors()
    sharded.append(documents(range(N_DOCUMENTS, N_DOCUMENTS + 30)), batch_documents=16)
    assert (len(sharded), len(sharded.shards())) == (N_DOCUMENTS + 30, 5)
    assert list(sharded.docnos()) == [f"文書{i}" for i in range(N_DOCUMENTS + 30)]
    after = sharded.retriever(num_results=2 * N_DOCUMENTS)(topics)
    old = after[after["docno"].isin(set(before["docno"]))].drop(columns="rank").reset_index(drop=True)
    pd.testing.assert_frame_equal(old, before.drop(columns="rank"))
    pd.testing.assert_frame_equal(reader.retriever(num_results=N_DOCUMENTS)(topics), before)  # keeps what it opened
    sharded.verify()
    with pytest.raises(ValueError, match="already has a document '文書3'; delete it first"):
        sharded.append(documents([500, 3]))
    assert len(pj.ShardedIndex(sharded.path).shards()) == 5


def test_delete_replace_shard_and_compact(sharded, topics, tmp_path):
    deleted = [f"文書{i}" for i in (3, 70, 150)]
    before = sharded.exact_retriever()(topics)
    sharded.delete(deleted)
    expected = before[~before["docno"].isin(deleted)].drop(columns="rank").reset_index(drop=True)
    for index in (sharded, pj.ShardedIndex(sharded.path)):
        assert len(index) == N_DOCUMENTS - 3
        pd.testing.assert_frame_equal(index.exact_retriever()(topics).drop(columns="rank"), expected)
    merged = pj.JaColBERTIndex.merge([sharded.path], tmp_path / "merged")
    pd.testing.assert_frame_equal(merged.exact_retriever()(topics).drop(columns="rank"), expected)
    sharded.replace_shard(1, documents(range(64, 100)))
    assert list(sharded.docnos())[64:101] == [*(f"文書{i}" for i in range(64, 100)), "文書128"]
    assert len(sharded) == N_DOCUMENTS - 28 - 2  # 文書70 is there again
    replaced = sharded.exact_retriever()(topics)
    assert not {"文書3", "文書150", "文書110"} & set(replaced["docno"])
    sharded.compact()
    assert sharded.stats()["deleted"] == 0
    pd.testing.assert_frame_equal(sharded.exact_retriever()(topics), replaced)
    assert sorted(path.name for path in sharded.path.glob("shards-1/*")) == ["0004", "0005", "0006", "0007"]
    sharded.verify()


def test_docno_in_two_shards_is_named_with_both(tmp_path):
    docs = documents(range(96))
    for number, shard_docs in ((1, docs), (2, [*docs[:70], docs[5], *docs[71:]])):
        indexer(tmp_path / "i").index_shard(shard_docs, number, 2)
    with pytest.raises(ValueError, match="0001 and .*0002 both have a document '文書5'; rename or drop one"):
        pj.ShardedIndex.join(tmp_path / "i")
    assert not pj.ShardedIndex(tmp_path / "i").built()


def test_changed_and_missing_shards_are_named(sharded):
    sharded.shards()[1].delete(["文書70"])
    with pytest.raises(ValueError, match="shards-1/0002 was changed on its own; restore it"):
        pj.ShardedIndex(sharded.path).docnos()
    with pytest.raises(ValueError, match="shards-1/0002 was changed on its own; restore it"):
        sharded.verify()
    shutil.rmtree(sharded.path / "shards-1" / "0002")
    with pytest.raises(ValueError, match="shards-1/0002 is missing, so .* is damaged"):
        pj.ShardedIndex(sharded.path).docnos()


@pytest.mark.parametrize("compression", ["int8", "4bit"])
def test_separately_encoded_shards_equal_a_single_build(tmp_path, compression):
    docs = documents(range(N_DOCUMENTS))
    single = indexer(tmp_path / "single", compression, None).index(docs)
    shard_indexer = indexer(tmp_path / "sharded", compression, None)
    with pytest.raises(ValueError, match="13 shards, not 14"):
        shard_indexer.index_shard(docs, 1, 14)
    with pytest.raises(ValueError, match="not a generator"):
        shard_indexer.index_shard(iter(docs), 1, 3)
    for number in (2, 1):  # usually each on a machine of its own
        shard_indexer.index_shard(pd.DataFrame(docs), number, 3)
    with pytest.raises(ValueError, match="2 of 3 shards; .*shard 3"):
        pj.ShardedIndex.join(tmp_path / "sharded")
    with pytest.raises(FileExistsError, match="holds an interrupted build"):
        shard_indexer.index_shard(docs, 1, 3)
    shard_indexer.index_shard(docs, 3, 3)
    sharded = pj.ShardedIndex.join(tmp_path / "sharded")
    assert [shard["documents"] for shard in sharded.meta()["shards"]] == [64, 64, 72]
    merged = pj.JaColBERTIndex.merge([sharded.path], tmp_path / "merged")
    assert contents_without_manifest(merged) == contents_without_manifest(single)
    with pytest.raises(FileExistsError, match="is an index already"):
        pj.ShardedIndex.join(tmp_path / "sharded")


@pytest.mark.parametrize("compression", ["int8", "4bit"])
def test_resume_gives_the_same_bytes_and_encodes_nothing_twice(tmp_path, compression, monkeypatch):
    docs = documents(range(60))
    settings = {"compression": compression, "documents_per_shard": 32, "n_centroids": 4, "sample_tokens": 100}
    expected = contents(indexer(tmp_path / "whole", **settings).index(docs).path)
    with count_calls("fsync") as calls:
        indexer(tmp_path / "counted", **settings).index(docs)
    n_encoded = []
    original = DocumentEncoder.encode

    def count_and_encode(self, batch, *args):
        n_encoded.append(len(batch))
        return original(self, batch, *args)

    monkeypatch.setattr(DocumentEncoder, "encode", count_and_encode)
    for stop in range(0, len(calls), 23):
        directory = tmp_path / f"stopped-{stop}"
        n_encoded.clear()
        with pytest.raises(PowerCut), power_cut_after(stop, "fsync"):
            indexer(directory, **settings).index(docs)
        resumed = indexer(directory, mode="resume", **settings).index(docs)
        assert contents(resumed.path) == expected, stop
        assert sum(n_encoded) in (60, 72, 76), stop  # only the batch that was being written is encoded again
        shutil.rmtree(directory)


def test_resume_refuses_other_documents_and_settings(tmp_path):
    docs = documents(range(N_DOCUMENTS))
    with pytest.raises(RuntimeError, match="network") as caught:
        indexer(tmp_path / "i").index(failing_documents(docs, 150))
    assert any("mode='resume'" in note for note in caught.value.__notes__)
    assert batch_folder(tmp_path / "i" / "shards-1" / "batches", 8).is_dir()
    with pytest.raises(FileExistsError, match="holds an interrupted build"):
        indexer(tmp_path / "i").index(docs)
    resume = {"mode": "resume"}
    with pytest.raises(ValueError, match="compression='int8', not '4bit'"):
        indexer(tmp_path / "i", "4bit", **resume).index(docs)
    with pytest.raises(ValueError, match="documents_per_shard=64, not 32"):
        indexer(tmp_path / "i", documents_per_shard=32, **resume).index(docs)
    other = [*docs[:130], {**docs[130], "doc_embs": docs[1]["doc_embs"]}, *docs[131:]]
    with pytest.raises(ValueError, match="'文書130', is not the one .* other content"):
        indexer(tmp_path / "i", **resume).index(other)
    with pytest.raises(ValueError, match="100 documents, and the interrupted build .* more"):
        indexer(tmp_path / "i", **resume).index(docs[:100])
    index = indexer(tmp_path / "i", **resume).index(docs)
    assert contents(index.path) == contents(indexer(tmp_path / "whole").index(docs).path)
    assert len(indexer(tmp_path / "i", **resume).index(docs)) == N_DOCUMENTS


def test_shards_are_whole_numbers_of_batches(tmp_path):
    with pytest.raises(ValueError, match="a multiple of batch_documents, 16, not 40"):
        indexer(tmp_path / "i", documents_per_shard=40).index(documents(range(N_DOCUMENTS)))
    assert not (tmp_path / "i").exists()


def test_overwrite_keeps_the_old_index_until_it_is_complete(sharded, topics):
    before = sharded.retriever()(topics)
    reader = pj.ShardedIndex(sharded.path)
    with pytest.raises(ValueError, match="'文書3' is at positions 3 and 40"):
        indexer(sharded.path, mode="overwrite").index([*documents(range(40)), *documents([3])])
    pd.testing.assert_frame_equal(reader.retriever()(topics), before)
    indexer(sharded.path, mode="overwrite").index(documents(range(300, 340)))
    assert list(pj.ShardedIndex(sharded.path).docnos()) == [f"文書{i}" for i in range(300, 340)]
    assert [path.name for path in sharded.path.glob("shards-*")] == ["shards-2"]


def test_documents_and_queries_are_encoded_as_in_a_single_index(tmp_path, model, docs):
    settings = {"store_text": True, "batch_documents": 2, "title_field": "title"}
    sharded = pj.JaColBERTIndexer(tmp_path / "sharded", model, executor=SerialExecutor(4), **settings).index(docs)
    single = pj.JaColBERTIndexer(tmp_path / "single", model, **settings).index(docs)
    assert sharded.meta()["model"] == single.meta()["model"] == sharded.shards()[0].meta()["model"]
    query = pd.DataFrame({"qid": ["1"], "query": ["日本で一番高い山"]})
    pd.testing.assert_frame_equal(pj.ShardedIndex(sharded.path).retriever()(query), single.retriever()(query))
    frame = pd.DataFrame({"docno": [doc["docno"] for doc in docs]})
    pd.testing.assert_frame_equal(pt.text.get_text(sharded)(frame), pt.text.get_text(single)(frame))


def test_concatenated_array_is_indexed_like_the_concatenation():
    parts = [np.arange(3), np.empty(0, dtype=np.int64), np.arange(3, 8)]
    concatenated, plain = ConcatenatedArray(parts), np.arange(8)
    assert len(concatenated) == 8
    for rows in (slice(None), slice(1, 3), slice(2, 5), slice(3, 3), slice(8, 8), slice(0, 8, 2), np.array([7, 0, 3])):
        np.testing.assert_array_equal(concatenated[rows], plain[rows])
