"""From an integer network to a checked design: estimate, fit, Verilog, every view against the emulator, resources."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

from codesign.backends import verilator
from codesign.backends.dataflow import choose
from codesign.backends.hls_options import DEFAULTS, HlsOptions, resolve
from codesign.core.board import Board
from codesign.core.build import BuildPlan, Evidence, Resources, Timing
from codesign.core.errors import ToolError, UnsupportedError
from codesign.core.integer_network import IntegerNetwork
from codesign.synthesis import levels
from codesign.synthesis.apart import run_apart
from codesign.synthesis.evidence import View, check_view, failed
from codesign.synthesis.rtl import RtlSteps, RtlView
from codesign.synthesis.vectors import GoldenVectors

NETLIST_LIMIT_LUT = 3_000  # a netlist is simulated gate by gate, and its C++ compiles slowly


@dataclass(frozen=True)
class SynthesisResult:
    """What synthesis found out about a network on a board.

    Attributes:
        resources: One record for each level reached, the estimate first.
        timing: Counted in the RTL simulation, or the estimate if that could not run (`Timing.is_simulated` tells).
        evidence: One record for each view.
        dataflow: "parallel" or "streaming".
        beats: Beats of the input stream that make a sample.
        rtl: The Verilog, as plan.
        hls: What kind of hls4ml project was built.
        files: Text to go into the bundle, by path: Verilog and reports.
        skipped: What was left out, and why, one sentence each.
    """

    resources: tuple[Resources, ...]
    timing: Timing
    evidence: tuple[Evidence, ...]
    dataflow: str
    beats: int
    rtl: BuildPlan
    hls: HlsOptions
    files: Mapping[str, str]
    skipped: tuple[str, ...]

    @property
    def is_exact(self) -> bool:
        """True if every view was compared and none differs."""
        return bool(self.evidence) and all(e.is_exact for e in self.evidence)


def require_fit(resources: Resources, board: Board) -> None:
    """Raise UnsupportedError, naming what breaks and by how much, if a design exceeds a board."""
    shortfalls = board.shortfalls(resources)
    if shortfalls:
        raise UnsupportedError(
            f"The design needs {' and '.join(shortfalls)}. Use fewer bits, more pruning or a larger board."
        )


def synthesize(
    network: IntegerNetwork,
    board: Board,
    clock_ns: float,
    folder: Path,
    vectors: GoldenVectors,
    *,
    name: str = "network",
    dataflow: str = "auto",
    hls: HlsOptions = DEFAULTS,
    more_views: Sequence[View] | None = None,
    workers: int = 2,
    progress: Callable[[str], None] = lambda text: None,
) -> SynthesisResult:
    """Build a network for a board and prove that every view of it equals the emulator.

    Each view is built and run in a process of its own, and so are the tools that measure resources. What `folder` holds
    already, finished and of the same digest, is not built again.

    Args:
        network: The network.
        board: Where it shall run.
        clock_ns: Clock period; 0 for the board's.
        folder: Where views are built, each in a folder of its own.
        vectors: Golden vectors.
        name: Name of the design.
        dataflow: "auto", "parallel" or "streaming".
        hls: What kind of hls4ml project is built; "auto" makes it stream where the RTL does.
        more_views: Views beside RTL and netlist; None for QONNX and hls4ml.
        workers: Processes at a time.
        progress: Called with a few words whenever something begins or ends.

    Raises:
        UnsupportedError: The network cannot be built as RTL, or its estimate exceeds the board.
    """
    clock_ns = board.with_clock(clock_ns)
    layout = choose(network, board, clock_ns, dataflow)
    estimate, timing = layout.estimate(network, clock_ns)
    require_fit(estimate, board)
    hls = resolve(hls, network, layout.kind)
    assert estimate.lut is not None
    progress(f"{layout.kind}: {estimate.lut:,.0f} LUT (estimate), II {timing.ii}, {timing.latency_ns:,.0f} ns")
    rtl, beats = layout.plan(network, name), layout.beats(network)
    views = [*(software_views(network, board, clock_ns, name, hls) if more_views is None else more_views)]
    skipped, simulator = [], ""
    try:
        simulator = verilator.find_tool().version
        views.append(View("rtl", simulator, RtlView(rtl, beats), RtlSteps(layout)))
    except ToolError as error:
        skipped.append(str(error))
    with_netlist = bool(simulator) and estimate.lut <= NETLIST_LIMIT_LUT
    tools = partial(_measure, network, name, rtl, board, clock_ns, hls, estimate, folder, with_netlist)
    progress(f"building {', '.join(view.name for view in views)} and measuring resources, {workers} at a time")
    prove = partial(_prove, network, vectors, folder, workers, progress)
    evidence, reached = prove(views, tools)
    netlists = [
        View("netlist", f"{level.resources[0].tool}, {simulator}", RtlView(level.netlist, beats))
        for level in reached
        if level.netlist
    ]
    evidence |= prove(netlists)[0]
    counted = evidence.get("rtl")
    if counted and counted.details:
        cycles, ii = (int(counted.details[key]) for key in ("latency_cycles", "ii"))
        timing = Timing(cycles, ii, clock_ns, is_simulated=True)
    files = {f"rtl/{path}": text for path, text in rtl.files.items()}
    reports = [levels.estimates(network, board, clock_ns, layout, hls), *(level.reports for level in reached)]
    files |= {f"reports/{path}": text for report in reports for path, text in report.items()}
    return SynthesisResult(
        (estimate, *(resources for level in reached for resources in level.resources)),
        timing,
        tuple(evidence[view.name] for view in [*views, *netlists]),
        layout.kind,
        beats,
        rtl,
        hls,
        files,
        (*skipped, *(level.skipped for level in reached if level.skipped)),
    )


def _prove(
    network: IntegerNetwork,
    vectors: GoldenVectors,
    folder: Path,
    workers: int,
    progress: Callable[[str], None],
    views: Sequence[View],
    tools: Callable[[], list[levels.Level]] | None = None,
) -> tuple[dict[str, Evidence], list[levels.Level]]:
    """Run views and the tools that measure resources apart, and return the evidence by view, and levels."""
    evidence, reached = {}, []
    by_name = {view.name: view for view in views}
    jobs: dict[str, Callable[[], Any]] = {v.name: partial(check_view, network, vectors, v, folder) for v in views}
    for name, future in run_apart(jobs | ({"resources": tools} if tools else {}), workers):
        error = future.exception()
        if name in by_name:
            evidence[name] = failed(by_name[name], error) if error else future.result()
            progress(f"{name}: {_told(evidence[name])}")
        else:
            reached = [levels.Level(skipped=f"Measuring resources failed: {error}.")] if error else future.result()
            progress(f"{name}: {'; '.join(map(_level, reached))}")
    return evidence, reached


def _measure(
    network: IntegerNetwork,
    name: str,
    rtl: BuildPlan,
    board: Board,
    clock_ns: float,
    hls: HlsOptions,
    estimate: Resources,
    folder: Path,
    with_netlist: bool,
) -> list[levels.Level]:
    from codesign.backends import hls4ml

    measured = [*levels.measure(rtl, board, clock_ns, estimate, folder, with_netlist=with_netlist)]
    if hls.backend != "Vitis":
        return measured
    project = partial(hls4ml.plan, network, name, board.part, clock_ns, hls)
    return [*measured, *levels.measure_project(project, folder)]


def _told(found: Evidence) -> str:
    if not found.vectors:
        return found.first_mismatch
    return f"{found.vectors:,} vectors, {found.mismatches:,} mismatches"


def _level(level: levels.Level) -> str:
    numbers = (f"{r.lut:,.0f} LUT ({r.level})" for r in level.resources)
    return level.skipped or "; ".join(numbers) or ", ".join(level.reports)


def software_views(
    network: IntegerNetwork, board: Board, clock_ns: float, name: str, hls: HlsOptions = DEFAULTS
) -> list[View]:
    """Return the views that need no RTL: the QONNX file executed, and the HLS project, as it is shipped, compiled."""
    from codesign.backends import hls4ml, qonnx

    shipped = partial(hls4ml.simulate, project=hls4ml.plan(network, name, board.part, clock_ns, hls), options=hls)
    return [
        View("qonnx", f"qonnx {metadata.version('qonnx')}", qonnx.simulate, qonnx.simulate),
        View("hls4ml", f"hls4ml {metadata.version('hls4ml')}", shipped, partial(hls4ml.simulate, options=hls)),
    ]
