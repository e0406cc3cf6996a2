"""The greatest products of 8-bit vectors with 32 query tokens, in vector instructions that numba alone does not find.

How the query is laid out decides which instruction multiplies; all of them compute the same integers:

=========  ======================  ==========================================================================
layout     panel                   instruction
=========  ======================  ==========================================================================
"tiles"    int8                    tdpbusd of AMX (:mod:`~pyterrier_jacolbert.index.tiles`): 64 bytes of 16 tokens
           (b, d/64, 16, 32, 4)    at once
"bytes"    int8 (b, d/4, 32, 4)    vpdpbusd of AVX-512 VNNI or AVX-VNNI: 4 bytes of a token at once
"pairs"    int16 (b, d/2, 32, 2)   vpmaddwd of AVX2: 2
"singles"  int16 (b, d, 32)        plain multiplication and addition, of which LLVM makes what there is (NEON)
=========  ======================  ==========================================================================

with b blocks of 32 query tokens, and d dimensions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from llvmlite import ir
from numba import types

from pyterrier_jacolbert.index import llvm, tiles
from pyterrier_jacolbert.index.panels import WIDTH

#: Steps along the dimensions that are written out; each layout's number of steps is a multiple of it.
_UNROLLED = 4
#: The layouts that this processor has instructions for, fastest first.
LAYOUTS = tuple(
    name
    for name, there in (
        ("tiles", tiles.permitted()),
        ("bytes", "avx512vnni" in llvm.FEATURES or "avxvnni" in llvm.FEATURES),
        ("pairs", "avx2" in llvm.FEATURES),
        ("singles", True),
    )
    if there
)


@dataclass(frozen=True)
class _Products:
    """How a layout multiplies.

    Attributes:
        lanes: query tokens a register, at most.
        group: dimensions a step.
        load: loads a step's dimensions of a document token.
        add: adds their products with a step of the query to an accumulator, of as many lanes as that has.
    """

    lanes: int
    group: int
    load: Callable[[ir.IRBuilder, ir.Value], ir.Value]
    add: Callable[[ir.IRBuilder, ir.Value, ir.Value, ir.Value], ir.Value]

    def registers(self, columns: int) -> list[range]:
        """The query tokens of each register, for the first 16, 24 or 32 of a block."""
        firsts = range(0, columns, self.lanes)
        return [range(first, min(first + self.lanes, columns)) for first in firsts]

    def abreast(self, columns: int) -> int:
        """Document tokens whose products are under way at a time, as many as the registers take."""
        return 2 if self.lanes < 16 else 8 if columns == 16 else 4


def _products_of(panel: types.Array) -> _Products:
    if panel.dtype == types.int8:
        return _bytes(16 if "avx512vnni" in llvm.FEATURES else 8)
    return _pairs() if panel.ndim == 4 else _singles()


def _bytes(lanes: int) -> _Products:
    def load(builder: ir.IRBuilder, place: ir.Value) -> ir.Value:
        return builder.load(builder.bitcast(place, llvm.I32.as_pointer()), align=1)

    def add(builder: ir.IRBuilder, total: ir.Value, token: ir.Value, query: ir.Value) -> ir.Value:
        query = builder.load(builder.bitcast(query, total.type.as_pointer()), align=1)
        name = f"llvm.x86.avx512.vpdpbusd.{total.type.count * 32}"
        return llvm.call(builder, name, total.type, [total, llvm.splat(builder, token, total.type.count), query])

    return _Products(lanes, 4, load, add)


def _pairs() -> _Products:
    words = ir.VectorType(llvm.I16, 16)

    def load(builder: ir.IRBuilder, place: ir.Value) -> ir.Value:
        pair = builder.load(builder.bitcast(place, ir.VectorType(llvm.I8, 2).as_pointer()), align=1)
        return builder.bitcast(builder.zext(pair, ir.VectorType(llvm.I16, 2)), llvm.I32)

    def add(builder: ir.IRBuilder, total: ir.Value, token: ir.Value, query: ir.Value) -> ir.Value:
        query = builder.load(builder.bitcast(query, words.as_pointer()), align=1)
        token = builder.bitcast(llvm.splat(builder, token, 8), words)
        return builder.add(total, llvm.call(builder, "llvm.x86.avx2.pmadd.wd", total.type, [token, query]))

    return _Products(8, 2, load, add)


def _singles() -> _Products:
    words = ir.VectorType(llvm.I16, 4)

    def load(builder: ir.IRBuilder, place: ir.Value) -> ir.Value:
        return builder.zext(builder.load(place), llvm.I32)

    def add(builder: ir.IRBuilder, total: ir.Value, token: ir.Value, query: ir.Value) -> ir.Value:
        query = builder.load(builder.bitcast(query, words.as_pointer()), align=1)
        return builder.add(total, builder.mul(llvm.splat(builder, token, 4), builder.sext(query, total.type)))

    return _Products(4, 1, load, add)


@llvm.intrinsic
def raise_to_products(
    typing_context: Any,  # noqa: ANN401
    rows: Any,  # noqa: ANN401
    first: Any,  # noqa: ANN401
    count: Any,  # noqa: ANN401
    factors: Any,  # noqa: ANN401
    panel: Any,  # noqa: ANN401
    block: Any,  # noqa: ANN401
    corrections: Any,  # noqa: ANN401
    best: Any,  # noqa: ANN401
    columns: Any,  # noqa: ANN401
    ahead: Any,  # noqa: ANN401
) -> tuple[Any, Any]:
    """Raises ``best`` to the greatest product of a token with each query token.

    ``best[q] = max(best[q], factors[t] * (rows[first + t] . query[q] - corrections[block, q]))`` for ``t < count``.

    Arguments as the kernel sees them:
        rows: uint8 ``(n, dim)``.
        first, count: the tokens; at least one.
        factors: float32 ``(count,)``.
        panel: the query (:func:`~pyterrier_jacolbert.index.panels.panels`).
        block: of the panel.
        corrections: int32 ``(b, 32)``.
        best: float32 ``(32,)``.
        columns: query tokens of the block that are looked at, and some beyond; more than 32 count as 32.
        ahead: the first of the rows that will be wanted next.
    """
    given = (rows, first, count, factors, panel, block, corrections, best, columns, ahead)
    signature = types.void(*given)

    def generate(context: Any, builder: ir.IRBuilder, _: Any, values: Sequence[ir.Value]) -> ir.Value:  # noqa: ANN401
        code = llvm.Code(context, builder, given, values)

        def finish(total: ir.Value, token: ir.Value, _: int) -> ir.Value:
            return _scaled(code, total, token)

        _each_token(code, panel, finish, values[9])
        return context.get_dummy_value()

    return signature, generate


@llvm.intrinsic
def write_products(
    typing_context: Any,  # noqa: ANN401
    rows: Any,  # noqa: ANN401
    first: Any,  # noqa: ANN401
    count: Any,  # noqa: ANN401
    factors: Any,  # noqa: ANN401
    panel: Any,  # noqa: ANN401
    block: Any,  # noqa: ANN401
    corrections: Any,  # noqa: ANN401
    best: Any,  # noqa: ANN401
    columns: Any,  # noqa: ANN401
    steps: Any,  # noqa: ANN401
    out: Any,  # noqa: ANN401
) -> tuple[Any, Any]:
    """Writes the product of each token with each query token, and raises ``best`` to the greatest of them.

    ``out[first + t, block, q] = steps[block, q] * p`` for ``t < count``, where ``p`` is what
    :func:`raise_to_products` has.

    Arguments beyond those of :func:`raise_to_products`, as the kernel sees them:
        steps: float32 ``(b, 32)``.
        out: float32 ``(n, b, 32)``.
    """
    given = (rows, first, count, factors, panel, block, corrections, best, columns, steps, out)
    signature = types.void(*given)

    def generate(context: Any, builder: ir.IRBuilder, _: Any, values: Sequence[ir.Value]) -> ir.Value:  # noqa: ANN401
        code = llvm.Code(context, builder, given, values)
        blocks = code.shape(10, 1)

        def finish(total: ir.Value, token: ir.Value, column: int) -> ir.Value:
            value = _stepped(code, total, token, column)
            row = builder.add(builder.mul(builder.add(values[1], token), blocks), values[5])
            place = builder.add(builder.mul(row, llvm.int64(WIDTH)), llvm.int64(column))
            pointer = builder.gep(code.data(10), [place])
            builder.store(value, builder.bitcast(pointer, value.type.as_pointer()), align=4)
            return value

        _each_token(code, panel, finish)
        return context.get_dummy_value()

    return signature, generate


@llvm.intrinsic
def raise_to_sums(
    typing_context: Any,  # noqa: ANN401
    rows: Any,  # noqa: ANN401
    first: Any,  # noqa: ANN401
    count: Any,  # noqa: ANN401
    factors: Any,  # noqa: ANN401
    panel: Any,  # noqa: ANN401
    block: Any,  # noqa: ANN401
    corrections: Any,  # noqa: ANN401
    best: Any,  # noqa: ANN401
    columns: Any,  # noqa: ANN401
    steps: Any,  # noqa: ANN401
    table: Any,  # noqa: ANN401
    ids: Any,  # noqa: ANN401
    norms: Any,  # noqa: ANN401
) -> tuple[Any, Any]:
    """Raises ``best`` to the greatest sum of a token's centroid and residual with each query token.

    ``best[q] = max(best[q], norms[t] * (table[ids[t], block, q] + steps[block, q] * p))`` for ``t < count``, where
    ``p`` is what :func:`raise_to_products` has.

    Arguments beyond those of :func:`raise_to_products`, as the kernel sees them:
        steps: float32 ``(b, 32)``.
        table: float32 ``(n_centroids, b, 32)``.
        ids: uint16 ``(count,)``.
        norms: float32 ``(count,)``.
    """
    given = (rows, first, count, factors, panel, block, corrections, best, columns, steps, table, ids, norms)
    signature = types.void(*given)

    def generate(context: Any, builder: ir.IRBuilder, _: Any, values: Sequence[ir.Value]) -> ir.Value:  # noqa: ANN401
        code = llvm.Code(context, builder, given, values)
        blocks = code.shape(10, 1)

        def finish(total: ir.Value, token: ir.Value, column: int) -> ir.Value:
            part = _stepped(code, total, token, column)
            norm = llvm.splat(builder, builder.load(builder.gep(code.data(12), [token])), total.type.count)
            centroid = builder.zext(builder.load(builder.gep(code.data(11), [token])), llvm.I64)
            row = builder.mul(builder.add(builder.mul(centroid, blocks), values[5]), llvm.int64(WIDTH))
            return builder.fmul(norm, builder.fadd(code.vector(10, row, column, part.type), part))

        _each_token(code, panel, finish)
        return context.get_dummy_value()

    return signature, generate


def _scaled(code: llvm.Code, total: ir.Value, token: ir.Value) -> ir.Value:
    """A token's products, as floats, times its factor; arguments that begin as those of :func:`raise_to_products`."""
    builder = code.builder
    factor = llvm.splat(builder, builder.load(builder.gep(code.data(3), [token])), total.type.count)
    return builder.fmul(builder.sitofp(total, factor.type), factor)


def _stepped(code: llvm.Code, total: ir.Value, token: ir.Value, column: int) -> ir.Value:
    """The same, times the steps of the query, which are the tenth argument."""
    value = _scaled(code, total, token)
    steps = code.vector(9, code.builder.mul(code.values[5], llvm.int64(WIDTH)), column, value.type)
    return code.builder.fmul(value, steps)


def _each_token(code: llvm.Code, panel: types.Array, finish: tiles.Finish, ahead: ir.Value | None = None) -> None:
    """Raises ``best`` to what ``finish`` makes of the products of each token, for as many columns as are needed.

    The arguments are those of :func:`raise_to_products`.
    """
    if tiles.takes(panel):
        tiles.each_token(code, finish, ahead)
        return
    builder, columns, products = code.builder, code.values[8], _products_of(panel)
    with builder.if_else(builder.icmp_signed("<=", columns, llvm.int64(16))) as (few, more):
        with few:
            _each_token_of(code, products, 16, finish)
        with more, builder.if_else(builder.icmp_signed("<=", columns, llvm.int64(24))) as (some, all_of_them):
            with some:
                _each_token_of(code, products, 24, finish)
            with all_of_them:
                _each_token_of(code, products, WIDTH, finish)


def _each_token_of(code: llvm.Code, products: _Products, columns: int, finish: tiles.Finish) -> None:
    """:func:`_each_token` for so many columns.

    Tokens go some abreast; past the last one it is repeated, which moves no maximum.
    """
    builder, values = code.builder, code.values
    first, count, block = values[1], values[2], values[5]
    registers, abreast = products.registers(columns), products.abreast(columns)
    floats = [ir.VectorType(llvm.F32, len(register)) for register in registers]
    dim = code.shape(0, 1)
    steps = builder.udiv(dim, llvm.int64(products.group))
    token_bytes = products.group * (1 if products.group == 4 else 2)  # of a query token, a step
    panel_bytes = WIDTH * token_bytes
    panel = builder.bitcast(code.data(4), llvm.I8.as_pointer())
    panel = builder.gep(panel, [builder.mul(builder.mul(block, steps), llvm.int64(panel_bytes))])
    row = builder.mul(block, llvm.int64(WIDTH))
    negated = [
        builder.neg(code.vector(6, row, register.start, ir.VectorType(llvm.I32, len(register))))
        for register in registers
    ]
    before = [
        code.vector(7, llvm.int64(0), register.start, kind) for register, kind in zip(registers, floats, strict=True)
    ]
    last = builder.sub(count, llvm.int64(1))

    start = builder.block
    tokens, along, end = (builder.append_basic_block(name) for name in ("tokens", "along", "end"))
    done = builder.append_basic_block("done")
    builder.branch(tokens)

    builder.position_at_end(tokens)
    token = builder.phi(llvm.I64)
    best = [builder.phi(kind) for kind in floats]
    token.add_incoming(llvm.int64(0), start)
    for phi, value in zip(best, before, strict=True):
        phi.add_incoming(value, start)
    places, rows = [], []
    for ahead in range(abreast):
        place = builder.add(token, llvm.int64(ahead))
        place = builder.select(builder.icmp_signed("<", place, last), place, last)
        places.append(place)
        rows.append(builder.gep(code.data(0), [builder.mul(builder.add(first, place), dim)]))
    builder.branch(along)

    builder.position_at_end(along)
    step = builder.phi(llvm.I64)
    step.add_incoming(llvm.int64(0), tokens)
    totals = [[builder.phi(value.type) for value in negated] for _ in range(abreast)]
    for of_token in totals:
        for phi, value in zip(of_token, negated, strict=True):
            phi.add_incoming(value, tokens)
    sums: list[list[ir.Value]] = [list(of_token) for of_token in totals]
    for ahead in range(_UNROLLED):
        now = builder.add(step, llvm.int64(ahead))
        query = builder.gep(panel, [builder.mul(now, llvm.int64(panel_bytes))])
        loaded = [
            products.load(builder, builder.gep(row, [builder.mul(now, llvm.int64(products.group))])) for row in rows
        ]
        for number, register in enumerate(registers):
            place = builder.gep(query, [llvm.int64(register.start * token_bytes)])
            for of_token, value in zip(sums, loaded, strict=True):
                of_token[number] = products.add(builder, of_token[number], value, place)
    following = builder.add(step, llvm.int64(_UNROLLED))
    step.add_incoming(following, along)
    for phis, of_token in zip(totals, sums, strict=True):
        for phi, value in zip(phis, of_token, strict=True):
            phi.add_incoming(value, along)
    builder.cbranch(builder.icmp_signed("<", following, steps), along, end)

    builder.position_at_end(end)
    raised: list[ir.Value] = list(best)
    for place, of_token in zip(places, sums, strict=True):
        for number, register in enumerate(registers):
            value = finish(of_token[number], place, register.start)
            greater = builder.fcmp_ordered(">", value, raised[number])
            raised[number] = builder.select(greater, value, raised[number])
    after = builder.add(token, llvm.int64(abreast))
    token.add_incoming(after, end)
    for phi, value in zip(best, raised, strict=True):
        phi.add_incoming(value, end)
    builder.cbranch(builder.icmp_signed("<", after, count), tokens, done)

    builder.position_at_end(done)
    for register, kind, value in zip(registers, floats, raised, strict=True):
        pointer = builder.gep(code.data(7), [llvm.int64(register.start)])
        builder.store(value, builder.bitcast(pointer, kind.as_pointer()), align=1)
