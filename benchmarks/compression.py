"""Fronts of metric against LUTs: learned precision against one width, and against one width with magnitude pruning.

Every method starts from the same trained float network. `uniform` trains at each of several widths; `paper` then
removes 20 % of the remaining weights in each of 8 steps, as the founding paper does; `learned` takes 16 steps of half
as many epochs, once. LUTs are the adder-graph estimate. How much less hardware learned precision needs at equal metric
is read off both fronts, seed by seed, over the whole range of metrics that both reach.

    PYTHONPATH=. python benchmarks/compression.py [--problems jets_8,bragg] [--seeds 3] [--workers 2]

prints tables and writes `benchmarks/results/compression.json`. What stands there already, of the same settings, is not
run again.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from codesign import network
from codesign.backends import da4ml
from codesign.blocks.deep_sets import DeepSets
from codesign.blocks.dense import Dense
from codesign.compress.compress import compress
from codesign.core.architecture import Architecture
from codesign.core.recipe import CompressionRecipe
from codesign.jobs.context import load_task_and_data
from codesign.train import TrainOptions, predict, train

RESULTS = Path(__file__).parent / "results" / "compression.json"
OUTPUT = Dense(5, "identity")


class Problem(NamedTuple):
    """A task, the network to be compressed, and how long it is trained."""

    task: str
    metric: str
    architecture: Callable[[Any], Architecture]
    float_epochs: int
    epochs: int


def _mlp(task: Any) -> Architecture:
    norm = "batch"
    return Architecture(task.input_shape, (Dense(64, norm=norm), Dense(32, norm=norm), Dense(32, norm=norm), OUTPUT))


def _deep_sets(task: Any) -> Architecture:
    return Architecture(task.input_shape, (DeepSets((16, 16), norm="batch"), Dense(32, norm="batch"), OUTPUT))


PROBLEMS = {
    "jets_8": Problem("jet_classification", "error", _mlp, 30, 4),
    "jets_16": Problem("jet_classification:particles=16", "error", _deep_sets, 30, 4),
    "bragg": Problem("bragg_peak", "distance_px", lambda task: task.baselines["compact"], 10, 3),
}
STEPS = 8
METHODS: dict[str, dict[str, Any]] = {
    "uniform": {"method": "uniform"},
    "paper": {"method": "magnitude", "sparsity": 1 - 0.8**STEPS, "steps": STEPS},
    "learned": {"method": "learned", "sparsity": 0.95, "steps": 2 * STEPS, "epochs": 2},
}
BITS = {"uniform": (8, 6, 5, 4), "paper": (8, 6, 4)}


@dataclass(frozen=True)
class Unit:
    """One compression of one network."""

    problem: str
    method: str
    bits: int
    seed: int

    @property
    def recipe(self) -> CompressionRecipe:
        """How the network is compressed."""
        return CompressionRecipe(**{"bits": self.bits, "epochs": PROBLEMS[self.problem].epochs} | METHODS[self.method])

    @property
    def key(self) -> str:
        """Everything that decides the result."""
        return json.dumps([asdict(self), asdict(self.recipe), PROBLEMS[self.problem].float_epochs], sort_keys=True)


def run(units: Sequence[Unit]) -> dict[str, Any]:
    """Return metric, LUTs and seconds of every step of each compression, by key; one problem and seed for all."""
    torch.set_num_threads(1)
    problem, seed = PROBLEMS[units[0].problem], units[0].seed
    task, data = load_task_and_data(problem.task)
    module = network.build(problem.architecture(task), seed)
    train(module, data, task, TrainOptions(epochs=problem.float_epochs), seed=seed, device="cpu")
    in_float = task.score(predict(module, data.validation.inputs), data.validation.targets)[problem.metric]
    results = {}
    for unit in units:
        steps, started = [], time.process_time()
        for checkpoint in compress(module, data, task, unit.recipe, seed=seed, device="cpu"):
            lut = da4ml.estimate(checkpoint.network)[0].lut
            steps.append({"metric": checkpoint.metrics[problem.metric], "lut": lut, "sparsity": checkpoint.sparsity})
        results[unit.key] = asdict(unit) | {"float": in_float, "steps": steps, "cpu_s": time.process_time() - started}
        print(f"{unit}: {results[unit.key]['cpu_s']:.0f} CPU-s", flush=True)
    return results


def front(points: Iterable[tuple[float, float]]) -> np.ndarray:
    """Return the non-dominated points (metric, LUT), both smaller is better, by rising LUT and falling metric."""
    best: list[tuple[float, float]] = []
    for lut, metric in sorted((lut, metric) for metric, lut in points):
        if not best or metric < best[-1][0]:
            best.append((metric, lut))
    return np.array(best)


def ratios(ours: np.ndarray, theirs: np.ndarray, levels: int = 9) -> tuple[np.ndarray, np.ndarray]:
    """Return metrics from best to worst that both fronts reach, and ours over theirs in LUTs at each one."""
    low = max(ours[:, 0].min(), theirs[:, 0].min())
    high = min(ours[:, 0].max(), theirs[:, 0].max())
    metrics = np.linspace(low, high, levels)
    return metrics, np.exp(_log_lut(ours, metrics) - _log_lut(theirs, metrics))


def _log_lut(points: np.ndarray, metrics: np.ndarray) -> np.ndarray:
    ordered = points[::-1]  # by rising metric
    return np.interp(metrics, ordered[:, 0], np.log(ordered[:, 1]))


def main() -> None:
    """Run what is asked for, print tables, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", default=",".join(PROBLEMS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    done = json.loads(RESULTS.read_text())["units"] if RESULTS.exists() else {}
    problems = options.problems.split(",")
    groups = [
        [Unit(problem, method, bits, seed) for method in METHODS for bits in BITS.get(method, (8,))]
        for seed in range(options.seeds)
        for problem in problems
    ]
    todo = [group for group in groups if any(unit.key not in done for unit in group)]
    with ProcessPoolExecutor(options.workers, get_context("spawn")) as pool:
        for result in pool.map(run, todo):
            done |= result
            RESULTS.write_text(json.dumps({"units": done}, indent=1))
    for problem in problems:
        report(problem, [done[unit.key] for group in groups for unit in group if unit.problem == problem])


def report(problem: str, results: Sequence[dict[str, Any]]) -> None:
    """Print the fronts of one problem, and how they compare."""
    metric = PROBLEMS[problem].metric
    seeds = sorted({r["seed"] for r in results})
    in_float = np.array([next(r["float"] for r in results if r["seed"] == seed) for seed in seeds])
    print(f"\n{problem}: {metric} in float {in_float.mean():.4f} ± {in_float.std(ddof=min(1, len(seeds) - 1)):.4f}")
    fronts = {}
    for method in METHODS:
        for seed in seeds:
            mine = [r for r in results if r["method"] == method and r["seed"] == seed]
            fronts[method, seed] = front((s["metric"], s["lut"]) for r in mine for s in r["steps"])
        text = "  ".join(f"{m:.4f} @ {lut:,.0f}" for m, lut in fronts[method, seeds[0]])
        cpu = sum(r["cpu_s"] for r in results if r["method"] == method) / len(seeds) / 60
        print(f"  {method:8} {cpu:5.1f} CPU-min a front; seed {seeds[0]}: {text}")
    for other in ("uniform", "paper"):
        rows = np.array([ratios(fronts["learned", seed], fronts[other, seed])[1] for seed in seeds])
        mean = "  ".join(f"{r:.2f}" for r in rows.mean(0))
        print(
            f"  LUTs of learned over {other}, from the best common {metric} to the worst: {mean}; all {rows.mean():.2f}"
        )


if __name__ == "__main__":
    main()
