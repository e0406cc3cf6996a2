"""A smaller vocabulary keeps the vectors of texts whose pieces are kept, and splits other texts more finely."""

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from pyterrier_jacolbert.train.vocabulary import cut_vocabulary, frequent_pieces

PIECES = ["<s>", "<pad>", "</s>", "<unk>", "▁", "富", "士", "山", "高", "い", "富士", "高い", "富士山", "龘", "<mask>"]


@pytest.fixture
def tokenizer():
    scores = [(piece, 0.0 if number < 4 else -10.0 / len(piece)) for number, piece in enumerate(PIECES)]
    inner = Tokenizer(models.Unigram(scores, unk_id=3))
    inner.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    inner.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)])
    special = {
        "bos_token": "<s>",
        "pad_token": "<pad>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
        "mask_token": "<mask>",
    }
    return PreTrainedTokenizerFast(tokenizer_object=inner, model_max_length=32, **special)


def model():
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    return BertModel(BertConfig(vocab_size=len(PIECES), pad_token_id=1, **sizes), add_pooling_layer=False).eval()


def vectors(model, tokenizer, text):
    with torch.inference_mode():
        return model(**tokenizer(text, return_tensors="pt", return_token_type_ids=False)).last_hidden_state[0]


def test_special_tokens_characters_and_frequent_pieces_are_kept(tokenizer):
    kept = frequent_pieces(tokenizer, ["高い", "高い", "富士山"], 12)
    # 龘 is not a character of JIS X 0208; 高い is the most frequent of the remaining pieces.
    assert [PIECES[number] for number in kept] == [*PIECES[:10], "高い", "<mask>"]
    assert frequent_pieces(tokenizer, [], len(PIECES)) == list(range(len(PIECES)))


def test_kept_pieces_have_their_vectors_and_others_are_split(tokenizer):
    kept = frequent_pieces(tokenizer, ["高い", "高い", "富士山"], 12)
    smaller, cut = cut_vocabulary(model(), tokenizer, kept)
    assert tokenizer.tokenize("富士山") == ["▁", "富士山"]
    assert cut.tokenize("富士山") == ["▁", "富", "士", "山"]
    assert len(cut) == smaller.config.vocab_size == 12
    assert (cut.pad_token_id, cut.mask_token_id, cut.model_max_length) == (1, 11, 32)
    assert cut("龘")["input_ids"] == [0, 4, 3, 2]
    torch.testing.assert_close(vectors(smaller, cut, "高い"), vectors(model(), tokenizer, "高い"))
    assert cut("高い")["input_ids"] != tokenizer("高い")["input_ids"]
