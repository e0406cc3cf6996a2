"""The arrays of an index by name: data type, shape of a row, and number of rows. A new array takes one line here."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from pyterrier_jacolbert.index.limits import MAX_CENTROIDS
from pyterrier_jacolbert.index.storage.entries import ArrayEntry, Entries
from pyterrier_jacolbert.index.storage.fields import FieldError

#: Bits per dimension of a residual by compression.
BITS = {"4bit": 4, "2bit": 2, "1bit": 1}


@dataclass(frozen=True)
class Sizes:
    """The numbers on which the shapes of an index depend.

    Attributes:
        compression: one of :data:`~pyterrier_jacolbert.index.limits.COMPRESSIONS`.
        dim: dimensions of a vector.
        documents: number of documents.
        tokens: number of token vectors.
    """

    compression: str
    dim: int
    documents: int
    tokens: int

    @property
    def bits(self) -> int:
        """Bits per dimension of a residual; 0 if the compression has none."""
        return BITS.get(self.compression, 0)


#: Number of rows, or the smallest and the greatest allowed.
Rows = Callable[[Sizes], int | tuple[int, int]]


@dataclass(frozen=True)
class ArrayLayout:
    """The form of an array.

    Attributes:
        dtype: as numpy writes it.
        rows: number of rows.
        row_shape: shape of a row.
        grows: whether updates append to the file: it may then be longer than a manifest says.
    """

    dtype: str
    rows: Rows
    row_shape: Callable[[Sizes], tuple[int, ...]] = lambda _: ()
    grows: bool = False


def _documents(sizes: Sizes) -> int:
    return sizes.documents


def _ends(sizes: Sizes) -> int:
    return sizes.documents + 1


def token_rows(sizes: Sizes) -> int:
    """Returns the number of rows of an array with a row per token vector."""
    return sizes.tokens


def _any(_: Sizes) -> tuple[int, int]:
    return 0, 2**62


def _vector(sizes: Sizes) -> tuple[int, ...]:
    return (sizes.dim,)


#: Arrays that every index has.
DOCUMENT_ARRAYS = {
    "docno_bytes": ArrayLayout("|u1", _any, grows=True),
    "docno_starts": ArrayLayout("<i8", _ends, grows=True),
    "starts": ArrayLayout("<i8", _ends, grows=True),
}
#: Look-up tables, which every index has, and a sharded index has alone; see :mod:`.docnos`.
TABLES = {
    "docno_hashes": ArrayLayout("<u8", _documents),
    "docno_by_hash": ArrayLayout("<u4", _documents),
    "docno_ranks": ArrayLayout("<u4", _documents),
}
#: Arrays that an index may have.
OPTIONAL_ARRAYS = {
    "deleted": ArrayLayout("<u4", lambda sizes: (0, sizes.documents)),
    "text_bytes": ArrayLayout("|u1", _any, grows=True),
    "text_starts": ArrayLayout("<i8", _ends, grows=True),
    # 64-bit digest of the docno and content of each document, and vectors that are not compressed yet.
    "digests": ArrayLayout("<u8", _documents, grows=True),
    "raw": ArrayLayout("<f2", token_rows, _vector, grows=True),
}
_FLOAT16 = {"vectors": ArrayLayout("<f2", token_rows, _vector, grows=True)}
_INT8 = {
    "codes": ArrayLayout("|u1", token_rows, _vector, grows=True),
    "scales": ArrayLayout("<f2", token_rows, grows=True),
}
_CENTROID_IDS = {"centroid_ids": ArrayLayout("<u2", token_rows, grows=True)}
_RESIDUALS = {
    "residuals": ArrayLayout("|u1", token_rows, lambda sizes: (-(-sizes.dim * sizes.bits // 8),), grows=True),
    "gains": ArrayLayout("|u1", token_rows, lambda _: (2,), grows=True),
}
_CENTROIDS = {"centroids": ArrayLayout("<f2", lambda _: (1, MAX_CENTROIDS), _vector)}
_RESIDUAL_PARAMETERS = {
    "rotation": ArrayLayout("<f4", lambda sizes: sizes.dim, _vector),
    "spreads": ArrayLayout("<f4", lambda sizes: sizes.dim),
    "levels": ArrayLayout("<f4", lambda sizes: 2**sizes.bits),
    "gain_range": ArrayLayout("<f4", lambda _: 2, lambda _: (2,)),
}


def parameter_layouts(compression: str, *, with_centroids: bool) -> Mapping[str, ArrayLayout]:
    """Returns the parameters of a codec by name.

    Args:
        compression: of the codec.
        with_centroids: whether an int8 codec has centroids; residual codecs have them, and float16 has none.
    """
    if compression in BITS:
        return _CENTROIDS | _RESIDUAL_PARAMETERS
    return _CENTROIDS if compression == "int8" and with_centroids else {}


def column_layouts(compression: str, *, with_centroids: bool) -> Mapping[str, ArrayLayout]:
    """Returns the columns of a codec by name; see :func:`parameter_layouts`."""
    if compression in BITS:
        return _RESIDUALS | _CENTROID_IDS
    if compression == "int8":
        return _INT8 | (_CENTROID_IDS if with_centroids else {})
    return _FLOAT16


def check_single_layout(files: Entries, sizes: Sizes, parameters: Collection[str], *, store_text: bool) -> None:
    """Checks that the arrays of a single index are those of its codec, each with its type and shape.

    Args:
        files: entries of the arrays by name.
        sizes: of the index.
        parameters: names of the parameters of the codec.
        store_text: whether the index stores texts.

    Raises:
        FieldError: they are not.
    """
    with_centroids = "centroids" in files
    of_codec = parameter_layouts(sizes.compression, with_centroids=with_centroids)
    if set(parameters) != of_codec.keys():
        raise FieldError(f"parameters is not {sorted(of_codec)}")
    if {store_text} != {name in files for name in ("text_bytes", "text_starts")}:
        raise FieldError("files does not agree with settings.store_text")
    columns = column_layouts(sizes.compression, with_centroids=with_centroids)
    optional = {name: layout for name, layout in OPTIONAL_ARRAYS.items() if name in files}
    check_layouts(files, {**DOCUMENT_ARRAYS, **TABLES, **columns, **of_codec, **optional}, sizes)


def check_sharded_layout(files: Entries, sizes: Sizes) -> None:
    """Checks that a sharded index has its tables, each with its type and shape; see :func:`check_single_layout`."""
    deleted = {name: OPTIONAL_ARRAYS[name] for name in ("deleted",) if name in files}
    check_layouts(files, {**TABLES, **deleted}, sizes)


def check_bm25_layout(files: Entries, others: Collection[str], documents: int) -> None:
    """Checks that a BM25 index has the arrays of docnos and the given files of bytes; see :func:`check_single_layout`.

    Args:
        files: entries by name.
        others: names of the files that bm25s wrote.
        documents: number of documents.
    """
    docnos = {name: dataclasses.replace(layout, grows=False) for name, layout in DOCUMENT_ARRAYS.items()}
    del docnos["starts"]
    of_bytes = dict.fromkeys(others, ArrayLayout("|u1", _any))
    check_layouts(files, docnos | TABLES | of_bytes, Sizes("float16", 1, documents, 0))


def check_layouts(files: Entries, layouts: Mapping[str, ArrayLayout], sizes: Sizes) -> None:
    """Checks that there are the given arrays and no others, each with its type and shape.

    Args:
        files: entries of the arrays by name.
        layouts: of the arrays that there must be.
        sizes: of the index.

    Raises:
        FieldError: an array is missing, unknown, or has another type or shape.
    """
    if others := sorted(files.keys() - layouts.keys()):
        raise FieldError(f"it names an array {others[0][:60]!r}, which no such index has")
    for name, layout in layouts.items():
        if name not in files:
            raise FieldError(f"the array {name!r} is missing")
        if problem := _problem_of(files[name], layout, sizes):
            raise FieldError(f"the array {name!r} {problem}")


def all_layouts() -> dict[str, ArrayLayout]:
    """Returns the layouts of all arrays that any index or build may have, by name."""
    return (
        DOCUMENT_ARRAYS
        | TABLES
        | OPTIONAL_ARRAYS
        | _FLOAT16
        | _INT8
        | _CENTROID_IDS
        | _RESIDUALS
        | _CENTROIDS
        | _RESIDUAL_PARAMETERS
    )


def _problem_of(entry: ArrayEntry, layout: ArrayLayout, sizes: Sizes) -> str | None:
    """Returns what is wrong with the type or shape of an array, or None."""
    if entry.dtype != layout.dtype:
        return f"has values of type {entry.dtype}, not {layout.dtype}"
    if entry.shape[1:] != layout.row_shape(sizes):
        return f"has rows of shape {entry.shape[1:]}, not {layout.row_shape(sizes)}"
    rows = layout.rows(sizes)
    least, most = rows if isinstance(rows, tuple) else (rows, rows)
    if not least <= entry.shape[0] <= most:
        return f"has {entry.shape[0]} rows, not {least if least == most else f'{least} to {most}'}"
    return None
