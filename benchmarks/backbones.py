"""Compares the vectors of ten families of backbones with those of Sentence Transformers in float32.

    python -m benchmarks.backbones

The checkpoints are tiny and random (tests/backbones.py): what is compared is arithmetic. Per family, documents of 1 to
128 words, of which the longest are cut at 64 tokens: the largest difference of a component in float32; and the smallest
and the mean cosine of a token vector in bfloat16, of the package and of Sentence Transformers' own bfloat16. Prints a
Markdown table.
"""

from __future__ import annotations

import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
import torch

from benchmarks.arguments import benchmark_parser
from pyterrier_jacolbert import JaColBERT

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from backbones import (
    FAMILIES,
    cosines,
    sentence_transformers_vectors,
    texts_of_all_lengths,
    write_backbone_checkpoint,
)


def main() -> None:
    benchmark_parser(__doc__).parse_args()
    warnings.simplefilter("ignore")
    print("| backbone | float32: largest difference | bfloat16: cosine, min / mean | Sentence Transformers' bfloat16 |")
    print("|---|--:|--:|--:|")
    for family in FAMILIES:
        with tempfile.TemporaryDirectory() as folder:
            checkpoint = write_backbone_checkpoint(Path(folder) / "checkpoint", family)
            print(f"| {family} | {' | '.join(measure(checkpoint, texts_of_all_lengths(48)))} |", flush=True)


def measure(checkpoint: Path, texts: list[str]) -> tuple[str, str, str]:
    """Returns the figures of a checkpoint; "fails" with the error in place of what fails."""
    expected = sentence_transformers_vectors(checkpoint, texts, "document")
    peer = cosines(sentence_transformers_vectors(checkpoint, texts, "document", torch.bfloat16), expected)
    figures = []
    for dtype in ("float32", "bfloat16"):
        try:
            ours = JaColBERT(str(checkpoint), dtype=dtype).encode_documents(texts)
        except Exception as error:  # a family that fails is a row of the table
            figures.append(f"fails: {error}")
            continue
        differences = [np.abs(a - b).max(initial=0) for a, b in zip(ours, expected, strict=True)]
        figures.append(f"{max(differences):.0e}" if dtype == "float32" else format_cosines(cosines(ours, expected)))
    return figures[0], figures[1], format_cosines(peer)


def format_cosines(values: np.ndarray) -> str:
    return f"{values.min():.4f} / {values.mean():.5f}"


if __name__ == "__main__":
    main()
