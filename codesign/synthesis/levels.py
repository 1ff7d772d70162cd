"""Resources of a design at every level that this machine reaches, beyond the estimate: synthesis, place and route."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from codesign.backends import nextpnr, yosys
from codesign.core.board import Board
from codesign.core.build import BuildPlan, Resources
from codesign.core.errors import ToolError
from codesign.core.run import run_plan

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
    """Yield each level as soon as it is reached: Yosys for every board, nextpnr for ECP5.

    A tool that is missing, fails or runs out of time costs its own level and no other.

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
        return
    is_routed = board.family == "ecp5" and lut <= ROUTE_LIMIT_LUT
    progress(f"Yosys: about {lut:,.0f} LUTs")
    try:
        built = run_plan(yosys.plan(rtl, board.family, with_netlist, is_routed), folder / "yosys", yosys.find_tool())
        report = (built / "stat.json").read_text()
        resources = yosys.parse(report, board.family, yosys.find_tool().version)
    except ToolError as error:
        yield Level(skipped=str(error))
        return
    netlist = yosys.netlist(rtl, built) if with_netlist else None
    yield Level((resources,), {f"yosys_{board.family}.json": report}, netlist)
    if is_routed:
        progress(f"nextpnr: {resources.lut:,.0f} LUTs")
        yield _routed(rtl, (built / "cells.json").read_text(), board, clock_ns, folder / "nextpnr")
    elif board.family == "ecp5":
        yield Level(skipped=f"nextpnr was not run: {lut:,.0f} LUTs by the estimate, limit {ROUTE_LIMIT_LUT:,}.")


def _routed(rtl: BuildPlan, cells: str, board: Board, clock_ns: float, folder: Path) -> Level:
    try:
        tool = nextpnr.find_tool()
        report = (run_plan(nextpnr.plan(rtl, cells, board, clock_ns), folder, tool) / "report.json").read_text()
        return Level((nextpnr.parse(report, tool.version),), {"nextpnr.json": report})
    except ToolError as error:
        return Level(skipped=str(error))
