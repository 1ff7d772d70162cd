"""Resources of a design at every level that this machine reaches, beyond the estimate: synthesis, place and route."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from codesign.backends import calibrated, hls_estimate, nextpnr, vitis, vivado, yosys
from codesign.backends.dataflow import Dataflow
from codesign.backends.hls_options import DEFAULTS, HlsOptions
from codesign.core.board import Board
from codesign.core.build import BuildPlan, Resources
from codesign.core.errors import ToolError, UnsupportedError
from codesign.core.integer_network import IntegerNetwork
from codesign.core.run import Tool, run_plan

YOSYS_LIMIT_LUT = 60_000  # a larger design takes hours
ROUTE_LIMIT_LUT = 10_000  # likewise: 5,000 LUTs take one to two minutes, 25,000 twenty


@dataclass(frozen=True)
class Level:
    """What one tool found out about a design, or why it found out nothing.

    Attributes:
        resources: One record for each level that the tool reached.
        reports: The tool's reports, text by file name.
        netlist: The synthesized design as Verilog that any simulator runs, if asked for.
        skipped: Why there are no resources, in one sentence; empty if there are.
    """

    resources: tuple[Resources, ...] = ()
    reports: Mapping[str, str] = field(default_factory=dict)
    netlist: BuildPlan | None = None
    skipped: str = ""


def measure(
    rtl: BuildPlan,
    board: Board,
    clock_ns: float,
    estimate: Resources,
    folder: Path,
    *,
    with_netlist: bool = False,
    progress: Callable[[str], None] = lambda text: None,
) -> Iterator[Level]:
    """Yield each level as soon as it is reached: Yosys for every board, nextpnr for ECP5, Vivado for AMD's parts.

    A tool that is missing, fails or runs out of time costs its own level and no other. That Vivado is not installed is
    not worth a word: no result needs it.

    Args:
        rtl: The Verilog; its name is the top module.
        board: Says the family and the part.
        clock_ns: Clock period that place and route aims at.
        estimate: Tells by its LUTs which tools would take too long.
        folder: Where tools work, each in a folder of its own. What is there already, finished, is not built again.
        with_netlist: Let the level of Yosys hold the netlist.
        progress: Called with a few words before each tool starts.
    """
    lut = estimate.lut or 0.0
    if lut > YOSYS_LIMIT_LUT:
        yield Level(skipped=f"Yosys was not run: {lut:,.0f} LUTs by the estimate, limit {YOSYS_LIMIT_LUT:,}.")
    else:
        progress(f"Yosys: about {lut:,.0f} LUTs")
        with_cells = board.family == "ecp5" and lut <= ROUTE_LIMIT_LUT
        synthesis = _attempt(_synthesized, rtl, board, folder / "yosys", with_netlist, with_cells)
        yield synthesis
        if with_cells and synthesis.resources:
            progress(f"nextpnr: {synthesis.resources[0].lut:,.0f} LUTs")
            cells = (folder / "yosys" / "cells.json").read_text()
            yield _attempt(_routed, rtl, cells, board, clock_ns, folder / "nextpnr")
        elif board.family == "ecp5" and synthesis.resources:
            yield Level(skipped=f"nextpnr was not run: {lut:,.0f} LUTs by the estimate, limit {ROUTE_LIMIT_LUT:,}.")
    if board.family in vivado.FAMILIES and _is_found(vivado.find_tool):
        progress(f"Vivado: about {lut:,.0f} LUTs")
        yield _attempt(_by_vivado, rtl, board, clock_ns, folder / "vivado")


def estimates(
    network: IntegerNetwork, board: Board, clock_ns: float, layout: Dataflow, hls: HlsOptions = DEFAULTS
) -> dict[str, str]:
    """Return estimates beside the one that the search minimizes, as reports: text by file name.

    `hls_estimate.json` is of the hls4ml project, or says why there is none. `calibrated_estimate.json` is of parallel
    RTL on a family with a calibration.
    """
    try:
        of_project = hls_estimate.estimate(network, clock_ns, hls).report()
    except UnsupportedError as error:
        of_project = {"tool": hls_estimate.TOOL, "level": "estimate", "skipped": str(error)}
    reports = {"hls_estimate.json": of_project}
    if layout.kind == "parallel" and board.family in calibrated.load()["families"]:
        reports["calibrated_estimate.json"] = asdict(calibrated.estimate(network, board.family, layout.cutoff))
    return {name: json.dumps(report, indent=1) + "\n" for name, report in reports.items()}


def measure_project(make_project: Callable[[], BuildPlan], folder: Path) -> Iterator[Level]:
    """Yield the report of Vitis HLS, where it is installed, on an hls4ml project.

    It comes without resources: they are an estimate of another design than the RTL, never to be ranked with it.
    """
    if _is_found(vitis.find_tool):
        yield _attempt(_by_vitis, make_project(), folder / "vitis")


def _attempt(step: Callable[..., Level], *arguments: Any) -> Level:
    try:
        return step(*arguments)
    except ToolError as error:
        return Level(skipped=str(error))


def _is_found(find_tool: Callable[[], Tool]) -> bool:
    try:
        find_tool()
    except ToolError:
        return False
    return True


def _synthesized(rtl: BuildPlan, board: Board, folder: Path, with_netlist: bool, with_cells: bool) -> Level:
    tool = yosys.find_tool()
    built = run_plan(yosys.plan(rtl, board.family, with_netlist, with_cells), folder, tool)
    report = (built / "stat.json").read_text()
    netlist = yosys.netlist(rtl, built) if with_netlist else None
    resources = yosys.parse(report, board.family, tool.version)
    return Level((resources,), {f"yosys_{board.family}.json": report}, netlist)


def _routed(rtl: BuildPlan, cells: str, board: Board, clock_ns: float, folder: Path) -> Level:
    tool = nextpnr.find_tool()
    report = (run_plan(nextpnr.plan(rtl, cells, board, clock_ns), folder, tool) / "report.json").read_text()
    return Level((nextpnr.parse(report, tool.version),), {"nextpnr.json": report})


def _by_vivado(rtl: BuildPlan, board: Board, clock_ns: float, folder: Path) -> Level:
    built = run_plan(vivado.plan(rtl, board, clock_ns), folder, vivado.find_tool())
    reports = {name: (built / name).read_text() for name in vivado.REPORTS}
    return Level(vivado.parse(*reports.values(), clock_ns), {f"vivado_{name}": text for name, text in reports.items()})


def _by_vitis(project: BuildPlan, folder: Path) -> Level:
    tool = vitis.find_tool()
    report = (run_plan(vitis.plan(project, tool), folder, tool) / project.outputs[0]).read_text()
    vitis.parse(report)  # a report that cannot be read is no report
    return Level(reports={"csynth.xml": report})
