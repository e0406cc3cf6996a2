"""Measures how far a codec that was trained on the first token vectors of a collection falls behind as it grows.

    python -m benchmarks.growth [--shared ../shared] [--model mini] [--keep runs/vectors] [--bits 4]

The 10,858 passages of JSQuAD validation and JaQuAD train, shuffled. A codec is trained on the first 16,384 vectors, on
twice as many, and so on; each compresses the vectors up to each larger number. Prints the root mean square error of all
vectors up to there, relative to that of a codec that is trained on all of them, which is what a single build gives.
"""

from __future__ import annotations

import random

import numpy as np

from benchmarks.arguments import benchmark_parser
from benchmarks.collections import EncodedCollection
from pyterrier_jacolbert import JaColBERT
from pyterrier_jacolbert.index.codecs.base import Codec
from pyterrier_jacolbert.index.codecs.registry import codec_of, mean_squared_error
from pyterrier_jacolbert.index.codecs.training import CodecSettings, train_codec

SIZES = [2**power for power in (14, 16, 17, 18, 19, 20)]


class Vectors:
    """Token vectors to train on; see :class:`~pyterrier_jacolbert.index.codecs.training.TrainingSource`."""

    def __init__(self, rows: np.ndarray) -> None:
        self.rows = rows
        self.dim, self.tokens = rows.shape[1], len(rows)

    def training_rows(self, rows: np.ndarray | slice, compression: str) -> np.ndarray:
        """Returns token vectors: float32 ``(n, dim)``."""
        return self.rows[rows].astype(np.float32)


def main() -> None:
    parser = benchmark_parser(__doc__, "shared", "model", "keep")
    parser.add_argument("--bits", type=int, default=4, choices=(4, 2, 1), help="of the codec")
    args = parser.parse_args()
    collection = EncodedCollection(args.shared, args.keep, JaColBERT(args.model, verbose=True))
    numbers = list(range(len(collection.docnos)))
    random.Random(0).shuffle(numbers)
    starts = collection.starts
    vectors = np.concatenate([collection.vectors[starts[number] : starts[number + 1]] for number in numbers])
    sizes = [size for size in SIZES if size <= len(vectors)]
    codecs = {size: train(vectors[:size], f"{args.bits}bit") for size in sizes}
    whole = {size: mean_squared_error(codec, vectors[:size]) for size, codec in codecs.items()}
    print(f"| trained on | {' | '.join(f'{size:,}' for size in sizes)} |")
    print("|---" * (len(sizes) + 1) + "|")
    for trained, codec in codecs.items():
        ratios = []
        for size in sizes:
            added = mean_squared_error(codec, vectors[trained:size]) if size > trained else 0.0
            error = (whole[trained] * trained + added * (size - trained)) / size
            ratios.append(f"{np.sqrt(error / whole[size]):.3f}" if size >= trained else "")
        print(f"| {trained:,} | {' | '.join(ratios)} |", flush=True)


def train(vectors: np.ndarray, compression: str) -> Codec:
    """Returns the codec that a build of these vectors trains."""
    trained = train_codec([Vectors(vectors)], CodecSettings(compression))
    return codec_of(compression, vectors.shape[1], trained.parameters)


if __name__ == "__main__":
    main()
