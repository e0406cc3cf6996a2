"""Writes tiny checkpoints of ten families of backbones, with random weights, in Sentence Transformers' own layout."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from sentence_transformers import MultiVectorEncoder
from sentence_transformers.base.modules import Dense, Normalize, Transformer
from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerFast

#: Tokens per text that every backbone accepts.
POSITIONS = 64
WORDS = [*"abcdefghijklmnopqrstuvwxyz", ".", ",", *map(str, range(200))]

_BERT = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": POSITIONS,
}
_DECODER = {**_BERT, "num_key_value_heads": 1, "head_dim": 16, "rope_theta": 10_000.0}
# RoBERTa counts positions from the padding id + 1, so its table has two more rows than it has positions.
_ROBERTA = {**_BERT, "max_position_embeddings": POSITIONS + 2, "type_vocab_size": 1}
_T5 = {"d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 2, "num_heads": 2, "feed_forward_proj": "gated-gelu"}
_DISTILBERT = {
    "dim": 32,
    "n_layers": 2,
    "n_heads": 2,
    "hidden_dim": 64,
    "max_position_embeddings": POSITIONS,
}

#: Class prefix in transformers and configuration of each family.
FAMILIES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "BERT": ("BertConfig", "BertModel", _BERT),
    "RoBERTa": ("RobertaConfig", "RobertaModel", _ROBERTA),
    "DeBERTa-v2": (
        "DebertaV2Config",
        "DebertaV2Model",
        {
            **_BERT,
            "relative_attention": True,
            "position_buckets": 16,
            "norm_rel_ebd": "layer_norm",
            "share_att_key": True,
            "pos_att_type": ["p2c", "c2p"],
            "position_biased_input": False,
        },
    ),
    "ELECTRA": ("ElectraConfig", "ElectraModel", {**_BERT, "embedding_size": 16}),
    "ALBERT": ("AlbertConfig", "AlbertModel", {**_BERT, "embedding_size": 16}),
    "LUKE": ("LukeConfig", "LukeModel", {**_ROBERTA, "entity_vocab_size": 10, "entity_emb_size": 16}),
    "DistilBERT": ("DistilBertConfig", "DistilBertModel", _DISTILBERT),
    "ModernBERT": (
        "ModernBertConfig",
        "ModernBertModel",
        {**_BERT, "num_hidden_layers": 3, "global_attn_every_n_layers": 2, "local_attention": 16},
    ),
    "T5 encoder": ("T5Config", "T5EncoderModel", _T5),
    "Llama-like": ("LlamaConfig", "LlamaModel", _DECODER),
}


def write_backbone_checkpoint(
    folder: str | Path, family: str, *, seed: int = 0, tokenizer_limit: int | None = POSITIONS, **settings: Any
) -> Path:
    """Writes a random ColBERT checkpoint with a backbone of one of the :data:`FAMILIES`.

    Args:
        folder: folder to write.
        family: key of :data:`FAMILIES`.
        seed: seed of the weights.
        tokenizer_limit: the tokenizer's ``model_max_length``; None leaves it open (1e30 in transformers).
        settings: more settings of the configuration.

    Returns:
        The folder.
    """
    folder = Path(folder)
    tokenizer = word_tokenizer(family, tokenizer_limit)
    config_class, model_class, defaults = FAMILIES[family]
    ids = {
        name: value
        for name in ("pad_token_id", "bos_token_id", "eos_token_id")
        if (value := getattr(tokenizer, name)) is not None
    }
    config: PretrainedConfig = getattr(transformers, config_class)(
        **{"vocab_size": len(tokenizer), **ids, **defaults, **settings}
    )
    backbone = getattr(transformers, model_class)(config)
    return write_model(folder, backbone, tokenizer, seed=seed)


def write_model(
    folder: str | Path, backbone: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, *, seed: int = 0
) -> Path:
    """Redraws the weights of a backbone and writes it with a projection to 16 dimensions."""
    folder = Path(folder)
    redraw(backbone, seed)
    parts = folder / "parts"
    backbone.save_pretrained(parts)
    tokenizer.save_pretrained(parts)
    mask = tokenizer.mask_token
    transformer = Transformer(
        str(parts),
        document_length=None,
        query_expansion={"strategy": "fixed", "attend": False, "length": 32} if mask else None,
    )
    projection = Dense(
        transformer.get_embedding_dimension(),
        16,
        bias=False,
        activation_function=None,
        module_input_name="token_embeddings",
    )
    redraw(projection, seed + 1)
    encoder = MultiVectorEncoder(
        modules=[
            transformer,
            projection,
            MultiVectorMask(skiplist_words=[".", ","]),
            Normalize(module_input_name="token_embeddings"),
        ],
        prompts={"query": "q ", "document": "d "},
        device="cpu",
    )
    encoder.save_pretrained(str(folder))
    return folder


def redraw(module: torch.nn.Module, seed: int) -> None:
    """Draws matrices of a scale at which texts, words and positions all differ; the library's are nearly alike."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for _, weight in sorted(module.named_parameters()):
            if weight.ndim == 2:
                weight.normal_(0, weight.shape[1] ** -0.5, generator=generator)


def word_tokenizer(family: str = "BERT", limit: int | None = POSITIONS) -> PreTrainedTokenizerFast:
    """Returns a tokenizer of whole words with the special tokens that a family has."""
    roles = {"cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]", "unk_token": "[UNK]"}
    roles["pad_token"] = "[PAD]"
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    template = "[CLS] $A [SEP]"
    if family in ("RoBERTa", "LUKE"):
        specials = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
        roles = {"cls_token": "<s>", "sep_token": "</s>", "mask_token": "<mask>", "unk_token": "<unk>"}
        roles |= {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>"}
        template = "<s> $A </s>"
    elif family == "T5 encoder":
        specials = ["<pad>", "</s>", "<unk>"]
        roles = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
        template = "$A </s>"
    elif family == "Llama-like":
        specials = ["<unk>", "<s>", "</s>"]
        roles = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>", "pad_token": "</s>"}
        template = "<s> $A"
    vocabulary = {word: number for number, word in enumerate([*specials, *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=roles["unk_token"]))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=template, special_tokens=[(token, vocabulary[token]) for token in specials]
    )
    limits = {} if limit is None else {"model_max_length": limit}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **limits, **roles)


def texts_of_all_lengths(n: int = 24, longest: int = 2 * POSITIONS, seed: int = 0) -> list[str]:
    """Returns texts of 1 to ``longest`` words, of which the longest exceed the positions of the backbones."""
    rng = random.Random(seed)
    lengths = [1 + round(number * (longest - 1) / (n - 1)) for number in range(n)]
    return [" ".join(rng.choices(WORDS, k=length)) for length in lengths]


def sentence_transformers_vectors(
    folder: str | Path, texts: list[str], task: str, dtype: torch.dtype = torch.float32, batch_size: int = 4
) -> list[np.ndarray]:
    """Returns the vectors that Sentence Transformers gives in a dtype, as unit vectors in float32."""
    encoder = MultiVectorEncoder(str(folder), device="cpu", model_kwargs={"dtype": dtype}).to(dtype)
    encode = encoder.encode_query if task == "query" else encoder.encode_document
    vectors = encode(texts, batch_size=batch_size, convert_to_numpy=False)
    return [torch.nn.functional.normalize(rows.float(), dim=-1).numpy() for rows in vectors]


def cosines(ours: Sequence[np.ndarray], theirs: Sequence[np.ndarray]) -> np.ndarray:
    """Returns the cosine of each pair of unit vectors."""
    return np.concatenate([(a * b).sum(axis=1) for a, b in zip(ours, theirs, strict=True)])
