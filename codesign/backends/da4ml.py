"""The RTL view: an integer network as one adder graph, through da4ml: estimate, exact interpreter and Verilog.

Source: Sun et al., da4ml: distributed arithmetic for real-time neural networks on FPGAs, arXiv 2507.04535.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from da4ml import codegen
from da4ml._version import __version__ as VERSION
from da4ml.codegen.rtl.verilog import pipeline_logic_gen
from da4ml.codegen.rtl.verilog.comb import get_table_name_memfile
from da4ml.trace import to_pipeline
from da4ml.types import CombLogic, Pipeline, QInterval, minimal_kif

from codesign.backends._da4ml_sums import uncollected
from codesign.backends._da4ml_trace import Bounds, trace
from codesign.backends.rtl.segments import Field, Pieces, Pipe, bits_of, pieces_of
from codesign.backends.rtl.shell import Core, wrap
from codesign.backends.rtl.tables import inline
from codesign.core.build import BuildPlan, Resources, Timing
from codesign.core.errors import UnsupportedError
from codesign.core.integer_network import IntegerNetwork

TOOL = f"da4ml {VERSION}"
LOOKUP = 8  # da4ml's code of a lookup
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
    found = kernel(network, cutoff)
    return Resources("estimate", TOOL, found.lut, found.ff, 0.0, 0.0), Timing(found.latency, 1, clock_ns)


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
    found = kernel(network, cutoff)
    stem = identifier(name)
    pipe = found.pipe(f"{stem}_core", pieces_of(found.inputs, found.inputs))
    core = Core([pipe], found.inputs, found.outputs, beats=1, places=found.latency + 1)
    return BuildPlan(f"{stem}_axis", found.verilog(f"{stem}_core") | wrap(network, f"{stem}_axis", core))


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
        if not depends_on_input(comb):
            raise UnsupportedError(
                "No output of the network depends on its input; there is nothing to build in hardware."
            )
        with uncollected():
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

    def pipe(self, name: str, taken: Pieces, late: Pieces = (), beats: int = 1) -> Pipe:
        """Return the kernel as a segment of a core, where it is the module `name`; arguments as those of `Pipe`."""
        return Pipe(name, taken, bits_of(self.outputs), self.latency, self.lut, self.ff, late, beats)

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


def depends_on_input(comb: CombLogic) -> bool:
    """Return whether any output of combinational logic depends on an input."""
    return any(op.opcode == -1 for op in comb.ops)


def kernel(network: IntegerNetwork, cutoff: int) -> Kernel:
    """Return the whole network as one kernel; raises what `trace` and `Kernel.of` raise."""
    return Kernel.of(trace(network), cutoff)


def fields_of(bounds: Bounds) -> tuple[Field, ...]:
    """Return how kernels pack a tensor within bounds, in row-major order."""
    ends = zip(*(part.ravel() for part in bounds), strict=True)
    return _fields([QInterval(float(low), float(high), float(step)) for low, high, step in ends])


def _fields(intervals: Sequence[QInterval]) -> tuple[Field, ...]:
    """Return width, lowest bit in the mantissa, and sign of every element as the core packs it."""
    kifs = [minimal_kif(interval) for interval in intervals]
    return tuple(Field(sum(kif), -kif.fractional, bool(kif.keep_negative)) for kif in kifs)
