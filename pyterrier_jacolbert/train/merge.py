"""Averages of checkpoints: the plain mean of the recipe, a choice by held-out data, and greedy soups."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

if TYPE_CHECKING:
    from pyterrier_jacolbert.model import JaColBERT

#: Files that make a tokenizer; they must not differ between parents that have them.
_TOKENIZER_FILES = ("tokenizer.json", "vocab.txt", "tokenizer_config.json", "special_tokens_map.json", "spiece.model")
_PADDING = {"padding", "padding_side", "pad_to_multiple_of", "pad_token_type_id"}
#: What a run of the trainer leaves beside a checkpoint and no checkpoint needs.
_NOT_COPIED = ("optimizer.pt", "scheduler.pt", "scaler.pt", "training_args.bin", "trainer_state.json", "README.md")


def merge(checkpoints: Sequence[str | Path], *, weights: Sequence[float] | None = None, out: str | Path) -> Path:
    """Writes the parameter-wise mean of checkpoints, tensor by tensor.

    Sums are taken in float64 and stored as float32, or as the parents' own type where that is smaller; the parents
    are taken in the order of their digests, so that the order in which they are given makes no difference.

    Args:
        checkpoints: two or more folders of one layout: Stanford ColBERT's, PyLate's or Sentence Transformers' own.
        weights: one each, not all 0, scaled to sum 1; None weighs all alike.
        out: the folder to write; must not exist.

    Returns:
        ``out``, an ordinary checkpoint with a card that names the parents and weights.

    Raises:
        FileNotFoundError: a folder without weights in safetensors.
        FileExistsError: ``out`` exists.
        ValueError: checkpoints that differ in their tensors' names, shapes or types or in their tokenizers (the
            message names the first difference), or unusable weights.

    Source: checkpoint averaging as in JaColBERTv2.5, section 3.9 of arXiv 2407.20750.
    """
    out = Path(out)
    if out.exists():
        raise FileExistsError(f"{out} exists already; choose another folder, or remove it.")
    shares = _shares(checkpoints, weights)
    parents = sorted(
        zip(map(Path, checkpoints), shares, strict=True), key=lambda parent: (_digest(parent[0]), parent[1])
    )
    folders = [folder for folder, _ in parents]
    for other in folders[1:]:
        _check_alike(folders[0], other)
    side = out.with_name(f".{out.name}.merging")
    shutil.rmtree(side, ignore_errors=True)
    try:
        for folder in reversed(folders):  # the first one's files win
            shutil.copytree(folder, side, dirs_exist_ok=True, ignore=_ignore)
        for file in _weight_files(folders[0]):
            (side / file).parent.mkdir(parents=True, exist_ok=True)
            save_file(_mean(file, parents), side / file, metadata={"format": "pt"})
        (side / "README.md").write_text(_card(parents), encoding="utf-8")
        side.rename(out)
    except BaseException:
        shutil.rmtree(side, ignore_errors=True)
        raise
    return out


def select(checkpoints: Sequence[str | Path], experiment: Callable[[JaColBERT], float]) -> list[tuple[Path, float]]:
    """Ranks checkpoints by a measure on held-out data, the best first; ties in the order given.

    Args:
        checkpoints: folders.
        experiment: measures a checkpoint; more is better. Never on the data that is reported.
    """
    from pyterrier_jacolbert.model import JaColBERT

    measured = [(Path(folder), float(experiment(JaColBERT(str(folder))))) for folder in checkpoints]
    return sorted(measured, key=lambda pair: -pair[1])


def soup(
    checkpoints: Sequence[str | Path], experiment: Callable[[JaColBERT], float], *, out: str | Path
) -> tuple[Path, list[Path], float]:
    """Greedy averaging: adds checkpoints from the best down, and keeps each that does not lower the measure.

    Goes beyond the paper (Wortsman et al., "Model soups", arXiv 2203.05482).

    Args:
        checkpoints: folders.
        experiment: measures a checkpoint on held-out data; more is better.
        out: the folder to write.

    Returns:
        ``out``, its ingredients, and its measure.
    """
    from pyterrier_jacolbert.model import JaColBERT

    out = Path(out)
    if out.exists():
        raise FileExistsError(f"{out} exists already; choose another folder, or remove it.")
    (first, best), *others = select(checkpoints, experiment)
    ingredients = [first]
    trial = out.with_name(f".{out.name}.trial")
    for folder, _ in others:
        shutil.rmtree(trial, ignore_errors=True)
        merge([*ingredients, folder], out=trial)
        measure = float(experiment(JaColBERT(str(trial))))
        if measure >= best:
            best = measure
            ingredients.append(folder)
    shutil.rmtree(trial, ignore_errors=True)
    if len(ingredients) == 1:
        shutil.copytree(first, out, ignore=_ignore)
    else:
        merge(ingredients, out=out)
    return out, ingredients, best


def _shares(checkpoints: Sequence[str | Path], weights: Sequence[float] | None) -> list[float]:
    if len(checkpoints) < 2:
        raise ValueError(f"An average needs two checkpoints or more, not {len(checkpoints)}.")
    chosen = [1.0] * len(checkpoints) if weights is None else [float(weight) for weight in weights]
    if len(chosen) != len(checkpoints) or not np.isfinite(chosen).all() or not abs(sum(chosen)) > 0:
        raise ValueError(
            f"{len(checkpoints)} checkpoints need as many weights, finite and not of sum 0, not {weights}."
        )
    return [weight / sum(chosen) for weight in chosen]


def _weight_files(folder: Path) -> list[str]:
    """The safetensors files of a checkpoint, relative and sorted."""
    found = sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*.safetensors"))
    if not found:
        raise FileNotFoundError(
            f"There are no weights in safetensors in {folder}; give a checkpoint's folder (one with pytorch_model.bin "
            "can be saved anew with MultiVectorEncoder(folder).save_pretrained)."
        )
    return found


def _tensors(folder: Path, file: str) -> dict[str, tuple[str, list[int]]]:
    with safe_open(folder / file, framework="numpy") as weights:
        slices = {name: weights.get_slice(name) for name in weights.keys()}  # noqa: SIM118 (no mapping)
        return {name: (part.get_dtype(), part.get_shape()) for name, part in slices.items()}


def _check_alike(one: Path, other: Path) -> None:
    def differ(what: str) -> None:
        raise ValueError(f"{one} and {other} cannot be averaged: {what}; take checkpoints of one run.")

    if (files := _weight_files(one)) != (others := _weight_files(other)):
        differ(f"the weights are in {files} and {others}")
    for file in files:
        first, second = _tensors(one, file), _tensors(other, file)
        for name in sorted(first.keys() ^ second.keys()):
            differ(f"only {one if name in first else other} has the tensor {name!r}")
        for name in sorted(first):
            if first[name] != second[name]:
                differ(f"{name!r} is {_spell(first[name])} in the first and {_spell(second[name])} in the second")
    for file in _TOKENIZER_FILES:
        pair = [folder / file for folder in (one, other)]
        if all(path.is_file() for path in pair) and not _same_tokens(*pair):
            differ(f"their {file} differ, so their tokens do")


def _same_tokens(one: Path, other: Path) -> bool:
    """Whether two tokenizer files agree in all but padding, which decides no token.

    A tokenizer that was loaded and saved again spells its padding out where it was not written before.
    """
    if one.read_bytes() == other.read_bytes():
        return True
    if one.suffix != ".json":
        return False
    first, second = (json.loads(path.read_text(encoding="utf-8")) for path in (one, other))
    return all(first.get(name) == second.get(name) for name in (first.keys() | second.keys()) - _PADDING)


def _spell(tensor: tuple[str, list[int]]) -> str:
    return f"{tensor[0]} {tuple(tensor[1])}"


def _mean(file: str, parents: Sequence[tuple[Path, float]]) -> dict[str, np.ndarray]:
    with ExitStack() as stack:
        opened = [
            (stack.enter_context(safe_open(folder / file, framework="numpy")), share) for folder, share in parents
        ]
        return dict(_means(opened))


def _means(opened: Sequence[tuple[Any, float]]) -> Iterator[tuple[str, np.ndarray]]:
    for name in sorted(opened[0][0].keys()):
        first = opened[0][0].get_tensor(name)
        if not np.issubdtype(first.dtype, np.floating):
            yield name, first
            continue
        total = sum(weights.get_tensor(name).astype(np.float64) * share for weights, share in opened)
        yield name, np.asarray(total).astype(first.dtype)


def _digest(folder: Path) -> str:
    digest = hashlib.sha256()
    for file in _weight_files(folder):
        with (folder / file).open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()


def _ignore(folder: str, names: list[str]) -> set[str]:
    return {name for name in names if name in _NOT_COPIED or name.startswith("rng_state")}


def _card(parents: Sequence[tuple[Path, float]]) -> str:
    rows = "\n".join(f"| {folder.name} | {share:.6g} | `{_digest(folder)[:16]}` |" for folder, share in parents)
    settings = json.dumps({"method": "linear", "arithmetic": "float64"})
    return (
        "---\nlibrary_name: sentence-transformers\ntags: [ColBERT, multi-vector, merge]\n---\n\n"
        "# A merged checkpoint\n\nThe parameter-wise weighted mean of these parents, "
        f"made with pyterrier_jacolbert ({settings}).\n\n"
        f"| parent | weight | sha256 of its weights |\n|---|---|---|\n{rows}\n"
    )
