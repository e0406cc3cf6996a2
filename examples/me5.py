"""multilingual-e5-small, cut to Japanese, as a multi-vector encoder, for when no JaColBERT is at hand.

It is not a ColBERT: it was trained for single vectors and has no projection. Its token vectors, with its own prefixes
and without query augmentation, still rank JSQuAD better than BM25 does.
"""

from __future__ import annotations

import importlib.util
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from pyterrier_jacolbert import JaColBERT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sentence_transformers import MultiVectorEncoder


def me5_encoder(folder: Path, pieces: Sequence[int] | None = None) -> MultiVectorEncoder:
    """Builds the encoder from a folder with its 4-bit weights, its tokenizer and its loader, ``load_q4.py``.

    No projection, so vectors of 384 numbers; prompts "query: " and "passage: ", as it was trained.

    Args:
        folder: of me5-small-ja.
        pieces: the ids of the vocabulary that stay; None keeps all.
    """
    from sentence_transformers import MultiVectorEncoder
    from sentence_transformers.base.modules import Normalize, Transformer
    from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask
    from transformers import PreTrainedTokenizerFast
    from transformers.utils import logging

    if pieces is not None:
        from vocabulary import cut_vocabulary

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    spec = importlib.util.spec_from_file_location("load_q4", folder / "load_q4.py")
    if spec is None or spec.loader is None:
        raise FileNotFoundError(f"There is no load_q4.py in {folder}; give the folder of me5-small-ja.")
    loader = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loader)
    with tempfile.TemporaryDirectory() as plain:
        model, tokenizer = loader.load(str(folder)), PreTrainedTokenizerFast.from_pretrained(folder)
        if pieces is not None:
            model, tokenizer = cut_vocabulary(model, tokenizer, pieces)
        model.save_pretrained(plain)
        tokenizer.save_pretrained(plain)
        backbone = Transformer(plain)
    return MultiVectorEncoder(
        modules=[backbone, MultiVectorMask(), Normalize(module_input_name="token_embeddings")],
        prompts={"query": "query: ", "document": "passage: "},
    )


def me5_model(folder: Path, **settings: object) -> JaColBERT:
    """The same as a :class:`JaColBERT`, without query augmentation unless ``query_length`` says so."""
    return JaColBERT(me5_encoder(folder), **{"query_length": None, **settings})
