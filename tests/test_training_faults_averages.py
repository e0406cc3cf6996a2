"""Averages of checkpoints of any type, with ties, buffers and shards: numpy's float64 mean, rounded once."""

import json
import math
import shutil

import numpy as np
import pytest
import torch
from checkpoints import write_stanford_checkpoint
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, load_model, save_file, save_model
from sentence_transformers import MultiVectorEncoder

from pyterrier_jacolbert.train import average

TYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


def nearest(values, dtype):
    """Returns the nearest values of a type to float64 values; ties go to the even one (IEEE 754)."""
    if dtype == torch.float64:
        return values
    if dtype in (torch.float32, torch.float16):  # numpy rounds once
        return values.astype(np.float32 if dtype == torch.float32 else np.float16).astype(np.float64)
    # All 32,640 positive bfloat16 values and 0, in order; their number is their bit pattern.
    table = (np.arange(0x7F80, dtype=np.uint32) << 16).view(np.float32).astype(np.float64)
    above = np.clip(np.searchsorted(table, np.abs(values)), 1, len(table) - 1)
    low, high = np.abs(values) - table[above - 1], table[above] - np.abs(values)
    return np.copysign(table[above - ((low < high) | ((low == high) & (above % 2 == 1)))], values)


def folder_of(path, tensors, **metadata):
    path.mkdir(parents=True)
    save_file(tensors, path / "model.safetensors", metadata={"format": "pt", **metadata})
    return path


@pytest.fixture(scope="module")
def stanford(tmp_path_factory):
    folder = tmp_path_factory.mktemp("parents")
    return [write_stanford_checkpoint(folder / name, seed=seed, hidden=32, layers=1) for seed, name in enumerate("abc")]


@pytest.mark.parametrize("weights", [None, (1.0, 2.0, 4.5)])
@pytest.mark.parametrize("dtype", TYPES)
def test_averages_have_the_parents_type_and_are_rounded_once(stanford, tmp_path, dtype, weights):
    parents = []
    for folder in stanford:
        parents.append(shutil.copytree(folder, tmp_path / folder.name))
        tensors = {name: value.to(TYPES[dtype]) for name, value in load_file(folder / "model.safetensors").items()}
        save_file(tensors, parents[-1] / "model.safetensors", metadata={"format": "pt"})
    out = average(parents, weights=weights, out=tmp_path / "out")
    loaded = [load_file(folder / "model.safetensors") for folder in parents]
    for name, value in load_file(out / "model.safetensors").items():
        stack = np.stack([parent[name].double().numpy() for parent in loaded])
        expected = nearest(np.average(stack, axis=0, weights=weights), TYPES[dtype])
        assert value.dtype == TYPES[dtype]
        np.testing.assert_allclose(value.double().numpy(), expected, rtol=1e-15 if dtype == "F64" else 0)


@given(
    st.lists(st.floats(width=16, allow_nan=False, allow_infinity=False), min_size=2, max_size=5),
    st.sampled_from(["F16", "BF16"]),
)
def test_means_of_half_precision_are_the_nearest_values(tmp_path_factory, values, dtype):
    """Also of subnormal numbers and ties; each value is a parent."""
    folder = tmp_path_factory.mktemp("halves")
    numbers = torch.tensor(values, dtype=torch.float64).to(TYPES[dtype])
    parents = [folder_of(folder / str(i), {"w": number[None]}) for i, number in enumerate(numbers)]
    mean = load_file(average(parents, out=folder / "out") / "model.safetensors")["w"]
    expected = nearest(np.array([math.fsum(numbers.double().tolist()) / len(values)]), TYPES[dtype])
    assert mean.double().tolist() == expected.tolist()


def test_rounding_by_way_of_float32_would_be_wrong(tmp_path):
    """The mean is just above the middle of two bfloat16 values, by less than float32 can tell."""
    one, other = 1.0, 1.0 + 2**-7
    parents = [
        folder_of(tmp_path / str(i), {"w": torch.tensor([x], dtype=torch.bfloat16)}) for i, x in enumerate((one, other))
    ]
    for name, weights, expected in (("above", (1, 1 + 2**-28), other), ("tie", (1, 1), one)):
        out = average(parents, weights=weights, out=tmp_path / name)
        assert load_file(out / "model.safetensors")["w"].tolist() == [expected]


class Tied(torch.nn.Module):
    def __init__(self, seed):
        super().__init__()
        torch.manual_seed(seed)
        self.embeddings, self.head = torch.nn.Embedding(5, 3), torch.nn.Linear(3, 5, bias=False)
        self.head.weight = self.embeddings.weight
        self.register_buffer("position_ids", torch.arange(7))
        self.register_buffer("mask", torch.tensor([True, False]))
        self.register_buffer("count", torch.tensor(3, dtype=torch.int32))


def test_tied_weights_buffers_and_metadata_survive(tmp_path):
    parents = []
    for seed in range(2):
        (tmp_path / str(seed)).mkdir()
        save_model(
            Tied(seed).bfloat16(),
            str(tmp_path / str(seed) / "model.safetensors"),
            {"made_by": "a test", "日": "月", "b": "c", "d": "e"},
        )
        parents.append(tmp_path / str(seed))
    out = average(parents, out=tmp_path / "out")
    with safe_open(out / "model.safetensors", "pt") as file, safe_open(parents[0] / "model.safetensors", "pt") as first:
        assert file.metadata() == first.metadata()
        assert file.metadata()["made_by"] == "a test"
        assert file.keys() == first.keys()
    loaded = Tied(9).bfloat16()
    assert load_model(loaded, str(out / "model.safetensors")) == (set(), [])
    again = average(parents[::-1], out=tmp_path / "again")
    assert (again / "model.safetensors").read_bytes() == (out / "model.safetensors").read_bytes()
    mean = (Tied(0).bfloat16().head.weight.double() + Tied(1).bfloat16().head.weight.double()) / 2
    assert torch.equal(loaded.embeddings.weight, mean.bfloat16())
    assert loaded.head.weight is loaded.embeddings.weight
    assert loaded.position_ids.tolist() == list(range(7))
    assert (loaded.mask.tolist(), int(loaded.count)) == ([True, False], 3)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([torch.tensor([1, 2]), torch.tensor([1, 3])], "I64"),
        ([torch.tensor([True]), torch.tensor([False])], "BOOL"),
        ([torch.tensor([1], dtype=torch.uint16), torch.tensor([2], dtype=torch.uint16)], "U16"),
        ([torch.ones(2).to(torch.float8_e4m3fn)] * 2, "F8_E4M3"),
        ([torch.ones(2, dtype=torch.complex64)] * 2, "C64"),
        ([torch.tensor([1.0, math.nan])] * 2, "NaN or infinite"),
        ([torch.tensor([1.0, 1.0]), torch.tensor([-math.inf, 1.0])], "1 has NaN or infinite"),
        ([torch.ones(2), torch.ones(2).bfloat16()], "F32 .*BF16|BF16 .*F32"),
    ],
)
def test_tensors_without_a_mean_are_named(tmp_path, values, message):
    parents = [
        folder_of(tmp_path / str(i), {"a": torch.ones(1), "the.tensor": value}) for i, value in enumerate(values)
    ]
    with pytest.raises(ValueError, match=f"'the.tensor' .*({message})"):
        average(parents, out=tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0", "1"]


def test_a_mean_that_overflows_is_named(tmp_path):
    parents = [folder_of(tmp_path / str(i), {"w": torch.tensor([x]).half()}) for i, x in enumerate((6e4, -6e4))]
    with pytest.raises(ValueError, match="'w' does not fit F16"):
        average(parents, weights=[3, -2], out=tmp_path / "out")
    doubles = [folder_of(tmp_path / f"d{i}", {"w": torch.tensor([1.7e308], dtype=torch.float64)}) for i in range(2)]
    out = average(doubles, weights=[1e300, 1e300], out=tmp_path / "doubles")
    assert load_file(out / "model.safetensors")["w"].tolist() == pytest.approx([1.7e308], rel=1e-15)
    with pytest.raises(ValueError, match="weights must be 2 finite numbers"):
        average(doubles, weights=[1e308, 1e308], out=tmp_path / "out")


def shard(folder, target, n_shards):
    """Copies a checkpoint with the tensors of its backbone spread over shards."""
    shutil.copytree(folder, target)
    tensors = load_file(target / "model.safetensors")
    (target / "model.safetensors").unlink()
    names = sorted(tensors)
    files = [f"model-{i + 1:05}-of-{n_shards:05}.safetensors" for i in range(n_shards)]
    for i, file in enumerate(files):
        save_file({name: tensors[name] for name in names[i::n_shards]}, target / file, metadata={"format": "pt"})
    index = {"metadata": {"total_size": 1}, "weight_map": {n: files[i % n_shards] for i, n in enumerate(names)}}
    (target / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    return target


def test_checkpoints_may_be_sharded_differently(stanford, tmp_path):
    native = []
    for folder in stanford:
        MultiVectorEncoder(str(folder), device="cpu").save_pretrained(str(tmp_path / folder.name))
        native.append(tmp_path / folder.name)
    sharded = [native[0], shard(native[1], tmp_path / "two", 2), shard(native[2], tmp_path / "three", 3)]
    (sharded[1] / "pytorch_model.bin").write_bytes(b"the weights of one parent only")
    expected = average(native, out=tmp_path / "expected")
    out = average(sharded, out=tmp_path / "out")
    again = average(sharded[::-1], out=tmp_path / "again")
    files = {path.relative_to(out): path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert {path.relative_to(again): path.read_bytes() for path in again.rglob("*") if path.is_file()} == files
    tensors = {}
    for file in out.glob("*.safetensors"):
        tensors.update(load_file(file))
    whole = load_file(expected / "model.safetensors")
    assert tensors.keys() == whole.keys()
    assert all(torch.allclose(tensors[name], whole[name], atol=1e-7) for name in whole)
    assert not (out / "pytorch_model.bin").exists()
    one, other = (MultiVectorEncoder(str(folder), device="cpu").encode_query("富士山") for folder in (out, expected))
    np.testing.assert_allclose(one, other, atol=1e-5)


def test_shards_that_are_missing_or_too_many_are_named(stanford, tmp_path):
    parents = [shard(folder, tmp_path / folder.name, 2) for folder in stanford[:2]]
    shutil.copyfile(stanford[0] / "model.safetensors", parents[0] / "model.safetensors")
    with pytest.raises(ValueError, match="bert.* in model-0000.*safetensors and in model.safetensors"):
        average(parents, out=tmp_path / "out")
    for folder in parents:
        (folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="names model-00002-of-00002.safetensors"):
        average(parents, out=tmp_path / "out")
