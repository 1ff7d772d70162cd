"""Evidence: every view of a network runs the golden vectors, and what it returns is compared bit for bit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from codesign.core.build import Evidence
from codesign.core.errors import CodesignError
from codesign.core.integer_network import IntegerNetwork
from codesign.synthesis.vectors import GoldenVectors

Measured = tuple[np.ndarray, Mapping[str, float]]  # outputs, and what else was counted
Simulate = Callable[[IntegerNetwork, np.ndarray, Path], np.ndarray | Measured]


@dataclass(frozen=True)
class View:
    """One way to run a network that claims to equal the emulator.

    Attributes:
        name: qonnx, hls4ml, rtl or netlist.
        tool: Program and version that runs it.
        simulate: Returns output mantissas for a network, input mantissas and a folder to build in; beside them, if it
            likes, what else it counted.
        locate: Like `simulate`, for the network cut off after some step, to find the step where a view goes astray.
    """

    name: str
    tool: str
    simulate: Simulate
    locate: Simulate | None = None


def compare(view: str, tool: str, expected: np.ndarray, received: np.ndarray) -> Evidence:
    """Return what differs between the emulator's outputs and a view's, both int64 (vectors, *output_shape)."""
    if received.shape != expected.shape:
        text = f"outputs of shape {received.shape} instead of {expected.shape}"
        return Evidence(view, tool, len(expected), len(expected), text)
    differs = (expected != received).reshape(len(expected), -1)
    rows = np.flatnonzero(differs.any(axis=1))
    if not len(rows):
        return Evidence(view, tool, len(expected), 0)
    row, column = int(rows[0]), int(np.flatnonzero(differs[rows[0]])[0])
    wanted, got = (int(a.reshape(len(a), -1)[row, column]) for a in (expected, received))
    text = f"vector {row}, output {column}: {got} instead of {wanted}"
    return Evidence(view, tool, len(expected), len(rows), text)


def check_view(network: IntegerNetwork, golden: GoldenVectors, view: View, folder: Path) -> Evidence:
    """Return the evidence of a view on the golden vectors; it is built in a folder of its own inside of `folder`.

    A view that cannot be built or run yields evidence of no vectors, which is not exact, with the reason. Where a view
    differs and can be cut off, the evidence names the first step of the network whose result differs.
    """
    try:
        outputs, details = _run(view.simulate, network, golden.inputs, folder / view.name)
    except CodesignError as error:
        return failed(view, error)
    found = replace(compare(view.name, view.tool, golden.outputs, outputs), details=details)
    if found.mismatches and view.locate:
        wrong = first_wrong_step(network, golden.inputs, view.locate, folder / f"{view.name}_steps")
        found = replace(found, first_mismatch=f"{found.first_mismatch}; {wrong}")
    return found


def failed(view: View, error: BaseException) -> Evidence:
    """Return the evidence of a view that could not be run."""
    return Evidence(view.name, view.tool, 0, 0, f"the view could not be run: {error}")


def _run(simulate: Simulate, network: IntegerNetwork, inputs: np.ndarray, folder: Path) -> Measured:
    received = simulate(network, inputs, folder)
    return received if isinstance(received, tuple) else (received, {})


def first_wrong_step(network: IntegerNetwork, inputs: np.ndarray, simulate: Simulate, folder: Path) -> str:
    """Return in words the first step after which the network, cut off there, differs from the emulator in a view."""
    for i in range(1, len(network.operations)):
        part = IntegerNetwork(network.operations[: i + 1])
        kind = type(network.operations[i]).__name__
        try:
            outputs, _ = _run(simulate, part, inputs, folder / str(i))
            found = compare("", "", part.emulate(inputs), outputs)
        except CodesignError as error:
            return f"no step before {i} ({kind}) differs, where the search ended: {error}"
        if found.mismatches:
            return f"first wrong is step {i} ({kind}), {found.first_mismatch}"
    return "every step is right where the network is cut off after it"
