"""Which floating-point type computes an operation without rounding: proven from the ranges of its inputs."""

from __future__ import annotations

import numpy as np

from codesign.core.fixed_point import Overflow
from codesign.core.operations import (
    Add,
    Affine,
    Input,
    Linear,
    MatMul,
    Multiply,
    Operation,
    Quantize,
    Range,
    Sum,
    Table,
)

FLOAT32_BITS, FLOAT64_BITS = 24, 53


def float_type(operation: Operation, result: Range, *inputs: Range) -> type[np.floating] | None:
    """Return the smaller of float32 and float64 that holds every number on the way to a result, or None."""
    bits = largest_mantissa(operation, result, *inputs).bit_length()
    exponent = max(abs(r.fraction_bits) for r in (result, *inputs))
    if bits <= FLOAT32_BITS and exponent < 50:
        return np.float32
    return np.float64 if bits <= FLOAT64_BITS and exponent < 400 else None


def largest_mantissa(operation: Operation, result: Range, *inputs: Range) -> int:
    """Return a bound of every mantissa that occurs between inputs and result, in whatever order terms are added."""
    sizes = [np.maximum(np.abs(r.low), np.abs(r.high)).astype(object) for r in inputs]
    grid = result.fraction_bits
    bound = max(abs(int(result.low.min())), abs(int(result.high.max())))
    if isinstance(operation, Linear):
        product = inputs[0].fraction_bits + operation.weight_fraction_bits
        terms = sizes[0] @ np.abs(operation.weight).astype(object) << (grid - product)
        terms = terms + (np.abs(operation.bias).astype(object) << (grid - operation.bias_fraction_bits))
    elif isinstance(operation, Affine):
        product = inputs[0].fraction_bits + operation.scale_fraction_bits
        terms = sizes[0] * np.abs(operation.scale).astype(object) << (grid - product)
        terms = terms + (np.abs(operation.offset).astype(object) << (grid - operation.offset_fraction_bits))
    elif isinstance(operation, Sum):
        terms = sizes[0].sum(axis=operation.axis)
    elif isinstance(operation, Add):
        terms = sum(size << (grid - r.fraction_bits) for size, r in zip(sizes, inputs, strict=True))
    elif isinstance(operation, Multiply):
        terms = sizes[0] * sizes[1]
    elif isinstance(operation, MatMul):
        terms = sizes[0] @ sizes[1]
    elif isinstance(operation, Table):
        terms = sizes[0] + abs(operation.low)
    elif isinstance(operation, Input):
        terms = 2 * bound + 1  # a half-up rounding adds half a step
    elif isinstance(operation, Quantize):
        finer = max(0, *(f.fraction_bits - inputs[0].fraction_bits for f in operation.formats if f.width), 0)
        widest = max(f.width for f in operation.formats)
        half = max((inputs[0].fraction_bits - f.fraction_bits for f in operation.formats if f.width), default=0)
        wraps = operation.overflow is Overflow.WRAP
        terms = (int(sizes[0].max()) << (finer if wraps else 0)) + (2 << widest) + (1 << max(half, 1))
    else:
        terms = 0
    return max(bound, int(np.max(terms)))
