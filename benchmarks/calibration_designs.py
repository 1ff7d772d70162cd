"""Designs that the estimate is calibrated and judged on, and what Yosys makes of them.

    python -m benchmarks.calibration_designs

Draws designs of five families (MLP, Deep Sets, linear interaction, mixer, convolution), a third of them trained on the
tasks' simulations, at 3 to 8 bits and 0 to 90 % sparsity, and synthesizes each for UltraScale+, 7 series and ECP5; the
smallest are placed and routed on ECP5 too. All is kept in build/calibration, and nothing there is built again.
"""

from __future__ import annotations

import argparse
import json
import time
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from codesign.backends import da4ml, nextpnr, yosys
from codesign.blocks.conv2d import Conv2d
from codesign.blocks.deep_sets import DeepSets
from codesign.blocks.dense import Dense
from codesign.blocks.linear_interaction import LinearInteraction
from codesign.blocks.mlp_mixer import MlpMixer
from codesign.compress.lower import lower
from codesign.compress.prune import prune_weights
from codesign.compress.quantize import calibrate, quantize
from codesign.core.architecture import Architecture
from codesign.core.build import Resources
from codesign.core.errors import UnsupportedError
from codesign.core.integer_network import IntegerNetwork
from codesign.core.plugins import load_board
from codesign.core.run import run_plan
from codesign.network import build
from codesign.train import TrainOptions, train

FOLDER = Path("build/calibration")
FAMILIES = ("mlp", "deep_sets", "interaction", "mixer", "conv")
TASKS = {
    "mlp": "jet_features",
    "deep_sets": "jet_classification",
    "interaction": "jet_classification",
    "mixer": "jet_classification",
    "conv": "bragg_peak",
}
CUTOFFS = (1, 2, 3, 5, 8)  # adders between two registers
LUT_RANGE = 300.0, 6000.0  # by the estimate: Yosys takes 3 to 7 CPU-seconds per 1,000 LUTs
TARGETS = ("xcup", "xc7", "ecp5")
ROUTED_ON = "ulx3s_85f"
ROUTED_CLOCK_NS = 20.0


class Design(NamedTuple):
    """A network with how it was drawn.

    Attributes:
        seed: Of the set it belongs to: 0 to fit, 1 to judge.
        number: In its set.
        cutoff: Adders between two registers.
    """

    seed: int
    number: int
    family: str
    is_trained: bool
    bits: int
    sparsity: float
    cutoff: int
    network: IntegerNetwork


def draw(seed: int, number: int) -> Design:
    """Return a design, the same one for the same seed and number."""
    rng = np.random.default_rng([seed, number])
    family = FAMILIES[number % len(FAMILIES)]
    is_trained = number // len(FAMILIES) % 3 == 0
    while True:
        bits, sparsity = int(rng.integers(3, 9)), float(rng.choice([0.0, 0.3, 0.5, 0.7, 0.8, 0.9]))
        network = _network(family, is_trained, bits, sparsity, rng)
        cutoff = int(rng.choice(CUTOFFS))
        try:
            lut = da4ml.estimate(network, cutoff)[0].lut or 0.0
        except UnsupportedError:  # pruned until no output depends on the input
            continue
        # accepted the more rarely the larger, so that sizes come out evenly on a logarithmic scale
        if LUT_RANGE[0] <= lut <= LUT_RANGE[1] and rng.random() < min(1.0, 1200.0 / lut):
            return Design(seed, number, family, is_trained, bits, sparsity, cutoff, network)


def save(design: Design, folder: Path) -> Design:
    """Write a design into `folder` and return it."""
    design.network.save(folder / "network")
    (folder / "design.json").write_text(json.dumps(design[:-1]))
    return design


def load(folder: Path) -> Design:
    """Return the design that `save` wrote."""
    return Design(*json.loads((folder / "design.json").read_text()), IntegerNetwork.load(folder / "network"))


def _network(family: str, is_trained: bool, bits: int, sparsity: float, rng: np.random.Generator) -> IntegerNetwork:
    task, data = _task(TASKS[family])
    architecture = _architecture(family, task.input_shape, rng)
    seed = int(rng.integers(1 << 30))
    module = build(architecture, seed)
    if is_trained:
        outputs = data.train.targets.shape[-1] if data.train.targets.ndim > 1 else int(data.train.targets.max()) + 1
        architecture = Architecture(architecture.input_shape, (*architecture.blocks[:-1], Dense(outputs, "identity")))
        module = build(architecture, seed)
        train(module, data, task, TrainOptions(epochs=2, data_fraction=0.1), seed=seed, device="cpu")
    inputs = data.train.inputs[:1024]
    quantized = quantize(architecture, module.eval(), bits, inputs)
    if sparsity:
        prune_weights(quantized, sparsity)
        calibrate(quantized, inputs)
    return lower(quantized)


def _architecture(family: str, shape: tuple[int, ...], rng: np.random.Generator) -> Architecture:
    def some(*options: Any) -> Any:
        return options[rng.integers(len(options))]

    activation, norm = some("relu", "relu", "leaky_relu"), some("none", "batch")
    width = lambda: int(some(4, 6, 8, 12, 16))  # noqa: E731
    match family:
        case "mlp":
            body: tuple[Any, ...] = tuple(Dense(width(), activation, norm) for _ in range(some(1, 2, 3)))
        case "deep_sets":
            widths = tuple(width() for _ in range(some(1, 2)))
            body = (DeepSets(widths, activation, norm, some(-1, 0), some("mean", "max")), Dense(width(), activation))
        case "interaction":
            body = (LinearInteraction(width(), some("mean", "ordered"), activation, norm), Dense(width(), activation))
        case "mixer":
            body = (MlpMixer(some(2, 4, 6), some(2, 4, 6), activation, norm), Dense(width(), activation))
        case _:
            body = (
                Conv2d((some(1, 2, 3),), some(3, 5), some(2, 3), "valid", activation, norm),
                Dense(width(), activation),
            )
    return Architecture(shape, (*body, Dense(int(some(1, 2, 5)), "identity")))


@cache
def _task(name: str) -> Any:
    from codesign.jobs.context import load_task_and_data

    return load_task_and_data(name)


def synthesized(design: Design, target: str, folder: Path) -> Resources:
    """Return what Yosys counts for a design; what `folder` holds already is not built again."""
    tool = yosys.find_tool()
    rtl = da4ml.plan(design.network, "design", design.cutoff)
    built = run_plan(yosys.plan(rtl, target), folder / target, tool)
    return yosys.parse((built / "stat.json").read_text(), target, tool.version)


def routed(design: Design, folder: Path) -> Resources:
    """Return what nextpnr makes of a design on ECP5, likewise."""
    rtl = da4ml.plan(design.network, "design", design.cutoff)
    cells = run_plan(yosys.plan(rtl, "ecp5", with_cells=True), folder / "cells", yosys.find_tool()) / "cells.json"
    tool = nextpnr.find_tool()
    plan = nextpnr.plan(rtl, cells.read_text(), load_board(ROUTED_ON), ROUTED_CLOCK_NS)
    return nextpnr.parse((run_plan(plan, folder / "nextpnr", tool) / "report.json").read_text(), tool.version)


def main() -> None:
    """Synthesize the designs that were not yet, then place and route."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fit", type=int, default=40, help="designs to fit and to calibrate the intervals on (seed 0)")
    parser.add_argument("--judge", type=int, default=62, help="designs to judge the fit on (seed 1)")
    parser.add_argument("--route", type=int, default=20, help="designs of each set to place and route, smallest first")
    options = parser.parse_args()
    counts = {0: options.fit, 1: options.judge}
    torch.set_num_threads(1)
    sizes: dict[Path, float] = {}
    for number in range(max(counts.values())):
        for seed in [s for s, count in counts.items() if number < count]:
            folder = FOLDER / f"{seed}-{number:03d}"
            design = load(folder) if (folder / "design.json").exists() else save(draw(seed, number), folder)
            for target in TARGETS:
                start = time.monotonic()
                resources = synthesized(design, target, folder)
                print(
                    *design[:-1], target, resources.lut, resources.ff, f"{time.monotonic() - start:.1f} s", flush=True
                )
            sizes[folder] = resources.lut or 0.0
    smallest = sorted(sizes, key=lambda folder: sizes[folder])
    for seed in counts:
        for folder in [f for f in smallest if f.name.startswith(f"{seed}-")][: options.route]:
            design, start = load(folder), time.monotonic()
            found = routed(design, folder)
            seconds = f"{time.monotonic() - start:.1f} s"
            print(*design[:-1], "routed", found.lut, found.ff, found.fmax_mhz, seconds, flush=True)


if __name__ == "__main__":
    main()
