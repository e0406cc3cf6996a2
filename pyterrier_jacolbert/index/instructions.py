"""Vector instructions for the kernels, written as LLVM's own code: numba alone does not find them.

The greatest entries of a table of bytes, a product of numbers, the place of the greatest one, and codes looked up;
:mod:`~pyterrier_jacolbert.index.dot_products` has the products of 8-bit vectors.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llvmlite import ir
from numba import types

from pyterrier_jacolbert.index import llvm
from pyterrier_jacolbert.index.panels import WIDTH


@llvm.intrinsic
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
    row_type = ir.VectorType(llvm.I8, WIDTH)

    def generate(context: Any, builder: ir.IRBuilder, _: Any, values: Sequence[ir.Value]) -> ir.Value:  # noqa: ANN401
        code = llvm.Code(context, builder, given, values)
        blocks = code.shape(0, 1)
        start, zero = builder.block, ir.Constant(row_type, [0] * WIDTH)
        loop, done = builder.append_basic_block("tokens"), builder.append_basic_block("done")
        builder.cbranch(builder.icmp_signed("<", values[3], values[4]), loop, done)
        builder.position_at_end(loop)
        token, best = builder.phi(llvm.I64), builder.phi(row_type)
        centroid = builder.zext(builder.load(builder.gep(code.data(2), [token])), llvm.I64)
        row = builder.mul(builder.add(builder.mul(centroid, blocks), values[1]), llvm.int64(WIDTH))
        entries = code.vector(0, row, 0, row_type)
        greater = builder.select(builder.icmp_unsigned(">", entries, best), entries, best)
        following = builder.add(token, llvm.int64(1))
        for phi, initial, value in ((token, values[3], following), (best, zero, greater)):
            phi.add_incoming(initial, start)
            phi.add_incoming(value, loop)
        builder.cbranch(builder.icmp_signed("<", following, values[4]), loop, done)
        builder.position_at_end(done)
        found = builder.phi(row_type)
        found.add_incoming(zero, start)
        found.add_incoming(greater, loop)
        wide = ir.VectorType(llvm.I32, WIDTH)
        return llvm.call(builder, f"llvm.vector.reduce.add.v{WIDTH}i32", llvm.I32, [builder.zext(found, wide)])

    return signature, generate


@llvm.intrinsic
def ask_for_row(typing_context: Any, rows: Any, row: Any) -> tuple[Any, Any]:  # noqa: ANN401
    """Asks the memory for a row that will be read soon, the first 128 bytes of it; there need not be such a row.

    Arguments as the kernel sees them:
        rows: an array of two or more axes.
        row: along the first.
    """
    given = (rows, row)

    def generate(context: Any, builder: ir.IRBuilder, _: Any, values: Sequence[ir.Value]) -> ir.Value:  # noqa: ANN401
        llvm.Code(context, builder, given, values).ask_for_row(0, values[1])
        return context.get_dummy_value()

    return types.void(rows, types.int64), generate


@llvm.intrinsic
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
    floats = ir.VectorType(llvm.F32, WIDTH)

    def generate(context: Any, builder: ir.IRBuilder, _: Any, values: Sequence[ir.Value]) -> ir.Value:  # noqa: ANN401
        code = llvm.Code(context, builder, given, values)
        last = builder.sub(code.shape(0, 0), llvm.int64(1))
        length, width = code.shape(0, 1), code.shape(2, 1)
        column = builder.mul(values[3], llvm.int64(WIDTH))
        places = []
        for ahead in range(4):
            place = builder.add(values[1], llvm.int64(ahead))
            places.append(builder.select(builder.icmp_signed("<", place, last), place, last))
        sources = [builder.gep(code.data(0), [builder.mul(place, length)]) for place in places]
        start, loop, done = builder.block, builder.append_basic_block("along"), builder.append_basic_block("done")
        builder.branch(loop)
        builder.position_at_end(loop)
        step = builder.phi(llvm.I64)
        totals = [builder.phi(floats) for _ in places]
        loaded = code.vector(2, builder.add(builder.mul(step, width), column), 0, floats)
        following = builder.add(step, llvm.int64(1))
        step.add_incoming(llvm.int64(0), start)
        step.add_incoming(following, loop)
        sums = []
        for total, source in zip(totals, sources, strict=True):
            factor = llvm.splat(builder, builder.load(builder.gep(source, [step])), WIDTH)
            sums.append(llvm.call(builder, f"llvm.fmuladd.v{WIDTH}f32", floats, [factor, loaded, total]))
            total.add_incoming(ir.Constant(floats, [0.0] * WIDTH), start)
            total.add_incoming(sums[-1], loop)
        builder.cbranch(builder.icmp_signed("<", following, length), loop, done)
        builder.position_at_end(done)
        for place, total in zip(places, sums, strict=True):
            pointer = builder.gep(code.data(4), [builder.add(builder.mul(place, width), column)])
            builder.store(total, builder.bitcast(pointer, floats.as_pointer()), align=1)
        return context.get_dummy_value()

    return signature, generate


@llvm.intrinsic
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
    halves, integers, floats = (ir.VectorType(kind, WIDTH) for kind in (llvm.I16, llvm.I32, llvm.F32))

    def generate(context: Any, builder: ir.IRBuilder, _: Any, values: Sequence[ir.Value]) -> ir.Value:  # noqa: ANN401
        code = llvm.Code(context, builder, given, values)
        first = builder.mul(values[2], code.shape(0, 1))
        start, loop, done = builder.block, builder.append_basic_block("columns"), builder.append_basic_block("done")
        builder.branch(loop)
        builder.position_at_end(loop)
        column, best, where = builder.phi(llvm.I64), builder.phi(floats), builder.phi(integers)
        moved = builder.shl(
            builder.zext(code.vector(0, builder.add(first, column), 0, halves), integers),
            ir.Constant(integers, [16] * WIDTH),
        )
        sums = builder.fadd(builder.bitcast(moved, floats), code.vector(1, column, 0, floats))
        greater = builder.fcmp_ordered(">", sums, best)
        raised = builder.select(greater, sums, best)
        here = builder.select(greater, llvm.splat(builder, builder.trunc(column, llvm.I32), WIDTH), where)
        following = builder.add(column, llvm.int64(WIDTH))
        initial = ir.Constant(floats, [float("-inf")] * WIDTH)
        for phi, before, value in (
            (column, llvm.int64(0), following),
            (best, initial, raised),
            (where, ir.Constant(integers, [0] * WIDTH), here),
        ):
            phi.add_incoming(before, start)
            phi.add_incoming(value, loop)
        builder.cbranch(builder.icmp_signed("<", following, values[3]), loop, done)
        builder.position_at_end(done)
        top = llvm.call(builder, f"llvm.vector.reduce.fmax.v{WIDTH}f32", llvm.F32, [raised])
        lanes = builder.add(here, ir.Constant(integers, list(range(WIDTH))))
        reached = builder.fcmp_ordered("==", raised, llvm.splat(builder, top, WIDTH))
        places = builder.select(reached, lanes, ir.Constant(integers, [2**31 - 1] * WIDTH))
        return builder.zext(llvm.call(builder, f"llvm.vector.reduce.umin.v{WIDTH}i32", llvm.I32, [places]), llvm.I64)

    return signature, generate


@llvm.intrinsic
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
    lanes = max((n for n, name in widths.items() if name in llvm.FEATURES and n <= count.literal_value), default=16)
    row_type = ir.VectorType(llvm.I8, lanes)

    def generate(context: Any, builder: ir.IRBuilder, _: Any, values: Sequence[ir.Value]) -> ir.Value:  # noqa: ANN401
        code = llvm.Code(context, builder, given, values)
        place = builder.add(builder.mul(values[2], code.shape(1, 1)), values[3])
        target = builder.add(builder.mul(values[8], code.shape(7, 1)), values[9])
        shifts, masks = (llvm.splat(builder, values[number], lanes) for number in (4, 5))
        levels = code.vector(6, llvm.int64(0), 0, ir.VectorType(llvm.I8, 16))
        for piece in range(count.literal_value // lanes):
            codes = builder.and_(builder.lshr(code.vector(1, place, piece * lanes, row_type), shifts), masks)
            pointer = builder.gep(code.data(7), [builder.add(target, llvm.int64(piece * lanes))])
            builder.store(_looked_up(builder, levels, codes), builder.bitcast(pointer, row_type.as_pointer()), align=1)
        return context.get_dummy_value()

    return signature, generate


def _looked_up(builder: ir.IRBuilder, table: ir.Value, codes: ir.Value) -> ir.Value:
    """The table's entry, of 16, for each code."""
    lanes = codes.type.count
    if "ssse3" in llvm.FEATURES:
        name = {64: "llvm.x86.avx512.pshuf.b.512", 32: "llvm.x86.avx2.pshuf.b", 16: "llvm.x86.ssse3.pshuf.b.128"}[lanes]
        # The instruction looks up 16 bytes in 16 bytes, as often as it is wide.
        repeated = ir.Constant(ir.VectorType(llvm.I32, lanes), [lane % 16 for lane in range(lanes)])
        tables = builder.shuffle_vector(table, ir.Constant(table.type, ir.Undefined), repeated)
        return llvm.call(builder, name, codes.type, [tables, codes])
    found = ir.Constant(codes.type, ir.Undefined)
    for lane in range(lanes):
        number = builder.extract_element(codes, ir.Constant(llvm.I32, lane))
        found = builder.insert_element(found, builder.extract_element(table, number), ir.Constant(llvm.I32, lane))
    return found
