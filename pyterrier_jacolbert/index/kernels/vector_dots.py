"""Dot products of 8-bit vectors in vector registers, for the layouts "vnni", "avx2" and "generic".

How each layout multiplies:

=========  ====================================  ======================  =====================  ========================
layout     processor                             query tokens per        dimensions per step    instructions per
                                                 register (``lanes``)    (``group``)            register
=========  ====================================  ======================  =====================  ========================
"vnni"     x86-64 with AVX-512 VNNI              16 (zmm)                4                      vpdpbusd
"vnni"     x86-64 with AVX-VNNI, not AVX-512     8 (ymm)                 4                      vpdpbusd
"avx2"     x86-64 with AVX2                      8 (ymm)                 2                      vpmaddwd, vpaddd
"generic"  any                                   4                       1                      multiplication, addition
=========  ====================================  ======================  =====================  ========================

vpdpbusd multiplies unsigned and signed bytes and adds four products to each 32-bit sum; vpmaddwd adds two products of
16-bit numbers. For "generic", LLVM selects the instructions of the processor, such as those of NEON.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from llvmlite import ir
from numba import types

from pyterrier_jacolbert.index.kernels import llvm
from pyterrier_jacolbert.index.kernels.query_layout import WIDTH

#: Unrolled steps along the dimensions; the number of steps is a multiple of it in every layout.
_UNROLLED = 4


@dataclass(frozen=True)
class MultiplyAdd:
    """The multiply-add operation of a layout.

    Attributes:
        lanes: maximum number of query tokens per register.
        group: dimensions per step.
        load: loads a step's dimensions of a document token.
        add: adds their products with a step of the query to an accumulator; the accumulator determines the lanes.
    """

    lanes: int
    group: int
    load: Callable[[ir.IRBuilder, ir.Value], ir.Value]
    add: Callable[[ir.IRBuilder, ir.Value, ir.Value, ir.Value], ir.Value]

    @property
    def group_bytes(self) -> int:
        """Bytes of a step of a query token, whose numbers have 8 bits in "vnni" and 16 in the other layouts."""
        return self.group * (1 if self.group == 4 else 2)

    def registers(self, columns: int) -> list[range]:
        """Returns the query tokens of each register, for the first 16, 24 or 32 query tokens of a block."""
        return [range(first, min(first + self.lanes, columns)) for first in range(0, columns, self.lanes)]

    def tokens_at_once(self, columns: int) -> int:
        """Returns the number of document tokens whose accumulators fit in the registers together."""
        return 2 if self.lanes < 16 else 8 if columns == 16 else 4


def multiply_add_for(packed: types.Array) -> MultiplyAdd:
    """Returns the multiply-add operation for the array type of a packed query."""
    if packed.dtype == types.int8:
        return _vnni(16 if "avx512vnni" in llvm.FEATURES else 8)
    return _avx2() if packed.ndim == 4 else _generic()


def _vnni(lanes: int) -> MultiplyAdd:
    def load(builder: ir.IRBuilder, place: ir.Value) -> ir.Value:
        return builder.load(builder.bitcast(place, llvm.I32.as_pointer()), align=1)

    def add(builder: ir.IRBuilder, total: ir.Value, token: ir.Value, query: ir.Value) -> ir.Value:
        query = builder.load(builder.bitcast(query, total.type.as_pointer()), align=1)
        name = f"llvm.x86.avx512.vpdpbusd.{total.type.count * 32}"
        return llvm.call(builder, name, total.type, [total, llvm.splat(builder, token, total.type.count), query])

    return MultiplyAdd(lanes, 4, load, add)


def _avx2() -> MultiplyAdd:
    words = ir.VectorType(llvm.I16, 16)

    def load(builder: ir.IRBuilder, place: ir.Value) -> ir.Value:
        pair = builder.load(builder.bitcast(place, ir.VectorType(llvm.I8, 2).as_pointer()), align=1)
        return builder.bitcast(builder.zext(pair, ir.VectorType(llvm.I16, 2)), llvm.I32)

    def add(builder: ir.IRBuilder, total: ir.Value, token: ir.Value, query: ir.Value) -> ir.Value:
        query = builder.load(builder.bitcast(query, words.as_pointer()), align=1)
        token = builder.bitcast(llvm.splat(builder, token, 8), words)
        return builder.add(total, llvm.call(builder, "llvm.x86.avx2.pmadd.wd", total.type, [token, query]))

    return MultiplyAdd(8, 2, load, add)


def _generic() -> MultiplyAdd:
    words = ir.VectorType(llvm.I16, 4)

    def load(builder: ir.IRBuilder, place: ir.Value) -> ir.Value:
        return builder.zext(builder.load(place), llvm.I32)

    def add(builder: ir.IRBuilder, total: ir.Value, token: ir.Value, query: ir.Value) -> ir.Value:
        query = builder.load(builder.bitcast(query, words.as_pointer()), align=1)
        return builder.add(total, builder.mul(llvm.splat(builder, token, 4), builder.sext(query, total.type)))

    return MultiplyAdd(4, 1, load, add)


def each_token(code: llvm.Code, columns: ir.Value, epilogue: llvm.Epilogue) -> None:
    """Generates the loop over the document tokens, for blocks of up to 16, 24 and 32 query tokens.

    Args:
        code: arguments named as those of :func:`~pyterrier_jacolbert.index.kernels.dot_products.update_max_dot`.
        columns: number of query tokens in the block and beyond it; more than 32 count as 32.
        epilogue: turns sums into floats, to whose maximum ``best`` is updated.
    """
    builder, operation = code.builder, multiply_add_for(code.type_of("query.rows"))
    with builder.if_else(builder.icmp_signed("<=", columns, llvm.int64(16))) as (up_to_16, above_16):
        with up_to_16:
            _each_token_of(code, operation, 16, epilogue)
        with above_16, builder.if_else(builder.icmp_signed("<=", columns, llvm.int64(24))) as (up_to_24, above_24):
            with up_to_24:
                _each_token_of(code, operation, 24, epilogue)
            with above_24:
                _each_token_of(code, operation, WIDTH, epilogue)


# Register allocation (values that live through the inner loop; LLVM names the registers):
#
#   layout "vnni" with zmm     16 columns   24 columns        32 columns
#   query registers r          1 zmm        1 zmm and 1 ymm   2 zmm
#   document tokens n          8            4                 4
#   accumulators n * r         8            8                 8
#   best, -zero_point_bias     1 + 1        2 + 2             2 + 2
#
#   layouts with ymm: n = 2 and r = 2, 3 or 4, so 4, 6 or 8 accumulators; "generic": n = 2 and r = 4, 6 or 8.
#
# A step of the query is an operand in memory; a step of a document token is broadcast to all lanes. The loop:
#
#   for (t = 0; t < length; t += n) {
#       for (i = 0; i < n; i++) {
#           place[i] = min(t + i, length - 1);             // past the end, the last token again: no maximum changes
#           row[i] = &rows[(first + place[i]) * dim];
#           for each r: sum[i][r] = -zero_point_bias[block][r];
#       }
#       for (s = 0; s < dim / group; s++)                 // unrolled 4 times
#           for each r: for (i = 0; i < n; i++)
#               sum[i][r] += multiply(broadcast(row[i][s * group .. s * group + group - 1]), query[block][s][r]);
#       for (i = 0; i < n; i++) for each r: {
#           value = epilogue(sum[i][r], place[i], r);
#           best[r] = value > best[r] ? value : best[r];
#       }
#   }
def _each_token_of(code: llvm.Code, operation: MultiplyAdd, columns: int, epilogue: llvm.Epilogue) -> None:
    """Generates the loop over the document tokens for one number of columns: 16, 24 or 32."""
    builder = code.builder
    first, length, block = code["tokens.first"], code["tokens.length"], code["block"]
    registers, at_once = operation.registers(columns), operation.tokens_at_once(columns)
    floats = [ir.VectorType(llvm.F32, len(register)) for register in registers]
    dim = code.shape("tokens.rows", 1)
    steps = builder.udiv(dim, llvm.int64(operation.group))
    step_bytes = WIDTH * operation.group_bytes
    query = builder.bitcast(code.data("query.rows"), llvm.I8.as_pointer())
    query = builder.gep(query, [builder.mul(builder.mul(block, steps), llvm.int64(step_bytes))])
    bias_row = builder.mul(block, llvm.int64(WIDTH))
    negated = [
        builder.neg(
            code.vector("query.zero_point_bias", bias_row, register.start, ir.VectorType(llvm.I32, len(register)))
        )
        for register in registers
    ]
    before = [
        code.vector("best", llvm.int64(0), register.start, kind)
        for register, kind in zip(registers, floats, strict=True)
    ]
    last = builder.sub(length, llvm.int64(1))

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
    for ahead in range(at_once):
        place = llvm.smaller(builder, builder.add(token, llvm.int64(ahead)), last)
        places.append(place)
        rows.append(builder.gep(code.data("tokens.rows"), [builder.mul(builder.add(first, place), dim)]))
    builder.branch(along)

    builder.position_at_end(along)
    step = builder.phi(llvm.I64)
    step.add_incoming(llvm.int64(0), tokens)
    totals = [[builder.phi(value.type) for value in negated] for _ in range(at_once)]
    for of_token in totals:
        for phi, value in zip(of_token, negated, strict=True):
            phi.add_incoming(value, tokens)
    sums: list[list[ir.Value]] = [list(of_token) for of_token in totals]
    for ahead in range(_UNROLLED):
        current = builder.add(step, llvm.int64(ahead))
        query_step = builder.gep(query, [builder.mul(current, llvm.int64(step_bytes))])
        loaded = [
            operation.load(builder, builder.gep(row, [builder.mul(current, llvm.int64(operation.group))]))
            for row in rows
        ]
        for number, register in enumerate(registers):
            place = builder.gep(query_step, [llvm.int64(register.start * operation.group_bytes)])
            for of_token, value in zip(sums, loaded, strict=True):
                of_token[number] = operation.add(builder, of_token[number], value, place)
    following = builder.add(step, llvm.int64(_UNROLLED))
    step.add_incoming(following, along)
    for phis, of_token in zip(totals, sums, strict=True):
        for phi, value in zip(phis, of_token, strict=True):
            phi.add_incoming(value, along)
    builder.cbranch(builder.icmp_signed("<", following, steps), along, end)

    builder.position_at_end(end)
    updated: list[ir.Value] = list(best)
    for place, of_token in zip(places, sums, strict=True):
        for number, register in enumerate(registers):
            value = epilogue(of_token[number], place, register.start)
            updated[number] = llvm.greater(builder, value, updated[number])
    after = builder.add(token, llvm.int64(at_once))
    token.add_incoming(after, end)
    for phi, value in zip(best, updated, strict=True):
        phi.add_incoming(value, end)
    builder.cbranch(builder.icmp_signed("<", after, length), tokens, done)

    builder.position_at_end(done)
    for register, value in zip(registers, updated, strict=True):
        code.store(value, "best", llvm.int64(register.start))
