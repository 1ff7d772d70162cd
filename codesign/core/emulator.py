"""The fast emulator: the operations of an integer network on floating-point numbers that hold every integer exactly.

A step computes in float32 where no number on its way reaches 2^24, in float64 where none reaches 2^53: there integers,
sums, products and multiplications by powers of two are exact, in whatever order terms are added, and BLAS
and vector units are several times faster than on int64. The batch is the last axis, so that what runs along it is long.
`IntegerNetwork.trace` computes the same on int64, one definition after another; tests hold both equal.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import singledispatch
from typing import Any, NamedTuple

import numpy as np

from codesign.core.fixed_point import Fixed, Overflow, Rounding
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
from codesign.core.precision import float_type

CACHE_ELEMENTS = 1 << 17  # of the largest tensor at once, so that a chunk stays in the cache


class Step(NamedTuple):
    """One step, ready to run.

    Attributes:
        operation: What is computed.
        kind: float32 or float64: the type of the computation and of its result.
        constants: Arrays of this type, as `_constants` arranged them for `_run`.
        is_skipped: The step after it makes up for it.
    """

    operation: Operation
    kind: type[np.floating]
    constants: tuple[Any, ...]
    is_skipped: bool


def prepare(operations: Sequence[Operation], ranges: Sequence[Range]) -> tuple[Step, ...]:
    """Return the steps after the input; none if a number on the way may need more than 53 bits."""
    steps = []
    for i, operation in enumerate(operations[1:], 1):
        inputs = [ranges[j] for j in operation.inputs]
        kind = float_type(operation, ranges[i], *inputs)
        if kind is None:
            return ()
        constants = _constants(operation, ranges[i], *inputs)
        arrays = tuple(c.astype(kind) if isinstance(c, np.floating | np.ndarray) else c for c in constants)
        steps.append(Step(operation, kind, arrays, _is_absorbed(operations, i)))
    return tuple(steps)


def run(steps: Sequence[Step], ranges: Sequence[Range], mantissas: np.ndarray) -> np.ndarray:
    """Return the output mantissas (batch, *output_shape), int64, of input mantissas (batch, *input_shape)."""
    rows = max(16, CACHE_ELEMENTS // max(bounds.low.size for bounds in ranges))
    outputs = np.empty((len(mantissas), *ranges[-1].shape), dtype=np.int64)
    last_use = {j: i for i, step in enumerate(steps, 1) for j in step.operation.inputs}
    for start in range(0, len(mantissas), rows):
        chunk = np.moveaxis(mantissas[start : start + rows], 0, -1)
        results: dict[int, np.ndarray] = {0: chunk.astype(steps[0].kind, order="C")}
        for i, step in enumerate(steps, 1):
            taken = [results[j].astype(step.kind, copy=False) for j in step.operation.inputs]
            results[i] = taken[0] if step.is_skipped else _run(step.operation, step.constants, *taken)
            for j in {j for j in step.operation.inputs if last_use[j] == i}:
                del results[j]
        outputs[start : start + rows] = np.moveaxis(results[len(steps)], -1, 0)
    return outputs


def _is_absorbed(operations: Sequence[Operation], step: int) -> bool:
    """Return whether a ReLU is followed by nothing but quantizers that saturate at zero anyway."""
    takers = [o for o in operations if step in o.inputs]
    return (
        isinstance(operations[step], Relu)
        and bool(takers)
        and all(isinstance(t, Quantize) and t.overflow is Overflow.SATURATE for t in takers)
        and all(not f.minimum for t in takers if isinstance(t, Quantize) for f in t.formats)
    )


@singledispatch
def _constants(operation: Operation, result: Range, *inputs: Range) -> tuple[Any, ...]:
    """Return what `_run` needs beside the operation."""
    return ()


@singledispatch
def _run(operation: Operation, constants: tuple[Any, ...], *inputs: np.ndarray) -> np.ndarray:
    """Return the result of an operation on mantissas (*shape, batch)."""
    raise NotImplementedError(type(operation).__name__)


def _power(bits: int) -> float:
    return float(2.0**bits)


@_constants.register
def _(operation: Quantize, result: Range, x: Range) -> tuple[Any, ...]:
    def column(values: Sequence[float]) -> np.ndarray:
        array = np.array(values, dtype=np.float64)
        return array[0] if (array == array[0]).all() else array[:, None]

    grid = result.fraction_bits
    down = [_power(f.fraction_bits - x.fraction_bits) if f.width else 0.0 for f in operation.formats]
    up = [_power(grid - f.fraction_bits) if f.width else 1.0 for f in operation.formats]
    ends = [column([getattr(f, end) for f in operation.formats]) for end in ("minimum", "maximum")]
    return (column(down), *ends, column(up), column([_power(f.width) for f in operation.formats]))


@_run.register
def _(operation: Quantize, constants: tuple[Any, ...], x: np.ndarray) -> np.ndarray:
    down, low, high, up, span = constants
    y: np.ndarray = x * down
    if operation.rounding is Rounding.HALF_EVEN:
        np.rint(y, out=y)
    else:
        if operation.rounding is Rounding.HALF_UP:
            y += 0.5
        np.floor(y, out=y)
    if operation.overflow is Overflow.SATURATE:
        np.clip(y, low, high, out=y)
    else:
        y -= span * np.floor((y - low) / span)
    return y * up if np.any(up != 1) else y


@_constants.register
def _(operation: Linear, result: Range, x: Range) -> tuple[Any, ...]:
    product = x.fraction_bits + operation.weight_fraction_bits
    weight = operation.weight.T * _power(result.fraction_bits - product)
    bias = operation.bias[:, None] * _power(result.fraction_bits - operation.bias_fraction_bits)
    return weight, bias


@_run.register
def _(operation: Linear, constants: tuple[Any, ...], x: np.ndarray) -> np.ndarray:
    weight, bias = constants
    y: np.ndarray = weight @ x
    y += bias
    return y


@_constants.register
def _(operation: Affine, result: Range, x: Range) -> tuple[Any, ...]:
    product = x.fraction_bits + operation.scale_fraction_bits
    scale = operation.scale * _power(result.fraction_bits - product)
    offset = operation.offset * _power(result.fraction_bits - operation.offset_fraction_bits)
    return scale[..., None], offset[..., None]


@_run.register
def _(operation: Affine, constants: tuple[Any, ...], x: np.ndarray) -> np.ndarray:
    y: np.ndarray = x * constants[0]
    y += constants[1]
    return y


@_run.register
def _(operation: Relu, constants: tuple[Any, ...], x: np.ndarray) -> np.ndarray:
    y: np.ndarray = np.maximum(x, 0)
    return y


@_run.register
def _(operation: LeakyRelu, constants: tuple[Any, ...], x: np.ndarray) -> np.ndarray:
    y: np.ndarray = np.maximum(x * _power(operation.slope_bits), x)
    return y


@_run.register
def _(operation: Table, constants: tuple[Any, ...], x: np.ndarray) -> np.ndarray:
    y: np.ndarray = constants[0].take(x.astype(np.intp) - operation.low)
    return y


@_constants.register
def _(operation: Table, result: Range, x: Range) -> tuple[Any, ...]:
    return (operation.values,)


@_run.register
def _(operation: Sum, constants: tuple[Any, ...], x: np.ndarray) -> np.ndarray:
    y: np.ndarray = x.sum(axis=operation.axis, keepdims=operation.keep)
    return y


@_run.register
def _(operation: Max, constants: tuple[Any, ...], x: np.ndarray) -> np.ndarray:
    y: np.ndarray = x.max(axis=operation.axis, keepdims=operation.keep)
    return y


@_constants.register
def _(operation: Add, result: Range, *inputs: Range) -> tuple[Any, ...]:
    return tuple(_power(result.fraction_bits - x.fraction_bits) for x in inputs)


@_run.register
def _(operation: Add, constants: tuple[Any, ...], x: np.ndarray, y: np.ndarray) -> np.ndarray:
    first, second = (v if factor == 1 else v * factor for v, factor in zip((x, y), constants, strict=True))
    total: np.ndarray = first + second
    return total


@_run.register
def _(operation: Multiply, constants: tuple[Any, ...], x: np.ndarray, y: np.ndarray) -> np.ndarray:
    product: np.ndarray = x * y
    return product


@_run.register
def _(operation: MatMul, constants: tuple[Any, ...], x: np.ndarray, y: np.ndarray) -> np.ndarray:
    total: np.ndarray = x[..., :, 0, None, :] * y[..., None, 0, :, :]
    for k in range(1, x.shape[-2]):
        total += x[..., :, k, None, :] * y[..., None, k, :, :]
    return total


@_run.register
def _(operation: Reshape, constants: tuple[Any, ...], x: np.ndarray) -> np.ndarray:
    return x.reshape(*operation.shape, x.shape[-1])


@_run.register
def _(operation: Transpose, constants: tuple[Any, ...], x: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(x.transpose(*operation.axes, x.ndim - 1))


@_constants.register
def _(operation: Patches, result: Range, x: Range) -> tuple[Any, ...]:
    numbered = Fixed(np.arange(1, x.low.size + 1).reshape(1, *x.shape), 0)  # what arrives where; 0 is a padded zero
    return (operation.compute(numbered).mantissa[0].tolist(),)


@_run.register
def _(operation: Patches, constants: tuple[Any, ...], x: np.ndarray) -> np.ndarray:
    padded = np.zeros((x[..., 0].size + 1, x.shape[-1]), dtype=x.dtype)
    padded[1:] = x.reshape(-1, x.shape[-1])
    windows: np.ndarray = padded[constants[0]]
    return windows
