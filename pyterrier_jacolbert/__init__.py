"""JaColBERTv2.5 in PyTerrier: Japanese multi-vector retrieval as pipelines.

Names load what they need on first use: importing the package loads neither torch nor numba nor Java, writes no file and
needs no home directory.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from pyterrier_jacolbert import datasets
from pyterrier_jacolbert._version import __version__ as __version__

if TYPE_CHECKING:
    from pyterrier_jacolbert.artifacts.bm25 import JapaneseBM25
    from pyterrier_jacolbert.artifacts.index import JaColBERTIndex
    from pyterrier_jacolbert.artifacts.sharded import ShardedIndex
    from pyterrier_jacolbert.indexer import JaColBERTIndexer
    from pyterrier_jacolbert.model import JaColBERT
    from pyterrier_jacolbert.pipeline.japanese_tokens import JapaneseTokens

__all__ = [
    "JaColBERT",
    "JaColBERTIndex",
    "JaColBERTIndexer",
    "JapaneseBM25",
    "JapaneseTokens",
    "ShardedIndex",
    "datasets",
]

#: The module of each public name.
_MODULES = {
    "JaColBERT": "model",
    "JaColBERTIndex": "artifacts.index",
    "JaColBERTIndexer": "indexer",
    "JapaneseBM25": "artifacts.bm25",
    "JapaneseTokens": "pipeline.japanese_tokens",
    "ShardedIndex": "artifacts.sharded",
}

datasets.register_when_asked()


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_MODULES])
