"""Writes tiny JaColBERT checkpoints with random weights for tests, a thousandth of the size of released ones.

The layout is Stanford ColBERT's, in which the JaColBERT family is released: `config.json` with
`architectures: ["HF_ColBERT"]`, `model.safetensors` with `bert.*` and `linear.weight`, tokenizer files and
`artifact.metadata`.
"""

import json
import shutil
import string
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save_file
from safetensors.torch import load_file as load_torch_file
from safetensors.torch import save_file as save_torch_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedModel, PreTrainedTokenizerFast

# The released vocabulary also starts with these, so markers and special tokens have the released ids (0 to 6).
SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[unused0]", "[unused1]")
QUERY_MARKER, DOC_MARKER = "[unused0]", "[unused1]"
MAX_POSITIONS = 512
RESIDUAL_SCALE = 0.4  # scale of what each block adds to the residual stream


def write_stanford_checkpoint(
    folder: str | Path,
    tokenizer_folder: str | Path | None = None,
    *,
    hidden: int = 32,
    layers: int = 2,
    heads: int = 2,
    dim: int = 16,
    seed: int = 0,
    query_maxlen: int = 32,
    doc_maxlen: int = 300,
) -> Path:
    """Writes a random JaColBERT checkpoint in Stanford ColBERT's layout.

    The weights are drawn so that a token's vector depends mostly on the token and a little on its position and
    neighbours: vectors of different tokens spread over the sphere. Rankings mean little: the [MASK] vectors, over half
    of a short query, are noise. The same arguments give the same bytes.

    Args:
        folder: folder to write; created if it does not exist.
        tokenizer_folder: folder with the `vocab.txt` and `tokenizer_config.json` to copy. None writes
            `tiny_vocabulary()`, used with MeCab and WordPiece like the released tokenizer.
        hidden: width of the encoder.
        layers: number of layers of the encoder.
        heads: number of attention heads; must divide `hidden`.
        dim: dimensions of a token vector.
        seed: seed of the weights.
        query_maxlen: query length in tokens, for `artifact.metadata`.
        doc_maxlen: document length in tokens, for `artifact.metadata`.

    Returns:
        The folder.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if tokenizer_folder is None:
        (folder / "vocab.txt").write_text("\n".join(tiny_vocabulary()) + "\n", encoding="utf-8", newline="\n")
        _write_json(folder / "tokenizer_config.json", _TOKENIZER_CONFIG)
    else:
        for name in ("vocab.txt", "tokenizer_config.json"):
            shutil.copyfile(Path(tokenizer_folder) / name, folder / name)
    vocab_size = (folder / "vocab.txt").read_bytes().count(b"\n")
    config = {
        "architectures": ["HF_ColBERT"],
        "model_type": "bert",
        "attention_probs_dropout_prob": 0.1,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.1,
        "hidden_size": hidden,
        "initializer_range": 0.02,
        "intermediate_size": 2 * hidden,
        "layer_norm_eps": 1e-12,
        "max_position_embeddings": MAX_POSITIONS,
        "num_attention_heads": heads,
        "num_hidden_layers": layers,
        "pad_token_id": 0,
        "type_vocab_size": 2,
        "vocab_size": vocab_size,
    }
    metadata = {
        "query_token_id": QUERY_MARKER,
        "doc_token_id": DOC_MARKER,
        "query_token": "[質問s]",  # sic, as in the released files; display only
        "doc_token": "[文書]",
        "dim": dim,
        "query_maxlen": query_maxlen,
        "doc_maxlen": doc_maxlen,
        "mask_punctuation": True,
        "attend_to_mask_tokens": False,
        "similarity": "cosine",
        "interaction": "colbert",
    }
    _write_json(folder / "config.json", config)
    _write_json(folder / "artifact.metadata", metadata)
    rng = np.random.default_rng(seed)
    weights = dict(_random_bert(rng, vocab_size, hidden, layers))
    weights["linear.weight"] = _matrix(rng, dim, hidden)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def write_unigram_encoder(
    folder: str | Path, words: Iterable[str], kind: type[PreTrainedModel] = BertModel, **config: object
) -> int:
    """Writes a random encoder of three layers that is no ColBERT, with a unigram tokenizer.

    Args:
        folder: folder to write.
        words: words of its vocabulary, which also has their characters.
        kind: class of the model, one of BERT's.
        **config: other settings of the model.

    Returns:
        The size of the vocabulary.
    """
    words = list(dict.fromkeys(words))
    characters = sorted(set("".join(words)))
    pieces = ["<s>", "<pad>", "</s>", "<unk>", "▁", *characters, *(word for word in words if len(word) > 1)]
    scores = [(piece, 0.0 if number < 4 else -10.0 / len(piece)) for number, piece in enumerate(pieces)]
    inner = Tokenizer(models.Unigram(scores, unk_id=3))
    inner.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    inner.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    special = {"bos_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    PreTrainedTokenizerFast(tokenizer_object=inner, model_max_length=32, **special).save_pretrained(folder)
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 16}
    kind(BertConfig(vocab_size=len(pieces), pad_token_id=1, **sizes, **config)).save_pretrained(folder)
    return len(pieces)


def tiny_vocabulary() -> list[str]:
    """Returns a WordPiece vocabulary of single characters: ASCII, kana, Japanese punctuation and JIS level 1 kanji.

    A word of known characters becomes a piece and `##` pieces; a word with any other character becomes [UNK], as with
    the released vocabulary.
    """
    ascii_letters = string.ascii_letters + string.digits
    kana = [chr(c) for c in (*range(0x3041, 0x3097), *range(0x30A1, 0x30FB), 0x30FC)]
    # Rows 16-47 of EUC-JP are JIS X 0208 level 1, the 2,965 kanji in daily use.
    kanji = [
        bytes((row, cell)).decode("euc_jp", errors="ignore") for row in range(0xB0, 0xD0) for cell in range(0xA1, 0xFF)
    ]
    inside_words = [*ascii_letters, *kana, *filter(None, kanji)]
    standalone = [*string.punctuation, *"。、「」『』・〜…々〇"]
    return [*SPECIAL_TOKENS, *standalone, *inside_words, *(f"##{c}" for c in (*inside_words, *"々〇・"))]


_TOKENIZER_CONFIG = {
    "tokenizer_class": "BertJapaneseTokenizer",
    "model_max_length": MAX_POSITIONS,
    "do_lower_case": False,
    "word_tokenizer_type": "mecab",
    "subword_tokenizer_type": "wordpiece",
    "mecab_kwargs": {"mecab_dic": "unidic_lite"},
}


def _random_bert(
    rng: np.random.Generator, vocab_size: int, hidden: int, layers: int
) -> Iterator[tuple[str, np.ndarray]]:
    """Yields the named weights of `transformers.BertModel`, with the prefix `bert.`."""

    def layer_norm(name: str) -> Iterator[tuple[str, np.ndarray]]:
        yield f"{name}.weight", np.ones(hidden, np.float32)
        yield f"{name}.bias", np.zeros(hidden, np.float32)

    def linear(name: str, out: int, into: int, scale: float = 1.0) -> Iterator[tuple[str, np.ndarray]]:
        yield f"{name}.weight", np.float32(scale) * _matrix(rng, out, into)
        yield f"{name}.bias", np.zeros(out, np.float32)

    embeddings = "bert.embeddings"
    # BERT's own scale, 0.02, makes all outputs of a random network nearly equal. Here words outweigh positions, and the
    # residual stream outweighs the output of attention and feed-forward layers, mostly shared by all tokens of a text.
    yield f"{embeddings}.word_embeddings.weight", rng.normal(0, 1.0, (vocab_size, hidden)).astype(np.float32)
    yield f"{embeddings}.position_embeddings.weight", rng.normal(0, 0.2, (MAX_POSITIONS, hidden)).astype(np.float32)
    yield f"{embeddings}.token_type_embeddings.weight", rng.normal(0, 0.2, (2, hidden)).astype(np.float32)
    yield from layer_norm(f"{embeddings}.LayerNorm")
    for i in range(layers):
        layer = f"bert.encoder.layer.{i}"
        for part in ("query", "key", "value"):
            yield from linear(f"{layer}.attention.self.{part}", hidden, hidden)
        yield from linear(f"{layer}.attention.output.dense", hidden, hidden, scale=RESIDUAL_SCALE)
        yield from layer_norm(f"{layer}.attention.output.LayerNorm")
        yield from linear(f"{layer}.intermediate.dense", 2 * hidden, hidden)
        yield from linear(f"{layer}.output.dense", hidden, 2 * hidden, scale=RESIDUAL_SCALE)
        yield from layer_norm(f"{layer}.output.LayerNorm")
    yield from linear("bert.pooler.dense", hidden, hidden)


def _matrix(rng: np.random.Generator, out: int, into: int) -> np.ndarray:
    return rng.normal(0, into**-0.5, (out, into)).astype(np.float32)


def _write_json(path: Path, content: dict) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False, indent=2) + "\n", encoding="utf-8", newline="\n")


def rewrite_weights(folder: Path, change: Callable[[dict], dict], file: str = "model.safetensors") -> Path:
    """Replaces the weights in a folder with what a function of the tensors by name returns, and returns the folder."""
    weights = change(load_torch_file(folder / file))
    save_torch_file(
        {name: value.contiguous() for name, value in weights.items()}, folder / file, metadata={"format": "pt"}
    )
    return folder


def shard_weights(folder: Path, n_shards: int = 3) -> list[str]:
    """Splits `model.safetensors` into shards with an index, as large checkpoints have them; returns the files."""
    weights = load_torch_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    files = [f"model-{number + 1:05}-of-{n_shards:05}.safetensors" for number in range(n_shards)]
    places = {name: files[number % n_shards] for number, name in enumerate(sorted(weights))}
    for file in files:
        part = {name: value for name, value in weights.items() if places[name] == file}
        save_torch_file(part, folder / file, metadata={"format": "pt"})
    size = sum(value.numel() * value.element_size() for value in weights.values())
    _write_json(folder / "model.safetensors.index.json", {"metadata": {"total_size": size}, "weight_map": places})
    return files


def save_as_pytorch(folder: Path) -> None:
    """Replaces `model.safetensors` with `pytorch_model.bin`."""
    torch.save(load_torch_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
