"""Mean, maximum or sum over windows of a sequence or an image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from codesign.core import layers as primitive
from codesign.core.architecture import Block
from codesign.core.errors import InvalidValueError
from codesign.core.layers import Layer, Reshape, Shape, Windows, over_sequence


@dataclass(frozen=True)
class Pool(Block):
    """Windows of `size` along every axis but the last become one entry each.

    A maximum and a sum are exact in hardware for any size; a mean for windows of 2^n entries.

    Attributes:
        size: Side of a window; without a stride it divides every axis but the last.
        kind: "mean", "max" or "sum".
        stride: Step between windows of a sequence (length, channels) or an image (height, width, channels), which may
            then overlap, and leave out what no whole window covers at the far ends; 0 for windows side by side that
            cover everything.
    """

    size: Any
    kind: Any = "max"
    stride: Any = 0

    def layers(self, shape: Shape) -> tuple[Layer, ...]:
        """Return the primitive layers, where `shape` (..., channels) goes in."""
        over_windows = primitive.Pool(self.kind, axis=2)
        if self.stride and len(shape) == 2:
            return over_sequence((Windows((1, self.size), (1, self.stride)), over_windows), shape)
        if self.stride:
            return Windows(self.size, self.stride), over_windows
        spatial = shape[:-1]
        if not spatial or self.size < 1 or any(n % self.size for n in spatial):
            raise InvalidValueError(
                f"A pool over windows of {self.size} received shape {shape}; "
                "allowed: one or more axes that the size divides, then channels."
            )
        windows = tuple(n for length in spatial for n in (length // self.size, self.size))
        # Inner axes first: each reduction leaves the position of the axes before it unchanged.
        reductions = [primitive.Pool(self.kind, axis=2 * i + 1) for i in reversed(range(len(spatial)))]
        return (Reshape((*windows, shape[-1])), *reductions)


EXAMPLES = (
    ((7, 6, 2), Pool(3, stride=2)),
    ((5, 5, 2), Pool(2, "mean", 2)),
    ((9, 2), Pool(3, stride=2)),
    ((7, 2), Pool(4, "mean", 1)),
    ((6, 6, 2), Pool(3)),
    ((8, 2), Pool(4, "mean")),
    ((6, 2), Pool(3, "mean")),
    ((6, 2), Pool(2, "sum")),
)
