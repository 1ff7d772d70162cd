"""Trials per minute of the training engine, against the obvious way: a Dataset, a DataLoader, one network at a time.

Both train the same networks on the same data for the same epochs with the same batch size, optimizer, schedule and
seeds, in turns, and score the weights of their best epoch on the validation data. The obvious way has all cores to
itself in one process with torch's default threads; the engine has one worker process with one thread for each core.
Processes are warm: imports and the loading of data are not counted.

    PYTHONPATH=. python benchmarks/training.py
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

from codesign import network
from codesign.core.architecture import Architecture
from codesign.core.plugins import load_task
from codesign.core.task import Data, Split, Task
from codesign.jobs.context import load_task_and_data
from codesign.train import TrainOptions, predict, train
from codesign.train_many import train_many

RESULTS = Path(__file__).parent / "results" / "training.json"
TASKS = ("jet_classification", "bragg_peak")
LOSSES = {"cross_entropy": F.cross_entropy, "mse": F.mse_loss, "l1": F.l1_loss}
BYTES_PER_GB = 1e9


@dataclass(frozen=True)
class Plan:
    """One training: everything that decides its outcome."""

    task: str
    architecture: Architecture
    seed: int
    rows: int
    options: TrainOptions


@cache
def load(task: str, rows: int) -> tuple[Task, Data]:
    """Return the task and its data, with at most `rows` training rows."""
    found, data = load_task_and_data(task)
    return found, replace(data, train=Split(data.train.inputs[:rows], data.train.targets[:rows]))


class ArrayDataset(Dataset):
    """Samples one by one, as in any tutorial."""

    def __init__(self, split: Split) -> None:
        self.inputs, self.targets = torch.from_numpy(split.inputs), torch.from_numpy(split.targets)

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        return self.inputs[index], self.targets[index]


def obvious(plan: Plan) -> tuple[float, float]:
    """Return seconds and score of a training with a DataLoader."""
    task, data = load(plan.task, plan.rows)
    started = time.perf_counter()
    torch.manual_seed(plan.seed)
    options = plan.options
    model = network.build(plan.architecture, plan.seed)
    loader = DataLoader(ArrayDataset(data.train), options.batch_size, shuffle=True, drop_last=True)
    validation = DataLoader(ArrayDataset(data.validation), options.batch_size)
    optimizer = torch.optim.Adam(model.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, options.learning_rate, epochs=options.epochs, steps_per_epoch=len(loader), cycle_momentum=False
    )
    loss_of, best, best_state = LOSSES[task.loss], float("inf"), {}
    for _ in range(options.epochs):
        model.train()
        running = 0.0
        for inputs, targets in loader:
            optimizer.zero_grad()
            loss = loss_of(model(inputs), targets)
            loss.backward()
            optimizer.step()
            schedule.step()
            running += loss.item()
        model.eval()
        with torch.no_grad():
            losses = [loss_of(model(inputs), targets).item() for inputs, targets in validation]
        if np.mean(losses) < best:
            best = float(np.mean(losses))
            best_state = {name: value.clone() for name, value in model.state_dict().items()}
    model.load_state_dict(best_state)
    return time.perf_counter() - started, score(task, data, model)


def engine(plan: Plan) -> tuple[float, float]:
    """Return seconds and score of a training with the engine."""
    task, data = load(plan.task, plan.rows)
    started = time.perf_counter()
    model = network.build(plan.architecture, plan.seed)
    train(model, data, task, plan.options, seed=plan.seed, device="cpu")
    return time.perf_counter() - started, score(task, data, model)


def stacked(plans: list[Plan]) -> float:
    """Return the seconds of training equal architectures with several seeds at once."""
    task, data = load(plans[0].task, plans[0].rows)
    started = time.perf_counter()
    train_many(plans[0].architecture, [plan.seed for plan in plans], data, task, plans[0].options, "cpu")
    return time.perf_counter() - started


def score(task: Task, data: Data, model: network.Network) -> float:
    """Return the task's first objective on the validation data."""
    return task.score(predict(model, data.validation.inputs), data.validation.targets)[task.objectives[0].metric]


def warm_up(tasks: tuple[str, ...], rows: int, threads: int) -> None:
    """Load what a worker needs, once."""
    torch.set_num_threads(threads)
    for task in tasks:
        load(task, rows)


def pool(workers: int, threads: int, rows: int) -> ProcessPoolExecutor:
    """Return warm worker processes."""
    found = ProcessPoolExecutor(workers, get_context("spawn"), initializer=warm_up, initargs=(TASKS, rows, threads))
    list(found.map(time.sleep, [0.5] * workers))
    return found


def architectures(task: str, count: int, seed: int) -> list[Architecture]:
    """Return random members of the task's search space."""
    random = np.random.default_rng(seed)
    space = load_task(task).space
    return [space.fill(lambda _, hole: int(random.integers(len(hole.options)))) for _ in range(count)]


def compare(task: str, options: argparse.Namespace, workers: int) -> dict[str, object]:
    """Return trials per minute of both ways, in turns, and the scores they reach."""
    training = TrainOptions(epochs=options.epochs, batch_size=options.batch_size)
    plans = [
        Plan(task, architecture, seed, options.rows, training)
        for seed, architecture in enumerate(architectures(task, options.networks, options.seed))
    ]
    seconds: dict[str, list[float]] = {"obvious": [], "engine": []}
    scores: dict[str, list[float]] = {"obvious": [], "engine": []}
    with pool(1, workers, options.rows) as slow, pool(workers, 1, options.rows) as fast:
        for _ in range(options.rounds):
            for name, way, processes in (("obvious", obvious, slow), ("engine", engine, fast)):
                started = time.perf_counter()
                found = list(processes.map(way, plans))
                seconds[name].append(time.perf_counter() - started)
                scores[name] += [value for _, value in found]
                print(f"  {task} {name}: {60 * len(plans) / seconds[name][-1]:.1f} trials per minute", flush=True)
    rates = {name: 60 * len(plans) * options.rounds / sum(values) for name, values in seconds.items()}
    differences = np.subtract(scores["engine"], scores["obvious"])
    return {
        "metric": load_task(task).objectives[0].metric,
        "macs": [plan.architecture.macs() for plan in plans],
        "trials_per_minute": rates,
        "speedup": rates["engine"] / rates["obvious"],
        "mean_score": {name: statistics.fmean(values) for name, values in scores.items()},
        "score_difference": {"mean": float(differences.mean()), "standard_error": _standard_error(differences)},
    }


def _standard_error(values: np.ndarray) -> float:
    return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else float("nan")


def compare_stacked(task: str, options: argparse.Namespace) -> list[dict[str, object]]:
    """Return seconds per network on one core, one after another and stacked."""
    torch.set_num_threads(1)
    rows = []
    training = TrainOptions(epochs=1, batch_size=options.batch_size)
    for name, architecture in load_task(task).baselines.items():
        for count in (2, 4, 8):
            plans = [Plan(task, architecture, seed, options.rows, training) for seed in range(count)]
            alone = sum(engine(plan)[0] for plan in plans) / count
            rows.append(
                {"network": name, "stacked": count, "seconds_alone": alone, "seconds_stacked": stacked(plans) / count}
            )
    return rows


def peak_memory(jets: int = 500_000) -> float:
    """Return the peak memory (GB) of a process that trains on so many jets of 8 particles."""
    code = f"import sys; sys.path.insert(0, '.'); from benchmarks.training import train_on; train_on({jets})"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return float(done.stdout.split()[-1])


def train_on(jets: int) -> None:
    """Train one epoch on random numbers in the shape of jets and print this process's peak memory (GB)."""
    task = load_task("jet_classification")
    random = np.random.default_rng(0)
    split = Split(random.standard_normal((jets, 8, 3), dtype=np.float32), random.integers(0, 5, jets))
    small = Split(split.inputs[: jets // 10], split.targets[: jets // 10])
    data = Data(split, small, small, "random numbers", is_simulation=True, digest="random")
    model = network.build(task.baselines["nac_large"], 0)
    train(model, data, task, TrainOptions(epochs=1, batch_size=4096), seed=0, device="cpu")
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / BYTES_PER_GB)


def main() -> None:
    """Run all comparisons, print their tables and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", type=int, default=8, help="networks of each task, drawn from its search space")
    parser.add_argument("--rows", type=int, default=20_000, help="training samples")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch_size", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=2, help="how often both ways take turns")
    parser.add_argument("--seed", type=int, default=0, help="of the draw of networks")
    options = parser.parse_args()
    workers = os.cpu_count() or 1
    results = {
        "machine": {"processor": platform.processor() or platform.machine(), "cores": workers, "load": os.getloadavg()},
        "options": vars(options),
        "tasks": {task: compare(task, options, workers) for task in TASKS},
        "stacked": compare_stacked("jet_classification", options),
        "peak_memory_gb": {"500000 jets of 8 particles": peak_memory()},
    }
    print(table(results))
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")


def table(results: dict) -> str:
    """Return the results as Markdown."""
    lines = ["| task | obvious, trials/min | engine, trials/min | speedup | metric, obvious | engine | difference |"]
    lines.append("|---|---|---|---|---|---|---|")
    for task, r in results["tasks"].items():
        rate, mean, difference = r["trials_per_minute"], r["mean_score"], r["score_difference"]
        lines.append(
            f"| {task} | {rate['obvious']:.1f} | {rate['engine']:.1f} | {r['speedup']:.1f}x | "
            f"{r['metric']} {mean['obvious']:.4f} | {mean['engine']:.4f} | "
            f"{difference['mean']:+.4f} ± {difference['standard_error']:.4f} |"
        )
    lines += ["", "| network | stacked | s alone | s stacked | gain |", "|---|---|---|---|---|"]
    for r in results["stacked"]:
        alone, together = r["seconds_alone"], r["seconds_stacked"]
        lines.append(f"| {r['network']} | {r['stacked']} | {alone:.2f} | {together:.2f} | {alone / together:.2f}x |")
    lines += ["", *(f"peak memory, {name}: {gb:.2f} GB" for name, gb in results["peak_memory_gb"].items())]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
