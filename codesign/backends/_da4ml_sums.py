"""Sums of da4ml's variables, and shifted and negated ones, made in a fraction of the time.

An adder graph becomes tens of thousands of variables. da4ml converts and checks every field of each of them anew; here
a variable begins as a copy of another one's fields. What is computed is the same, which a test holds. The other half of
the time went into looking for cycles among them, of which there are none.
"""

from __future__ import annotations

import gc
import math
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

import numpy as np
from da4ml._binary.cmvm_bin import cost_add
from da4ml.trace import FixedVariable
from da4ml.types import QInterval

Value = Any
ONE = Decimal(1)


class Quick(FixedVariable):
    """A variable of da4ml whose additions, shifts and negations are quick."""

    _interval: QInterval | None = None

    def __add__(self, other: Value) -> FixedVariable:
        if not isinstance(other, FixedVariable) or self._factor < 0 or self.low == self.high or other.low == other.high:
            return super().__add__(other)  # a constant, or what is turned around first
        delay, cost = cost_add(self.qint, other.qint, 0, False, self.hwconf.adder_size, self.hwconf.carry_size)
        return self._like(
            low=self.low + other.low,
            high=self.high + other.high,
            step=min(self.step, other.step),
            _from=(self, other),
            _data=None,
            opr="vadd",
            id=object(),  # da4ml takes it for a key
            latency=max(self.latency, other.latency) + delay,
            cost=cost,
        )

    def __mul__(self, other: Value) -> FixedVariable:
        is_shift = isinstance(other, int | float) and other and math.frexp(abs(other))[0] == 0.5
        if not is_shift or self.low == self.high:
            return super().__mul__(other)
        return self._times(Decimal(other))

    def __neg__(self) -> FixedVariable:
        return self._times(-ONE) if self.low != self.high else super().__neg__()

    @property
    def unscaled(self) -> FixedVariable:
        """The variable without its factor."""
        return self if self._factor == ONE else self._times(ONE / self._factor)

    @property
    def qint(self) -> QInterval:
        """Smallest and largest value, and step."""
        if self._interval is None:
            self._interval = super().qint
        return self._interval

    def _times(self, factor: Decimal) -> Quick:
        low, high = self.low * factor, self.high * factor
        low, high = (low, high) if factor > 0 else (high, low)
        return self._like(low=low, high=high, step=abs(self.step * factor), _factor=self._factor * factor)

    def _like(self, **fields: Any) -> Quick:
        made = object.__new__(Quick)
        made.__dict__ = self.__dict__ | fields | {"_interval": None}
        return made


@contextmanager
def uncollected() -> Iterator[None]:
    """Keep Python from looking for cycles: inside, only objects without any are made in great number."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def quick(values: np.ndarray) -> np.ndarray:
    """Return the values; the variables among them become quick, each the same object as before."""
    for v in values.ravel():
        if type(v) is FixedVariable:
            v.__class__ = Quick
    return values
