"""Compare search algorithms by the hypervolume they reach.

    python -m benchmarks.search [--seeds 10] [--trials 1000] [--problems synthetic,digits,jets] [--algorithms …]

prints a table and writes `benchmarks/results/search.json`. Every method starts with the same random points. Optuna's
samplers are compared where Optuna is installed (`pip install -e .[benchmark]`).

The problems: `synthetic`, the hierarchical space of the task bragg_peak, with a cheap stand-in for training and exact
costs; `digits` and `jets`, tables of really trained networks (see `search_tables.py`); `dtlz2`, a standard one with
mixed variables. `jets_synthetic` and `jets_synthetic_limited`, as `synthetic` for the space of the jet task, served to
choose constants of the algorithms; no constant was chosen on the others.

    python -m benchmarks.search --halving     successive halving on the digits table, at equal epochs
    python -m benchmarks.search --timing      processor time of a suggestion with a long history
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from hyperopt import Domain, Trials, hp
from hyperopt.base import JOB_STATE_DONE

from benchmarks import search_tables
from codesign.core import plugins
from codesign.core.architecture import Architecture
from codesign.core.complexity import bops
from codesign.core.hypervolume import box, hypervolume_of
from codesign.core.layers import Activation, Conv2d, Layer, Linear, Norm, Parallel, Pool
from codesign.core.pareto import hypervolume, is_non_dominated
from codesign.core.space import SearchSpace
from codesign.core.task import Objective
from codesign.core.trial import Fidelity, Trial
from codesign.search.encoding import Dimension, encoding_of
from codesign.search.halving import Halving
from codesign.search.space import to_hyperopt
from codesign.search.study import run_study
from codesign.search.suggest import STARTUP, trial_documents

RESULTS = Path(__file__).parent / "results" / "search.json"
CHECKPOINTS = (50, 100, 200, 400, 1000)
DEFAULT = "portfolio"
COSTS = (10, 20, 40, 60)  # of the halving table, in trainings in full
TIMED = 100  # suggestions of the timing table
Values = Mapping[str, Any]


@dataclass(frozen=True)
class Problem:
    """What is minimized.

    Attributes:
        space: hyperopt's space.
        evaluate: Losses of a point, and by how much it breaks a limit, from its values by label.
        reference: Losses beyond which nothing counts; 0 is the best of each.
        is_checked_first: The violation is known before training, so that ours need not spend a trial on it. Optuna has
            no such check and spends one.
        best: Hypervolume of the true front, where it is known: what is reached is then a fraction of it.
    """

    space: Any
    evaluate: Callable[[Values], tuple[np.ndarray, float]]
    reference: np.ndarray
    is_checked_first: bool = False
    best: float | None = None


# -- problems --


def stand_in_for_training(architecture: Architecture) -> tuple[float, float, float]:
    """Return error, LUT and latency that behave as trained networks do, in microseconds instead of minutes.

    Width helps with diminishing returns and is lost in bottlenecks, depth needs nonlinearities and norms, very large
    networks overfit, and every architecture has luck of its own (0.4 % of the error, fixed by its digest).
    """
    error, narrowest, nonlinear, norms, depth, stages = 1.0, 64.0, 0.0, 0, 0, 0
    gains = {"relu": 1.0, "leaky_relu": 1.05, "gelu": 1.1, "identity": 0.0}
    for layer in _flat(architecture.layers):
        if isinstance(layer, Linear | Conv2d):
            width = layer.width if isinstance(layer, Linear) else layer.channels * layer.kernel[0]
            depth += 1
            error *= 1.0 - 0.16 * (1 - math.exp(-narrowest / 12)) * (1 - math.exp(-width / 20)) / math.sqrt(depth)
            narrowest = min(narrowest, width)
            stages += 2
        elif isinstance(layer, Activation):
            nonlinear += gains.get(layer.kind, 1.0)
            stages += 0 if layer.kind == "identity" else 1
        elif isinstance(layer, Norm):
            norms += 1
        elif isinstance(layer, Pool):
            error *= {"mean": 0.93, "max": 0.96}.get(layer.kind, 1.0)
            stages += 3
    error *= 1.0 - 0.12 * math.tanh(nonlinear / 3) + 0.03 * abs(norms - depth / 2) / max(depth, 1)
    parameters, macs = architecture.parameters(), architecture.macs()
    error *= 1.0 + 0.05 * max(0.0, math.log10(max(parameters, 1) / 20_000))
    luck = int(architecture.digest[:8], 16) / 2**32 - 0.5
    return 0.4 * error * (1 + 0.008 * luck), 9.0 * macs**0.97, stages + 0.5 * math.log2(max(parameters, 2))


def _flat(layers: tuple[Layer, ...]) -> list[Layer]:
    return [
        inner
        for layer in layers
        for inner in ([x for b in layer.branches for x in _flat(b)] if isinstance(layer, Parallel) else [layer])
    ]


def of_space(space: SearchSpace, largest_lut: float, *, is_limited: bool) -> Problem:
    """Return the problem of a real search space; the logarithm of the LUT count is what is minimized."""

    @functools.lru_cache(maxsize=100_000)
    def measure(choices: tuple[tuple[str, int], ...]) -> tuple[np.ndarray, float]:
        error, lut, latency = stand_in_for_training(space.fill_from(dict(choices)))
        scaled = [error / 0.4, math.log(max(lut, 100) / 100) / math.log(largest_lut / 100), latency / 40]
        return np.array(scaled), max(0.0, lut / largest_lut - 1) if is_limited else 0.0

    reference = np.array([1.0, 1.0 if is_limited else 1.3, 1.0])
    return Problem(
        to_hyperopt(space),
        lambda values: measure(tuple(sorted(values.items()))),
        reference,
        is_checked_first=is_limited,
    )


def dtlz2() -> Problem:
    """Return DTLZ2 with three objectives, six continuous and six discrete variables.

    Source: Deb et al., Scalable test problems for evolutionary multiobjective optimization, 2005, section 6.7.
    """
    space = {f"x{i}": hp.uniform(f"x{i}", 0, 1) if i < 6 else hp.randint(f"x{i}", 0, 11) for i in range(12)}

    def evaluate(values: Values) -> tuple[np.ndarray, float]:
        x = np.array([values[f"x{i}"] / (1 if i < 6 else 10) for i in range(12)])
        distance = 1 + float(((x[2:] - 0.5) ** 2).sum())
        a, b = x[0] * math.pi / 2, x[1] * math.pi / 2
        losses = [math.cos(a) * math.cos(b), math.cos(a) * math.sin(b), math.sin(a)]
        return distance * np.array(losses), 0.0

    return Problem(space, evaluate, np.full(3, 1.1))


def of_table(name: str, worst_error: float) -> Problem:
    """Return the problem of a table of trained networks: error, logarithm of the bit operations at 8 bits, layers.

    Both costs reach from 0 to 1 over the table, the error from the best to `worst_error`.
    """
    table = search_tables.read(name)
    architectures = [table.space.fill_from(choices) for choices in table.choices]
    errors = np.nan_to_num(table.errors[:, -1], nan=1.0)
    operations = np.log([bops(a, 8) for a in architectures])
    depth = np.array([sum(isinstance(layer, Linear) for layer in a.layers) for a in architectures])
    columns = (errors, errors.min(), worst_error), (operations, *_ends(operations)), (depth, 0, depth.max() + 1)
    losses = np.column_stack([(column - low) / (high - low) for column, low, high in columns])
    best = hypervolume(losses, np.ones(3))

    def evaluate(values: Values) -> tuple[np.ndarray, float]:
        return losses[table.rows[tuple(sorted((k, int(v)) for k, v in values.items()))]], 0.0

    return Problem(to_hyperopt(table.space), evaluate, np.ones(3), best=best)


def _ends(values: np.ndarray) -> tuple[float, float]:
    return float(values.min()), float(values.max())


def problems() -> dict[str, Callable[[], Problem]]:
    """Return the problems by name."""

    def task(reference: str, largest_lut: float, *, is_limited: bool = False) -> Callable[[], Problem]:
        return lambda: of_space(plugins.load_task(reference).space, largest_lut, is_limited=is_limited)

    return {
        "synthetic": task("bragg_peak", 1e6),
        "digits": lambda: of_table("digits", 0.2),
        "jets": lambda: of_table("jets", 0.7),
        "dtlz2": dtlz2,
        "jets_synthetic": task("jet_classification:space=deep_sets", 1e6),
        "jets_synthetic_limited": task("jet_classification:space=deep_sets", 3e4, is_limited=True),
    }


# -- methods --


@dataclass
class Course:
    """Losses of every trial in order (NaN where infeasible), and processor seconds that suggestions took."""

    losses: list[np.ndarray]
    seconds: list[float]

    def add(self, losses: np.ndarray, violation: float, seconds: float) -> None:
        self.losses.append(losses if violation == 0 else np.full_like(losses, np.nan))
        self.seconds.append(seconds)


def ours(algorithm: str, problem: Problem, trials: int, seed: int) -> Course:
    """Run one of our algorithms through hyperopt's plug-in interface."""
    suggest = plugins.load("search/algorithms", algorithm).suggest
    accepts = (lambda values: problem.evaluate(values)[1] == 0) if problem.is_checked_first else None
    domain, history, course = Domain(lambda point: 0.0, problem.space), Trials(), Course([], [])
    for number, first in enumerate(_first(domain, trials, seed)):
        _evaluate(problem, history, trial_documents(number, first, domain, history), course, 0.0)
    for number in range(len(course.losses), trials):
        start = time.process_time()
        docs = suggest([number], domain, history, seed * 100_003 + number, accepts)
        _evaluate(problem, history, docs, course, time.process_time() - start)
    return course


def _first(domain: Domain, trials: int, seed: int) -> list[dict[str, Any]]:
    """Return the random points with which every method starts."""
    encoding, rng = encoding_of(domain), np.random.default_rng(seed)
    return [encoding.decode(encoding.sample(rng)) for _ in range(min(STARTUP, trials))]


def _evaluate(problem: Problem, history: Trials, docs: list[dict[str, Any]], course: Course, seconds: float) -> None:
    values = {label: v[0] for label, v in docs[0]["misc"]["vals"].items() if len(v)}
    losses, violation = problem.evaluate(values)
    docs[0]["state"] = JOB_STATE_DONE
    docs[0]["result"] = {"status": "ok", "loss": losses[0], "losses": losses.tolist(), "violation": violation}
    history.insert_trial_docs(docs)
    history.refresh()
    course.add(losses, violation, seconds)


def optuna_sampler(name: str, problem: Problem, trials: int, seed: int) -> Course:
    """Let one of Optuna's samplers walk the same space, parents first, with the same first points."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)

    domain, course = Domain(lambda point: 0.0, problem.space), Course([], [])
    dimensions = encoding_of(domain).dimensions
    samplers = {
        "optuna_nsga2": lambda: optuna.samplers.NSGAIISampler(seed=seed),
        "optuna_tpe": lambda: optuna.samplers.TPESampler(seed=seed, n_startup_trials=STARTUP),
    }
    study = optuna.create_study(directions=["minimize"] * len(problem.reference), sampler=samplers[name]())
    for first in _first(domain, trials, seed):
        study.enqueue_trial(first)
    for _ in range(trials):
        start = time.process_time()
        trial, row = study.ask(), np.full(len(dimensions), np.nan)
        for i, dimension in enumerate(dimensions):
            if dimension.is_active(row):
                row[i] = dimension.number(_optuna_value(trial, dimension))
        seconds = time.process_time() - start
        losses, violation = problem.evaluate(encoding_of(domain).decode(row))
        trial.set_constraint("violation", violation)
        study.tell(trial, losses.tolist())
        course.add(losses, violation, seconds)
    return course


def _optuna_value(trial: Any, dimension: Dimension) -> float:
    if not dimension.options:
        return trial.suggest_float(dimension.label, *dimension.arguments)
    if dimension.is_ordered:
        return trial.suggest_int(dimension.label, 0, dimension.options - 1)
    return trial.suggest_categorical(dimension.label, list(range(dimension.options)))


METHODS: dict[str, Callable[[Problem, int, int], Course]] = {
    name: functools.partial(ours, name) for name in plugins.names("search/algorithms")
}
if importlib.util.find_spec("optuna") is not None:
    METHODS |= {name: functools.partial(optuna_sampler, name) for name in ("optuna_nsga2", "optuna_tpe")}


# -- the tables --


def volumes(course: Course, problem: Problem, checkpoints: list[int]) -> list[float]:
    """Return the hypervolume after each checkpoint, as a fraction of the best, or of the box up to the reference."""
    values = []
    for count in checkpoints:
        losses = np.array(course.losses[:count])
        values.append(hypervolume(losses[is_non_dominated(losses)], problem.reference))
    return [value / (problem.best or float(np.prod(problem.reference))) for value in values]


def compare(names: list[str], wanted: list[str], trials: int, seeds: int) -> list[dict[str, Any]]:
    """Return one row per problem and method, and print it: mean and standard deviation over seeds at checkpoints.

    `wins` counts the seeds on which the default is ahead of the method, at each checkpoint.
    """
    checkpoints = [c for c in CHECKPOINTS if c <= trials] or [trials]
    rows: list[dict[str, Any]] = []
    print(f"{'problem':10s} {'method':13s} " + " ".join(f"{c:>13d}" for c in checkpoints) + "  CPU ms  default ahead")
    for name in names:
        problem, default = problems()[name](), np.empty(0)
        for method in sorted(wanted, key=lambda m: m != DEFAULT):
            courses = [METHODS[method](problem, trials, seed) for seed in range(seeds)]
            found = np.array([volumes(course, problem, checkpoints) for course in courses])
            default = found if method == DEFAULT else default
            row = {
                "problem": name,
                "method": method,
                "trials": checkpoints,
                "mean": found.mean(axis=0).round(5).tolist(),
                "std": found.std(axis=0, ddof=min(1, seeds - 1)).round(5).tolist(),
                "wins": (default > found).sum(axis=0).tolist() if len(default) and method != DEFAULT else [],
                "milliseconds": round(1e3 * float(np.mean([c.seconds[STARTUP:] for c in courses])), 2),
            }
            rows.append(row)
            cells = " ".join(f"{m:7.4f}±{s:.3f}" for m, s in zip(row["mean"], row["std"], strict=True))
            print(f"{name:10s} {method:13s} {cells} {row['milliseconds']:7.1f}  {row['wins']}", flush=True)
    return rows


def halving_table(seeds: int) -> list[dict[str, Any]]:
    """Return and print what studies on the digits table reach at equal cost, with and without successive halving.

    The cost counts trainings in full: epochs times the fraction of the data.
    """
    table = search_tables.read("digits")
    rows_of = {table.space.fill_from(c).digest: i for i, c in enumerate(table.choices)}
    full = table.fidelities[-1]
    objectives = (Objective("error"), Objective("bops"))

    def evaluate(architecture: Architecture, fidelity: Fidelity, seed: int, number: int) -> dict[str, float]:
        error = table.errors[rows_of[architecture.digest], table.fidelities.index(fidelity)]
        return {"error": float(error), "bops": math.log(bops(architecture, 8))}

    everything = [
        Trial(i, a, 0, full, evaluate(a, full, 0, 0))
        for i, a in enumerate(table.space.fill_from(c) for c in table.choices)
    ]
    (least_error, least_bops), (_, most_bops) = box(everything, objectives)
    corners = np.array([least_error, least_bops]), np.array([0.2, most_bops])
    best = hypervolume_of(everything, objectives, corners)
    rows = []
    for rungs in (1, 2, 3):
        plan = Halving(table.fidelities[-rungs:])
        reached = []
        for seed in range(seeds):
            study = run_study(table.space, objectives, evaluate, trials=60 * 3**(rungs - 1), seed=seed, fidelity=full,
                              halving=plan, progress=False)  # fmt: skip
            costs = np.cumsum([t.fidelity.epochs * t.fidelity.data_fraction for t in study.trials]) / full.epochs
            counts = [int(np.searchsorted(costs, cost, side="right")) for cost in COSTS]
            reached.append([hypervolume_of(study.trials[:n], objectives, corners) / best for n in counts])
        mean, std = np.mean(reached, axis=0), np.std(reached, axis=0, ddof=min(1, seeds - 1))
        rows.append({"rungs": rungs, "cost": COSTS, "mean": mean.round(5).tolist(), "std": std.round(5).tolist()})
        cells = "  ".join(f"{c}: {m:.4f}±{s:.3f}" for c, m, s in zip(COSTS, mean, std, strict=True))
        print(f"digits, {rungs} rung(s), hypervolume at a cost of {cells}", flush=True)
    return rows


def timing_table() -> list[dict[str, Any]]:
    """Return and print CPU milliseconds a suggestion, models included, after long histories in a space of 43 holes."""
    problem, rows = of_space(plugins.load_task("bragg_peak:space=paper").space, 3e7, is_limited=False), []
    for algorithm in plugins.names("search/algorithms"):
        suggest = plugins.load("search/algorithms", algorithm).suggest
        for count in (500, 1000, 2000):
            domain, history, course = Domain(lambda point: 0.0, problem.space), Trials(), Course([], [])
            encoding, rng = encoding_of(domain), np.random.default_rng(0)
            for number in range(count):
                values = encoding.decode(encoding.sample(rng))
                _evaluate(problem, history, trial_documents(number, values, domain, history), course, 0.0)
            suggest([count], domain, history, 0)  # reads the history once
            start = time.process_time()
            for number in range(count, count + TIMED):
                docs = suggest([number], domain, history, number)
                _evaluate(problem, history, docs, course, 0.0)
            milliseconds = 1e3 * (time.process_time() - start) / TIMED
            rows.append({"algorithm": algorithm, "history": count, "milliseconds": round(milliseconds, 2)})
            print(f"{algorithm:10s} {count:5d} trials: {milliseconds:6.2f} ms a suggestion", flush=True)
    return rows


def main() -> None:
    """Run the comparison, or one of the other tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--problems", default="synthetic,digits,jets")
    parser.add_argument("--algorithms", default=",".join(METHODS))
    parser.add_argument("--halving", action="store_true")
    parser.add_argument("--timing", action="store_true")
    parser.add_argument("--output", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    content = json.loads(arguments.output.read_text()) if arguments.output.exists() else {}
    if arguments.halving:
        content["halving"] = {"seeds": arguments.seeds, "table": halving_table(arguments.seeds)}
    elif arguments.timing:
        content["timing"] = timing_table()
    else:
        names, wanted = arguments.problems.split(","), arguments.algorithms.split(",")
        for name in names:  # each is written when it is done: a table takes a while
            table = compare([name], wanted, arguments.trials, arguments.seeds)
            content[name] = {"seeds": arguments.seeds, "table": table}
            arguments.output.parent.mkdir(parents=True, exist_ok=True)
            arguments.output.write_text(json.dumps(content, indent=1) + "\n")
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
