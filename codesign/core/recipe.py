"""How a trained candidate becomes an integer network: bits, pruning, epochs."""

from __future__ import annotations

from dataclasses import dataclass

from codesign.core.errors import InvalidValueError


@dataclass(frozen=True)
class CompressionRecipe:
    """One way to compress.

    Attributes:
        bits: Width of weights and activations, uniform over the network.
        pruning: "none", "magnitude" (single weights) or "structured" (whole neurons, before quantization).
        sparsity: Fraction of the weights (magnitude) or neurons (structured) to be removed in the end.
        steps: Pruning steps; each removes the same fraction of what remains.
        epochs: Epochs of quantization-aware training in each step.
        learning_rate: Initial learning rate of the quantization-aware training.
    """

    bits: int = 8
    pruning: str = "magnitude"
    sparsity: float = 0.5
    steps: int = 3
    epochs: int = 3
    learning_rate: float = 5e-3

    def __post_init__(self) -> None:
        if not 2 <= self.bits <= 16:
            raise InvalidValueError(f"The bit width is {self.bits}; allowed: 2 to 16.")
        if not 0.0 <= self.sparsity < 1.0:
            raise InvalidValueError(f"The sparsity is {self.sparsity}; allowed: from 0 up to, not including, 1.")
        if self.pruning not in ("none", "magnitude", "structured"):
            raise InvalidValueError(f"The pruning is {self.pruning!r}; allowed: none, magnitude, structured.")
        if self.steps < 1 or self.epochs < 1:
            raise InvalidValueError(
                f"Pruning has {self.steps} steps of {self.epochs} epochs; allowed: 1 or more of each."
            )
