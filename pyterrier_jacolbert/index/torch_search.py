"""Exact MaxSim by torch's matrix products, on a GPU or a CPU.

Documents are sorted by length and laid out in blocks of one length each: a shorter document repeats its last token,
which moves no maximum. Queries are brought to one length with zeros, which add nothing to a sum. So a block takes one
matrix product, one maximum and one sum, for all queries together.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from pyterrier_jacolbert.index.panels import OFFSET
from pyterrier_jacolbert.index.scalar_codecs import Int8Codec
from pyterrier_jacolbert.index.search import Found
from pyterrier_jacolbert.index.stored import Stored
from pyterrier_jacolbert.index.topk import top_k

#: Document tokens a block; their similarities with 512 query tokens take 128 MiB in float32.
_BLOCK_TOKENS = 2**16
_BLOCK_COLUMNS = 512
#: Lengths are brought to a multiple of this, so that blocks are full.
_LENGTH_STEP = 8
#: Of the device's free memory that the vectors may fill.
_SHARE = 0.8


@dataclass(frozen=True)
class _Block:
    """Documents of about one length.

    Attributes:
        docids: int64 ``(n,)``.
        vectors: ``(n * length, dim)``.
        scales: float32 ``(n * length, 1)`` for int8, None otherwise.
    """

    docids: torch.Tensor
    vectors: torch.Tensor
    scales: torch.Tensor | None


class TorchSearch:
    """An open index on a device.

    Args:
        stored: the index.
        device: ``"cuda"``, ``"cuda:1"``, ``"cpu"``.
        dtype: of the stored vectors on the device and of the products; sums are in float32.

    Attributes:
        resident: whether the vectors stay on the device; else they are brought there anew for each group of queries.
    """

    def __init__(self, stored: Stored, device: str, dtype: str) -> None:
        self.stored = stored
        self._device = torch.device(device)
        self._dtype = dtype
        self._int8 = Int8Codec(stored.meta["dim"])
        lengths = np.diff(stored.starts)
        rounded = -(-lengths // _LENGTH_STEP) * _LENGTH_STEP
        order = np.argsort(rounded, kind="stable")
        self._order = order[rounded[order] > 0]
        self._lengths = rounded[self._order]
        size = 1 if dtype == "int8" else np.dtype("float16" if dtype == "bfloat16" else dtype).itemsize
        self.resident = int(self._lengths.sum()) * stored.meta["dim"] * size <= self._room()
        self._blocks = list(self._made()) if self.resident else None

    def search(
        self, queries: Sequence[np.ndarray], num_results: int, tie_ranks: np.ndarray, docids: np.ndarray | None = None
    ) -> Iterator[Found]:
        """Finds the best documents of each query, as :func:`~pyterrier_jacolbert.index.search.search_exact` does."""
        longest = max(len(query) for query in queries)
        group = max(1, _BLOCK_COLUMNS // longest)
        left_out = None
        if docids is not None:
            left_out = torch.ones(len(self.stored), dtype=torch.bool, device=self._device)
            left_out[torch.from_numpy(docids).to(self._device)] = False
        for first in range(0, len(queries), group):
            scores = self._scores(queries[first : first + group])
            if left_out is not None:
                scores.masked_fill_(left_out, -torch.inf)
            # All that equal the last of the best: which of them stay is decided by their docnos.
            limits = scores.topk(min(num_results, scores.shape[1]), dim=1).values[:, -1:]
            for of_query, limit in zip(scores, limits, strict=True):
                found = torch.nonzero(of_query >= limit)[:, 0]
                values = of_query[found].cpu().numpy()
                candidates = found.cpu().numpy()
                best = top_k(values, num_results, tie_ranks[candidates])
                yield candidates[best], values[best]

    def _scores(self, queries: Sequence[np.ndarray]) -> torch.Tensor:
        """float32 ``(n_queries, n_docs)``, on the device; -inf for a document without tokens."""
        longest = max(len(query) for query in queries)
        padded = np.zeros((len(queries), longest, queries[0].shape[1]), dtype=np.float32)
        for number, query in enumerate(queries):
            padded[number, : len(query)] = query
        rows = torch.from_numpy(padded).reshape(-1, padded.shape[2])
        steps = None
        if self._dtype == "int8":
            rows = rows @ torch.from_numpy(self._int8.rotation)
            steps = rows.abs().amax(dim=1, keepdim=True) / 127
            rows = torch.round(rows / torch.where(steps > 0, steps, 1)).to(torch.int8)
            steps = steps.T.to(self._device)
        else:
            rows = rows.to(getattr(torch, self._dtype))
        columns = rows.to(self._device).T
        scores = torch.full((len(queries), len(self.stored)), -torch.inf, device=self._device)
        for block in self._blocks if self._blocks is not None else self._made():
            if block.scales is None or steps is None:
                similarities = block.vectors @ columns
            else:
                similarities = _int8_product(block.vectors, columns) * block.scales * steps
            best = similarities.view(len(block.docids), -1, len(queries), longest).amax(dim=1)
            scores[:, block.docids] = best.float().sum(dim=2).T
        return scores

    def _made(self) -> Iterator[_Block]:
        """The blocks, from the files."""
        first = 0
        while first < len(self._order):
            # Within a block lengths differ by little; the longest is its last.
            end = first + max(1, _BLOCK_TOKENS // int(self._lengths[first]))
            end = min(end, int(np.searchsorted(self._lengths, self._lengths[first] * 1.1 + _LENGTH_STEP, side="right")))
            docids = self._order[first:end]
            yield self._block(docids, int(self._lengths[docids.size + first - 1]))
            first += len(docids)

    def _block(self, docids: np.ndarray, length: int) -> _Block:
        starts, ends = self.stored.starts[docids], self.stored.starts[docids + 1]
        rows = np.minimum(starts[:, None] + np.arange(length), ends[:, None] - 1).reshape(-1)
        on_device: Any = {"device": self._device, "non_blocking": True}
        numbers = torch.from_numpy(docids).to(**on_device)
        if self._dtype != "int8":
            vectors = torch.from_numpy(self.stored.decode(rows)).to(getattr(torch, self._dtype))
            return _Block(numbers, vectors.to(**on_device), None)
        if isinstance(self.stored.codec, Int8Codec):
            columns = {name: self.stored.columns[name][rows] for name in ("codes", "scales")}
        else:
            columns = self._int8.encode(self.stored.decode(rows))
        codes = torch.from_numpy((columns["codes"].astype(np.int16) - OFFSET).astype(np.int8))
        scales = torch.from_numpy(columns["scales"].astype(np.float32))[:, None]
        return _Block(numbers, codes.to(**on_device), scales.to(**on_device))

    def _room(self) -> float:
        if self._device.type == "cuda":
            return torch.cuda.mem_get_info(self._device)[0] * _SHARE
        return _available_memory() * _SHARE


def _int8_product(rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """int32 products of int8 matrices; CUDA wants the sides to be multiples of 8."""
    missing = -columns.shape[1] % 8
    if missing:
        columns = torch.nn.functional.pad(columns, (0, missing))
    products = torch._int_mm(rows, columns.contiguous())
    return products[:, : products.shape[1] - missing] if missing else products


def _available_memory() -> float:
    """Bytes that the machine could give, as Linux says; elsewhere no bound is known."""
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:
            fields = dict(line.split(":", 1) for line in lines)
        return float(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError):
        return float("inf")
