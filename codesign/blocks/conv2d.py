"""Convolutions in a row over an image, each with a norm and an activation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from codesign.blocks.dense import activation_layers, norm_layers
from codesign.core import layers as primitive
from codesign.core.architecture import Block
from codesign.core.errors import InvalidValueError
from codesign.core.geometry import Pair
from codesign.core.layers import Layer, Shape


@dataclass(frozen=True)
class Conv2d(Block):
    """Square convolutions: the Conv block of Weitz et al., arXiv 2501.05515, section 3, has two.

    Built exactly with every activation and with batch norm; layer norm is float-only. A fully unrolled convolution
    repeats its adder graph and its tables at every position: a stride divides its cost by stride².

    Attributes:
        channels: Outputs of each convolution.
        kernel: Side of the window, one for all convolutions or one each.
        stride: Step between windows, one for all or one each.
        padding: "same" adds zeros around the image, "valid" adds none.
        activation: Name of an activation, one for all or one each; see `codesign.blocks.dense.activation_layers`.
        norm: "none", "batch" or "layer" over the channels, one for all or one each.
    """

    channels: Any
    kernel: Any = 3
    stride: Any = 1
    padding: Any = "valid"
    activation: Any = "relu"
    norm: Any = "none"

    def layers(self, shape: Shape) -> tuple[Layer, ...]:
        """Return the primitive layers, where `shape` (height, width, channels) goes in."""
        return convolutions(self, lambda size: (size, size))


def convolutions(block: Any, sides: Callable[[int], Pair]) -> tuple[Layer, ...]:
    """Return the layers of convolutions in a row.

    Args:
        block: Has the fields of `Conv2d`.
        sides: Height and width that a number of `kernel` or `stride` stands for.
    """
    row: list[Layer] = []
    fields = (_each(block, name) for name in ("kernel", "stride", "activation", "norm"))
    for channels, kernel, stride, activation, norm in zip(block.channels, *fields, strict=True):
        convolution = primitive.Conv2d(channels, sides(kernel), block.padding, sides(stride))
        row += (convolution, *norm_layers(norm), *activation_layers(activation))
    return tuple(row)


def _each(block: Any, name: str) -> tuple[Any, ...]:
    value, count = getattr(block, name), len(block.channels)
    if not isinstance(value, tuple):
        return (value,) * count
    if len(value) != count:
        raise InvalidValueError(
            f"A {block.name} block of {count} convolutions received {name} {value}; allowed: one value, or {count}."
        )
    return value


EXAMPLES = (
    ((5, 5, 1), Conv2d((2,), norm="batch")),
    ((6, 6, 2), Conv2d((2, 3), (3, 1), (2, 1), "same", ("leaky_relu", "relu"))),
    ((7, 7, 1), Conv2d((2,), 5, 2, activation="identity")),
    ((5, 5, 1), Conv2d((2,), activation="gelu")),
    ((5, 5, 1), Conv2d((2,), norm="layer")),
)
