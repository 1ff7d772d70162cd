"""Layers that hls4ml lacks, added through its extension API: how a step of a network is configured and called in C++.

hls4ml's own dense layer multiplies; everything else is a function of `hls/nnet_exact.h`. How a layer takes tensors,
whole or block by block, as arrays or as streams, is a function of `hls/nnet_exact_stream.h`: its pattern.
"""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from hls4ml.backends import get_backend
from hls4ml.backends.catapult.passes.core_templates import DenseConfigTemplate as CatapultDenseConfig
from hls4ml.backends.template import FunctionCallTemplate, LayerConfigTemplate
from hls4ml.backends.vivado.passes.core_templates import DenseConfigTemplate as VivadoDenseConfig
from hls4ml.backends.vivado.passes.core_templates import dense_include_list
from hls4ml.backends.vivado.passes.distributed_arithmetic import get_kernel_inp_kif
from hls4ml.model.flow import update_flow
from hls4ml.model.layers import Dense, Layer, register_layer
from hls4ml.model.optimizer import OptimizerPass, register_pass

HEADERS = Path(__file__).parent / "hls"
INCLUDES = ["nnet_utils/nnet_exact.h"]
ADDER_GRAPH = "distributed_arithmetic"


class ExactStep(Layer):
    """A call of a function in nnet_exact.h, by a pattern or, without one, on whole arrays."""

    def initialize(self) -> None:
        self.add_output_variable([math.prod(self.get_attr("shape"))])
        for name in self.get_attr("constants"):
            self.add_weights_variable(name=name, var_name=f"{name}{{index}}")


class DenseBlocks(Dense):
    """A dense layer by a pattern, the same weights for every block; hls4ml treats it as a dense layer in all else."""

    def initialize(self) -> None:
        super().initialize()
        self.add_output_variable([math.prod(self.get_attr("shape"))])


class _Beats(OptimizerPass):
    """Gives tensors the shape of their beats. Before, hls4ml would take a dense layer for a convolution."""

    def match(self, node: Layer) -> bool:
        return "shape" in node.attributes and list(node.get_output_variable().shape) != node.get_attr("shape")

    def transform(self, model: Any, node: Layer) -> bool:
        node.get_output_variable().shape = node.get_attr("shape")
        return False


update_flow("optimize", [register_pass("exact_beats", _Beats)])


@get_kernel_inp_kif.register(DenseBlocks)
def _(node: DenseBlocks) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return sign, integer bits and fraction bits of each input of an adder graph."""
    held = node.get_input_variable().type.precision
    bits = held.signed, held.integer - held.signed, held.width - held.integer
    sign, integer, fraction = (np.full(node.get_attr("n_in"), number, dtype=np.int16) for number in bits)
    return sign, integer, fraction


def _step(config: str, function: str, operands: int, constants: list[str]) -> str:
    """Return the member `step` of a config: a function on one block."""
    types = ["data_T", "res_T"] if operands == 1 else ["first_T", "second_T", "res_T"]
    arrays = [*zip(types, "xyz", strict=False), *((f"{name}_t", name) for name in constants)]
    parameters = ", ".join(f"{kind} *{name}" for kind, name in arrays)
    arguments = ", ".join(name for _, name in arrays)
    template = f"template <{', '.join(f'class {kind}' for kind in types)}> static void step({parameters})"
    return f"{template} {{ {function}<{', '.join([*types, config] if config else types)}>({arguments}); }}"


def _pipelined(node: Layer) -> list[str]:
    """Return the member that says whether blocks follow one another at every clock: no multiplier is used twice."""
    if not node.get_attr("pattern"):
        return []
    is_pipelined = node.get_attr("is_pipelined") and node.get_attr("strategy") != "resource"
    return [f"static const bool is_pipelined = {str(is_pipelined).lower()};"]


def _struct(name: str, lines: list[str]) -> str:
    return f"struct {name} {{\n" + "".join(f"    {line}\n" for line in lines) + "};\n"


class _StepConfig(LayerConfigTemplate):
    def __init__(self) -> None:
        super().__init__(ExactStep)

    def format(self, node: Layer) -> str:
        name, constants = f"config{node.index}", node.get_attr("constants")
        lines = [f"static const unsigned n_out = {node.get_attr('n_out')};", *node.get_attr("members")]
        lines += [f"typedef {node.get_weights(constant).type.name} {constant}_t;" for constant in constants]
        lines += _pipelined(node)
        if node.get_attr("pattern") not in ("", "fold"):
            lines.append(_step(name, f"nnet::exact::{node.get_attr('function')}", len(node.inputs), constants))
        return _struct(name, lines)


class _StepCall(FunctionCallTemplate):
    def __init__(self) -> None:
        super().__init__(ExactStep, include_header=INCLUDES)

    def format(self, node: Layer) -> str:
        return _call(node, node.get_attr("pattern") or node.get_attr("function"), node.get_attr("constants"))


def _call(node: Layer, function: str, constants: list[str]) -> str:
    tensors = [*(node.get_input_variable(name) for name in node.inputs), node.get_output_variable()]
    types = ", ".join([*(t.type.name for t in tensors), f"config{node.index}"])
    arguments = [*(t.name for t in tensors), *(node.get_weights(name).name for name in constants)]
    return f"nnet::exact::{function}<{types}>({', '.join(arguments)});"


class _DenseBlocksConfig(LayerConfigTemplate):
    """hls4ml's own config with what the pattern needs; an adder graph needs no more than its sizes."""

    def __init__(self, dense: type[LayerConfigTemplate]) -> None:
        super().__init__(DenseBlocks)
        self.dense = dense()

    def format(self, node: Layer) -> str:
        name, lines = f"config{node.index}", [*node.get_attr("members"), *_pipelined(node)]
        if node.get_attr("strategy") == ADDER_GRAPH:
            lines += [f"static const unsigned n_out = {node.get_attr('n_out')};"]
            return _struct(name, [*lines, _step("", f"nnet::dense_da_{node.index}", 1, [])])
        lines.append(_step(name, "nnet::dense", 1, ["weight", "bias"]))
        return self.dense.format(node).removesuffix("};\n") + _struct("", lines).partition("\n")[2]

    def transform(self, model: Any, node: Layer) -> bool:
        super().transform(model, node)
        # The constants of an adder graph are in its code: as hls4ml does for its own layers, none is written beside it.
        if node.get_attr("strategy") == ADDER_GRAPH and "weight" in node.attributes:
            for name in ("weight", "weight_t", "weight_data", "bias", "bias_t", "bias_data"):
                del node.attributes[name]
        return False


class _DenseBlocksCall(FunctionCallTemplate):
    def __init__(self) -> None:
        super().__init__(DenseBlocks, include_header=[*dense_include_list, *INCLUDES])

    def format(self, node: Layer) -> str:
        constants = [] if node.get_attr("strategy") == ADDER_GRAPH else ["weight", "bias"]
        return _call(node, node.get_attr("pattern"), constants)


def register(backend_name: str) -> None:
    """Teach an hls4ml backend the layers of this file."""
    backend = get_backend(backend_name)
    for layer in (ExactStep, DenseBlocks):
        register_layer(layer.__name__, layer)
    dense = CatapultDenseConfig if backend_name == "Catapult" else VivadoDenseConfig
    for template in (_StepConfig, _StepCall, partial(_DenseBlocksConfig, dense), _DenseBlocksCall):
        backend.register_template(template)
