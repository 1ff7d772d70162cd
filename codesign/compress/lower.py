"""The integers of a quantized network, and the proof that both agree."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from codesign.compress.quantize import Add, Concat, QuantizedNetwork, Sum
from codesign.compress.quantizers import Quantized, QuantizedAffine, QuantizedConv2d, QuantizedLinear, Quantizer
from codesign.core import operations as ops
from codesign.core.errors import ExactnessError, UnsupportedError
from codesign.core.fixed_point import Rounding
from codesign.core.integer_network import IntegerNetwork
from codesign.core.layers import Flatten, Pool, Reshape, Transpose
from codesign.core.operations import Operation, Range, finest
from codesign.network import Activate, Rearrange


def lower(quantized: QuantizedNetwork) -> IntegerNetwork:
    """Return the integer network that computes what `quantized` computes in eval mode, exactly.

    Rounding half up, floor(x + 1/2), becomes a plain truncation wherever the half can be part of a bias: after a linear
    operation, with or without a ReLU in between, since max(a + h, 0) and max(a, 0) + h lie in the same step of 2h.

    Raises:
        UnsupportedError: A sum would need more than 60 bits.
    """
    lowering = _Lowering(quantized)
    for step, inputs in zip(quantized.steps, quantized.wiring, strict=True):
        lowering.step(step, tuple(lowering.results[i] for i in inputs))
    return IntegerNetwork(tuple(lowering.operations))


def require_agreement(quantized: QuantizedNetwork, network: IntegerNetwork, inputs: np.ndarray) -> None:
    """Compare both networks on `inputs` (rows, *input_shape), in float64, at every quantizer and at the output.

    Raises:
        ExactnessError: They differ; the message names the first step that does, and a row.
    """
    exact = copy.deepcopy(quantized).double().eval()
    with torch.inference_mode():
        floats = exact.trace(torch.from_numpy(np.asarray(inputs, dtype=np.float64)))
    integers = network.trace(network.quantize_input(inputs))
    mine = [i for i, step in enumerate(exact.steps) if isinstance(step, Quantizer)]
    theirs = [i for i, step in enumerate(network.operations) if isinstance(step, ops.Input | ops.Quantize)]
    for i, j in (*zip(mine, theirs, strict=True), (len(floats) - 1, len(integers) - 1)):
        differs = floats[i].numpy() != integers[j].to_float()
        if differs.any():
            row = int(np.argwhere(differs)[0][0])
            raise ExactnessError(
                f"The quantized network and its integers differ in {int(differs.sum())} of {differs.size} values at "
                f"{quantized.names[i]}, first in row {row}; allowed: none. Lower the network again after training it."
            )


class _Lowering:
    def __init__(self, quantized: QuantizedNetwork) -> None:
        self.operations: list[Operation] = []
        self.ranges: list[Range] = []
        self.results: list[int] = []
        self.uses = [sum(i in w for w in quantized.wiring) for i in range(len(quantized.steps))]
        self.input_shape = quantized.input_shape

    def add(self, operation: Operation) -> int:
        self.operations.append(operation)
        return len(self.operations) - 1

    def step(self, step: nn.Module, inputs: tuple[int, ...]) -> None:
        match step:
            case Quantizer() if not inputs:
                result = self.add(ops.Input((), self.input_shape, step.formats, step.rounding))
            case Quantizer():
                result = self.add(ops.Quantize(inputs, step.formats, self.absorb_half(step, inputs[0])))
            case Quantized():
                result = self.multiply(step, inputs)
            case Sum(axis=axis, keep=keep, mean_bits=mean_bits):
                result = self.add(ops.Sum(inputs, axis, keep, mean_bits))
            case Add():
                result = self.add(ops.Add(inputs))
            case Concat():
                result = self.concatenate(inputs)
            case Activate(kind="relu"):
                result = self.add(ops.Relu(inputs))
            case Activate(kind="leaky_relu", slope_bits=slope_bits):
                result = self.add(ops.LeakyRelu(inputs, slope_bits))
            case Rearrange():
                result = self.rearrange(step, inputs)
            case _:
                raise UnsupportedError(f"A step {type(step).__name__} has no integer form; use the steps of quantize.")
        self.results.append(result)
