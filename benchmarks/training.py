"""Trials per minute of the training engine, against the obvious way: a Dataset, a DataLoader, one network at a time.

Both train the same networks from the same weights on the same rows in the same order, with the same optimizer and
learning rates, in turns, and score the weights of their best epoch on the validation data: what they reach differs by
rounding alone. The obvious way has all cores to itself in one process, with torch's default threads; beside it stands
the same with a single thread. The engine has one worker process with one thread for each core. Processes are warm:
imports and the loading of data are not counted. CPU time is given beside the wall-clock time, because it depends less
on what else the machine does. Networks are drawn from the search space, without those that the search would never
train because they cannot keep the limit on LUTs.

    python -m benchmarks.training
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cache, partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch.func import functional_call, stack_module_state
from torch.utils.data import DataLoader, Dataset, Sampler

from benchmarks.training_memory import peak_memory
from codesign import network
from codesign.core.architecture import Architecture
from codesign.core.plugins import load_task
from codesign.core.task import Data, Split, Task
from codesign.jobs.context import load_task_and_data
from codesign.jobs.evaluate import Evaluator
from codesign.native.passes import NativePasses
from codesign.resident import shuffled, subset, to_device
from codesign.train import joined, predict, train
from codesign.train_options import TrainOptions, rate_at

RESULTS = Path(__file__).parent / "results" / "training.json"
TASKS = ("jet_classification", "bragg_peak")
LOSSES = {"cross_entropy": F.cross_entropy, "mse": F.mse_loss, "l1": F.l1_loss}


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


class Order(Sampler[int]):
    """The engine's order of samples, which a plain `shuffle=True` would draw from a generator of its own."""

    def __init__(self, rows: int, plan: Plan) -> None:
        self.batch_size = plan.options.batch_size
        self.generator = torch.Generator().manual_seed(plan.seed)
        self.chosen = subset(rows, 1.0, self.generator)

    def __len__(self) -> int:
        return len(self.chosen)

    def __iter__(self) -> Iterator[int]:
        yield from shuffled(self.chosen, self.batch_size, self.generator).flatten().tolist()


def obvious(plan: Plan) -> float:
    """Return the score of a training with a DataLoader."""
    task, data = load(plan.task, plan.rows)
    options = plan.options
    model = network.build(plan.architecture, plan.seed, starts_at_zero=True)
    train_set, validation_set = ArrayDataset(data.train), ArrayDataset(data.validation)
    loader = DataLoader(train_set, options.batch_size, sampler=Order(len(train_set), plan), drop_last=True)
    validation = DataLoader(validation_set, options.batch_size)
    optimizer = torch.optim.Adam(model.parameters(), lr=1.0)
    steps = options.epochs * len(loader)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate_at(options, step, steps))
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
        total = 0.0
        with torch.no_grad():
            for inputs, targets in validation:
                total += loss_of(model(inputs), targets).item() * len(inputs)
        if total < best:
            best, best_state = total, {name: value.clone() for name, value in model.state_dict().items()}
    model.load_state_dict(best_state)
    return score(task, data, model)


def engine(plan: Plan) -> float:
    """Return the score of a training with the engine."""
    task, data = load(plan.task, plan.rows)
    model = network.build(plan.architecture, plan.seed, starts_at_zero=True)
    train(model, data, task, plan.options, seed=plan.seed, device="cpu")
    return score(task, data, model)


def score(task: Task, data: Data, model: network.Network) -> float:
    """Return the task's first objective on the validation data."""
    return task.score(predict(model, data.validation.inputs), data.validation.targets)[task.objectives[0].metric]


def warm_up(tasks: tuple[str, ...], rows: int, threads: int) -> None:
    """Load what a worker needs, and train once: torch imports parts of itself when they are first used."""
    torch.set_num_threads(threads)
    for task in tasks:
        load(task, rows)
        (small,) = architectures(task, 1, 0)
        plan = Plan(task, small, 0, 512, TrainOptions(epochs=1))
        obvious(plan)
        engine(plan)


def pool(workers: int, threads: int, rows: int) -> ProcessPoolExecutor:
    """Return warm worker processes."""
    found = ProcessPoolExecutor(workers, get_context("spawn"), initializer=warm_up, initargs=(TASKS, rows, threads))
    list(found.map(time.sleep, [0.5] * workers))
    return found


def architectures(task: str, count: int, seed: int) -> list[Architecture]:
    """Return random members of the task's search space that the search would train."""
    random = np.random.default_rng(seed)
    found, stated = [], load_task(task)
    precheck = Evaluator(task, stated.default_bits, Path()).precheck
    while len(found) < count:
        architecture = stated.space.fill(lambda _, hole: int(random.integers(len(hole.options))))
        metrics = precheck(architecture)
        if not any(o.violation(metrics) for o in stated.objectives if o.metric in metrics):
            found.append(architecture)
    return found


def timed(way: Callable[[Plan], float], plan: Plan) -> tuple[float, float]:
    """Return the score of a training and its CPU time (seconds)."""
    started = time.process_time()
    return way(plan), time.process_time() - started


def compare(task: str, options: argparse.Namespace, cores: int) -> dict[str, Any]:
    """Return trials per minute of both ways, in turns, and the scores they reach."""
    training = TrainOptions(epochs=options.epochs, batch_size=options.batch_size)
    plans = [
        Plan(task, architecture, seed, options.rows, training)
        for seed, architecture in enumerate(architectures(task, options.networks, options.seed))
    ]
    ways = {"obvious": (obvious, 1, cores), "obvious, 1 thread": (obvious, 1, 1), "engine": (engine, cores, 1)}
    seconds: dict[str, float] = dict.fromkeys(ways, 0.0)
    cpu_seconds: dict[str, list[float]] = {name: [] for name in ways}
    scores: dict[str, list[float]] = {name: [] for name in ways}
    with ExitStack() as stack:
        pools = {name: stack.enter_context(pool(w, t, options.rows)) for name, (_, w, t) in ways.items()}
        for turn in range(options.rounds):
            seeded = [replace(plan, seed=plan.seed + turn * len(plans)) for plan in plans]
            for name, (way, _, _) in ways.items():
                started = time.perf_counter()
                found = list(pools[name].map(partial(timed, way), seeded))
                seconds[name] += time.perf_counter() - started
                scores[name] += [value for value, _ in found]
                cpu_seconds[name] += [value for _, value in found]
                print(f"  {task}, {name}: {60 * len(scores[name]) / seconds[name]:.1f} trials per minute", flush=True)
    rates = {name: 60 * len(scores[name]) / value for name, value in seconds.items()}
    cpu = {name: statistics.fmean(values) for name, values in cpu_seconds.items()}
    differences = np.subtract(scores["engine"], scores["obvious"])
    return {
        "metric": load_task(task).objectives[0].metric,
        "macs": [plan.architecture.macs() for plan in plans],
        "trials_per_minute": rates,
        "cpu_seconds_per_trial": cpu,
        "speedup": {name: rates["engine"] / rate for name, rate in rates.items() if name != "engine"},
        "cpu_speedup": {name: value / cpu["engine"] for name, value in cpu.items() if name != "engine"},
        "mean_score": {name: statistics.fmean(values) for name, values in scores.items()},
        "score_difference": {"mean": float(differences.mean()), "standard_error": _standard_error(differences)},
    }


def _standard_error(values: np.ndarray) -> float:
    return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else float("nan")


def compare_steps(task: str, batch_size: int, count: int = 8) -> list[dict[str, object]]:
    """Return CPU seconds of a training step of each baseline: by torch, stacked by torch.func, and by the kernels."""
    torch.set_num_threads(1)
    found, data = load(task, 20_000)
    inputs, targets = (torch.from_numpy(a[:batch_size]) for a in data.train)
    loss_of, rows = LOSSES[found.loss], []
    for name, architecture in found.baselines.items():
        models = [network.build(architecture, seed) for seed in range(count)]
        alone = _stepping(lambda m=models[0]: loss_of(m(inputs), targets), models[0].parameters())
        parameters, buffers = stack_module_state(models)
        leaves = {k: v.detach().requires_grad_() for k, v in parameters.items()}
        skeleton = copy.deepcopy(models[0]).to("meta")
        call = torch.vmap(lambda p, b, s=skeleton: loss_of(functional_call(s, (p, b), (inputs,)), targets))
        stacked = _stepping(lambda c=call, p=leaves, b=buffers: c(p, b).sum(), leaves.values())
        with joined(models[0]) as weights:
            options = TrainOptions(batch_size=batch_size)
            kernels = NativePasses.of(models[0], weights, to_device(data, "cpu"), found.loss, options)
            samples = torch.arange(batch_size)
            seconds = {
                "torch": _cpu_seconds(alone),
                "stacked": _cpu_seconds(stacked) / count,
                "kernels": kernels and _cpu_seconds(lambda k=kernels, s=samples: k.step(s, 1e-3)),
            }
        rows.append({"network": name, "stacked": count, "seconds": seconds})
    return rows


def _stepping(loss: Callable[[], torch.Tensor], parameters: Iterable[torch.Tensor]) -> Callable[[], None]:
    optimizer = torch.optim.AdamW(list(parameters), lr=torch.tensor(1e-3), fused=True)

    def step() -> None:
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()

    return step


def _cpu_seconds(step: Callable[[], object]) -> float:
    """Return the CPU time of a step, the least of several tries."""
    tries = []
    for _ in range(5):
        started = time.process_time()
        for _ in range(20):
            step()
        tries.append((time.process_time() - started) / 20)
    return min(tries)


def main() -> None:
    """Run all comparisons, print their tables and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", type=int, default=8, help="networks of each task, drawn from its search space")
    parser.add_argument("--rows", type=int, default=20_000, help="training samples")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch_size", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=4, help="turns of each way, with new seeds")
    parser.add_argument("--seed", type=int, default=0, help="of the draw of networks")
    options = parser.parse_args()
    workers = os.cpu_count() or 1
    results = {
        "machine": {"processor": platform.processor() or platform.machine(), "cores": workers, "load": os.getloadavg()},
        "options": vars(options),
        "tasks": {task: compare(task, options, workers) for task in TASKS},
        "steps": compare_steps("jet_classification", options.batch_size),
        "peak_memory_gb": {"500,000 jets of 8 particles from the official layout": peak_memory()},
    }
    print(table(results))
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")


def table(results: dict) -> str:
    """Return the results as Markdown."""
    lines = [
        "| task | way | trials/min | CPU s/trial | metric |",
        "|---|---|---|---|---|",
    ]
    for task, r in results["tasks"].items():
        for way, rate in r["trials_per_minute"].items():
            cpu, mean = r["cpu_seconds_per_trial"][way], r["mean_score"][way]
            lines.append(f"| {task} | {way} | {rate:.1f} | {cpu:.2f} | {r['metric']} {mean:.4f} |")
        difference = r["score_difference"]
        for way, gain in r["speedup"].items():
            lines.append(
                f"| {task} | engine / {way} | {gain:.1f}x | {r['cpu_speedup'][way]:.1f}x | "
                f"{difference['mean']:+.5f} ± {difference['standard_error']:.5f} |"
            )
    lines += [
        "",
        "| network | ms a step: torch | torch.func, 8 networks stacked, each | kernels |",
        "|---|---|---|---|",
    ]
    for r in results["steps"]:
        milliseconds = ("–" if value is None else f"{1e3 * value:.3f}" for value in r["seconds"].values())
        lines.append(f"| {r['network']} | {' | '.join(milliseconds)} |")
    lines += ["", *(f"peak memory, {name}: {gb:.2f} GB" for name, gb in results["peak_memory_gb"].items())]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
