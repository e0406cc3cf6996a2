"""Damaged or incomplete files of a checkpoint are named, with a remedy."""

import pytest
from checkpoints import rewrite_weights, save_as_pytorch, shard_weights, write_stanford_checkpoint
from sentence_transformers import MultiVectorEncoder

from pyterrier_jacolbert.encoding.checkpoint import load_checkpoint


@pytest.fixture
def stanford(tmp_path):
    return write_stanford_checkpoint(tmp_path / "stanford")


@pytest.fixture
def own(stanford, tmp_path):
    MultiVectorEncoder(str(stanford), device="cpu").save_pretrained(str(tmp_path / "own"))
    return tmp_path / "own"


@pytest.mark.parametrize("file", ["model.safetensors", "1_Dense/model.safetensors"])
@pytest.mark.parametrize("damage", ["cut", "empty", "pointer"])
def test_a_damaged_file_is_named(own, file, damage):
    content = (own / file).read_bytes()
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12345\n"
    (own / file).write_bytes({"cut": content[:-100], "empty": b"", "pointer": pointer}[damage])
    with pytest.raises(ValueError, match=f"{file} are damaged"):
        load_checkpoint(str(own))


@pytest.mark.parametrize("damage", [slice(-100), slice(0)], ids=["cut", "empty"])
def test_a_damaged_pytorch_file_is_named(stanford, damage):
    save_as_pytorch(stanford)
    content = (stanford / "pytorch_model.bin").read_bytes()
    (stanford / "pytorch_model.bin").write_bytes(content[damage])
    with pytest.raises(ValueError, match=r"pytorch_model\.bin are damaged"):
        load_checkpoint(str(stanford))


@pytest.mark.parametrize("file", ["config.json", "1_Dense/config.json", "modules.json"])
def test_a_damaged_configuration_is_named(own, file):
    (own / file).write_text("{")
    with pytest.raises(ValueError, match=f"{file} is damaged"):
        load_checkpoint(str(own))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["bert.encoder.layer.1.output.dense.weight", "linear.weight"])
def test_weights_that_are_not_finite_are_refused(stanford, value, name):
    def spoil(weights):
        weights[name][3, 5] = value
        return weights

    rewrite_weights(stanford, spoil)
    with pytest.raises(ValueError, match=f"not finite .*{name.removeprefix('bert.')}"):
        load_checkpoint(str(stanford))


def test_a_folder_without_weights_is_refused(stanford):
    (stanford / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"no weights \(model\.safetensors or pytorch_model\.bin\)"):
        load_checkpoint(str(stanford))


def test_a_missing_shard_is_named(stanford):
    files = shard_weights(stanford)
    (stanford / files[1]).unlink()
    with pytest.raises(FileNotFoundError, match=files[1]):
        load_checkpoint(str(stanford))


def test_a_damaged_shard_is_named(stanford):
    files = shard_weights(stanford)
    content = (stanford / files[2]).read_bytes()
    (stanford / files[2]).write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=f"{files[2]} are damaged"):
        load_checkpoint(str(stanford))


@pytest.mark.parametrize("content", ["{", "{}", "[]"])
def test_a_damaged_index_is_named(stanford, content):
    shard_weights(stanford)
    (stanford / "model.safetensors.index.json").write_text(content)
    with pytest.raises(ValueError, match=r"model\.safetensors\.index\.json is damaged"):
        load_checkpoint(str(stanford))
