"""The RTL as a view: simulated without stalls, where cycles are counted, and with them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from codesign.backends import verilator
from codesign.backends.dataflow import Dataflow
from codesign.core.build import BuildPlan
from codesign.core.integer_network import IntegerNetwork

STALL_SEEDS = (1, 2)


@dataclass(frozen=True)
class RtlView:
    """Simulates Verilog that takes `beats` beats a sample; any run that differs from the first is what it returns."""

    rtl: BuildPlan
    beats: int

    def __call__(
        self, network: IntegerNetwork, mantissas: np.ndarray, folder: Path
    ) -> tuple[np.ndarray, Mapping[str, float]]:
        """Return the outputs, with latency_cycles and ii as counted where nothing stalls."""
        free = verilator.simulate(self.rtl, network, mantissas, 0, folder, self.beats)
        counted = {"latency_cycles": float(free.latency_cycles), "ii": float(free.ii)}
        for seed in STALL_SEEDS:
            stalled = verilator.simulate(self.rtl, network, mantissas, seed, folder, self.beats)
            if not np.array_equal(stalled.outputs, free.outputs):
                return stalled.outputs, counted
        return free.outputs, counted


@dataclass(frozen=True)
class RtlSteps:
    """Lays out whatever network it is given, to find the step at which the RTL goes astray."""

    dataflow: Dataflow

    def __call__(self, network: IntegerNetwork, mantissas: np.ndarray, folder: Path) -> np.ndarray:
        """Return the outputs of the network, laid out and simulated."""
        view = RtlView(self.dataflow.plan(network, "part"), self.dataflow.beats(network))
        return view(network, mantissas, folder)[0]
