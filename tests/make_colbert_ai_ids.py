"""Writes `tests/data/colbert_ai_ids.json`: the ids of colbert-ai's own tokenizers for odd and ordinary texts.

`test_encoder.py` checks the package against these ids, so running the tests does not require colbert-ai. To rebuild the
file, use a separate environment (colbert-ai pins few versions and has many dependencies):

    python -m venv colbert && colbert/bin/pip install colbert-ai==0.2.22 torch transformers fugashi unidic-lite
    colbert/bin/python tests/make_colbert_ai_ids.py FOLDER_OF_THE_TOKENIZER

The folder holds `vocab.txt` and `tokenizer_config.json` of tohoku-nlp/bert-base-japanese-v3, JaColBERT's tokenizer.
"""

import argparse
import hashlib
import importlib.metadata
import json
import os
import string
import tempfile
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["CUDA_VISIBLE_DEVICES"] = ""

from checkpoints import write_stanford_checkpoint
from colbert.infra import ColBERTConfig
from colbert.modeling.tokenization import DocTokenizer, QueryTokenizer

OUTPUT = Path(__file__).parent / "data" / "colbert_ai_ids.json"
QUERY_MAXLENS = (32, 48)
DOC_MAXLEN = 300

TEXTS = [
    "",
    " ",
    "日本で一番高い山は何ですか?",
    "日本で一番高い山は何ですか？",
    "すごい！！１２３４５６７８９０",
    "「吾輩は猫である」、と彼は言った。",
    "『雪国』（川端康成・著）…〜",
    string.punctuation,
    "a.b, c! d? (e) [f] {g} \"h\" 'i' `j` ~k ^l _m #n @o $p %q &r *s +t =u /v \\w |x <y>",
    "Sentence Transformers と ColBERT で Japanese retrieval を試す",
    "PyTerrier v1.1.2 は2026年7月に公開された。",
    "今日はいい天気☀️ですね😀👨‍👩‍👧‍👦",
    "𠮷野家と髙島屋、龘と鱻の読み方",  # the first is outside the BMP; the vocabulary lacks some of them
    "ｶﾀｶﾅとﾊﾝｶｸのﾃｽﾄ",
    "㈱日立製作所は①から⑳まで、㌔と℃とⅣ",
    "がぎぐ と か\u3099き\u3099く\u3099",  # composed and decomposed voiced kana, which NFKC unifies
    "  前後に空白があります  ",
    "\u3000全角空白\u3000が\u3000あります\u3000",
    "一行目\n二行目\r\n三行目\tタブ",
    "\n改行で始まり改行で終わる\n",
    "特別な記号[SEP]が文中にある [MASK] 文",
    "[MASK]で始まり[PAD]と[CLS]と[UNK]もある",
    "印[unused0]と[unused1]そのものを含む文",
    "[unused0] 印で始まる文",
    ". ピリオドで始まる文.",
    "スーパーカリフラジリスティックエクスピアリドーシャス",
    "ゼロ幅\u200b空白と\ufeff印と制御\x07文字",
    "東京都は日本の首都であり、世界でも有数の大都市である。" * 2,  # truncated at 32 tokens, complete at 48
    "富士山は静岡県と山梨県にまたがる活火山で、標高は三七七六メートル。" * 30,  # beyond 300
    "あ" * 1000,  # one word, longer than WordPiece's limit
    "長い文の三百番目の近くに記号が来る、" * 20 + "[SEP]" + "終わり。" * 60,
]


def main() -> None:
    """Tokenises `TEXTS` with colbert-ai and writes the ids."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tokenizer", type=Path, help="folder with vocab.txt and tokenizer_config.json")
    tokenizer_folder = parser.parse_args().tokenizer
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = str(write_stanford_checkpoint(folder, tokenizer_folder, doc_maxlen=DOC_MAXLEN))
        content = {
            "colbert_ai": importlib.metadata.version("colbert-ai"),
            "transformers": importlib.metadata.version("transformers"),
            "vocab_sha256": hashlib.sha256((tokenizer_folder / "vocab.txt").read_bytes()).hexdigest(),
            "doc_maxlen": DOC_MAXLEN,
            "skiplist_ids": skiplist_ids(checkpoint),
            "texts": [
                {
                    "text": text,
                    "queries": {str(maxlen): query_ids(checkpoint, text, maxlen) for maxlen in QUERY_MAXLENS},
                    "document": document_ids(checkpoint, text),
                }
                for text in TEXTS
            ],
        }
    OUTPUT.parent.mkdir(exist_ok=True)
    # One text per line, so that a change of one text changes one line.
    texts = ",\n".join(json.dumps(text, ensure_ascii=True) for text in content.pop("texts"))
    head = json.dumps(content)[:-1]
    OUTPUT.write_text(f'{head}, "texts": [\n{texts}\n]}}\n', encoding="utf-8", newline="\n")


def query_ids(checkpoint: str, text: str, maxlen: int) -> dict[str, list[int]]:
    """Returns the ids and the attention mask of a query, each of length `maxlen`."""
    ids, mask = QueryTokenizer(config(checkpoint, query_maxlen=maxlen), verbose=0).tensorize([text])
    return {"ids": ids[0].tolist(), "attention_mask": mask[0].tolist()}


def document_ids(checkpoint: str, text: str) -> list[int]:
    """Returns the ids of a document encoded alone, so without padding."""
    ids, mask = DocTokenizer(config(checkpoint)).tensorize([text])
    assert mask.all()
    return ids[0].tolist()


def skiplist_ids(checkpoint: str) -> list[int]:
    """Returns the ids of document tokens excluded from scoring, derived as in `colbert.modeling.colbert.ColBERT`."""
    tok = DocTokenizer(config(checkpoint)).tok
    return sorted({tok.encode(symbol, add_special_tokens=False)[0] for symbol in string.punctuation})


def config(checkpoint: str, **settings: int) -> ColBERTConfig:
    """Returns JaColBERT's settings."""
    return ColBERTConfig(
        checkpoint=checkpoint,
        query_token_id="[unused0]",
        doc_token_id="[unused1]",
        attend_to_mask_tokens=False,
        doc_maxlen=DOC_MAXLEN,
        **settings,
    )


if __name__ == "__main__":
    main()
