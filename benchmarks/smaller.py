"""Measures what a reduced me5-small-ja loses before training: by the layers kept, and by the size of its vocabulary.

    python -m benchmarks.smaller [--shared ../shared]

Layers: for every choice of nine of the twelve, the mean cosine distance between the token vectors of 12 passages and
those of all twelve layers. Vocabulary: nDCG@10 of all twelve layers on questions about held-out articles, and the
number of tokens of the passages.
"""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

import torch
from sentence_transformers import MultiVectorEncoder
from transformers import PreTrainedTokenizerFast

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
import jaquad
import train_mini
from me5 import me5_encoder

from benchmarks.arguments import benchmark_parser
from pyterrier_jacolbert import JaColBERT
from pyterrier_jacolbert.train import keep_layers, new_student
from pyterrier_jacolbert.train.vocabulary import frequent_pieces

N_KEPT = 9


def main() -> None:
    parser = benchmark_parser(__doc__, "shared")
    parser.add_argument(
        "--pieces",
        type=int,
        nargs="*",
        default=[24_307, train_mini.PIECES],
        help=f"sizes of the vocabulary (default: 24307 {train_mini.PIECES})",
    )
    args = parser.parse_args()
    me5 = args.shared / "models" / "me5-small-ja"
    collection = jaquad.load(args.shared / "data" / "jaquad" / "train")
    judged = set(collection.held_out.qrels["docno"])
    texts = [f"{doc['title']} {doc['text']}" for doc in collection.docs if doc["docno"] not in judged]
    print_layer_distances(me5_encoder(me5), texts[:: len(texts) // 12][:12])
    held_out = train_mini.HeldOut(collection)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(me5)
    for size in args.pieces:
        encoder = me5_encoder(me5, frequent_pieces(tokenizer, texts, size))
        n_tokens = sum(map(len, encoder.tokenizer([doc["text"] for doc in held_out.docs])["input_ids"]))
        student = new_student(encoder, dim=train_mini.DIM, texts=texts[:: len(texts) // 500], augment_queries=False)
        student[0].query_length = None
        ndcg = held_out(JaColBERT(student))
        print(f"{len(encoder.tokenizer):,} pieces: {n_tokens:,} tokens, held-out nDCG@10 {ndcg:.4f}", flush=True)


def print_layer_distances(whole: MultiVectorEncoder, passages: list[str]) -> None:
    """Prints the cosine distances of the best choices of nine layers, of the lowest nine, and of the worst choice."""
    n_layers = len(whole[0].model.encoder.layer)
    expected = torch.cat(list(map(torch.as_tensor, whole.encode_document(passages))))
    distances = {}
    for layers in itertools.combinations(range(n_layers), N_KEPT):
        vectors = torch.cat(list(map(torch.as_tensor, keep_layers(whole, layers).encode_document(passages))))
        distances[layers] = float(1 - (vectors * expected).sum(dim=1).mean())
    ordered = sorted(distances, key=distances.__getitem__)
    print(f"Cosine distance from all {n_layers} layers, {len(distances)} choices of {N_KEPT}:")
    for layers in (*ordered[:3], tuple(range(N_KEPT)), ordered[-1]):
        print(f"  {distances[layers]:.4f}  layers {' '.join(map(str, layers))}")


if __name__ == "__main__":
    main()
