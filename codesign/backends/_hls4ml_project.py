"""The files of an hls4ml project: hls4ml writes what depends on the network; the headers that these include are added.

The number types are Siemens's for Catapult, Xilinx's for Vitis and Vivado; hls4ml ships both under Apache 2.0. No file
names the place or the time of its making.
"""

from __future__ import annotations

import math
import re
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any

import hls4ml as library
from hls4ml.backends import get_backend
from hls4ml.model.graph import ModelGraph
from hls4ml.writer import get_writer

from codesign.backends._hls4ml_graph import Node, step
from codesign.backends._hls4ml_layers import container
from codesign.backends._hls4ml_templates import HEADERS as OWN
from codesign.backends._hls4ml_templates import register
from codesign.core.fixed_point import FixedPoint
from codesign.core.integer_network import IntegerNetwork
from codesign.core.operations import Range

THEIRS = Path(library.__file__).parent / "templates"
# Where a project's shared headers come from: the first folder that has one wins, as in hls4ml's own writer.
XILINX = {
    "firmware/nnet_utils": (THEIRS / "vivado" / "nnet_utils", OWN, OWN / "ap"),
    "firmware/ap_types": (THEIRS / "vivado" / "ap_types",),
}
SOURCES = {
    "Vitis": XILINX | {"firmware/nnet_utils": (THEIRS / "vitis" / "nnet_utils", *XILINX["firmware/nnet_utils"])},
    "Vivado": XILINX,
    "Catapult": {
        "firmware/nnet_utils": (THEIRS / "catapult" / "nnet_utils", OWN, OWN / "ac"),
        "firmware/ac_types/include": (THEIRS / "catapult" / "ac_types" / "include",),
        "firmware/ac_simutils/include": (THEIRS / "catapult" / "ac_simutils" / "include",),
    },
}
WRITTEN = (
    "project_dir", "output_dir", "project_cpp", "project_header", "weights", "defines", "parameters", "test_bench",
    "bridge", "build_script", "generated_code", "board_script_override", "build_prj_override",
)  # fmt: skip

for backend in SOURCES:
    register(backend)


def write(
    network: IntegerNetwork, nodes: Sequence[Node], name: str, config: dict[str, Any], backend: str
) -> dict[str, str]:
    """Return the files of a project, text by path, `simulate.cpp` among them.

    Args:
        network: Gives the formats of results, of the input and of the output.
        nodes: The layers.
        name: Of the top function.
        config: What hls4ml is told beside layers and formats.
        backend: A key of `SOURCES`.
    """
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place).resolve() / name
        graph = _graph(network, nodes, config | {"OutputDir": str(folder)}, backend)
        files = _written(graph, backend, folder)
    files["simulate.cpp"] = _simulator(network, name, graph)
    return files | _headers(files, backend)


def include_folders(backend: str) -> tuple[str, ...]:
    """Return where a compiler looks for the headers of a project, relative to it."""
    return (".", "firmware", *SOURCES[backend])


def _graph(network: IntegerNetwork, nodes: Sequence[Node], config: dict[str, Any], backend: str) -> ModelGraph:
    names = {n.index: f"step{n.index}_{type(network.operations[n.index]).__name__.lower()}" for n in nodes}
    layers, precisions = [], {}
    for node in nodes:
        told, name = step(node), names[node.index]
        size = {} if node.inputs else {"input_shape": [math.prod(node.shape)]}
        own = size | {"shape": list(node.shape), "name": name, "inputs": [names[j] for j in node.inputs]}
        layers.append(told.attributes | own)
        formats = told.formats | {"result": container(network.ranges[node.index])}
        precisions[name] = {"Precision": {key: _named(held, backend) for key, held in formats.items()}}
    hls = config["HLSConfig"] | {"LayerName": precisions}
    ends = [names[n.index] for n in (nodes[0], nodes[-1])]
    return ModelGraph.from_layer_list(config | {"HLSConfig": hls}, layers, inputs=ends[:1], outputs=ends[1:])


def _named(held: FixedPoint, backend: str) -> str:
    if backend == "Catapult" and held.width == 1:  # hls4ml would add the second bit behind the binary point
        held = FixedPoint(2, held.integer_bits + 1, held.is_signed)
    return str(held)


def initial_config(backend: str, **options: Any) -> dict[str, Any]:
    """Return hls4ml's own configuration of a backend."""
    if backend != "Catapult":  # there constants are read from text in C simulation
        options["write_weights_txt"] = False
    return get_backend(backend).create_initial_config(**options)


def _written(graph: ModelGraph, backend: str, folder: Path) -> dict[str, str]:
    """Let hls4ml write what depends on the network, without the header folders, stamps, paths and dates."""
    writer = get_writer(backend)
    code = "firmware/nnet_utils/nnet_code_gen.h"
    (folder / code).parent.mkdir(parents=True)
    (folder / code).write_text(_source(code, backend) or "")
    for part in (part for part in WRITTEN if hasattr(writer, f"write_{part}")):
        getattr(writer, f"write_{part}")(graph)
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_text().replace(f"{folder}/", "") for path in paths}


def _simulator(network: IntegerNetwork, name: str, graph: ModelGraph) -> str:
    (source,), (target,) = graph.get_input_variables(), graph.get_output_variables()
    weights = [w for layer in graph.get_layers() for w in layer.get_weights()]
    values = {
        "NAME": name,
        "INPUT": source.definition_cpp(),
        "INPUT_NAME": source.name,
        "INPUT_FORMAT": _whole(network.ranges[0]),
        "INPUTS": math.prod(network.input_shape),
        "OUTPUT": target.definition_cpp(),
        "OUTPUT_NAME": target.name,
        "OUTPUT_FORMAT": _whole(network.ranges[-1]),
        "OUTPUTS": math.prod(network.output_shape),
        "WEIGHTS": "".join(f"{w.definition_cpp()};\n" for w in weights if "WriterConfig" not in graph.config.config),
    }
    text = (OWN / "simulate.cpp").read_text()
    return re.sub("@([A-Z_]+)@", lambda match: str(values[match[1]]), text)


def _whole(values: Range) -> FixedPoint:
    held = container(values)
    return FixedPoint(held.width, held.width, held.is_signed)


def _headers(files: dict[str, str], backend: str) -> dict[str, str]:
    """Return the shared headers that the files include, directly or not."""
    found: dict[str, str] = {}
    waiting = list(files.items())
    folders = [PurePosixPath(folder) for folder in SOURCES[backend]]
    while waiting:
        includer, text = waiting.pop()
        for included in re.findall(r'#include ["<](.*?)[">]', text):
            base = PurePosixPath(includer).parent
            for path in (base / included, *(f / included.removeprefix("nnet_utils/") for f in folders)):
                header = _source(path.as_posix(), backend)
                if header is not None and path.as_posix() not in files and path.as_posix() not in found:
                    found[path.as_posix()] = header
                    waiting.append((path.as_posix(), header))
    return found


@cache
def _source(path: str, backend: str) -> str | None:
    for inside, folders in SOURCES[backend].items():
        if path.startswith(f"{inside}/"):
            for folder in folders:
                file = folder / path.removeprefix(f"{inside}/")
                if file.is_file():
                    return file.read_text()
    return None
