"""Students built from an encoder that is not yet a ColBERT: fewer layers, a projection, query augmentation."""

from __future__ import annotations

import copy
import string
from collections.abc import Sequence
from typing import Any

import torch
from sentence_transformers import MultiVectorEncoder
from sentence_transformers.base.modules import Dense, Normalize, Transformer
from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask


def new_student(
    encoder: MultiVectorEncoder,
    *,
    dim: int,
    texts: Sequence[str],
    layers: Sequence[int] | int | None = None,
    query_length: int = 32,
    augment_queries: bool = True,
    document_length: int = 300,
    skiplist: Sequence[str] = tuple(string.punctuation),
) -> MultiVectorEncoder:
    """Builds a ColBERT for training, which initially ranks almost like the encoder's own token vectors.

    The projection is initialised with the principal directions of the token vectors of the given texts. Dot products of
    projected vectors are then the best approximation, in ``dim`` dimensions, of those of full vectors.

    Args:
        encoder: source of the backbone and the prompts, for example with the modules
            ``[Transformer, MultiVectorMask, Normalize]``.
        dim: dimensions of a token vector.
        texts: documents of the kind that will be searched; a few hundred are enough.
        layers: layers of the backbone to keep, counted from 0; a number keeps the lowest ones; None keeps all.
        query_length: positions per query, including [MASK] positions; without augmentation, the maximum number of
            tokens per query.
        augment_queries: whether to fill queries up with [MASK] positions.
        document_length: maximum number of tokens per document.
        skiplist: tokens of documents that do not score.

    Returns:
        A new encoder; the given one is not changed.

    Raises:
        ValueError: a layer does not exist, or ``dim`` is larger than the backbone's dimensions.
    """
    backbone: Any = (keep_layers(encoder, layers) if layers is not None else copy.deepcopy(encoder))[0]
    hidden = int(backbone.get_embedding_dimension())
    if not 0 < dim <= hidden:
        raise ValueError(f"dim must lie between 1 and {hidden}, the dimensions of the backbone, not {dim}.")
    backbone.model.pooler = None  # no token vector depends on it
    backbone.document_length = document_length
    backbone.query_length = None if augment_queries else query_length
    backbone.query_expansion = (
        {"strategy": "fixed", "length": query_length, "attend": False} if augment_queries else None
    )
    plain = MultiVectorEncoder(
        modules=[backbone, MultiVectorMask(), Normalize(module_input_name="token_embeddings")],
        prompts={name: prompt or "" for name, prompt in encoder.prompts.items()},
        device=str(encoder.device),
    )
    projection = Dense(hidden, dim, bias=False, activation_function=None, module_input_name="token_embeddings")
    projection.linear.weight = torch.nn.Parameter(_principal_directions(plain, texts, dim))
    return MultiVectorEncoder(
        modules=[
            backbone,
            projection,
            MultiVectorMask(skiplist_words=list(skiplist)),
            Normalize(module_input_name="token_embeddings"),
        ],
        prompts={name: prompt or "" for name, prompt in encoder.prompts.items()},
        device=str(encoder.device),
    )


def keep_layers(encoder: MultiVectorEncoder, layers: Sequence[int] | int) -> MultiVectorEncoder:
    """Returns a copy of an encoder with only the given layers of the backbone; other modules are kept.

    Args:
        encoder: encoder to copy; it is not changed.
        layers: layers to keep, counted from 0; a number keeps the lowest ones.

    Returns:
        The smaller encoder.

    Raises:
        ValueError: a layer does not exist, or no layer is given.
    """
    layers = range(layers) if isinstance(layers, int) else layers
    smaller = copy.deepcopy(encoder)
    backbone: Any = smaller[0]
    assert isinstance(backbone, Transformer)
    stack = backbone.model.encoder.layer
    unknown = [layer for layer in layers if not 0 <= layer < len(stack)]
    if unknown or not len(layers):
        raise ValueError(f"layers must be some of the backbone's layers, 0 to {len(stack) - 1}, not {list(layers)}.")
    backbone.model.encoder.layer = torch.nn.ModuleList(stack[layer] for layer in layers)
    backbone.model.config.num_hidden_layers = len(layers)
    return smaller


def _principal_directions(encoder: MultiVectorEncoder, texts: Sequence[str], dim: int) -> torch.Tensor:
    """Returns the directions of greatest energy of unit token vectors: float32 ``(dim, hidden)``, orthonormal rows.

    The vectors are not centred, because MaxSim takes dot products of the original vectors.
    """
    rows = torch.cat([torch.as_tensor(vectors) for vectors in encoder.encode_document(list(texts))]).double()
    directions = torch.linalg.eigh(rows.T @ rows).eigenvectors
    principal: torch.Tensor = directions[:, -dim:].T.flip(0).float().contiguous()
    return principal
