"""The integers of a quantized network, and the proof that both agree."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from codesign.compress.quantized_network import Add, Concat, MatMul, Multiply, QuantizedNetwork, Sum
from codesign.compress.quantizers import Quantized, QuantizedAffine, QuantizedConv2d, Quantizer
from codesign.compress.tables import BelowMaximum, Table
from codesign.core import operations as ops
from codesign.core.errors import ExactnessError, UnsupportedError
from codesign.core.fixed_point import Rounding
from codesign.core.integer_network import IntegerNetwork
from codesign.core.layers import Pool, Transpose, Windows
from codesign.core.operations import Operation
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
    return IntegerNetwork(tuple(map(_with_short_bias, _absorb_halves(lowering.operations))))


def require_agreement(quantized: QuantizedNetwork, network: IntegerNetwork, inputs: np.ndarray) -> None:
    """Compare both networks on `inputs` (rows, *input_shape), in float64, at every quantizer, table and at the output.

    Raises:
        ExactnessError: They differ; the message names the first step that does, and a row.
    """
    exact = copy.deepcopy(quantized).double().eval()
    with torch.inference_mode():
        floats = exact.trace(torch.from_numpy(np.asarray(inputs, dtype=np.float64)))
    integers = network.trace(network.quantize_input(inputs))
    mine = [i for i, step in enumerate(exact.steps) if isinstance(step, Quantizer | Table)]
    rounding = ops.Input | ops.Quantize | ops.Table
    theirs = [i for i, step in enumerate(network.operations) if isinstance(step, rounding)]
    for i, j in (*zip(mine, theirs, strict=True), (len(floats) - 1, len(integers) - 1)):
        differs = floats[i].flatten(1).numpy() != integers[j].to_float().reshape(len(inputs), -1)
        if differs.any():
            row = int(np.argwhere(differs)[0][0])
            raise ExactnessError(
                f"The quantized network and its integers differ in {int(differs.sum())} of {differs.size} values at "
                f"{quantized.names[i]}, first in row {row}; allowed: none. Lower the network again after training it."
            )


class _Lowering:
    def __init__(self, quantized: QuantizedNetwork) -> None:
        self.operations: list[Operation] = []
        self.results: list[int] = []
        self.quantized = quantized

    def add(self, operation: Operation) -> int:
        self.operations.append(operation)
        return len(self.operations) - 1

    def step(self, step: nn.Module, inputs: tuple[int, ...]) -> None:  # noqa: PLR0912 - one case for each kind of step
        match step:
            case Quantizer() if not inputs:
                result = self.add(ops.Input((), self.quantized.input_shape, step.formats, step.rounding))
            case Quantizer():
                result = self.narrow(step, inputs)
            case Quantized():
                result = self.multiply(step, inputs)
            case Sum(axis=axis, keep=keep, mean_bits=mean_bits):
                result = self.add(ops.Sum(inputs, axis, keep, mean_bits))
            case Add():
                result = self.add(ops.Add(inputs))
            case Multiply():
                result = self.add(ops.Multiply(inputs))
            case MatMul():
                result = self.add(ops.MatMul(inputs))
            case Table():
                result = self.add(ops.Table(inputs, step.mantissas(), step.low, step.format.fraction_bits))
            case BelowMaximum(axis=axis):
                result = self.below_maximum(axis, inputs, self.quantized.input_grid(len(self.results)))
            case Concat(widths=widths):
                result = self.concatenate(widths, inputs)
            case Activate(kind="relu"):
                result = self.add(ops.Relu(inputs))
            case Activate(kind="leaky_relu", slope_bits=slope_bits):
                result = self.add(ops.LeakyRelu(inputs, slope_bits))
            case Rearrange():
                result = self.rearrange(step, inputs)
            case _:
                raise UnsupportedError(f"A step {type(step).__name__} has no integer form; use the steps of quantize.")
        self.results.append(result)

    def narrow(self, step: Quantizer, inputs: tuple[int, ...]) -> int:
        if step.sharing != "element" or len(step.shape) == 1:
            return self.add(ops.Quantize(inputs, step.formats, step.rounding))
        row = self.add(ops.Reshape(inputs, (len(step.formats),)))
        narrowed = self.add(ops.Quantize((row,), step.formats, step.rounding))
        return self.add(ops.Reshape((narrowed,), step.shape))

    def multiply(self, step: Quantized, inputs: tuple[int, ...]) -> int:
        weight, bias, weight_fraction_bits = step.integers()
        grids = weight_fraction_bits, weight_fraction_bits + step.input_fraction_bits
        if isinstance(step, QuantizedAffine):
            return self.add(ops.Affine(inputs, weight.reshape(step.view), bias.reshape(step.view), *grids))
        if isinstance(step, QuantizedConv2d):
            kernel = weight.shape[2:]
            if max(*kernel, *step.stride) > 1:
                inputs = (self.add(ops.Patches(inputs, kernel, step.padding, step.stride)),)
            weight = weight.transpose(2, 3, 1, 0)  # (row, column, channel, output)
            if step.groups > 1:  # a channel by itself: weights of zero for all others
                weight = weight * np.eye(step.groups, dtype=np.int64)
            weight = weight.reshape(-1, weight.shape[-1])
        else:
            weight = weight.T  # (inputs, outputs)
        return self.add(ops.Linear(inputs, weight, bias, *grids))

    def below_maximum(self, axis: int, inputs: tuple[int, ...], grid: int) -> int:
        """Subtract from the maximum; the ReLU changes nothing, but tells the ranges that nothing is below zero."""
        highest, minus_one = self.add(ops.Max(inputs, axis, keep=True)), np.full(1, -1)
        negative = self.add(ops.Affine(inputs, minus_one, np.zeros(1, dtype=np.int64), 0, grid))
        return self.add(ops.Relu((self.add(ops.Add((highest, negative))),)))

    def concatenate(self, widths: Sequence[int], inputs: tuple[int, ...]) -> int:
        """Place each result among zeros and add: exact, and nothing but wires in hardware."""
        total, zeros = -1, np.zeros(sum(widths), dtype=np.int64)
        for i, source in enumerate(inputs):
            place = np.eye(widths[i], sum(widths), k=sum(widths[:i]), dtype=np.int64)
            placed = self.add(ops.Linear((source,), place, zeros, 0, 0))
            total = placed if i == 0 else self.add(ops.Add((total, placed)))
        return total

    def rearrange(self, step: Rearrange, inputs: tuple[int, ...]) -> int:
        match step.layer:
            case Pool(keep=keep):
                return self.add(ops.Max(inputs, step.axis - 1, keep))
            case Windows(size=size, stride=stride):
                inputs = (self.add(ops.Patches(inputs, size, stride=stride)),)
            case Transpose(axes=axes):
                return self.add(ops.Transpose(inputs, axes))
        return self.add(ops.Reshape(inputs, step.shape))


def _absorb_halves(operations: list[Operation]) -> tuple[Operation, ...]:
    """Replace rounding half up by truncation where the operation before can add the half."""
    result = list(operations)
    uses = Counter(j for operation in operations for j in operation.inputs)
    for i, quantizer in enumerate(operations):
        if not isinstance(quantizer, ops.Quantize) or quantizer.rounding is not Rounding.HALF_UP:
            continue
        source = quantizer.inputs[0]
        if isinstance(operations[source], ops.Relu) and uses[source] == 1:
            source = operations[source].inputs[0]
        linear = operations[source]
        if not isinstance(linear, ops.Linear) or uses[source] > 1 or len(quantizer.formats) > 1:
            continue
        lost = linear.bias_fraction_bits - quantizer.formats[0].fraction_bits
        if lost > 0:
            result[source] = replace(linear, bias=linear.bias + (1 << (lost - 1)))
        result[i] = replace(quantizer, rounding=Rounding.FLOOR)
    return tuple(result)


def _with_short_bias(operation: Operation) -> Operation:
    """Return the operation with its bias on the coarsest grid that holds it."""
    if not isinstance(operation, ops.Linear) or not operation.bias.any():
        return operation
    together = int(np.bitwise_or.reduce(np.abs(operation.bias)))
    zeros = (together & -together).bit_length() - 1
    return replace(operation, bias=operation.bias >> zeros, bias_fraction_bits=operation.bias_fraction_bits - zeros)
