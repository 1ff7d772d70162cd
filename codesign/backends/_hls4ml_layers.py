"""The hls4ml layer of every integer operation, on whole tensors: flat arrays in row-major order."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import singledispatch
from typing import Any, NamedTuple

import numpy as np

from codesign.core.errors import UnsupportedError
from codesign.core.fixed_point import Fixed, FixedPoint, Overflow, Rounding
from codesign.core.operations import (
    Add,
    Affine,
    LeakyRelu,
    Linear,
    MatMul,
    Max,
    Multiply,
    Operation,
    Patches,
    Quantize,
    Range,
    Relu,
    Reshape,
    Sum,
    Table,
    Transpose,
)

ROUNDINGS = {Rounding.FLOOR: "TRN", Rounding.HALF_UP: "RND", Rounding.HALF_EVEN: "RND_CONV"}
OVERFLOWS = {Overflow.WRAP: "WRAP", Overflow.SATURATE: "SAT"}


class Step(NamedTuple):
    """An hls4ml layer: its attributes, and the formats of what it holds beside its result."""

    attributes: dict[str, Any]
    formats: dict[str, FixedPoint]


@singledispatch
def describe(operation: Operation, result: Range, *inputs: Range) -> Step:
    """Return the hls4ml layer of an operation from the ranges of its result and its inputs.

    Raises:
        UnsupportedError: hls4ml has no layer for the operation, or a constant has more than 53 bits.
    """
    raise UnsupportedError(f"The hls4ml view has no layer for {type(operation).__name__}; build another view.")


@describe.register
def _(operation: Linear, result: Range, x: Range) -> Step:
    inputs, outputs = operation.weight.shape
    weight, weight_format = _constant(operation.weight, operation.weight_fraction_bits)
    bias, bias_format = _constant(operation.bias, operation.bias_fraction_bits)
    attributes = {"class_name": "Dense", "n_in": inputs, "n_out": outputs, "weight_data": weight, "bias_data": bias}
    # The accumulator has the result's format: a partial sum that leaves it wraps, and the last addition wraps it back.
    return Step(attributes, {"weight": weight_format, "bias": bias_format, "accum": container(result)})


@describe.register
def _(operation: Quantize, result: Range, x: Range) -> Step:
    modes = ", ".join(f"nnet::exact::{m}" for m in (ROUNDINGS[operation.rounding], OVERFLOWS[operation.overflow]))
    source = container(x)

    def conversion(target: FixedPoint) -> str:
        if not target.width:
            return "return res_T(0);"
        lost = x.fraction_bits - target.fraction_bits
        # ap_fixed asks for the highest lost bit even where the number has none there: widen it before.
        wide = FixedPoint(max(source.width, lost), max(source.width, lost) - x.fraction_bits, source.is_signed)
        value = "x" if wide == source else f"{cpp_type(wide)}(x)"
        return f"return res_T({cpp_type(target)[:-1]}, {modes}>({value}));"

    if len(set(operation.formats)) == 1:
        body = conversion(operation.formats[0])
    else:
        cases = [f"case {i}: {conversion(f)}" for i, f in enumerate(operation.formats)]
        body = f"switch (i % {len(cases)}) {{ {' '.join(cases)} default: return res_T(0); }}"
    signature = "template <class data_T, class res_T> static res_T quantize(unsigned i, data_T x)"
    return _step("quantize", result, [f"{signature} {{ {body} }}"])


@describe.register
def _(operation: Affine, result: Range, x: Range) -> Step:
    scale, scale_format = _constant(operation.scale, operation.scale_fraction_bits)
    offset, offset_format = _constant(operation.offset, operation.offset_fraction_bits)
    members = [_broadcast("scale_index", scale, result), _broadcast("offset_index", offset, result)]
    return _step(
        "affine", result, members, {"scale": scale, "offset": offset}, {"scale": scale_format, "offset": offset_format}
    )


@describe.register
def _(operation: Relu, result: Range, x: Range) -> Step:
    return _step("relu", result)


@describe.register
def _(operation: LeakyRelu, result: Range, x: Range) -> Step:
    coarse = container(x)
    fine = FixedPoint(coarse.width, coarse.integer_bits - operation.slope_bits, coarse.is_signed)
    return _step("leaky_relu", result, [f"typedef {cpp_type(fine)} fine_t;"])


@describe.register
def _(operation: Sum, result: Range, x: Range) -> Step:
    total = container(result)
    coarse = FixedPoint(total.width, total.integer_bits + operation.mean_bits, total.is_signed)
    return _step("sum", result, [*_axis(x, operation.axis), f"typedef {cpp_type(coarse)} held_t;"])


@describe.register
def _(operation: Max, result: Range, x: Range) -> Step:
    return _step("max", result, _axis(x, operation.axis))


@describe.register
def _(operation: Add, result: Range, x: Range, y: Range) -> Step:
    return _step("add", result, [_broadcast("first_index", x.low, result), _broadcast("second_index", y.low, result)])


@describe.register
def _(operation: Multiply, result: Range, x: Range, y: Range) -> Step:
    return _step(
        "multiply", result, [_broadcast("first_index", x.low, result), _broadcast("second_index", y.low, result)]
    )


@describe.register
def _(operation: MatMul, result: Range, x: Range, y: Range) -> Step:
    *_, rows, columns = result.shape
    members = [f"static const unsigned entries = {x.shape[-1]};", f"static const unsigned columns = {columns};"]
    starts = [(*result.shape[:-2], rows, 1), (*result.shape[:-2], 1, columns)]
    for name, operand, start in zip(("first", "second"), (x, y), starts, strict=True):
        numbered = np.arange(operand.low.size).reshape(operand.shape)
        first = numbered[..., :1] if name == "first" else numbered[..., :1, :]
        members.append(_table(f"{name}_index", np.broadcast_to(np.broadcast_to(first, start), result.shape)))
    return _step("matmul", result, members)


@describe.register
def _(operation: Table, result: Range, x: Range) -> Step:
    values, values_format = _constant(operation.values, operation.fraction_bits)
    width = container(x).width
    members = [
        f"typedef {cpp_type(FixedPoint(width, width, container(x).is_signed))} whole_t;",
        f"static const int low = {operation.low};",
    ]
    return _step("table", result, members, {"values": values}, {"values": values_format})


@describe.register(Reshape)
@describe.register(Transpose)
@describe.register(Patches)
def _(operation: Operation, result: Range, x: Range) -> Step:
    numbered = Fixed(np.arange(1, x.low.size + 1).reshape(1, *x.shape), 0)  # what arrives where; 0 is a padded zero
    return _step("rearrange", result, [_table("data_index", operation.compute(numbered).mantissa - 1)])


def container(values: Range) -> FixedPoint:
    """Return the narrowest C++ type that holds a tensor: at least one bit."""
    narrow = values.format()
    return narrow if narrow.width else FixedPoint(1, 1 - values.fraction_bits, is_signed=False)


def cpp_type(held: FixedPoint) -> str:
    """Return the C++ name of a format."""
    return f"nnet::exact::{held}"


def _step(
    function: str,
    result: Range,
    members: Sequence[str] = (),
    constants: dict[str, np.ndarray] | None = None,
    formats: dict[str, FixedPoint] | None = None,
) -> Step:
    constants = constants or {}
    attributes = {
        "class_name": "ExactStep",
        "function": function,
        "pattern": "",
        "n_out": result.low.size,
        "members": list(members),
        "constants": list(constants),
        **{f"{name}_data": values.ravel() for name, values in constants.items()},
    }
    return Step(attributes, formats or {})


def _constant(mantissa: np.ndarray, fraction_bits: int) -> tuple[np.ndarray, FixedPoint]:
    largest = int(np.abs(mantissa).max(initial=0))
    if largest > 1 << 53:
        raise UnsupportedError(
            f"A constant has {largest.bit_length()} bits; allowed in hls4ml: 53. Quantize the weights to fewer bits."
        )
    held = Range(mantissa, mantissa, fraction_bits)
    return Fixed(mantissa, fraction_bits).to_float(), container(held)


def _axis(x: Range, axis: int) -> list[str]:
    sizes = {"outer": math.prod(x.shape[:axis]), "entries": x.shape[axis], "inner": math.prod(x.shape[axis + 1 :])}
    return [f"static const unsigned {name} = {size};" for name, size in sizes.items()]


def _broadcast(name: str, values: np.ndarray, result: Range) -> str:
    return _table(name, np.broadcast_to(np.arange(values.size).reshape(values.shape), result.shape))


def _table(name: str, indices: np.ndarray) -> str:
    flat = indices.ravel().tolist()
    if flat == list(range(len(flat))):
        return f"static int {name}(unsigned i) {{ return i; }}"
    if not any(flat):
        return f"static int {name}(unsigned) {{ return 0; }}"
    body = f"static const int table[] = {{{', '.join(map(str, flat))}}}; return table[i];"
    return f"static int {name}(unsigned i) {{ {body} }}"
