"""One price for hardware: what a LUT may cost in loss decides every digit of a weight and every bit of an activation.

Digits d and formats f minimize loss(d, f) + price * LUT(d, f): the first to second order, by sensitivities learned in
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
from codesign.compress.formats import ADDER_LUT, ADDER_LUT_PER_BIT, ActivationPrecision, Sharing, adder_lut
from codesign.compress.quantized_network import Add, MatMul, Multiply, QuantizedNetwork, Sum
from codesign.compress.quantizers import Quantized, Quantizer
from codesign.compress.tables import BelowMaximum, Table

ROUNDING = 2.3  # ReLU and saturation, in adders of the width that is left: da4ml takes 9 LUTs for 2 bits, 14 for 6
PORT = 0.5  # an input of the network, which is at least registered, likewise
LUT_INPUTS = 6
SUM_BITS = 10.0  # width of a sum that no quantizer has narrowed yet
SWEEPS = 2  # times that formats and digits are chosen in turns at one price
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
        is_streamed: All positions share one copy of a layer's hardware.
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
        is_streamed: All positions share one copy of a layer's hardware.
    """
    arguments = network.trace_inputs(inputs)
    quantizers = {i: s for i, s in enumerate(network.steps) if isinstance(s, Quantizer)}
    layers = {i: s for i, s in enumerate(network.steps) if isinstance(s, Quantized)}
    candidates = {i: q.precision.candidates(arguments[i], q.is_signed, q.rounding) for i, q in quantizers.items()}
    mantissas = {i: layer.weight.detach() / layer.scale for i, layer in layers.items()}
    before = (
        {i: _digits(layer, mantissas[i], layer.precision.setting) for i, layer in layers.items()},
        {i: _adders(q) for i, q in quantizers.items()},
    )

    lut_of = partial(expected_lut, network, is_streamed=is_streamed)

    def choose(price: float) -> tuple[float, dict[int, Tensor], dict[int, Tensor]]:
        digits, adders = before
        for _ in range(SWEEPS):
            slopes = _slopes(partial(lut_of, digits), adders)
            chosen = {i: c.cheapest(price * slopes[i]) for i, c in candidates.items()}
            adders = {i: adder_lut(c.widths(chosen[i])) for i, c in candidates.items()}
            slopes = _slopes(lambda d, a=adders: lut_of(d, a), digits)
            settings = {i: layer.precision.setting_at(mantissas[i], layer.scale, price * slopes[i])
                        for i, layer in layers.items()}  # fmt: skip
            digits = {i: _digits(layer, mantissas[i], settings[i]) for i, layer in layers.items()}
        return float(lut_of(digits, adders)), chosen, settings

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


def expected_lut(network: QuantizedNetwork, digits: Values, adders: Values, *, is_streamed: bool = False) -> Tensor:
    """Return the LUTs that a network is expected to take: linear in the digits, and linear in the adders.

    Each digit of a weight is an adder of what the weight multiplies. The network is walked with the LUTs of such an
    adder in place of values, so that every layer sees those that it has in hardware.

    Args:
        network: Says how results flow.
        digits: Nonzero signed digits of the weights of each layer.
        adders: LUTs of an adder that takes a number of each format of each quantizer; see `adder_lut`.
        is_streamed: All positions share one copy of a layer's hardware.
    """
    results: list[Tensor] = []
    total = torch.zeros((), device=next(network.parameters()).device)
    wide = float(adder_lut(torch.tensor(SUM_BITS)))
    for i, (step, sources) in enumerate(zip(network.steps, network.wiring, strict=True)):
        x = [results[j] for j in sources]
        match step:
            case Quantizer():
                shape = x[0].shape if x else (1, *network.input_shape)
                y = adders[i].reshape(1, *shape[1:]) if step.sharing == "element" else adders[i].expand(shape)
                lut = (ROUNDING if x else PORT) * y
            case Quantized():
                lut = step.apply_to(x[0], digits[i])
                y = torch.full_like(lut, wide)
            case Sum():
                lut = x[0]
                y = torch.full_like(step(x[0]), wide)
            case Add():
                y = torch.full_like(step(*x), wide)
                lut = y
            case Multiply() | MatMul():
                lut = step(*x)
                y = torch.full_like(lut, wide)
            case Table():
                width = (x[0] - ADDER_LUT) / ADDER_LUT_PER_BIT
                y = adder_lut(torch.full_like(x[0], step.format.width))
                lut = step.format.width * torch.exp2(width - LUT_INPUTS)
            case BelowMaximum():
                y = x[0]
                lut = 2 * y
            case _:
                y = step(*x)
                lut = torch.zeros_like(y)
        has_positions = is_streamed and lut.ndim > 2  # (1, *positions, channels)
        total = total + (lut.flatten(1, -2).mean(1) if has_positions else lut).sum()
        results.append(y)
    return total


def expected_lut_of(network: QuantizedNetwork, *, is_streamed: bool = False) -> float:
    """Return `expected_lut` of a network as it is."""
    digits = {
        i: _digits(step, step.weight.detach() / step.scale, step.precision.setting)
        for i, step in enumerate(network.steps)
        if isinstance(step, Quantized)
    }
    adders = {i: _adders(step) for i, step in enumerate(network.steps) if isinstance(step, Quantizer)}
    return float(expected_lut(network, digits, adders, is_streamed=is_streamed))


def _slopes(lut: Callable[[Values], Tensor], at: Values) -> dict[int, Tensor]:
    """Return the derivative of a cost by each of its values."""
    with torch.enable_grad():
        moved = {i: value.detach().clone().requires_grad_() for i, value in at.items()}
        return dict(zip(moved, torch.autograd.grad(lut(moved), [*moved.values()]), strict=True))


def _digits(layer: Quantized, mantissa: Tensor, setting: Tensor) -> Tensor:
    return signed_digits(layer.precision.rounded(mantissa, setting) * layer.mask)


def _adders(quantizer: Quantizer) -> Tensor:
    return adder_lut(torch.tensor([float(f.width) for f in quantizer.formats], device=quantizer.scale.device))
