"""Opens an index of token vectors of either kind."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pyterrier_jacolbert.artifacts.index import JaColBERTIndex
from pyterrier_jacolbert.artifacts.multivector import MultiVectorIndex
from pyterrier_jacolbert.artifacts.sharded import ShardedIndex
from pyterrier_jacolbert.index.storage.manifest import SHARDED, read_meta
from pyterrier_jacolbert.model import JaColBERT

if TYPE_CHECKING:
    from sentence_transformers import MultiVectorEncoder


def open_index(path: str | Path, model: JaColBERT | str | MultiVectorEncoder | None = None) -> MultiVectorIndex:
    """Opens a single or sharded index.

    Args:
        path: of the index.
        model: encodes queries; None takes the checkpoint that the index records.

    Returns:
        A :class:`JaColBERTIndex` or a :class:`ShardedIndex`.

    Raises:
        FileNotFoundError: there is no index at the path.
        ValueError: the manifest is damaged.
    """
    sharded = read_meta(Path(path)).get("format") == SHARDED
    return ShardedIndex(path, model) if sharded else JaColBERTIndex(path, model)
