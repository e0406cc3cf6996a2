"""Dot products of 8-bit vectors by the matrix unit AMX: 16 document tokens by 16 query tokens per instruction.

A tile is a register of 16 rows of 64 bytes. Tile allocation:

=======  ==========================================================================================================
tile     contents
=======  ==========================================================================================================
0, 1     sums of document tokens 0 to 15 with query tokens 0 to 15 and 16 to 31: int32, 16 rows of 16
2, 3     sums of document tokens 16 to 31 with query tokens 0 to 15 and 16 to 31
4, 5     64 dimensions of query tokens 0 to 15 and 16 to 31, layout "amx"
6, 7     64 dimensions of document tokens 0 to 15 and 16 to 31, a row per token
=======  ==========================================================================================================

For a block of at most 16 query tokens, tile 0 holds the sums of document tokens 0 to 15, tile 1 those of document
tokens 16 to 31, and tiles 2, 3 and 5 are unused. Instructions: ``tileloadd`` (memory to tile, with a
stride between rows), ``tdpbusd`` (multiplies unsigned and signed bytes in groups of four and adds to 32-bit sums), and
``tilestored`` (tile to memory).

Document tokens are read 16 at a time. If fewer are left, the preceding tokens are read again, which changes no maximum.
If the array has no preceding tokens, the following rows are read, and their sums are ignored. The array must therefore
have at least 16 rows.
"""

from __future__ import annotations

import ctypes
import platform
import sys
from collections.abc import Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from pyterrier_jacolbert.index.kernels import llvm
from pyterrier_jacolbert.index.kernels.query_layout import TILE_ROWS, TILE_STEP, WIDTH

#: Query tokens per tile of sums.
_LANES = 16
_FLOATS, _INTEGERS = ir.VectorType(llvm.F32, _LANES), ir.VectorType(llvm.I32, _LANES)
_BYTES = llvm.I8.as_pointer()
_TILE_BYTES = TILE_ROWS * TILE_STEP
_QUERY_BYTES = TILE_STEP * WIDTH  # per step of 64 dimensions
_CACHE_LINE = 64
#: Linux's arch_prctl, and its arguments that request permission to use the tiles.
_ARCH_PRCTL, _REQUEST_PERMISSION, _TILE_DATA = 158, 0x1023, 18
#: numba's helpers have no type annotations.
_cgutils: Any = cgutils


def permitted() -> bool:
    """Requests permission to use AMX, and returns whether the processor has it for bytes and Linux grants it."""
    if not {"amx-int8", "amx-tile", "avx512f"} <= llvm.FEATURES:
        return False
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return False
    arguments = (_ARCH_PRCTL, _REQUEST_PERMISSION, _TILE_DATA)
    return bool(ctypes.CDLL(None).syscall(*map(ctypes.c_long, arguments)) == 0)


# The operand of ldtilecfg, 64 bytes:
#
#   byte   0         1 .. 15    16 .. 31                    32 .. 47    48 .. 55           56 .. 63
#          palette   reserved   bytes per row, tiles 0-7    reserved    rows, tiles 0-7    reserved
#          1         0          64, uint16 each             0           16, uint8 each     0
@llvm.intrinsic
def configure_tiles(typing_context: Any, packed: Any) -> tuple[Any, Any]:
    """Configures the tiles of the calling thread; does nothing unless the layout of the packed query is "amx".

    Each kernel calls it before it multiplies, and :func:`release_tiles` after.
    """

    def generate(context: Any, builder: ir.IRBuilder, _: Any, __: Any) -> ir.Value:
        if is_tiled(packed):
            shape = bytearray(64)
            shape[0] = 1  # the only palette that exists
            for tile in range(8):
                shape[16 + 2 * tile] = TILE_STEP
                shape[48 + tile] = TILE_ROWS
            constant = ir.Constant(ir.ArrayType(llvm.I8, len(shape)), shape)
            _call(builder, "ldtilecfg", builder.bitcast(_cgutils.global_constant(builder, "tiles", constant), _BYTES))
        return context.get_dummy_value()

    return types.void(packed), generate


@llvm.intrinsic
def release_tiles(typing_context: Any, packed: Any) -> tuple[Any, Any]:
    """Releases the tiles, so that the system need not save them when it switches to another thread."""

    def generate(context: Any, builder: ir.IRBuilder, _: Any, __: Any) -> ir.Value:
        if is_tiled(packed):
            _call(builder, "tilerelease")
        return context.get_dummy_value()

    return types.void(packed), generate


def is_tiled(packed: types.Array) -> bool:
    """Returns whether the array type of a packed query is that of the layout "amx"."""
    return bool(packed.ndim == 5)


def each_token(code: llvm.Code, columns: ir.Value, epilogue: llvm.Epilogue, next_row: ir.Value | None = None) -> None:
    """Generates the loop over the document tokens, for blocks of up to 16 and up to 32 query tokens.

    Args:
        code: arguments named as those of :func:`~pyterrier_jacolbert.index.kernels.dot_products.update_max_dot`.
        columns: number of query tokens in the block and beyond it; more than 32 count as 32.
        epilogue: turns sums into floats, to whose maximum ``best`` is updated.
        next_row: first of the rows to prefetch during the loop, if any.
    """
    builder = code.builder
    with builder.if_else(builder.icmp_signed("<=", columns, llvm.int64(_LANES))) as (up_to_16, above_16):
        with up_to_16:
            _each_token_of(code, 1, epilogue, next_row)
        with above_16:
            _each_token_of(code, 2, epilogue, next_row)


# for (t = 0; t + 16 < length; t += 32)              // pairs of tiles, one for each 16 tokens
#     update(t, two tiles, prefetch from next_row + t on);
# if (t < length)
#     update(t, one tile);
# best = max(best of the first tiles, best of the second tiles);
def _each_token_of(code: llvm.Code, across: int, epilogue: llvm.Epilogue, next_row: ir.Value | None) -> None:
    """Generates the loop for ``across`` times 16 query tokens: 32 document tokens at a time, then up to 16."""
    builder, length = code.builder, code["tokens.length"]
    negated_bias = _cgutils.alloca_once(builder, ir.ArrayType(llvm.I32, WIDTH))
    row = builder.mul(code["block"], llvm.int64(WIDTH))
    for side in range(across):
        negated = builder.neg(code.vector("query.zero_point_bias", row, side * _LANES, _INTEGERS))
        place = builder.gep(builder.bitcast(negated_bias, _BYTES), [llvm.int64(side * 4 * _LANES)])
        builder.store(negated, builder.bitcast(place, _INTEGERS.as_pointer()), align=4)
    best = [[_cgutils.alloca_once(builder, _FLOATS) for _ in range(across)] for _ in range(2)]
    for side in range(across):
        for variables in best:
            builder.store(code.vector("best", llvm.int64(0), side * _LANES, _FLOATS), variables[side])
    pairs = builder.sub(length, llvm.int64(TILE_ROWS))
    done = _cgutils.alloca_once(builder, llvm.I64)
    builder.store(llvm.int64(0), done)
    step = llvm.int64(2 * TILE_ROWS)
    with _cgutils.for_range_slice(builder, llvm.int64(0), pairs, step) as (token, _):
        _update(code, token, best, negated_bias, epilogue, next_row)
        builder.store(builder.add(token, step), done)
    token = builder.load(done)
    with builder.if_then(builder.icmp_signed("<", token, length)):
        _update(code, token, best[:1], negated_bias, epilogue, None)
    for side in range(across):
        first, second = (builder.load(variables[side]) for variables in best)
        code.store(llvm.greater(builder, first, second), "best", llvm.int64(side * _LANES))


# With down = 1 or 2 tiles of document tokens and across = 1 or 2 tiles of query tokens:
#
#   for (d = 0; d < down; d++) {
#       start[d] = max(0, min(first + t + 16 * d, first + length - 16));
#       for (a = 0; a < across; a++) tile[d * across + a] = 16 rows of -zero_point_bias[block][16 * a ..];  // stride 0
#   }
#   for (s = 0; s < dim / 64; s++) {
#       for each a: tile[4 + a] = query[block][s] from byte 64 * a on;                                     // stride 128
#       for each d: tile[6 + d] = rows[start[d]] from byte 64 * s on;                                      // stride dim
#       for each d, a: tile[d * across + a] += tdpbusd(tile[6 + d], tile[4 + a]);
#   }
#   for each d, a: tilestored(sums[d][a], tile[d * across + a]);
#   for (i = max(0, first - start[0]); i < min(16, first + length - start[0]); i++) {  // rows of the block alone
#       prefetch(rows[next_row + t + 2 * i]); prefetch(rows[next_row + t + 2 * i + 1]);
#       for each d, a: best[d][a] = max(best[d][a], epilogue(sums[d][a][i], start[d] + i - first, 16 * a));
#   }
def _update(
    code: llvm.Code,
    token: ir.Value,
    best: Sequence[Sequence[ir.Value]],
    negated_bias: ir.Value,
    epilogue: llvm.Epilogue,
    next_row: ir.Value | None,
) -> None:
    """Generates the update of the variables ``best``, one list per tile of document tokens, from ``token`` on."""
    builder = code.builder
    first, length, block = code["tokens.first"], code["tokens.length"], code["block"]
    dim, across = code.shape("tokens.rows", 1), len(best[0])
    tiles = [(down, side) for down in range(len(best)) for side in range(across)]
    end_of_block = builder.add(first, length)
    last = builder.sub(end_of_block, llvm.int64(TILE_ROWS))
    starts = []
    for down in range(len(best)):
        start = builder.add(builder.add(first, token), llvm.int64(down * TILE_ROWS))
        start = llvm.smaller(builder, start, last)
        starts.append(builder.select(builder.icmp_signed("<", start, llvm.int64(0)), llvm.int64(0), start))
    for down, side in tiles:
        place = builder.gep(builder.bitcast(negated_bias, _BYTES), [llvm.int64(side * 4 * _LANES)])
        _call(builder, "tileloadd64", _tile(down * across + side), place, llvm.int64(0))

    steps = builder.udiv(dim, llvm.int64(TILE_STEP))
    query = builder.bitcast(code.data("query.rows"), _BYTES)
    query = builder.gep(query, [builder.mul(builder.mul(block, steps), llvm.int64(_QUERY_BYTES))])
    with _cgutils.for_range(builder, steps) as loop:
        query_step = builder.gep(query, [builder.mul(loop.index, llvm.int64(_QUERY_BYTES))])
        for side in range(across):
            place = builder.gep(query_step, [llvm.int64(side * TILE_STEP)])
            _call(builder, "tileloadd64", _tile(4 + side), place, llvm.int64(4 * WIDTH))
        for down, start in enumerate(starts):
            offset = builder.add(builder.mul(start, dim), builder.mul(loop.index, llvm.int64(TILE_STEP)))
            _call(builder, "tileloadd64", _tile(6 + down), builder.gep(code.data("tokens.rows"), [offset]), dim)
        for down, side in tiles:
            _call(builder, "tdpbusd", _tile(down * across + side), _tile(6 + down), _tile(4 + side))

    sums = _cgutils.alloca_once(builder, ir.ArrayType(llvm.I8, _TILE_BYTES * len(tiles)))
    sums.align = _CACHE_LINE
    for number in range(len(tiles)):
        place = builder.gep(builder.bitcast(sums, _BYTES), [llvm.int64(number * _TILE_BYTES)])
        _call(builder, "tilestored64", _tile(number), place, llvm.int64(TILE_STEP))
    # A block of fewer than 16 tokens does not own the rows before its first and behind its last token.
    before, end = builder.sub(first, starts[0]), builder.sub(end_of_block, starts[0])
    before = builder.select(builder.icmp_signed(">", before, llvm.int64(0)), before, llvm.int64(0))
    end = llvm.smaller(builder, end, llvm.int64(TILE_ROWS))
    with _cgutils.for_range_slice(builder, before, end, llvm.int64(1)) as (row, _):
        if next_row is not None:
            following = builder.add(builder.add(next_row, token), builder.mul(row, llvm.int64(2)))
            for further in range(2):
                code.prefetch_row("tokens.rows", builder.add(following, llvm.int64(further)))
        for down, side in tiles:
            offset = builder.add(
                llvm.int64((down * across + side) * _TILE_BYTES), builder.mul(row, llvm.int64(TILE_STEP))
            )
            place = builder.gep(builder.bitcast(sums, _BYTES), [offset])
            total = builder.load(builder.bitcast(place, _INTEGERS.as_pointer()), align=_CACHE_LINE)
            value = epilogue(total, builder.sub(builder.add(starts[down], row), first), side * _LANES)
            variable = best[down][side]
            builder.store(llvm.greater(builder, value, builder.load(variable)), variable)


def _tile(number: int) -> ir.Constant:
    return ir.Constant(llvm.I8, number)


def _call(builder: ir.IRBuilder, name: str, *arguments: ir.Value) -> None:
    llvm.call(builder, f"llvm.x86.{name}", ir.VoidType(), arguments)
