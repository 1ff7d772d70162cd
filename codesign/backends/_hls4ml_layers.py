"""Layers that hls4ml lacks, added through its extension API, and the hls4ml layer of every integer operation.

hls4ml's own dense layer multiplies; everything else is a function of `hls/nnet_exact.h`. Tensors are flat arrays.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import singledispatch
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from hls4ml.backends import get_backend
from hls4ml.backends.template import FunctionCallTemplate, LayerConfigTemplate
from hls4ml.backends.vivado.passes.core_templates import (
    DenseConfigTemplate,
    dense_config_template,
    dense_include_list,
)
from hls4ml.model.layers import Dense, Layer, register_layer

from codesign.core.errors import UnsupportedError
from codesign.core.fixed_point import Fixed, FixedPoint, Overflow, Rounding
from codesign.core.operations import (
    Add,
    Affine,
    LeakyRelu,
    Linear,
    MatMul,
    Max,
    Multiply,
    Operation,
    Patches,
    Quantize,
    Range,
    Relu,
    Reshape,
    Sum,
    Table,
    Transpose,
)

HEADER = Path(__file__).parent / "hls" / "nnet_exact.h"
INCLUDES = ["nnet_utils/nnet_exact.h"]
ROUNDINGS = {Rounding.FLOOR: "AP_TRN", Rounding.HALF_UP: "AP_RND", Rounding.HALF_EVEN: "AP_RND_CONV"}
OVERFLOWS = {Overflow.WRAP: "AP_WRAP", Overflow.SATURATE: "AP_SAT"}


class ExactStep(Layer):
    """A call of a function in nnet_exact.h."""

    def initialize(self) -> None:
        self.add_output_variable([self.get_attr("n_out")])
        for name in self.get_attr("constants"):
            self.add_weights_variable(name=name, var_name=f"{name}{{index}}")


class DenseOverPositions(Dense):
    """A dense layer with the same weights at every position; hls4ml treats it as a dense layer in all else."""

    def initialize(self) -> None:
        super().initialize()
        self.add_output_variable([self.get_attr("positions") * self.get_attr("n_out")])


class _StepConfig(LayerConfigTemplate):
    def __init__(self) -> None:
        super().__init__(ExactStep)

    def format(self, node: Layer) -> str:
        lines = [f"static const unsigned n_out = {node.get_attr('n_out')};", *node.get_attr("members")]
        lines += [f"typedef {node.get_weights(name).type.name} {name}_t;" for name in node.get_attr("constants")]
        return f"struct config{node.index} {{\n" + "".join(f"    {line}\n" for line in lines) + "};\n"


class _StepCall(FunctionCallTemplate):
    def __init__(self) -> None:
        super().__init__(ExactStep, include_header=INCLUDES)

    def format(self, node: Layer) -> str:
        tensors = [*(node.get_input_variable(name) for name in node.inputs), node.get_output_variable()]
        types = ", ".join([*(t.type.name for t in tensors), f"config{node.index}"])
        arguments = [*(t.name for t in tensors), *(node.get_weights(n).name for n in node.get_attr("constants"))]
        return f"nnet::exact::{node.get_attr('function')}<{types}>({', '.join(arguments)});"


class _DenseOverPositionsConfig(DenseConfigTemplate):
    def __init__(self) -> None:
        LayerConfigTemplate.__init__(self, DenseOverPositions)
        self.template = dense_config_template


class _DenseOverPositionsCall(FunctionCallTemplate):
    def __init__(self) -> None:
        super().__init__(DenseOverPositions, include_header=[*dense_include_list, *INCLUDES])

    def format(self, node: Layer) -> str:
        values = self._default_function_params(node)
        values["w"], values["b"] = (node.get_weights(name).name for name in ("weight", "bias"))
        call = "nnet::exact::dense<{input_t}, {output_t}, {config}, {positions}>({input}, {output}, {w}, {b});"
        return call.format(**values)


def register(backend_name: str) -> None:
    """Teach an hls4ml backend the layers of this file."""
    backend = get_backend(backend_name)
    for layer in (ExactStep, DenseOverPositions):
        register_layer(layer.__name__, layer)
    for template in (_StepConfig, _StepCall, _DenseOverPositionsConfig, _DenseOverPositionsCall):
        backend.register_template(template)
    backend.register_source(HEADER.resolve())


class Step(NamedTuple):
    """An hls4ml layer: its attributes, and the formats of what it holds beside its result."""

    attributes: dict[str, Any]
    formats: dict[str, FixedPoint]


@singledispatch
def describe(operation: Operation, result: Range, *inputs: Range) -> Step:
    """Return the hls4ml layer of an operation from the ranges of its result and its inputs.

    Raises:
        UnsupportedError: hls4ml has no layer for the operation, or a constant has more than 53 bits.
    """
    raise UnsupportedError(f"The hls4ml view has no layer for {type(operation).__name__}; build another view.")


@describe.register
def _(operation: Linear, result: Range, x: Range) -> Step:
    inputs, outputs = operation.weight.shape
    positions = math.prod(x.shape) // inputs
    weight, weight_format = _constant(operation.weight, operation.weight_fraction_bits)
    bias, bias_format = _constant(operation.bias, operation.bias_fraction_bits)
    attributes = {"class_name": "Dense", "n_in": inputs, "n_out": outputs, "weight_data": weight, "bias_data": bias}
    if positions > 1:
        attributes |= {"class_name": DenseOverPositions.__name__, "positions": positions}
    # The accumulator has the result's format: a partial sum that leaves it wraps, and the last addition wraps it back.
    return Step(attributes, {"weight": weight_format, "bias": bias_format, "accum": container(result)})


@describe.register
def _(operation: Quantize, result: Range, x: Range) -> Step:
    modes = f"{ROUNDINGS[operation.rounding]},{OVERFLOWS[operation.overflow]}"
    source = container(x)

    def conversion(target: FixedPoint) -> str:
        if not target.width:
            return "return res_T(0);"
        lost = x.fraction_bits - target.fraction_bits
        # ap_fixed asks for the highest lost bit even where the number has none there: widen it before.
        wide = FixedPoint(max(source.width, lost), max(source.width, lost) - x.fraction_bits, source.is_signed)
        value = "x" if wide == source else f"ap_{wide}(x)"
        return f"return res_T(ap_{str(target)[:-1]},{modes}>({value}));"

    if len(set(operation.formats)) == 1:
        body = conversion(operation.formats[0])
    else:
        cases = [f"case {i}: {conversion(f)}" for i, f in enumerate(operation.formats)]
        body = f"switch (i % {len(cases)}) {{ {' '.join(cases)} default: return res_T(0); }}"
    signature = "template <class data_T, class res_T> static res_T quantize(unsigned i, data_T x)"
    return _step("quantize", result, [f"{signature} {{ {body} }}"])


@describe.register
def _(operation: Affine, result: Range, x: Range) -> Step:
    scale, scale_format = _constant(operation.scale, operation.scale_fraction_bits)
    offset, offset_format = _constant(operation.offset, operation.offset_fraction_bits)
    members = [_broadcast("scale_index", scale, result), _broadcast("offset_index", offset, result)]
    return _step(
        "affine", result, members, {"scale": scale, "offset": offset}, {"scale": scale_format, "offset": offset_format}
    )


@describe.register
def _(operation: Relu, result: Range, x: Range) -> Step:
    return _step("relu", result)


@describe.register
def _(operation: LeakyRelu, result: Range, x: Range) -> Step:
    coarse = container(x)
    fine = FixedPoint(coarse.width, coarse.integer_bits - operation.slope_bits, coarse.is_signed)
    return _step("leaky_relu", result, [f"typedef ap_{fine} fine_t;"])


@describe.register
def _(operation: Sum, result: Range, x: Range) -> Step:
    total = container(result)
    coarse = FixedPoint(total.width, total.integer_bits + operation.mean_bits, total.is_signed)
    return _step("sum", result, [*_axis(x, operation.axis), f"typedef ap_{coarse} sum_t;"])


@describe.register
def _(operation: Max, result: Range, x: Range) -> Step:
    return _step("max", result, _axis(x, operation.axis))


@describe.register
def _(operation: Add, result: Range, x: Range, y: Range) -> Step:
    return _step("add", result, [_broadcast("first_index", x.low, result), _broadcast("second_index", y.low, result)])


@describe.register
def _(operation: Multiply, result: Range, x: Range, y: Range) -> Step:
    return _step(
        "multiply", result, [_broadcast("first_index", x.low, result), _broadcast("second_index", y.low, result)]
    )


@describe.register
def _(operation: MatMul, result: Range, x: Range, y: Range) -> Step:
    *_, rows, columns = result.shape
    members = [f"static const unsigned entries = {x.shape[-1]};", f"static const unsigned columns = {columns};"]
    starts = [(*result.shape[:-2], rows, 1), (*result.shape[:-2], 1, columns)]
    for name, operand, start in zip(("first", "second"), (x, y), starts, strict=True):
        numbered = np.arange(operand.low.size).reshape(operand.shape)
        first = numbered[..., :1] if name == "first" else numbered[..., :1, :]
        members.append(_table(f"{name}_index", np.broadcast_to(np.broadcast_to(first, start), result.shape)))
    return _step("matmul", result, members)


@describe.register
def _(operation: Table, result: Range, x: Range) -> Step:
    values, values_format = _constant(operation.values, operation.fraction_bits)
    width = container(x).width
    members = [
        f"typedef ap_{FixedPoint(width, width, container(x).is_signed)} whole_t;",
        f"static const int low = {operation.low};",
    ]
    return _step("table", result, members, {"values": values}, {"values": values_format})


@describe.register(Reshape)
@describe.register(Transpose)
@describe.register(Patches)
def _(operation: Operation, result: Range, x: Range) -> Step:
    numbered = Fixed(np.arange(1, x.low.size + 1).reshape(1, *x.shape), 0)  # what arrives where; 0 is a padded zero
    return _step("rearrange", result, [_table("data_index", operation.compute(numbered).mantissa - 1)])


def container(values: Range) -> FixedPoint:
    """Return the narrowest C++ type that holds a tensor: at least one bit."""
    narrow = values.format()
    return narrow if narrow.width else FixedPoint(1, 1 - values.fraction_bits, is_signed=False)


def _step(
    function: str,
    result: Range,
    members: Sequence[str] = (),
    constants: dict[str, np.ndarray] | None = None,
    formats: dict[str, FixedPoint] | None = None,
) -> Step:
    constants = constants or {}
    attributes = {
        "class_name": ExactStep.__name__,
        "function": function,
        "n_out": result.low.size,
        "members": list(members),
        "constants": list(constants),
        **{f"{name}_data": values.ravel() for name, values in constants.items()},
    }
    return Step(attributes, formats or {})


def _constant(mantissa: np.ndarray, fraction_bits: int) -> tuple[np.ndarray, FixedPoint]:
    largest = int(np.abs(mantissa).max(initial=0))
    if largest > 1 << 53:
        raise UnsupportedError(
            f"A constant has {largest.bit_length()} bits; allowed in hls4ml: 53. Quantize the weights to fewer bits."
        )
    held = Range(mantissa, mantissa, fraction_bits)
    return Fixed(mantissa, fraction_bits).to_float(), container(held)


def _axis(x: Range, axis: int) -> list[str]:
    sizes = {"outer": math.prod(x.shape[:axis]), "entries": x.shape[axis], "inner": math.prod(x.shape[axis + 1 :])}
    return [f"static const unsigned {name} = {size};" for name, size in sizes.items()]


def _broadcast(name: str, values: np.ndarray, result: Range) -> str:
    return _table(name, np.broadcast_to(np.arange(values.size).reshape(values.shape), result.shape))


def _table(name: str, indices: np.ndarray) -> str:
    flat = indices.ravel().tolist()
    if flat == list(range(len(flat))):
        return f"static int {name}(unsigned i) {{ return i; }}"
    if not any(flat):
        return f"static int {name}(unsigned) {{ return 0; }}"
    body = f"static const int table[] = {{{', '.join(map(str, flat))}}}; return table[i];"
    return f"static int {name}(unsigned i) {{ {body} }}"
