"""Exact MaxSim by matrix products of torch, on a GPU or a CPU.

Documents are sorted by length and packed in blocks of one length each: a shorter document repeats its last token, which
changes no maximum. Queries are padded to one length with zeros, which add nothing to a sum. A block then takes one
matrix product, one maximum and one sum for all queries together.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from pyterrier_jacolbert.index.codecs.scalar import Int8Codec
from pyterrier_jacolbert.index.kernels.query_layout import ZERO_POINT
from pyterrier_jacolbert.index.search.exact import Hits, StoredVectors
from pyterrier_jacolbert.index.search.top_k import top_k

#: Document tokens per block; their similarities with 512 query tokens take 128 MiB in float32.
_BLOCK_TOKENS = 2**16
_BLOCK_COLUMNS = 512
#: Lengths are rounded up to a multiple of this, so that blocks are full.
_LENGTH_STEP = 8
#: Share of the free memory of the device that the vectors may take.
_MEMORY_SHARE = 0.8


@dataclass(frozen=True)
class _Block:
    """Documents of about the same length.

    Attributes:
        docids: int64 ``(n,)``.
        vectors: ``(n * length, dim)``.
        scales: float32 ``(n * length, 1)`` for int8, None otherwise.
    """

    docids: torch.Tensor
    vectors: torch.Tensor
    scales: torch.Tensor | None


class TorchSearch:
    """Searches the vectors of an index on a device.

    Args:
        vectors: of the index.
        device: ``"cuda"``, ``"cuda:1"``, ``"cpu"``.
        dtype: of the vectors on the device and of the products; sums are float32.

    Attributes:
        resident: whether the vectors stay on the device; otherwise each group of queries copies them there.
    """

    def __init__(self, vectors: StoredVectors, device: str, dtype: str) -> None:
        self.vectors = vectors
        self._device = torch.device(device)
        self._dtype = dtype
        self._int8 = Int8Codec(vectors.codec.dim)
        lengths = np.diff(vectors.starts)
        rounded = -(-lengths // _LENGTH_STEP) * _LENGTH_STEP
        order = np.argsort(rounded, kind="stable")
        self._order = order[rounded[order] > 0]
        self._lengths = rounded[self._order]
        size = 1 if dtype == "int8" else np.dtype("float16" if dtype == "bfloat16" else dtype).itemsize
        self.resident = int(self._lengths.sum()) * vectors.codec.dim * size <= self._free_memory()
        self._blocks = list(self._read_blocks()) if self.resident else None

    def search(
        self, queries: Sequence[np.ndarray], num_results: int, tie_ranks: np.ndarray, docids: np.ndarray | None = None
    ) -> Iterator[Hits]:
        """Finds the best documents for each query; see :func:`~pyterrier_jacolbert.index.search.exact.search_exact`."""
        longest = max(len(query) for query in queries)
        group = max(1, _BLOCK_COLUMNS // longest)
        excluded = None
        if docids is not None:
            excluded = torch.ones(len(self.vectors), dtype=torch.bool, device=self._device)
            excluded[torch.from_numpy(docids).to(self._device)] = False
        for first in range(0, len(queries), group):
            scores = self._scores(queries[first : first + group])
            if excluded is not None:
                scores.masked_fill_(excluded, -torch.inf)
            # All documents that tie with the last hit: docnos decide which of them stay.
            limits = scores.topk(min(num_results, scores.shape[1]), dim=1).values[:, -1:]
            for query_scores, limit in zip(scores, limits, strict=True):
                found = torch.nonzero(query_scores >= limit)[:, 0]
                values = query_scores[found].cpu().numpy()
                candidates = found.cpu().numpy()
                best = top_k(values, num_results, tie_ranks[candidates])
                yield candidates[best], values[best]

    def _scores(self, queries: Sequence[np.ndarray]) -> torch.Tensor:
        """Returns all scores, on the device: float32 ``(n_queries, n_docs)``, -inf for a document without tokens."""
        longest = max(len(query) for query in queries)
        padded = np.zeros((len(queries), longest, queries[0].shape[1]), dtype=np.float32)
        for number, query in enumerate(queries):
            padded[number, : len(query)] = query
        rows = torch.from_numpy(padded).reshape(-1, padded.shape[2])
        scales = None
        if self._dtype == "int8":
            rows = rows @ torch.from_numpy(self._int8.rotation)
            scales = rows.abs().amax(dim=1, keepdim=True) / 127
            rows = torch.round(rows / torch.where(scales > 0, scales, 1)).to(torch.int8)
            scales = scales.T.to(self._device)
        else:
            rows = rows.to(getattr(torch, self._dtype))
        columns = rows.to(self._device).T
        scores = torch.full((len(queries), len(self.vectors)), -torch.inf, device=self._device)
        for block in self._blocks if self._blocks is not None else self._read_blocks():
            if block.scales is None or scales is None:
                similarities = block.vectors @ columns
            else:
                similarities = _int8_product(block.vectors, columns) * block.scales * scales
            best = similarities.view(len(block.docids), -1, len(queries), longest).amax(dim=1)
            scores[:, block.docids] = best.float().sum(dim=2).T
        return scores

    def _read_blocks(self) -> Iterator[_Block]:
        """Reads the documents from the files, block by block."""
        first = 0
        while first < len(self._order):
            # Lengths within a block differ little; the last document is the longest.
            end = first + max(1, _BLOCK_TOKENS // int(self._lengths[first]))
            end = min(end, int(np.searchsorted(self._lengths, self._lengths[first] * 1.1 + _LENGTH_STEP, side="right")))
            docids = self._order[first:end]
            yield self._block(docids, int(self._lengths[docids.size + first - 1]))
            first += len(docids)

    def _block(self, docids: np.ndarray, length: int) -> _Block:
        starts, ends = self.vectors.starts[docids], self.vectors.starts[docids + 1]
        rows = np.minimum(starts[:, None] + np.arange(length), ends[:, None] - 1).reshape(-1)
        on_device: Any = {"device": self._device, "non_blocking": True}
        numbers = torch.from_numpy(docids).to(**on_device)
        if self._dtype != "int8":
            vectors = torch.from_numpy(self.vectors.decode(rows)).to(getattr(torch, self._dtype))
            return _Block(numbers, vectors.to(**on_device), None)
        if isinstance(self.vectors.codec, Int8Codec):
            columns = {name: self.vectors.columns[name][rows] for name in ("codes", "scales")}
        else:
            columns = self._int8.encode(self.vectors.decode(rows))
        codes = torch.from_numpy((columns["codes"].astype(np.int16) - ZERO_POINT).astype(np.int8))
        scales = torch.from_numpy(columns["scales"].astype(np.float32))[:, None]
        return _Block(numbers, codes.to(**on_device), scales.to(**on_device))

    def _free_memory(self) -> float:
        if self._device.type == "cuda":
            return torch.cuda.mem_get_info(self._device)[0] * _MEMORY_SHARE
        return _available_memory() * _MEMORY_SHARE


def _int8_product(rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """Multiplies int8 matrices to int32; CUDA requires sides that are multiples of 8."""
    missing = -columns.shape[1] % 8
    if missing:
        columns = torch.nn.functional.pad(columns, (0, missing))
    products = torch._int_mm(rows, columns.contiguous())
    return products[:, : products.shape[1] - missing] if missing else products


def _available_memory() -> float:
    """Returns the available memory in bytes according to Linux; infinity elsewhere."""
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:
            fields = dict(line.split(":", 1) for line in lines)
        return float(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError):
        return float("inf")
