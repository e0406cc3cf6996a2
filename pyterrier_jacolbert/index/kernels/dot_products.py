"""Intrinsics for the dot products of 8-bit document tokens and a packed query, and their maxima.

The layout of the query (:mod:`~pyterrier_jacolbert.index.kernels.query_layout`) determines the instruction. All layouts
compute the same integers:

=========  ========  ====================================================================================
layout     operands  instruction
=========  ========  ====================================================================================
"amx"      u8 x s8   tdpbusd of AMX (:mod:`~pyterrier_jacolbert.index.kernels.amx`): 64 dimensions of 16 document
                     tokens and 16 query tokens at once
"vnni"     u8 x s8   vpdpbusd of AVX-512 VNNI or AVX-VNNI: 4 dimensions of a document token and 16 or 8 query tokens
"avx2"     s16       vpmaddwd: 2 dimensions of a document token and 8 query tokens
"generic"  s16       multiplication and addition: 1 dimension of a document token and 4 query tokens
=========  ========  ====================================================================================

:mod:`~pyterrier_jacolbert.index.kernels.vector_dots` has the loop of the last three. Accumulators start from the
negated zero-point bias instead of 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llvmlite import ir
from numba import types

from pyterrier_jacolbert.index.kernels import amx, llvm, vector_dots
from pyterrier_jacolbert.index.kernels.query_layout import WIDTH

#: The layouts whose instructions this processor has, fastest first.
LAYOUTS = tuple(
    name
    for name, available in (
        ("amx", amx.permitted()),
        ("vnni", "avx512vnni" in llvm.FEATURES or "avxvnni" in llvm.FEATURES),
        ("avx2", "avx2" in llvm.FEATURES),
        ("generic", True),
    )
    if available
)


# for (t = 0; t < length; t++)                           // several tokens at once; see vector_dots and amx
#     for (q = 0; q < 32; q++) {
#         sum = -zero_point_bias[block][q] + sum over k of rows[first + t][k] * query[block][q][k];
#         value = (float)sum * factors[t];               // epilogue: vcvtdq2ps, vmulps
#         best[q] = value > best[q] ? value : best[q];   // vmaxps
#     }
@llvm.intrinsic
def update_max_dot(
    typing_context: Any, tokens: Any, query: Any, block: Any, best: Any, next_row: Any
) -> tuple[Any, Any]:
    """Updates ``best`` to the maximum of the products of document tokens with each query token of a block.

    ``best[q] = max(best[q], factors[t] * (rows[first + t] . query[q] - zero_point_bias[block, q]))`` for
    ``t < length``.

    Arguments as the kernel sees them:
        tokens: :class:`~pyterrier_jacolbert.index.kernels.arguments.TokenBlock`.
        query: :class:`~pyterrier_jacolbert.index.kernels.query_layout.PackedQuery`.
        block: block of the query.
        best: float32 ``(32,)``; elements of padding may be updated, too.
        next_row: first of the rows that are needed next, for "amx" to prefetch.
    """
    arguments = {"tokens": tokens, "query": query, "block": block, "best": best, "next_row": next_row}

    def generate(context: Any, builder: ir.IRBuilder, _: Any, values: Sequence[ir.Value]) -> ir.Value:
        code = llvm.Code(context, builder, arguments, values)

        def epilogue(total: ir.Value, token: ir.Value, _: int) -> ir.Value:
            return _times_factor(code, total, token)

        _each_token(code, epilogue, code["next_row"])
        return context.get_dummy_value()

    return types.void(*arguments.values()), generate


# for each t, q:
#     value = (float)sum * factors[t] * scales[block][q];  // sum as in update_max_dot; vcvtdq2ps, vmulps, vmulps
#     out[first + t][block][q] = value;                    // vmovups
#     best[q] = value > best[q] ? value : best[q];
@llvm.intrinsic
def write_dots(typing_context: Any, tokens: Any, query: Any, block: Any, best: Any, out: Any) -> tuple[Any, Any]:
    """Writes the product of each document token with each query token of a block, and updates ``best`` to the maximum.

    ``out[first + t, block, q] = scales[block, q] * p`` for ``t < length``, where ``p`` is the product that
    :func:`update_max_dot` computes.

    Arguments beyond those of :func:`update_max_dot`, as the kernel sees them:
        out: float32 ``(n, b, 32)``.
    """
    arguments = {"tokens": tokens, "query": query, "block": block, "best": best, "out": out}

    def generate(context: Any, builder: ir.IRBuilder, _: Any, values: Sequence[ir.Value]) -> ir.Value:
        code = llvm.Code(context, builder, arguments, values)
        blocks = code.shape("out", 1)

        def epilogue(total: ir.Value, token: ir.Value, column: int) -> ir.Value:
            value = _times_scales(code, total, token, column)
            row = builder.add(builder.mul(builder.add(code["tokens.first"], token), blocks), code["block"])
            code.store(value, "out", builder.mul(row, llvm.int64(WIDTH)), column)
            return value

        _each_token(code, epilogue)
        return context.get_dummy_value()

    return types.void(*arguments.values()), generate


# for each t, q:
#     part = (float)sum * factors[t] * scales[block][q];   // sum as in update_max_dot; vcvtdq2ps, vmulps, vmulps
#     value = norm_factors[t] * (products[ids[t]][block][q] + part);  // vaddps, vmulps
#     best[q] = value > best[q] ? value : best[q];         // vmaxps
@llvm.intrinsic
def update_max_dot_with_centroid(
    typing_context: Any, tokens: Any, query: Any, block: Any, best: Any, centroids: Any
) -> tuple[Any, Any]:
    """Updates ``best`` to the maximum of the sums of a document token's centroid and residual with each query token.

    ``best[q] = max(best[q], norm_factors[t] * (products[ids[t], block, q] + scales[block, q] * p))`` for
    ``t < length``, where ``p`` is the product that :func:`update_max_dot` computes.

    Arguments beyond those of :func:`update_max_dot`, as the kernel sees them:
        centroids: :class:`~pyterrier_jacolbert.index.kernels.arguments.CentroidTerms`.
    """
    arguments = {"tokens": tokens, "query": query, "block": block, "best": best, "centroids": centroids}

    def generate(context: Any, builder: ir.IRBuilder, _: Any, values: Sequence[ir.Value]) -> ir.Value:
        code = llvm.Code(context, builder, arguments, values)
        blocks = code.shape("query.scales", 0)

        def epilogue(total: ir.Value, token: ir.Value, column: int) -> ir.Value:
            part = _times_scales(code, total, token, column)
            norm_factor = llvm.splat(builder, code.element("centroids.norm_factors", token), total.type.count)
            centroid = builder.zext(code.element("centroids.ids", token), llvm.I64)
            row = builder.mul(builder.add(builder.mul(centroid, blocks), code["block"]), llvm.int64(WIDTH))
            return builder.fmul(
                norm_factor, builder.fadd(code.vector("centroids.products", row, column, part.type), part)
            )

        _each_token(code, epilogue)
        return context.get_dummy_value()

    return types.void(*arguments.values()), generate


def _times_factor(code: llvm.Code, total: ir.Value, token: ir.Value) -> ir.Value:
    """Returns the sums of a document token as floats, times the factor of the token."""
    builder = code.builder
    factor = llvm.splat(builder, code.element("tokens.factors", token), total.type.count)
    return builder.fmul(builder.sitofp(total, factor.type), factor)


def _times_scales(code: llvm.Code, total: ir.Value, token: ir.Value, column: int) -> ir.Value:
    """Returns the sums of a document token as floats, times the factor of the token and the scales of the query."""
    value = _times_factor(code, total, token)
    row = code.builder.mul(code["block"], llvm.int64(WIDTH))
    return code.builder.fmul(value, code.vector("query.scales", row, column, value.type))


def _each_token(code: llvm.Code, epilogue: llvm.Epilogue, next_row: ir.Value | None = None) -> None:
    """Generates the loop over the document tokens, which updates ``best`` to the maximum that ``epilogue`` returns.

    Args:
        code: arguments named as those of :func:`update_max_dot`.
        epilogue: turns the sums of a document token into floats.
        next_row: first of the rows to prefetch, if any.
    """
    builder = code.builder
    columns = builder.sub(code["query.tokens"], builder.mul(code["block"], llvm.int64(WIDTH)))
    if amx.is_tiled(code.type_of("query.rows")):
        amx.each_token(code, columns, epilogue, next_row)
    else:
        vector_dots.each_token(code, columns, epilogue)
