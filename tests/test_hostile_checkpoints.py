"""Nothing that an index names is run: seven ways to execute code through the checkpoint or the files of an index."""

import json
import pickle
import shutil
import sys

import hostile
import numpy as np
import pandas as pd
import pytest
import torch
from checkpoints import write_stanford_checkpoint
from sentence_transformers import MultiVectorEncoder

import pyterrier_jacolbert as pj

REFUSED = "is not loaded: .*; use one whose classes"


class Marker:
    """Creates a file when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return exec, (f"open({self.path!r}, 'w').close()",)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A checkpoint in Sentence Transformers' layout."""
    folder = tmp_path_factory.mktemp("saved")
    write_stanford_checkpoint(folder / "stanford")
    MultiVectorEncoder(str(folder / "stanford")).save_pretrained(str(folder / "saved"))
    return folder / "saved"


@pytest.fixture
def folder(saved, tmp_path):
    """A copy of the checkpoint, for a stranger to change."""
    shutil.copytree(saved, tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def marker(tmp_path, monkeypatch):
    """Path of a file that exists once code of a stranger has run, and a module that would create it."""
    path = tmp_path / "ran"
    code = (
        f"open({str(path)!r}, 'w').close()\n"
        "import torch\nfrom transformers import BertConfig, BertModel, BertTokenizer\n"
        "class Evil(torch.nn.Module):\n    pass\n"
        "class EvilConfig(BertConfig):\n    model_type = 'evil'\n"
        "class EvilTokenizer(BertTokenizer):\n    pass\n"
    )
    (tmp_path / "evil_module.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))  # as the folder of a notebook is
    (tmp_path / "model").mkdir(exist_ok=True)
    yield path
    sys.modules.pop("evil_module", None)


def change_json(path, change):
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(json.dumps(content), encoding="utf-8")


def index_naming(model, tmp_path):
    """Returns an index of a stranger that names a checkpoint."""
    vectors = np.eye(16, dtype=np.float32)[:3]
    index = pj.JaColBERTIndexer(tmp_path / "index", "somebody/unused").index([{"docno": "d1", "doc_embs": vectors}])
    recorded = {"revision": None, "query_length": "auto", "max_document_length": None, "truncate_dim": None}
    with hostile.changed_manifest(index.path) as manifest:
        manifest["model"] = {"model": str(model), "fingerprint": None, **recorded}
    return pj.JaColBERTIndex(index.path)


def search(index):
    return index.retriever()(pd.DataFrame({"qid": ["1"], "query": ["日本一高い山"]}))


def test_sound_checkpoint_of_an_index_is_loaded(folder, tmp_path):
    assert len(search(index_naming(folder, tmp_path))) == 1


@pytest.mark.parametrize("kind", ["evil_module.Evil", "sentence_transformers.base.modules.Router", "os.system", 3])
def test_custom_module_is_not_imported(folder, marker, tmp_path, kind):
    (folder / "evil_module.py").write_text((tmp_path / "evil_module.py").read_text())
    change_json(folder / "modules.json", lambda modules: modules[1].update(type=kind))
    with pytest.raises(ValueError, match=REFUSED):
        search(index_naming(folder, tmp_path))
    assert not marker.exists()


def test_module_outside_the_checkpoint_is_not_read(folder, marker, tmp_path):
    change_json(folder / "modules.json", lambda modules: modules[1].update(path="../elsewhere"))
    with pytest.raises(ValueError, match=REFUSED):
        search(index_naming(folder, tmp_path))


def test_auto_map_is_not_followed(folder, marker, tmp_path):
    (folder / "evil_module.py").write_text((tmp_path / "evil_module.py").read_text())

    def change(config):
        config["model_type"] = "evil"
        config["auto_map"] = {"AutoConfig": "evil_module.EvilConfig", "AutoModel": "evil_module.Evil"}

    change_json(folder / "config.json", change)
    with pytest.raises(ValueError, match=REFUSED):
        search(index_naming(folder, tmp_path))
    assert not marker.exists()


def test_kernels_of_others_are_not_fetched(folder, tmp_path):
    change_json(folder / "config.json", lambda config: config.update(attn_implementation="somebody/kernels"))
    with pytest.raises(ValueError, match=REFUSED):
        search(index_naming(folder, tmp_path))


@pytest.mark.parametrize("activation", ["evil_module.Evil", "torch.hub.load", "torch.utils.collect_env.main"])
def test_activation_function_is_not_called(folder, marker, tmp_path, activation):
    dense = next(path for path in folder.glob("*Dense*/config.json"))
    change_json(dense, lambda config: config.update(activation_function=activation))
    try:
        search(index_naming(folder, tmp_path))  # without the function
    except ValueError as error:
        assert "is not loaded" in str(error)  # noqa: PT017
    assert not marker.exists()
    assert "evil_module" not in sys.modules


@pytest.mark.parametrize("place", ["", "dense"])
def test_weights_are_not_unpickled(folder, marker, tmp_path, place):
    part = folder if not place else next(folder.glob("*Dense*"))
    (part / "model.safetensors").unlink()
    torch.save({"linear.weight": Marker(marker)}, part / "pytorch_model.bin")
    with pytest.raises(ValueError, match="damaged"):
        search(index_naming(folder, tmp_path))
    (part / "pytorch_model.bin").write_bytes(pickle.dumps(Marker(marker)))
    with pytest.raises(ValueError, match="damaged"):
        search(index_naming(folder, tmp_path / "again"))
    assert not marker.exists()


@pytest.mark.parametrize("name", ["\\\\server\\share\\model", "../model", "/nowhere/model", "file:///etc", "a\0b"])
def test_path_that_is_no_checkpoint_is_one_sentence(marker, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with pytest.raises((ValueError, OSError), match="checkpoint") as error:
        search(index_naming(name, tmp_path))
    assert "\n" not in str(error.value)


def test_code_of_a_tokenizer_is_not_run(folder, marker, tmp_path):
    (folder / "evil_module.py").write_text((tmp_path / "evil_module.py").read_text())

    def change(config):
        config["tokenizer_class"] = "EvilTokenizer"
        config["auto_map"] = {"AutoTokenizer": ["evil_module.EvilTokenizer", None]}

    change_json(folder / "tokenizer_config.json", change)
    with pytest.raises((ValueError, OSError)):
        search(index_naming(folder, tmp_path))
    assert not marker.exists()


def test_options_of_an_analyzer_are_not_passed_on(folder, marker, tmp_path):
    options = {"mecab_dic": "unidic_lite", "mecab_option": f"-o {marker}"}
    change_json(folder / "tokenizer_config.json", lambda config: config.update(mecab_kwargs=options))
    with pytest.raises(ValueError, match=REFUSED):
        search(index_naming(folder, tmp_path))
    assert not marker.exists()


def test_arrays_of_bm25_are_not_unpickled(marker, tmp_path):
    index = pj.JapaneseBM25(tmp_path / "bm25").index([{"docno": "d1", "text": "日本一高い山"}])
    for name in ("data.csc.index.npy", "indices.csc.index.npy", "indptr.csc.index.npy"):
        np.save(tmp_path / "evil.npy", np.array([Marker(marker)], dtype=object), allow_pickle=True)
        hostile.write_array_of(index.path, name, np.fromfile(tmp_path / "evil.npy", dtype=np.uint8))
        with pytest.raises(ValueError, match="damaged"):
            pj.JapaneseBM25(index.path).retriever().search("山")
    assert not marker.exists()


@pytest.mark.parametrize(
    "change",
    [{"backend": "numba"}, {"method": "bm25+"}, {"corpus": "evil"}, {"k1": "1"}, {"num_docs": 2}, {"dtype": "O"}],
    ids=str,
)
def test_parameters_of_bm25_choose_no_code(marker, tmp_path, change, monkeypatch):
    index = pj.JapaneseBM25(tmp_path / "bm25").index([{"docno": "d1", "text": "日本一高い山"}])
    content = json.loads(hostile.array_of(index.path, "params.index.json").tobytes())
    changed = np.frombuffer(json.dumps({**content, **change}).encode(), dtype=np.uint8)
    hostile.write_array_of(index.path, "params.index.json", changed)
    monkeypatch.setattr("bm25s.BM25.compile", lambda *_, **__: marker.touch())
    try:
        assert len(pj.JapaneseBM25(index.path).retriever().search("山")) == 1
    except ValueError as error:
        assert "damaged" in str(error)  # noqa: PT017
    assert not marker.exists()
