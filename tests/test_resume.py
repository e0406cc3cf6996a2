"""Resuming a finished index returns it if it holds the given documents with the given settings, and refuses others."""

import shutil
import zipfile

import make_indexes
import pytest
from checkpoints import write_stanford_checkpoint
from clustered_documents import documents
from conformance import contents
from power_cuts import PowerCut, count_calls, power_cut_after

import pyterrier_jacolbert as pj
from pyterrier_jacolbert.artifacts.open import open_index
from pyterrier_jacolbert.building.executors import SerialExecutor
from pyterrier_jacolbert.index.codecs import training

EVENTS = ("fsync", "replace", "rename", "unlink", "rmdir", "mkdir")


@pytest.fixture(params=[None, 16], ids=["single", "sharded"])
def build(request, tmp_path):
    """Builds an index, single or sharded, of documents that bring their vectors."""

    def build_index(docs, mode="create", path=tmp_path / "i", **settings):
        executor = None if request.param is None else SerialExecutor(request.param)
        settings = {"compression": "int8", "batch_documents": 8, "executor": executor, **settings}
        return pj.JaColBERTIndexer(path, "somebody/unused", mode=mode, **settings).index(docs)

    return build_index


def other_content(number):
    return {**documents([number])[0], "doc_embs": documents([1])[0]["doc_embs"]}


def test_the_same_documents_return_the_finished_index(build):
    index = build(documents(range(20)))
    before = contents(index.path)
    assert build(iter(documents(range(20))), "resume") == index
    assert build(documents(range(20)), "resume", compression="auto") == index
    assert contents(index.path) == before


def test_other_documents_are_named_and_refused(build):
    docs = documents(range(20))
    before = contents(build(docs).path)
    for others, message in (
        (
            [*docs[:3], other_content(3), *docs[4:]],
            "position 3, '文書3', is not the one .* other content",
        ),
        ([*docs[:3], *docs[4:]], "position 3, '文書4', is not the one .*, '文書3'; give the same documents"),
        (docs[:17], "There are 17 documents, and the finished index .* holds 20"),
        (documents(range(22)), "holds 20 documents, and '文書20' is one more; add documents with mode='append'"),
    ):
        with pytest.raises(ValueError, match=message):
            build(others, "resume")
    after = contents(build(docs, "resume").path)
    assert after == before


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"compression": "float16"}, "compression='int8', not 'float16'"),
        ({"n_centroids": 7}, "n_centroids=None, not 7"),
        ({"sample_tokens": 99}, "sample_tokens=524288, not 99"),
        ({"text_field": "body"}, "text_field='text', not 'body'"),
        ({"title_field": "title"}, "title_field=None, not 'title'"),
        ({"store_text": True}, "store_text=False, not True"),
        ({"pool_factor": 2}, "pool_factor=None, not 2"),
    ],
    ids=str,
)
def test_other_settings_are_named_and_refused(build, setting, message):
    build(documents(range(20)))
    with pytest.raises(ValueError, match=f"{message}; give the same settings"):
        build(documents(range(20)), "resume", **setting)


def test_auto_stands_for_the_compression_of_the_size(build, monkeypatch):
    build(documents(range(20)), compression="4bit", n_centroids=4)
    with pytest.raises(ValueError, match="compression='4bit', not 'int8'"):
        build(documents(range(20)), "resume", compression="auto")
    monkeypatch.setattr(training, "AUTO_INT8_TOKENS", 10)
    build(documents(range(20)), "resume", compression="auto", n_centroids=4)


def test_an_updated_index_resumes_with_the_documents_that_it_holds(build, tmp_path):
    index = build(documents(range(20)))
    index.append(documents(range(20, 30)))
    assert len(build(documents(range(30)), "resume")) == 30
    with pytest.raises(ValueError, match="There are 20 documents"):
        build(documents(range(20)), "resume")
    index.delete(["文書3", "文書25"])
    kept = [i for i in range(30) if i not in (3, 25)]
    for _ in range(2):
        assert len(build(documents(kept), "resume")) == 28
        with pytest.raises(ValueError, match="position 3, '文書3', is not the one"):
            build(documents(range(30)), "resume")
        index.compact()
    others = build([other_content(3)], path=tmp_path / "others")
    pj.JaColBERTIndex.merge([index.path, others.path], tmp_path / "merged")
    merged = pj.JaColBERTIndexer(tmp_path / "merged", "somebody/unused", mode="resume", compression="int8")
    assert len(merged.index([*documents(kept), other_content(3)])) == 29
    with pytest.raises(ValueError, match="position 28, '文書3', .* other content"):
        merged.index([*documents(kept), *documents([3])])


def test_vectors_compressed_again_keep_the_digests_of_the_documents(tmp_path):
    def indexer(name, mode="create"):
        return pj.JaColBERTIndexer(tmp_path / name, "somebody/unused", mode=mode, compression="4bit", n_centroids=4)

    indexes = [indexer("a").index(documents(range(12))), indexer("b").index(documents(range(12, 30)))]
    pj.JaColBERTIndex.merge([index.path for index in indexes], tmp_path / "merged")
    assert len(indexer("merged", "resume").index(documents(range(30)))) == 30
    with pytest.raises(ValueError, match="position 3, '文書3', .* other content"):
        indexer("merged", "resume").index([*documents(range(3)), other_content(3), *documents(range(4, 30))])


@pytest.mark.parametrize("name", ["int8", "shards"])
def test_an_earlier_index_is_compared_by_its_docnos(name, tmp_path):
    with zipfile.ZipFile(make_indexes.ARCHIVE) as archive:
        archive.extractall(tmp_path)
    executor = SerialExecutor(2048) if name == "shards" else None
    indexer = pj.JaColBERTIndexer(
        tmp_path / name, "somebody/unused", mode="resume", compression="int8", executor=executor
    )
    deleted = {"int8": ("文書3", "文書51"), "shards": ("文書40",)}[name]
    docs = [document for document in make_indexes.documents(range(60)) if document["docno"] not in deleted]
    index = indexer.index(docs)
    with pytest.raises(ValueError, match="position 5, '文書x', is not the one"):
        indexer.index([*docs[:5], {**docs[5], "docno": "文書x"}, *docs[6:]])
    index.append(make_indexes.documents(range(60, 70))).compact()
    assert indexer.index([*docs, *make_indexes.documents(range(60, 70))]) == index


def test_another_checkpoint_and_document_length_are_refused(tmp_path, model, checkpoint, docs):
    def resume(given):
        return pj.JaColBERTIndexer(tmp_path / "i", given, mode="resume", compression="int8").index(docs)

    resume(model)
    assert len(resume(pj.JaColBERT(str(checkpoint), dtype="float32", max_document_length=300))) == len(docs)
    with pytest.raises(ValueError, match="max_document_length=None, not 8"):
        resume(pj.JaColBERT(str(checkpoint), max_document_length=8))
    retrained = write_stanford_checkpoint(tmp_path / "retrained", hidden=64, dim=128, seed=1)
    with pytest.raises(ValueError, match=f"was built with .*{checkpoint.name}.* and .*retrained.* has other weights"):
        resume(str(retrained))
    narrow = write_stanford_checkpoint(tmp_path / "narrow", hidden=64, dim=64)
    with pytest.raises(ValueError, match="has other weights"):
        resume(str(narrow))
    assert len(resume(str(checkpoint))) == len(docs)


@pytest.mark.usefixtures("no_fsync")
@pytest.mark.parametrize(
    "step", [pytest.param(1, marks=pytest.mark.exhaustive), pytest.param(5, marks=pytest.mark.slow), 47]
)
@pytest.mark.parametrize("interrupted", [False, True], ids=["finished", "interrupted"])
def test_overwrite_killed_anywhere_never_returns_the_old_index(build, tmp_path, interrupted, step):
    start, new = tmp_path / "start", documents(range(100, 112))
    build(documents(range(20)), path=start)
    if interrupted:
        with pytest.raises(PowerCut), power_cut_after(60, "fsync"):
            build(documents(range(200, 240)), "overwrite", path=start)
        assert list(start.glob("*/journal.json"))
    shutil.copytree(start, tmp_path / "whole")
    with count_calls(*EVENTS) as calls:
        build(new, "overwrite", path=tmp_path / "whole")
    expected = contents(tmp_path / "whole")
    outcomes = set()
    for stop in range(0, len(calls), step):
        directory = tmp_path / "killed"
        shutil.copytree(start, directory)
        with pytest.raises(PowerCut), power_cut_after(stop, *EVENTS):
            build(new, "overwrite", path=directory)
        assert len(open_index(directory)) in (20, 12), stop
        try:
            build(new, "resume", path=directory)
            outcomes.add("resumed")
        except ValueError:
            build(new, "overwrite", path=directory)
            outcomes.add("refused")
        assert contents(directory) == expected, stop
        shutil.rmtree(directory)
    assert outcomes == {"resumed", "refused"}


@pytest.mark.slow
@pytest.mark.usefixtures("no_fsync")
def test_sharded_create_killed_at_every_file_event_resumes_to_the_same_bytes(tmp_path):
    def create(path, mode):
        settings = {"compression": "4bit", "n_centroids": 4, "batch_documents": 4, "executor": SerialExecutor(4)}
        return pj.JaColBERTIndexer(path, "somebody/unused", mode=mode, **settings).index(documents(range(8)))

    with count_calls(*EVENTS) as calls:
        create(tmp_path / "whole", "create")
    expected = contents(tmp_path / "whole")
    for stop in range(len(calls)):
        directory = tmp_path / "killed"
        with pytest.raises(PowerCut), power_cut_after(stop, *EVENTS):
            create(directory, "create")
        create(directory, "resume")
        assert contents(directory) == expected, stop
        shutil.rmtree(directory)
