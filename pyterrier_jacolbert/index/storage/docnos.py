"""Docnos on disk: looked up by docid and by name, and ranked for ties.

Docnos are concatenated in arrays that only grow; the look-up tables are rewritten when the index changes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pyterrier_jacolbert.index.storage.arrays import map_array, map_starts, write_array
from pyterrier_jacolbert.index.storage.manifest import ArrayEntry, Entries


def write_docno_tables(directory: Path, prefix: str, names: np.ndarray, starts: np.ndarray) -> dict[str, ArrayEntry]:
    """Writes the tables that look up and rank docnos: 16 bytes per document.

    The tables are the docids ordered by a 64-bit hash of their docnos, those hashes, and the rank of each docid among
    the sorted docnos.

    Args:
        directory: of the index.
        prefix: of the file names.
        names: uint8 ``(n_bytes,)``, the docnos in UTF-8, concatenated.
        starts: int64 ``(n_docs + 1,)``, the first byte of each docno.

    Returns:
        The entries of the files by name.
    """
    encoded = [names[first:end].tobytes() for first, end in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True)]
    hashes = _hashes(encoded)
    by_hash = np.argsort(hashes, kind="stable").astype(np.uint32)
    ranks = np.empty(len(encoded), dtype=np.uint32)
    # UTF-8 bytes sort as their code points do, and so as ir_measures sorts docnos.
    ranks[sorted(range(len(encoded)), key=encoded.__getitem__)] = np.arange(len(encoded), dtype=np.uint32)
    return {
        "docno_hashes": write_array(directory, f"{prefix}docno_hashes.u8", hashes[by_hash]),
        "docno_by_hash": write_array(directory, f"{prefix}docno_by_hash.u4", by_hash),
        "docno_ranks": write_array(directory, f"{prefix}docno_ranks.u4", ranks),
    }


def write_docnos(directory: Path, docnos: Sequence[str], prefix: str) -> dict[str, ArrayEntry]:
    """Writes docnos with their tables.

    Args:
        directory: of the index.
        docnos: in the order of their docids.
        prefix: of the file names.

    Returns:
        The entries of the files by name.
    """
    encoded = [docno.encode("utf-8") for docno in docnos]
    starts = np.zeros(len(encoded) + 1, dtype=np.int64)
    np.cumsum([len(name) for name in encoded], out=starts[1:])
    names = np.frombuffer(b"".join(encoded), dtype=np.uint8)
    return {
        "docno_bytes": write_array(directory, f"{prefix}docno_bytes.u1", names),
        "docno_starts": write_array(directory, f"{prefix}docno_starts.i8", starts),
        **write_docno_tables(directory, prefix, names, starts),
    }


class Docnos(Sequence[str]):
    """The docnos of an index by docid. Names are looked up by binary search in mapped hashes.

    A deleted document keeps its docid, but its docno is not found and may be reused.

    Args:
        directory: of the index.
        files: entries of the manifest.
        deleted: uint32, ascending: deleted docids.
        names: the docnos as in :attr:`arrays`; None maps them.
    """

    def __init__(
        self,
        directory: Path,
        files: Entries,
        deleted: np.ndarray | None = None,
        names: tuple[Any, np.ndarray] | None = None,
    ) -> None:
        self._deleted = np.empty(0, dtype=np.uint32) if deleted is None else deleted
        if names is None:
            encoded = map_array(directory, files["docno_bytes"])
            names = encoded, map_starts(directory, files["docno_starts"], len(encoded))
        self._bytes: Any = names[0]
        self._starts = names[1]
        self._hashes = map_array(directory, files["docno_hashes"])
        self._by_hash = map_array(directory, files["docno_by_hash"])
        #: uint32 ``(n_docs,)``: position of each docid among the docnos in ascending order.
        self.ranks = map_array(directory, files["docno_ranks"])

    @property
    def arrays(self) -> tuple[np.ndarray, np.ndarray]:
        """Docnos in UTF-8, concatenated, uint8, and the first byte of each, int64 ``(n_docs + 1,)``."""
        return self._bytes, self._starts

    def __len__(self) -> int:
        return len(self.ranks)

    def __getitem__(self, docid: Any) -> Any:
        if isinstance(docid, slice):
            return [self._encoded(i).decode("utf-8") for i in range(*docid.indices(len(self)))]
        if not -len(self) <= docid < len(self):
            raise IndexError(
                f"The docid {docid} is outside the index; give one below {len(self)}, its number of documents."
            )
        return self._encoded(int(docid) % len(self)).decode("utf-8")

    def docids(self, docnos: Sequence[str]) -> np.ndarray:
        """Returns the docids of docnos: int64 ``(n,)``, -1 for a docno that the index does not have."""
        encoded = [docno.encode("utf-8", "surrogatepass") for docno in docnos]
        hashes = _hashes(encoded)
        firsts = np.searchsorted(self._hashes, hashes)
        found = np.full(len(encoded), -1, dtype=np.int64)
        hit = np.flatnonzero(firsts < len(self))
        hit = hit[self._hashes[firsts[hit]] == hashes[hit]]
        first_found = self._by_hash[firsts[hit]].astype(np.int64)
        right = self._have_names([encoded[place] for place in hit.tolist()], first_found)
        found[hit[right]] = first_found[right]
        # Different names may share a hash, and deleted documents keep theirs.
        for place in hit[~right].tolist():
            found[place] = self._find(encoded[place], hashes[place], int(firsts[place]))
        return found

    def known_docids(self, docnos: Sequence[str], owner: str) -> np.ndarray:
        """Returns the docids of docnos that the index must have: int64 ``(n,)``.

        Args:
            docnos: may repeat.
            owner: name of the index, for the message.

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

    def repeated(self) -> tuple[int, int] | None:
        """Returns two docids with the same docno, neither of them deleted; None if there are none."""
        for place in np.flatnonzero(self._hashes[1:] == self._hashes[:-1]).tolist():
            first = int(self._by_hash[place])
            for position in range(place + 1, len(self)):
                if self._hashes[position] != self._hashes[place]:
                    break
                other = int(self._by_hash[position])
                alike = self._encoded(first) == self._encoded(other)
                if alike and not self._are_deleted(np.array([first, other])).any():
                    return first, other
        return None

    def _have_names(self, encoded: Sequence[bytes], docids: np.ndarray) -> np.ndarray:
        """Returns which documents have these docnos and are not deleted: bool ``(n,)``."""
        firsts = self._starts[docids]
        lengths = self._starts[docids + 1] - firsts
        wanted = np.array([len(name) for name in encoded], dtype=np.int64)
        right: np.ndarray = (lengths == wanted) & ~self._are_deleted(docids)
        ends = np.cumsum(wanted[right])
        if len(ends):
            places = np.arange(ends[-1]) + np.repeat(firsts[right] - ends + wanted[right], wanted[right])
            joined = b"".join(name for name, kept in zip(encoded, right.tolist(), strict=True) if kept)
            differs = np.frombuffer(joined, dtype=np.uint8) != self._bytes[places]
            rows = np.repeat(np.flatnonzero(right), wanted[right])
            right[rows[differs]] = False
        return right

    def _are_deleted(self, docids: np.ndarray) -> np.ndarray:
        """Returns which documents are deleted: bool ``(n,)``, by binary search."""
        wanted = docids.astype(np.uint32)
        deleted: np.ndarray = np.searchsorted(self._deleted, wanted, "right") > np.searchsorted(self._deleted, wanted)
        return deleted

    def _find(self, name: bytes, hashed: np.uint64, first: int) -> int:
        for position in range(first, len(self)):
            if self._hashes[position] != hashed:
                break
            docid = int(self._by_hash[position])
            if self._encoded(docid) == name and not self._are_deleted(np.array([docid]))[0]:
                return docid
        return -1

    def _encoded(self, docid: int) -> bytes:
        name: np.ndarray = self._bytes[self._starts[docid] : self._starts[docid + 1]]
        return name.tobytes()


def _hashes(encoded: Sequence[bytes]) -> np.ndarray:
    digests = b"".join(hashlib.blake2b(name, digest_size=8).digest() for name in encoded)
    return np.frombuffer(digests, dtype="<u8").astype(np.uint64)
