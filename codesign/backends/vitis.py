"""Vitis HLS: C synthesis of an hls4ml project, and its report as numbers.

The numbers are the tool's own estimate, so their level is "estimate" and its name says csynth: the LUTs lie 1.7 to 11
times above those of logic synthesis, which `codesign.backends.vivado` does for the RTL.
"""

from __future__ import annotations

import re
import shutil
import xml.etree.ElementTree as ET
from dataclasses import replace
from functools import cache
from pathlib import Path

from codesign.core.build import BuildPlan, Resources, Timing
from codesign.core.errors import ToolError
from codesign.core.run import Tool, run_command

LIMIT_S = 4 * 3600.0
# How each program runs a script (AMD UG1399, Vitis HLS User Guide); older releases have vitis_hls alone.
SCRIPT = {"vitis-run": ("--mode", "hls", "--tcl"), "vitis_hls": ("-f",)}


@cache
def find_tool() -> Tool:
    """Return Vitis HLS from PATH: vitis-run, else vitis_hls of older releases.

    Raises:
        ToolError: There is neither.
    """
    program = next((path for name in SCRIPT if (path := shutil.which(name))), None)
    if program is None:
        raise ToolError("There is neither vitis-run nor vitis_hls on PATH; source the settings64.sh of Vitis.")
    printed = run_command((program, "--version" if program.endswith("run") else "-version"), Path.cwd(), 120.0)
    version = re.search(r"v?(20\d\d\.\d)", printed)
    return Tool((program,), f"Vitis HLS {version[1] if version else 'of unknown version'}")


def plan(project: BuildPlan, tool: Tool) -> BuildPlan:
    """Return the plan that runs C synthesis of an hls4ml project with a tool that `find_tool` found."""
    name = Path(tool.command[0]).name
    return replace(project, command=(name, *SCRIPT[name], "build_prj.tcl"), timeout_s=LIMIT_S)


def parse(report: str) -> tuple[Resources, Timing]:
    """Return resources and timing from the text of a csynth.xml report of Vitis HLS.

    The level is "estimate": LUTs of this report lie 1.7 to 11 times above those of logic synthesis.

    Raises:
        ToolError: The text is no such report, or lacks a number.
    """
    try:
        root = ET.fromstring(report)  # noqa: S314 - written by a tool that this machine runs
        version = root.findtext("ReportVersion/Version")
        lut, ff, dsp, bram = (
            float(_number(root, f"AreaEstimates/Resources/{kind}")) for kind in ("LUT", "FF", "DSP", "BRAM_18K")
        )
        overall = "PerformanceEstimates/SummaryOfOverallLatency"
        cycles, interval = (int(_number(root, f"{overall}/{key}")) for key in ("Worst-caseLatency", "Interval-max"))
        target = float(_number(root, "UserAssignments/TargetClockPeriod"))
        period = float(_number(root, "PerformanceEstimates/SummaryOfTimingAnalysis/EstimatedClockPeriod"))
    except (ET.ParseError, ValueError) as error:
        raise ToolError(f"The csynth report cannot be read ({error}); run Vitis HLS 2020.1 or newer again.") from error
    fmax_mhz = 1000 / period if period else None
    resources = Resources("estimate", f"Vitis HLS {version} csynth", lut, ff, dsp, 18 * bram, fmax_mhz)
    return resources, Timing(cycles, interval, target)


def _number(root: ET.Element, path: str) -> str:
    text = root.findtext(path)
    if text is None:
        raise ValueError(f"no {path}")
    return text
