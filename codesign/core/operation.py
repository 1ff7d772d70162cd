"""What every operation of an integer network is: its result on mantissas, and the range of its result."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, ClassVar

import numpy as np

from codesign.core.errors import InvalidValueError
from codesign.core.fixed_point import Fixed, FixedPoint


@dataclass(frozen=True)
class Range:
    """Smallest and largest mantissa of every element of a tensor (int64 arrays of its shape), on one grid."""

    low: np.ndarray
    high: np.ndarray
    fraction_bits: int

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the tensor, without the batch."""
        return self.low.shape

    def format(self) -> FixedPoint:
        """Return the narrowest format that holds every element."""
        return FixedPoint.holding(int(self.low.min()), int(self.high.max()), self.fraction_bits)


@dataclass(frozen=True, eq=False)
class Operation:
    """One step of an integer network. `inputs` are the positions of the steps whose results it takes."""

    inputs: tuple[int, ...]
    arity: ClassVar[int] = 1

    def compute(self, *inputs: Fixed) -> Fixed:
        """Return the result for a batch: mantissas have a leading batch axis."""
        raise NotImplementedError

    def bound(self, *inputs: Range) -> Range:
        """Return the range of the result from the ranges of the inputs; for a monotone operation, its end points."""
        low = self.compute(*(Fixed(r.low[None], r.fraction_bits) for r in inputs))
        high = self.compute(*(Fixed(r.high[None], r.fraction_bits) for r in inputs))
        return Range(low.mantissa[0], high.mantissa[0], low.fraction_bits)

    def options(self) -> dict[str, Any]:
        """Return the fields beyond `inputs`."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name != "inputs"}


def integers(values: Any) -> np.ndarray:
    """Return `values` as a read-only int64 array.

    Raises:
        InvalidValueError: They are no integers.
    """
    array = np.asarray(values)
    if array.dtype.kind not in "iu":
        raise InvalidValueError(f"An integer network holds integers only; received {array.dtype} values.")
    array = array.astype(np.int64)
    array.flags.writeable = False
    return array
