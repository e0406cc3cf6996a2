"""On Ray: work that kills its process is tried a bounded number of times, named in an error, and the rest is kept."""

import os
import signal

import pytest
from clustered_documents import documents
from conformance import contents

import pyterrier_jacolbert as pj
from pyterrier_jacolbert.building.encoding import DocumentEncoder
from pyterrier_jacolbert.building.executors import SerialExecutor
from pyterrier_jacolbert.building.settings import IndexerSettings
from pyterrier_jacolbert.building.sharded import build_sharded
from pyterrier_jacolbert.distributed import RayExecutor

N_DOCUMENTS = 96
SETTINGS = {"compression": "4bit", "n_centroids": 8, "batch_documents": 16, "sample_tokens": 300}


@pytest.fixture(scope="module")
def ray():
    ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'pyterrier-jacolbert[ray]'")
    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False)  # never a cluster that is running
    yield ray
    ray.shutdown()


def index_here(path, mode="create"):
    """Builds the index of all documents in this process."""
    indexer = pj.JaColBERTIndexer(path, "somebody/unused", mode=mode, executor=SerialExecutor(32), **SETTINGS)
    return indexer.index(documents(range(N_DOCUMENTS)))


@pytest.fixture(scope="module")
def sharded(tmp_path_factory):
    return index_here(tmp_path_factory.mktemp("sharded") / "i")


def build(path, deaths, poison="文書40"):
    """Builds on two workers; encoding the poison kills its process as often as there are files in a folder."""

    class Encoder(DocumentEncoder):  # pickled by value
        def encode(self, batch, progress=lambda _: None):
            for file in sorted(os.listdir(deaths)) if poison in [document.docno for document in batch] else []:
                os.remove(os.path.join(deaths, file))
                os.kill(os.getpid(), signal.SIGKILL)
            return DocumentEncoder.encode(self, batch, progress)

    settings = IndexerSettings(**SETTINGS)
    plain = settings.document_encoder(pj.JaColBERT("somebody/unused"))
    encoder = Encoder(plain.model, plain.settings, plain.batch_documents)
    docs = documents(range(N_DOCUMENTS))
    build_sharded(path, docs, encoder, settings.build_settings(), RayExecutor(2, documents_per_shard=32))


@pytest.fixture
def deaths(tmp_path):
    """A folder with a file for each death."""
    folder = tmp_path / "deaths"
    folder.mkdir()
    for number in range(99):
        (folder / f"{number:02}").touch()
    return folder


def keep(deaths, count):
    for file in sorted(deaths.iterdir())[count:]:
        file.unlink()


def test_a_batch_that_kills_its_worker_is_named_and_the_rest_is_kept(ray, sharded, deaths, tmp_path):
    with pytest.raises(ChildProcessError, match=r"positions 32 to 47.*'文書32'.*'文書40'.*'文書47'") as caught:
        build(tmp_path / "i", deaths)
    assert any("mode='resume'" in note for note in caught.value.__notes__)
    assert 99 - len(list(deaths.iterdir())) == 4  # once beside another batch, and three times alone
    assert any((tmp_path / "i").glob("shards-*/*/*"))
    assert contents(index_here(tmp_path / "i", mode="resume").path) == contents(sharded.path)


def test_a_batch_that_kills_three_workers_is_encoded_by_the_fourth(ray, sharded, deaths, tmp_path):
    keep(deaths, 3)
    build(tmp_path / "i", deaths)
    assert list(deaths.iterdir()) == []
    assert contents(tmp_path / "i") == contents(sharded.path)


def test_a_call_that_kills_its_process_is_named(ray, deaths):
    def assemble(path):
        for file in sorted(os.listdir(path)):
            os.remove(os.path.join(path, file))
            os.kill(os.getpid(), signal.SIGKILL)
        return 7

    wait = RayExecutor().start(assemble, str(deaths))
    with pytest.raises(ChildProcessError, match=f"assemble of {deaths}"):
        wait()
    assert len(list(deaths.iterdir())) == 96
    keep(deaths, 2)
    assert RayExecutor().start(assemble, str(deaths))() == 7
