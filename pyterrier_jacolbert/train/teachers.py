"""Teachers: re-rankers that score the documents of examples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
import pyterrier as pt

from pyterrier_jacolbert.columns import DOCNO, QID, QUERY, SCORE, TEXT, check_column
from pyterrier_jacolbert.encoding.checkpoint import not_found_error
from pyterrier_jacolbert.pipeline.base import SettingsTransformer
from pyterrier_jacolbert.pipeline.frames import check_one_query_per_qid, factorize, ranked

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder


def ensemble(
    *teachers: pt.Transformer,
    weights: Sequence[float] | None = None,
    normalize: Literal["minmax", "zscore"] = "minmax",
) -> pt.Transformer:
    """Returns a re-ranker that sums the normalised scores of several re-rankers.

    Args:
        *teachers: re-rankers of the same documents.
        weights: one weight per teacher; None gives all the same weight.
        normalize: per-query normalisation: ``"minmax"`` to [0, 1], or ``"zscore"`` to mean 0 and standard deviation 1.

    Returns:
        The transformer.

    Raises:
        ValueError: no teacher is given, the number of weights differs from that of the teachers, or the normalisation
            is unknown.
    """
    if not teachers or (weights is not None and len(weights) != len(teachers)):
        raise ValueError(
            "ensemble() needs at least one teacher, and one weight per teacher; "
            f"give {len(teachers)} weights, not {weights}."
        )
    if normalize not in _NORMALIZATIONS:
        raise ValueError(f"normalize must be one of {', '.join(_NORMALIZATIONS)}, not {normalize!r}.")
    return Ensemble(teachers, tuple(weights or [1.0] * len(teachers)), normalize)


class Ensemble(SettingsTransformer):
    """A re-ranker that sums the normalised scores of several re-rankers; see :func:`ensemble`.

    Args:
        teachers: re-rankers of the same documents.
        weights: one weight per teacher.
        normalize: ``"minmax"`` or ``"zscore"``.
    """

    def __init__(self, teachers: tuple[pt.Transformer, ...], weights: tuple[float, ...], normalize: str) -> None:
        self.teachers = teachers
        self.weights = weights
        self.normalize = normalize

    def transform(self, inp: pd.DataFrame) -> pd.DataFrame:
        """Scores each row.

        Raises:
            ValueError: a teacher leaves rows out, or a qid stands for two queries.
        """
        pt.validate.result_frame(inp, [QUERY], context=self)
        if inp.empty:
            return ranked(inp, np.empty(0))
        check_one_query_per_qid(inp, factorize(check_column(inp, QUERY, QID))[0])
        total = np.zeros(len(inp))
        keys = pd.MultiIndex.from_frame(inp[[QID, DOCNO]])
        for teacher, weight in zip(self.teachers, self.weights, strict=True):
            scores = pd.DataFrame(teacher(inp)).set_index([QID, DOCNO])[SCORE].astype(float).reindex(keys)
            if scores.isna().any():
                qid, docno = keys[int(np.flatnonzero(scores.isna())[0])]
                raise ValueError(f"{teacher!r} gave document {docno!r} of query {qid!r} no score; use a re-ranker.")
            groups = scores.groupby(level=0, sort=False)
            total += weight * groups.transform(_NORMALIZATIONS[self.normalize]).to_numpy()
        return ranked(inp, total)


class CrossEncoderScorer(pt.Transformer):
    """A re-ranker that scores with a cross-encoder of Sentence Transformers.

    Args:
        model: folder or hub name of the cross-encoder.
        device: device to run on; None uses a GPU if there is one.
        batch_size: pairs per forward pass.
    """

    schematic = {"label": "Cross-encoder", "help_url": None}

    def __init__(self, model: str, *, device: str | None = None, batch_size: int = 32) -> None:
        self.model = model
        self.device = device
        self.batch_size = batch_size
        self._cross_encoder: CrossEncoder | None = None

    def transform(self, inp: pd.DataFrame) -> pd.DataFrame:
        """Scores the text of each row for its query.

        Args:
            inp: ``qid``, ``query``, ``docno`` and ``text``.

        Returns:
            The rows with new ``score`` and ``rank``, best first per query.

        Raises:
            ValueError: a query or text is not a string, or a qid stands for two queries.
        """
        pt.validate.result_frame(inp, [QUERY, TEXT], context=self)
        if inp.empty:
            return ranked(inp, np.empty(0))
        queries, texts = check_column(inp, QUERY, QID), check_column(inp, TEXT, DOCNO)
        check_one_query_per_qid(inp, factorize(queries)[0])
        pairs = list(zip(queries, texts, strict=True))
        scores = self.load().predict(pairs, batch_size=self.batch_size, show_progress_bar=False)
        return ranked(inp, scores)

    def load(self) -> CrossEncoder:
        """Loads the cross-encoder, unless it is loaded already.

        Returns:
            The cross-encoder.

        Raises:
            FileNotFoundError: it is not on this machine and cannot be downloaded.
        """
        if self._cross_encoder is None:
            from sentence_transformers import CrossEncoder

            try:
                self._cross_encoder = CrossEncoder(self.model, device=self.device)
            except OSError as error:
                raise not_found_error("cross-encoder", self.model) from error
        return self._cross_encoder

    def __repr__(self) -> str:
        return f"CrossEncoderScorer({self.model!r})"


def minmax(scores: pd.Series) -> pd.Series:
    """Shifts and scales scores to [0, 1]; equal scores become 0."""
    low, high = scores.min(), scores.max()
    return (scores - low) / (high - low) if high > low else scores * 0.0


def zscore(scores: pd.Series) -> pd.Series:
    """Shifts and scales scores to mean 0 and standard deviation 1; equal scores become 0."""
    deviation = scores.std(ddof=0)
    return (scores - scores.mean()) / deviation if deviation > 0 else scores * 0.0


_NORMALIZATIONS: dict[str, Callable[[pd.Series], pd.Series]] = {"minmax": minmax, "zscore": zscore}
