"""Convolutions of few channels on a CPU: one matrix product over patches that lie in memory with the batch innermost.

A convolution of three channels leaves most lanes of a vector unit idle where channels are innermost. With the batch
innermost every copy, sum and product runs over a whole batch: a training step of two such convolutions takes 0.3 to 0.5
of what oneDNN's takes. From some eight channels on oneDNN is ahead (`benchmarks/training.py`).
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

FEW_CHANNELS = 4  # inputs up to which patches are faster


def turn(x: Tensor) -> Tensor:
    """Return a view of (batch, height, width, channels) as (channels, height, width, batch), or the reverse."""
    return x.permute(3, 1, 2, 0)


def is_batch_innermost(x: Tensor) -> bool:
    """Return whether x (batch, height, width, channels) lies in memory as `convolve` leaves it."""
    return x.dim() == 4 and x.stride(0) == 1


def convolve(x: Tensor, weight: Tensor, bias: Tensor, stride: int, padding: int) -> Tensor:
    """Return the convolution of x (batch, height, width, channels) in that shape, in memory with the batch innermost.

    Args:
        x: In any memory layout.
        weight: (outputs, channels, kernel, kernel).
        bias: (outputs,).
        stride: Step between windows.
        padding: Zeros on every side.
    """
    outputs, _, kernel, _ = weight.shape
    image = turn(x).contiguous()
    if padding:
        image = F.pad(image, (0, 0, padding, padding, padding, padding))
    patches: Tensor = _Patches.apply(image, kernel, stride)  # (channels, kernel, kernel, height, width, batch)
    product = torch.addmm(bias[:, None], weight.flatten(1), patches.flatten(0, 2).flatten(1))
    return turn(product.view(outputs, *patches.shape[3:]))


class _Patches(torch.autograd.Function):
    """Windows of an image (channels, height, width, batch); torch's own `unfold` is many times slower backward."""

    @staticmethod
    def forward(ctx: Any, image: Tensor, kernel: int, stride: int) -> Tensor:
        ctx.shape, ctx.kernel, ctx.stride = image.shape, kernel, stride
        windows = image.unfold(1, kernel, stride).unfold(2, kernel, stride)
        return windows.permute(0, 4, 5, 1, 2, 3).contiguous()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        height, width = (1 + ctx.stride * (n - 1) for n in gradient.shape[3:5])
        total = gradient.new_zeros(ctx.shape)
        for i in range(ctx.kernel):
            for j in range(ctx.kernel):
                total[:, i : i + height : ctx.stride, j : j + width : ctx.stride] += gradient[:, i, j]
        return total, None, None
