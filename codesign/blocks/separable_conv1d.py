"""A depthwise separable convolution over a sequence: positions and channels one after the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from codesign.blocks.dense import activation_layers, norm_layers
from codesign.core.architecture import Block
from codesign.core.layers import Conv2d, DepthwiseConv2d, Layer, Shape, over_sequence


@dataclass(frozen=True)
class SeparableConv1d(Block):
    """A convolution of every channel by itself, then one of length 1 across channels; see `SeparableConv2d`.

    Built exactly with every activation and with batch norm; layer norm is float-only.

    Attributes:
        channels: Outputs.
        kernel: Length of the window.
        stride: Step between windows.
        padding: "same" adds zeros at both ends, "valid" adds none.
        activation: Name of an activation; see `codesign.blocks.dense.activation_layers`.
        norm: "none", "batch" or "layer" over the channels.
    """

    channels: Any
    kernel: Any = 3
    stride: Any = 1
    padding: Any = "valid"
    activation: Any = "relu"
    norm: Any = "none"

    def layers(self, shape: Shape) -> tuple[Layer, ...]:
        """Return the primitive layers, where `shape` (length, channels) goes in."""
        along = DepthwiseConv2d((1, self.kernel), self.padding, (1, self.stride))
        across = (Conv2d(self.channels, 1), *norm_layers(self.norm), *activation_layers(self.activation))
        return over_sequence((along, *across), shape)


EXAMPLES = (
    ((7, 3), SeparableConv1d(4, norm="batch")),
    ((8, 2), SeparableConv1d(3, 3, 2, "same", "leaky_relu")),
    ((6, 1), SeparableConv1d(2, activation="gelu")),
)
