"""An integer network, or a part of it, as da4ml's combinational logic.

Everything is traced on mantissas, as integers: a binary point moves by bookkeeping alone, and no constant needs more
fraction bits than da4ml can represent.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from da4ml.trace import FixedVariable, comb_trace
from da4ml.types import CombLogic

from codesign.backends._da4ml_solver import Solver
from codesign.backends._da4ml_sums import quick, uncollected
from codesign.backends._da4ml_values import (
    HARDWARE,
    constants,
    each,
    leaky,
    looked_up,
    matrix_product,
    maximum,
    product,
    quantize,
    reduced,
    scale,
)
from codesign.core.errors import UnsupportedError
from codesign.core.fixed_point import Fixed
from codesign.core.integer_network import IntegerNetwork
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
    Relu,
    Reshape,
    Sum,
    Table,
    Transpose,
)

# Multiplications of one step: each by a constant becomes a few Python objects, each of two activations some twenty.
MOST_PRODUCTS = {Linear: 100_000, Multiply: 20_000, MatMul: 20_000}
WIDEST = 45  # bits; da4ml takes widths from float64 logarithms, which tell 2^45 from 2^45 + 1 but not much beyond


class Bounds(NamedTuple):
    """Object arrays of the shape of a tensor: smallest and largest mantissa, and a power of two that divides it."""

    low: np.ndarray
    high: np.ndarray
    step: np.ndarray


@lru_cache(maxsize=8)
def trace(network: IntegerNetwork) -> CombLogic:
    """Return the network as combinational logic on integers: inputs and outputs are mantissas in row-major order.

    Raises:
        UnsupportedError: A step is wider than da4ml handles, or a weight than its solver does.
    """
    require_narrow(network)
    require_few(network)
    operations = dict(enumerate(network.operations[1:], 1))
    grids = [r.fraction_bits for r in network.ranges]
    return graph(operations, {0: input_bounds(network)}, grids, (len(operations),))


def input_bounds(network: IntegerNetwork) -> Bounds:
    """Return the bounds of the network's input: mantissas of a coarse channel are multiples of a power of two."""
    formats, first = network.input.formats, network.ranges[0]
    steps = [1 << (first.fraction_bits - f.fraction_bits) if f.width else 1 for f in formats]
    step = np.broadcast_to(np.array(steps, dtype=object), first.shape)
    return Bounds(first.low.astype(object), first.high.astype(object), step)


@uncollected()
def graph(
    operations: Mapping[int, Operation], taken: Mapping[int, Bounds], grids: Sequence[int], given: Sequence[int]
) -> CombLogic:
    """Return operations as combinational logic on integers, each tensor flattened in row-major order.

    Args:
        operations: By the number of their result, in an order in which they can be computed.
        taken: Tensors that come in, by number, in the order of the logic's inputs.
        grids: Fraction bits of every tensor, by number.
        given: Numbers of the tensors that go out.
    """
    variables = {i: _variables(bounds) for i, bounds in taken.items()}
    results = {i: quick(constants(values)) for i, values in variables.items()}
    solver = Solver()
    for i, operation in operations.items():
        inputs = [results[j] for j in operation.inputs]
        points = [grids[j] for j in operation.inputs]
        results[i] = quick(constants(_apply(operation, inputs, points, grids[i], solver)))
    outputs = [
        v if isinstance(v, FixedVariable) else FixedVariable.from_const(v, HARDWARE)
        for i in given
        for v in results[i].ravel()
    ]
    return comb_trace(np.concatenate([values.ravel() for values in variables.values()]), outputs)


def require_narrow(network: IntegerNetwork) -> None:
    """Raise UnsupportedError, naming the step, if a step is wider than da4ml handles, or a weight than its solver."""
    for i, (operation, bounds) in enumerate(zip(network.operations, network.ranges, strict=True)):
        width = bounds.format().width
        if width > WIDEST:
            raise UnsupportedError(
                f"Step {i} ({type(operation).__name__}) is {width} bits wide; the RTL view takes up to {WIDEST}. "
                "Quantize its input to fewer bits."
            )
        if isinstance(operation, Table) and np.abs(operation.values).max() >= 1 << 31:
            raise UnsupportedError(
                f"Step {i} (Table) has an entry of more than 31 bits, which the RTL view's tables lose; use fewer."
            )
        if isinstance(operation, Linear) and np.abs(operation.weight).max(initial=0) >= 1 << 24:
            raise UnsupportedError(
                f"Step {i} (Linear) has a weight of more than 24 bits, which the RTL view's solver rounds; use fewer."
            )


def require_few(network: IntegerNetwork, shared: Mapping[int, int] | None = None) -> None:
    """Raise UnsupportedError, naming the step, if a step has more multiplications than are worth unrolling.

    Args:
        network: The network.
        shared: How many positions share the multiplications of each step that is built; None if all are unrolled.
    """
    if shared is None:
        shared = dict.fromkeys(range(len(network.operations)), 1)
    for i, positions in shared.items():
        operation = network.operations[i]
        shapes = [network.ranges[j].shape for j in operation.inputs]
        products = 0
        if isinstance(operation, Linear):
            products = math.prod(shapes[0][:-1]) * int(np.count_nonzero(operation.weight))
        elif isinstance(operation, Multiply | MatMul):
            entries = shapes[0][-1] if isinstance(operation, MatMul) else 1
            products = math.prod(network.ranges[i].shape) * entries
        products //= positions
        most = MOST_PRODUCTS.get(type(operation), 0)
        if products > most:
            raise UnsupportedError(
                f"Step {i} ({type(operation).__name__}) has {products} multiplications; the RTL view unrolls up to "
                f"{most}. Use fewer positions or channels."
            )


def _variables(bounds: Bounds) -> np.ndarray:
    values = np.empty(bounds.low.shape, dtype=object)
    for index in np.ndindex(values.shape):
        low, high, step = (int(part[index]) for part in bounds)
        values[index] = FixedVariable(low, high, step, hwconf=HARDWARE)
    return values


def _apply(  # noqa: PLR0912 - one case for each operation
    operation: Operation, x: list[np.ndarray], points: list[int], point: int, solver: Solver
) -> np.ndarray:
    """Return the result of one step: object arrays of values, from the binary points of the inputs to the result's."""
    match operation:
        case Linear():
            rows = x[0].reshape(-1, x[0].shape[-1])
            products = np.stack([solver.multiply(row, operation.weight) for row in rows])
            products = scale(products, point - points[0] - operation.weight_fraction_bits)
            y = products + (operation.bias.astype(object) << (point - operation.bias_fraction_bits))
            y = y.reshape(*x[0].shape[:-1], -1)
        case Affine():
            factor = operation.scale.astype(object) << (point - points[0] - operation.scale_fraction_bits)
            y = x[0] * factor + (operation.offset.astype(object) << (point - operation.offset_fraction_bits))
        case Quantize():
            y = quantize(operation, x[0], points[0], point)
        case Relu():
            y = each(lambda v: v.relu() if isinstance(v, FixedVariable) else max(v, 0), x[0])
        case LeakyRelu(slope_bits=slope_bits):
            y = each(lambda v: leaky(v, slope_bits), x[0])
        case Sum(axis=axis, keep=keep):
            y = reduced(lambda a, b: a + b, x[0], axis, keep)
        case Max(axis=axis, keep=keep):
            y = reduced(maximum, x[0], axis, keep)
        case Table(values=entries, low=low):
            y = each(lambda v: looked_up(v, entries, low), x[0])
        case Multiply():
            y = np.frompyfunc(product, 2, 1)(x[0], x[1])
        case MatMul():
            y = matrix_product(x[0], x[1])
        case Add():
            y = scale(x[0], point - points[0]) + scale(x[1], point - points[1])
        case Reshape() | Transpose() | Patches():
            y = operation.compute(Fixed(x[0][None], 0)).mantissa[0]
        case _:
            raise UnsupportedError(f"The RTL view builds no operation {type(operation).__name__}; use those of core.")
    return y
