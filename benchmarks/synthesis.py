"""Synthesis in figures: what building costs as networks grow, and Bragg networks as streams.

    python -m benchmarks.synthesis [--only growth|streaming] [--yosys_lut 20000]

Prints a table each and writes benchmarks/results/synthesis_<name>.json. Seconds are CPU seconds of a process and all it
started, memory is the largest of these. Weights are untrained; what is measured depends on their bits and zeros alone.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from codesign.backends import da4ml, streaming, verilator, yosys
from codesign.core import plugins
from codesign.core.architecture import Architecture
from codesign.core.build import BuildPlan, Resources
from codesign.core.fixed_point import FixedPoint
from codesign.core.integer_network import IntegerNetwork
from codesign.core.operations import Input, Linear, Quantize, Relu
from codesign.core.run import run_plan
from codesign.synthesis.apart import run_apart
from tests.strategies import vectors_for

RESULTS = Path(__file__).parent / "results"
CUTOFF, CLOCK_NS = 5, 5.0
Row = dict[str, Any]

# -- growth --


def growth(yosys_lut: float) -> list[Row]:
    """Measure each step of building for dense networks of growing size, 6 bits, half of the weights zero."""
    rows = []
    for widths in (
        (16, 16, 5),
        (16, 32, 32, 5),
        (16, 64, 32, 32, 5),
        (64, 64, 64, 10),
        (64, 128, 64, 10),
        (128, 128, 128, 10),
    ):
        network = dense(widths)
        macs = sum(a * b for a, b in pairwise(widths))
        row: Row = {"network": "-".join(map(str, widths)), "macs": macs}
        with tempfile.TemporaryDirectory() as folder:
            steps = {
                "estimate": partial(da4ml.estimate, network, CUTOFF),
                "rtl": partial(da4ml.plan, network, "network", CUTOFF),
            }
            row["lut"] = da4ml.estimate(network, CUTOFF)[0].lut
            if row["lut"] <= yosys_lut:
                rtl = da4ml.plan(network, "network", CUTOFF)
                steps["simulation"] = partial(_simulated, rtl, network, 1, Path(folder) / "simulation")
                steps["yosys"] = partial(_synthesized, rtl, Path(folder) / "yosys")
            for name, step in steps.items():
                (future,) = (future for _, future in run_apart({name: partial(_cost, step)}, 1))
                row[f"{name}_s"], row[f"{name}_mb"] = future.result()
        rows.append(row)
        print(row, flush=True)
    return rows


def dense(widths: Sequence[int], bits: int = 6, sparsity: float = 0.5) -> IntegerNetwork:
    """Return a dense network with ReLUs and random weights."""
    rng = np.random.default_rng(0)
    steps: list[Any] = [Input((), (widths[0],), (FixedPoint(bits, 3),))]
    for inputs, outputs in pairwise(widths):
        weight = np.round(rng.normal(0, 2.0 ** (bits - 1) / 3, (inputs, outputs))).astype(int)
        weight = np.clip(weight, 1 - 2 ** (bits - 1), 2 ** (bits - 1) - 1) * (rng.random(weight.shape) >= sparsity)
        steps.append(Linear((len(steps) - 1,), weight, rng.integers(-8, 8, outputs), bits - 1, bits - 1))
        if len(steps) < 3 * len(widths) - 4:
            steps.append(Relu((len(steps) - 1,)))
            steps.append(Quantize((len(steps) - 1,), (FixedPoint(bits, 4, is_signed=False),)))
    return IntegerNetwork(tuple(steps))


def _cost(step: Callable[[], Any]) -> tuple[float, float]:
    """Return CPU seconds and MB of a step in a fresh process, less what starting it took."""

    def used() -> tuple[float, float]:
        usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return sum(u.ru_utime + u.ru_stime for u in usage), max(u.ru_maxrss for u in usage) / 1024

    before = used()[0]
    step()
    after = used()
    return after[0] - before, after[1]


def _simulated(rtl: BuildPlan, network: IntegerNetwork, beats: int, folder: Path) -> verilator.Simulation:
    vectors = vectors_for(network, 300)
    found = verilator.simulate(rtl, network, vectors, 0, folder, beats)
    if not np.array_equal(found.outputs, network.emulate(vectors)):
        raise AssertionError(f"{rtl.name} differs from the emulator")
    return found


def _synthesized(rtl: BuildPlan, folder: Path) -> Resources:
    built = run_plan(yosys.plan(rtl, "xcup"), folder, yosys.find_tool())
    return yosys.parse((built / "stat.json").read_text(), "xcup", yosys.find_tool().version)


# -- streaming --


def streams(yosys_lut: float) -> list[Row]:
    """Stream the Bragg networks of the field, with and without attention, at 6 to 8 bits, 60 % of the weights zero."""
    rows = []
    for name, bits, network in bragg_networks():
        start = time.process_time()
        estimate, timing = streaming.estimate(network, CUTOFF, CLOCK_NS)
        seconds = time.process_time() - start
        row: Row = {"network": name, "bits": bits, "lut_estimate": estimate.lut, "ff_estimate": estimate.ff,
                    "estimate_s": seconds, "unrolled_lut_estimate": streaming.unrolled_lut(network, CUTOFF),
                    "ii": timing.ii, "latency_cycles": timing.latency_cycles, "clock_ns": CLOCK_NS,
                    "latency_ns": timing.latency_ns, "is_simulated": False}  # fmt: skip
        if estimate.lut is not None and estimate.lut <= yosys_lut:
            rtl = streaming.plan(network, name, CUTOFF)
            with tempfile.TemporaryDirectory() as folder:
                found = _simulated(rtl, network, streaming.beats(network), Path(folder) / "simulation")
                made = _synthesized(rtl, Path(folder) / "yosys")
            row |= {"ii": found.ii, "latency_cycles": found.latency_cycles, "is_simulated": True,
                    "latency_ns": found.latency_cycles * CLOCK_NS,
                    "lut_synthesis": made.lut, "ff_synthesis": made.ff}  # fmt: skip
        rows.append(row)
        print(row, flush=True)
    return rows


def bragg_networks() -> Iterator[tuple[str, int, IntegerNetwork]]:
    """Yield name, bits and integers of OpenHLS's and BraggNN's network: without attention, with ReLUs; as published."""
    import torch

    from codesign.blocks.conv2d import Conv2d
    from codesign.blocks.dense import Dense
    from codesign.compress.lower import lower
    from codesign.compress.quantize import quantize
    from codesign.network import build

    torch.set_num_threads(1)
    task = plugins.load_task("bragg_peak")
    inputs = np.random.default_rng(0).random((512, *task.input_shape)).astype(np.float32)
    architectures = {}
    for name, channels, widths in (("openhls", (16, 8, 2), (16, 8, 4)), ("braggnn", (64, 32, 8), (16, 8, 4, 2))):
        convolutions = Conv2d(channels, activation=("identity", "relu", "relu"))
        head = (*(Dense(width) for width in widths), Dense(2, "identity"))
        architectures[name] = Architecture(task.input_shape, (convolutions, *head))
    for name in ("openhls", "braggnn"):
        architectures[f"{name} as published, with attention"] = task.baselines[name]
    for name, architecture in architectures.items():
        module = build(architecture, 0).eval()
        with torch.no_grad():
            for weight in (p for p in module.parameters() if p.ndim > 1):
                weight[weight.abs() < torch.quantile(weight.abs(), 0.6)] = 0.0
        for bits in (6, 7, 8):
            yield name, bits, lower(quantize(architecture, module, bits, inputs))


def show(rows: Sequence[Row]) -> None:
    """Print rows as a table."""
    keys = list(dict.fromkeys(key for row in rows for key in row))
    print(" | ".join(keys))
    for row in rows:
        cells = [row.get(key, "") for key in keys]
        print(" | ".join(f"{c:,.2f}" if isinstance(c, float) else str(c) for c in cells))


def main() -> None:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=("growth", "streaming"))
    parser.add_argument("--yosys_lut", type=float, default=20_000, help="largest estimate to simulate and synthesize")
    options = parser.parse_args()
    for name, table in (("growth", growth), ("streaming", streams)):
        if options.only in (None, name):
            rows = table(options.yosys_lut)
            show(rows)
            (RESULTS / f"synthesis_{name}.json").write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
