"""From an integer network to a checked design: estimate, fit, Verilog, every view against the emulator, resources."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path

import numpy as np

from codesign.backends import da4ml, verilator
from codesign.core.board import Board
from codesign.core.build import BuildPlan, Evidence, Resources, Timing
from codesign.core.errors import ToolError, UnsupportedError
from codesign.core.integer_network import IntegerNetwork
from codesign.synthesis import levels
from codesign.synthesis.evidence import View, check_views
from codesign.synthesis.vectors import GoldenVectors

STALL_SEEDS = (1, 2)  # the RTL runs once without stalls, where timing is counted, and once with each of these
NETLIST_LIMIT_LUT = 3_000  # a netlist is simulated gate by gate, and its C++ compiles slowly


@dataclass(frozen=True)
class SynthesisResult:
    """What synthesis found out about a network on a board.

    Attributes:
        resources: One record for each level reached, the estimate first.
        timing: Counted in the RTL simulation, or the estimate if that could not run (`Timing.is_simulated` tells).
        evidence: One record for each view.
        rtl: The Verilog, as plan.
        files: Text to go into the bundle, by path: Verilog and reports.
        skipped: What was left out, and why, one sentence each.
    """

    resources: tuple[Resources, ...]
    timing: Timing
    evidence: tuple[Evidence, ...]
    rtl: BuildPlan
    files: Mapping[str, str]
    skipped: tuple[str, ...]

    @property
    def is_exact(self) -> bool:
        """True if every view was compared and none differs."""
        return bool(self.evidence) and all(e.is_exact for e in self.evidence)


def require_fit(resources: Resources, board: Board) -> None:
    """Raise UnsupportedError, naming what breaks and by how much, if a design exceeds a board."""
    available = {"lut": board.lut, "ff": board.ff, "dsp": board.dsp, "bram": board.bram_kbit}
    for name, limit in available.items():
        needed = getattr(resources, name)
        if needed is not None and needed > limit:
            unit = "kbit of BRAM" if name == "bram" else name.upper()
            raise UnsupportedError(
                f"The design needs {needed:,.0f} {unit} ({resources.level}), {needed - limit:,.0f} more than the "
                f"{limit:,} of {board.title}. Use fewer bits, more pruning or a larger board."
            )


def synthesize(
    network: IntegerNetwork,
    board: Board,
    clock_ns: float,
    folder: Path,
    vectors: GoldenVectors,
    *,
    name: str = "network",
    more_views: Sequence[View] | None = None,
    progress: Callable[[str], None] = lambda text: None,
) -> SynthesisResult:
    """Build a network for a board and prove that every view of it equals the emulator.

    What `folder` holds already, finished and of the same digest, is not built again.

    Args:
        network: The network.
        board: Where it shall run.
        clock_ns: Clock period; 0 for the board's.
        folder: Where views are built, each in a folder of its own.
        vectors: Golden vectors.
        name: Name of the design.
        more_views: Views beside RTL and netlist; None for QONNX and hls4ml.
        progress: Called with a few words before each step.

    Raises:
        UnsupportedError: The network cannot be built as RTL, or its estimate exceeds the board.
    """
    clock_ns = board.with_clock(clock_ns)
    cutoff = da4ml.cutoff_for(board.family, clock_ns)
    estimate, timing = da4ml.estimate(network, cutoff, clock_ns)
    require_fit(estimate, board)
    assert estimate.lut is not None
    rtl = da4ml.plan(network, name, cutoff)
    rtl_view = _RtlView(rtl, clock_ns)
    views = [*(software_views(network, board, clock_ns, name) if more_views is None else more_views)]
    resources, skipped = [estimate], []
    files = {f"rtl/{path}": text for path, text in rtl.files.items()}
    simulator = ""
    try:
        simulator = verilator.find_tool().version
        views.append(View("rtl", simulator, rtl_view, lambda n, x, _: da4ml.interpret(n, x)))
    except ToolError as error:
        skipped.append(str(error))
    with_netlist = bool(simulator) and estimate.lut <= NETLIST_LIMIT_LUT
    for level in levels.measure(rtl, board, clock_ns, estimate, folder, with_netlist=with_netlist, progress=progress):
        resources += level.resources
        files |= {f"reports/{name}": text for name, text in level.reports.items()}
        skipped += [level.skipped] if level.skipped else []
        if level.netlist:
            tools = f"{level.resources[0].tool}, {simulator}"
            views.append(View("netlist", tools, _RtlView(level.netlist, clock_ns)))
    evidence = []
    for view in views:
        progress(f"{view.name}: {len(vectors)} vectors")
        evidence += check_views(network, vectors, [view], folder)
    timing = rtl_view.timing or timing
    return SynthesisResult(tuple(resources), timing, tuple(evidence), rtl, files, tuple(skipped))


def software_views(network: IntegerNetwork, board: Board, clock_ns: float, name: str) -> list[View]:
    """Return the views that need no RTL: the QONNX file executed, and the HLS project, as it is shipped, compiled."""
    from codesign.backends import hls4ml, qonnx

    shipped = partial(hls4ml.simulate, project=hls4ml.plan(network, name, board.part, clock_ns))
    return [
        View("qonnx", f"qonnx {metadata.version('qonnx')}", qonnx.simulate, qonnx.simulate),
        View("hls4ml", f"hls4ml {metadata.version('hls4ml')}", shipped, hls4ml.simulate),
    ]


class _RtlView:
    """Simulates Verilog without stalls and with them; any run that differs from the first is what the view returns."""

    def __init__(self, rtl: BuildPlan, clock_ns: float) -> None:
        self.rtl, self.clock_ns = rtl, clock_ns
        self.timing: Timing | None = None

    def __call__(self, network: IntegerNetwork, mantissas: np.ndarray, folder: Path) -> np.ndarray:
        free = verilator.simulate(self.rtl, network, mantissas, 0, folder)
        self.timing = Timing(free.latency_cycles, free.ii, self.clock_ns, is_simulated=True)
        for seed in STALL_SEEDS:
            stalled = verilator.simulate(self.rtl, network, mantissas, seed, folder)
            if not np.array_equal(stalled.outputs, free.outputs):
                return stalled.outputs
        return free.outputs
