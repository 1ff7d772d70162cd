"""The QONNX view: an integer network as an ONNX file with Quant nodes, and its execution by qonnx.

Tensors hold real values on their grids. They are float32 where 24 bits hold every number on the way, else float64 (53
bits), so that floating-point arithmetic is exact and the order of a sum does not matter. What leaves a Quant node is
float32 in any case, because qonnx computes it so.

Source: Pappalardo et al., QONNX: representing arbitrary-precision quantized neural networks, arXiv 2206.07527.
"""

from __future__ import annotations

import warnings
from functools import singledispatch
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper

from codesign.backends._qonnx_graph import Graph, number_type
from codesign.core.errors import ToolError, UnsupportedError
from codesign.core.fixed_point import Fixed, FixedPoint, Overflow, Rounding
from codesign.core.integer_network import IntegerNetwork
from codesign.core.operations import (
    Add,
    Affine,
    Input,
    LeakyRelu,
    Linear,
    MatMul,
    Max,
    Multiply,
    Operation,
    Patches,
    Quantize,
    Relu,
    Reshape,
    Sum,
    Table,
    Transpose,
)

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # qonnx imports pkg_resources, which warns that it is deprecated
    from qonnx.core.modelwrapper import ModelWrapper
    from qonnx.core.onnx_exec import execute_onnx

onnxruntime.set_default_logger_severity(4)

TOOL = f"qonnx {metadata.version('qonnx')}"
FILE = "network.qonnx.onnx"
# The half-up of qonnx rounds halves away from zero: half a step is added before, and the sum rounded down.
ROUNDINGS = {Rounding.FLOOR: "FLOOR", Rounding.HALF_UP: "FLOOR", Rounding.HALF_EVEN: "ROUND"}


def to_onnx(network: IntegerNetwork) -> onnx.ModelProto:
    """Return the QONNX model of a network, for one sample (batch 1).

    Raises:
        UnsupportedError: A number on the way needs more than 53 bits.
    """
    graph = Graph(network, number_type(network))
    for i, operation in enumerate(network.operations):
        graph.step = i
        if not _is_convolved(graph, i):
            _emit(operation, graph, *(f"step{j}" for j in operation.inputs))
    return graph.model()


def write(network: IntegerNetwork, path: Path) -> Path:
    """Write the QONNX file of a network, the same bytes for the same network, and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(to_onnx(network).SerializeToString(deterministic=True))
    return path


def simulate(network: IntegerNetwork, mantissas: np.ndarray, folder: Path | None = None) -> np.ndarray:
    """Return the output mantissas (vectors, *output_shape), int64, that qonnx computes from the QONNX model.

    Args:
        network: The network.
        mantissas: Input mantissas, int64 (vectors, *input_shape).
        folder: If given, the file is written there, read back and executed.

    Raises:
        UnsupportedError: A number on the way needs more than 53 bits.
        ToolError: An output is no multiple of its grid.
    """
    proto = onnx.load(write(network, folder / FILE)) if folder else to_onnx(network)
    _set_batch(proto, len(mantissas))
    values = Fixed(np.asarray(mantissas), network.ranges[0].fraction_bits).to_float()
    kind = helper.tensor_dtype_to_np_dtype(proto.graph.input[0].type.tensor_type.elem_type)
    outputs = execute_onnx(ModelWrapper(proto), {"input": values.astype(kind)})["output"]
    scaled = np.ldexp(outputs.astype(np.float64), network.ranges[-1].fraction_bits)
    if not np.array_equal(scaled, np.rint(scaled)):
        raise ToolError("qonnx computed an output between two steps of its grid; the QONNX view is not exact.")
    return scaled.astype(np.int64)


@singledispatch
def _emit(operation: Operation, graph: Graph, *inputs: str) -> None:
    raise UnsupportedError(f"The QONNX view has no node for {type(operation).__name__}; build another view.")


@_emit.register
def _(operation: Input, graph: Graph) -> None:
    _quantize(graph, "input", operation.formats, operation.rounding, Overflow.SATURATE)


@_emit.register
def _(operation: Quantize, graph: Graph, x: str) -> None:
    _quantize(graph, x, operation.formats, operation.rounding, operation.overflow)


def _quantize(graph: Graph, x: str, formats: tuple[FixedPoint, ...], rounding: Rounding, overflow: Overflow) -> None:
    """Add the nodes of a quantization: one Quant node for each width and sign among the formats."""
    shape = (1, *graph.range.shape)
    scale = np.array([f.scale if f.width else 1.0 for f in formats])
    low, span = np.array([f.minimum for f in formats]), np.array([2.0**f.width for f in formats])
    if rounding is Rounding.HALF_UP:
        x = graph.add("Add", [x, graph.real(_short(scale / 2))], shape)
    if overflow is Overflow.WRAP:  # mantissa - span * floor((mantissa - low) / span)
        scaled = graph.add("Div", [x, graph.real(_short(scale))], shape)
        mantissa = graph.add("Round" if rounding is Rounding.HALF_EVEN else "Floor", [scaled], shape)
        above = graph.add("Sub", [mantissa, graph.real(_short(low))], shape)
        laps = graph.add("Floor", [graph.add("Div", [above, graph.real(_short(span))], shape)], shape)
        excess = graph.add("Mul", [laps, graph.real(_short(span))], shape)
        wrapped = graph.add("Sub", [mantissa, excess], shape)
        x = graph.add("Mul", [wrapped, graph.real(_short(scale))], shape)
    groups = sorted({(f.width, f.is_signed) for f in formats if f.width})
    merged = graph.real(0.0)
    if not groups:
        graph.add("Mul", [x, merged], shape, is_last=True)
    for width, is_signed in groups:
        is_whole = len(groups) == 1 and all(f.width for f in formats)
        is_last = (width, is_signed) == groups[-1]
        taken, bits = x, width
        if width == 1 and is_signed:  # qonnx takes one signed bit for the values -1 and 1: clip to -1 and 0 before
            taken = graph.add("Min", [taken, graph.real(0.0)], shape)
            taken = graph.add("Max", [taken, graph.real(_short(-scale))], shape)
            bits = 2
        y = graph.quant(taken, _short(scale), bits, is_signed, ROUNDINGS[rounding], shape, is_last and is_whole)
        if not is_whole:
            mask = graph.mask([(f.width, f.is_signed) == (width, is_signed) for f in formats])
            merged = graph.add("Where", [mask, y, merged], shape, is_last)


def _short(values: np.ndarray) -> Any:
    return values[0] if (values == values[0]).all() else values


@_emit.register
def _(operation: Linear, graph: Graph, x: str) -> None:
    shape, source = (1, *graph.range.shape), operation.inputs[0]
    if _is_convolved(graph, source):
        product = _convolve(operation, graph, source, shape)
    else:
        product = graph.add("MatMul", [x, graph.weights(operation.weight, operation.weight_fraction_bits)], shape)
    graph.add("Add", [product, graph.weights(operation.bias, operation.bias_fraction_bits)], shape, is_last=True)


def _is_convolved(graph: Graph, step: int) -> bool:
    """Return whether a step is windows that only linear operations take: Conv nodes stand for them together."""
    takers = [o for o in graph.network.operations if step in o.inputs]
    return (
        isinstance(graph.network.operations[step], Patches)
        and graph.kind == TensorProto.FLOAT  # onnxruntime has no Conv of float64
        and bool(takers)
        and all(isinstance(taker, Linear) for taker in takers)
    )


def _convolve(operation: Linear, graph: Graph, source: int, shape: tuple[int, ...]) -> str:
    patches = graph.network.operations[source]
    assert isinstance(patches, Patches)
    image = patches.inputs[0]
    _, height, width, channels = (1, *graph.network.ranges[image].shape)
    first = graph.add("Transpose", [f"step{image}"], (1, channels, height, width), perm=(0, 3, 1, 2))
    kernel = operation.weight.reshape(*patches.kernel, channels, -1).transpose(3, 2, 0, 1)
    options = {"kernel_shape": patches.kernel, "strides": patches.stride, "pads": patches.padding * 2}
    weights = graph.weights(kernel, operation.weight_fraction_bits)
    planes = graph.add("Conv", [first, weights], (1, shape[-1], *shape[1:3]), **options)
    return graph.add("Transpose", [planes], shape, perm=(0, 2, 3, 1))


@_emit.register
def _(operation: Affine, graph: Graph, x: str) -> None:
    shape = (1, *graph.range.shape)
    product = graph.add("Mul", [x, graph.weights(operation.scale, operation.scale_fraction_bits)], shape)
    graph.add("Add", [product, graph.weights(operation.offset, operation.offset_fraction_bits)], shape, is_last=True)


@_emit.register
def _(operation: Relu, graph: Graph, x: str) -> None:
    graph.add("Relu", [x], (1, *graph.range.shape), is_last=True)


@_emit.register
def _(operation: LeakyRelu, graph: Graph, x: str) -> None:
    shape = (1, *graph.range.shape)
    if graph.kind == TensorProto.FLOAT:
        graph.add("LeakyRelu", [x], shape, is_last=True, alpha=2.0**-operation.slope_bits)
    else:  # onnxruntime has no LeakyRelu of float64
        small = graph.add("Mul", [x, graph.real(2.0**-operation.slope_bits)], shape)
        graph.add("Max", [x, small], shape, is_last=True)


@_emit.register
def _(operation: Sum, graph: Graph, x: str) -> None:
    shape = (1, *graph.range.shape)
    inputs, keep = [x, graph.whole([operation.axis + 1])], int(operation.keep)
    total = graph.add("ReduceSum", inputs, shape, not operation.mean_bits, keepdims=keep)
    if operation.mean_bits:
        graph.add("Mul", [total, graph.real(2.0**-operation.mean_bits)], shape, is_last=True)


@_emit.register
def _(operation: Max, graph: Graph, x: str) -> None:
    shape = (1, *graph.range.shape)
    graph.add("ReduceMax", [x], shape, is_last=True, axes=[operation.axis + 1], keepdims=int(operation.keep))


@_emit.register
def _(operation: Add, graph: Graph, x: str, y: str) -> None:
    graph.add("Add", [x, y], (1, *graph.range.shape), is_last=True)


@_emit.register
def _(operation: Multiply, graph: Graph, x: str, y: str) -> None:
    graph.add("Mul", [x, y], (1, *graph.range.shape), is_last=True)


@_emit.register
def _(operation: MatMul, graph: Graph, x: str, y: str) -> None:
    graph.add("MatMul", [x, y], (1, *graph.range.shape), is_last=True)


@_emit.register
def _(operation: Table, graph: Graph, x: str) -> None:
    shape, grid = (1, *graph.range.shape), graph.network.ranges[operation.inputs[0]].fraction_bits
    mantissa = graph.add("Mul", [x, graph.real(2.0**grid)], shape)
    position = graph.add("Sub", [mantissa, graph.real(operation.low)], shape)
    index = graph.add("Cast", [position], shape, to=TensorProto.INT64)
    entries = graph.weights(operation.values, operation.fraction_bits)
    graph.add("Gather", [entries, index], shape, is_last=True, axis=0)


@_emit.register
def _(operation: Reshape, graph: Graph, x: str) -> None:
    shape = graph.range.shape
    graph.add("Reshape", [x, graph.whole([-1, *shape])], (1, *shape), is_last=True)


@_emit.register
def _(operation: Transpose, graph: Graph, x: str) -> None:
    graph.add("Transpose", [x], (1, *graph.range.shape), is_last=True, perm=[0, *(a + 1 for a in operation.axes)])


@_emit.register
def _(operation: Patches, graph: Graph, x: str) -> None:
    source, shape = graph.network.ranges[operation.inputs[0]], graph.range.shape
    count = source.low.size
    numbered = Fixed(np.arange(1, count + 1).reshape(1, *source.shape), 0)  # what arrives where; 0 is a padded zero
    indices = operation.compute(numbered).mantissa.ravel()
    flat = graph.add("Reshape", [x, graph.whole([-1, count])], (1, count))
    padded = graph.add("Pad", [flat, graph.whole([0, 1, 0, 0]), graph.real(0.0)], (1, count + 1))
    taken = graph.add("Gather", [padded, graph.whole(indices)], (1, indices.size), axis=1)
    graph.add("Reshape", [taken, graph.whole([-1, *shape])], (1, *shape), is_last=True)


def _set_batch(model: onnx.ModelProto, batch: int) -> None:
    """Give every tensor that depends on the input a leading axis of `batch`."""
    constant = {tensor.name for tensor in model.graph.initializer}
    for node in model.graph.node:
        if constant.issuperset(node.input):
            constant.update(node.output)
    for tensor in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        if tensor.name not in constant:
            tensor.type.tensor_type.shape.dim[0].dim_value = batch
