"""PyTerrier transformers: retrievers, re-rankers, encoders, explainers, loaders, feedback and passages."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyterrier_jacolbert.pipeline.bm25 import JapaneseBM25Retriever, JapaneseBM25Scorer
    from pyterrier_jacolbert.pipeline.encoders import DocEncoder, QueryEncoder
    from pyterrier_jacolbert.pipeline.explainers import IndexExplainer, TextExplainer
    from pyterrier_jacolbert.pipeline.japanese_tokens import JapaneseTokens
    from pyterrier_jacolbert.pipeline.loaders import EmbeddingsLoader, TextLoader
    from pyterrier_jacolbert.pipeline.passages import JapanesePassages
    from pyterrier_jacolbert.pipeline.prf import ColBERTPRF
    from pyterrier_jacolbert.pipeline.rerankers import IndexReranker, TextReranker
    from pyterrier_jacolbert.pipeline.retrievers import Retriever, TorchRetriever

#: The module of each public name.
_MODULES = {
    "ColBERTPRF": "prf",
    "DocEncoder": "encoders",
    "EmbeddingsLoader": "loaders",
    "IndexExplainer": "explainers",
    "IndexReranker": "rerankers",
    "JapaneseBM25Retriever": "bm25",
    "JapaneseBM25Scorer": "bm25",
    "JapanesePassages": "passages",
    "JapaneseTokens": "japanese_tokens",
    "QueryEncoder": "encoders",
    "Retriever": "retrievers",
    "TextExplainer": "explainers",
    "TextLoader": "loaders",
    "TextReranker": "rerankers",
    "TorchRetriever": "retrievers",
}

__all__ = [
    "ColBERTPRF",
    "DocEncoder",
    "EmbeddingsLoader",
    "IndexExplainer",
    "IndexReranker",
    "JapaneseBM25Retriever",
    "JapaneseBM25Scorer",
    "JapanesePassages",
    "JapaneseTokens",
    "QueryEncoder",
    "Retriever",
    "TextExplainer",
    "TextLoader",
    "TextReranker",
    "TorchRetriever",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
