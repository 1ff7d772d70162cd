"""Evidence: every view of a network runs the golden vectors, and what it returns is compared bit for bit."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from codesign.core.build import Evidence
from codesign.core.errors import CodesignError
from codesign.core.integer_network import IntegerNetwork
from codesign.synthesis.vectors import GoldenVectors

Simulate = Callable[[IntegerNetwork, np.ndarray, Path], np.ndarray]


@dataclass(frozen=True)
class View:
    """One way to run a network that claims to equal the emulator.

    Attributes:
        name: qonnx, hls4ml, rtl or netlist.
        tool: Program and version that runs it.
        simulate: Returns output mantissas for a network, input mantissas and a folder to build in.
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


def check_views(
    network: IntegerNetwork, golden: GoldenVectors, views: Iterable[View], folder: Path
) -> Iterator[Evidence]:
    """Run each view on the golden vectors and yield its evidence; a view that fails does not stop the next.

    A view that cannot be built or run yields evidence of no vectors, which is not exact, with the reason. Where a view
    differs and can be cut off, the evidence names the first step of the network whose result differs.
    """
    for view in views:
        try:
            received = view.simulate(network, golden.inputs, folder / view.name)
        except CodesignError as error:
            yield Evidence(view.name, view.tool, 0, 0, f"the view could not be run: {error}")
            continue
        found = compare(view.name, view.tool, golden.outputs, received)
        if found.mismatches and view.locate:
            wrong = first_wrong_step(network, golden.inputs, view.locate, folder / f"{view.name}_steps")
            found = Evidence(
                found.view, found.tool, found.vectors, found.mismatches, f"{found.first_mismatch}; {wrong}"
            )
        yield found


def first_wrong_step(network: IntegerNetwork, inputs: np.ndarray, simulate: Simulate, folder: Path) -> str:
    """Return in words the first step after which the network, cut off there, differs from the emulator in a view."""
    for i in range(1, len(network.operations)):
        part = IntegerNetwork(network.operations[: i + 1])
        kind = type(network.operations[i]).__name__
        try:
            found = compare("", "", part.emulate(inputs), simulate(part, inputs, folder / str(i)))
        except CodesignError as error:
            return f"no step before {i} ({kind}) differs, where the search ended: {error}"
        if found.mismatches:
            return f"first wrong is step {i} ({kind}), {found.first_mismatch}"
    return "every step is right where the network is cut off after it"
