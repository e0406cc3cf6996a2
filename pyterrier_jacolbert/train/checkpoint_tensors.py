"""Tensors of checkpoints: where they are stored, whether checkpoints agree in them, and their weighted means."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import torch
from safetensors import safe_open
from safetensors.torch import save_file

#: Types of safetensors that are averaged, and those that must be equal in all checkpoints.
_AVERAGED = ("F64", "F32", "F16", "BF16")
_EQUAL = ("BOOL", "I8", "I16", "I32", "I64", "U8", "U16", "U32", "U64")

#: A checkpoint and its weight.
Parent = tuple[Path, float]


@dataclass(frozen=True)
class StoredTensor:
    """A tensor of a checkpoint.

    Attributes:
        file: safetensors file, relative to the checkpoint.
        name: name in the file.
        dtype: type as safetensors calls it, such as ``"BF16"``.
        shape: shape.
    """

    file: str
    name: str
    dtype: str
    shape: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.dtype} {self.shape}"


def weight_files(folder: Path) -> list[str]:
    """Returns the safetensors files of a checkpoint, relative to its folder and sorted.

    Raises:
        FileNotFoundError: the folder has none, or lacks one that an index of shards names.
    """
    files = sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*.safetensors"))
    for index in sorted(folder.rglob("*.safetensors.index.json")):
        for name in sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())):
            if not (index.parent / name).is_file():
                raise FileNotFoundError(f"{index} names {name}, which is not there; copy the checkpoint again.")
    if not files:
        raise FileNotFoundError(
            f"The folder {folder} has no safetensors weights; give the folder of a checkpoint. Convert one that has "
            "only pytorch_model.bin with MultiVectorEncoder(folder).save_pretrained(new_folder)."
        )
    return files


def stored_tensors(folder: Path) -> dict[str, StoredTensor]:
    """Returns the tensors of a checkpoint by name, which is preceded by the subfolder of their file.

    Shards do not show in the names, so checkpoints that are sharded differently have the same names.

    Raises:
        FileNotFoundError: the folder has no safetensors weights, or lacks a shard.
        ValueError: two files of a folder have a tensor of the same name.
    """
    found: dict[str, StoredTensor] = {}
    for file in weight_files(folder):
        with safe_open(folder / file, framework="pt") as weights:
            for name in sorted(weights.keys()):
                key = (Path(file).parent / name).as_posix()
                if key in found:
                    raise ValueError(
                        f"{folder} has the tensor {key!r} in {found[key].file} and in {file}; remove the file that its "
                        "index does not name."
                    )
                part = weights.get_slice(name)
                found[key] = StoredTensor(file, name, part.get_dtype(), tuple(part.get_shape()))
    return found


def check_same_tensors(one: Path, other: Path) -> None:
    """Checks that the weights of two checkpoints can be averaged.

    Raises:
        FileNotFoundError: a folder has no safetensors weights, or lacks a shard.
        ValueError: the checkpoints differ in the names, shapes or types of their tensors, or a type has no mean.
    """
    first, second = stored_tensors(one), stored_tensors(other)
    folders, others = ({str(Path(tensor.file).parent) for tensor in found.values()} for found in (first, second))
    if folders != others:
        reject(one, other, f"their weights are in {weight_files(one)} and {weight_files(other)}")
    for name in sorted(first.keys() ^ second.keys()):
        reject(one, other, f"only {one if name in first else other} has the tensor {name!r}")
    for name, tensor in sorted(first.items()):
        if (tensor.dtype, tensor.shape) != (second[name].dtype, second[name].shape):
            reject(one, other, f"{name!r} is {tensor} in the first and {second[name]} in the second")
        if tensor.dtype not in (*_AVERAGED, *_EQUAL):
            raise ValueError(
                f"{name!r} of {one} is {tensor.dtype}, which has no mean; convert the checkpoints to "
                f"{', '.join(_AVERAGED)} first."
            )


def reject(one: Path, other: Path, difference: str) -> NoReturn:
    """Raises the error of two checkpoints that cannot be averaged.

    Raises:
        ValueError: always.
    """
    raise ValueError(f"{one} and {other} cannot be averaged: {difference}; use checkpoints of the same run.")


def write_means(parents: Sequence[Parent], target: Path) -> None:
    """Writes the weighted means of the tensors of checkpoints, in the files of the first one and with their metadata.

    Args:
        parents: checkpoints that :func:`check_same_tensors` accepts, and their weights, whose sum is not 0.
        target: folder to write to.

    Raises:
        ValueError: a tensor has NaN or infinite values in a checkpoint or in the mean, or whole numbers differ.
    """
    _, exponent = math.frexp(math.fsum(abs(weight) for _, weight in parents))
    # By a power of two, which does not round; so no sum overflows.
    parents = [(folder, math.ldexp(weight, -exponent)) for folder, weight in parents]
    stored = [stored_tensors(folder) for folder, _ in parents]
    for file in weight_files(parents[0][0]):
        with ExitStack() as stack:
            opened: dict[tuple[Path, str], Any] = {}

            def read(
                folder: Path, tensor: StoredTensor, stack: ExitStack = stack, opened: Any = opened
            ) -> torch.Tensor:
                path = folder / tensor.file
                if path not in opened:
                    opened[path] = stack.enter_context(safe_open(path, framework="pt"))
                value: torch.Tensor = opened[path].get_tensor(tensor.name)
                return value

            means = {}
            for key, tensor in stored[0].items():
                if tensor.file == file:
                    values = (read(folder, found[key]) for (folder, _), found in zip(parents, stored, strict=True))
                    means[tensor.name] = _mean(key, tensor.dtype, values, parents)
            with safe_open(parents[0][0] / file, framework="pt") as first:
                metadata = first.metadata() or {"format": "pt"}
        (target / file).parent.mkdir(parents=True, exist_ok=True)
        save_file(means, target / file, metadata=metadata)
        _sort_metadata(target / file)


def _mean(key: str, dtype: str, values: Iterator[torch.Tensor], parents: Sequence[Parent]) -> torch.Tensor:
    first = total = None
    for value, (folder, weight) in zip(values, parents, strict=True):
        if dtype in _EQUAL:
            if first is not None and not torch.equal(_bytes(first), _bytes(value)):
                reject(parents[0][0], folder, f"{key!r} is {dtype}, which has no mean, and its values differ")
        else:
            if not torch.isfinite(value).all():
                raise ValueError(f"{key!r} of {folder} has NaN or infinite values; leave this checkpoint out.")
            part = value.double() * weight
            total = part if total is None else total + part
        first = value if first is None else first
    assert first is not None, "an average has parents"
    if total is None:
        return first
    mean = _round(total / math.fsum(weight for _, weight in parents), first.dtype)
    if not torch.isfinite(mean).all():
        raise ValueError(f"The mean of {key!r} does not fit {dtype}; use weights that are not negative.")
    return mean


def _sort_metadata(file: Path) -> None:
    """Sorts the metadata in the header of a safetensors file, which safetensors writes in random order.

    The header is JSON, padded with spaces, after its length in eight bytes.
    """
    with file.open("r+b") as stream:
        length = int.from_bytes(stream.read(8), "little")
        header = json.loads(stream.read(length))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        ordered = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode().ljust(length)
        if len(ordered) == length:
            stream.seek(8)
            stream.write(ordered)


def _bytes(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.contiguous().reshape(-1).view(torch.uint8)


def _round(values: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Rounds float64 to the nearest value of a type, and ties to even.

    torch converts to half precision by way of float32, which would round twice. Rounding to odd in the first step
    (Boldo and Melquiond, 2008) keeps the information on which side of a tie a value lies.
    """
    if dtype not in (torch.float16, torch.bfloat16):
        return values.to(dtype)
    single = values.float()
    error = values - single.double()
    even = single.view(torch.int32) & 1 == 0
    toward = torch.nextafter(single, torch.where(error > 0, math.inf, -math.inf).float())
    return torch.where((error != 0) & even & torch.isfinite(single), toward, single).to(dtype)
