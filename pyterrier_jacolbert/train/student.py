"""A new ColBERT from an encoder that is not one yet: fewer layers, a projection, query augmentation."""

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
    """Makes a ColBERT that ranks nearly as the encoder's own token vectors do, for the trainer to start from.

    The projection starts as the principal directions of the token vectors of some texts, so that products of projected
    vectors are the best approximation of the products of full ones that ``dim`` numbers allow.

    Args:
        encoder: gives the backbone and its prompts, e.g. one of modules ``[Transformer, MultiVectorMask, Normalize]``.
        dim: numbers of a token vector.
        texts: documents of the kind that will be searched; a few hundred are enough.
        layers: which layers of the backbone stay, from 0; a number keeps the lowest ones; None keeps all.
        query_length: positions of a query, [MASK] positions included; the most of its tokens without augmentation.
        augment_queries: whether queries get [MASK] positions.
        document_length: the most tokens of a document.
        skiplist: the tokens of documents that do not score.

    Returns:
        A new encoder; the given one is left as it is.

    Raises:
        ValueError: a layer that is not there, or a ``dim`` larger than the backbone's.
    """
    backbone: Any = (keep_layers(encoder, layers) if layers is not None else copy.deepcopy(encoder))[0]
    hidden = int(backbone.get_embedding_dimension())
    if not 0 < dim <= hidden:
        raise ValueError(f"dim must lie between 1 and the {hidden} of the backbone, not {dim}.")
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
    """A copy with some of the backbone's layers; all else stays, a projection too.

    Args:
        encoder: is left as it is.
        layers: from 0; a number keeps the lowest ones.

    Raises:
        ValueError: a layer that is not there.
    """
    layers = range(layers) if isinstance(layers, int) else layers
    smaller = copy.deepcopy(encoder)
    backbone: Any = smaller[0]
    assert isinstance(backbone, Transformer)
    stack = backbone.model.encoder.layer
    absent = [layer for layer in layers if not 0 <= layer < len(stack)]
    if absent or not len(layers):
        raise ValueError(
            f"The backbone has layers 0 to {len(stack) - 1}; it has no layers {absent or 'of an empty choice'}."
        )
    backbone.model.encoder.layer = torch.nn.ModuleList(stack[layer] for layer in layers)
    backbone.model.config.num_hidden_layers = len(layers)
    return smaller


def _principal_directions(encoder: MultiVectorEncoder, texts: Sequence[str], dim: int) -> torch.Tensor:
    """The directions of most energy of unit token vectors: float32 ``(dim, hidden)``, orthonormal rows.

    Not centred: MaxSim takes products of the vectors as they are.
    """
    rows = torch.cat([torch.as_tensor(vectors) for vectors in encoder.encode_document(list(texts))]).double()
    directions = torch.linalg.eigh(rows.T @ rows).eigenvectors
    greatest: torch.Tensor = directions[:, -dim:].T.flip(0).float().contiguous()
    return greatest
