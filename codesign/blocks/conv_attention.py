"""Attention over the positions of an image or a set, with a residual: as published, or with learned constants."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from codesign.blocks.dense import activation_layers
from codesign.core.architecture import Block
from codesign.core.errors import InvalidValueError
from codesign.core.layers import Activation, Layer, Linear, Parallel, Reshape, Shape, Transpose


@dataclass(frozen=True)
class ConvAttention(Block):
    """y = activation(x + projection(mix(value(x)))), where `mix` combines positions, and 1×1 convolutions are the rest.

    Two kinds of mix:

    - "softmax": softmax(query(x) key(x)ᵀ), without a scale, as in the non-local block of BraggNN (Liu et al., arXiv
      2008.08198, section 3) and the ConvAttn block of Weitz et al., arXiv 2501.05515, section 3. Built exactly, with
      exponentials and inverses by table, but at the price of a multiplier for every pair of activations.
    - "learned": a trained matrix in place of the attention weights, the same for every input, as in the random
      synthesizer of Tay et al., arXiv 2005.00743, section 3.2, here of rank `rank`. Cheap in hardware, since every
      multiplication is by a constant.

    Attributes:
        inner: Channels of query, key and value.
        kind: "learned" or "softmax".
        rank: Rank of the learned matrix: each channel is summed up in this many numbers and spread out again.
        activation: Name of an activation after the residual; see `codesign.blocks.dense.activation_layers`.
    """

    inner: Any
    kind: Any = "learned"
    rank: Any = 4
    activation: Any = "relu"

    def layers(self, shape: Shape) -> tuple[Layer, ...]:
        """Return the primitive layers, where `shape` (..., channels) goes in and comes out."""
        if len(shape) < 2:
            raise InvalidValueError(f"An attention received shape {shape}; allowed: positions, then channels.")
        positions, channels = math.prod(shape[:-1]), shape[-1]
        turn = Transpose((1, 0))
        if self.kind == "softmax":
            scores = Parallel(((Linear(self.inner),), (Linear(self.inner), turn)), "matmul")
            mixed: tuple[Layer, ...] = (Parallel(((scores, Activation("softmax")), (Linear(self.inner),)), "matmul"),)
        elif self.kind == "learned":
            mixed = (Linear(self.inner), turn, Linear(self.rank), Linear(positions), turn)
        else:
            raise InvalidValueError(f"The kind of an attention is {self.kind!r}; allowed: learned, softmax.")
        residual = Parallel(((), (*mixed, Linear(channels))))
        body: tuple[Layer, ...] = (residual, *activation_layers(self.activation))
        return body if len(shape) == 2 else (Reshape((positions, channels)), *body, Reshape(shape))


EXAMPLES = (
    ((4, 4, 2), ConvAttention(2, rank=3)),
    ((6, 3), ConvAttention(2, activation="leaky_relu")),
    ((4, 4, 2), ConvAttention(2, "softmax", activation="leaky_relu_0.01")),
)
