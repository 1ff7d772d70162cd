"""Vivado: synthesis, then place and route, of the RTL for an AMD part, out of context, and its reports as numbers.

The tables read are those of `report_utilization` and `report_timing_summary`, as AMD UG906 (Vivado Design Suite User
Guide: Design Analysis and Closure Techniques) shows them.
"""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from functools import cache
from pathlib import Path

from codesign.core.board import Board
from codesign.core.build import BuildPlan, Resources
from codesign.core.errors import InvalidValueError, ToolError
from codesign.core.run import Tool, run_command

LIMIT_S = 6 * 3600.0
FAMILIES = ("xcup", "xc7")
REPORTS = ("synthesis.rpt", "routed.rpt", "timing.rpt")
BRAM_TILE_KBIT = 36


@cache
def find_tool() -> Tool:
    """Return Vivado from PATH.

    Raises:
        ToolError: It is not there.
    """
    program = shutil.which("vivado")
    if program is None:
        raise ToolError("There is no vivado on PATH; source the settings64.sh of a Vivado installation.")
    printed = run_command((program, "-version"), Path.cwd(), 120.0)
    version = re.search(r"[Vv]ivado v?(\d{4}\.\d\S*)", printed)
    return Tool((program,), f"Vivado {version[1] if version else 'of unknown version'}")


def plan(rtl: BuildPlan, board: Board, clock_ns: float) -> BuildPlan:
    """Return the plan that synthesizes, places and routes the Verilog of `rtl` (top module: its name).

    It leaves the reports `REPORTS`: utilization after synthesis, utilization and timing after routing. The clock is the
    port aclk of the shell. Out of context, since a core's buses have more bits than a package has pins.

    Raises:
        InvalidValueError: The board's part is none of AMD's.
    """
    if board.family not in FAMILIES:
        raise InvalidValueError(
            f"The family of {board.title} is {board.family!r}; allowed for Vivado: {', '.join(FAMILIES)}."
        )
    synthesized, routed, timing = REPORTS
    lines = [
        *(f"read_verilog {name}" for name in sorted(rtl.files) if name.endswith(".v")),
        "read_xdc -mode out_of_context clock.xdc",
        f"synth_design -mode out_of_context -top {rtl.name} -part {board.part}",
        f"report_utilization -file {synthesized}",
        "opt_design",
        "place_design",
        "phys_opt_design",
        "route_design",
        f"report_utilization -file {routed}",
        f"report_timing_summary -file {timing}",
    ]
    files = dict(rtl.files) | {
        "build.tcl": "\n".join(lines) + "\n",
        "clock.xdc": f"create_clock -name aclk -period {clock_ns:.3f} [get_ports aclk]\n",
    }
    command = ("vivado", "-mode", "batch", "-source", "build.tcl", "-nojournal", "-notrace")
    return BuildPlan(f"{rtl.name}_vivado", files, command, REPORTS, LIMIT_S)


def parse(synthesized: str, routed: str, timing: str, clock_ns: float) -> tuple[Resources, Resources]:
    """Return the resources after synthesis and after routing, the latter with the highest clock frequency.

    The frequency is 1 / (clock period - worst negative slack).

    Raises:
        ToolError: A report is of another kind, lacks a number, or stems from another state of the design.
    """
    before, after = _utilization(synthesized, "Synthesized"), _utilization(routed, "Routed")
    slack = re.search(r"^ *WNS\(ns\).*\n[ -]+\n +(-?\d+\.\d+)", timing, re.MULTILINE)
    if slack is None:
        raise _unreadable("timing summary", "no worst negative slack")
    return replace(before, level="synthesis"), replace(after, fmax_mhz=1e3 / (clock_ns - float(slack[1])))


def _utilization(text: str, state: str) -> Resources:
    """Return what a utilization report of a design in a state counts."""
    version = re.search(r"^\| Tool Version : Vivado v\.(\S+)", text, re.MULTILINE)
    found = re.search(r"^\| Design State : (.+?) *$", text, re.MULTILINE)
    if version is None or found is None:
        raise _unreadable("utilization report", "no tool version and design state at its head")
    if found[1] != state:
        raise _unreadable("utilization report", f"its design is {found[1]!r}, not {state!r}")
    lut, ff, tiles, dsp = (
        _used(text, row) for row in ("(Slice|CLB) LUTs", "(Slice|CLB) Registers", "Block RAM Tile", "DSPs")
    )
    return Resources("routed", f"Vivado {version[1]}", lut=lut, ff=ff, dsp=dsp, bram=BRAM_TILE_KBIT * tiles)


def _used(text: str, row: str) -> float:
    """Return the column Used of a row; an asterisk behind the row's name leads to a footnote."""
    found = re.search(rf"^\| *{row}\*? *\| *(?P<used>[\d.]+) *\|", text, re.MULTILINE)
    if found is None:
        raise _unreadable("utilization report", f"no row {row}")
    return float(found["used"])


def _unreadable(kind: str, reason: str) -> ToolError:
    return ToolError(f"The {kind} of Vivado cannot be read ({reason}); allowed: what Vivado 2018.2 and newer write.")
