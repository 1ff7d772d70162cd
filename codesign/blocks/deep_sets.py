"""Deep Sets: a network on every particle, an aggregation over particles; what follows is the network on the set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from codesign.blocks.dense import dense_layers
from codesign.core.architecture import Block
from codesign.core.errors import InvalidValueError
from codesign.core.layers import Layer, Pool, Shape


@dataclass(frozen=True)
class DeepSets(Block):
    """The permutation-invariant part of Zaheer et al., Deep Sets, arXiv 1703.06114.

    Built exactly with every activation, no norm or batch norm; layer norm is float-only.

    Attributes:
        widths: Outputs of each dense layer on a particle (phi).
        activations: One for all layers, or one each.
        norm: One for all layers, or one each: "none", "batch", "layer".
        norm_axis: -1 normalizes each feature, 0 each particle (as the founding paper's networks do).
        aggregation: "mean" (exact for 2^n particles), "sum" or "max".
    """

    widths: Any
    activations: Any = "relu"
    norm: Any = "none"
    norm_axis: int = -1
    aggregation: Any = "mean"

    def layers(self, shape: Shape) -> tuple[Layer, ...]:
        """Return the primitive layers, where `shape` (particles, features) goes in."""
        if len(shape) != 2:
            raise InvalidValueError(f"Deep sets received shape {shape}; allowed: (particles, features).")
        rows = zip(self.widths, self._each(self.activations), self._each(self.norm), strict=True)
        phi = [layer for row in rows for layer in dense_layers(*row, norm_axis=self.norm_axis)]
        return (*phi, Pool(self.aggregation, axis=0))

    def _each(self, value: str | tuple[str, ...]) -> tuple[str, ...]:
        return (value,) * len(self.widths) if isinstance(value, str) else value


EXAMPLES = (
    ((4, 3), DeepSets((5, 2), norm="batch")),
    ((3, 3), DeepSets((4,), "leaky_relu", "batch", norm_axis=0, aggregation="mean")),
    ((4, 3), DeepSets((4, 2), ("relu", "identity"), aggregation="max")),
    ((4, 3), DeepSets((4,), "gelu", aggregation="sum")),
    ((4, 3), DeepSets((4,), norm="layer")),
)
