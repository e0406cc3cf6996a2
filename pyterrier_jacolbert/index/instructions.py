"""Vector instructions for the kernels, written as LLVM's own code: numba alone does not find them.

Two loops over the tokens of a document: the greatest products of 8-bit vectors with 32 query tokens, and the greatest
entries of a table of bytes. How the query is laid out decides which instruction multiplies; all of them compute the
same integers:

=========  ======================  ==========================================================================
layout     panel                   instruction
=========  ======================  ==========================================================================
"bytes"    int8 (b, d/4, 32, 4)    vpdpbusd of AVX-512 VNNI or AVX-VNNI: 4 bytes of a token at once
"pairs"    int16 (b, d/2, 32, 2)   vpmaddwd of AVX2: 2
"singles"  int16 (b, d, 32)        plain multiplication and addition, of which LLVM makes what there is (NEON)
=========  ======================  ==========================================================================

with b blocks of 32 query tokens, and d dimensions. Besides, a product of numbers, and the place of the greatest one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from llvmlite import binding, ir
from numba import types
from numba.core import cgutils, config
from numba.extending import intrinsic as _intrinsic

from pyterrier_jacolbert.index.panels import WIDTH

_I8, _I16, _I32, _I64, _F32 = ir.IntType(8), ir.IntType(16), ir.IntType(32), ir.IntType(64), ir.FloatType()
#: Steps along the dimensions that are written out; each layout's number of steps is a multiple of it.
_UNROLLED = 4


#: An intrinsic is called without its first argument, of which its type says nothing.
intrinsic: Callable[[Any], Any] = _intrinsic
_config: Any = config


def _features() -> frozenset[str]:
    """What numba compiles for: of this processor, or as its environment variables say."""
    if _config.CPU_FEATURES is not None:
        flags = {flag[1:]: flag.startswith("+") for flag in _config.CPU_FEATURES.split(",") if flag}
    elif _config.CPU_NAME is not None:
        return frozenset()
    else:
        flags = dict(binding.get_host_cpu_features())
    return frozenset(name for name, there in flags.items() if there)


FEATURES = _features()
#: The layouts that this processor has instructions for, fastest first.
LAYOUTS = tuple(
    name
    for name, there in (
        ("bytes", "avx512vnni" in FEATURES or "avxvnni" in FEATURES),
        ("pairs", "avx2" in FEATURES),
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
        return _bytes(16 if "avx512vnni" in FEATURES else 8)
    return _pairs() if panel.ndim == 4 else _singles()


def _bytes(lanes: int) -> _Products:
    def load(builder: ir.IRBuilder, place: ir.Value) -> ir.Value:
        return builder.load(builder.bitcast(place, _I32.as_pointer()), align=1)

    def add(builder: ir.IRBuilder, total: ir.Value, token: ir.Value, query: ir.Value) -> ir.Value:
        query = builder.load(builder.bitcast(query, total.type.as_pointer()), align=1)
        name = f"llvm.x86.avx512.vpdpbusd.{total.type.count * 32}"
        return _call(builder, name, total.type, [total, _splat(builder, token, total.type.count), query])

    return _Products(lanes, 4, load, add)


def _pairs() -> _Products:
    words = ir.VectorType(_I16, 16)

    def load(builder: ir.IRBuilder, place: ir.Value) -> ir.Value:
        pair = builder.load(builder.bitcast(place, ir.VectorType(_I8, 2).as_pointer()), align=1)
        return builder.bitcast(builder.zext(pair, ir.VectorType(_I16, 2)), _I32)

    def add(builder: ir.IRBuilder, total: ir.Value, token: ir.Value, query: ir.Value) -> ir.Value:
        query = builder.load(builder.bitcast(query, words.as_pointer()), align=1)
        token = builder.bitcast(_splat(builder, token, 8), words)
        return builder.add(total, _call(builder, "llvm.x86.avx2.pmadd.wd", total.type, [token, query]))

    return _Products(8, 2, load, add)


def _singles() -> _Products:
    words = ir.VectorType(_I16, 4)

    def load(builder: ir.IRBuilder, place: ir.Value) -> ir.Value:
        return builder.zext(builder.load(place), _I32)

    def add(builder: ir.IRBuilder, total: ir.Value, token: ir.Value, query: ir.Value) -> ir.Value:
        query = builder.load(builder.bitcast(query, words.as_pointer()), align=1)
        return builder.add(total, builder.mul(_splat(builder, token, 4), builder.sext(query, total.type)))

    return _Products(4, 1, load, add)


@intrinsic
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
    """
    given = (rows, first, count, factors, panel, block, corrections, best, columns)
    signature = types.void(*given)
    products = _products_of(panel)

    def generate(context: Any, builder: ir.IRBuilder, _: Any, values: Sequence[ir.Value]) -> ir.Value:  # noqa: ANN401
        code = _Code(context, builder, given, values)

        def finish(total: ir.Value, token: ir.Value, _: int) -> ir.Value:
            factor = _splat(builder, builder.load(builder.gep(code.data(3), [token])), total.type.count)
            return builder.fmul(builder.sitofp(total, factor.type), factor)

        _each_token(code, products, finish)
        return context.get_dummy_value()

    return signature, generate


@intrinsic
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
    products = _products_of(panel)

    def generate(context: Any, builder: ir.IRBuilder, _: Any, values: Sequence[ir.Value]) -> ir.Value:  # noqa: ANN401
        code = _Code(context, builder, given, values)
        blocks = code.shape(10, 1)

        def finish(total: ir.Value, token: ir.Value, column: int) -> ir.Value:
            floats = ir.VectorType(_F32, total.type.count)
            factor = _splat(builder, builder.load(builder.gep(code.data(3), [token])), floats.count)
            norm = _splat(builder, builder.load(builder.gep(code.data(12), [token])), floats.count)
            step = code.vector(9, builder.mul(values[5], _int(WIDTH)), column, floats)
            centroid = builder.zext(builder.load(builder.gep(code.data(11), [token])), _I64)
            row = builder.mul(builder.add(builder.mul(centroid, blocks), values[5]), _int(WIDTH))
            part = builder.fmul(builder.fmul(builder.sitofp(total, floats), factor), step)
            return builder.fmul(norm, builder.fadd(code.vector(10, row, column, floats), part))

        _each_token(code, products, finish)
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def raise_to_entries(
    typing_context: Any,  # noqa: ANN401
    table: Any,  # noqa: ANN401
    block: Any,  # noqa: ANN401
    ids: Any,  # noqa: ANN401
    first: Any,  # noqa: ANN401
    end: Any,  # noqa: ANN401
) -> tuple[Any, Any]:
    """The sum over a block's query tokens of the greatest entry of a document's centroids.

    Arguments as the kernel sees them:
        table: uint8 ``(n_centroids, b, 32)``.
        block: of the table.
        ids: uint16 ``(n,)``, the centroid of each token.
        first, end: the tokens; none gives 0.

    Returns:
        int32.
    """
    given = (table, block, ids, first, end)
    signature = types.int32(*given)
    row_type = ir.VectorType(_I8, WIDTH)

    def generate(context: Any, builder: ir.IRBuilder, _: Any, values: Sequence[ir.Value]) -> ir.Value:  # noqa: ANN401
        code = _Code(context, builder, given, values)
        blocks = code.shape(0, 1)
        start, zero = builder.block, ir.Constant(row_type, [0] * WIDTH)
        loop, done = builder.append_basic_block("tokens"), builder.append_basic_block("done")
        builder.cbranch(builder.icmp_signed("<", values[3], values[4]), loop, done)
        builder.position_at_end(loop)
        token, best = builder.phi(_I64), builder.phi(row_type)
        centroid = builder.zext(builder.load(builder.gep(code.data(2), [token])), _I64)
        row = builder.mul(builder.add(builder.mul(centroid, blocks), values[1]), _int(WIDTH))
        entries = code.vector(0, row, 0, row_type)
        greater = builder.select(builder.icmp_unsigned(">", entries, best), entries, best)
        following = builder.add(token, _int(1))
        for phi, initial, value in ((token, values[3], following), (best, zero, greater)):
            phi.add_incoming(initial, start)
            phi.add_incoming(value, loop)
        builder.cbranch(builder.icmp_signed("<", following, values[4]), loop, done)
        builder.position_at_end(done)
        found = builder.phi(row_type)
        found.add_incoming(zero, start)
        found.add_incoming(greater, loop)
        wide = ir.VectorType(_I32, WIDTH)
        return _call(builder, f"llvm.vector.reduce.add.v{WIDTH}i32", _I32, [builder.zext(found, wide)])

    return signature, generate


@intrinsic
def multiply_rows(
    typing_context: Any,  # noqa: ANN401
    rows: Any,  # noqa: ANN401
    first: Any,  # noqa: ANN401
    columns: Any,  # noqa: ANN401
    block: Any,  # noqa: ANN401
    out: Any,  # noqa: ANN401
) -> tuple[Any, Any]:
    """The products of four rows and 32 columns; past the last row it is repeated.

    Arguments as the kernel sees them:
        rows: float32 ``(n, k)``, ``n`` and ``k`` at least 1.
        first: of the rows.
        columns: float32 ``(k, 32 b)``.
        block: of the columns.
        out: float32 ``(n, 32 b)``.
    """
    given = (rows, first, columns, block, out)
    signature = types.void(*given)
    floats = ir.VectorType(_F32, WIDTH)

    def generate(context: Any, builder: ir.IRBuilder, _: Any, values: Sequence[ir.Value]) -> ir.Value:  # noqa: ANN401
        code = _Code(context, builder, given, values)
        last = builder.sub(code.shape(0, 0), _int(1))
        length, width = code.shape(0, 1), code.shape(2, 1)
        column = builder.mul(values[3], _int(WIDTH))
        places = []
        for ahead in range(4):
            place = builder.add(values[1], _int(ahead))
            places.append(builder.select(builder.icmp_signed("<", place, last), place, last))
        sources = [builder.gep(code.data(0), [builder.mul(place, length)]) for place in places]
        start, loop, done = builder.block, builder.append_basic_block("along"), builder.append_basic_block("done")
        builder.branch(loop)
        builder.position_at_end(loop)
        step = builder.phi(_I64)
        totals = [builder.phi(floats) for _ in places]
        loaded = code.vector(2, builder.add(builder.mul(step, width), column), 0, floats)
        following = builder.add(step, _int(1))
        step.add_incoming(_int(0), start)
        step.add_incoming(following, loop)
        sums = []
        for total, source in zip(totals, sources, strict=True):
            factor = _splat(builder, builder.load(builder.gep(source, [step])), WIDTH)
            sums.append(_call(builder, f"llvm.fmuladd.v{WIDTH}f32", floats, [factor, loaded, total]))
            total.add_incoming(ir.Constant(floats, [0.0] * WIDTH), start)
            total.add_incoming(sums[-1], loop)
        builder.cbranch(builder.icmp_signed("<", following, length), loop, done)
        builder.position_at_end(done)
        for place, total in zip(places, sums, strict=True):
            pointer = builder.gep(code.data(4), [builder.add(builder.mul(place, width), column)])
            builder.store(total, builder.bitcast(pointer, floats.as_pointer()), align=1)
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def place_of_greatest(
    typing_context: Any,  # noqa: ANN401
    products: Any,  # noqa: ANN401
    bias: Any,  # noqa: ANN401
    row: Any,  # noqa: ANN401
    columns: Any,  # noqa: ANN401
) -> tuple[Any, Any]:
    """Where the greatest sum of product and bias stands in a row; the first of several.

    Arguments as the kernel sees them:
        products: int16 ``(n, k)``, the bits of bfloat16 numbers, none of them NaN.
        bias: float32 ``(k,)``.
        row: of the products.
        columns: the first so many are looked at: a multiple of 32, at least 32.

    Returns:
        int64.
    """
    given = (products, bias, row, columns)
    signature = types.int64(*given)
    halves, integers, floats = (ir.VectorType(kind, WIDTH) for kind in (_I16, _I32, _F32))

    def generate(context: Any, builder: ir.IRBuilder, _: Any, values: Sequence[ir.Value]) -> ir.Value:  # noqa: ANN401
        code = _Code(context, builder, given, values)
        first = builder.mul(values[2], code.shape(0, 1))
        start, loop, done = builder.block, builder.append_basic_block("columns"), builder.append_basic_block("done")
        builder.branch(loop)
        builder.position_at_end(loop)
        column, best, where = builder.phi(_I64), builder.phi(floats), builder.phi(integers)
        moved = builder.shl(
            builder.zext(code.vector(0, builder.add(first, column), 0, halves), integers),
            ir.Constant(integers, [16] * WIDTH),
        )
        sums = builder.fadd(builder.bitcast(moved, floats), code.vector(1, column, 0, floats))
        greater = builder.fcmp_ordered(">", sums, best)
        raised = builder.select(greater, sums, best)
        here = builder.select(greater, _splat(builder, builder.trunc(column, _I32), WIDTH), where)
        following = builder.add(column, _int(WIDTH))
        initial = ir.Constant(floats, [float("-inf")] * WIDTH)
        for phi, before, value in (
            (column, _int(0), following),
            (best, initial, raised),
            (where, ir.Constant(integers, [0] * WIDTH), here),
        ):
            phi.add_incoming(before, start)
            phi.add_incoming(value, loop)
        builder.cbranch(builder.icmp_signed("<", following, values[3]), loop, done)
        builder.position_at_end(done)
        top = _call(builder, f"llvm.vector.reduce.fmax.v{WIDTH}f32", _F32, [raised])
        lanes = builder.add(here, ir.Constant(integers, list(range(WIDTH))))
        reached = builder.fcmp_ordered("==", raised, _splat(builder, top, WIDTH))
        places = builder.select(reached, lanes, ir.Constant(integers, [2**31 - 1] * WIDTH))
        return builder.zext(_call(builder, f"llvm.vector.reduce.umin.v{WIDTH}i32", _I32, [places]), _I64)

    return signature, generate


@intrinsic
def look_up(
    typing_context: Any,  # noqa: ANN401
    count: Any,  # noqa: ANN401
    rows: Any,  # noqa: ANN401
    row: Any,  # noqa: ANN401
    column: Any,  # noqa: ANN401
    shift: Any,  # noqa: ANN401
    mask: Any,  # noqa: ANN401
    table: Any,  # noqa: ANN401
    out: Any,  # noqa: ANN401
    out_row: Any,  # noqa: ANN401
    out_column: Any,  # noqa: ANN401
) -> tuple[Any, Any] | None:
    """Looks up codes: ``out[out_row, out_column + i] = table[(rows[row, column + i] >> shift) & mask]``, ``i < count``.

    Arguments as the kernel sees them:
        count: 16 or 64, written as a number.
        rows: uint8 ``(n, width)``.
        shift, mask: uint8.
        table: uint8 ``(16,)``.
        out: uint8 ``(m, dim)``.
    """
    if not isinstance(count, types.IntegerLiteral):
        return None  # numba asks again, with the number
    given = (count, rows, row, column, shift, mask, table, out, out_row, out_column)
    signature = types.void(*given)
    widths = {64: "avx512bw", 32: "avx2", 16: "ssse3"}
    lanes = max((n for n, name in widths.items() if name in FEATURES and n <= count.literal_value), default=16)
    row_type = ir.VectorType(_I8, lanes)

    def generate(context: Any, builder: ir.IRBuilder, _: Any, values: Sequence[ir.Value]) -> ir.Value:  # noqa: ANN401
        code = _Code(context, builder, given, values)
        place = builder.add(builder.mul(values[2], code.shape(1, 1)), values[3])
        target = builder.add(builder.mul(values[8], code.shape(7, 1)), values[9])
        shifts, masks = (_splat(builder, values[number], lanes) for number in (4, 5))
        levels = code.vector(6, _int(0), 0, ir.VectorType(_I8, 16))
        for piece in range(count.literal_value // lanes):
            codes = builder.and_(builder.lshr(code.vector(1, place, piece * lanes, row_type), shifts), masks)
            pointer = builder.gep(code.data(7), [builder.add(target, _int(piece * lanes))])
            builder.store(_looked_up(builder, levels, codes), builder.bitcast(pointer, row_type.as_pointer()), align=1)
        return context.get_dummy_value()

    return signature, generate


def _looked_up(builder: ir.IRBuilder, table: ir.Value, codes: ir.Value) -> ir.Value:
    """The table's entry, of 16, for each code."""
    lanes = codes.type.count
    if "ssse3" in FEATURES:
        name = {64: "llvm.x86.avx512.pshuf.b.512", 32: "llvm.x86.avx2.pshuf.b", 16: "llvm.x86.ssse3.pshuf.b.128"}[lanes]
        # The instruction looks up 16 bytes in 16 bytes, as often as it is wide.
        repeated = ir.Constant(ir.VectorType(_I32, lanes), [lane % 16 for lane in range(lanes)])
        tables = builder.shuffle_vector(table, ir.Constant(table.type, ir.Undefined), repeated)
        return _call(builder, name, codes.type, [tables, codes])
    found = ir.Constant(codes.type, ir.Undefined)
    for lane in range(lanes):
        number = builder.extract_element(codes, ir.Constant(_I32, lane))
        found = builder.insert_element(found, builder.extract_element(table, number), ir.Constant(_I32, lane))
    return found


class _Code:
    """The arrays among an intrinsic's arguments: their places in memory and their shapes."""

    def __init__(self, context: Any, builder: ir.IRBuilder, given: Sequence[Any], values: Sequence[ir.Value]) -> None:  # noqa: ANN401
        self.builder = builder
        self.values = values
        self._arrays = {
            number: context.make_array(kind)(context, builder, value)
            for number, (kind, value) in enumerate(zip(given, values, strict=True))
            if isinstance(kind, types.Array)
        }

    def data(self, argument: int) -> ir.Value:
        return self._arrays[argument].data

    def shape(self, argument: int, axis: int) -> ir.Value:
        return self.builder.extract_value(self._arrays[argument].shape, axis)

    def vector(self, argument: int, first: ir.Value, beyond: int, kind: ir.VectorType) -> ir.Value:
        """Loads the elements from ``first + beyond`` on."""
        place = self.builder.add(first, _int(beyond))
        pointer = self.builder.bitcast(self.builder.gep(self.data(argument), [place]), kind.as_pointer())
        return self.builder.load(pointer, align=1)


#: What becomes of the products of a document token, given its place and the first query token of the register.
_Finish = Callable[[ir.Value, ir.Value, int], ir.Value]


def _each_token(code: _Code, products: _Products, finish: _Finish) -> None:
    """Raises ``best`` to what ``finish`` makes of the products of each token, for as many columns as are needed.

    The arguments are those of :func:`raise_to_products`.
    """
    builder, columns = code.builder, code.values[8]
    with builder.if_else(builder.icmp_signed("<=", columns, _int(16))) as (few, more):
        with few:
            _each_token_of(code, products, 16, finish)
        with more, builder.if_else(builder.icmp_signed("<=", columns, _int(24))) as (some, all_of_them):
            with some:
                _each_token_of(code, products, 24, finish)
            with all_of_them:
                _each_token_of(code, products, WIDTH, finish)


def _each_token_of(code: _Code, products: _Products, columns: int, finish: _Finish) -> None:
    """:func:`_each_token` for so many columns.

    Tokens go some abreast; past the last one it is repeated, which moves no maximum.
    """
    builder, values = code.builder, code.values
    first, count, block = values[1], values[2], values[5]
    registers, abreast = products.registers(columns), products.abreast(columns)
    floats = [ir.VectorType(_F32, len(register)) for register in registers]
    dim = code.shape(0, 1)
    steps = builder.udiv(dim, _int(products.group))
    token_bytes = products.group * (1 if products.group == 4 else 2)  # of a query token, a step
    panel_bytes = WIDTH * token_bytes
    panel = builder.bitcast(code.data(4), _I8.as_pointer())
    panel = builder.gep(panel, [builder.mul(builder.mul(block, steps), _int(panel_bytes))])
    row = builder.mul(block, _int(WIDTH))
    negated = [
        builder.neg(code.vector(6, row, register.start, ir.VectorType(_I32, len(register)))) for register in registers
    ]
    before = [code.vector(7, _int(0), register.start, kind) for register, kind in zip(registers, floats, strict=True)]
    last = builder.sub(count, _int(1))

    start = builder.block
    tokens, along, end = (builder.append_basic_block(name) for name in ("tokens", "along", "end"))
    done = builder.append_basic_block("done")
    builder.branch(tokens)

    builder.position_at_end(tokens)
    token = builder.phi(_I64)
    best = [builder.phi(kind) for kind in floats]
    token.add_incoming(_int(0), start)
    for phi, value in zip(best, before, strict=True):
        phi.add_incoming(value, start)
    places, rows = [], []
    for ahead in range(abreast):
        place = builder.add(token, _int(ahead))
        place = builder.select(builder.icmp_signed("<", place, last), place, last)
        places.append(place)
        rows.append(builder.gep(code.data(0), [builder.mul(builder.add(first, place), dim)]))
    builder.branch(along)

    builder.position_at_end(along)
    step = builder.phi(_I64)
    step.add_incoming(_int(0), tokens)
    totals = [[builder.phi(value.type) for value in negated] for _ in range(abreast)]
    for of_token in totals:
        for phi, value in zip(of_token, negated, strict=True):
            phi.add_incoming(value, tokens)
    sums: list[list[ir.Value]] = [list(of_token) for of_token in totals]
    for ahead in range(_UNROLLED):
        now = builder.add(step, _int(ahead))
        query = builder.gep(panel, [builder.mul(now, _int(panel_bytes))])
        loaded = [products.load(builder, builder.gep(row, [builder.mul(now, _int(products.group))])) for row in rows]
        for number, register in enumerate(registers):
            place = builder.gep(query, [_int(register.start * token_bytes)])
            for of_token, value in zip(sums, loaded, strict=True):
                of_token[number] = products.add(builder, of_token[number], value, place)
    following = builder.add(step, _int(_UNROLLED))
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
    after = builder.add(token, _int(abreast))
    token.add_incoming(after, end)
    for phi, value in zip(best, raised, strict=True):
        phi.add_incoming(value, end)
    builder.cbranch(builder.icmp_signed("<", after, count), tokens, done)

    builder.position_at_end(done)
    for register, kind, value in zip(registers, floats, raised, strict=True):
        pointer = builder.gep(code.data(7), [_int(register.start)])
        builder.store(value, builder.bitcast(pointer, kind.as_pointer()), align=1)


def _int(value: int) -> ir.Constant:
    return ir.Constant(_I64, value)


def _splat(builder: ir.IRBuilder, value: ir.Value, lanes: int) -> ir.Value:
    kind = ir.VectorType(value.type, lanes)
    one = builder.insert_element(ir.Constant(kind, ir.Undefined), value, ir.Constant(_I32, 0))
    zeros = ir.Constant(ir.VectorType(_I32, lanes), [0] * lanes)
    return builder.shuffle_vector(one, ir.Constant(kind, ir.Undefined), zeros)


def _call(builder: ir.IRBuilder, name: str, result: ir.Type, arguments: Sequence[ir.Value]) -> ir.Value:
    kind = ir.FunctionType(result, [argument.type for argument in arguments])
    declared = cgutils.get_or_insert_function(builder.module, kind, name)  # type: ignore[no-untyped-call] # numba's
    return builder.call(declared, arguments)
