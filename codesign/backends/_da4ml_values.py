"""Arithmetic on da4ml's variables, exact for integers: what the library lacks, and ways around what it gets wrong.

A value is an int (a constant) or a `FixedVariable`; tensors are object arrays of values.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any

import numpy as np
from da4ml.trace import FixedVariable, HWConfig
from da4ml.trace.ops.reduce_utils import reduce as balanced

from codesign.core.fixed_point import FixedPoint, Overflow, Rounding, fit, shift
from codesign.core.operations import Quantize

Value = Any
HARDWARE = HWConfig(adder_size=1, carry_size=-1, latency_cutoff=-1)  # every adder is one unit of delay
# LUTs of a bit of a partial product, which da4ml counts as nothing: adders take in half of them, the others need a LUT
# of their own, of which Yosys saves a fifth. Chosen on twelve designs of products; docs/results.md.
GATE_LUT = 0.4


def constants(values: np.ndarray) -> np.ndarray:
    """Return the values with every variable that can only be one number replaced by this number."""
    flat = [folded(v) for v in values.ravel()]
    result = np.empty(len(flat), dtype=object)
    result[:] = flat
    return result.reshape(values.shape)


def folded(v: Value) -> Value:
    """Return the value, as an int if it can only be one number."""
    return int(v.low) if isinstance(v, FixedVariable) and v.low == v.high else v


def scale(values: np.ndarray, bits: int) -> np.ndarray:
    """Return the values times 2^bits."""
    return values * (1 << bits) if bits else values


def each(function: Callable[[Value], Value], values: np.ndarray) -> np.ndarray:
    """Return the function of every value."""
    return np.frompyfunc(function, 1, 1)(values)


def looked_up(v: Value, entries: np.ndarray, low: int) -> Value:
    """Return the entry for mantissa v of a table that begins with mantissa `low`.

    A variable's range may be wider than what can reach the table: what the table has no entry for never happens.
    """
    v = _fit(v, FixedPoint.holding(low, low + len(entries) - 1, 0), Overflow.WRAP)
    if not isinstance(v, FixedVariable):
        return int(entries[v - low])
    mantissas = np.arange(int(v.low), int(v.high) + 1, int(v.step))
    taken = entries[(mantissas - low).clip(0, len(entries) - 1)]
    return int(taken[0]) if (taken == taken[0]).all() else v.lookup(taken.astype(np.float64))


def leaky(v: Value, slope_bits: int) -> Value:
    """Return v * 2^slope_bits where v >= 0, else v."""
    if not isinstance(v, FixedVariable):
        return v << slope_bits if v >= 0 else v
    if v.low >= 0:
        return v * (1 << slope_bits)
    return v if v.high < 0 else select(v.is_negative(), v, v * (1 << slope_bits))


def select(bit: Value, if_one: Value, if_zero: Value) -> Value:
    """Return one of two values by a variable of one bit.

    da4ml looks through a key that is a slice of another variable and then asks for that variable's highest bit, which
    its interpreter gets wrong for unsigned ones of several bits (release 0.6.0). An inverted bit is no slice.
    """
    if not isinstance(bit, FixedVariable):
        return if_one if bit else if_zero
    return (~bit).msb_mux(if_zero, if_one) if bit.opr == "wrap" else bit.msb_mux(if_one, if_zero)


def maximum(a: Value, b: Value) -> Value:
    """Return the larger of two values."""
    if isinstance(a, FixedVariable):
        return a.max_of(b)
    return b.max_of(a) if isinstance(b, FixedVariable) else max(a, b)


def product(a: Value, b: Value) -> Value:
    """Return a * b as a tree of additions: one for each bit of the value that has fewer.

    da4ml's own multiplication is one operation that no register cuts, for which Yosys takes a DSP, or, told not to, a
    third more LUTs than for this tree. Negated variables are taken back to what they negate: beside a constant, da4ml's
    choice of one of two values loses the sign when a pipeline is retimed (release 0.6.0).
    """
    if not (isinstance(a, FixedVariable) and isinstance(b, FixedVariable)):
        return a * b
    if a._factor < 0 or b._factor < 0:
        return -product(-a, b) if a._factor < 0 else -product(a, -b)
    a, b = sorted((a, b), key=lambda v: -sum(v.kif))
    is_signed, integer_bits, fraction_bits = b.kif
    parts = []
    for i in range(-fraction_bits, integer_bits + is_signed):
        part = _gated(a, b.quantize(0, i + 1, -i)) * 2.0**i
        parts.append(-part if is_signed and i == integer_bits else part)
    return balanced(lambda x, y: x + y, np.array(parts, dtype=object))


def reduced(function: Callable[[Value, Value], Value], x: np.ndarray, axis: int, keep: bool) -> np.ndarray:
    """Reduce one axis by a tree that takes the earliest values first; constants are folded before."""
    moved = np.moveaxis(x, axis, -1)
    result = np.empty(moved.shape[:-1], dtype=object)
    for index in np.ndindex(result.shape):
        variables = [v for v in moved[index] if isinstance(v, FixedVariable)]
        parts = [v for v in moved[index] if not isinstance(v, FixedVariable)]
        if variables:
            parts.insert(0, balanced(function, np.array(variables, dtype=object)))
        result[index] = reduce(function, parts)
    return np.expand_dims(result, axis) if keep else result


def _gated(v: FixedVariable, bit: Value) -> Value:
    """Return the value, or zero where a variable of one bit is."""
    gated = select(bit, v, 0)
    if isinstance(gated, FixedVariable) and gated.opr == "msb_mux":
        gated = gated._with(cost=gated.cost + GATE_LUT * sum(v.kif))
    return gated


def matrix_product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return a @ b; a vector is a row on the left and a column on the right, as in numpy."""
    rows, columns = (a[None] if a.ndim == 1 else a), (b[:, None] if b.ndim == 1 else b)
    terms = np.frompyfunc(product, 2, 1)(np.expand_dims(rows, -1), np.expand_dims(columns, -3))
    y = reduced(lambda x, z: x + z, terms, terms.ndim - 2, False)
    return y[0] if a.ndim == 1 else y[..., 0] if b.ndim == 1 else y


def quantize(operation: Quantize, x: np.ndarray, point: int, grid: int) -> np.ndarray:
    """Return the result of a quantization, from the binary point of x to the result's."""
    result = np.empty(x.shape, dtype=object)
    for index in np.ndindex(x.shape):
        target = operation.formats[index[-1] if len(operation.formats) > 1 else 0]
        if target.width == 0:
            result[index] = 0
        elif isinstance(x[index], FixedVariable):
            rounded = _round(x[index], point - target.fraction_bits, operation.rounding)
            result[index] = _fit(rounded, target, operation.overflow) * (1 << (grid - target.fraction_bits))
        else:
            mantissa = shift(np.array([x[index]]), target.fraction_bits - point, operation.rounding)
            result[index] = int(fit(mantissa, target, operation.overflow)[0]) << (grid - target.fraction_bits)
    return result


def _floor(v: Value, lost: int) -> Value:
    """Return floor(v / 2^lost)."""
    if not isinstance(v, FixedVariable):
        return v >> lost
    is_signed, integer_bits, _ = v.kif
    if is_signed + integer_bits <= lost:  # only the sign is left
        return folded(-v.is_negative())
    return folded(v.quantize(is_signed, integer_bits, -lost) * 2.0**-lost)


def _round(v: FixedVariable, lost: int, rounding: Rounding) -> Value:
    """Return v / 2^lost, rounded to an integer.

    Half to even is half up, but where the bits lost from v + half are all zero (a tie) the last bit is cleared.
    """
    if lost <= 0:
        return v * (1 << -lost)
    if rounding is Rounding.FLOOR:
        return _floor(v, lost)
    up = v + (1 << (lost - 1))
    if rounding is Rounding.HALF_UP or v.step > 1 << (lost - 1):
        return _floor(up, lost)
    no_tie = up.quantize(0, lost, 0).unary_bit_op("any")
    return select(no_tie, _floor(up, lost), _floor(up, lost + 1) * 2)


def _fit(v: Value, target: FixedPoint, overflow: Overflow) -> Value:
    """Return an integer v in the range of `target`."""
    v = folded(v)
    if not isinstance(v, FixedVariable):
        return int(fit(np.array([v]), target, overflow)[0])
    if target.minimum <= v.low and v.high <= target.maximum:
        return v
    if overflow is Overflow.SATURATE:
        return _fit(v.max_of(target.minimum).min_of(target.maximum), target, Overflow.WRAP)
    if v.low < 0 and not target.is_signed and target.width > v.kif[1] + 1:
        v = v + v.is_negative() * (
            1 << target.width
        )  # da4ml would extend with zeros, where two's complement has the sign
    return v.quantize(int(target.is_signed), target.width - target.is_signed, 0)
