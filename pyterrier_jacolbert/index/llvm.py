"""What the vector instructions are written with: LLVM's types, what this processor has, and arrays within the code."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import binding, ir
from numba import types
from numba.core import cgutils, config
from numba.extending import intrinsic as _intrinsic

I8, I16, I32, I64, F32 = ir.IntType(8), ir.IntType(16), ir.IntType(32), ir.IntType(64), ir.FloatType()
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


class Code:
    """The arrays among an intrinsic's arguments: their places in memory and their shapes."""

    def __init__(self, context: Any, builder: ir.IRBuilder, given: Sequence[Any], values: Sequence[ir.Value]) -> None:  # noqa: ANN401
        self.builder = builder
        self.values = values
        self._given = given
        self._arrays = {
            number: context.make_array(kind)(context, builder, value)
            for number, (kind, value) in enumerate(zip(given, values, strict=True))
            if isinstance(kind, types.Array)
        }

    def data(self, argument: int) -> ir.Value:
        """Where an array's elements are."""
        return self._arrays[argument].data

    def shape(self, argument: int, axis: int) -> ir.Value:
        """How long an array is along an axis."""
        return self.builder.extract_value(self._arrays[argument].shape, axis)

    def vector(self, argument: int, first: ir.Value, beyond: int, kind: ir.VectorType) -> ir.Value:
        """Loads the elements from ``first + beyond`` on."""
        place = self.builder.add(first, int64(beyond))
        pointer = self.builder.bitcast(self.builder.gep(self.data(argument), [place]), kind.as_pointer())
        return self.builder.load(pointer, align=1)

    def ask_for_row(self, argument: int, row: ir.Value) -> None:
        """Asks the memory for the first 128 bytes of a row, to be read soon; there need not be such a row."""
        kind, builder = self._given[argument], self.builder
        first = builder.mul(row, int64(kind.dtype.bitwidth // 8))
        for axis in range(1, kind.ndim):
            first = builder.mul(first, self.shape(argument, axis))
        data = builder.bitcast(self.data(argument), I8.as_pointer())
        hints = [ir.Constant(I32, hint) for hint in (0, 3, 1)]  # to read, to keep, data
        for line in (0, 64):
            place = builder.gep(data, [builder.add(first, int64(line))])
            call(builder, "llvm.prefetch.p0", ir.VoidType(), [place, *hints])


def int64(value: int) -> ir.Constant:
    """A number, as 64 bits."""
    return ir.Constant(I64, value)


def splat(builder: ir.IRBuilder, value: ir.Value, lanes: int) -> ir.Value:
    """A vector that is one value in every lane."""
    kind = ir.VectorType(value.type, lanes)
    one = builder.insert_element(ir.Constant(kind, ir.Undefined), value, ir.Constant(I32, 0))
    zeros = ir.Constant(ir.VectorType(I32, lanes), [0] * lanes)
    return builder.shuffle_vector(one, ir.Constant(kind, ir.Undefined), zeros)


def call(builder: ir.IRBuilder, name: str, result: ir.Type, arguments: Sequence[ir.Value]) -> ir.Value:
    """Calls one of LLVM's intrinsic functions."""
    kind = ir.FunctionType(result, [argument.type for argument in arguments])
    declared = cgutils.get_or_insert_function(builder.module, kind, name)  # type: ignore[no-untyped-call] # numba's
    return builder.call(declared, arguments)
