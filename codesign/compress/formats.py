"""Activations in as few bits as they are worth: formats by granularity, and what each candidate costs the loss."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from codesign.compress.digits import MEMORY
from codesign.core.fixed_point import FixedPoint, Rounding

Sharing = Literal["element", "channel", "tensor"]
WIDEST = 10  # magnitude bits that a learned format may have
# What rounding takes from activations, the weights cannot win back by training, as they do for one another. Found on a
# jet network: counted once it lost 2 % accuracy at 12,000 LUTs; factors from 2 to 12 served alike.
NOISE_WEIGHT = 4.0
# LUTs of one adder: da4ml's graphs of 60 random matrices (inputs of 2 to 8 bits, 0.5 to 1.8 digits a weight), sharing
# included, follow this with a mean error of 2.7 %.
ADDER_LUT, ADDER_LUT_PER_BIT = 1.58, 0.57
CLIPPED = 3  # integer bits, counted from those that clip nothing, that it may do without


def columns(x: Tensor, sharing: Sharing) -> Tensor:
    """Return activations (batch, *shape) as (samples, formats): what shares a format stands in one column."""
    if sharing == "element":
        return x.reshape(len(x), -1)
    return x.reshape(-1, x.shape[-1] if sharing == "channel" else 1)


def adder_lut(width: Tensor) -> Tensor:
    """Return the LUTs of an adder whose input has so many bits; none where that is the constant zero."""
    return torch.where(width > 0, ADDER_LUT + ADDER_LUT_PER_BIT * width, 0.0)


class Candidates(NamedTuple):
    """Formats that a quantizer may take; each field is (candidates, formats), the first candidate the constant zero.

    Attributes:
        loss: By how much each one raises the loss, to second order.
        width: Bits, the sign included.
        integer_bits: As `FixedPoint` counts them.
        is_signed: bool (formats,).
    """

    loss: Tensor
    width: Tensor
    integer_bits: Tensor
    is_signed: Tensor

    def cheapest(self, adder_price: Tensor) -> Tensor:
        """Return for each format the number of the candidate that minimizes loss + price.

        Args:
            adder_price: (formats,): loss that one LUT may cost, times the adders that take what has this format.
        """
        return (self.loss + adder_price * adder_lut(self.width)).argmin(0)

    def widths(self, chosen: Tensor) -> Tensor:
        """Return the width of each format, where `chosen` numbers the candidates."""
        return self.width.gather(0, chosen[None])[0]

    def formats(self, chosen: Tensor) -> list[FixedPoint]:
        """Return the formats that `chosen` numbers."""
        integer_bits = self.integer_bits.gather(0, chosen[None])[0]
        triples = zip(self.widths(chosen).tolist(), integer_bits.tolist(), self.is_signed.tolist(), strict=True)
        return [FixedPoint(int(w), int(i), s) if w else FixedPoint(0, 0, False) for w, i, s in triples]


class ActivationPrecision(nn.Module):
    """Learns during training how sensitive the loss is to each format of a quantizer.

    An error e of an activation changes the loss by h e^2 / 2 in the mean, where h is the mean over samples of the
    squared gradient, summed over the elements that share a format (see `WeightPrecision`).

    Attributes:
        sharing: Which elements share a format.
        sensitivity: h of each format; empty before the first step of a training.
    """

    sensitivity: Tensor

    def __init__(self, sharing: Sharing) -> None:
        super().__init__()
        self.sharing = sharing
        self.register_buffer("sensitivity", torch.zeros(0), persistent=False)

    def forward(self, y: Tensor) -> Tensor:
        if self.training and torch.is_grad_enabled():
            y = y if y.requires_grad else y.requires_grad_()  # the input's quantizer has nothing to train
            y.register_hook(self._observe)
        return y

    def _observe(self, gradient: Tensor) -> None:
        batch_size = len(gradient)  # the gradient of a sample is this many times its part of the mean
        found = columns(gradient, self.sharing).square().sum(0) * batch_size
        is_first = self.sensitivity.shape != found.shape
        self.sensitivity = found if is_first else MEMORY * self.sensitivity + (1 - MEMORY) * found

    def candidates(self, x: Tensor, is_signed: bool | None, rounding: Rounding) -> Candidates:
        """Return what every format would do to a sample of what reaches the quantizer.

        A constant error is left out, since the bias of what follows absorbs it.

        Args:
            x: (batch, *shape).
            is_signed: Of every format; None where the sample tells.
            rounding: The quantizer's; half to even counts as half up, from which it differs in ties alone.
        """
        rows = columns(x.detach(), self.sharing)
        signed = (rows < 0).any(0) if is_signed is None else torch.full_like(rows[0], is_signed).bool()
        reach = rows.abs().amax(0).clamp(min=2.0**-20).log2().ceil()
        half = 0.0 if rounding is Rounding.FLOOR else 0.5
        losses, widths, integers = [rows.var(0, correction=0)], [torch.zeros_like(reach)], [torch.zeros_like(reach)]
        for integer_bits in (reach - clipped for clipped in range(CLIPPED)):
            for width in range(1, WIDEST + 1):
                step = torch.exp2(integer_bits - width)
                high = torch.exp2(integer_bits) - step
                low = torch.where(signed, -torch.exp2(integer_bits), 0.0)
                error = ((rows / step + half).floor() * step).clamp(low, high) - rows
                losses.append(error.var(0, correction=0))
                widths.append(width + signed.to(reach))
                integers.append(integer_bits + signed.to(reach))
        loss = NOISE_WEIGHT * torch.stack(losses) * self.sensitivity / 2
        return Candidates(loss, torch.stack(widths), torch.stack(integers), signed)
