"""Modules that compute in float exactly what integers will: every scale is a power of two, every gradient Brevitas'.

The straight-through operators are Brevitas'. Its `IntQuant` module computes the same values and gradients (a test holds
them equal) in twice the time, because it derives constants such as the clamping range anew in each call.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from brevitas.function.ops_ste import floor_ste, round_ste, tensor_clamp_ste
from torch import Tensor, nn

from codesign.compress.digits import WeightPrecision
from codesign.compress.formats import ActivationPrecision, Sharing, columns
from codesign.core.fixed_point import FixedPoint, Rounding
from codesign.core.geometry import Pair

BIAS_BITS = 20  # of the largest bias of a layer: none is finer than its last one
COARSEST, FINEST = -24, 24  # fraction bits that calibration may choose


class Quantizer(nn.Module):
    """Rounds and saturates activations to fixed-point formats.

    Attributes:
        bits: Width of every format that calibration chooses.
        is_signed: For each format; None until calibration where it depends on the data.
        rounding: Half-even at the input, where the host rounds; half-up inside, since it costs no hardware wherever the
            half can be part of a bias (see `lower`). On a Deep Sets jet network without training it reaches the
            accuracy of half-even (.577 and .573 at 6 bits; floor .516) at the cost of floor (39.6k LUT; half-even
            41.0k).
        sharing: What shares a format: the whole "tensor", each "channel" (an entry of the last axis), or no "element".
        precision: Learns how sensitive the loss is to each format, where formats are learned.
        shape: Of an activation, without the batch; set by `calibrate`, as the formats are.
        formats: One for all, for each entry of the last axis, or for each element in row-major order.
    """

    scale: Tensor
    low: Tensor
    high: Tensor

    def __init__(self, bits: int, rounding: Rounding, *, is_signed: bool | None, sharing: Sharing = "tensor") -> None:
        super().__init__()
        self.bits = bits
        self.rounding = rounding
        self.is_signed = is_signed
        self.sharing = sharing
        self.precision: ActivationPrecision | None = None
        self.shape: tuple[int, ...] = ()
        self.formats: tuple[FixedPoint, ...] = ()
        for name in ("scale", "low", "high"):
            self.register_buffer(name, torch.ones(()), persistent=False)

    def calibrate(self, x: Tensor) -> None:
        """Choose the formats that represent a sample of activations with the least mean squared error."""
        self.shape = tuple(x.shape[1:])
        rows = columns(x.detach(), self.sharing)
        signed = [self.is_signed] * rows.shape[1] if self.is_signed is not None else (rows < 0).any(0).tolist()
        highest = torch.tensor([float((1 << (self.bits - s)) - 1) for s in signed]).to(rows)
        lowest = torch.tensor([-float(s << (self.bits - 1)) for s in signed]).to(rows)
        fraction_bits = best_fraction_bits(rows, lowest, highest)
        self.set_formats(
            [FixedPoint(self.bits, self.bits - f, s) for f, s in zip(fraction_bits.tolist(), signed, strict=True)]
        )

    def set_formats(self, formats: Sequence[FixedPoint]) -> None:
        """Use these formats; as many as `sharing` asks for."""
        self.formats = tuple(formats)
        kind = {"dtype": self.scale.dtype, "device": self.scale.device}
        self.scale = torch.tensor([f.scale for f in formats], **kind)
        self.low = torch.tensor([f.minimum * f.scale for f in formats], **kind)
        self.high = torch.tensor([f.maximum * f.scale for f in formats], **kind)

    def forward(self, x: Tensor) -> Tensor:
        rows = x.flatten(1) if self.sharing == "element" else x
        mantissa = rows / self.scale
        match self.rounding:
            case Rounding.HALF_EVEN:
                mantissa = round_ste(mantissa)
            case Rounding.HALF_UP:
                mantissa = floor_ste(mantissa + 0.5)
            case Rounding.FLOOR:
                mantissa = floor_ste(mantissa)
        y = torch.clamp(mantissa * self.scale, self.low, self.high).view(x.shape)
        return y if self.precision is None else self.precision(y)


class Quantized(nn.Module):
    """A layer whose weights lie on power-of-two grids, one for each output, and its bias on the grid of the products.

    A grid of its own for each output costs nothing where every weight is built as constant wiring.

    Attributes:
        weight: Real weights, outputs first; trained, and rounded in every forward pass.
        bias: Real bias, one for each output.
        mask: 0 where a weight is pruned, else 1.
        weight_fraction_bits: int64 (outputs,), set by `calibrate`.
        input_fraction_bits: Grid of the input.
        precision: Rounds the weights in place of `bits`, where precision is learned.
    """

    mask: Tensor
    scale: Tensor
    bias_scale: Tensor
    limit: Tensor
    weight_fraction_bits: Tensor

    def __init__(self, weight: Tensor, bias: Tensor, bits: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight.detach().clone())
        self.bias = nn.Parameter(bias.detach().clone())
        self.bits = bits
        self.precision: WeightPrecision | None = None
        self.input_fraction_bits = 0
        self.register_buffer("mask", torch.ones_like(weight))
        for name in ("scale", "bias_scale", "limit", "weight_fraction_bits"):
            self.register_buffer(name, torch.ones(()), persistent=False)

    def calibrate(self, input_fraction_bits: int) -> None:
        """Choose for each output the grid that represents its weights with the least mean squared error."""
        rows = (self.weight * self.mask).detach().reshape(len(self.weight), -1)
        highest = torch.full((len(rows),), float((1 << (self.bits - 1)) - 1)).to(rows)
        finest = best_fraction_bits(rows.T, -highest, highest)
        # what is 2^bits smaller than the largest weights would vanish in the activations' common grid anyway
        coarsest = finest[rows.any(1)].min() if rows.any() else finest.new_zeros(())
        self.weight_fraction_bits = torch.where(rows.any(1), finest.clamp(max=coarsest + self.bits), coarsest)
        scale = torch.ldexp(torch.ones_like(self.bias), -self.weight_fraction_bits).detach()
        self.scale = scale.reshape(-1, *[1] * (self.weight.ndim - 1))
        self.limit = self.scale * highest[0]
        self.set_input_grid(input_fraction_bits)

    def set_input_grid(self, input_fraction_bits: int) -> None:
        """Put the bias on the grid of the products with an input of so many fraction bits, or a coarser one."""
        self.input_fraction_bits = input_fraction_bits
        finest = self.bias.detach().abs().max().clamp(min=2.0**COARSEST).log2().ceil() - BIAS_BITS
        self.bias_scale = (self.scale.flatten() * 2.0**-input_fraction_bits).clamp(min=torch.exp2(finest))

    def quantized_weight(self) -> Tensor:
        """Return the masked weights on their grids; symmetric, so that a weight and its negative cost the same."""
        if self.precision is not None:
            return self.precision(self.weight * self.mask, self.scale)
        rounded = round_ste(self.weight * self.mask / self.scale) * self.scale
        return tensor_clamp_ste(rounded, -self.limit, self.limit)

    def quantized_bias(self) -> Tensor:
        """Return the bias on its grid."""
        return round_ste(self.bias / self.bias_scale) * self.bias_scale

    def apply_to(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """Return what the layer computes of `x` with this weight and bias."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        return self.apply_to(x, self.quantized_weight(), self.quantized_bias())

    def integers(self) -> tuple[np.ndarray, np.ndarray, int]:
        """Return the mantissas (int64) of weight and bias, and the fraction bits of the weight.

        Both lie on the finest grid of all outputs; the bias has `input_fraction_bits` more.
        """
        fraction_bits = int(self.weight_fraction_bits.max())
        exponent = torch.tensor(fraction_bits)
        weight = torch.ldexp(self.quantized_weight().detach().double(), exponent)
        bias = torch.ldexp(self.quantized_bias().detach().double(), exponent + self.input_fraction_bits)
        return weight.numpy().astype(np.int64), bias.numpy().astype(np.int64), fraction_bits


class QuantizedLinear(Quantized):
    """A dense layer over the last axis; `weight` is (outputs, inputs)."""

    def apply_to(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        return F.linear(x, weight, bias)


class QuantizedConv2d(Quantized):
    """A convolution over (batch, height, width, channels); `weight` is (outputs, inputs / groups, *kernel)."""

    def __init__(
        self, weight: Tensor, bias: Tensor, bits: int, padding: Pair, stride: Pair = (1, 1), groups: int = 1
    ) -> None:
        super().__init__(weight, bias, bits)
        self.padding, self.stride, self.groups = padding, stride, groups

    def apply_to(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        y = F.conv2d(x.permute(0, 3, 1, 2), weight, bias, self.stride, self.padding, groups=self.groups)
        return y.permute(0, 2, 3, 1)


class QuantizedAffine(Quantized):
    """A multiplication and an addition of constants along one axis: a batch norm that no linear layer can absorb.

    `weight` and `bias` are (entries of the axis,).
    """

    def __init__(self, weight: Tensor, bias: Tensor, bits: int, axes_after: int) -> None:
        super().__init__(weight, bias, bits)
        self.view = (-1, *[1] * axes_after)

    def apply_to(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        y = x * weight.view(self.view)
        return y if bias is None else y + bias.view(self.view)


def best_fraction_bits(values: Tensor, low: Tensor, high: Tensor, candidates: int = 4) -> Tensor:
    """Return for each column the grid on which clipping and rounding together err least in the mean square.

    Args:
        values: (samples, columns).
        low: Smallest mantissa of each column.
        high: Largest mantissa of each column.
        candidates: Grids tried: the finest one that clips nothing, and the next finer ones.

    Returns:
        int64 (columns,).
    """
    reach = torch.maximum(values.amax(0) / high, values.amin(0) / low.clamp(max=-1.0)).clamp(min=2.0**-40)
    coarse = (-reach.log2().ceil()).clamp(COARSEST, FINEST - candidates)
    best, least = coarse, torch.full_like(coarse, torch.inf)
    for finer in range(candidates):
        scale = torch.exp2(-(coarse + finer))
        error = ((values / scale).round().clamp(low, high) * scale - values).square().mean(0)
        best = torch.where(error < least, coarse + finer, best)
        least = torch.minimum(error, least)
    return best.round().long()
