"""What a smaller me5-small-ja loses before any training: by the layers that stay, and by the pieces of its vocabulary.

    python -m benchmarks.smaller [--shared ../shared]

Layers: for each choice of nine of the twelve, the mean cosine distance of the token vectors of 12 passages from those
of all twelve. Pieces: nDCG@10 of all twelve layers on questions of held-out articles, and the tokens of their passages.
"""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

import torch
from transformers import PreTrainedTokenizerFast

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
import jaquad
import train_mini
from me5 import me5_encoder
from vocabulary import frequent_pieces

from benchmarks import arguments as common
from pyterrier_jacolbert import JaColBERT
from pyterrier_jacolbert.train.student import keep_layers, new_student

KEPT = 9


def main() -> None:
    parser = common.parser(__doc__, "shared")
    parser.add_argument("--pieces", type=int, nargs="*", default=[24_307, train_mini.PIECES])
    arguments = parser.parse_args()
    me5 = arguments.shared / "models" / "me5-small-ja"
    collection = jaquad.load(arguments.shared / "data" / "jaquad" / "train")
    judged = set(collection.held_out.qrels["docno"])
    texts = [f"{doc['title']} {doc['text']}" for doc in collection.docs if doc["docno"] not in judged]
    whole = me5_encoder(me5)
    everything = range(len(whole[0].model.encoder.layer))
    passages = texts[:: len(texts) // 12][:12]
    expected = torch.cat(list(map(torch.as_tensor, whole.encode_document(passages))))
    distances = {}
    for layers in itertools.combinations(everything, KEPT):
        found = torch.cat(list(map(torch.as_tensor, keep_layers(whole, layers).encode_document(passages))))
        distances[layers] = float(1 - (found * expected).sum(dim=1).mean())
    ordered = sorted(distances, key=distances.__getitem__)
    print(f"cosine distance from all {len(everything)} layers, {len(distances)} choices of {KEPT}:")
    for layers in (*ordered[:3], tuple(range(KEPT)), ordered[-1]):
        print(f"  {distances[layers]:.4f}  layers {' '.join(map(str, layers))}")
    held_out = train_mini.HeldOut(collection)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(me5)
    for size in arguments.pieces:
        encoder = me5_encoder(me5, frequent_pieces(tokenizer, texts, size))
        tokens = sum(map(len, encoder.tokenizer([doc["text"] for doc in held_out.docs])["input_ids"]))
        student = new_student(encoder, dim=train_mini.DIM, texts=texts[:: len(texts) // 500], augment_queries=False)
        student[0].query_length = None
        measure = held_out(JaColBERT(student))
        print(f"{len(encoder.tokenizer):,} pieces: {tokens:,} tokens, held-out nDCG@10 {measure:.4f}", flush=True)


if __name__ == "__main__":
    main()
