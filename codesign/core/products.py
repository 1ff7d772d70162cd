"""The operations that are not linear in the activations: functions by table, and products of two activations.

Softmax is made of these: see `codesign.compress.softmax`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from codesign.core.errors import InvalidValueError
from codesign.core.fixed_point import Fixed
from codesign.core.operation import Operation, Range, integers

LARGEST_TABLE = 1 << 16


@dataclass(frozen=True, eq=False)
class Table(Operation):
    """Any function of one number, element by element: mantissa m becomes values[m - low].

    Attributes:
        values: int64 (entries,), on the grid 2^-fraction_bits: one entry for every mantissa from `low` on.
        low: Mantissa of the first entry.
        fraction_bits: Grid of the result.
    """

    values: np.ndarray
    low: int
    fraction_bits: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", integers(self.values))
        if self.values.ndim != 1 or not 1 <= len(self.values) <= LARGEST_TABLE:
            raise InvalidValueError(
                f"A Table received values of shape {self.values.shape}; allowed: (entries,), 1 to {LARGEST_TABLE}."
            )

    def compute(self, x: Fixed) -> Fixed:  # type: ignore[override]
        return Fixed(self.values[x.mantissa - self.low], self.fraction_bits)

    def bound(self, x: Range) -> Range:  # type: ignore[override]
        high = self.low + len(self.values) - 1
        if x.low.min() < self.low or x.high.max() > high:
            raise ValueError(
                f"its mantissas reach from {x.low.min()} to {x.high.max()}, the table from {self.low} to {high}"
            )
        ends = np.stack([x.low.ravel(), x.high.ravel()]).astype(np.int64) - self.low
        distinct, positions = np.unique(ends, axis=1, return_inverse=True)
        parts = [self.values[first : last + 1] for first, last in distinct.T]
        lowest, highest = (np.array([end(part) for part in parts], dtype=object) for end in (np.min, np.max))
        positions = positions.reshape(x.shape)
        return Range(lowest[positions], highest[positions], self.fraction_bits)


@dataclass(frozen=True, eq=False)
class Multiply(Operation):
    """x * y element by element, with broadcasting (shapes of equal length), without loss."""

    arity: ClassVar[int] = 2

    def compute(self, x: Fixed, y: Fixed) -> Fixed:  # type: ignore[override]
        return Fixed(x.mantissa * y.mantissa, x.fraction_bits + y.fraction_bits)

    def bound(self, x: Range, y: Range) -> Range:  # type: ignore[override]
        return _product(x, y)


@dataclass(frozen=True, eq=False)
class MatMul(Operation):
    """x @ y over the last two axes, (…, rows, entries) by (…, entries, columns), without loss."""

    arity: ClassVar[int] = 2

    def compute(self, x: Fixed, y: Fixed) -> Fixed:  # type: ignore[override]
        return Fixed(x.mantissa @ y.mantissa, x.fraction_bits + y.fraction_bits)

    def bound(self, x: Range, y: Range) -> Range:  # type: ignore[override]
        if min(len(x.shape), len(y.shape)) < 2 or x.shape[-1] != y.shape[-2]:
            raise ValueError("the last axis of the first and the last but one of the second differ")
        terms = _product(_with_axis(x, -1), _with_axis(y, -3))
        return Range(terms.low.sum(axis=-2), terms.high.sum(axis=-2), terms.fraction_bits)


def _with_axis(x: Range, axis: int) -> Range:
    return Range(np.expand_dims(x.low, axis), np.expand_dims(x.high, axis), x.fraction_bits)


def _product(x: Range, y: Range) -> Range:
    """Return the range of the products of two independent ranges: the outermost products of their ends."""
    ends = [a * b for a in (x.low, x.high) for b in (y.low, y.high)]
    return Range(np.minimum.reduce(ends), np.maximum.reduce(ends), x.fraction_bits + y.fraction_bits)
