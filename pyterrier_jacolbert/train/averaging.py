"""Averages of checkpoints: weighted means as in the recipe, selection on held-out data, and greedy soups."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import tempfile
from collections.abc import Callable, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyterrier_jacolbert.index.storage.atomic import replacing_directory
from pyterrier_jacolbert.train.checkpoint_tensors import check_same_tensors, reject, weight_files, write_means

if TYPE_CHECKING:
    from pyterrier_jacolbert.model import JaColBERT

#: Files of a tokenizer, which must not differ between checkpoints that have them.
_TOKENIZER_FILES = ("tokenizer.json", "vocab.txt", "tokenizer_config.json", "special_tokens_map.json", "spiece.model")
#: Settings of a tokenizer that each call sets anew, so that they do not affect the tokens of a text.
_CALL_SETTINGS = {"padding", "padding_side", "pad_to_multiple_of", "pad_token_type_id",
                  "truncation", "truncation_strategy", "max_length", "stride"}  # fmt: skip
#: Values of settings of a tokenizer that its file leaves out.
_TOKENIZER_DEFAULTS = {"truncation_side": "right"}
#: Files that the trainer writes to resume a run, and that an average does not need.
_NOT_COPIED = ("optimizer.pt", "scheduler.pt", "scaler.pt", "training_args.bin", "trainer_state.json", "README.md")
#: Weights, also in formats that an average would not replace.
_WEIGHTS = ("*.safetensors", "*.safetensors.index.json", "pytorch_model*", "tf_model*", "flax_model*", "*.onnx*",
            "openvino_model*")  # fmt: skip


def average(checkpoints: Sequence[str | Path], *, weights: Sequence[float] | None = None, out: str | Path) -> Path:
    """Writes the parameter-wise weighted mean of checkpoints, tensor by tensor.

    Sums are taken in float64, divided by the sum of the weights, and rounded once to the data type of the checkpoints:
    float64, float32, float16 or bfloat16. Whole numbers and booleans, such as position ids, must be equal in all
    checkpoints. Tied weights stay tied: they are stored once, and the files keep their metadata. Checkpoints may be
    sharded differently. The checkpoints are added in the order of their digests, so the result does not depend on the
    order in which they are given; its shards are those of the first.

    Args:
        checkpoints: two or more folders of the same layout: Stanford ColBERT's, PyLate's or Sentence Transformers'.
        weights: one weight per checkpoint, scaled to sum to 1; None gives all the same weight.
        out: folder to write; it must not exist.

    Returns:
        ``out``, an ordinary checkpoint with a model card that lists its parents and their weights.

    Raises:
        FileNotFoundError: a folder has no safetensors weights, or lacks a shard.
        FileExistsError: ``out`` exists.
        ValueError: the checkpoints differ in the names, shapes or types of their tensors, in their whole numbers or in
            their tokenizers (the message gives the first difference); a tensor has NaN or infinite values, or another
            type; or the weights are unusable.

    Source: checkpoint averaging as in JaColBERTv2.5, section 3.9 of arXiv 2407.20750.
    """
    out = check_absent(out)
    checked = _checked_weights(checkpoints, weights)
    parents = sorted(
        zip(map(Path, checkpoints), checked, strict=True), key=lambda parent: (_digest(parent[0]), parent[1])
    )
    folders = [folder for folder, _ in parents]
    for other in folders[1:]:
        _check_compatible(folders[0], other)
    with replacing_directory(out, replace=False) as temporary:
        for folder in reversed(folders):  # the files of the first one replace those of the others
            _copy_checkpoint(folder, temporary, weights=False)
        for index in folders[0].rglob("*.safetensors.index.json"):
            shutil.copyfile(index, temporary / index.relative_to(folders[0]))
        write_means(parents, temporary)
        (temporary / "README.md").write_text(_model_card(parents), encoding="utf-8")
    return out


def select(checkpoints: Sequence[str | Path], experiment: Callable[[JaColBERT], float]) -> list[tuple[Path, float]]:
    """Ranks checkpoints by a measure on held-out data, best first; ties keep the given order.

    Args:
        checkpoints: folders of the checkpoints.
        experiment: measure of a checkpoint, where more is better. Do not use the data on which results are reported.

    Returns:
        Pairs of folder and measure.

    Raises:
        ValueError: a measure is NaN or infinite.
    """
    measured = [(Path(folder), measure_checkpoint(Path(folder), experiment)) for folder in checkpoints]
    return sorted(measured, key=lambda pair: -pair[1])


def soup(
    checkpoints: Sequence[str | Path], experiment: Callable[[JaColBERT], float], *, out: str | Path
) -> tuple[Path, list[Path], float]:
    """Averages checkpoints greedily: adds them from the best down, and keeps each that does not lower the measure.

    Goes beyond the paper (Wortsman et al., "Model soups", arXiv 2203.05482).

    Args:
        checkpoints: folders of the checkpoints.
        experiment: measure of a checkpoint on held-out data, where more is better.
        out: folder to write; it must not exist.

    Returns:
        ``out``, the averaged checkpoints, and the measure of their average.

    Raises:
        FileExistsError: ``out`` exists.
        ValueError: a measure is NaN or infinite.
    """
    out = check_absent(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    (first, best), *others = select(checkpoints, experiment)
    ingredients = [first]
    for folder, _ in others:
        with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as parent:
            trial = average([*ingredients, folder], out=Path(parent) / "trial")
            measure = measure_checkpoint(trial, experiment)
        if measure >= best:
            best = measure
            ingredients.append(folder)
    if len(ingredients) > 1:
        average(ingredients, out=out)
    else:
        with replacing_directory(out, replace=False) as temporary:
            _copy_checkpoint(first, temporary)
    return out, ingredients, best


def measure_checkpoint(folder: Path, experiment: Callable[[JaColBERT], float]) -> float:
    """Returns the measure of a checkpoint.

    Raises:
        ValueError: the measure is NaN or infinite.
    """
    from pyterrier_jacolbert.model import JaColBERT

    measure = float(experiment(JaColBERT(str(folder))))
    if not math.isfinite(measure):
        raise ValueError(f"The measure of {folder} is {measure}, which cannot be ranked; repair the experiment.")
    return measure


def check_absent(out: str | Path) -> Path:
    """Returns a path after checking that nothing exists there.

    Raises:
        FileExistsError: something exists there.
    """
    out = Path(out)
    if out.exists():
        raise FileExistsError(f"{out} exists already; choose another folder, or remove it.")
    return out


def _copy_checkpoint(source: Path, target: Path, *, weights: bool = True) -> None:
    """Copies the files of a checkpoint to an existing folder, except those that only the trainer needs.

    Args:
        source: checkpoint.
        target: existing folder.
        weights: whether to copy weights, in any format.
    """

    def names_to_skip(folder: str, names: list[str]) -> set[str]:
        skipped = {name for name in names if name in _NOT_COPIED or name.startswith("rng_state")}
        if not weights:
            skipped |= {name for name in names if any(fnmatch(name, pattern) for pattern in _WEIGHTS)}
        return skipped

    shutil.copytree(source, target, dirs_exist_ok=True, ignore=names_to_skip)


def _checked_weights(checkpoints: Sequence[str | Path], weights: Sequence[float] | None) -> list[float]:
    if len(checkpoints) < 2:
        raise ValueError(f"An average needs two checkpoints or more, not {len(checkpoints)}; add another.")
    values = [1.0] * len(checkpoints) if weights is None else [float(weight) for weight in weights]
    if len(values) != len(checkpoints) or not all(map(math.isfinite, values)) or not _has_share(values):
        raise ValueError(
            f"weights must be {len(checkpoints)} finite numbers, one per checkpoint, whose sum is not 0, not {weights}."
        )
    return values


def _has_share(weights: Sequence[float]) -> bool:
    """Returns whether weights can be scaled to sum to 1."""
    try:
        return math.fsum(map(abs, weights)) > 0 and math.fsum(weights) != 0
    except OverflowError:
        return False


def _check_compatible(one: Path, other: Path) -> None:
    check_same_tensors(one, other)
    for file in _TOKENIZER_FILES:
        pair = [folder / file for folder in (one, other)]
        if all(path.is_file() for path in pair) and not _give_same_tokens(*pair):
            reject(one, other, f"their {file} differ, so texts would have different tokens")


def _give_same_tokens(one: Path, other: Path) -> bool:
    """Returns whether two tokenizer files agree in everything that affects tokens.

    Loading, using and saving a tokenizer adds its defaults and the padding and truncation of its last call to the file.
    """
    if one.read_bytes() == other.read_bytes():
        return True
    if one.suffix != ".json":
        return False
    first, second = map(_token_settings, (one, other))
    return first == second


def _token_settings(path: Path) -> dict[str, Any]:
    """Returns the settings of a tokenizer file that affect tokens; those that are null count as left out."""
    settings = {**_TOKENIZER_DEFAULTS, **json.loads(path.read_text(encoding="utf-8"))}
    return {name: value for name, value in settings.items() if name not in _CALL_SETTINGS and value is not None}


def _digest(folder: Path) -> str:
    digest = hashlib.sha256()
    for file in weight_files(folder):
        with (folder / file).open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()


def _model_card(parents: Sequence[tuple[Path, float]]) -> str:
    total = math.fsum(weight for _, weight in parents)
    rows = "\n".join(
        f"| {folder.name} | {weight / total:.6g} | `{_digest(folder)[:16]}` |" for folder, weight in parents
    )
    settings = json.dumps({"method": "linear", "arithmetic": "float64"})
    return (
        "---\nlibrary_name: sentence-transformers\ntags: [ColBERT, multi-vector, merge]\n---\n\n"
        "# An averaged checkpoint\n\nThe parameter-wise weighted mean of these parents, "
        f"computed with pyterrier_jacolbert ({settings}).\n\n"
        f"| parent | weight | sha256 of its weights |\n|---|---|---|\n{rows}\n"
    )
