"""A QONNX graph under construction, and the number type that makes its arithmetic exact."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from codesign.core.errors import UnsupportedError
from codesign.core.fixed_point import Fixed, FixedPoint
from codesign.core.integer_network import IntegerNetwork
from codesign.core.operations import Range
from codesign.core.precision import largest_mantissa

DOMAIN = "qonnx.custom_op.general"
OPSETS = [helper.make_opsetid("", 17), helper.make_opsetid(DOMAIN, 1)]
IR_VERSION = 8
QUANT_BITS = 24  # qonnx returns what it quantizes as float32


class Graph:
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
        number = TensorProto.FLOAT if kind == "Quant" else options["to"] if kind == "Cast" else self.kind
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
        """Return the name of weights behind the Quant node that states their format.

        A bias may have more bits than a Quant node holds, since constants of earlier layers are added to it; it is a
        plain constant of float64 then.
        """
        held = FixedPoint.holding(int(mantissa.min()), int(mantissa.max()), fraction_bits)
        width = max(held.width, 1 + held.is_signed)  # qonnx takes one signed bit for the values -1 and 1
        values = self.real(Fixed(mantissa, fraction_bits).to_float())
        if width > QUANT_BITS and self.kind == TensorProto.DOUBLE:
            return values
        return self.quant(values, 2.0**-fraction_bits, width, held.is_signed, "ROUND", mantissa.shape)

    def quant(
        self,
        x: str,
        scale: Any,
        width: int,
        is_signed: bool,
        rounding: str,
        shape: Sequence[int],
        is_last: bool = False,
    ) -> str:
        """Add a Quant node: round x / scale, saturate to `width` bits.

        Raises:
            UnsupportedError: A result of `width` bits is no float32.
        """
        if width > QUANT_BITS:
            raise UnsupportedError(
                f"The QONNX view needs a Quant node of {width} bits; allowed: {QUANT_BITS}, the precision of its "
                "float32 result. Quantize to fewer bits."
            )
        inputs, is_float = [x, self.real(scale), self.real(0.0), self.real(width)], self.kind == TensorProto.FLOAT
        options = {"signed": int(is_signed), "narrow": 0, "rounding_mode": rounding}
        y = self.add("Quant", inputs, shape, is_last and is_float, **options)
        return y if is_float else self.add("Cast", [y], shape, is_last, to=self.kind)

    def model(self) -> onnx.ModelProto:
        """Return the model of all nodes."""
        source = helper.make_tensor_value_info("input", self.kind, (1, *self.network.input_shape))
        inner = [tensor for name, tensor in self.tensors.items() if name != "output"]
        graph = helper.make_graph(
            self.nodes, "network", [source], [self.tensors["output"]], list(self.constants.values()), value_info=inner
        )
        return helper.make_model(graph, opset_imports=OPSETS, ir_version=IR_VERSION, producer_name="codesign")


def number_type(network: IntegerNetwork) -> int:
    """Return float32 if it holds every number on the way, else float64."""
    largest, fraction_bits = 0, 0
    for operation, result in zip(network.operations, network.ranges, strict=True):
        inputs = [network.ranges[j] for j in operation.inputs]
        largest = max(largest, largest_mantissa(operation, result, *inputs))
        fraction_bits = max(fraction_bits, abs(result.fraction_bits))
    if largest < 1 << 24 and fraction_bits < 100:
        return int(TensorProto.FLOAT)
    if largest < 1 << 53 and fraction_bits < 900:
        return int(TensorProto.DOUBLE)
    raise UnsupportedError(
        f"The QONNX view needs numbers of {largest.bit_length()} bits; allowed: 53, the precision of float64. "
        "Quantize to fewer bits."
    )
