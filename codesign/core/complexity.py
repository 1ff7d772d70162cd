"""Complexity of architectures before hardware: bit operations as the paper counts them, and as they happen."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from codesign.core.architecture import Architecture
from codesign.core.integer_network import IntegerNetwork
from codesign.core.layers import Conv2d, DepthwiseConv2d, Layer, Linear, Parallel, Pool, Shape, with_shapes
from codesign.core.operations import Linear as IntegerLinear
from codesign.core.operations import MatMul, Multiply, Range


def bops_nac(architecture: Architecture, bits: int, sparsity: float = 0.0) -> float:
    """Return the bit operations as the founding paper counts them, for its column in tables.

    A layer shared by all particles counts once; a convolution counts its window times the whole input plane.

    Source: Weitz et al., Neural Architecture Codesign for Fast Physics Applications, arXiv 2501.05515, section 3.
    """
    return sum(
        _nac(layer, shape, bits, sparsity)
        for layer, shape in with_shapes(architecture.layers, architecture.input_shape)
    )


def _nac(layer: Layer, shape: Shape, bits: int, sparsity: float) -> float:
    def products(inputs: int, outputs: int) -> float:
        return outputs * inputs * ((1 - sparsity) * bits**2 + 2 * bits + math.log2(inputs))

    if isinstance(layer, Linear):
        return products(shape[-1], layer.width)
    if isinstance(layer, Conv2d):
        return products(math.prod(shape), layer.channels) * math.prod(layer.kernel)
    if isinstance(layer, DepthwiseConv2d):
        return products(math.prod(shape), 1) * math.prod(layer.kernel)
    if isinstance(layer, Pool) and layer.kind == "mean":
        entries, features = shape[layer.axis], math.prod(shape) // shape[layer.axis]
        return (
            (features - 1) * entries * bits
            + entries * math.log2(entries) * bits
            + math.prod(shape) * math.log2(math.prod(shape))
        )
    if isinstance(layer, Parallel):
        return sum(
            _nac(inner, s, bits, sparsity) for branch in layer.branches for inner, s in with_shapes(branch, shape)
        )
    return 0.0


def kernel_macs(architecture: Architecture) -> float:
    """Return the multiply-accumulates of hardware that computes one position after the other: those of one position."""
    return _kernel_macs(architecture.layers, architecture.input_shape)


def _kernel_macs(layers: Sequence[Layer], shape: Shape) -> float:
    total = 0.0
    for layer, given in with_shapes(layers, shape):
        branches = layer.branches if isinstance(layer, Parallel) else ()
        inside = sum(_kernel_macs(branch, given) for branch in branches)
        own = layer.macs(given) - sum(inner.macs(s) for branch in branches for inner, s in with_shapes(branch, given))
        total += inside + own / math.prod(layer.output_shape(given)[:-1])
    return total


def bops(architecture: Architecture, bits: int, sparsity: float = 0.0) -> float:
    """Return the bit operations that happen: every position of a shared layer counts, a convolution has k^2 C inputs.

    Source: Baskin et al., UNIQ, arXiv 1804.10969, section 4.2: b_w b_a + b_w + b_a + log2(inputs) for each product.
    """
    return _bops(architecture.layers, architecture.input_shape, bits, sparsity)


def _bops(layers: Sequence[Layer], shape: Shape, bits: int, sparsity: float) -> float:
    total = 0.0
    for layer, inner in with_shapes(layers, shape):
        if isinstance(layer, Parallel):
            total += sum(_bops(branch, inner, bits, sparsity) for branch in layer.branches)
        elif macs := layer.macs(inner):
            inputs = 1 if isinstance(layer, DepthwiseConv2d) else inner[-1]
            inputs *= math.prod(layer.kernel) if isinstance(layer, Conv2d | DepthwiseConv2d) else 1
            total += macs * ((1 - sparsity) * bits**2 + 2 * bits + math.log2(inputs))
    return total


def ebops(network: IntegerNetwork) -> int:
    """Return the effective bit operations: width of a weight times width of what it multiplies, over all products.

    The width of a weight is what lies between its highest and lowest set bit; a zero costs nothing. A product of two
    activations counts the widths of both.

    Source: Sun et al., Gradient-based automatic mixed precision quantization, arXiv 2405.00645, section 3.3.
    """
    total = 0
    for operation, result in zip(network.operations, network.ranges, strict=True):
        if isinstance(operation, IntegerLinear):
            x = network.ranges[operation.inputs[0]]
            widths = _widths(x).reshape(-1, x.shape[-1]).sum(axis=0)
            total += int((widths[:, None] * significant_bits(operation.weight)).sum())
            assert result.shape[:-1] == x.shape[:-1]
        elif isinstance(operation, Multiply | MatMul):
            first, second = (_widths(network.ranges[j]) for j in operation.inputs)
            total += int((first * second if isinstance(operation, Multiply) else first @ second).sum())
    return total


def significant_bits(weight: np.ndarray) -> np.ndarray:
    """Return for each integer the bits from its highest to its lowest set bit, without the sign."""
    magnitude = np.abs(weight)
    odd = magnitude // np.maximum(magnitude & -magnitude, 1)
    return np.where(odd == 0, 0, np.floor(np.log2(np.maximum(odd, 1))).astype(np.int64) + 1)


def _widths(x: Range) -> np.ndarray:
    widths: np.ndarray = np.vectorize(_width, otypes=[np.int64])(x.low, x.high)
    return widths


def _width(low: int, high: int) -> int:
    is_signed = low < 0
    return int(max(int(high).bit_length(), (-int(low) - 1).bit_length() if is_signed else 0)) + is_signed
