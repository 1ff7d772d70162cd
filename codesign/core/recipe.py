"""How a trained candidate becomes an integer network: method, precision, steps, epochs."""

from __future__ import annotations

from dataclasses import dataclass

from codesign.core.errors import InvalidValueError, unknown_name

METHODS = ("learned", "magnitude", "structured", "uniform")
GRANULARITIES = ("single", "channel", "tensor")


@dataclass(frozen=True)
class CompressionRecipe:
    """One way to compress.

    Attributes:
        method: "learned" gives every weight and activation the precision it is worth while the hardware cost falls;
            "magnitude" prunes single weights and "structured" whole neurons, at one width; "uniform" prunes nothing.
        bits: Width of weights and activations; where precision is learned, the width it starts from.
        granularity: What shares a learned precision: "single" nothing, "channel" the weights of an output and its
            activations, "tensor" a whole layer's.
        is_streamed: All positions share one copy of a layer's hardware, and so its precision.
        sparsity: Fraction of the weights (magnitude), of what neurons cost (structured) or of the LUTs (learned) to be
            removed in the end.
        lut_target: Adder-graph cost to be reached in the end by learned precision; 0 leaves it to `sparsity`.
        steps: Steps after the first; each removes the same fraction of what remains.
        epochs: Epochs of quantization-aware training in each step.
        learning_rate: Initial learning rate of the quantization-aware training.
        is_rewound: After each magnitude pruning, training starts from the weights before the first one.
        distillation: Share of the loss that compares with the float network's answers instead of the targets.
    """

    method: str = "learned"
    bits: int = 8
    granularity: str = "single"
    is_streamed: bool = False
    sparsity: float = 0.9
    lut_target: float = 0.0
    steps: int = 6
    epochs: int = 4
    learning_rate: float = 5e-3
    is_rewound: bool = False
    distillation: float = 0.0

    def __post_init__(self) -> None:
        for kind, value, allowed in (
            ("compression method", self.method, METHODS),
            ("granularity", self.granularity, GRANULARITIES),
        ):
            if value not in allowed:
                raise unknown_name(kind, value, allowed)
        if not 2 <= self.bits <= 16:
            raise InvalidValueError(f"The bit width is {self.bits}; allowed: 2 to 16.")
        for name in ("sparsity", "distillation"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise InvalidValueError(
                    f"The {name} is {getattr(self, name)}; allowed: from 0 up to, not including, 1."
                )
        if not 0 <= self.lut_target < float("inf"):
            raise InvalidValueError(f"The LUT target is {self.lut_target}; allowed: 0 for none, or a positive number.")
        if self.lut_target and self.method != "learned":
            raise InvalidValueError(
                f"The LUT target is {self.lut_target:g} with the method {self.method!r}; "
                "allowed: a target with the method learned only."
            )
        if self.steps < 1 or self.epochs < 1:
            raise InvalidValueError(
                f"Compression has {self.steps} steps of {self.epochs} epochs; allowed: 1 or more of each."
            )
