"""Functions by table, as hardware looks them up: exact in value, and with the function's own gradient in training."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from codesign.compress.quantizers import best_fraction_bits
from codesign.core.fixed_point import FixedPoint

# A table of b input bits takes 2^(b - 6) six-input LUTs and their multiplexers for each bit of its result.
TABLE_BITS = 10


def decay(x: Tensor) -> Tensor:
    """Return exp(-x)."""
    return torch.exp(-x)


def reciprocal(x: Tensor) -> Tensor:
    """Return 1 / x, and 2^20 for whatever is smaller than 2^-20."""
    return 1 / x.clamp(min=2.0**-20)


class Table(nn.Module):
    """A function of one quantized number, rounded to the nearest entry of one format and saturated.

    Attributes:
        function: What is looked up.
        bits: Width of the entries.
        gain: The function is taken of the input times this.
        format: Of the entries; chosen by `calibrate` unless it was given.
        low: Mantissa of the input for the first entry.
        fraction_bits: Grid of the input.
    """

    entries: Tensor

    def __init__(
        self, function: Callable[[Tensor], Tensor], bits: int, *, gain: float = 1.0, fixed: FixedPoint | None = None
    ) -> None:
        super().__init__()
        self.function, self.bits, self.gain, self.fixed = function, bits, gain, fixed
        self.format = fixed or FixedPoint(bits, bits)
        self.low = self.fraction_bits = 0
        self.register_buffer("entries", torch.zeros(1), persistent=False)

    def calibrate(self, x: Tensor, low: int, high: int, fraction_bits: int) -> None:
        """Choose the format for a sample of inputs, and fill the table; arguments as in `fill`."""
        if self.fixed is None:
            y = self.function(x.detach().double() * self.gain).reshape(-1, 1)
            signed = bool((y < 0).any())
            ends = [float(end) for end in (-(signed << (self.bits - 1)), (1 << (self.bits - signed)) - 1)]
            fraction = int(best_fraction_bits(y, *(torch.tensor([end]).to(y) for end in ends)))
            self.format = FixedPoint(self.bits, self.bits - fraction, signed)
        self.fill(low, high, fraction_bits)

    def fill(self, low: int, high: int, fraction_bits: int) -> None:
        """Compute the entries for the mantissas from `low` to `high` of an input on the grid 2^-fraction_bits."""
        self.low, self.fraction_bits = low, fraction_bits
        grid = torch.ldexp(torch.arange(low, high + 1, dtype=torch.float64), torch.tensor(-fraction_bits))
        scale = self.format.scale
        mantissas = (self.function(grid * self.gain) / scale).round().clamp(self.format.minimum, self.format.maximum)
        self.entries = (mantissas * scale).to(self.entries)

    def mantissas(self) -> np.ndarray:
        """Return the entries as integers (int64)."""
        exact: np.ndarray = (self.entries.double() / self.format.scale).cpu().numpy().astype(np.int64)
        return exact

    def forward(self, x: Tensor) -> Tensor:
        index = torch.ldexp(x.detach(), torch.tensor(self.fraction_bits, device=x.device)) - self.low
        y = self.entries[index.long().clamp(0, len(self.entries) - 1)]
        if not self.training:
            return y
        ends = self.format.minimum * self.format.scale, self.format.maximum * self.format.scale
        smooth = self.function(x * self.gain).clamp(*ends)
        return y + (smooth - smooth.detach())


class BelowMaximum(nn.Module):
    """How far each entry lies below the maximum over one axis (counted without the batch, from 0).

    No gradient flows through the maximum: softmax does not depend on what is subtracted from all its inputs.
    """

    def __init__(self, axis: int) -> None:
        super().__init__()
        self.axis = axis

    def forward(self, x: Tensor) -> Tensor:
        return x.detach().amax(self.axis + 1, keepdim=True) - x
