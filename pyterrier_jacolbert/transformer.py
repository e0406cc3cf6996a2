"""The base of every transformer here: it is its settings, so equal settings make equal transformers."""

from __future__ import annotations

import inspect
from typing import Any

import pyterrier as pt


def same_settings(one: object, other: object) -> bool:
    """Whether two transformers are of one class and have equal settings."""
    return type(one) is type(other) and _settings(one) == _settings(other)


def describe(transformer: object) -> str:
    """The constructor call that makes this transformer, without the arguments left at their defaults."""
    parameters = inspect.signature(type(transformer)).parameters
    shown = [
        f"{name}={value!r}"
        for name, value in _settings(transformer).items()
        if parameters[name].default is inspect.Parameter.empty or value != parameters[name].default
    ]
    return f"{type(transformer).__name__}({', '.join(shown)})"


def _settings(transformer: object) -> dict[str, Any]:
    # strict=False: the error of the strict reading prints the transformer, which would come back here without end.
    attributes = pt.inspect.transformer_attributes(transformer, strict=False)  # type: ignore[arg-type]
    return {a.name: a.value for a in attributes if a.value is not pt.inspect.TransformerAttribute.MISSING}


class SettingsTransformer(pt.Transformer):
    """A transformer whose equality, hash and repr come from its constructor arguments.

    Every constructor argument ``x`` is kept as ``self.x``, as PyTerrier's inspection asks. Equality lets
    ``pt.Experiment(plan="tree")`` share the prefixes of pipelines.
    """

    # No link: PyTerrier would otherwise look one up over the network each time a schematic is drawn.
    schematic: dict[str, Any] = {"help_url": None}

    def __eq__(self, other: object) -> bool:
        return same_settings(self, other)

    def __hash__(self) -> int:
        return hash(repr(self))

    def __repr__(self) -> str:
        return describe(self)
