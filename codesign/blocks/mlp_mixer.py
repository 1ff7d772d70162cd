"""MLP-Mixer: dense layers across positions, then across channels, each with a residual."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from codesign.blocks.dense import dense_layers
from codesign.core.architecture import Block
from codesign.core.errors import InvalidValueError
from codesign.core.layers import Layer, Linear, Parallel, Reshape, Shape, Transpose


@dataclass(frozen=True)
class MlpMixer(Block):
    """One mixer layer of Tolstikhin et al., MLP-Mixer, arXiv 2105.01601, section 2, over particles or pixels.

    The norm stands behind the first dense layer of each half instead of before it, so that a batch norm folds into its
    weights and costs nothing. Built exactly with every activation, no norm or batch norm; layer norm, as published, is
    float-only.

    Attributes:
        token_width: Hidden width across positions.
        channel_width: Hidden width across channels.
        activation: Name of an activation; see `codesign.blocks.dense.activation_layers`.
        norm: "none", "batch" or "layer", before the activation.
    """

    token_width: Any
    channel_width: Any
    activation: Any = "relu"
    norm: Any = "none"

    def layers(self, shape: Shape) -> tuple[Layer, ...]:
        """Return the primitive layers, where `shape` (..., channels) goes in and comes out."""
        if len(shape) < 2:
            raise InvalidValueError(f"A mixer received shape {shape}; allowed: positions, then channels.")
        positions, channels = math.prod(shape[:-1]), shape[-1]
        turn = Transpose((1, 0))
        across = (*dense_layers(self.token_width, self.activation, self.norm), Linear(positions))
        within = (*dense_layers(self.channel_width, self.activation, self.norm), Linear(channels))
        body: tuple[Layer, ...] = (Parallel(((), (turn, *across, turn))), Parallel(((), within)))
        return body if len(shape) == 2 else (Reshape((positions, channels)), *body, Reshape(shape))


EXAMPLES = (
    ((4, 3), MlpMixer(2, 4)),
    ((3, 3, 2), MlpMixer(2, 2, "leaky_relu", "batch")),
    ((4, 3), MlpMixer(2, 4, "gelu", "layer")),
)
