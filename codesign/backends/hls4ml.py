"""The HLS view: an integer network as a complete hls4ml project, and its C simulation by g++.

The layer graph is built from the integers, with the exact format of every result; no front end converts anything.
"""

from __future__ import annotations

import io
import math
import re
import tarfile
import tempfile
from importlib import metadata
from pathlib import Path

import numpy as np

from codesign.backends import _hls4ml_graph as layout
from codesign.backends import _hls4ml_project as project_files
from codesign.backends.hls_options import DEFAULTS, IOS, HlsOptions, check
from codesign.core.archive import PRESET
from codesign.core.build import BuildPlan
from codesign.core.errors import InvalidValueError, ToolError
from codesign.core.integer_network import IntegerNetwork
from codesign.core.operations import Reshape
from codesign.core.run import run_command, run_plan

TOOL = f"hls4ml {metadata.version('hls4ml')}"
# The command that synthesizes, of each backend that C simulation holds exact.
COMMANDS = {
    "Vitis": ("vitis-run", "--tcl", "build_prj.tcl", "--mode", "hls"),
    "Vivado": ("vivado_hls", "-f", "build_prj.tcl"),
    "Catapult": ("catapult", "-product", "ultra", "-shell", "-f", "build_prj.tcl"),
}
PART = "xcvu13p-flga2577-2-e"
SYNTHESIZE_ONLY = "array set opt {{ {} }}\n".format(
    " ".join(f"{step} {int(step in ('reset', 'synth'))}" for step in
             ("reset", "csim", "synth", "cosim", "validation", "export", "vsynth", "fifo_opt"))
)  # fmt: skip
RUN_LIMIT_S = 3600.0


def plan(
    network: IntegerNetwork,
    name: str = "network",
    part: str = PART,
    clock_ns: float = 5.0,
    options: HlsOptions = DEFAULTS,
) -> BuildPlan:
    """Return the hls4ml project of a network.

    The command runs the vendor's synthesis (for Vitis HLS see `codesign.backends.vitis`). The project holds every
    header that it needs to be compiled without it: `bash build_lib.sh` makes hls4ml's emulator library, and
    `simulation` says how to build one that runs on integers.

    Args:
        network: What is built.
        name: Of the top function; what C does not allow in a name becomes an underscore.
        part: Ordering code of the FPGA.
        clock_ns: Clock period.
        options: Backend, interface and strategy.

    Raises:
        InvalidValueError: The clock period or an option is not allowed.
        UnsupportedError: A constant has more than 53 bits, a stream would be copied too often, or hls4ml has the option
            but it is not built here.
    """
    check(options)
    if options.io not in IOS:
        raise InvalidValueError(f"The io of an hls4ml project is {options.io!r}; allowed: {', '.join(IOS)}.")
    if not 0 < clock_ns < 1e6:
        raise InvalidValueError(f"The clock period is {clock_ns} ns; allowed: above 0.")
    name = re.sub(r"\W", "_", name, flags=re.ASCII)
    name = f"network_{name}" if not name[:1].isalpha() else name
    if len(network.operations) == 1:  # hls4ml takes no input for an output
        network = IntegerNetwork((*network.operations, Reshape((0,), network.input_shape)))
    nodes = layout.streamed(network) if options.io == "io_stream" else layout.parallel(network)
    config = project_files.initial_config(options.backend, part=part, clock_period=clock_ns, io_type=options.io)
    model = {
        "Precision": {"default": "fixed<1,1>"},
        "ReuseFactor": options.reuse_factor,
        "Strategy": options.strategy.capitalize(),
    }
    config |= {"Backend": options.backend, "ProjectName": name, "Stamp": network.digest[:8]}
    config["HLSConfig"] = {"Model": model}
    files = project_files.write(network, nodes, name, config, options.backend)
    report = f"{name}_prj/solution1/syn/report/{name}_csynth.xml"
    if options.backend == "Catapult":
        return BuildPlan(name, files, COMMANDS["Catapult"])
    return BuildPlan(name, files | {"build_opt.tcl": SYNTHESIZE_ONLY}, COMMANDS[options.backend], (report,))


def simulation(project: BuildPlan, backend: str = DEFAULTS.backend) -> BuildPlan:
    """Return the plan that compiles a project with g++ into `simulate`, a program from mantissas to mantissas."""
    sources = (f"firmware/{project.name}.cpp", "simulate.cpp")
    folders = (f"-I{folder}" for folder in project_files.include_folders(backend))
    # -w: the vendor headers warn by the hundred. Without exceptions, 4,000 constants compile four times faster.
    command = ("g++", "-O1", "-std=c++17", "-fno-exceptions", "-w", *folders, *sources, "-o", "simulate")
    return BuildPlan(f"{project.name}_simulation", project.files, command, ("simulate",))


def simulate(
    network: IntegerNetwork,
    mantissas: np.ndarray,
    folder: Path,
    project: BuildPlan | None = None,
    options: HlsOptions = DEFAULTS,
) -> np.ndarray:
    """Return the output mantissas (vectors, *output_shape), int64, that the compiled project gives.

    The program runs in a process of its own: no emulator can meet the symbols of another one.

    Args:
        network: Gives the shapes of input and output.
        mantissas: Input mantissas, int64 (vectors, *input_shape).
        folder: Where the project is compiled, or was before.
        project: What is simulated; `plan(network, options=options)` if None.
        options: Those of the project.

    Raises:
        ToolError: g++ is missing or fails, or the program does not give one result a vector.
    """
    project = project or plan(network, options=options)
    program = run_plan(simulation(project, options.backend), folder) / "simulate"
    with tempfile.TemporaryDirectory() as scratch:
        inputs, outputs = Path(scratch) / "inputs.bin", Path(scratch) / "outputs.bin"
        inputs.write_bytes(np.ascontiguousarray(mantissas, dtype="<i8").tobytes())
        run_command((str(program.resolve()), str(inputs), str(outputs)), Path(scratch), RUN_LIMIT_S)
        results = np.frombuffer(outputs.read_bytes(), dtype="<i8").astype(np.int64)
    expected = len(mantissas) * math.prod(network.output_shape)
    if results.size != expected:
        raise ToolError(f"The C simulation gave {results.size} of {expected} numbers; remove {folder} and repeat.")
    return results.reshape(len(mantissas), *network.output_shape)


def archive(project: BuildPlan) -> bytes:
    """Return the project's files as .tar.xz, the same bytes for the same project."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:xz", preset=PRESET) as content:
        for name in sorted(project.files):
            text = project.files[name].encode()
            entry = tarfile.TarInfo(f"{project.name}/{name}")
            entry.size = len(text)
            content.addfile(entry, io.BytesIO(text))
    return buffer.getvalue()
