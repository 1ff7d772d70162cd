"""The HLS view: an integer network as a complete hls4ml project, and its C simulation by g++.

The layer graph is built from the integers, with the exact format of every result; no front end converts anything.
"""

from __future__ import annotations

import io
import math
import re
import tarfile
import tempfile
from functools import cache
from importlib import metadata
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import hls4ml as library
import numpy as np
from hls4ml.backends import get_backend
from hls4ml.model.graph import ModelGraph
from hls4ml.writer import get_writer

from codesign.backends import _hls4ml_layers as layers
from codesign.core.build import BuildPlan
from codesign.core.errors import InvalidValueError, ToolError, UnsupportedError
from codesign.core.integer_network import IntegerNetwork
from codesign.core.operations import Input, Linear, Reshape
from codesign.core.run import run_command, run_plan

TOOL = f"hls4ml {metadata.version('hls4ml')}"
# The backends that C simulation holds exact, with the command that synthesizes; and why the others are not built.
COMMANDS = {
    "Vitis": ("vitis-run", "--tcl", "build_prj.tcl", "--mode", "hls"),
    "Vivado": ("vivado_hls", "-f", "build_prj.tcl"),
}
REFUSED = {
    "Catapult": "its numbers are ac_fixed, and the exact layers are written for ap_fixed",
    "oneAPI": "its numbers are ac_fixed, and the exact layers are written for ap_fixed",
    "io_stream": "the exact layers take whole arrays, not streams",
}
STRATEGIES = ("latency", "resource", "distributed_arithmetic")
PART = "xcvu13p-flga2577-2-e"
HEADERS = Path(library.__file__).parent / "templates"
# Where a project's shared headers come from: the first folder that has one wins, as in hls4ml's own writer.
SOURCES = {
    "firmware/nnet_utils": {
        "Vitis": (HEADERS / "vitis" / "nnet_utils", HEADERS / "vivado" / "nnet_utils", layers.HEADER.parent),
        "Vivado": (HEADERS / "vivado" / "nnet_utils", layers.HEADER.parent),
    },
    "firmware/ap_types": dict.fromkeys(COMMANDS, (HEADERS / "vivado" / "ap_types",)),
}
WRITTEN = (
    "project_dir", "project_cpp", "project_header", "weights", "defines", "parameters", "test_bench", "bridge",
    "build_script", "generated_code", "board_script_override", "build_prj_override",
)  # fmt: skip
SIMULATOR = layers.HEADER.parent / "simulate.cpp"
SYNTHESIZE_ONLY = "array set opt {{ {} }}\n".format(
    " ".join(f"{step} {int(step in ('reset', 'synth'))}" for step in
             ("reset", "csim", "synth", "cosim", "validation", "export", "vsynth", "fifo_opt"))
)  # fmt: skip
RUN_LIMIT_S = 3600.0

for backend in COMMANDS:
    layers.register(backend)


class Options(NamedTuple):
    """How a project is built.

    Attributes:
        backend: "Vitis", or "Vivado" for releases before 2020.1.
        io: "io_parallel": whole tensors go in and come out.
        strategy: Of dense layers: "latency" unrolls them; "resource" uses each multiplier `reuse_factor` times;
            "distributed_arithmetic" builds adder graphs by da4ml, for layers with one position.
        reuse_factor: 1 but with "resource"; hls4ml takes the nearest that divides the work of a layer.
    """

    backend: str = "Vitis"
    io: str = "io_parallel"
    strategy: str = "latency"
    reuse_factor: int = 1


DEFAULTS = Options()


def plan(
    network: IntegerNetwork,
    name: str = "network",
    part: str = PART,
    clock_ns: float = 5.0,
    options: Options = DEFAULTS,
) -> BuildPlan:
    """Return the hls4ml project of a network.

    The command runs the synthesis of Vitis HLS (see `codesign.backends.vitis`). The project holds every header that it
    needs to be compiled without it: `bash build_lib.sh` makes hls4ml's emulator library, and `simulation` says how to
    build one that runs on integers.

    Args:
        network: What is built.
        name: Of the top function; what C does not allow in a name becomes an underscore.
        part: Ordering code of the FPGA.
        clock_ns: Clock period.
        options: Backend, interface and strategy.

    Raises:
        InvalidValueError: The clock period or an option is not allowed.
        UnsupportedError: A constant has more than 53 bits, or hls4ml has the option but it is not built here.
    """
    _check(options, network)
    if not 0 < clock_ns < 1e6:
        raise InvalidValueError(f"The clock period is {clock_ns} ns; allowed: above 0.")
    name = re.sub(r"\W", "_", name, flags=re.ASCII)
    name = f"network_{name}" if not name[:1].isalpha() else name
    with tempfile.TemporaryDirectory() as folder:
        graph = _graph(network, name, part, clock_ns, options, folder)
        files = _write(graph, options.backend, Path(folder))
    files["simulate.cpp"] = _simulator(network, name, graph)
    files["build_opt.tcl"] = SYNTHESIZE_ONLY
    files |= _headers(files, options.backend)
    report = f"{name}_prj/solution1/syn/report/{name}_csynth.xml"
    return BuildPlan(name, files, COMMANDS[options.backend], (report,))


def simulation(project: BuildPlan) -> BuildPlan:
    """Return the plan that compiles a project with g++ into `simulate`, a program from mantissas to mantissas."""
    sources = (f"firmware/{project.name}.cpp", "simulate.cpp")
    # -w: the vendor headers warn by the hundred. Without exceptions, 4,000 constants compile four times faster.
    command = (
        "g++",
        "-O1",
        "-std=c++17",
        "-fno-exceptions",
        "-w",
        "-I.",
        "-Ifirmware",
        "-Ifirmware/ap_types",
        *sources,
        "-o",
        "simulate",
    )
    return BuildPlan(f"{project.name}_simulation", project.files, command, ("simulate",))


def simulate(
    network: IntegerNetwork, mantissas: np.ndarray, folder: Path, project: BuildPlan | None = None
) -> np.ndarray:
    """Return the output mantissas (vectors, *output_shape), int64, that the compiled project gives.

    The program runs in a process of its own: no emulator can meet the symbols of another one.

    Args:
        network: Gives the shapes of input and output.
        mantissas: Input mantissas, int64 (vectors, *input_shape).
        folder: Where the project is compiled, or was before.
        project: What is simulated; `plan(network)` if None.

    Raises:
        ToolError: g++ is missing or fails, or the program does not give one result a vector.
    """
    program = run_plan(simulation(project or plan(network)), folder) / "simulate"
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
    with tarfile.open(fileobj=buffer, mode="w:xz") as content:
        for name in sorted(project.files):
            text = project.files[name].encode()
            entry = tarfile.TarInfo(f"{project.name}/{name}")
            entry.size = len(text)
            content.addfile(entry, io.BytesIO(text))
    return buffer.getvalue()


def _check(options: Options, network: IntegerNetwork) -> None:
    """Raise an error that names an option that is not allowed, or that hls4ml has but no C simulation proves here."""
    for field, allowed in (("backend", tuple(COMMANDS)), ("io", ("io_parallel",)), ("strategy", STRATEGIES)):
        value = getattr(options, field)
        if value in REFUSED:
            raise UnsupportedError(
                f"The hls4ml view does not build {field} {value!r}: {REFUSED[value]}. Use {' or '.join(allowed)}."
            )
        if value not in allowed:
            raise InvalidValueError(f"The {field} of an hls4ml project is {value!r}; allowed: {', '.join(allowed)}.")
    if options.reuse_factor < 1 or (options.strategy != "resource" and options.reuse_factor > 1):
        raise InvalidValueError(
            f"The reuse factor is {options.reuse_factor} with strategy {options.strategy!r}; allowed: 1, or more with "
            "resource."
        )
    for i, operation in enumerate(network.operations):
        positions = math.prod(network.ranges[i].shape[:-1])
        if isinstance(operation, Linear) and positions > 1 and options.strategy == "distributed_arithmetic":
            raise UnsupportedError(
                f"Step {i} (Linear) acts on {positions} positions; the hls4ml view builds strategy "
                "'distributed_arithmetic' for one. Use latency or resource."
            )


def _graph(network: IntegerNetwork, name: str, part: str, clock_ns: float, options: Options, folder: str) -> ModelGraph:
    if len(network.operations) == 1:  # hls4ml takes no input for an output
        network = IntegerNetwork((*network.operations, Reshape((0,), network.input_shape)))
    names = [f"step{i}_{type(operation).__name__.lower()}" for i, operation in enumerate(network.operations)]
    graph, precisions = [], {}
    for i, operation in enumerate(network.operations):
        result = network.ranges[i]
        if isinstance(operation, Input):
            step = layers.Step({"class_name": "InputLayer", "input_shape": [result.low.size]}, {})
        else:
            step = layers.describe(operation, result, *(network.ranges[j] for j in operation.inputs))
        graph.append(step.attributes | {"name": names[i], "inputs": [names[j] for j in operation.inputs]})
        formats = step.formats | {"result": layers.container(result)}
        precisions[names[i]] = {"Precision": {key: str(held) for key, held in formats.items()}}
    config: dict[str, Any] = get_backend(options.backend).create_initial_config(
        part=part, clock_period=clock_ns, write_weights_txt=False
    )
    model = {
        "Precision": {"default": "fixed<1,1>"},
        "ReuseFactor": options.reuse_factor,
        "Strategy": options.strategy.capitalize(),
    }
    config |= {"Backend": options.backend, "IOType": options.io, "OutputDir": folder, "ProjectName": name}
    config |= {"Stamp": network.digest[:8]}
    config["HLSConfig"] = {"Model": model, "LayerName": precisions}
    return ModelGraph.from_layer_list(config, graph, inputs=names[:1], outputs=names[-1:])


def _write(graph: ModelGraph, backend: str, folder: Path) -> dict[str, str]:
    """Let hls4ml write what depends on the network, without the header folders, stamps, paths and dates."""
    writer = get_writer(backend)
    code = "firmware/nnet_utils/nnet_code_gen.h"
    (folder / code).parent.mkdir(parents=True)
    (folder / code).write_text(_source(code, backend) or "")
    for part in (part for part in WRITTEN if hasattr(writer, f"write_{part}")):
        getattr(writer, f"write_{part}")(graph)
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_text() for path in paths}


def _simulator(network: IntegerNetwork, name: str, graph: ModelGraph) -> str:
    values = {
        "NAME": name,
        "INPUTS": math.prod(network.input_shape),
        "OUTPUTS": math.prod(network.output_shape),
        "INTEGER": "ap_int" if layers.container(network.ranges[-1]).is_signed else "ap_uint",
    }
    text = SIMULATOR.read_text().replace("result_t", graph.get_output_variables()[0].type.name)
    return re.sub("@(.*?)@", lambda match: str(values[match[1]]), text)


def _headers(files: dict[str, str], backend: str) -> dict[str, str]:
    """Return the shared headers that the files include, directly or not."""
    found: dict[str, str] = {}
    waiting = list(files.items())
    while waiting:
        includer, text = waiting.pop()
        for included in re.findall(r'#include ["<](.*?)[">]', text):
            base = PurePosixPath(includer).parent
            for path in (base / included, *(PurePosixPath(f) / included.removeprefix("nnet_utils/") for f in SOURCES)):
                header = _source(path.as_posix(), backend)
                if header is not None and path.as_posix() not in files and path.as_posix() not in found:
                    found[path.as_posix()] = header
                    waiting.append((path.as_posix(), header))
    return found


@cache
def _source(path: str, backend: str) -> str | None:
    for inside, folders in SOURCES.items():
        if path.startswith(f"{inside}/"):
            for folder in folders[backend]:
                file = folder / path.removeprefix(f"{inside}/")
                if file.is_file():
                    return file.read_text()
    return None
