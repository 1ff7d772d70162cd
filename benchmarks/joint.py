"""Does a search choose better if it sees the cost after compression? Joint against separate stages on the same trials.

Random architectures of the jet space are judged three ways: as a separate search sees them (trained in float, quantized
at one width), as a joint search sees them (shortly compressed by learned precision), and by the truth: a full
compression. A search hands over the members of its front, as many as `--chosen`; what counts is the hypervolume of the
true fronts of those it chose (error against the logarithm of LUTs), over that of all architectures.

    PYTHONPATH=. python benchmarks/joint.py [--architectures 16] [--chosen 4] [--workers 2]

prints a table and writes `benchmarks/results/joint.json`.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr

from codesign import network
from codesign.backends import da4ml
from codesign.compress.compress import compress
from codesign.core.architecture import Architecture
from codesign.core.pareto import hypervolume, is_non_dominated
from codesign.core.recipe import CompressionRecipe
from codesign.core.trial import Fidelity
from codesign.jobs.context import load_task_and_data
from codesign.jobs.evaluate import Evaluator
from codesign.search.space import sample
from codesign.train import TrainOptions, train

RESULTS = Path(__file__).parent / "results" / "joint.json"
TASK = "jet_classification"
LARGEST_LUT = 60_000  # by the bound that a search checks before a training
WORST = np.array([0.6, np.log(100_000.0)])
FULL = CompressionRecipe("learned", sparsity=0.9, steps=8, epochs=2)


def architectures(count: int, seed: int) -> list[Architecture]:
    """Return random buildable architectures of the task's space that a search would train."""
    task, _ = load_task_and_data(TASK)
    rng, precheck = np.random.default_rng(seed), Evaluator(TASK, 8).precheck
    found: dict[str, Architecture] = {}
    while len(found) < count:
        architecture = task.space.fill_from({k: int(v) for k, v in sample(task.space, rng).items()})
        if architecture.is_buildable and precheck(architecture)["lut_estimate"] <= LARGEST_LUT:
            found[architecture.digest] = architecture
    return list(found.values())


def judge(text: str, epochs: int) -> dict[str, Any]:
    """Return error and LUTs of one architecture in each of three ways, and the seconds they took."""
    torch.set_num_threads(1)
    architecture = Architecture.from_json(text)
    task, data = load_task_and_data(TASK)
    found: dict[str, Any] = {"architecture": architecture.describe()}
    for name in ("separate", "joint"):
        started = time.process_time()
        metrics = Evaluator(TASK, 8, None, "cpu", name == "joint")(architecture, Fidelity(epochs), 0, 0)
        found[name] = [metrics["error"], metrics["lut_estimate"]]
        found[f"{name}_cpu_s"] = time.process_time() - started
    model = network.build(architecture, 0, starts_at_zero=True)
    train(model, data, task, TrainOptions(epochs=epochs), seed=0, device="cpu")
    steps = compress(model, data, task, FULL, seed=0, device="cpu")
    found["truth"] = [[s.metrics["error"], da4ml.estimate(s.network)[0].lut] for s in steps]
    return found


def volume(rows: Sequence[dict[str, Any]]) -> float:
    """Return the hypervolume of the true points of some architectures."""
    points = np.array([[error, np.log(lut)] for row in rows for error, lut in row["truth"]])
    return float(hypervolume(points, WORST))


def chosen(rows: Sequence[dict[str, Any]], way: str, count: int) -> list[dict[str, Any]]:
    """Return the architectures that a search hands over: its front, thinned evenly from best error to least LUTs."""
    points = np.array([row[way] for row in rows])
    front = np.flatnonzero(is_non_dominated(points))
    front = front[np.argsort(points[front, 0])]
    picked = np.unique(np.linspace(0, len(front) - 1, min(count, len(front))).round().astype(int))
    return [rows[front[i]] for i in picked]


def main() -> None:
    """Judge, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--architectures", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--chosen", type=int, default=4)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    texts = [a.to_json() for a in architectures(options.architectures, seed=0)]
    with ProcessPoolExecutor(options.workers, get_context("spawn")) as pool:
        rows = list(pool.map(partial(judge, epochs=options.epochs), texts))
    best = [min(row["truth"], key=lambda point: abs(np.log(point[1] / 10_000))) for row in rows]
    table = {}
    for way in ("separate", "joint"):
        table[way] = {
            "hypervolume of its choice over all": volume(chosen(rows, way, options.chosen)) / volume(rows),
            "rank correlation of the error": float(spearmanr([r[way][0] for r in rows], [e for e, _ in best])[0]),
            "rank correlation of the LUTs": float(
                spearmanr([r[way][1] for r in rows], [r["truth"][-1][1] for r in rows])[0]
            ),
            "CPU-s a trial": float(np.mean([r[f"{way}_cpu_s"] for r in rows])),
        }
    RESULTS.write_text(json.dumps({"settings": vars(options), "table": table, "trials": rows}, indent=1))
    for way, values in table.items():
        print(f"{way:9}", "  ".join(f"{name} {value:.3f}" for name, value in values.items()))


if __name__ == "__main__":
    main()
