"""A depthwise separable convolution over an image: space and channels one after the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from codesign.blocks.dense import activation_layers, norm_layers
from codesign.core.architecture import Block
from codesign.core.layers import Conv2d, DepthwiseConv2d, Layer, Shape


@dataclass(frozen=True)
class SeparableConv2d(Block):
    """A square convolution of every channel by itself, then a 1×1 convolution across channels.

    For c channels and a kernel of side k it takes about 1/c + 1/k² of the multiplications of a convolution: Howard et
    al., MobileNets, arXiv 1704.04861, section 3.1. Nothing stands between both, as in Chollet, Xception, arXiv
    1610.02357, section 4.7. Built exactly with every activation and with batch norm; layer norm is float-only.

    Attributes:
        channels: Outputs.
        kernel: Side of the window.
        stride: Step between windows.
        padding: "same" adds zeros around the image, "valid" adds none.
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
        """Return the primitive layers, where `shape` (height, width, channels) goes in."""
        spatial = DepthwiseConv2d(self.kernel, self.padding, self.stride)
        return (spatial, Conv2d(self.channels, 1), *norm_layers(self.norm), *activation_layers(self.activation))


EXAMPLES = (
    ((5, 5, 3), SeparableConv2d(4, norm="batch")),
    ((6, 6, 2), SeparableConv2d(3, 3, 2, "same", "leaky_relu")),
    ((5, 5, 1), SeparableConv2d(2, activation="gelu")),
)
