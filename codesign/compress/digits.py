"""Weights as few signed digits: a digit stays where it lowers the loss by more than its adder costs.

A constant multiplication is one adder for each nonzero signed digit of the constant, so that digits, not bits, are what
a weight costs: 7 = 8 - 1 takes one adder as 9 = 8 + 1 does. A weight without digits is pruned.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

Granularity = Literal["single", "channel", "tensor"]
DIGITS = 4  # most digits of a weight; those of 8 bits have no more
MEMORY = 0.99  # weight of the past, at each step, in a mean of squared gradients
COARSEST = 30  # dropped bits that leave nothing of any weight


def signed_digits(mantissa: Tensor) -> Tensor:
    """Return how many nonzero digits each integer has in its canonical signed-digit form.

    They stand where x and 3x differ in binary: Prodinger, On binary representations of integers with digits -1, 0, 1
    (Integers 0, A08, 2000).
    """
    x = mantissa.detach().abs().long()
    differing = x ^ (3 * x)
    return torch.stack([(differing >> k) & 1 for k in range(34)]).sum(0).to(mantissa.dtype)


def with_few_digits(mantissa: Tensor, price: Tensor) -> Tensor:
    """Return integers near real mantissas that minimize squared error + price * nonzero signed digits.

    The k-digit candidate takes the nearest power of two of what the digits before it leave, the best approximation with
    k digits.

    Args:
        mantissa: Real numbers of any shape.
        price: Squared error that one digit is worth, of the same shape.
    """
    rest, value, chosen = mantissa, torch.zeros_like(mantissa), torch.zeros_like(mantissa)
    least = mantissa.square()
    for k in range(1, DIGITS + 1):
        exponent = torch.frexp(rest.abs() * (4 / 3)).exponent - 1  # of the nearest power of two
        digit = torch.where(rest.abs() < 0.5, 0.0, torch.ldexp(rest.sign(), exponent.clamp(min=0)))
        value, rest = value + digit, rest - digit
        total = rest.square() + k * price
        is_better = (total < least) & (digit != 0)
        chosen, least = torch.where(is_better, value, chosen), torch.where(is_better, total, least)
    return chosen


class WeightPrecision(nn.Module):
    """Rounds weights to what they are worth, and learns during training what that is.

    A change d of a weight changes the loss by h d^2 / 2, where h is its sensitivity: the curvature of the loss, taken
    as the mean over samples of the squared gradient (the empirical Fisher information; LeCun et al., Optimal Brain
    Damage, 1990).

    Attributes:
        granularity: "single" gives each weight digits of its own; "channel" and "tensor" give the weights of an output,
            or all, one number of dropped bits.
        batch_size: Samples behind each gradient, which is their mean.
        sensitivity: h of each weight; of its shape.
        setting: For "single" the price of a digit in squared mantissas, else the dropped bits; of the weight's shape.
    """

    sensitivity: Tensor
    setting: Tensor

    def __init__(self, weight: Tensor, granularity: Granularity, batch_size: int) -> None:
        super().__init__()
        self.granularity, self.batch_size = granularity, batch_size
        self.register_buffer("sensitivity", torch.zeros_like(weight))
        self.register_buffer("setting", torch.zeros_like(weight))

    def forward(self, weight: Tensor, scale: Tensor) -> Tensor:
        return _Round.apply(weight, scale, self)

    def rounded(self, mantissa: Tensor, setting: Tensor) -> Tensor:
        """Return integer mantissas for real ones, the same in float32 and float64: near a tie that takes float64."""
        if self.granularity == "single":
            return with_few_digits(mantissa.double(), setting.double()).to(mantissa)
        return torch.ldexp(torch.ldexp(mantissa, -setting).round(), setting)

    def setting_at(self, mantissa: Tensor, scale: Tensor, digit_price: Tensor) -> Tensor:
        """Return the setting that minimizes loss + price, to second order.

        Args:
            mantissa: Real mantissas of the weights.
            scale: Value of one step of each.
            digit_price: Loss that one digit of each weight may cost.
        """
        curvature = (self.sensitivity * scale.square() / 2).clamp(min=1e-30)  # loss per squared mantissa
        if self.granularity == "single":
            return digit_price / curvature
        drops = [*range(int(mantissa.abs().max().clamp(min=1.0).log2()) + 2), COARSEST]
        totals = []
        for dropped in drops:
            kept = self.rounded(mantissa, torch.full_like(mantissa, dropped))
            loss = curvature * (kept - mantissa).square() + digit_price * signed_digits(kept)
            totals.append(loss.flatten(1).sum(1) if self.granularity == "channel" else loss.sum()[None])
        best = torch.tensor(drops).to(mantissa)[torch.stack(totals).argmin(0)]
        return best.view(-1, *[1] * (mantissa.ndim - 1)).expand_as(mantissa).clone()


class _Round(torch.autograd.Function):
    """Rounding that hands the gradient on, and remembers its square."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, scale: Tensor, precision: WeightPrecision) -> Tensor:
        ctx.precision = precision
        return precision.rounded(weight / scale, precision.setting) * scale

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        # the gradients of samples are nearly independent: the square of their mean is the mean square over their number
        share = (1 - MEMORY) * ctx.precision.batch_size
        ctx.precision.sensitivity.mul_(MEMORY).addcmul_(gradient, gradient, value=share)
        return gradient, None, None
