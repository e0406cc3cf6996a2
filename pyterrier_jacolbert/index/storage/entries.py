"""The entries of a manifest, one per file: its name, type, shape and checksum."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from pyterrier_jacolbert.index.storage.fields import FieldError, Fields

#: Data types of the files of an index.
DTYPES = ("|u1", "<u2", "<u4", "<u8", "<i8", "<f2", "<f4")
#: Names of a folder of files, and of a file in it: no part of a name leads out of the index.
_FOLDER = re.compile(r"data-[1-9][0-9]{0,14}", re.ASCII)
_FILE = re.compile(r"(?!journal\.json|pt_meta\.json)[0-9A-Za-z][0-9A-Za-z._-]{0,99}(?<!\.sums)(?<!\.new)", re.ASCII)
_DIGEST = re.compile(r"(?:[0-9a-f]{16})?", re.ASCII)
#: Most rows of a file and most values of a row: products of them, in bytes, fit in 64 bits.
_MAX_ROWS, _MAX_ROW_VALUES = 2**44, 2**16


@dataclass(frozen=True)
class ArrayEntry:
    """An array in a file.

    Attributes:
        file: name of the file, relative to the index.
        dtype: as numpy writes it, little-endian.
        shape: of the rows that count; the file may be longer.
        rest: checksum, in hexadecimal, of what follows the last whole block; "" if nothing does.
    """

    file: str
    dtype: str
    shape: tuple[int, ...]
    rest: str

    @classmethod
    def from_json(cls, value: object, place: str = "the entry") -> Self:
        """Reads an entry.

        Raises:
            FieldError: a field has another type, or the file's name leads elsewhere.
        """
        fields = Fields.of(value, place, ("file", "dtype", "shape", "rest"))
        file, shape = fields.text("file"), fields.items("shape")
        folder, slash, name = file.rpartition("/")
        if not _FILE.fullmatch(name) or (slash and not _FOLDER.fullmatch(folder)):
            raise FieldError(f"{place}.file is {file[:60]!r}, not a name such as 'data-1/starts.i8'")
        limits = [_MAX_ROWS, *[_MAX_ROW_VALUES] * (len(shape) - 1)]
        numbers = Fields(dict(zip(map(str, range(3)), shape, strict=False)), f"{place}.shape")
        if not 1 <= len(shape) <= 2:
            raise FieldError(f"{place}.shape has {len(shape)} values, not one or two")
        rows = tuple(numbers.whole(str(axis), 0, limit) for axis, limit in enumerate(limits))
        rest = fields.text("rest")
        if not is_digest(rest):
            raise FieldError(f"{place}.rest is {rest[:60]!r}, not a checksum")
        return cls(file, fields.choice("dtype", DTYPES), rows, rest)

    def to_json(self) -> dict[str, Any]:
        """Returns the entry as JSON values."""
        return {"file": self.file, "dtype": self.dtype, "shape": list(self.shape), "rest": self.rest}

    @property
    def nbytes(self) -> int:
        """Bytes of the rows that count."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize


#: The files of an index by the name of their content.
Entries = Mapping[str, ArrayEntry]


def entries_from_json(value: object, place: str = "files") -> dict[str, ArrayEntry]:
    """Reads the entries of several arrays by name.

    Raises:
        FieldError: an entry is not one, or two name the same file.
    """
    content = Fields.of(value, place).content
    entries = {name: ArrayEntry.from_json(entry, f"{place}.{name}") for name, entry in content.items()}
    files = [entry.file for entry in entries.values()]
    if repeated := sorted({file for file in files if files.count(file) > 1}):
        raise FieldError(f"{place} names {repeated[0]!r} twice")
    return entries


def entries_to_json(entries: Entries) -> dict[str, Any]:
    """Returns the entries of several arrays as JSON values."""
    return {name: entry.to_json() for name, entry in entries.items()}


def is_digest(text: str) -> bool:
    """Returns whether a text is a checksum in hexadecimal, or empty."""
    return _DIGEST.fullmatch(text) is not None
