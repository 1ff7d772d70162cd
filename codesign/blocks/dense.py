"""Dense layers over the last axis, each with a norm and an activation; an image or a set is flattened first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from codesign.core.architecture import Block
from codesign.core.layers import Activation, Flatten, Layer, Linear, Norm, Shape

LEAKY_SLOPE_BITS = 3  # a slope of 1/8


@dataclass(frozen=True)
class Dense(Block):
    """One dense layer.

    Attributes:
        width: Number of outputs.
        activation: Name of an activation, as `activation_layers` takes it.
        norm: "none", "batch" or "layer" (float-only), before the activation.
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
    return (Linear(width), *norm_layers(norm, norm_axis), *activation_layers(activation))


def norm_layers(norm: str, axis: int = -1) -> tuple[Layer, ...]:
    """Return the layer of a norm ("none", "batch", "layer"). A layer norm is float-only; use a batch norm."""
    return () if norm == "none" else (Norm(norm, axis),)  # type: ignore[arg-type]


def activation_layers(activation: str) -> tuple[Layer, ...]:
    """Return the layer of an activation.

    Args:
        activation: "relu", "identity", or "leaky_relu" with the slope 1/8, the cheapest ones in hardware; "gelu",
            "sigmoid", "tanh", "leaky_relu_0.01" (the slope of the literature) and "softmax", which take tables.
    """
    if activation == "identity":
        return ()
    if activation == "leaky_relu_0.01":
        return (Activation("leaky_relu"),)
    return (Activation(activation, LEAKY_SLOPE_BITS if activation == "leaky_relu" else 0),)  # type: ignore[arg-type]


EXAMPLES = (
    ((5,), Dense(4)),
    ((3, 2), Dense(4, "leaky_relu", "batch")),
    ((5,), Dense(4, "gelu", "layer")),
    ((5,), Dense(4, "gelu", "batch")),
    ((4, 2), Dense(3, "softmax")),
    ((5,), Dense(3, "leaky_relu_0.01")),
)
