"""Interaction of every particle with all others at a cost linear in their number."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from codesign.blocks.dense import activation_layers, norm_layers
from codesign.core.architecture import Block
from codesign.core.errors import InvalidValueError
from codesign.core.layers import Layer, Linear, Parallel, Pool, Shape, Transpose


@dataclass(frozen=True)
class LinearInteraction(Block):
    """y_i = activation(norm(W x_i + V s)), where s sums up all particles: O(particles), not O(particles²).

    An interaction network's message to particle i, a linear function of x_i and x_j summed over j, factorizes into this
    form: Que et al., JEDI-linear, arXiv 2508.15468, section 3.

    With mixing "ordered", s weighs each particle by its rank, so the particles must come in a fixed order, such as
    falling transverse momentum; with "mean" the order plays no role. Everything is built exactly with every activation,
    no norm or batch norm; a mean is exact for 2^n particles; layer norm is float-only.

    Attributes:
        width: Features of each particle that come out.
        mixing: "mean", or "ordered" for one trained weight per rank.
        activation: Name of an activation; see `codesign.blocks.dense.activation_layers`.
        norm: "none", "batch" or "layer", before the activation.
        norm_axis: -1 normalizes each feature, 0 each particle.
    """

    width: Any
    mixing: Any = "mean"
    activation: Any = "relu"
    norm: Any = "none"
    norm_axis: int = -1

    def layers(self, shape: Shape) -> tuple[Layer, ...]:
        """Return the primitive layers, where `shape` (particles, features) goes in."""
        if len(shape) != 2:
            raise InvalidValueError(f"A linear interaction received shape {shape}; allowed: (particles, features).")
        if self.mixing not in ("mean", "ordered"):
            raise InvalidValueError(f"The mixing of a linear interaction is {self.mixing!r}; allowed: mean, ordered.")
        turn = Transpose((1, 0))
        summary = (Pool("mean", axis=0, keep=True),) if self.mixing == "mean" else (turn, Linear(1), turn)
        interaction = Parallel(((Linear(self.width),), (*summary, Linear(self.width))))
        return (interaction, *norm_layers(self.norm, self.norm_axis), *activation_layers(self.activation))


EXAMPLES = (
    ((4, 3), LinearInteraction(5)),
    ((3, 3), LinearInteraction(5, "ordered", "leaky_relu", "batch")),
    ((4, 3), LinearInteraction(5, norm="batch", norm_axis=0)),
    ((4, 3), LinearInteraction(5, activation="gelu", norm="layer")),
)
