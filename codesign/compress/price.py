"""One price for hardware: what a LUT may cost in loss decides every digit of a weight and every bit of an activation.

Digits d and widths w minimize loss(d, w) + price * LUT(d, w): the first to second order, by sensitivities learned in
training, the second by counting adders. The price is not tuned: it is solved for, so that the network has a given cost.
With equal sensitivities this is reverse water-filling (Cover and Thomas, Elements of Information Theory, 10.3.3).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from codesign.compress.digits import Granularity, WeightPrecision, signed_digits
from codesign.compress.formats import ActivationPrecision, Sharing
from codesign.compress.quantized_network import Add, MatMul, Multiply, QuantizedNetwork, Sum
from codesign.compress.quantizers import Quantized, Quantizer
from codesign.compress.tables import BelowMaximum, Table

ROUNDING_LUT_PER_BIT = 2.0  # ReLU and saturation; da4ml takes 1.5 to 3 for 2 to 6 bits
PORT_LUT_PER_BIT = 1.0  # an input bit is at least a register
SUM_BITS = 10.0  # width of a sum that no quantizer has narrowed yet
LUT_INPUTS = 6
SWEEPS = 2  # times that widths and digits are chosen in turns at one price
HALVINGS = 30
PRICES = (-30.0, 10.0)  # natural logarithms

Values = Mapping[int, Tensor]  # by step of the network


@dataclass(frozen=True)
class Allocation:
    """What the hardware of a network was spent on.

    Attributes:
        price: Loss that one LUT was worth.
        lut: Expected cost; see `expected_lut`.
    """

    price: float
    lut: float


def make_learnable(
    network: QuantizedNetwork, granularity: Granularity, batch_size: int, *, is_streamed: bool = False
) -> None:
    """Let the precision of every weight and activation be learned in the trainings to come.

    Args:
        network: Changes in place; calibrate it anew.
        granularity: What shares a precision. With "single" each activation has a format of its own where it has
            hardware of its own; positions of a stream share it, and so do those of the input, which the host rounds.
        batch_size: Samples of a training step.
        is_streamed: All positions of an image share one copy of a layer's hardware.
    """
    sharing: Sharing = "tensor" if granularity == "tensor" else "channel"
    for i, step in enumerate(network.steps):
        if isinstance(step, Quantized):
            step.precision = WeightPrecision(step.weight.detach(), granularity, batch_size)
        elif isinstance(step, Quantizer):
            step.sharing = "element" if granularity == "single" and i and not is_streamed else sharing
            step.precision = ActivationPrecision(step.sharing)


@torch.no_grad()
def allocate(network: QuantizedNetwork, inputs: Tensor, lut: float, *, is_streamed: bool = False) -> Allocation:
    """Give every weight its digits and every activation its format, so that the network has a given expected cost.

    Args:
        network: Made learnable and trained for some steps since; changes in place.
        inputs: (rows, *input_shape): a sample, on the network's device.
        lut: Expected cost to be reached, from below; see `expected_lut`.
        is_streamed: All positions of an image share one copy of a layer's hardware.
    """
    arguments = network.trace_inputs(inputs)
    quantizers = {i: s for i, s in enumerate(network.steps) if isinstance(s, Quantizer)}
    layers = {i: s for i, s in enumerate(network.steps) if isinstance(s, Quantized)}
    candidates = {i: q.precision.candidates(arguments[i], q.is_signed, q.rounding) for i, q in quantizers.items()}
    mantissas = {i: layer.weight.detach() / layer.scale for i, layer in layers.items()}
    before = (
        {i: _digits(layer, mantissas[i], layer.precision.setting) for i, layer in layers.items()},
        {i: _widths(q) for i, q in quantizers.items()},
    )

    lut_of = partial(expected_lut, network, is_streamed=is_streamed)

    def choose(price: float) -> tuple[float, dict[int, Tensor], dict[int, Tensor]]:
        digits, widths = before
        for _ in range(SWEEPS):
            slopes = _slopes(partial(lut_of, digits), widths)
            chosen = {i: c.cheapest(price * slopes[i]) for i, c in candidates.items()}
            widths = {i: c.widths(chosen[i]) for i, c in candidates.items()}
            slopes = _slopes(lambda d, w=widths: lut_of(d, w), digits)
            settings = {i: layer.precision.setting_at(mantissas[i], layer.scale, price * slopes[i])
                        for i, layer in layers.items()}  # fmt: skip
            digits = {i: _digits(layer, mantissas[i], settings[i]) for i, layer in layers.items()}
        return float(lut_of(digits, widths)), chosen, settings

    low, high = PRICES
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if choose(math.exp(middle))[0] > lut else (low, middle)
    found, chosen, settings = choose(math.exp(high))
    for i, quantizer in quantizers.items():
        quantizer.set_formats(candidates[i].formats(chosen[i]))
    for i, layer in layers.items():
        layer.precision.setting.copy_(settings[i])
        layer.set_input_grid(network.input_grid(i))
    for i, step in enumerate(network.steps):
        if isinstance(step, Table):
            step.fill(*network.reach(i))
    return Allocation(math.exp(high), found)


def expected_lut(network: QuantizedNetwork, digits: Values, widths: Values, *, is_streamed: bool = False) -> Tensor:
    """Return the LUTs that a network is expected to take: linear in the digits, and linear in the widths.

    Each digit of a weight is an adder as wide as what the weight multiplies. The network is walked with widths in place
    of values, so that every layer sees the widths it would see in hardware.

    Args:
        network: Says how results flow.
        digits: Nonzero signed digits of the weights of each layer.
        widths: Bits of the formats of each quantizer.
        is_streamed: All positions of an image share one copy of a layer's hardware.
    """
    results: list[Tensor] = []
    total = torch.zeros((), device=next(network.parameters()).device)
    for i, (step, sources) in enumerate(zip(network.steps, network.wiring, strict=True)):
        x = [results[j] for j in sources]
        match step:
            case Quantizer():
                shape = x[0].shape if x else (1, *network.input_shape)
                y = widths[i].reshape(1, *shape[1:]) if step.sharing == "element" else widths[i].expand(shape)
                lut = (ROUNDING_LUT_PER_BIT if x else PORT_LUT_PER_BIT) * y
            case Quantized():
                lut = step.apply_to(x[0], digits[i])
                y = torch.full_like(lut, SUM_BITS)
            case Sum():
                lut = x[0]
                y = torch.full_like(step(x[0]), SUM_BITS)
            case Add():
                y = torch.full_like(step(*x), SUM_BITS)
                lut = y
            case Multiply() | MatMul():
                lut = step(*x)
                y = torch.full_like(lut, SUM_BITS)
            case Table():
                y = torch.full_like(x[0], step.format.width)
                lut = y * torch.exp2(x[0] - LUT_INPUTS)
            case BelowMaximum():
                y = x[0]
                lut = 2 * y
            case _:
                y = step(*x)
                lut = torch.zeros_like(y)
        is_image = is_streamed and lut.ndim == 4
        total = total + (lut.mean((1, 2)) if is_image else lut).sum()
        results.append(y)
    return total


def expected_lut_of(network: QuantizedNetwork, *, is_streamed: bool = False) -> float:
    """Return `expected_lut` of a network as it is."""
    digits = {
        i: _digits(step, step.weight.detach() / step.scale, step.precision.setting)
        for i, step in enumerate(network.steps)
        if isinstance(step, Quantized)
    }
    widths = {i: _widths(step) for i, step in enumerate(network.steps) if isinstance(step, Quantizer)}
    return float(expected_lut(network, digits, widths, is_streamed=is_streamed))


def _slopes(lut: Callable[[Values], Tensor], at: Values) -> dict[int, Tensor]:
    """Return the derivative of a cost by each of its values."""
    with torch.enable_grad():
        moved = {i: value.detach().clone().requires_grad_() for i, value in at.items()}
        return dict(zip(moved, torch.autograd.grad(lut(moved), [*moved.values()]), strict=True))


def _digits(layer: Quantized, mantissa: Tensor, setting: Tensor) -> Tensor:
    return signed_digits(layer.precision.rounded(mantissa, setting) * layer.mask)


def _widths(quantizer: Quantizer) -> Tensor:
    return torch.tensor([float(f.width) for f in quantizer.formats], device=quantizer.scale.device)
