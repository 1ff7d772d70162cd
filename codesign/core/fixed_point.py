"""Fixed-point formats and their arithmetic: stated here once, and held equal by every view.

A number is an integer *mantissa* m on the grid 2^-fraction_bits: value = m * 2^-fraction_bits.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

import numpy as np

from codesign.core.errors import InvalidValueError


class Rounding(StrEnum):
    """How a mantissa loses its low bits (the names of ap_fixed are TRN, RND, RND_CONV)."""

    FLOOR = "floor"
    HALF_UP = "half_up"
    HALF_EVEN = "half_even"


class Overflow(StrEnum):
    """What happens to a mantissa outside of its format (ap_fixed: WRAP, SAT)."""

    WRAP = "wrap"
    SATURATE = "saturate"


@dataclass(frozen=True)
class FixedPoint:
    """The format of a fixed-point number, counted as in ap_fixed<width, integer_bits>.

    Attributes:
        width: Bits in all, the sign included; 0 stands for the constant zero.
        integer_bits: Bits left of the binary point, the sign included; may be negative or exceed `width`.
        is_signed: Two's complement if true.
    """

    width: int
    integer_bits: int
    is_signed: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.width <= 62:
            raise InvalidValueError(f"The width of a fixed-point format is {self.width}; allowed: 0 to 62 bits.")

    @property
    def fraction_bits(self) -> int:
        """Bits right of the binary point."""
        return self.width - self.integer_bits

    @property
    def minimum(self) -> int:
        """Smallest mantissa."""
        return -(1 << (self.width - 1)) if self.is_signed and self.width else 0

    @property
    def maximum(self) -> int:
        """Largest mantissa."""
        return (1 << (self.width - self.is_signed)) - 1 if self.width else 0

    @property
    def scale(self) -> float:
        """Value of one step of the mantissa."""
        return float(2.0**-self.fraction_bits)

    def __str__(self) -> str:
        return f"{'' if self.is_signed else 'u'}fixed<{self.width},{self.integer_bits}>"

    @classmethod
    def holding(cls, minimum: int, maximum: int, fraction_bits: int) -> FixedPoint:
        """Return the narrowest format that holds every mantissa from `minimum` to `maximum`."""
        is_signed = minimum < 0
        magnitude = max(max(maximum, 0).bit_length(), (-minimum - 1).bit_length() if is_signed else 0)
        width = magnitude + is_signed
        return cls(width, width - fraction_bits, is_signed)


class Fixed(NamedTuple):
    """Numbers on one grid: integer mantissas (int64, any shape) and the bits right of the binary point."""

    mantissa: np.ndarray
    fraction_bits: int

    def to_float(self) -> np.ndarray:
        """Return the values as float64 (exact up to 53 bits)."""
        return np.ldexp(self.mantissa.astype(np.float64), -self.fraction_bits)


def shift(mantissa: np.ndarray, bits: int, rounding: Rounding = Rounding.FLOOR) -> np.ndarray:
    """Move the binary point: multiply by 2^bits, rounding where bits are lost.

    Args:
        mantissa: int64 array of any shape.
        bits: Positive to gain low bits (exact), negative to lose them.
        rounding: Used only where bits are lost; halves go up for `HALF_UP`, to the even neighbor for `HALF_EVEN`.
    """
    if abs(bits) > 62:
        raise InvalidValueError(f"The binary point of a value would move by {abs(bits)} bits; allowed: up to 62.")
    if bits >= 0:
        return mantissa << bits
    lost = -bits
    floor: np.ndarray = mantissa >> lost
    if rounding is Rounding.FLOOR:
        return floor
    remainder, half = mantissa - (floor << lost), 1 << (lost - 1)
    if rounding is Rounding.HALF_UP:
        up = remainder >= half
    else:
        up = (remainder > half) | ((remainder == half) & (floor & 1 == 1))
    result: np.ndarray = floor + up.astype(floor.dtype)
    return result


def fit(mantissa: np.ndarray, target: FixedPoint, overflow: Overflow) -> np.ndarray:
    """Bring mantissas on the grid of `target` into its range, by saturation or by dropping high bits."""
    if overflow is Overflow.SATURATE:
        clipped: np.ndarray = np.clip(mantissa, target.minimum, target.maximum)
        return clipped
    if target.width == 0:
        return np.zeros_like(mantissa)
    wrapped: np.ndarray = ((mantissa - target.minimum) & ((1 << target.width) - 1)) + target.minimum
    return wrapped


def quantize(values: np.ndarray, target: FixedPoint, rounding: Rounding, overflow: Overflow) -> np.ndarray:
    """Return the mantissas (int64) of real `values` in `target`; this is what a host does before the first layer.

    Raises:
        InvalidValueError: A value is NaN or infinite.
    """
    values = np.asarray(values, dtype=np.float64)
    if not np.isfinite(values).all():
        raise InvalidValueError("A value to be quantized is NaN or infinite; only finite numbers are allowed.")
    scaled = np.ldexp(values, target.fraction_bits)
    rounded = np.rint(scaled) if rounding is Rounding.HALF_EVEN else np.floor(scaled)
    if rounding is Rounding.HALF_UP:
        rounded += scaled - rounded >= 0.5
    limit = float(1 << 62)
    return fit(np.clip(rounded, -limit, limit).astype(np.int64), target, overflow)
