"""The base of all transformers: settings are constructor arguments, and equal settings make equal transformers."""

from __future__ import annotations

import inspect
from typing import Any

import pyterrier as pt


def same_settings(one: object, other: object) -> bool:
    """Returns whether two objects have the same class and equal settings."""
    return type(one) is type(other) and _settings(one) == _settings(other)


def describe(transformer: object) -> str:
    """Returns the constructor call of a transformer, without arguments that have their default values."""
    parameters = inspect.signature(type(transformer)).parameters
    shown = [
        f"{name}={value!r}"
        for name, value in _settings(transformer).items()
        if parameters[name].default is inspect.Parameter.empty or value != parameters[name].default
    ]
    return f"{type(transformer).__name__}({', '.join(shown)})"


def _settings(transformer: object) -> dict[str, Any]:
    # strict=False: the error of strict reading prints the transformer, which would recurse forever.
    attributes = pt.inspect.transformer_attributes(transformer, strict=False)  # type: ignore[arg-type]
    return {a.name: a.value for a in attributes if a.value is not pt.inspect.TransformerAttribute.MISSING}


class SettingsTransformer(pt.Transformer):
    """A transformer whose equality, hash and repr come from its constructor arguments.

    Every constructor argument ``x`` is kept as ``self.x``, as PyTerrier's inspection expects. Equality lets
    ``pt.Experiment(plan="tree")`` share common prefixes of pipelines.
    """

    # Without a link: otherwise PyTerrier looks one up over the network each time it draws a schematic.
    schematic: dict[str, Any] = {"help_url": None}

    def subtransformers(self) -> dict[str, Any]:
        """Tells PyTerrier that no setting is a transformer; it would take an empty tuple for a list of them.

        Returns:
            An empty dict.
        """
        return {}

    def __eq__(self, other: object) -> bool:
        return same_settings(self, other)

    def __hash__(self) -> int:
        return hash(repr(self))

    def __repr__(self) -> str:
        return describe(self)


class RowTransformer(SettingsTransformer):
    """A transformer that adds columns to rows: which rows there are, their scores and their ranks stay."""

    def fuse_rank_cutoff(self, k: int) -> pt.Transformer:
        """Applies a rank cutoff first, so that no work is done for rows that it drops."""
        return pt.RankCutoff(k) >> self
