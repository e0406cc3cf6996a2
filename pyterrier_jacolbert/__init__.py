"""JaColBERTv2.5 in PyTerrier: Japanese multi-vector retrieval as pipelines.

The names load what they need when they are first used: importing the package loads neither torch nor numba nor Java.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from pyterrier_jacolbert import datasets

if TYPE_CHECKING:
    from pyterrier_jacolbert.artifact import JaColBERTIndex
    from pyterrier_jacolbert.bm25 import JapaneseBM25
    from pyterrier_jacolbert.indexer import JaColBERTIndexer
    from pyterrier_jacolbert.japanese import JapaneseTokens
    from pyterrier_jacolbert.model import JaColBERT
    from pyterrier_jacolbert.sharded import ShardedIndex

__version__ = "0.1.0"
__all__ = [
    "JaColBERT",
    "JaColBERTIndex",
    "JaColBERTIndexer",
    "JapaneseBM25",
    "JapaneseTokens",
    "ShardedIndex",
    "datasets",
]

_HOMES = {
    "JaColBERT": "model",
    "JaColBERTIndex": "artifact",
    "JaColBERTIndexer": "indexer",
    "JapaneseBM25": "bm25",
    "JapaneseTokens": "japanese",
    "ShardedIndex": "sharded",
}

datasets.register()


def __getattr__(name: str) -> Any:  # noqa: ANN401
    if name in _HOMES:
        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
