"""Splits Japanese text into words and sentences."""

from pyterrier_jacolbert.japanese.sentences import split_sentences
from pyterrier_jacolbert.japanese.words import tokenize

__all__ = ["split_sentences", "tokenize"]
