"""A bundle: the folder that leaves the platform, with the network, its views, golden vectors, proof and manifest."""

from __future__ import annotations

import io
import math
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from codesign.core.build import Evidence, Resources, Timing
from codesign.core.bus import bus_bits
from codesign.core.errors import InvalidValueError
from codesign.core.firmware import MANIFEST, Firmware, hash_files
from codesign.core.integer_network import IntegerNetwork


def write_bundle(
    folder: Path,
    network: IntegerNetwork,
    golden_inputs: np.ndarray,
    files: Mapping[str, Path | str | bytes],
    *,
    name: str,
    task: str,
    board: str,
    interface: Mapping[str, Any],
    timing: Timing,
    resources: Sequence[Resources],
    evidence: Sequence[Evidence],
    metrics: Mapping[str, float],
    provenance: Mapping[str, Any],
    gates: Mapping[str, bool],
) -> Firmware:
    """Write a bundle into `folder`, which must not exist, all at once or not at all, and return its manifest.

    Beside `files` it holds `network/`, `golden.npz` with int64 mantissas `inputs` and `outputs` (the emulator's), a
    README.md for a person, and `manifest.json` with the sha256 of each of them.

    Args:
        folder: Where the bundle shall be.
        network: The network that every view agrees with.
        golden_inputs: Input mantissas (vectors, *input_shape).
        files: Files and whole folders by name in the bundle, or their content: `network.qonnx.onnx`, `hls4ml.tar.xz`,
            `rtl`, reports.
        name: Registered model: the task's slug.
        task: Name of the task, with options.
        board: Name of the board.
        interface: What `interface_of` returns.
        timing: Latency and initiation interval.
        resources: Resources, by level.
        evidence: What was compared, and how many vectors differed.
        metrics: Task metrics of the integer network.
        provenance: Runs, seeds, digests, versions.
        gates: What had to hold, in words.

    Raises:
        InvalidValueError: The folder exists.
    """
    if folder.exists():
        raise InvalidValueError(f"The bundle would be written to {folder}, which exists; allowed: a new folder.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        network.save(temporary / "network")
        (temporary / "golden.npz").write_bytes(_golden(network, golden_inputs))
        for inner, source in files.items():
            _put(temporary / inner, source)
        fields: dict[str, Any] = {
            "name": name,
            "task": task,
            "board": board,
            "network_digest": network.digest,
            "interface": dict(interface),
            "timing": timing,
            "resources": tuple(resources),
            "evidence": tuple(evidence),
            "metrics": dict(metrics),
            "provenance": dict(provenance),
            "gates": dict(gates),
        }
        (temporary / "README.md").write_text(_readme(Firmware(files={}, **fields), len(golden_inputs)))
        firmware = Firmware(files=hash_files(temporary), **fields)
        (temporary / MANIFEST).write_text(firmware.to_json())
        temporary.chmod(0o755)
        temporary.rename(folder)
    except BaseException:
        shutil.rmtree(temporary)
        raise
    return Firmware.from_json((folder / MANIFEST).read_text())


def interface_of(
    network: IntegerNetwork,
    input_meaning: Sequence[str],
    output_meaning: Sequence[str],
    preprocessing: Mapping[str, Any],
    dataflow: str = "parallel",
    beats: int = 1,
) -> dict[str, Any]:
    """Return what a host must know to use the network: shapes, formats, meaning, streams, and what it does before.

    Args:
        network: The network.
        input_meaning: What the entries of the input's last axis are.
        output_meaning: What the outputs are.
        preprocessing: What the host does with raw data.
        dataflow: "parallel" or "streaming".
        beats: Beats of the input stream that make a sample: equal parts in the order of the tensor, each laid out as
            `codesign.core.bus` says. A result is one beat.
    """
    elements = math.prod(network.input_shape) // beats
    return {
        "stream": {
            "dataflow": dataflow,
            "input_beats": beats,
            "input_bits": bus_bits((elements,), network.ranges[0].format().width),
            "output_beats": 1,
            "output_bits": bus_bits(network.output_shape, network.output_format.width),
        },
        "input": {
            "shape": list(network.input_shape),
            "formats": [str(f) for f in network.input.formats],
            "fraction_bits": network.ranges[0].fraction_bits,
            "rounding": str(network.input.rounding),
            "overflow": "saturate",
            "meaning": list(input_meaning),
        },
        "output": {
            "shape": list(network.output_shape),
            "formats": [str(network.output_format)],
            "fraction_bits": network.ranges[-1].fraction_bits,
            "meaning": list(output_meaning),
        },
        "preprocessing": dict(preprocessing),
    }


def _golden(network: IntegerNetwork, inputs: np.ndarray) -> bytes:
    inputs = np.asarray(inputs, dtype=np.int64)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, inputs=inputs, outputs=network.emulate(inputs))
    return buffer.getvalue()


def _put(target: Path, source: Path | str | bytes) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(source, Path) and source.is_dir():
        shutil.copytree(source, target)
    elif isinstance(source, Path):
        shutil.copyfile(source, target)
    else:
        target.write_bytes(source.encode() if isinstance(source, str) else source)


def _count(number: float | None) -> str:
    return "–" if number is None else f"{number:,.0f}"


def _readme(firmware: Firmware, vectors: int) -> str:
    timing, stream = firmware.timing, firmware.interface["stream"]
    counted = "counted in an RTL simulation" if timing.is_simulated else "estimated"
    resources = "\n".join(
        f"| {r.level} | {r.tool} | {_count(r.lut)} | {_count(r.ff)} | {_count(r.dsp)} | {_count(r.bram)} |"
        for r in firmware.resources
    )
    evidence = "\n".join(
        f"| {e.view} | {e.tool} | {e.vectors:,} | {e.mismatches:,} |" for e in firmware.evidence
    )  # fmt: skip
    metrics = "\n".join(f"| {key} | {value:.6g} |" for key, value in firmware.metrics.items())
    gates = "\n".join(f"- [{'x' if is_passed else ' '}] {gate}" for gate, is_passed in firmware.gates.items())
    return f"""# {firmware.name} for {firmware.board}

Firmware of a neural network for the task `{firmware.task}`. Latency {timing.latency_cycles} cycles
({timing.latency_ns:.4g} ns at a clock of {timing.clock_ns:g} ns), a new input every {timing.ii} cycle(s), {counted}.
Dataflow {stream["dataflow"]}: an input comes in {stream["input_beats"]} beat(s) of {stream["input_bits"]} bits, a
result goes in one beat of {stream["output_bits"]} bits.

| metric | value |
|---|---|
{metrics}

| level | tool | LUT | FF | DSP | BRAM |
|---|---|---|---|---|---|
{resources}

Each view below was compared with the integer emulator, bit for bit:

| view | tool | vectors | mismatches |
|---|---|---|---|
{evidence}

{gates}

| file | what it is |
|---|---|
| `network/` | the network: integer weights and fixed-point formats; everything else is a view of it |
| `golden.npz` | {vectors:,} golden vectors: int64 mantissas `inputs` and `outputs` |
| `{MANIFEST}` | formats, meaning of inputs and outputs, provenance, sha256 of every file |

`python -m deploy verify <this folder>` compares every file with the manifest; `python -m deploy check <this folder>`
replays the golden vectors.
"""
