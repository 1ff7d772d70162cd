"""The RTL view: an integer network as one adder graph, through da4ml: estimate, exact interpreter and Verilog.

Everything is traced on mantissas, as integers: a binary point moves by bookkeeping alone, and no constant needs more
fraction bits than da4ml can represent.

Source: Sun et al., da4ml: distributed arithmetic for real-time neural networks on FPGAs, arXiv 2507.04535.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, reduce
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from da4ml import codegen
from da4ml._version import __version__ as VERSION
from da4ml.cmvm import solve
from da4ml.codegen.rtl.verilog import pipeline_logic_gen
from da4ml.codegen.rtl.verilog.comb import get_table_name_memfile
from da4ml.trace import FixedVariable, comb_trace, to_pipeline
from da4ml.types import CombLogic, Pipeline, QInterval, minimal_kif

from codesign.backends._da4ml_values import (
    HARDWARE,
    Value,
    constants,
    each,
    leaky,
    looked_up,
    maximum,
    product,
    quantize,
    reduced,
    scale,
)
from codesign.backends.rtl.segments import Field, Pipe, bits_of, pieces_of
from codesign.backends.rtl.shell import Core, wrap
from codesign.backends.rtl.tables import inline
from codesign.core.build import BuildPlan, Resources, Timing
from codesign.core.errors import UnsupportedError
from codesign.core.fixed_point import Fixed
from codesign.core.integer_network import IntegerNetwork
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
    Relu,
    Reshape,
    Sum,
    Table,
    Transpose,
)

TOOL = f"da4ml {VERSION}"
# Multiplications of one step: each by a constant becomes a few Python objects, each of two activations some twenty.
MOST_PRODUCTS = {Linear: 100_000, Multiply: 20_000, MatMul: 20_000}
LOOKUP = 8  # da4ml's code of a lookup
WIDEST = 45  # bits; da4ml takes widths from float64 logarithms, which tell 2^45 from 2^45 + 1 but not much beyond
# Larger matrices are solved in parts, in whole columns: the solver's time grows faster than the square of the entries.
# 576 x 32 at 6 bits takes 10 s and 74,119 LUTs whole, 1.0 s and 81,665 in parts; 64 x 64 stays whole.
SOLVED_WHOLE, SOLVED_IN_PARTS = 4608, 2304
# Nanoseconds of a stage: a fixed part, and one for each adder in it; a rule to plan with. ECP5: twelve designs routed
# by nextpnr, speed grade 6 (117, 103, 79, 55, 41 MHz at 1, 2, 3, 5, 8 adders). UltraScale+: da4ml's practice of 5
# adders at 200 MHz. 7 series: between both.
STAGE_NS = {"xcup": (1.5, 0.7), "xc7": (3.0, 1.0), "ecp5": (6.2, 2.3)}


def cutoff_for(family: str, clock_ns: float) -> int:
    """Return how many adder delays to plan between two registers at a clock period; at least 1.

    Raises:
        UnsupportedError: The family has no timing rule.
    """
    if family not in STAGE_NS:
        raise UnsupportedError(f"The family {family} has no rule for pipelining; allowed: {', '.join(STAGE_NS)}.")
    fixed, adder = STAGE_NS[family]
    return max(1, int((clock_ns - fixed) / adder + 1e-9))


class Bounds(NamedTuple):
    """Object arrays of the shape of a tensor: smallest and largest mantissa, and a power of two that divides it."""

    low: np.ndarray
    high: np.ndarray
    step: np.ndarray


@lru_cache(maxsize=8)
def trace(network: IntegerNetwork) -> CombLogic:
    """Return the network as combinational logic on integers: inputs and outputs are mantissas in row-major order.

    Raises:
        UnsupportedError: A step is wider than da4ml handles, or a weight than its solver does.
    """
    require_narrow(network)
    require_few(network)
    operations = dict(enumerate(network.operations[1:], 1))
    grids = [r.fraction_bits for r in network.ranges]
    return graph(operations, {0: input_bounds(network)}, grids, (len(operations),))


def input_bounds(network: IntegerNetwork) -> Bounds:
    """Return the bounds of the network's input: mantissas of a coarse channel are multiples of a power of two."""
    formats, first = network.input.formats, network.ranges[0]
    steps = [1 << (first.fraction_bits - f.fraction_bits) if f.width else 1 for f in formats]
    step = np.broadcast_to(np.array(steps, dtype=object), first.shape)
    return Bounds(first.low.astype(object), first.high.astype(object), step)


def graph(
    operations: Mapping[int, Operation], taken: Mapping[int, Bounds], grids: Sequence[int], given: Sequence[int]
) -> CombLogic:
    """Return operations as combinational logic on integers, each tensor flattened in row-major order.

    Args:
        operations: By the number of their result, in an order in which they can be computed.
        taken: Tensors that come in, by number, in the order of the logic's inputs.
        grids: Fraction bits of every tensor, by number.
        given: Numbers of the tensors that go out.
    """
    variables = {i: _variables(bounds) for i, bounds in taken.items()}
    results = {i: constants(values) for i, values in variables.items()}
    solver = _Solver()
    for i, operation in operations.items():
        inputs = [results[j] for j in operation.inputs]
        points = [grids[j] for j in operation.inputs]
        results[i] = constants(_apply(operation, inputs, points, grids[i], solver))
    outputs = [
        v if isinstance(v, FixedVariable) else FixedVariable.from_const(v, HARDWARE)
        for i in given
        for v in results[i].ravel()
    ]
    return comb_trace(np.concatenate([values.ravel() for values in variables.values()]), outputs)


def interpret(network: IntegerNetwork, mantissas: np.ndarray) -> np.ndarray:
    """Return the output mantissas (batch, *output_shape), int64, that da4ml's interpreter computes."""
    flat = mantissas.reshape(len(mantissas), -1).astype(np.float64)
    return trace(network).predict(flat).astype(np.int64).reshape(len(mantissas), *network.output_shape)


def estimate(network: IntegerNetwork, cutoff: int = 5, clock_ns: float = 5.0) -> tuple[Resources, Timing]:
    """Return resources and timing without any synthesis: a fraction of a second for small networks.

    LUTs are the cost of the adder graph, FFs the bits between its pipeline stages; there are no DSPs and no BRAMs. On
    66 designs the cost ranked as Yosys did (Spearman .999), with a median error of 2.5 % after scaling.

    Args:
        network: The network, fully unrolled: initiation interval 1.
        cutoff: Adder delays between two registers; 5 suit the default clock of an UltraScale+ part.
        clock_ns: Clock period, for the latency in nanoseconds.

    Raises:
        UnsupportedError: A step or weight is too wide.
    """
    kernel = Kernel.of(trace(network), cutoff)
    return Resources("estimate", TOOL, kernel.lut, kernel.ff, 0.0, 0.0), Timing(kernel.latency, 1, clock_ns)


def plan(network: IntegerNetwork, name: str, cutoff: int) -> BuildPlan:
    """Return the Verilog of the network behind its AXI-Stream shell; the plan is named as the top module, <name>_axis.

    The buses are laid out as `codesign.core.bus` says, with elements as wide as `network.ranges[0].format()` and
    `network.output_format`.

    Args:
        network: The network, fully unrolled and pipelined: initiation interval 1.
        name: Any name; what Verilog does not allow becomes an underscore.
        cutoff: Adder delays between two registers.

    Raises:
        UnsupportedError: A step or weight is too wide, or no output depends on the input.
    """
    kernel = Kernel.of(trace(network), cutoff)
    stem = identifier(name)
    core = Core(
        [kernel.pipe(f"{stem}_core", kernel.inputs)], kernel.inputs, kernel.outputs, beats=1, places=kernel.latency + 1
    )
    return BuildPlan(f"{stem}_axis", kernel.verilog(f"{stem}_core") | wrap(network, f"{stem}_axis", core))


def identifier(name: str) -> str:
    """Return a name as Verilog allows it."""
    return re.sub(r"^(?=\d)|\W", "_", name, flags=re.ASCII)


@dataclass(frozen=True, eq=False)
class Kernel:
    """Combinational logic, pipelined: it takes inputs and gives outputs in every cycle.

    Attributes:
        inputs: How each input is packed into the bus that comes in, from the least significant bits on.
        outputs: Likewise for the bus that goes out.
        latency: Clock edges from an input to its output: one register before every stage and one after the last.
    """

    comb: CombLogic
    pipeline: Pipeline
    inputs: tuple[Field, ...]
    outputs: tuple[Field, ...]
    latency: int

    @classmethod
    def of(cls, comb: CombLogic, cutoff: int) -> Kernel:
        """Pipeline combinational logic with at most `cutoff` adder delays between two registers.

        Raises:
            UnsupportedError: No output depends on an input.
        """
        if not any(op.opcode == -1 for op in comb.ops):
            raise UnsupportedError(
                "No output of the network depends on its input; there is nothing to build in hardware."
            )
        pipeline = to_pipeline(comb, cutoff, verbose=False)
        inputs, outputs = _fields(pipeline.inp_qint), _fields(pipeline.out_qint)
        return cls(comb, pipeline, inputs, outputs, len(pipeline.solutions) + 1)

    @property
    def lut(self) -> float:
        """Cost of the adder graph."""
        return float(self.comb.cost)

    @property
    def bounds(self) -> Bounds:
        """Bounds of the outputs, in a row."""
        ends = np.array([[int(part) for part in interval] for interval in self.pipeline.out_qint], dtype=object)
        return Bounds(*ends.reshape(-1, 3).T)

    @property
    def ff(self) -> float:
        """Bits of all registers: before every stage and after the last."""
        intervals = [*(stage.inp_qint for stage in self.pipeline.solutions), self.pipeline.out_qint]
        return float(sum(sum(minimal_kif(q)) for row in intervals for q in row))

    def interpret(self, mantissas: np.ndarray) -> np.ndarray:
        """Return the outputs (rows, outputs), int64, that da4ml's interpreter computes of inputs (rows, inputs)."""
        return self.comb.predict(np.ascontiguousarray(mantissas, dtype=np.float64)).astype(np.int64)

    def pipe(self, name: str, given: Sequence[Field]) -> Pipe:
        """Return the kernel as a segment of a core, where it is the module `name` and gets beats of these fields."""
        return Pipe(name, pieces_of(given, self.inputs), bits_of(self.outputs), self.latency, self.lut, self.ff)

    def verilog(self, name: str) -> dict[str, str]:
        """Return the files of the module `name` and of all it needs; ports clk, model_inp, model_out."""
        modules = {f"{module}.v": text for module, text in pipeline_logic_gen(self.pipeline, name).items()}
        stages = self.pipeline.solutions
        tables = (get_table_name_memfile(stage, op) for stage in stages for op in stage.ops if op.opcode == LOOKUP)
        files = inline(modules, dict(tables))
        body = "".join(files.values())
        static = Path(codegen.__file__).parent / "rtl" / "verilog" / "source"
        for path in sorted(static.glob("*.v")):
            if f" {path.stem} #(" in body:
                files[path.name] = path.read_text()
        return files


def require_narrow(network: IntegerNetwork) -> None:
    """Raise UnsupportedError, naming the step, if a step is wider than da4ml handles, or a weight than its solver."""
    for i, (operation, bounds) in enumerate(zip(network.operations, network.ranges, strict=True)):
        width = bounds.format().width
        if width > WIDEST:
            raise UnsupportedError(
                f"Step {i} ({type(operation).__name__}) is {width} bits wide; the RTL view takes up to {WIDEST}. "
                "Quantize its input to fewer bits."
            )
        if isinstance(operation, Table) and np.abs(operation.values).max() >= 1 << 31:
            raise UnsupportedError(
                f"Step {i} (Table) has an entry of more than 31 bits, which the RTL view's tables lose; use fewer."
            )
        if isinstance(operation, Linear) and np.abs(operation.weight).max(initial=0) >= 1 << 24:
            raise UnsupportedError(
                f"Step {i} (Linear) has a weight of more than 24 bits, which the RTL view's solver rounds; use fewer."
            )


def require_few(network: IntegerNetwork) -> None:
    """Raise UnsupportedError, naming the step, if a step has more multiplications than are worth unrolling."""
    for i, operation in enumerate(network.operations):
        shapes = [network.ranges[j].shape for j in operation.inputs]
        products = 0
        if isinstance(operation, Linear):
            products = math.prod(shapes[0][:-1]) * int(np.count_nonzero(operation.weight))
        elif isinstance(operation, Multiply | MatMul):
            entries = shapes[0][-1] if isinstance(operation, MatMul) else 1
            products = math.prod(network.ranges[i].shape) * entries
        most = MOST_PRODUCTS.get(type(operation), 0)
        if products > most:
            raise UnsupportedError(
                f"Step {i} ({type(operation).__name__}) has {products} multiplications; the RTL view unrolls up to "
                f"{most}. Use fewer positions or channels."
            )


def _variables(bounds: Bounds) -> np.ndarray:
    values = np.empty(bounds.low.shape, dtype=object)
    for index in np.ndindex(values.shape):
        low, high, step = (int(part[index]) for part in bounds)
        values[index] = FixedVariable(low, high, step, hwconf=HARDWARE)
    return values


def _apply(  # noqa: PLR0912 - one case for each operation
    operation: Operation, x: list[np.ndarray], points: list[int], point: int, solver: _Solver
) -> np.ndarray:
    """Return the result of one step: object arrays of values, from the binary points of the inputs to the result's."""
    match operation:
        case Linear():
            rows = x[0].reshape(-1, x[0].shape[-1])
            products = np.stack([solver.multiply(row, operation.weight) for row in rows])
            products = scale(products, point - points[0] - operation.weight_fraction_bits)
            y = products + (operation.bias.astype(object) << (point - operation.bias_fraction_bits))
            y = y.reshape(*x[0].shape[:-1], -1)
        case Affine():
            factor = operation.scale.astype(object) << (point - points[0] - operation.scale_fraction_bits)
            y = x[0] * factor + (operation.offset.astype(object) << (point - operation.offset_fraction_bits))
        case Quantize():
            y = quantize(operation, x[0], points[0], point)
        case Relu():
            y = each(lambda v: v.relu() if isinstance(v, FixedVariable) else max(v, 0), x[0])
        case LeakyRelu(slope_bits=slope_bits):
            y = each(lambda v: leaky(v, slope_bits), x[0])
        case Sum(axis=axis, keep=keep):
            y = reduced(lambda a, b: a + b, x[0], axis, keep)
        case Max(axis=axis, keep=keep):
            y = reduced(maximum, x[0], axis, keep)
        case Table(values=entries, low=low):
            y = each(lambda v: looked_up(v, entries, low), x[0])
        case Multiply():
            y = np.frompyfunc(product, 2, 1)(x[0], x[1])
        case MatMul():
            terms = np.frompyfunc(product, 2, 1)(np.expand_dims(x[0], -1), np.expand_dims(x[1], -3))
            y = reduced(lambda a, b: a + b, terms, terms.ndim - 2, False)
        case Add():
            y = scale(x[0], point - points[0]) + scale(x[1], point - points[1])
        case Reshape() | Transpose() | Patches():
            y = operation.compute(Fixed(x[0][None], 0)).mantissa[0]
        case _:
            raise UnsupportedError(f"The RTL view builds no operation {type(operation).__name__}; use those of core.")
    return y


class _Solver:
    """Multiplication by constant matrices as adder graphs, each distinct problem solved once."""

    def __init__(self) -> None:
        self.solutions: dict[Any, Pipeline] = {}

    def multiply(self, row: np.ndarray, weight: np.ndarray) -> np.ndarray:
        """Return row (inputs,) @ weight (inputs, outputs), exact."""
        is_variable = np.array([isinstance(v, FixedVariable) for v in row])
        fixed = np.array([0 if m else v for v, m in zip(row, is_variable, strict=True)], dtype=object)
        constant = fixed @ weight.astype(object)
        kernel, variables = weight[is_variable], row[is_variable]
        columns = max(1, SOLVED_IN_PARTS // len(kernel)) if kernel.size > SOLVED_WHOLE else weight.shape[1]
        parts = [kernel[:, i : i + columns] for i in range(0, kernel.shape[1], columns)]
        return np.concatenate([self._product(variables, part) for part in parts]) + constant

    def _product(self, variables: np.ndarray, kernel: np.ndarray) -> np.ndarray:
        if not kernel.any():
            return np.zeros(kernel.shape[1], dtype=object)
        intervals = [QInterval(float(v.low), float(v.high), float(v.step)) for v in variables]
        delays = [float(v.latency) for v in variables]
        key = (kernel.shape, kernel.tobytes(), tuple(intervals), tuple(delays))
        if key not in self.solutions:
            self.solutions[key] = solve(
                np.ascontiguousarray(kernel, dtype=np.float32),
                qintervals=intervals,
                latencies=delays,
                adder_size=HARDWARE.adder_size,
                carry_size=HARDWARE.carry_size,
                search_all_decompose_dc=False,
            )
        return constants(reduce(lambda x, graph: _replay(graph, x), self.solutions[key].solutions, variables))


def _replay(graph: CombLogic, inputs: Sequence[Value]) -> np.ndarray:
    """Return the outputs of a solver's adder graph: as da4ml's own replay does, less its multiplications by one."""
    buffer: list[Value] = []
    for op in graph.ops:
        if op.opcode == -1:
            shifted = graph.inp_shifts[op.id0]
            buffer.append(inputs[op.id0] * 2.0**shifted if shifted else inputs[op.id0])
        else:
            assert op.opcode in (0, 1), op
            b = buffer[op.id1] * 2.0**op.data if op.data else buffer[op.id1]
            buffer.append(buffer[op.id0] - b if op.opcode else buffer[op.id0] + b)
    outputs = np.zeros(len(graph.out_idxs), dtype=object)
    for i, (index, bits, is_negative) in enumerate(zip(graph.out_idxs, graph.out_shifts, graph.out_negs, strict=True)):
        if index >= 0:
            y = buffer[index] * 2.0**bits if bits else buffer[index]
            outputs[i] = -y if is_negative else y
    return outputs


def fields_of(bounds: Bounds) -> tuple[Field, ...]:
    """Return how kernels pack a tensor within bounds, in row-major order."""
    ends = zip(*(part.ravel() for part in bounds), strict=True)
    return _fields([QInterval(float(low), float(high), float(step)) for low, high, step in ends])


def _fields(intervals: Sequence[QInterval]) -> tuple[Field, ...]:
    """Return width, lowest bit in the mantissa, and sign of every element as the core packs it."""
    kifs = [minimal_kif(interval) for interval in intervals]
    return tuple(Field(sum(kif), -kif.fractional, bool(kif.keep_negative)) for kif in kifs)
