"""The QONNX view: an integer network as an ONNX file with Quant nodes, and its execution by qonnx.

Tensors hold real values on their grids. They are float32 where 24 bits hold every number on the way, else float64 (53
bits), so that floating-point arithmetic is exact and the order of a sum does not matter. What leaves a Quant node is
float32 in any case, because qonnx computes it so.

Source: Pappalardo et al., QONNX: representing arbitrary-precision quantized neural networks, arXiv 2206.07527.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import singledispatch
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from codesign.core.errors import ToolError, UnsupportedError
from codesign.core.fixed_point import Fixed, FixedPoint, Overflow, Rounding
from codesign.core.integer_network import IntegerNetwork
from codesign.core.operations import (
    Add,
    Affine,
    Input,
    LeakyRelu,
    Linear,
    Max,
    Operation,
    Patches,
    Quantize,
    Range,
    Relu,
    Reshape,
    Sum,
    Transpose,
)

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # qonnx imports pkg_resources, which warns that it is deprecated
    from qonnx.core.modelwrapper import ModelWrapper
    from qonnx.core.onnx_exec import execute_onnx

onnxruntime.set_default_logger_severity(4)

TOOL = f"qonnx {metadata.version('qonnx')}"
FILE = "network.qonnx.onnx"
DOMAIN = "qonnx.custom_op.general"
OPSETS = [helper.make_opsetid("", 17), helper.make_opsetid(DOMAIN, 1)]
IR_VERSION = 8
ROUNDINGS = {Rounding.FLOOR: "FLOOR", Rounding.HALF_UP: "FLOOR", Rounding.HALF_EVEN: "ROUND"}  # half_up adds a half first


def to_onnx(network: IntegerNetwork) -> onnx.ModelProto:
    """Return the QONNX model of a network, for one sample (batch 1).

    Raises:
        UnsupportedError: A number on the way needs more than 53 bits.
    """
    graph = _Graph(network, _number_type(network))
    for i, operation in enumerate(network.operations):
        graph.step = i
        if not graph.is_convolved(i):
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


class _Graph:
    """Nodes and constants as they are added; `step` is the operation that they belong to."""

    def __init__(self, network: IntegerNetwork, kind: int) -> None:
        self.network, self.kind, self.step = network, kind, 0
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}
        self.tensors: dict[str, onnx.ValueInfoProto] = {}

    @property
    def range(self) -> Range:
        """Range of the step's result."""
        return self.network.ranges[self.step]

    def add(self, kind: str, inputs: Sequence[str], shape: Sequence[int], is_last: bool = False, **options: Any) -> str:
        """Add a node whose result has `shape`, batch included, and return the name of the result.

        With `is_last` it is the result of the step.
        """
        is_output = is_last and self.step == len(self.network.operations) - 1
        output = "output" if is_output else f"step{self.step}" if is_last else f"step{self.step}.{len(self.nodes)}"
        domain = DOMAIN if kind == "Quant" else ""
        name = f"{kind}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [output], name=name, domain=domain, **options))
        number = TensorProto.FLOAT if kind == "Quant" else self.kind
        self.tensors[output] = helper.make_tensor_value_info(output, number, shape)
        return output

    def real(self, values: Any) -> str:
        """Return the name of a constant of real numbers."""
        return self._constant(np.asarray(values, dtype=helper.tensor_dtype_to_np_dtype(self.kind)))

    def whole(self, values: Any) -> str:
        """Return the name of a constant of indices or sizes."""
        return self._constant(np.asarray(values, dtype=np.int64))

    def mask(self, values: Any) -> str:
        """Return the name of a constant of truth values."""
        return self._constant(np.asarray(values, dtype=np.bool_))

    def _constant(self, array: np.ndarray) -> str:
        name = f"constant{len(self.constants)}"
        self.constants[name] = numpy_helper.from_array(array, name)
        return name

    def weights(self, mantissa: np.ndarray, fraction_bits: int) -> str:
        """Return the name of weights behind the Quant node that states their format."""
        held = FixedPoint.holding(int(mantissa.min()), int(mantissa.max()), fraction_bits)
        width = max(held.width, 1 + held.is_signed)  # qonnx takes one signed bit for the values -1 and 1
        values = self.real(Fixed(mantissa, fraction_bits).to_float())
        return self.quant(values, 2.0**-fraction_bits, width, held.is_signed, "ROUND", mantissa.shape)

    def quant(
        self, x: str, scale: Any, width: int, is_signed: bool, rounding: str, shape: Sequence[int], is_last: bool = False
    ) -> str:
        """Add a Quant node: round x / scale, saturate to `width` bits.

        Raises:
            UnsupportedError: A result of `width` bits is no float32.
        """
        if width > 24:
            raise UnsupportedError(
                f"The QONNX view needs a Quant node of {width} bits; allowed: 24, the precision of its float32 result. "
                "Quantize to fewer bits."
            )
        inputs, is_float = [x, self.real(scale), self.real(0.0), self.real(width)], self.kind == TensorProto.FLOAT
        options = {"signed": int(is_signed), "narrow": 0, "rounding_mode": rounding}
        y = self.add("Quant", inputs, shape, is_last and is_float, **options)
        return y if is_float else self.add("Cast", [y], shape, is_last, to=self.kind)

    def is_convolved(self, step: int) -> bool:
        """Return whether a step is windows that only linear operations take, which Conv nodes stand for."""
        takers = [o for o in self.network.operations if step in o.inputs]
        return (
            isinstance(self.network.operations[step], Patches)
            and self.kind == TensorProto.FLOAT  # onnxruntime has no Conv of float64
            and bool(takers)
            and all(isinstance(taker, Linear) for taker in takers)
        )

    def model(self) -> onnx.ModelProto:
        """Return the model of all nodes."""
        source = helper.make_tensor_value_info("input", self.kind, (1, *self.network.input_shape))
        inner = [tensor for name, tensor in self.tensors.items() if name != "output"]
        graph = helper.make_graph(
            self.nodes, "network", [source], [self.tensors["output"]], list(self.constants.values()), value_info=inner
        )
        return helper.make_model(graph, opset_imports=OPSETS, ir_version=IR_VERSION, producer_name="codesign")


@singledispatch
def _emit(operation: Operation, graph: _Graph, *inputs: str) -> None:  # noqa: ARG001
    raise UnsupportedError(f"The QONNX view has no node for {type(operation).__name__}; build another view.")


@_emit.register
def _(operation: Input, graph: _Graph) -> None:
    _quantize(graph, "input", operation.formats, operation.rounding, Overflow.SATURATE)


@_emit.register
def _(operation: Quantize, graph: _Graph, x: str) -> None:
    _quantize(graph, x, operation.formats, operation.rounding, operation.overflow)


def _quantize(
    graph: _Graph, x: str, formats: tuple[FixedPoint, ...], rounding: Rounding, overflow: Overflow
) -> None:
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
def _(operation: Linear, graph: _Graph, x: str) -> None:
    shape, source = (1, *graph.range.shape), operation.inputs[0]
    if graph.is_convolved(source):
        product = _convolve(operation, graph, source, shape)
    else:
        product = graph.add("MatMul", [x, graph.weights(operation.weight, operation.weight_fraction_bits)], shape)
    graph.add("Add", [product, graph.weights(operation.bias, operation.bias_fraction_bits)], shape, is_last=True)


def _convolve(operation: Linear, graph: _Graph, source: int, shape: tuple[int, ...]) -> str:
    patches = graph.network.operations[source]
    assert isinstance(patches, Patches)
    image = patches.inputs[0]
    _, height, width, channels = (1, *graph.network.ranges[image].shape)
    first = graph.add("Transpose", [f"step{image}"], (1, channels, height, width), perm=(0, 3, 1, 2))
    kernel = operation.weight.reshape(patches.kernel, patches.kernel, channels, -1).transpose(3, 2, 0, 1)
    options = {"kernel_shape": [patches.kernel] * 2, "strides": [patches.stride] * 2, "pads": [patches.padding] * 4}
    weights = graph.weights(kernel, operation.weight_fraction_bits)
    planes = graph.add("Conv", [first, weights], (1, shape[-1], *shape[1:3]), **options)
    return graph.add("Transpose", [planes], shape, perm=(0, 2, 3, 1))


@_emit.register
def _(operation: Affine, graph: _Graph, x: str) -> None:
    shape = (1, *graph.range.shape)
    product = graph.add("Mul", [x, graph.weights(operation.scale, operation.scale_fraction_bits)], shape)
    graph.add("Add", [product, graph.weights(operation.offset, operation.offset_fraction_bits)], shape, is_last=True)


@_emit.register
def _(operation: Relu, graph: _Graph, x: str) -> None:  # noqa: ARG001
    graph.add("Relu", [x], (1, *graph.range.shape), is_last=True)


@_emit.register
def _(operation: LeakyRelu, graph: _Graph, x: str) -> None:
    shape = (1, *graph.range.shape)
    if graph.kind == TensorProto.FLOAT:
        graph.add("LeakyRelu", [x], shape, is_last=True, alpha=2.0**-operation.slope_bits)
    else:  # onnxruntime has no LeakyRelu of float64
        small = graph.add("Mul", [x, graph.real(2.0**-operation.slope_bits)], shape)
        graph.add("Max", [x, small], shape, is_last=True)


@_emit.register
def _(operation: Sum, graph: _Graph, x: str) -> None:
    shape = (1, *graph.range.shape)
    inputs, keep = [x, graph.whole([operation.axis + 1])], int(operation.keep)
    total = graph.add("ReduceSum", inputs, shape, not operation.mean_bits, keepdims=keep)
    if operation.mean_bits:
        graph.add("Mul", [total, graph.real(2.0**-operation.mean_bits)], shape, is_last=True)


@_emit.register
def _(operation: Max, graph: _Graph, x: str) -> None:
    shape = (1, *graph.range.shape)
    graph.add("ReduceMax", [x], shape, is_last=True, axes=[operation.axis + 1], keepdims=int(operation.keep))


@_emit.register
def _(operation: Add, graph: _Graph, x: str, y: str) -> None:  # noqa: ARG001
    graph.add("Add", [x, y], (1, *graph.range.shape), is_last=True)


@_emit.register
def _(operation: Reshape, graph: _Graph, x: str) -> None:  # noqa: ARG001
    shape = graph.range.shape
    graph.add("Reshape", [x, graph.whole([-1, *shape])], (1, *shape), is_last=True)


@_emit.register
def _(operation: Transpose, graph: _Graph, x: str) -> None:
    graph.add("Transpose", [x], (1, *graph.range.shape), is_last=True, perm=[0, *(a + 1 for a in operation.axes)])


@_emit.register
def _(operation: Patches, graph: _Graph, x: str) -> None:
    source, shape = graph.network.ranges[operation.inputs[0]], graph.range.shape
    count = source.low.size
    numbered = Fixed(np.arange(1, count + 1).reshape(1, *source.shape), 0)  # what arrives where; 0 is a padded zero
    indices = operation.compute(numbered).mantissa.ravel()
    flat = graph.add("Reshape", [x, graph.whole([-1, count])], (1, count))
    padded = graph.add("Pad", [flat, graph.whole([0, 1, 0, 0]), graph.real(0.0)], (1, count + 1))
    taken = graph.add("Gather", [padded, graph.whole(indices)], (1, indices.size), axis=1)
    graph.add("Reshape", [taken, graph.whole([-1, *shape])], (1, *shape), is_last=True)


def _number_type(network: IntegerNetwork) -> int:
    """Return float32 if it holds every number on the way, else float64."""
    largest, fraction_bits = 0, 0
    for operation, result in zip(network.operations, network.ranges, strict=True):
        inputs = [network.ranges[j] for j in operation.inputs]
        largest = max(largest, _largest(operation, result, *inputs))
        fraction_bits = max(fraction_bits, abs(result.fraction_bits))
    if largest < 1 << 24 and fraction_bits < 100:
        return int(TensorProto.FLOAT)
    if largest < 1 << 53 and fraction_bits < 900:
        return int(TensorProto.DOUBLE)
    raise UnsupportedError(
        f"The QONNX view needs numbers of {largest.bit_length()} bits; allowed: 53, the precision of float64. "
        "Quantize to fewer bits."
    )


def _largest(operation: Operation, result: Range, *inputs: Range) -> int:
    """Return a bound of every mantissa that occurs between inputs and result, in whatever order terms are added."""
    sizes = [np.maximum(np.abs(r.low), np.abs(r.high)).astype(object) for r in inputs]
    grid = result.fraction_bits
    bound = max(abs(int(result.low.min())), abs(int(result.high.max())))
    if isinstance(operation, Linear):
        product = inputs[0].fraction_bits + operation.weight_fraction_bits
        terms = sizes[0] @ np.abs(operation.weight).astype(object) << (grid - product)
        terms = terms + (np.abs(operation.bias).astype(object) << (grid - operation.bias_fraction_bits))
    elif isinstance(operation, Affine):
        product = inputs[0].fraction_bits + operation.scale_fraction_bits
        terms = sizes[0] * np.abs(operation.scale).astype(object) << (grid - product)
        terms = terms + (np.abs(operation.offset).astype(object) << (grid - operation.offset_fraction_bits))
    elif isinstance(operation, Sum):
        terms = sizes[0].sum(axis=operation.axis)
    elif isinstance(operation, Add):
        terms = sum(size << (grid - r.fraction_bits) for size, r in zip(sizes, inputs, strict=True))
    elif isinstance(operation, Input):
        terms = 2 * bound + 1  # a half-up rounding adds half a step
    elif isinstance(operation, Quantize):
        finer = max(0, *(f.fraction_bits - inputs[0].fraction_bits for f in operation.formats if f.width), 0)
        widest = max(f.width for f in operation.formats)
        half = max((inputs[0].fraction_bits - f.fraction_bits for f in operation.formats if f.width), default=0)
        wraps = operation.overflow is Overflow.WRAP
        terms = (int(sizes[0].max()) << (finer if wraps else 0)) + (2 << widest) + (1 << max(half, 1))
    else:
        terms = 0
    return max(bound, int(np.max(terms)))


def _set_batch(model: onnx.ModelProto, batch: int) -> None:
    """Give every tensor that depends on the input a leading axis of `batch`."""
    constant = {tensor.name for tensor in model.graph.initializer}
    for node in model.graph.node:
        if constant.issuperset(node.input):
            constant.update(node.output)
    for tensor in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        if tensor.name not in constant:
            tensor.type.tensor_type.shape.dim[0].dim_value = batch
