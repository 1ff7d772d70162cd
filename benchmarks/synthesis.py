"""Synthesis in figures: views that are equal, what building costs as networks grow, and Bragg networks as streams.

The tables are exactness, projects (every baseline as hls4ml projects), growth and streaming.

    python -m benchmarks.synthesis [--only NAME] [--minutes 10] [--views ""] [--yosys_lut 20000]

Prints a table each and writes benchmarks/results/synthesis_<name>.json, where views that were not chosen keep their
last figures. Seconds are CPU seconds of a process and all it started, memory is the largest of these. Weights are
untrained; what is measured depends on their bits and zeros alone.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import resource
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis.strategies import one_of

from benchmarks.synthesis_baselines import integers
from codesign.backends import da4ml, hls4ml, qonnx, streaming, verilator, yosys
from codesign.backends.hls_options import HlsOptions
from codesign.core import plugins
from codesign.core.architecture import Architecture
from codesign.core.build import BuildPlan, Resources
from codesign.core.errors import UnsupportedError
from codesign.core.fixed_point import FixedPoint
from codesign.core.integer_network import IntegerNetwork
from codesign.core.operations import Input, Linear, Quantize, Relu
from codesign.core.run import run_plan
from codesign.jobs.context import load_task_and_data
from codesign.synthesis.apart import run_apart
from codesign.synthesis.vectors import golden_vectors
from tests import rtl_batch
from tests.strategies import image_networks, integer_networks, vectors_for

RESULTS = Path(__file__).parent / "results"
CUTOFF, CLOCK_NS = 5, 5.0
IMAGE = (4, 5)  # of networks that are simulated side by side
PROJECTS = [  # Vivado's differ from Vitis's in a few headers, and a test has them
    HlsOptions("Vitis", "io_parallel", "latency"),
    HlsOptions("Vitis", "io_parallel", "resource", 2),
    HlsOptions("Vitis", "io_parallel", "distributed_arithmetic"),
    HlsOptions("Vitis", "io_stream", "latency"),
    HlsOptions("Vitis", "io_stream", "resource", 2),
    HlsOptions("Vitis", "io_stream", "distributed_arithmetic"),
    HlsOptions("Catapult", "io_parallel", "latency"),
    HlsOptions("Catapult", "io_stream", "resource", 2),
]
Row = dict[str, Any]

# -- exactness --


def exactness(minutes: float, chosen: str = "") -> list[Row]:
    """Draw networks until the time is up, a share for each view, and count those that differ from the emulator.

    Args:
        minutes: For all views together.
        chosen: Only views whose names begin with it run, with the shares that they have among all.
    """
    views: list[tuple[str, float, Callable[[int], tuple[int, int, int]]]] = [
        ("adder graph, interpreted", 0.08, partial(_one_by_one, _any_network, lambda n, x, _: da4ml.interpret(n, x))),
        (
            "streamed kernels, interpreted",
            0.08,
            partial(_one_by_one, _image, lambda n, x, _: streaming.interpret(n, x)),
        ),
        ("QONNX executed", 0.08, partial(_one_by_one, _any_network, qonnx.simulate)),
        *(
            (f"hls4ml {' '.join(o[:3])}", 0.05, partial(_one_by_one, _either, partial(hls4ml.simulate, options=o)))
            for o in PROJECTS
        ),
        ("RTL parallel, three stall patterns", 0.16, partial(_side_by_side, _any_network, da4ml.plan, 1)),
        (
            "RTL streaming, three stall patterns",
            0.2,
            partial(_side_by_side, partial(_image, IMAGE), streaming.plan, IMAGE[0] * IMAGE[1]),
        ),
    ]
    rows = []
    for name, share, check in (view for view in views if view[0].startswith(chosen)):
        end = time.monotonic() + 60 * minutes * share
        networks = vectors = wrong = seed = 0
        while not networks or time.monotonic() < end:
            found = check(seed)
            networks, vectors, wrong = networks + found[0], vectors + found[1], wrong + found[2]
            seed += 1
        rows.append({"view": name, "networks": networks, "vectors": vectors, "mismatches": wrong})
        print(rows[-1], flush=True)
    return rows


def _draw(strategy: Any, count: int, accept: Callable[[IntegerNetwork], Any]) -> list[Any]:
    """Return `accept(network)` for up to `count` drawn networks that no view refuses as constant."""
    drawn: list[Any] = []

    @settings(max_examples=3 * count, database=None, deadline=None, suppress_health_check=list(HealthCheck))
    @given(strategy)
    def collect(network: IntegerNetwork) -> None:
        if len(drawn) < count:
            with contextlib.suppress(UnsupportedError):
                drawn.append(accept(network))

    collect()
    return drawn


def _any_network() -> Any:
    return integer_networks()


def _image(image: tuple[int, int] | None = None) -> Any:
    return image_networks(image)


def _either() -> Any:
    return one_of(integer_networks(max_steps=8), image_networks())


def _one_by_one(strategy: Callable[[], Any], simulate: Any, seed: int) -> tuple[int, int, int]:
    """Return networks, vectors and networks that differ among ten."""

    def check(network: IntegerNetwork) -> tuple[int, bool]:
        vectors = vectors_for(network, 200, seed)
        with tempfile.TemporaryDirectory() as folder:
            received = simulate(network, vectors, Path(folder) / "view")
        return len(vectors), not np.array_equal(received, network.emulate(vectors))

    found = _draw(strategy(), 10, check)
    return len(found), sum(n for n, _ in found), sum(is_wrong for _, is_wrong in found)


def _side_by_side(strategy: Callable[[], Any], plan: Any, beats: int, seed: int) -> tuple[int, int, int]:
    """Return networks, vectors and networks that differ among twenty in one simulation."""
    names = iter(range(10**6))
    designs = _draw(strategy(), 20, lambda n: (n, plan(n, f"net{next(names)}", 1 + seed % 5)))
    vectors = [vectors_for(network, 100, seed) for network, _ in designs]
    wrong = set()
    with tempfile.TemporaryDirectory() as folder:
        for stalls in (0, 1, 2):
            results = rtl_batch.simulate(designs, vectors, stalls and seed * 2 + stalls, Path(folder) / "all", beats)
            for i, ((network, _), x, received) in enumerate(zip(designs, vectors, results, strict=True)):
                if not np.array_equal(received, network.emulate(x)):
                    wrong.add(i)
    return len(designs), sum(map(len, vectors)), len(wrong)


# -- projects --


def projects(most_weights: int = 5_000, most_macs: int = 10_000_000) -> list[Row]:
    """Count vectors on which the hls4ml projects of each baseline, 6 bits, differ from the emulator; -1 is not built.

    Args:
        most_weights: Of an adder graph; g++ takes minutes for what a larger one unrolls to.
        most_macs: Of all vectors together; C simulation does a million or two in a second.
    """
    rows = []
    for task_name in plugins.task_names():
        task, data = load_task_and_data(task_name)
        for name, architecture in task.baselines.items():
            network = integers(architecture, task, data, 6, 0.8)
            vectors = golden_vectors(network, data.validation.inputs, 1000).inputs
            vectors = vectors[:: max(1, math.ceil(len(vectors) * architecture.macs() / most_macs))]
            weights = sum(int(np.count_nonzero(o.weight)) for o in network.operations if isinstance(o, Linear))
            row: Row = {"task": task_name, "network": name, "weights": weights, "vectors": len(vectors)}
            for options in PROJECTS:
                key = " ".join(options[:3])
                row[key] = -1
                if options.strategy != "distributed_arithmetic" or weights <= most_weights:
                    with tempfile.TemporaryDirectory() as folder:
                        received = hls4ml.simulate(network, vectors, Path(folder) / "view", options=options)
                    differs = received != network.emulate(vectors)
                    row[key] = int(differs.reshape(len(vectors), -1).any(axis=1).sum())
            rows.append(row)
            print(row, flush=True)
    return rows


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


def _print(rows: Sequence[Row]) -> None:
    keys = list(dict.fromkeys(key for row in rows for key in row))
    print(" | ".join(keys))
    for row in rows:
        cells = [row.get(key, "") for key in keys]
        print(" | ".join(f"{c:,.2f}" if isinstance(c, float) else str(c) for c in cells))


def _save(path: Path, rows: Sequence[Row], *, keep: bool) -> None:
    """Write rows; with `keep`, views that are not among them keep the rows that they have."""
    fresh = {row.get("view"): row for row in rows}
    before = [row for row in json.loads(path.read_text()) if row["view"] not in fresh] if keep else []
    path.write_text(json.dumps([*before, *rows], indent=1) + "\n")


def main() -> None:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=("exactness", "projects", "growth", "streaming"))
    parser.add_argument("--minutes", type=float, default=10.0, help="of exactness")
    parser.add_argument("--views", default="", help="how the names of the views begin that exactness runs")
    parser.add_argument("--yosys_lut", type=float, default=20_000, help="largest estimate to simulate and synthesize")
    options = parser.parse_args()
    tables = {
        "exactness": partial(exactness, options.minutes, options.views),
        "projects": projects,
        "growth": partial(growth, options.yosys_lut),
        "streaming": partial(streams, options.yosys_lut),
    }
    for name, table in tables.items():
        if options.only in (None, name):
            rows = table()
            _print(rows)
            _save(RESULTS / f"synthesis_{name}.json", rows, keep=bool(options.views) and name == "exactness")


if __name__ == "__main__":
    main()
