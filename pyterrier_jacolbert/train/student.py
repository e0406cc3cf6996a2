"""Students built from an encoder that is not yet a ColBERT: fewer layers, a head, query augmentation."""

from __future__ import annotations

import copy
import string
import tempfile
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from sentence_transformers import MultiVectorEncoder
from sentence_transformers.base.modules import Dense, Normalize, Transformer
from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask

from pyterrier_jacolbert.encoding.checkpoint import not_found_error, without_progress_bars
from pyterrier_jacolbert.index.limits import check_choice
from pyterrier_jacolbert.index.storage.atomic import replacing_directory
from pyterrier_jacolbert.train.stages import STUDENT, WHOLE_STUDENT, Head, Student
from pyterrier_jacolbert.train.vocabulary import cut_vocabulary, frequent_pieces


def new_student(
    encoder: MultiVectorEncoder,
    *,
    dim: int,
    texts: Sequence[str],
    head: Head = "linear",
    layers: Sequence[int] | int | None = None,
    query_length: int = 32,
    augment_queries: bool = True,
    document_length: int = 300,
    skiplist: Sequence[str] = tuple(string.punctuation),
) -> MultiVectorEncoder:
    """Builds a ColBERT for training, which initially ranks almost like the encoder's own token vectors.

    The projection is initialised with the principal directions of the token vectors of the given texts. Dot products of
    projected vectors are then the best approximation, in ``dim`` dimensions, of those of full vectors.

    With ``head="residual"`` the projection follows a layer of twice the backbone's dimensions, whose output is the sum
    of a GELU and a linear map. Initially the projection takes only a copy of the backbone's vectors, so the ranking is
    that of the linear head (arXiv 2510.12327 for the shape; the initialisation is this package's).

    Args:
        encoder: source of the backbone and the prompts, for example with the modules
            ``[Transformer, MultiVectorMask, Normalize]``.
        dim: dimensions of a token vector.
        texts: documents of the kind that will be searched; a few hundred are enough.
        head: layers after the backbone: ``"linear"``, or ``"residual"`` for two layers with a residual connection.
        layers: layers of the backbone to keep, counted from 0; a number keeps the lowest ones; None keeps all.
        query_length: positions per query, including [MASK] positions; without augmentation, the maximum number of
            tokens per query.
        augment_queries: whether to fill queries up with [MASK] positions.
        document_length: maximum number of tokens per document.
        skiplist: tokens of documents that do not score.

    Returns:
        A new encoder; the given one is not changed.

    Raises:
        ValueError: a layer does not exist, ``head`` is unknown, or ``dim`` is larger than the backbone's dimensions.
    """
    check_choice("head", head, typing.get_args(Head))
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
    projection = _principal_directions(plain, texts, dim)
    return MultiVectorEncoder(
        modules=[
            backbone,
            *(_residual_head(projection) if head == "residual" else [_dense(projection)]),
            MultiVectorMask(skiplist_words=list(skiplist)),
            Normalize(module_input_name="token_embeddings"),
        ],
        prompts={name: prompt or "" for name, prompt in encoder.prompts.items()},
        device=str(encoder.device),
    )


def build_student(
    settings: Student,
    encoder: str,
    texts: Sequence[tuple[Sequence[str], Sequence[str]]],
    folders: Mapping[str, Path],
    device: str | None = None,
) -> None:
    """Builds the student of a recipe and writes it, with and without all layers of its encoder.

    Args:
        settings: of the student.
        encoder: folder or hub name of its encoder.
        texts: documents and queries of each data set, from which the vocabulary and the projection are computed.
        folders: where to write the two, by :data:`~pyterrier_jacolbert.train.stages.STUDENT` and
            :data:`~pyterrier_jacolbert.train.stages.WHOLE_STUDENT`.
        device: device to compute on; None uses a GPU if there is one.

    Raises:
        FileNotFoundError: the encoder is not on this machine and cannot be downloaded.
        ValueError: a layer does not exist, or the vocabulary cannot be cut.
    """
    kept = [text for documents, queries in texts for text in (*documents, *queries)] if settings.vocabulary else []
    sample = [text for documents, _ in texts for text in documents[:: max(1, len(documents) // settings.texts)]]
    whole = new_student(
        _load_plain_encoder(settings, encoder, kept, device),
        dim=settings.dim,
        texts=sample,
        head=settings.head,
        query_length=settings.query_length,
        augment_queries=settings.augment_queries,
        document_length=settings.document_length,
        skiplist=tuple(settings.skiplist),
    )
    student = whole if settings.layers is None else keep_layers(whole, settings.layers)
    for name, model in ((WHOLE_STUDENT, whole), (STUDENT, student)):
        with replacing_directory(folders[name]) as temporary, without_progress_bars():
            model.save_pretrained(str(temporary))


def _load_plain_encoder(
    settings: Student, encoder: str, texts: Sequence[str], device: str | None
) -> MultiVectorEncoder:
    """Loads an encoder without projection, and cuts its vocabulary to the pieces of the given texts."""
    try:
        with without_progress_bars():
            backbone = Transformer(encoder)
    except OSError as error:
        raise not_found_error("encoder", encoder) from error
    if settings.vocabulary is not None:
        pieces = frequent_pieces(backbone.tokenizer, texts, settings.vocabulary)
        with tempfile.TemporaryDirectory(prefix="pyterrier-jacolbert-") as plain:
            model, tokenizer = cut_vocabulary(backbone.model, backbone.tokenizer, pieces)
            model.save_pretrained(plain)
            tokenizer.save_pretrained(plain)
            backbone = Transformer(plain)
    return MultiVectorEncoder(
        modules=[backbone, MultiVectorMask(), Normalize(module_input_name="token_embeddings")],
        prompts={"query": settings.query_prompt, "document": settings.document_prompt},
        device=device,
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
    parent, name = _layer_stack(backbone.model)
    stack = getattr(parent, name)
    unknown = [layer for layer in layers if not 0 <= layer < len(stack)]
    if unknown or not len(layers):
        raise ValueError(f"layers must be some of the backbone's layers, 0 to {len(stack) - 1}, not {list(layers)}.")
    setattr(parent, name, torch.nn.ModuleList(stack[layer] for layer in layers))
    config = backbone.model.config
    config.num_hidden_layers = len(layers)
    if getattr(config, "layer_types", None):  # local and global attention take turns in ModernBERT
        config.layer_types = [config.layer_types[layer] for layer in layers]
    return smaller


def _layer_stack(model: Any) -> tuple[Any, str]:
    """Returns the module that holds the layers of a backbone, and the name of the list.

    Raises:
        ValueError: the backbone has no list of layers under a known name.
    """
    for path in ("encoder.layer", "layers", "encoder.layers", "transformer.layer"):
        *parents, name = path.split(".")
        parent = model
        for step in parents:
            parent = getattr(parent, step, None)
        if isinstance(getattr(parent, name, None), torch.nn.ModuleList):
            return parent, name
    raise ValueError(
        f"The layers of a {type(model).__name__} are not where those of BERT or ModernBERT are, so none can be left "
        "out; keep all layers."
    )


def _dense(weight: torch.Tensor, **settings: Any) -> Dense:
    """Returns a linear layer over token vectors, with the given weight ``(out, in)``."""
    return Dense(
        weight.shape[1],
        weight.shape[0],
        bias=False,
        init_weight=weight,
        module_input_name="token_embeddings",
        **{"activation_function": None, **settings},
    )


def _residual_head(projection: torch.Tensor) -> list[Dense]:
    """Returns two layers with a residual connection that compute a projection ``(dim, hidden)`` before training.

    The first layer has the outputs ``x + GELU(0 x)`` and ``GELU(W x)``. The second projects the former and ignores the
    latter, whose weights are drawn at random so that they can learn.
    """
    dim, hidden = projection.shape
    drawn = torch.nn.init.normal_(
        torch.empty(hidden, hidden), std=hidden**-0.5, generator=torch.Generator().manual_seed(0)
    )
    first = _dense(
        torch.cat([torch.zeros(hidden, hidden), drawn]), activation_function=torch.nn.GELU(), use_residual=True
    )
    first.residual.weight = torch.nn.Parameter(torch.eye(2 * hidden, hidden))
    return [first, _dense(torch.cat([projection, torch.zeros(dim, hidden)], dim=1))]


def _principal_directions(encoder: MultiVectorEncoder, texts: Sequence[str], dim: int) -> torch.Tensor:
    """Returns the directions of greatest energy of unit token vectors: float32 ``(dim, hidden)``, orthonormal rows.

    The vectors are not centred, because MaxSim takes dot products of the original vectors.
    """
    rows = torch.cat([torch.as_tensor(vectors) for vectors in encoder.encode_document(list(texts))]).double()
    directions = torch.linalg.eigh(rows.T @ rows).eigenvectors
    principal: torch.Tensor = directions[:, -dim:].T.flip(0).float().contiguous()
    return principal
