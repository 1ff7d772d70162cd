"""The operations of an integer network: a closed vocabulary that every hardware view can build exactly.

Each operation states three things: what it computes on mantissas, the grid of its result, and the range of its result.
Results are exact (they grow in width); bits are lost in `Quantize` alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from codesign.core.errors import InvalidValueError
from codesign.core.fixed_point import Fixed, FixedPoint, Overflow, Rounding, fit, shift
from codesign.core.geometry import Pair, pair
from codesign.core.operation import Operation, Range, integers
from codesign.core.products import MatMul, Multiply, Table

__all__ = [
    "OPERATIONS",
    "Add",
    "Affine",
    "Input",
    "LeakyRelu",
    "Linear",
    "MatMul",
    "Max",
    "Multiply",
    "Operation",
    "Patches",
    "Quantize",
    "Range",
    "Relu",
    "Reshape",
    "Sum",
    "Table",
    "Transpose",
    "finest",
    "grid_ends",
]


@dataclass(frozen=True, eq=False)
class Input(Operation):
    """The network's input: already rounded and saturated to `formats` by the host.

    Attributes:
        shape: Shape without the batch.
        formats: One format for all, or one for each entry of the last axis. Mantissas lie on the finest grid of them.
    """

    shape: tuple[int, ...]
    formats: tuple[FixedPoint, ...]
    rounding: Rounding = Rounding.HALF_EVEN
    arity: ClassVar[int] = 0

    def bound(self) -> Range:  # type: ignore[override]
        low, high = (grid_ends(self.formats, self.shape, end) for end in ("minimum", "maximum"))
        return Range(low, high, finest(self.formats))


@dataclass(frozen=True, eq=False)
class Quantize(Operation):
    """Round and fit into `formats`: one for all, or one per entry of the last axis; the finest grid carries all."""

    formats: tuple[FixedPoint, ...]
    rounding: Rounding = Rounding.FLOOR
    overflow: Overflow = Overflow.SATURATE

    def compute(self, x: Fixed) -> Fixed:  # type: ignore[override]
        grid = finest(self.formats)
        if len(self.formats) == 1:
            return Fixed(self._convert(x.mantissa, x.fraction_bits, self.formats[0], grid), grid)
        channels = [self._convert(x.mantissa[..., i], x.fraction_bits, f, grid) for i, f in enumerate(self.formats)]
        return Fixed(np.stack(channels, axis=-1), grid)

    def bound(self, x: Range) -> Range:  # type: ignore[override]
        if self.overflow is Overflow.SATURATE:
            return super().bound(x)
        low, high = (grid_ends(self.formats, x.shape, end) for end in ("minimum", "maximum"))
        return Range(low, high, finest(self.formats))

    def _convert(self, mantissa: np.ndarray, fraction_bits: int, target: FixedPoint, grid: int) -> np.ndarray:
        if target.width == 0:
            return np.zeros_like(mantissa)
        bits = target.fraction_bits - fraction_bits
        if bits > 0 and self.overflow is Overflow.SATURATE:  # what saturates anyway must not overflow int64 on the way
            mantissa = np.clip(mantissa, (target.minimum >> bits) - 1, (target.maximum >> bits) + 1)
        return fit(shift(mantissa, bits, self.rounding), target, self.overflow) << (grid - target.fraction_bits)


@dataclass(frozen=True, eq=False)
class Linear(Operation):
    """x @ weight + bias over the last axis, without loss.

    Attributes:
        weight: int64 (inputs, outputs), on the grid 2^-weight_fraction_bits.
        bias: int64 (outputs,), on the grid 2^-bias_fraction_bits.
    """

    weight: np.ndarray
    bias: np.ndarray
    weight_fraction_bits: int
    bias_fraction_bits: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "weight", integers(self.weight))
        object.__setattr__(self, "bias", integers(self.bias))
        if self.weight.ndim != 2 or self.bias.shape != self.weight.shape[1:]:
            raise InvalidValueError(
                f"A Linear operation received weight {self.weight.shape} and bias {self.bias.shape}; "
                "allowed: (inputs, outputs) and (outputs,)."
            )

    def compute(self, x: Fixed) -> Fixed:  # type: ignore[override]
        product = x.fraction_bits + self.weight_fraction_bits
        grid = max(product, self.bias_fraction_bits)
        largest = int(np.abs(x.mantissa).max(initial=0)) * int(np.abs(self.weight).sum(axis=0).max(initial=0))
        if largest < 1 << 53:  # BLAS is ten times faster than numpy's integer matmul, and exact below 2^53
            y = (x.mantissa.astype(np.float64) @ self.weight.astype(np.float64)).astype(np.int64)
        else:
            y = x.mantissa @ self.weight
        return Fixed((y << (grid - product)) + (self.bias << (grid - self.bias_fraction_bits)), grid)

    def bound(self, x: Range) -> Range:  # type: ignore[override]
        product = x.fraction_bits + self.weight_fraction_bits
        grid = max(product, self.bias_fraction_bits)
        up, down = np.maximum(self.weight, 0), np.minimum(self.weight, 0)
        bias = self.bias << (grid - self.bias_fraction_bits)
        low = ((x.low @ up + x.high @ down) << (grid - product)) + bias
        high = ((x.high @ up + x.low @ down) << (grid - product)) + bias
        return Range(low, high, grid)


@dataclass(frozen=True, eq=False)
class Affine(Operation):
    """x * scale + offset, element by element: a batch norm that no linear layer can absorb.

    Attributes:
        scale: int64, of a shape that broadcasts to the input's, on the grid 2^-scale_fraction_bits.
        offset: int64, likewise, on the grid 2^-offset_fraction_bits.
    """

    scale: np.ndarray
    offset: np.ndarray
    scale_fraction_bits: int
    offset_fraction_bits: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "scale", integers(self.scale))
        object.__setattr__(self, "offset", integers(self.offset))

    def compute(self, x: Fixed) -> Fixed:  # type: ignore[override]
        product = x.fraction_bits + self.scale_fraction_bits
        grid = max(product, self.offset_fraction_bits)
        offset = self.offset << (grid - self.offset_fraction_bits)
        return Fixed((x.mantissa * self.scale << (grid - product)) + offset, grid)

    def bound(self, x: Range) -> Range:  # type: ignore[override]
        ends = super().bound(x)
        return Range(np.minimum(ends.low, ends.high), np.maximum(ends.low, ends.high), ends.fraction_bits)


@dataclass(frozen=True, eq=False)
class Relu(Operation):
    """max(x, 0)."""

    def compute(self, x: Fixed) -> Fixed:  # type: ignore[override]
        return Fixed(np.maximum(x.mantissa, 0), x.fraction_bits)


@dataclass(frozen=True, eq=False)
class LeakyRelu(Operation):
    """x where x >= 0, else x * 2^-slope_bits, without loss (the grid becomes finer by `slope_bits`)."""

    slope_bits: int

    def compute(self, x: Fixed) -> Fixed:  # type: ignore[override]
        fine = x.mantissa << self.slope_bits
        return Fixed(np.where(x.mantissa >= 0, fine, x.mantissa), x.fraction_bits + self.slope_bits)


@dataclass(frozen=True, eq=False)
class Sum(Operation):
    """Sum over one axis, times 2^-mean_bits (a mean over 2^mean_bits entries moves the binary point and loses nothing).

    Attributes:
        axis: Axis without the batch, from 0.
        keep: Leave the axis with size 1.
    """

    axis: int
    keep: bool = False
    mean_bits: int = 0

    def compute(self, x: Fixed) -> Fixed:  # type: ignore[override]
        return Fixed(x.mantissa.sum(axis=self.axis + 1, keepdims=self.keep), x.fraction_bits + self.mean_bits)


@dataclass(frozen=True, eq=False)
class Max(Operation):
    """Maximum over one axis (counted without the batch, from 0)."""

    axis: int
    keep: bool = False

    def compute(self, x: Fixed) -> Fixed:  # type: ignore[override]
        return Fixed(x.mantissa.max(axis=self.axis + 1, keepdims=self.keep), x.fraction_bits)


@dataclass(frozen=True, eq=False)
class Add(Operation):
    """x + y with broadcasting (shapes of equal length), on the finer of both grids."""

    arity: ClassVar[int] = 2

    def compute(self, x: Fixed, y: Fixed) -> Fixed:  # type: ignore[override]
        grid = max(x.fraction_bits, y.fraction_bits)
        return Fixed((x.mantissa << (grid - x.fraction_bits)) + (y.mantissa << (grid - y.fraction_bits)), grid)


@dataclass(frozen=True, eq=False)
class Reshape(Operation):
    """The same elements in row-major order, in another shape."""

    shape: tuple[int, ...]

    def compute(self, x: Fixed) -> Fixed:  # type: ignore[override]
        return Fixed(x.mantissa.reshape(len(x.mantissa), *self.shape), x.fraction_bits)


@dataclass(frozen=True, eq=False)
class Transpose(Operation):
    """Axes in another order: result axis i is input axis axes[i] (without the batch)."""

    axes: tuple[int, ...]

    def compute(self, x: Fixed) -> Fixed:  # type: ignore[override]
        return Fixed(x.mantissa.transpose(0, *(a + 1 for a in self.axes)), x.fraction_bits)


@dataclass(frozen=True, eq=False)
class Patches(Operation):
    """(height, width, channels) to (height', width', elements of a window): the windows of a convolution.

    Followed by `Linear` it is a convolution; the windows' order is row, column, channel.

    Attributes:
        kernel: Height and width of a window; here and below, one number stands for both.
        padding: Zeros added above and below, and on the left and on the right.
        stride: Steps between windows, down and to the right.
    """

    kernel: Pair
    padding: Pair = (0, 0)
    stride: Pair = (1, 1)

    def __post_init__(self) -> None:
        for name in ("kernel", "padding", "stride"):
            object.__setattr__(self, name, pair(getattr(self, name)))

    def compute(self, x: Fixed) -> Fixed:  # type: ignore[override]
        rows, columns = ((zeros, zeros) for zeros in self.padding)
        padded = np.pad(x.mantissa, ((0, 0), rows, columns, (0, 0)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, self.kernel, axis=(1, 2))
        windows = windows[:, :: self.stride[0], :: self.stride[1]]  # (batch, height', width', channels, *kernel)
        ordered = windows.transpose(0, 1, 2, 4, 5, 3)
        return Fixed(ordered.reshape(*ordered.shape[:3], -1), x.fraction_bits)

    def options(self) -> dict[str, Any]:
        """Return the fields beyond `inputs`; equal sizes as one number, so that a network's digest has one form."""
        return {name: a if a == b else (a, b) for name, (a, b) in super().options().items()}


_MAPS = (Linear, Affine, Relu, LeakyRelu, Table, Sum, Max, Add, Multiply, MatMul, Reshape, Transpose, Patches)
OPERATIONS: dict[str, type[Operation]] = {cls.__name__: cls for cls in (Input, Quantize, *_MAPS)}


def finest(formats: tuple[FixedPoint, ...]) -> int:
    """Return the fraction bits of the finest grid among `formats`; constant zeros (width 0) have no say."""
    return max((f.fraction_bits for f in formats if f.width), default=0)


def grid_ends(formats: tuple[FixedPoint, ...], shape: tuple[int, ...], end: str) -> np.ndarray:
    """Return the ends ("minimum" or "maximum") of `formats` as mantissas on their finest grid, in `shape`."""
    grid = finest(formats)
    ends = [getattr(f, end) << (grid - f.fraction_bits) if f.width else 0 for f in formats]
    return np.broadcast_to(np.asarray(ends, dtype=object), shape).copy()
