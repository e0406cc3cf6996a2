"""Helpers for writing intrinsics: LLVM types, the features of the processor, and access to arguments by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from llvmlite import binding, ir
from numba import types
from numba.core import cgutils, config
from numba.extending import intrinsic as _intrinsic

I8, I16, I32, I64, F32 = ir.IntType(8), ir.IntType(16), ir.IntType(32), ir.IntType(64), ir.FloatType()
#: Turns a 32-bit dot product of one document token into the floats that are compared or stored. Arguments: the sums of
#: one register, int32 ``(lanes,)``; the number of the document token; the first query token of the register.
Epilogue = Callable[[ir.Value, ir.Value, int], ir.Value]
#: Callers of an intrinsic omit its first argument, the typing context; the type that numba declares does not.
intrinsic: Callable[[Any], Any] = _intrinsic
#: numba has no type annotations for these.
_config: Any = config
_named_tuple: Any = types.BaseNamedTuple


def target_features() -> frozenset[str]:
    """Returns the LLVM features of the processor that numba compiles for.

    That is this processor, unless ``NUMBA_CPU_NAME`` or ``NUMBA_CPU_FEATURES`` name another.
    """
    if _config.CPU_FEATURES is not None:
        flags = {flag[1:]: flag.startswith("+") for flag in _config.CPU_FEATURES.split(",") if flag}
    elif _config.CPU_NAME is not None:
        return frozenset()
    else:
        flags = dict(binding.get_host_cpu_features())
    return frozenset(name for name, enabled in flags.items() if enabled)


FEATURES = target_features()


class Code:
    """The arguments of an intrinsic, by name, while its code is generated.

    The fields of a named tuple have dotted names: argument ``query`` with a field ``rows`` gives ``"query.rows"``.

    Args:
        context: numba's target context.
        builder: appends the instructions.
        arguments: numba type of each argument, by name, in the order of the signature.
        values: LLVM value of each argument.
    """

    def __init__(
        self, context: Any, builder: ir.IRBuilder, arguments: Mapping[str, Any], values: Sequence[ir.Value]
    ) -> None:
        self.builder = builder
        self._types: dict[str, Any] = {}
        self._values: dict[str, ir.Value] = {}
        for (name, kind), value in zip(arguments.items(), values, strict=True):
            self._add(name, kind, value)
        self._arrays = {
            name: context.make_array(kind)(context, builder, self._values[name])
            for name, kind in self._types.items()
            if isinstance(kind, types.Array)
        }

    def _add(self, name: str, kind: Any, value: ir.Value) -> None:
        if isinstance(kind, _named_tuple):
            for number, (field, field_type) in enumerate(zip(kind.fields, kind.types, strict=True)):
                self._add(f"{name}.{field}", field_type, self.builder.extract_value(value, number))
        else:
            self._types[name], self._values[name] = kind, value

    def __getitem__(self, name: str) -> ir.Value:
        return self._values[name]

    def type_of(self, name: str) -> Any:
        """Returns the numba type of an argument."""
        return self._types[name]

    def data(self, name: str) -> ir.Value:
        """Returns a pointer to the first element of an array."""
        return self._arrays[name].data

    def shape(self, name: str, axis: int) -> ir.Value:
        """Returns the length of an array along an axis."""
        return self.builder.extract_value(self._arrays[name].shape, axis)

    def element(self, name: str, index: ir.Value) -> ir.Value:
        """Loads one element of an array; ``index`` counts elements from the first."""
        return self.builder.load(self.builder.gep(self.data(name), [index]))

    def vector(self, name: str, index: ir.Value, offset: int, kind: ir.VectorType) -> ir.Value:
        """Loads a vector of consecutive elements, from element ``index + offset`` on."""
        place = self.builder.add(index, int64(offset))
        pointer = self.builder.bitcast(self.builder.gep(self.data(name), [place]), kind.as_pointer())
        return self.builder.load(pointer, align=1)

    def store(self, value: ir.Value, name: str, index: ir.Value, offset: int = 0) -> None:
        """Stores a vector in consecutive elements, from element ``index + offset`` on."""
        place = self.builder.add(index, int64(offset))
        pointer = self.builder.gep(self.data(name), [place])
        self.builder.store(value, self.builder.bitcast(pointer, value.type.as_pointer()), align=1)

    def prefetch_row(self, name: str, row: ir.Value) -> None:
        """Prefetches the first 128 bytes of a row; the row may be out of range."""
        kind, builder = self._types[name], self.builder
        first = builder.mul(row, int64(kind.dtype.bitwidth // 8))
        for axis in range(1, kind.ndim):
            first = builder.mul(first, self.shape(name, axis))
        data = builder.bitcast(self.data(name), I8.as_pointer())
        hints = [ir.Constant(I32, hint) for hint in (0, 3, 1)]  # for reading, into all caches, as data
        for line in (0, 64):
            place = builder.gep(data, [builder.add(first, int64(line))])
            call(builder, "llvm.prefetch.p0", ir.VoidType(), [place, *hints])


def int64(value: int) -> ir.Constant:
    """Returns a 64-bit constant."""
    return ir.Constant(I64, value)


def splat(builder: ir.IRBuilder, value: ir.Value, lanes: int) -> ir.Value:
    """Returns a vector with the same value in every lane."""
    kind = ir.VectorType(value.type, lanes)
    one = builder.insert_element(ir.Constant(kind, ir.Undefined), value, ir.Constant(I32, 0))
    zeros = ir.Constant(ir.VectorType(I32, lanes), [0] * lanes)
    return builder.shuffle_vector(one, ir.Constant(kind, ir.Undefined), zeros)


def smaller(builder: ir.IRBuilder, value: ir.Value, other: ir.Value) -> ir.Value:
    """Returns the smaller of two signed integers."""
    return builder.select(builder.icmp_signed("<", value, other), value, other)


def greater(builder: ir.IRBuilder, value: ir.Value, other: ir.Value) -> ir.Value:
    """Returns ``value > other ? value : other`` of two float vectors, lane by lane."""
    return builder.select(builder.fcmp_ordered(">", value, other), value, other)


def call(builder: ir.IRBuilder, name: str, result: ir.Type, arguments: Sequence[ir.Value]) -> ir.Value:
    """Calls one of LLVM's intrinsic functions."""
    kind = ir.FunctionType(result, [argument.type for argument in arguments])
    declared = cgutils.get_or_insert_function(builder.module, kind, name)  # type: ignore[no-untyped-call] # numba's
    return builder.call(declared, arguments)
