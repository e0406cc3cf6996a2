"""Intrinsics other than dot products, written in LLVM's code because numba alone does not vectorise these loops.

Maxima of a table of bytes, matrix products in float32, the position of a maximum, and table lookups of packed codes;
:mod:`~pyterrier_jacolbert.index.kernels.dot_products` has the dot products of 8-bit vectors.

==========================  =========================================================================================
intrinsic                   instructions with AVX-512 (LLVM chooses those of other processors, except for vpshufb)
==========================  =========================================================================================
:func:`max_centroid_score`  vpmaxub: maxima of 32 bytes
:func:`prefetch_row`        prefetcht0: a cache line
:func:`matmul_rows`         vfmadd231ps: multiplies and adds 16 floats
:func:`argmax_sum`          vpslld, vaddps, vcmpps: bfloat16 to float32, sums and comparisons of 16 floats
:func:`decode_levels`       vpshufb: looks up 64, 32 or 16 bytes in a table of 16 bytes (AVX-512 BW, AVX2, SSSE3)
==========================  =========================================================================================
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from pyterrier_jacolbert.index.kernels import llvm
from pyterrier_jacolbert.index.kernels.query_layout import WIDTH

#: numba's helpers have no type annotations.
_cgutils: Any = cgutils


# Registers: best, 32 bytes (1 ymm). Each row of a block of the table fills half a cache line.
#
#   uint8 best[32] = {0};
#   for (t = first; t < end; t++)
#       for (q = 0; q < 32; q++) best[q] = max(best[q], table[ids[t]][block][q]);   // vpmaxub
#   return sum over q of (int32)best[q];                                            // widened, added up
@llvm.intrinsic
def max_centroid_score(typing_context: Any, table: Any, block: Any, ids: Any, first: Any, end: Any) -> tuple[Any, Any]:
    """Returns the sum over a block's query tokens of the maximum table entry of a document's centroids.

    Arguments as the kernel sees them:
        table: uint8 ``(n_centroids, b, 32)``.
        block: block of the table.
        ids: uint16 ``(n,)``, the centroid of each token.
        first, end: range of the document's tokens; an empty range gives 0.

    Returns:
        int32.
    """
    arguments = {"table": table, "block": block, "ids": ids, "first": first, "end": end}
    row_type = ir.VectorType(llvm.I8, WIDTH)

    def generate(context: Any, builder: ir.IRBuilder, _: Any, values: Sequence[ir.Value]) -> ir.Value:
        code = llvm.Code(context, builder, arguments, values)
        blocks = code.shape("table", 1)
        start, zero = builder.block, ir.Constant(row_type, [0] * WIDTH)
        loop, done = builder.append_basic_block("tokens"), builder.append_basic_block("done")
        builder.cbranch(builder.icmp_signed("<", code["first"], code["end"]), loop, done)
        builder.position_at_end(loop)
        token, best = builder.phi(llvm.I64), builder.phi(row_type)
        centroid = builder.zext(code.element("ids", token), llvm.I64)
        row = builder.mul(builder.add(builder.mul(centroid, blocks), code["block"]), llvm.int64(WIDTH))
        entries = code.vector("table", row, 0, row_type)
        updated = builder.select(builder.icmp_unsigned(">", entries, best), entries, best)
        following = builder.add(token, llvm.int64(1))
        for phi, initial, value in ((token, code["first"], following), (best, zero, updated)):
            phi.add_incoming(initial, start)
            phi.add_incoming(value, loop)
        builder.cbranch(builder.icmp_signed("<", following, code["end"]), loop, done)
        builder.position_at_end(done)
        maxima = builder.phi(row_type)
        maxima.add_incoming(zero, start)
        maxima.add_incoming(updated, loop)
        wide = builder.zext(maxima, ir.VectorType(llvm.I32, WIDTH))
        return llvm.call(builder, f"llvm.vector.reduce.add.v{WIDTH}i32", llvm.I32, [wide])

    return types.int32(*arguments.values()), generate


@llvm.intrinsic
def prefetch_row(typing_context: Any, rows: Any, row: Any) -> tuple[Any, Any]:
    """Prefetches the first 128 bytes of a row; the row may be out of range.

    Arguments as the kernel sees them:
        rows: an array of two or more axes.
        row: index along the first axis.
    """
    arguments = {"rows": rows, "row": types.int64}

    def generate(context: Any, builder: ir.IRBuilder, _: Any, values: Sequence[ir.Value]) -> ir.Value:
        code = llvm.Code(context, builder, arguments, values)
        code.prefetch_row("rows", code["row"])
        return context.get_dummy_value()

    return types.void(*arguments.values()), generate


# Registers with AVX-512: 8 accumulators (4 rows x 2 zmm), 2 zmm of columns, 1 broadcast number.
#
#   for (i = 0; i < 4; i++) row[i] = min(first + i, n - 1);
#   float32 sum[4][32] = {0};
#   for (j = 0; j < k; j++)
#       for (i = 0; i < 4; i++)
#           sum[i][0..31] += broadcast(rows[row[i]][j]) * columns[j][32 * block .. 32 * block + 31];   // vfmadd231ps
#   for (i = 0; i < 4; i++) out[row[i]][32 * block .. 32 * block + 31] = sum[i][0..31];
@llvm.intrinsic
def matmul_rows(typing_context: Any, rows: Any, first: Any, columns: Any, block: Any, out: Any) -> tuple[Any, Any]:
    """Multiplies four rows and 32 columns; past the end, the last row is multiplied again.

    Arguments as the kernel sees them:
        rows: float32 ``(n, k)``, ``n`` and ``k`` at least 1.
        first: the first of the four rows.
        columns: float32 ``(k, 32 b)``.
        block: block of 32 columns.
        out: float32 ``(n, 32 b)``.
    """
    arguments = {"rows": rows, "first": first, "columns": columns, "block": block, "out": out}
    floats = ir.VectorType(llvm.F32, WIDTH)

    def generate(context: Any, builder: ir.IRBuilder, _: Any, values: Sequence[ir.Value]) -> ir.Value:
        code = llvm.Code(context, builder, arguments, values)
        last = builder.sub(code.shape("rows", 0), llvm.int64(1))
        length, width = code.shape("rows", 1), code.shape("columns", 1)
        column = builder.mul(code["block"], llvm.int64(WIDTH))
        places = [llvm.smaller(builder, builder.add(code["first"], llvm.int64(number)), last) for number in range(4)]
        sources = [builder.gep(code.data("rows"), [builder.mul(place, length)]) for place in places]
        start, loop, done = builder.block, builder.append_basic_block("along"), builder.append_basic_block("done")
        builder.branch(loop)
        builder.position_at_end(loop)
        step = builder.phi(llvm.I64)
        totals = [builder.phi(floats) for _ in places]
        loaded = code.vector("columns", builder.add(builder.mul(step, width), column), 0, floats)
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
            code.store(total, "out", builder.add(builder.mul(place, width), column))
        return context.get_dummy_value()

    return types.void(*arguments.values()), generate


# Registers with AVX-512: best, 2 zmm; where, 2 zmm (the first column of the 32 that raised each lane).
#
#   float32 best[32] = {-inf}; int32 where[32] = {0};
#   for (c = 0; c < columns; c += 32)
#       for (l = 0; l < 32; l++) {
#           sum = (float32)((uint32)products[row][c + l] << 16) + bias[c + l];   // vpmovzxwd, vpslld, vaddps
#           if (sum > best[l]) { best[l] = sum; where[l] = c; }                  // vcmpps, blends
#       }
#   top = max over l of best[l];
#   return min over the lanes l with best[l] == top of where[l] + l;
@llvm.intrinsic
def argmax_sum(typing_context: Any, products: Any, bias: Any, row: Any, columns: Any) -> tuple[Any, Any]:
    """Returns the position of the maximum sum of product and bias in a row; ties go to the first.

    Arguments as the kernel sees them:
        products: int16 ``(n, k)``, the bits of bfloat16 numbers, none of them NaN.
        bias: float32 ``(k,)``.
        row: row of the products.
        columns: number of leading columns to compare: a multiple of 32, at least 32.

    Returns:
        int64.
    """
    arguments = {"products": products, "bias": bias, "row": row, "columns": columns}
    halves, integers, floats = (ir.VectorType(kind, WIDTH) for kind in (llvm.I16, llvm.I32, llvm.F32))

    def generate(context: Any, builder: ir.IRBuilder, _: Any, values: Sequence[ir.Value]) -> ir.Value:
        code = llvm.Code(context, builder, arguments, values)
        first = builder.mul(code["row"], code.shape("products", 1))
        start, loop, done = builder.block, builder.append_basic_block("columns"), builder.append_basic_block("done")
        builder.branch(loop)
        builder.position_at_end(loop)
        column, best, where = builder.phi(llvm.I64), builder.phi(floats), builder.phi(integers)
        moved = builder.shl(
            builder.zext(code.vector("products", builder.add(first, column), 0, halves), integers),
            ir.Constant(integers, [16] * WIDTH),
        )
        sums = builder.fadd(builder.bitcast(moved, floats), code.vector("bias", column, 0, floats))
        exceeds = builder.fcmp_ordered(">", sums, best)
        updated = builder.select(exceeds, sums, best)
        updated_where = builder.select(exceeds, llvm.splat(builder, builder.trunc(column, llvm.I32), WIDTH), where)
        following = builder.add(column, llvm.int64(WIDTH))
        initial = ir.Constant(floats, [float("-inf")] * WIDTH)
        for phi, before, value in (
            (column, llvm.int64(0), following),
            (best, initial, updated),
            (where, ir.Constant(integers, [0] * WIDTH), updated_where),
        ):
            phi.add_incoming(before, start)
            phi.add_incoming(value, loop)
        builder.cbranch(builder.icmp_signed("<", following, code["columns"]), loop, done)
        builder.position_at_end(done)
        top = llvm.call(builder, f"llvm.vector.reduce.fmax.v{WIDTH}f32", llvm.F32, [updated])
        positions = builder.add(updated_where, ir.Constant(integers, list(range(WIDTH))))
        is_top = builder.fcmp_ordered("==", updated, llvm.splat(builder, top, WIDTH))
        candidates = builder.select(is_top, positions, ir.Constant(integers, [2**31 - 1] * WIDTH))
        least = llvm.call(builder, f"llvm.vector.reduce.umin.v{WIDTH}i32", llvm.I32, [candidates])
        return builder.zext(least, llvm.I64)

    return types.int64(*arguments.values()), generate


# Registers: the 16 levels, repeated to fill a register; shifts; masks. Each step looks up 64, 32 or 16 codes at once:
#
#   for (part = 0; part < 8 / bits; part++) {              // part of the dimensions, and bit field of each byte
#       shift = part * bits; target = part * width; length = min(width, dim - target);
#       for (c = 0; c + 64 <= length; c += 64)             // 64 codes: 1 zmm, 2 ymm or 4 xmm
#           for (t = 0; t < count; t++) {
#               numbers = (residuals[first + t][c .. c + 63] >> shift) & mask;   // vpsrlw, vpand
#               out[t][target + c .. target + c + 63] = pshufb(levels, numbers);
#           }
#       for (; c + 16 <= length; c += 16)                  // 16 codes: 1 xmm
#           the same for each t;
#       for (; c < length; c++)                            // 1 code
#           the same for each t;
#   }
#
# Consecutive codes are the same bit field of consecutive bytes (packed_width in codecs/residual.py), so no lane moves:
#
#   4 bits   byte j      | code width + j | code j |                    from bit 7 to bit 0
#   2 bits   byte j      | 3 width + j | 2 width + j | width + j | j |
@llvm.intrinsic
def decode_levels(typing_context: Any, codes: Any, first: Any, count: Any, out: Any) -> tuple[Any, Any]:
    """Looks up the reconstruction levels of consecutive tokens.

    Arguments as the kernel sees them:
        codes: :class:`~pyterrier_jacolbert.index.kernels.arguments.ResidualCodes`.
        first: the first token.
        count: number of tokens.
        out: uint8, at least ``count`` rows of ``dim`` columns, padded to a multiple of 16; columns without a code keep
            their contents.
    """
    arguments = {"codes": codes, "first": first, "count": count, "out": out}
    widths = {64: "avx512bw", 32: "avx2", 16: "ssse3"}
    lanes = max((n for n, name in widths.items() if name in llvm.FEATURES), default=16)

    def generate(context: Any, builder: ir.IRBuilder, _: Any, values: Sequence[ir.Value]) -> ir.Value:
        code = llvm.Code(context, builder, arguments, values)
        width, dim, bits = code.shape("codes.residuals", 1), code.shape("out", 1), code["codes.bits"]
        levels = code.vector("codes.reconstruction_levels", llvm.int64(0), 0, ir.VectorType(llvm.I8, 16))
        mask = builder.sub(builder.shl(llvm.int64(1), bits), llvm.int64(1))
        with _cgutils.for_range(builder, builder.udiv(llvm.int64(8), bits)) as loop:
            shift = builder.mul(loop.index, bits)
            target = builder.mul(loop.index, width)
            length = llvm.smaller(builder, width, builder.sub(dim, target))
            start = llvm.int64(0)
            for step in (64, 16, 1):
                end = builder.and_(length, llvm.int64(-step))
                with _cgutils.for_range_slice(builder, start, end, llvm.int64(step)) as (column, _):
                    with _cgutils.for_range(builder, code["count"]) as tokens:
                        row = builder.mul(builder.add(code["first"], tokens.index), width)
                        place = builder.add(row, column)
                        target_place = builder.add(builder.mul(tokens.index, dim), builder.add(target, column))
                        size = min(lanes, step)
                        kind = ir.VectorType(llvm.I8, size)
                        for offset in range(0, step, size):
                            shifts, masks = (
                                llvm.splat(builder, builder.trunc(value, llvm.I8), size) for value in (shift, mask)
                            )
                            loaded = code.vector("codes.residuals", place, offset, kind)
                            numbers = builder.and_(builder.lshr(loaded, shifts), masks)
                            code.store(_shuffle(builder, levels, numbers), "out", target_place, offset)
                start = end
        return context.get_dummy_value()

    return types.void(*arguments.values()), generate


def _shuffle(builder: ir.IRBuilder, table: ir.Value, numbers: ir.Value) -> ir.Value:
    """Returns the entry of a 16-byte table for each number from 0 to 15."""
    lanes = numbers.type.count
    if "ssse3" in llvm.FEATURES and lanes > 1:
        name = {64: "llvm.x86.avx512.pshuf.b.512", 32: "llvm.x86.avx2.pshuf.b", 16: "llvm.x86.ssse3.pshuf.b.128"}[lanes]
        # The instruction looks up each 16 bytes in the same 16 bytes of its table, so the table is repeated.
        repeated = ir.Constant(ir.VectorType(llvm.I32, lanes), [lane % 16 for lane in range(lanes)])
        tables = builder.shuffle_vector(table, ir.Constant(table.type, ir.Undefined), repeated)
        return llvm.call(builder, name, numbers.type, [tables, numbers])
    entries = ir.Constant(numbers.type, ir.Undefined)
    for lane in range(lanes):
        number = builder.extract_element(numbers, ir.Constant(llvm.I32, lane))
        entries = builder.insert_element(entries, builder.extract_element(table, number), ir.Constant(llvm.I32, lane))
    return entries
