"""The journal and the folders of an interrupted build of shards, as a stranger may leave them."""

import hostile
import numpy as np
import pytest
from conformance import contents

import pyterrier_jacolbert as pj
from pyterrier_jacolbert.building import sharded_build

DAMAGED = "damaged.*; build or fetch (it|the index) again"


def documents(numbers):
    rows = {number: np.random.default_rng(number).standard_normal((3, 16)).astype(np.float32) for number in numbers}
    return [{"docno": f"d{number}", "doc_embs": row} for number, row in rows.items()]


def build(path, mode):
    index = pj.ShardedIndex(path, "somebody/unused")
    settings = {"compression": "4bit", "n_centroids": 4, "batch_documents": 4, "documents_per_shard": 8}
    return index.index(documents(range(16)), mode=mode, **settings)


@pytest.fixture
def interrupted(tmp_path, monkeypatch):
    """Path of a build that was interrupted after its codec was trained."""

    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(sharded_build, "publish_shards", stop)
        patch.setattr(sharded_build, "compress_shard", stop)
        with pytest.raises(KeyboardInterrupt):
            build(tmp_path / "index", "create")
    return tmp_path / "index"


def test_interrupted_build_resumes(interrupted):
    build(interrupted, "resume").verify()


FIELDS = {
    "settings": [None, {}],
    "origin": [None, []],
    "shards": [3, [3], [{"documents": True, "digest": None}], [{"documents": 8, "digest": 3}]],
    "compression": ["zip", 3, None],
    "parameters": [None, 3, {"centroids": 3}],
    "model": [3, {"command": "x"}],
    "evil": [1],
}
PARAMETERS = {
    "parameters of another folder": ("centroids", "file", "../outside/diary.txt"),
    "parameters in another shape": ("rotation", "shape", [8, 8]),
    "parameters of another type": ("levels", "dtype", "<f2"),
}


@pytest.mark.parametrize("name", [*FIELDS, *PARAMETERS])
def test_hostile_journal_of_shards_is_damage(interrupted, name):
    journal = interrupted / "data-1" / "journal.json"
    sound = journal.read_bytes()
    for value in FIELDS.get(name, [None]):
        with hostile.changed_json(journal) as content:
            if name in PARAMETERS:
                array, field, value = PARAMETERS[name]
                content["parameters"][array][field] = value
            else:
                content[name] = value
        with pytest.raises(ValueError, match=DAMAGED):
            build(interrupted, "resume")
        journal.write_bytes(sound)
    build(interrupted, "resume").verify()


@pytest.mark.parametrize("place", ["shards-1", "shards-1/0002", "shards-1/0001/data-1", "data-1/journal.json"])
def test_no_link_is_followed_out_of_a_build_of_shards(interrupted, tmp_path, place):
    outside = tmp_path / "outside"
    (outside / "data-1").mkdir(parents=True)
    (outside / "data-1" / "starts.i8").write_bytes(b"precious")
    (outside / "diary.txt").write_bytes(b"precious")
    before = contents(outside)
    hostile.replace_by_link(interrupted / place, outside / "diary.txt" if "." in place else outside)
    for use in (lambda: build(interrupted, "resume"), lambda: pj.ShardedIndex.join(interrupted)):
        with pytest.raises(ValueError, match="symbolic link.*damaged"):
            use()
    assert contents(outside) == before
