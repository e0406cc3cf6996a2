"""Normalises Japanese text and splits it into words and sentences."""

from pyterrier_jacolbert.japanese.normalization import normalize
from pyterrier_jacolbert.japanese.sentences import split_sentences
from pyterrier_jacolbert.japanese.spellings import FOLDS
from pyterrier_jacolbert.japanese.words import tokenize

__all__ = ["FOLDS", "normalize", "split_sentences", "tokenize"]
