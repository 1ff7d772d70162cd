"""Dense layers over the last axis, each with a norm and an activation; an image or a set is flattened first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from codesign.core.architecture import Block
from codesign.core.layers import Activation, Flatten, Layer, Linear, Norm, Shape


@dataclass(frozen=True)
class Dense(Block):
    """One dense layer.

    Attributes:
        width: Number of outputs.
        activation: An `Activation.kind`; "leaky_relu" has the slope 1/8 here, which hardware builds exactly.
        norm: "none", "batch" or "layer", before the activation.
    """

    width: Any
    activation: Any = "relu"
    norm: Any = "none"

    def layers(self, shape: Shape) -> tuple[Layer, ...]:
        """Return the primitive layers, where `shape` goes in."""
        flatten = (Flatten(),) if len(shape) > 1 else ()
        return (*flatten, *dense_layers(self.width, self.activation, self.norm))


def dense_layers(width: int, activation: str, norm: str, norm_axis: int = -1) -> tuple[Layer, ...]:
    """Return a linear layer with its norm and activation, shared over all axes but the last."""
    norms = () if norm == "none" else (Norm(norm, norm_axis),)  # type: ignore[arg-type]
    slope = 3 if activation == "leaky_relu" else 0
    activations = () if activation == "identity" else (Activation(activation, slope),)  # type: ignore[arg-type]
    return (Linear(width), *norms, *activations)
