"""A dense teacher from an index of token vectors: the vector of a text is the mean of its token vectors."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyterrier as pt

from pyterrier_jacolbert import JaColBERTIndex


class MeanVectors:
    """Dense retrieval with the means of stored token vectors, which is e5's pooling up to each vector's length.

    Args:
        index: index with an encoder that was trained for single vectors.
    """

    def __init__(self, index: JaColBERTIndex) -> None:
        self.index = index
        reader = index.token_vectors()
        sums = np.stack([reader.document_rows(docid).sum(axis=0) for docid in range(len(reader))])
        self.vectors = sums / np.linalg.norm(sums, axis=1, keepdims=True)

    def encode_queries(self, texts: list[str]) -> np.ndarray:
        """Returns the unit vectors of queries: float32 ``(n, dim)``."""
        sums = np.stack([vectors.sum(axis=0) for vectors in self.index.encode_queries(texts)])
        return sums / np.linalg.norm(sums, axis=1, keepdims=True)

    def retriever(self) -> pt.Transformer:
        """Returns a transformer that retrieves the best 1,000 documents by cosine similarity."""
        return _DenseRetriever(self)

    def scorer(self) -> pt.Transformer:
        """Returns a transformer that re-ranks by cosine similarity."""
        return _DenseScorer(self)


class _DenseRetriever(pt.Transformer):
    schematic = {"label": "Dense", "help_url": None}

    def __init__(self, dense: MeanVectors, num_results: int = 1000) -> None:
        self.dense = dense
        self.num_results = num_results

    def transform(self, inp: pd.DataFrame) -> pd.DataFrame:
        pt.validate.query_frame(inp, ["query"])
        if inp.empty:
            return inp.assign(docno=[], score=[], rank=[])
        scores = self.dense.encode_queries(inp["query"].tolist()) @ self.dense.vectors.T
        k = min(self.num_results, scores.shape[1])
        best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        docnos = self.dense.index.docnos()
        rows = np.repeat(np.arange(len(inp)), k)
        found = [docnos[i] for i in best.ravel()]
        return pt.model.add_ranks(inp.iloc[rows].assign(docno=found, score=np.take_along_axis(scores, best, 1).ravel()))

    def fuse_rank_cutoff(self, k: int) -> pt.Transformer:
        return _DenseRetriever(self.dense, min(k, self.num_results))


class _DenseScorer(pt.Transformer):
    schematic = {"label": "Dense", "help_url": None}

    def __init__(self, dense: MeanVectors) -> None:
        self.dense = dense

    def transform(self, inp: pd.DataFrame) -> pd.DataFrame:
        pt.validate.result_frame(inp, ["query"])
        if inp.empty:
            return inp.assign(score=[], rank=[])
        texts = inp["query"].unique().tolist()
        numbers = {text: number for number, text in enumerate(texts)}
        queries = self.dense.encode_queries(texts)[[numbers[text] for text in inp["query"]]]
        docids = self.dense.index.docnos().docids(inp["docno"].tolist())
        return pt.model.add_ranks(inp.assign(score=np.einsum("ij,ij->i", queries, self.dense.vectors[docids])))
