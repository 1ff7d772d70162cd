"""The RTL view: an integer network as one adder graph, through da4ml: estimate, exact interpreter and Verilog.

Everything is traced on mantissas, as integers: a binary point moves by bookkeeping alone, and no constant needs more
fraction bits than da4ml can represent.

Source: Sun et al., da4ml: distributed arithmetic for real-time neural networks on FPGAs, arXiv 2507.04535.
"""

from __future__ import annotations

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
from da4ml.trace import FixedVariable, HWConfig, comb_trace, to_pipeline
from da4ml.trace.ops.reduce_utils import reduce as balanced
from da4ml.types import CombLogic, Pipeline, QInterval, minimal_kif

from codesign.backends.rtl.segments import Field, Pipe, bits_of, pieces_of
from codesign.backends.rtl.shell import Core, wrap
from codesign.core.build import BuildPlan, Resources, Timing
from codesign.core.errors import UnsupportedError
from codesign.core.fixed_point import Fixed, FixedPoint, Overflow, Rounding, fit, shift
from codesign.core.integer_network import IntegerNetwork
from codesign.core.operations import (
    Add,
    Affine,
    LeakyRelu,
    Linear,
    Max,
    Operation,
    Patches,
    Quantize,
    Relu,
    Reshape,
    Sum,
    Transpose,
)

TOOL = f"da4ml {VERSION}"
WIDEST = 45  # bits; da4ml takes widths from float64 logarithms, which tell 2^45 from 2^45 + 1 but not much beyond
# Larger matrices are solved in parts, in whole columns: the solver's time grows faster than the square of the entries.
# 576 x 32 at 6 bits takes 10 s and 74,119 LUTs whole, 1.0 s and 81,665 in parts; 64 x 64 stays whole.
SOLVED_WHOLE, SOLVED_IN_PARTS = 4608, 2304
HARDWARE = HWConfig(adder_size=1, carry_size=-1, latency_cutoff=-1)  # every adder is one unit of delay
# Nanoseconds of a stage: a fixed part, and one for each adder in it. ECP5: four routed designs (127, 111, 93, 71 MHz at
# 1, 2, 3, 5 adders). UltraScale+: da4ml's practice of 5 adders at 200 MHz. 7 series: between both. A rule to plan with.
STAGE_NS = {"xcup": (1.5, 0.7), "xc7": (3.0, 1.0), "ecp5": (6.2, 1.55)}

Value = Any  # an int (a constant) or a FixedVariable


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
    results = {i: _constants(values) for i, values in variables.items()}
    solver = _Solver()
    for i, operation in operations.items():
        inputs = [results[j] for j in operation.inputs]
        points = [grids[j] for j in operation.inputs]
        results[i] = _constants(_apply(operation, inputs, points, grids[i], solver))
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
        files = {f"{module}.v": text for module, text in pipeline_logic_gen(self.pipeline, name).items()}
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
        if isinstance(operation, Linear) and np.abs(operation.weight).max(initial=0) >= 1 << 24:
            raise UnsupportedError(
                f"Step {i} (Linear) has a weight of more than 24 bits, which the RTL view's solver rounds; use fewer."
            )


def _variables(bounds: Bounds) -> np.ndarray:
    values = np.empty(bounds.low.shape, dtype=object)
    for index in np.ndindex(values.shape):
        low, high, step = (int(part[index]) for part in bounds)
        values[index] = FixedVariable(low, high, step, hwconf=HARDWARE)
    return values


def _constants(values: np.ndarray) -> np.ndarray:
    """Return the values with every variable that can only be one number replaced by this number."""
    flat = [_folded(v) for v in values.ravel()]
    result = np.empty(len(flat), dtype=object)
    result[:] = flat
    return result.reshape(values.shape)


def _folded(v: Value) -> Value:
    return int(v.low) if isinstance(v, FixedVariable) and v.low == v.high else v


def _apply(operation: Operation, x: list[np.ndarray], points: list[int], point: int, solver: _Solver) -> np.ndarray:
    """Return the result of one step: object arrays of values, from the binary points of the inputs to the result's."""
    match operation:
        case Linear():
            rows = x[0].reshape(-1, x[0].shape[-1])
            products = np.stack([solver.multiply(row, operation.weight) for row in rows])
            products = _scale(products, point - points[0] - operation.weight_fraction_bits)
            y = products + (operation.bias.astype(object) << (point - operation.bias_fraction_bits))
            y = y.reshape(*x[0].shape[:-1], -1)
        case Affine():
            scale = operation.scale.astype(object) << (point - points[0] - operation.scale_fraction_bits)
            y = x[0] * scale + (operation.offset.astype(object) << (point - operation.offset_fraction_bits))
        case Quantize():
            y = _quantize(operation, x[0], points[0], point)
        case Relu():
            y = _each(lambda v: v.relu() if isinstance(v, FixedVariable) else max(v, 0), x[0])
        case LeakyRelu(slope_bits=slope_bits):
            y = _each(lambda v: _leaky(v, slope_bits), x[0])
        case Sum(axis=axis, keep=keep):
            y = _reduced(lambda a, b: a + b, x[0], axis, keep)
        case Max(axis=axis, keep=keep):
            y = _reduced(_maximum, x[0], axis, keep)
        case Add():
            y = _scale(x[0], point - points[0]) + _scale(x[1], point - points[1])
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
        return _constants(reduce(lambda x, graph: _replay(graph, x), self.solutions[key].solutions, variables))


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


def _scale(values: np.ndarray, bits: int) -> np.ndarray:
    return values * (1 << bits) if bits else values


def _each(function: Any, values: np.ndarray) -> np.ndarray:
    return np.frompyfunc(function, 1, 1)(values)


def _leaky(v: Value, slope_bits: int) -> Value:
    if not isinstance(v, FixedVariable):
        return v << slope_bits if v >= 0 else v
    if v.low >= 0:
        return v * (1 << slope_bits)
    return v if v.high < 0 else _select(v.is_negative(), v, v * (1 << slope_bits))


def _select(bit: Value, if_one: Value, if_zero: Value) -> Value:
    """Return one of two values by a variable of one bit.

    da4ml looks through a key that is a slice of another variable and then asks for that variable's highest bit, which
    its interpreter gets wrong for unsigned ones of several bits (release 0.6.0). An inverted bit is no slice.
    """
    if not isinstance(bit, FixedVariable):
        return if_one if bit else if_zero
    return (~bit).msb_mux(if_zero, if_one) if bit.opr == "wrap" else bit.msb_mux(if_one, if_zero)


def _maximum(a: Value, b: Value) -> Value:
    if isinstance(a, FixedVariable):
        return a.max_of(b)
    return b.max_of(a) if isinstance(b, FixedVariable) else max(a, b)


def _reduced(function: Any, x: np.ndarray, axis: int, keep: bool) -> np.ndarray:
    """Reduce one axis by a tree that takes the earliest values first; constants are folded before."""
    moved = np.moveaxis(x, axis, -1)
    result = np.empty(moved.shape[:-1], dtype=object)
    for index in np.ndindex(result.shape):
        variables = [v for v in moved[index] if isinstance(v, FixedVariable)]
        parts = [v for v in moved[index] if not isinstance(v, FixedVariable)]
        if variables:
            parts.insert(0, balanced(function, np.array(variables, dtype=object)))
        result[index] = reduce(function, parts)
    return np.expand_dims(result, axis) if keep else result


def _quantize(operation: Quantize, x: np.ndarray, point: int, grid: int) -> np.ndarray:
    result = np.empty(x.shape, dtype=object)
    for index in np.ndindex(x.shape):
        target = operation.formats[index[-1] if len(operation.formats) > 1 else 0]
        if target.width == 0:
            result[index] = 0
        elif isinstance(x[index], FixedVariable):
            rounded = _round(x[index], point - target.fraction_bits, operation.rounding)
            result[index] = _fit(rounded, target, operation.overflow) * (1 << (grid - target.fraction_bits))
        else:
            mantissa = shift(np.array([x[index]]), target.fraction_bits - point, operation.rounding)
            result[index] = int(fit(mantissa, target, operation.overflow)[0]) << (grid - target.fraction_bits)
    return result


def _floor(v: Value, lost: int) -> Value:
    """Return floor(v / 2^lost)."""
    if not isinstance(v, FixedVariable):
        return v >> lost
    is_signed, integer_bits, _ = v.kif
    if is_signed + integer_bits <= lost:  # only the sign is left
        return _folded(-v.is_negative())
    return _folded(v.quantize(is_signed, integer_bits, -lost) * 2.0**-lost)


def _round(v: FixedVariable, lost: int, rounding: Rounding) -> Value:
    """Return v / 2^lost, rounded to an integer.

    Half to even is half up, but where the bits lost from v + half are all zero (a tie) the last bit is cleared.
    """
    if lost <= 0:
        return v * (1 << -lost)
    if rounding is Rounding.FLOOR:
        return _floor(v, lost)
    up = v + (1 << (lost - 1))
    if rounding is Rounding.HALF_UP or v.step > 1 << (lost - 1):
        return _floor(up, lost)
    no_tie = up.quantize(0, lost, 0).unary_bit_op("any")
    return _select(no_tie, _floor(up, lost), _floor(up, lost + 1) * 2)


def _fit(v: Value, target: FixedPoint, overflow: Overflow) -> Value:
    """Return an integer v in the range of `target`."""
    v = _folded(v)
    if not isinstance(v, FixedVariable):
        return int(fit(np.array([v]), target, overflow)[0])
    if target.minimum <= v.low and v.high <= target.maximum:
        return v
    if overflow is Overflow.SATURATE:
        return _fit(v.max_of(target.minimum).min_of(target.maximum), target, Overflow.WRAP)
    if v.low < 0 and not target.is_signed and target.width > v.kif[1] + 1:
        v = v + v.is_negative() * (
            1 << target.width
        )  # da4ml would extend with zeros, where two's complement has the sign
    return v.quantize(int(target.is_signed), target.width - target.is_signed, 0)


def fields_of(bounds: Bounds) -> tuple[Field, ...]:
    """Return how kernels pack a tensor within bounds, in row-major order."""
    ends = zip(*(part.ravel() for part in bounds), strict=True)
    return _fields([QInterval(float(low), float(high), float(step)) for low, high, step in ends])


def _fields(intervals: Sequence[QInterval]) -> tuple[Field, ...]:
    """Return width, lowest bit in the mantissa, and sign of every element as the core packs it."""
    kifs = [minimal_kif(interval) for interval in intervals]
    return tuple(Field(sum(kif), -kif.fractional, bool(kif.keep_negative)) for kif in kifs)
