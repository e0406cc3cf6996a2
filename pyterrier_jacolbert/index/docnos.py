"""Docnos on disk: by docid, by name, and in their order, mapped and a few bytes each."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pyterrier_jacolbert.index.store import map_array, write_array


def write_docnos(directory: Path, docnos: Sequence[str]) -> dict[str, Any]:
    """Writes the docnos of an index; the position of each is its docid.

    Five files, 24 bytes a document and the docnos' own UTF-8: the bytes end to end, where each starts, the docids in
    order of a 64-bit hash with those hashes (for look-ups), and each docid's rank among the sorted docnos (for ties).

    Returns:
        The files' entries for ``pt_meta.json``.
    """
    encoded = [docno.encode("utf-8") for docno in docnos]
    starts = np.zeros(len(encoded) + 1, dtype=np.int64)
    np.cumsum([len(name) for name in encoded], out=starts[1:])
    hashes = _hashes(encoded)
    by_hash = np.argsort(hashes, kind="stable").astype(np.uint32)
    ranks = np.empty(len(encoded), dtype=np.uint32)
    # UTF-8 bytes sort as their code points do, and so as ir_measures sorts docnos.
    ranks[sorted(range(len(encoded)), key=encoded.__getitem__)] = np.arange(len(encoded), dtype=np.uint32)
    return {
        "docno_bytes": write_array(directory, "docnos.utf8", np.frombuffer(b"".join(encoded), dtype=np.uint8)),
        "docno_starts": write_array(directory, "docnos.starts.i8", starts),
        "docno_hashes": write_array(directory, "docnos.hashes.u8", hashes[by_hash]),
        "docno_by_hash": write_array(directory, "docnos.by_hash.u4", by_hash),
        "docno_ranks": write_array(directory, "docnos.ranks.u4", ranks),
    }


class Docnos(Sequence[str]):
    """The docnos of an index, by docid; names are found by binary search over mapped hashes.

    Args:
        directory: the index.
        files: the entries of its ``pt_meta.json``.
    """

    def __init__(self, directory: Path, files: dict[str, Any]) -> None:
        self._bytes = map_array(directory, files["docno_bytes"])
        self._starts = map_array(directory, files["docno_starts"])
        self._hashes = map_array(directory, files["docno_hashes"])
        self._by_hash = map_array(directory, files["docno_by_hash"])
        #: uint32 ``(n_docs,)``: each docid's position among the docnos in ascending order.
        self.ranks = map_array(directory, files["docno_ranks"])

    def __len__(self) -> int:
        return len(self.ranks)

    def __getitem__(self, docid: Any) -> Any:  # noqa: ANN401 (an int gives a str, a slice a list)
        if isinstance(docid, slice):
            return [self._encoded(i).decode("utf-8") for i in range(*docid.indices(len(self)))]
        if not -len(self) <= docid < len(self):
            raise IndexError(f"docid {docid} is outside the {len(self)} documents of the index")
        return self._encoded(int(docid) % len(self)).decode("utf-8")

    def docids(self, docnos: Sequence[str]) -> np.ndarray:
        """The docids of docnos: int64 ``(n,)``, -1 for a name that the index does not have."""
        encoded = [docno.encode("utf-8", "surrogatepass") for docno in docnos]
        hashes = _hashes(encoded)
        firsts = np.searchsorted(self._hashes, hashes)
        return np.array(
            [self._find(name, hashed, int(first)) for name, hashed, first in zip(encoded, hashes, firsts, strict=True)],
            dtype=np.int64,
        )

    def known_docids(self, docnos: Sequence[str], owner: str) -> np.ndarray:
        """The docids of docnos that a frame holds: int64 ``(n,)``; a docno may be repeated.

        Args:
            docnos: the names.
            owner: whose they should be, for the message.

        Raises:
            ValueError: the index does not have one of them.
        """
        distinct = list(dict.fromkeys(docnos))
        found = dict(zip(distinct, self.docids(distinct).tolist(), strict=True))
        absent = [docno for docno, docid in found.items() if docid < 0]
        if absent:
            raise ValueError(
                f"{len(absent)} documents of the frame are not in {owner} (first: {absent[0]!r}); "
                "index the collection that the first stage searches, or drop them."
            )
        return np.array([found[docno] for docno in docnos], dtype=np.int64)

    def _find(self, name: bytes, hashed: np.uint64, first: int) -> int:
        # Different names may share a hash: compare the bytes of each candidate.
        for position in range(first, len(self)):
            if self._hashes[position] != hashed:
                break
            docid = int(self._by_hash[position])
            if self._encoded(docid) == name:
                return docid
        return -1

    def _encoded(self, docid: int) -> bytes:
        return self._bytes[self._starts[docid] : self._starts[docid + 1]].tobytes()


def _hashes(encoded: Sequence[bytes]) -> np.ndarray:
    digests = b"".join(hashlib.blake2b(name, digest_size=8).digest() for name in encoded)
    return np.frombuffer(digests, dtype="<u8").astype(np.uint64)
