"""Convolutions in a row over a sequence, each with a norm and an activation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from codesign.blocks.conv2d import convolutions
from codesign.core.architecture import Block
from codesign.core.layers import Layer, Shape, over_sequence


@dataclass(frozen=True)
class Conv1d(Block):
    """Convolutions over (length, channels): the time of a trace, for example.

    Built exactly with every activation and with batch norm; layer norm is float-only. A fully unrolled convolution
    repeats its adder graph and its tables at every position: a stride divides its cost by as much.

    Attributes:
        channels: Outputs of each convolution.
        kernel: Length of the window, one for all convolutions or one each.
        stride: Step between windows, one for all or one each.
        padding: "same" adds zeros at both ends, "valid" adds none.
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
        """Return the primitive layers, where `shape` (length, channels) goes in."""
        return over_sequence(convolutions(self, lambda size: (1, size)), shape)


EXAMPLES = (
    ((7, 2), Conv1d((3,), norm="batch")),
    ((9, 1), Conv1d((2, 3), (5, 3), (2, 1), "same", ("leaky_relu", "relu"))),
    ((8, 2), Conv1d((2,), 4, 2, activation="identity")),
    ((6, 2), Conv1d((2,), activation="gelu")),
    ((6, 2), Conv1d((2,), norm="layer")),
)
