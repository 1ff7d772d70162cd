"""The quantized network: steps in single static assignment, as an `IntegerNetwork` has them, that can be trained."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from codesign.compress.quantizers import Quantized, QuantizedConv2d, QuantizedLinear, Quantizer
from codesign.compress.tables import BelowMaximum, Table
from codesign.core.layers import Shape
from codesign.core.operations import finest


class Sum(nn.Module):
    """Sum over one axis, times 2^-mean_bits; `axis` counts without the batch, from 0."""

    def __init__(self, axis: int, *, keep: bool, mean_bits: int) -> None:
        super().__init__()
        self.axis, self.keep, self.mean_bits = axis, keep, mean_bits

    def forward(self, x: Tensor) -> Tensor:
        return x.sum(self.axis + 1, keepdim=self.keep) * 2.0**-self.mean_bits


class Add(nn.Module):
    """Sum of two results."""

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return x + y


class Multiply(nn.Module):
    """Product of two results, element by element, with broadcasting."""

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return x * y


class MatMul(nn.Module):
    """Product of two results as matrices over their last two axes."""

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return x @ y


class Concat(nn.Module):
    """Results side by side along the last axis, `widths` entries each."""

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.widths = tuple(widths)

    def forward(self, *x: Tensor) -> Tensor:
        return torch.cat(x, dim=-1)


class QuantizedNetwork(nn.Module):
    """A network that computes in float what integers will compute, and can be trained.

    Attributes:
        steps: Modules; the first is the input's quantizer, the last gives the exact outputs.
        wiring: For each step the steps whose results it takes; the first takes the input.
        names: For each step the layer it comes from, for messages.
        input_shape: Shape of the input without the batch.
    """

    def __init__(
        self, steps: Sequence[nn.Module], wiring: Sequence[tuple[int, ...]], names: Sequence[str], input_shape: Shape
    ) -> None:
        super().__init__()
        self.steps = nn.ModuleList(steps)
        self.wiring = tuple(wiring)
        self.names = tuple(names)
        self.input_shape = input_shape

    def forward(self, x: Tensor) -> Tensor:
        return self.trace(x)[-1]

    def trace_inputs(self, x: Tensor) -> list[Tensor]:
        """Return the first thing that each step takes."""
        results = self.trace(x)
        return [results[sources[0]] if sources else x for sources in self.wiring]

    def trace(self, x: Tensor) -> list[Tensor]:
        """Return the result of every step."""
        results = [self.steps[0](x)]
        for step, inputs in zip(self.steps[1:], self.wiring[1:], strict=True):
            results.append(step(*(results[i] for i in inputs)))
        return results

    def weighted(self) -> list[Quantized]:
        """Return the linear and convolution steps: those whose weights can be pruned."""
        return [step for step in self.steps if isinstance(step, QuantizedLinear | QuantizedConv2d)]

    def input_grid(self, step: int) -> int:
        """Return the fraction bits of what `step` takes, which a quantizer or a table before it fixed."""
        return self.reach(step)[2]

    def reach(self, step: int) -> tuple[int, int, int]:
        """Return the smallest and largest mantissa that can reach `step`, and the fraction bits of their grid."""
        source = self.wiring[step][0]
        module = self.steps[source]
        if isinstance(module, Quantizer):
            grid = finest(module.formats)
            ends = [(f.minimum << (grid - f.fraction_bits), f.maximum << (grid - f.fraction_bits))
                    for f in module.formats if f.width]  # fmt: skip
            return min((low for low, _ in ends), default=0), max((high for _, high in ends), default=0), grid
        if isinstance(module, Table):
            return module.format.minimum, module.format.maximum, module.format.fraction_bits
        low, high, grid = self.reach(source)
        return (0, high - low, grid) if isinstance(module, BelowMaximum) else (low, high, grid)
