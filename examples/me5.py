"""A multi-vector encoder from multilingual-e5-small, reduced to Japanese, as a stand-in for JaColBERT.

It is not a ColBERT: it was trained for single vectors and has no projection. With its own prefixes and without query
augmentation, its token vectors still rank better than BM25 on JSQuAD.

    python examples/me5.py ../shared/models/me5-small-ja runs/me5-small-ja

writes the encoder to a folder that transformers loads as any other, for recipes.
"""

from __future__ import annotations

import argparse
import importlib.util
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from pyterrier_jacolbert import JaColBERT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sentence_transformers import MultiVectorEncoder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder of me5-small-ja")
    parser.add_argument("out", type=Path, help="folder to write")
    args = parser.parse_args()
    write_encoder(args.folder, args.out)


def write_encoder(folder: Path, out: Path, pieces: Sequence[int] | None = None) -> None:
    """Writes the encoder as float32 weights and a tokenizer, from its 4-bit weights and its loader, ``load_q4.py``.

    Args:
        folder: folder of me5-small-ja.
        out: folder to write.
        pieces: ids of the vocabulary to keep; None keeps all.
    """
    from transformers import PreTrainedTokenizerFast
    from transformers.utils import logging

    if pieces is not None:
        from pyterrier_jacolbert.train.vocabulary import cut_vocabulary

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    spec = importlib.util.spec_from_file_location("load_q4", folder / "load_q4.py")
    if spec is None or spec.loader is None or not (folder / "load_q4.py").is_file():
        raise FileNotFoundError(f"The folder {folder} has no load_q4.py; give the folder of me5-small-ja.")
    loader = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loader)
    model, tokenizer = loader.load(str(folder)), PreTrainedTokenizerFast.from_pretrained(folder)
    if pieces is not None:
        model, tokenizer = cut_vocabulary(model, tokenizer, pieces)
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)


def me5_encoder(folder: Path, pieces: Sequence[int] | None = None) -> MultiVectorEncoder:
    """Builds an encoder of token vectors.

    Without a projection, the vectors have 384 dimensions. The prompts are "query: " and "passage: ", as in training.

    Args:
        folder: folder of me5-small-ja.
        pieces: ids of the vocabulary to keep; None keeps all.
    """
    from sentence_transformers import MultiVectorEncoder
    from sentence_transformers.base.modules import Normalize, Transformer
    from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask

    with tempfile.TemporaryDirectory() as plain:
        write_encoder(folder, Path(plain), pieces)
        backbone = Transformer(plain)
    return MultiVectorEncoder(
        modules=[backbone, MultiVectorMask(), Normalize(module_input_name="token_embeddings")],
        prompts={"query": "query: ", "document": "passage: "},
    )


def me5_model(folder: Path, **settings: object) -> JaColBERT:
    """Returns the encoder of :func:`me5_encoder` as a model, by default without query augmentation.

    Args:
        folder: folder of me5-small-ja.
        **settings: arguments of :class:`JaColBERT`.
    """
    return JaColBERT(me5_encoder(folder), **{"query_length": None, **settings})


if __name__ == "__main__":
    main()
