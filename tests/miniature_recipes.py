"""Shrinks recipes to seconds: the same parts, on files of a few lines and random checkpoints."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from checkpoints import write_stanford_checkpoint, write_unigram_encoder
from miniatures import parquet
from transformers import BertForSequenceClassification

from pyterrier_jacolbert.train import Recipe, RecipeDataset

N_WAYS, N_STEPS, N_LINES = 4, 3, 12
#: Greatest values of the settings that have an effect on the time of a recipe, by name.
LIMITS = {
    "batch_size": 2, "candidates": 8, "count": 3, "depth": 8, "dim": 8, "document_length": 24, "documents": 12,
    "examples_per_positive": 2, "mini_batch_size": 4, "n_ways": N_WAYS, "points": 3, "queries": 8, "query_length": 12,
    "save_every": 1, "steps": N_STEPS, "texts": 12, "warmup_steps": 1,
}  # fmt: skip
#: One in three of the queries is held out: of a few, a tenth may be none.
MIN_SHARE = 0.3
THINGS = "富士山 東京 小説 料理 日本 都市 湖 川 国 町 首都 作家 電車 学校 病院 音楽 海 森 橋 城 寺 港 駅 島".split()


def shrink(recipe: Recipe, folder: Path) -> Recipe:
    """Shrinks a recipe, and writes the files and checkpoints that it names.

    Checkpoints are written under their own names, which are relative to the recipe's file before they are names of the
    hub. Nothing is left out of the recipe.

    Args:
        recipe: recipe to shrink.
        folder: folder of the shrunk recipe.
    """
    datasets = tuple(_write_dataset(dataset, number, folder) for number, dataset in enumerate(recipe.datasets))
    words = [*THINGS, *(text(number, 0) for number in range(len(datasets)) for text in (_query, _text))]
    n_pieces = _write_checkpoints(recipe, folder, words)
    stages = []
    for stage in recipe.stages:
        files = []
        for file in stage.example_files:
            released = None if file.released is None else str(_write_released(folder / "released", file.split))
            files.append(dataclasses.replace(_limited(file), released=released))
        whole = dataclasses.replace(stage, steps=stage.steps or N_STEPS, precision="float32", examples=tuple(files))
        stages.append(_limited(whole))
    student = recipe.student and dataclasses.replace(
        _limited(recipe.student),
        vocabulary=recipe.student.vocabulary and n_pieces - 3,
        layers=recipe.student.layers and (0, 2),
    )
    held_out = [
        dataclasses.replace(_limited(part), share=part.share and max(part.share, MIN_SHARE)) for part in recipe.held_out
    ]
    return dataclasses.replace(
        recipe,
        stages=tuple(stages),
        averages=tuple(map(_limited, recipe.averages)),
        datasets=datasets,
        mining=tuple(map(_limited, recipe.mining)),
        held_out=tuple(held_out),
        student=student,
    )


def _limited(settings: Any) -> Any:
    """Returns settings with the values of LIMITS in place of greater ones."""
    names = [field.name for field in dataclasses.fields(settings) if field.name in LIMITS]
    numbers = {name: value for name in names if isinstance(value := getattr(settings, name), int)}
    return dataclasses.replace(settings, **{name: min(value, LIMITS[name]) for name, value in numbers.items()})


def _query(number: int, thing: int) -> str:
    return f"{'一二三四五六七八九'[number]}番の{THINGS[thing]}とは何"


def _text(number: int, thing: int) -> str:
    return f"{THINGS[thing]}は{'一二三四五六七八九'[number]}番の有名なものである。"


def _write_dataset(dataset: RecipeDataset, number: int, folder: Path) -> RecipeDataset:
    """Writes a document and a query for each thing; ids are numbers, as those of the released examples."""
    files = {name: f"{dataset.name}.{name}" for name in ("jsonl", "tsv", "qrels")}
    documents = [
        {"docno": str(thing), dataset.title_field or "title": THINGS[thing], dataset.text_field: _text(number, thing)}
        for thing in range(len(THINGS))
    ]
    lines = {
        "jsonl": [json.dumps(document, ensure_ascii=False) for document in documents],
        "tsv": [f"{thing}\t{_query(number, thing)}" for thing in range(len(THINGS))],
        "qrels": [f"{thing} 0 {thing} 1" for thing in range(len(THINGS))],
    }
    for name, file in files.items():
        (folder / file).write_text("\n".join(lines[name]) + "\n", encoding="utf-8")
    return dataclasses.replace(
        dataset, dataset=None, documents=files["jsonl"], queries=files["tsv"], qrels=files["qrels"]
    )


def _write_released(folder: Path, split: str) -> Path:
    """Writes examples in the format of the published ones."""
    import pyarrow as pa

    folder.mkdir(exist_ok=True)
    lines = range(N_LINES)
    negatives = [[(line + way) % len(THINGS) for way in range(1, N_WAYS)] for line in lines]
    content = parquet(
        {
            "query_id": (pa.int64(), list(lines)),
            "pos_id": (pa.int64(), list(lines)),
            "neg_ids": (pa.list_(pa.int64()), negatives),
            "pos_score": (pa.float64(), [1.0] * N_LINES),
            "neg_scores": (pa.list_(pa.float64()), [[0.5 / way for way in range(1, N_WAYS)]] * N_LINES),
        }
    )
    (folder / f"{split}-00000-of-00001.parquet").write_bytes(content)
    return folder


def _write_checkpoints(recipe: Recipe, folder: Path, words: list[str]) -> int:
    """Writes a random checkpoint for each that a recipe names, and returns the size of the encoders' vocabulary."""
    n_pieces = 0
    for kind, name in dict.fromkeys(_named_checkpoints(recipe)):
        if kind == "colbert":
            write_stanford_checkpoint(folder / name, hidden=32, layers=1, heads=2)
        elif kind == "dense":
            n_pieces = write_unigram_encoder(folder / name, words)
        else:
            write_unigram_encoder(folder / name, words, BertForSequenceClassification, num_labels=1)
    return n_pieces


def _named_checkpoints(recipe: Recipe) -> Iterator[tuple[str, str]]:
    """Yields the kind and name of each checkpoint that is not made by the recipe itself."""
    own = {"student", "whole-student", *(stage.name for stage in recipe.stages)}
    if recipe.student is not None:
        yield "dense", recipe.student.encoder
    for stage in recipe.stages:
        yield from (("colbert", name) for name in (stage.start, stage.teacher) if name is not None and name not in own)
    for mining in recipe.mining:
        for scorer in (*mining.retrievers, *mining.teachers):
            kind, _, name = scorer.partition(":")
            if name and name not in own:
                yield kind, name
