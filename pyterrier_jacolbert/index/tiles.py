"""Products of 8-bit vectors by the processor's matrix unit (AMX of newer servers): 16 tokens by 16 query tokens a time.

A tile is a register of 16 rows of 64 bytes. The tiles 0 to 3 hold products, 4 and 5 the query, 6 and 7 document tokens.
Tokens are read 16 at a time; where fewer are left, the ones before are read again, which moves no maximum, and where
there were none before, what stands there is read and not looked at. So there must be 16 rows in all.
"""

from __future__ import annotations

import ctypes
import platform
import sys
from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from pyterrier_jacolbert.index import llvm
from pyterrier_jacolbert.index.panels import TILE_ROWS, TILE_STEP, WIDTH

#: What becomes of the products of a document token, given its place and the first query token of the register.
Finish = Callable[[ir.Value, ir.Value, int], ir.Value]

#: Query tokens that a tile of products has side by side.
_LANES = 16
_FLOATS, _INTEGERS = ir.VectorType(llvm.F32, _LANES), ir.VectorType(llvm.I32, _LANES)
_BYTES = llvm.I8.as_pointer()
_TILE_BYTES = TILE_ROWS * TILE_STEP
_QUERY_BYTES = TILE_STEP * WIDTH  # of a step along the dimensions
_LINE = 64
#: Linux's arch_prctl, and what asks it to keep the tiles' data for this process.
_ARCH_PRCTL, _REQUEST_PERMISSION, _TILE_DATA = 158, 0x1023, 18
#: numba does not say its types.
_cgutils: Any = cgutils


def permitted() -> bool:
    """Whether the processor has tiles for bytes, and Linux lets this process use them; asks it to."""
    if not {"amx-int8", "amx-tile", "avx512f"} <= llvm.FEATURES:
        return False
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return False
    arguments = (_ARCH_PRCTL, _REQUEST_PERMISSION, _TILE_DATA)
    return bool(ctypes.CDLL(None).syscall(*map(ctypes.c_long, arguments)) == 0)


@llvm.intrinsic
def open_tiles(typing_context: Any, panel: Any) -> tuple[Any, Any]:  # noqa: ANN401
    """Shapes the tiles; nothing for a panel in another layout. Each thread does so, and :func:`close_tiles` after."""

    def generate(context: Any, builder: ir.IRBuilder, _: Any, __: Any) -> ir.Value:  # noqa: ANN401
        if takes(panel):
            shape = bytearray(64)
            shape[0] = 1  # the one palette there is
            for tile in range(8):
                shape[16 + 2 * tile] = TILE_STEP
                shape[48 + tile] = TILE_ROWS
            constant = ir.Constant(ir.ArrayType(llvm.I8, len(shape)), shape)
            _call(builder, "ldtilecfg", builder.bitcast(_cgutils.global_constant(builder, "tiles", constant), _BYTES))
        return context.get_dummy_value()

    return types.void(panel), generate


@llvm.intrinsic
def close_tiles(typing_context: Any, panel: Any) -> tuple[Any, Any]:  # noqa: ANN401
    """Empties the tiles, so that the system need not keep them when it gives the core to something else."""

    def generate(context: Any, builder: ir.IRBuilder, _: Any, __: Any) -> ir.Value:  # noqa: ANN401
        if takes(panel):
            _call(builder, "tilerelease")
        return context.get_dummy_value()

    return types.void(panel), generate


def takes(panel: types.Array) -> bool:
    """Whether a panel is laid out for tiles."""
    return bool(panel.ndim == 5)


def each_token(code: llvm.Code, finish: Finish, ahead: ir.Value | None = None) -> None:
    """Raises ``best`` to what ``finish`` makes of the products of each token, for as many columns as are needed.

    Args:
        code: arguments that begin as those of
            :func:`~pyterrier_jacolbert.index.dot_products.raise_to_products`.
        finish: makes floats of the products of a token.
        ahead: the first of the rows that will be wanted next; they are asked of the memory meanwhile.
    """
    builder = code.builder
    with builder.if_else(builder.icmp_signed("<=", code.values[8], llvm.int64(_LANES))) as (few, more):
        with few:
            _each_token_of(code, 1, finish, ahead)
        with more:
            _each_token_of(code, 2, finish, ahead)


def _each_token_of(code: llvm.Code, across: int, finish: Finish, ahead: ir.Value | None) -> None:
    """:func:`each_token` for so many times 16 columns: 32 tokens a time, and 16 where no more are left."""
    builder, count = code.builder, code.values[2]
    corrections = _cgutils.alloca_once(builder, ir.ArrayType(llvm.I32, WIDTH))
    row = builder.mul(code.values[5], llvm.int64(WIDTH))
    for side in range(across):
        negated = builder.neg(code.vector(6, row, side * _LANES, _INTEGERS))
        place = builder.gep(builder.bitcast(corrections, _BYTES), [llvm.int64(side * 4 * _LANES)])
        builder.store(negated, builder.bitcast(place, _INTEGERS.as_pointer()), align=4)
    best = [[_cgutils.alloca_once(builder, _FLOATS) for _ in range(across)] for _ in range(2)]
    for side in range(across):
        for variables in best:
            builder.store(code.vector(7, llvm.int64(0), side * _LANES, _FLOATS), variables[side])
    pairs = builder.sub(count, llvm.int64(TILE_ROWS))
    done = _cgutils.alloca_once(builder, llvm.I64)
    builder.store(llvm.int64(0), done)
    step = llvm.int64(2 * TILE_ROWS)
    with _cgutils.for_range_slice(builder, llvm.int64(0), pairs, step) as (token, _):
        _raise(code, token, best, corrections, finish, ahead)
        builder.store(builder.add(token, step), done)
    token = builder.load(done)
    with builder.if_then(builder.icmp_signed("<", token, count)):
        _raise(code, token, best[:1], corrections, finish, None)
    for side in range(across):
        first, second = (builder.load(variables[side]) for variables in best)
        pointer = builder.gep(code.data(7), [llvm.int64(side * _LANES)])
        builder.store(_greater(builder, first, second), builder.bitcast(pointer, _FLOATS.as_pointer()), align=4)


def _raise(
    code: llvm.Code,
    token: ir.Value,
    best: Sequence[Sequence[ir.Value]],
    corrections: ir.Value,
    finish: Finish,
    ahead: ir.Value | None,
) -> None:
    """Raises the variables ``best``, of each 16 tokens from ``token`` on, to what becomes of their products."""
    builder, (first, count, block) = code.builder, (code.values[1], code.values[2], code.values[5])
    dim, across = code.shape(0, 1), len(best[0])
    tiles = [(down, side) for down in range(len(best)) for side in range(across)]
    last = builder.sub(builder.add(first, count), llvm.int64(TILE_ROWS))
    starts = []
    for down in range(len(best)):
        start = builder.add(builder.add(first, token), llvm.int64(down * TILE_ROWS))
        start = builder.select(builder.icmp_signed("<", start, last), start, last)
        starts.append(builder.select(builder.icmp_signed("<", start, llvm.int64(0)), llvm.int64(0), start))
    for down, side in tiles:
        place = builder.gep(builder.bitcast(corrections, _BYTES), [llvm.int64(side * 4 * _LANES)])
        _call(builder, "tileloadd64", _tile(down * across + side), place, llvm.int64(0))  # one row, 16 times

    steps = builder.udiv(dim, llvm.int64(TILE_STEP))
    query = builder.bitcast(code.data(4), _BYTES)
    query = builder.gep(query, [builder.mul(builder.mul(block, steps), llvm.int64(_QUERY_BYTES))])
    with _cgutils.for_range(builder, steps) as loop:
        here = builder.gep(query, [builder.mul(loop.index, llvm.int64(_QUERY_BYTES))])
        for side in range(across):
            place = builder.gep(here, [llvm.int64(side * TILE_STEP)])
            _call(builder, "tileloadd64", _tile(4 + side), place, llvm.int64(4 * WIDTH))
        for down, start in enumerate(starts):
            offset = builder.add(builder.mul(start, dim), builder.mul(loop.index, llvm.int64(TILE_STEP)))
            _call(builder, "tileloadd64", _tile(6 + down), builder.gep(code.data(0), [offset]), dim)
        for down, side in tiles:
            _call(builder, "tdpbusd", _tile(down * across + side), _tile(6 + down), _tile(4 + side))

    products = _cgutils.alloca_once(builder, ir.ArrayType(llvm.I8, _TILE_BYTES * len(tiles)))
    products.align = _LINE
    for number in range(len(tiles)):
        place = builder.gep(builder.bitcast(products, _BYTES), [llvm.int64(number * _TILE_BYTES)])
        _call(builder, "tilestored64", _tile(number), place, llvm.int64(TILE_STEP))
    # Where there are fewer than 16 tokens, those before the first and behind the last are not theirs.
    before, end = builder.sub(first, starts[0]), builder.sub(builder.add(first, count), starts[0])
    before = builder.select(builder.icmp_signed(">", before, llvm.int64(0)), before, llvm.int64(0))
    end = builder.select(builder.icmp_signed("<", end, llvm.int64(TILE_ROWS)), end, llvm.int64(TILE_ROWS))
    with _cgutils.for_range_slice(builder, before, end, llvm.int64(1)) as (row, _):
        if ahead is not None:
            following = builder.add(builder.add(ahead, token), builder.mul(row, llvm.int64(2)))
            for further in range(2):
                code.ask_for_row(0, builder.add(following, llvm.int64(further)))
        for down, side in tiles:
            offset = builder.add(
                llvm.int64((down * across + side) * _TILE_BYTES), builder.mul(row, llvm.int64(TILE_STEP))
            )
            place = builder.gep(builder.bitcast(products, _BYTES), [offset])
            total = builder.load(builder.bitcast(place, _INTEGERS.as_pointer()), align=_LINE)
            value = finish(total, builder.sub(builder.add(starts[down], row), first), side * _LANES)
            variable = best[down][side]
            builder.store(_greater(builder, value, builder.load(variable)), variable)


def _greater(builder: ir.IRBuilder, value: ir.Value, other: ir.Value) -> ir.Value:
    return builder.select(builder.fcmp_ordered(">", value, other), value, other)


def _tile(number: int) -> ir.Constant:
    return ir.Constant(llvm.I8, number)


def _call(builder: ir.IRBuilder, name: str, *arguments: ir.Value) -> None:
    llvm.call(builder, f"llvm.x86.{name}", ir.VoidType(), arguments)
