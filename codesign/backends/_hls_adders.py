"""What the operations of a layer consist of where all of them exist in hardware: additions and multiplications.

Every number has the interval in which its rule expects it; what is not known better lies between half and twice.
"""

from __future__ import annotations

import math
from functools import singledispatch
from typing import NamedTuple

import numpy as np

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
    Range,
    Relu,
    Sum,
    Table,
)

DSP_BITS = 10  # the wider operand of a multiplication from which on it takes a DSP


class Bounded(NamedTuple):
    """A number with the interval in which the rule expects it."""

    value: float
    low: float
    high: float

    def __add__(self, other: Bounded) -> Bounded:  # type: ignore[override]
        return Bounded(*(a + b for a, b in zip(self, other, strict=True)))

    def times(self, count: int) -> Bounded:
        """Return the number for `count` of the same."""
        return Bounded(*(count * a for a in self))


NOTHING = Bounded(0, 0, 0)


class Adders(NamedTuple):
    """Hardware of a layer.

    Attributes:
        levels: Operations that follow one another on the longest path.
    """

    levels: int = 0
    lut: Bounded = NOTHING
    dsp: Bounded = NOTHING


@singledispatch
def adders_of(operation: Operation, result: Range, *inputs: Range) -> Adders:
    """Return what an operation consists of; nothing for what only moves values."""
    return Adders()


@adders_of.register
def _(operation: Linear, result: Range, x: Range) -> Adders:
    digits = signed_digits(operation.weight)
    positions = result.low.size // operation.weight.shape[1]
    width = x.format().width
    weight_bits = int(np.abs(operation.weight).max(initial=0)).bit_length() + 1
    # one row of LUTs for each digit: against Yosys 11.5 % off in the median. At best half of the digits are shared.
    lut = float(digits.sum() * width * positions)
    terms = int(digits.sum(axis=0).max(initial=0)) + bool(operation.bias.any())
    multiplications = float((digits > 1).sum() * positions)
    if max(width, weight_bits) < DSP_BITS:
        multiplications = 0.0
    return Adders(math.ceil(math.log2(max(2, terms))), Bounded(lut, lut / 2, 2 * lut), Bounded(0, 0, multiplications))


@adders_of.register
def _(operation: Affine, result: Range, x: Range) -> Adders:
    digits = np.broadcast_to(signed_digits(operation.scale), result.shape)
    lut = float(digits.sum() * x.format().width + result.low.size * result.format().width)
    return Adders(1 + math.ceil(math.log2(max(1, digits.max(initial=1)))), around(lut))


@adders_of.register
def _(operation: Quantize, result: Range, x: Range) -> Adders:
    lut = float(result.low.size * (x.format().width + result.format().width))  # the rounding, and the saturation
    return Adders(1, around(lut))


@adders_of.register(Relu)
@adders_of.register(LeakyRelu)
@adders_of.register(Add)
def _(operation: Operation, result: Range, *inputs: Range) -> Adders:
    return Adders(1, around(float(result.low.size * result.format().width)))


@adders_of.register(Sum)
@adders_of.register(Max)
def _(operation: Sum | Max, result: Range, x: Range) -> Adders:
    entries = x.shape[operation.axis]
    steps = 1 + isinstance(operation, Max)  # a maximum compares, then chooses
    lut = float(result.low.size * (entries - 1) * result.format().width * steps)
    return Adders(steps * math.ceil(math.log2(entries)) if entries > 1 else 0, around(lut))


@adders_of.register
def _(operation: Table, result: Range, x: Range) -> Adders:
    memories = 2.0 ** max(0, x.format().width - 6)  # LUTs of six inputs for each bit of an entry
    return Adders(1, around(memories * result.low.size * result.format().width))


@adders_of.register(Multiply)
@adders_of.register(MatMul)
def _(operation: Operation, result: Range, x: Range, y: Range) -> Adders:
    terms = x.shape[-1] if isinstance(operation, MatMul) else 1
    widths, products = (x.format().width, y.format().width), float(result.low.size * terms)
    sums = result.low.size * (terms - 1) * result.format().width
    levels = 1 + math.ceil(math.log2(max(1, terms)))
    if max(widths) >= DSP_BITS:
        return Adders(levels, around(sums), Bounded(products, 0, products))
    return Adders(levels, around(sums + products * math.prod(widths)))


def around(lut: float) -> Bounded:
    """Return a number of which nothing better is known than half to twice."""
    return Bounded(lut, lut / 2, 2 * lut)


def signed_digits(values: np.ndarray) -> np.ndarray:
    """Return the non-zero digits of integers in canonical signed-digit form (Reitwiesner 1960): bits of x xor 3x."""
    magnitude = np.abs(values.astype(np.int64))
    return np.bitwise_count(magnitude ^ (3 * magnitude))
