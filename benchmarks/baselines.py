"""The baselines of every task over several seeds, beside what is published about them.

Each network is trained with the engine on the training split, its best epoch is chosen on the validation split, and its
metrics are taken on the test split, once. Data are the official ones where their files are, else the simulation, and
every row says which: a figure on simulated data and a published one must not be compared as if they were of one kind.
Rows and epochs are those of `RUNS`. Rows of other tasks stay in the results as they are. 32 and 64 particles need more
than the shipped sample has: `python projects/jet_classification/generate.py --jets 40000 --particles 64`.

    python -m benchmarks.baselines [--seeds 3] [--tasks jet_classification,bragg_peak]
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from codesign import network
from codesign.core.plugins import PROJECTS, load_sibling
from codesign.core.task import Data, Split
from codesign.jobs.context import load_task_and_data
from codesign.train import TrainOptions, predict, train

RESULTS = Path(__file__).parent / "results" / "baselines.json"


@dataclass(frozen=True)
class Run:
    """How the baselines of a task are trained.

    Attributes:
        task: Reference of the task.
        rows: Training samples at most.
        options: Of the training.
        only: Baselines that have settings of their own; none for all.
        needs_files: The shipped sample is not enough; generate or download data first.
    """

    task: str
    rows: int
    options: TrainOptions
    only: tuple[str, ...] = ()
    needs_files: bool = False


@dataclass(frozen=True)
class Published:
    """A figure from the literature, all on official data."""

    value: str
    about: str


JETS = TrainOptions(epochs=20)
RUNS = (
    Run("jet_classification", 56_000, JETS),
    Run("jet_classification:particles=16", 56_000, JETS),
    Run("jet_classification:particles=32", 56_000, JETS, needs_files=True),
    Run("jet_classification:particles=64", 56_000, JETS, needs_files=True),
    Run("jet_features", 56_000, JETS),
    Run("qubit_readout", 32_000, TrainOptions(epochs=8, learning_rate=1e-3)),
    Run("bragg_peak", 32_000, TrainOptions(epochs=8), only=("compact", "openhls")),
    Run(
        "bragg_peak",
        32_000,
        TrainOptions(epochs=10, batch_size=64, is_mixed_precision=True),
        only=("braggnn", "braggnn_nac"),
    ),
)
NAC_LOG = "8 bit, log of arXiv 2501.05515"
PUBLISHED = {
    ("jet_classification", "odagiu_deep_sets"): Published(
        "accuracy .6165", "float, training file, log of arXiv 2501.05515"
    ),
    ("jet_classification", "nac_large"): Published("accuracy .6543", NAC_LOG),
    ("jet_classification", "nac_medium"): Published("accuracy .6533", NAC_LOG),
    ("jet_classification", "nac_small"): Published("accuracy .6207", NAC_LOG),
    ("jet_classification", "nac_tiny"): Published("accuracy .6114", NAC_LOG),
    ("bragg_peak", "braggnn"): Published("p75 0.29 px, p95 0.57 px", "float, arXiv 2008.08198"),
    ("bragg_peak", "braggnn_nac"): Published("mean 0.2040 px", "float, log of arXiv 2501.05515"),
    ("bragg_peak", "constant answer"): Published("mean 0.3825 px", "of its labels"),
    ("qubit_readout", "published"): Published("fidelity .96", "arXiv 2501.14663, abstract"),
}
Reference = Callable[[Data], tuple[np.ndarray, np.ndarray]]  # outputs and targets of the test split


def fit_peaks(data: Data, rows: int = 2_000) -> tuple[np.ndarray, np.ndarray]:
    """Fit a pseudo-Voigt profile to the first patches."""
    classical = load_sibling(PROJECTS / "bragg_peak" / "task.py", "classical")
    return classical.fit_centers(data.test.inputs[:rows]), data.test.targets[:rows]


def weigh_pixels(data: Data) -> tuple[np.ndarray, np.ndarray]:
    """Take the center of mass of each patch."""
    classical = load_sibling(PROJECTS / "bragg_peak" / "task.py", "classical")
    return classical.centers_of_mass(data.test.inputs), data.test.targets


def answer_the_same(data: Data) -> tuple[np.ndarray, np.ndarray]:
    """Answer the middle of the patch, whatever it shows."""
    return np.zeros_like(data.test.targets), data.test.targets


def match_filter(data: Data) -> tuple[np.ndarray, np.ndarray]:
    """Project on the difference of the two mean traces, and cut in the middle between them."""
    flat = data.train.inputs.reshape(len(data.train.inputs), -1)
    low, high = (flat[data.train.targets == state].mean(axis=0, dtype=np.float64) for state in (0, 1))
    score = data.test.inputs.reshape(len(data.test.inputs), -1) @ (high - low) - (high @ high - low @ low) / 2
    return np.stack([-score, score], axis=1), data.test.targets


REFERENCES: dict[str, dict[str, Reference]] = {
    "bragg_peak": {
        "pseudo-Voigt fit (2,000 patches)": fit_peaks,
        "center of mass": weigh_pixels,
        "constant answer": answer_the_same,
    },
    "qubit_readout": {"matched filter": match_filter},
}


def measure(run: Run, seeds: int) -> Iterator[dict[str, Any]]:
    """Yield the test metrics of each baseline, a list of one value for each seed."""
    task, data = load_task_and_data(run.task)
    part = replace(data, train=Split(data.train.inputs[: run.rows], data.train.targets[: run.rows]))
    for name, architecture in task.baselines.items():
        if run.only and name not in run.only:
            continue
        started = time.process_time()
        scores = []
        for seed in range(seeds):
            model = network.build(architecture, seed, starts_at_zero=True)
            train(model, part, task, run.options, seed=seed, device="cpu")
            scores.append(task.score(predict(model, data.test.inputs), data.test.targets))
        yield _row(run.task, name, data, scores) | {
            "parameters": architecture.parameters(),
            "is_buildable": architecture.is_buildable,
            "training_rows": len(part.train.inputs),
            "epochs": run.options.epochs,
            "cpu_seconds_per_seed": (time.process_time() - started) / seeds,
        }


def refer(name: str) -> Iterator[dict[str, Any]]:
    """Yield the test metrics of what is no network."""
    task, data = load_task_and_data(name)
    for reference, answer in REFERENCES.get(name, {}).items():
        yield _row(name, reference, data, [task.score(*answer(data))])


def _row(task: str, name: str, data: Data, scores: list[dict[str, float]]) -> dict[str, Any]:
    published = PUBLISHED.get((task, name))
    return {
        "task": task,
        "name": name,
        "data": "simulation" if data.is_simulation else "official",
        "metrics": {key: [score[key] for score in scores] for key in scores[0]},
        "published": f"{published.value} ({published.about})" if published else "",
    }


def main() -> None:
    """Measure, print a table, and write the results after every row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--tasks", default=",".join(dict.fromkeys(run.task for run in RUNS if not run.needs_files)))
    options = parser.parse_args()
    torch.set_num_threads(1)
    chosen = options.tasks.split(",")
    measured = (row for run in RUNS if run.task in chosen for row in measure(run, options.seeds))
    rows = [row for row in json.loads(RESULTS.read_text())["rows"] if row["task"] not in chosen]
    for row in itertools.chain(measured, *(refer(task) for task in chosen)):
        rows.append(row)
        print(line(row), flush=True)
        RESULTS.write_text(json.dumps({"rows": rows}, indent=1) + "\n")


def line(row: dict[str, Any]) -> str:
    """Return a row of the table: mean and standard deviation of each metric."""
    metrics = ", ".join(
        f"{key} {statistics.fmean(values):.4f}" + (f" ± {statistics.stdev(values):.4f}" if len(values) > 1 else "")
        for key, values in row["metrics"].items()
    )
    how = f"{row['training_rows']} rows, {row['epochs']} epochs" if "epochs" in row else "no network"
    return (
        f"| {row['task']} | {row['name']} | {row.get('parameters', '')} | {how} | {row['data']}: {metrics} "
        f"| {row['published'] and 'official: ' + row['published']} |"
    )


if __name__ == "__main__":
    main()
