"""Which steps of a network act on one position of a stream at a time, and how."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from codesign.core.integer_network import IntegerNetwork
from codesign.core.layers import Shape
from codesign.core.operations import (
    Add,
    Affine,
    LeakyRelu,
    Linear,
    MatMul,
    Max,
    Multiply,
    Operation,
    Quantize,
    Relu,
    Reshape,
    Sum,
    Table,
    Transpose,
)

Axes = tuple[int, ...]


class Local(NamedTuple):
    """A step as it acts on one position.

    Attributes:
        operation: What it computes of tensors without position axes, and of whole ones.
        positions: Axes of its result that are positions.
        wholes: By place among its inputs, those that it takes whole, the same at every position, and in which shape.
    """

    operation: Operation
    positions: Axes
    wholes: Mapping[int, Shape]


def localize(network: IntegerNetwork, i: int, positions: Sequence[Axes | None]) -> Local | None:
    """Return how a step acts on one position, or None if it does not.

    Args:
        network: The network.
        i: The step.
        positions: Position axes of each input, in the order in which positions come; None for what is whole already.
    """
    operation = network.operations[i]
    shapes = [network.ranges[j].shape for j in operation.inputs]
    if isinstance(operation, MatMul):
        return _of_matrices(operation, shapes, positions)
    if isinstance(operation, Add | Multiply):
        return _of_pairs(operation, shapes, positions)
    (axes,), (shape,) = positions, shapes
    if axes is None:
        return None
    found: Operation | None = None
    is_last_local = len(shape) - 1 not in axes
    match operation:
        case Relu() | LeakyRelu() | Table():
            found = operation
        case Quantize(formats=formats) if is_last_local or len(formats) == 1:
            found = operation
        case Linear() if is_last_local:
            found = operation
        case Affine():
            scale, offset = (_at_one_position(a, len(shape), axes) for a in (operation.scale, operation.offset))
            if scale is not None and offset is not None:
                found = replace(operation, scale=scale, offset=offset)
        case Sum(axis=axis) | Max(axis=axis) if axis not in axes and len(shape) - len(axes) + operation.keep > 1:
            found = replace(operation, axis=axis - sum(a < axis for a in axes))
            axes = tuple(a - (a > axis and not operation.keep) for a in axes)
        case Transpose(axes=order):
            rest = [a for a in range(len(shape)) if a not in axes]
            found = replace(operation, axes=tuple(rest.index(a) for a in order if a in rest))
            axes = tuple(order.index(a) for a in axes)
        case Reshape(shape=result) if axes == tuple(range(len(axes))):
            count = math.prod(shape[: len(axes)])
            fitting = [n for n in range(len(result)) if math.prod(result[:n]) == count]
            if fitting:
                rank = 2 if 2 in fitting and len(result) == 3 else fitting[0]
                found = replace(operation, shape=result[rank:])
                axes = tuple(range(rank))
    return None if found is None else Local(found, axes, {})


def _of_matrices(operation: MatMul, shapes: Sequence[Shape], positions: Sequence[Axes | None]) -> Local | None:
    """Return how a product acts on one position: on a matrix each, or on a row or a column and a whole matrix."""
    a, b = positions
    if a is not None and a == b and max(a, default=-1) < len(shapes[0]) - 2 and _at(shapes[0], a) == _at(shapes[1], a):
        return Local(operation, a, {})
    if len(shapes[0]) == len(shapes[1]) == 2 and (a == (0,) or b == (1,)):
        return Local(operation, (0,), {1: shapes[1]}) if a == (0,) else Local(operation, (1,), {0: shapes[0]})
    return None


def _of_pairs(operation: Operation, shapes: Sequence[Shape], positions: Sequence[Axes | None]) -> Local | None:
    """Return how a step acts on one position if it takes two inputs element by element, of which one may be whole."""
    a, b = positions
    if a is not None and b is not None:
        return Local(operation, a, {}) if a == b and _at(shapes[0], a) == _at(shapes[1], a) else None
    axes = a if b is None else b
    assert axes is not None, "a step of two whole inputs is whole itself"
    place = 1 if b is None else 0
    if math.prod(_at(shapes[place], axes)) > 1:
        return None
    return Local(operation, axes, {place: tuple(size for n, size in enumerate(shapes[place]) if n not in axes)})


def _at(shape: Shape, axes: Axes) -> Shape:
    return tuple(shape[a] for a in axes)


def _at_one_position(values: np.ndarray, axes: int, positions: Axes) -> np.ndarray | None:
    """Return constants that broadcast over `axes` axes, less the positions; None if they vary over them."""
    missing = axes - values.ndim
    own = tuple(a - missing for a in positions if a >= missing)
    return values.squeeze(own) if all(values.shape[a] == 1 for a in own) else None
