"""Fills the tables of the page on training that follow from the paper's recipe: its YAML beside the sources.

    python tests/recipe_tables.py          # writes them into pyterrier_jacolbert/pt_docs/training.rst

Settings whose source begins with "not used" are left out.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml

import pyterrier_jacolbert
from pyterrier_jacolbert.train import Recipe

PAGE = Path(pyterrier_jacolbert.__file__).parent / "pt_docs" / "training.rst"
Row = tuple[str, str]


def main() -> None:
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    print(PAGE)


def filled(page: str) -> str:
    """Returns the page with current tables. The place of each table is marked by a comment ``.. table: NAME``."""
    recipe = Recipe.jacolbert_v2_5()
    main_stage, post, without = recipe.stages
    tables = {
        "main stage": _stage_rows(recipe, main_stage),
        "post-training": [*_stage_rows(recipe, post, main_stage), *_stage_rows(recipe, without, post)],
        "data": _data_rows(recipe),
    }
    for name, rows in tables.items():
        page, n_places = re.subn(
            rf"(?<=^\.\. table: {name}\n\n)(?:\.\. csv-table::\n(?:(?:   .*)?\n)*)?",
            f"{_table(rows)}\n",
            page,
            flags=re.M,
        )
        assert n_places == 1, f"{PAGE.name} has {n_places} comments '.. table: {name}'; make it one."
    return page


def _stage_rows(recipe: Recipe, stage: Any, than: Any = None) -> Iterator[Row]:
    """Yields the settings of a stage; with another stage, only those that differ from it."""
    yield f"name: {stage.name}", ""
    for name, source in _used(recipe, dataclasses.asdict(stage)):
        value = getattr(stage, name)
        if than is not None and value == getattr(than, name):
            continue
        if name != "examples":
            yield _yaml({name: value}), source
            continue
        yield "examples:", source if than is None else recipe.sources["examples.count"]
        for file in value:
            given = {key: one for key, one in dataclasses.asdict(file).items() if one is not None and key != "weight"}
            if "file" in given:
                del given["split"]
            yield f"- {_yaml(given)}", f"split: {recipe.sources['examples.split']}" if than is None else ""


def _data_rows(recipe: Recipe) -> Iterator[Row]:
    """Yields the data sets, what is mined and held out, and the averages."""
    yield "datasets:", ""
    for dataset in recipe.datasets:
        given = {
            key: one for key, one in dataclasses.asdict(dataset).items() if one is not None and key != "text_field"
        }
        yield f"- {_yaml(given)}", recipe.sources[f"datasets.{dataset.name}"]
    for part, items in (("mining", recipe.mining), ("held_out", recipe.held_out)):
        first = dataclasses.asdict(items[0])
        yield f"{part}:", f"for each of {len(items)} data sets" if len(items) > 1 else ""
        for name, source in _used(recipe, first, f"{part}."):
            if len({getattr(item, name) for item in items}) == 1:
                yield f"  {_yaml({name: first[name]})}", source
    yield "averages:", ""
    for average in recipe.averages:
        given = {"name": average.name, "of": list(average.of)}
        yield f"- {_yaml(given)}", recipe.sources[f"averages.{average.name}"]


def _used(recipe: Recipe, settings: Iterable[str], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yields the name and source of each setting that is used."""
    for name in settings:
        source = recipe.sources.get(f"{prefix}{name}", "not used")
        if not source.startswith("not used"):
            yield name, source


def _yaml(settings: dict[str, Any]) -> str:
    """Returns settings as one line of YAML."""
    plain = {key: list(value) if isinstance(value, tuple) else value for key, value in settings.items()}
    text = yaml.safe_dump(plain, default_flow_style=True, sort_keys=False, width=1000).strip()
    return text if len(plain) > 1 else text[1:-1]


def _table(rows: Iterable[Row]) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, quoting=csv.QUOTE_ALL, lineterminator="\n")
    writer.writerows((f"``{setting.strip()}``", source) for setting, source in rows)
    lines = "".join(f"   {line}\n" for line in buffer.getvalue().splitlines())
    return f'.. csv-table::\n   :header: "YAML", "source"\n   :widths: 50 50\n\n{lines}'


if __name__ == "__main__":
    main()
