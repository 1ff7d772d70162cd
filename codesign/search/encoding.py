"""Any hyperopt space as a flat conditional vector, and any hyperopt history as arrays: what the algorithms work on.

A row holds one number per dimension: an option's index, or the place in [0, 1] of a continuous value under its
distribution; NaN where the dimension is not active.
"""

from __future__ import annotations

import itertools
import math
import weakref
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from statistics import NormalDist
from typing import Any

import numpy as np
from hyperopt import STATUS_OK, Domain, Trials
from hyperopt.base import JOB_STATE_DONE, JOB_STATE_ERROR
from hyperopt.pyll.base import Apply, MissingArgument, rec_eval

from codesign.core.errors import UnsupportedError
from codesign.core.pareto import is_non_dominated

_CONTINUOUS = ("uniform", "loguniform", "normal", "lognormal")
_EDGE = 1e-9  # a normal distribution has no value at 0 and 1


@dataclass(frozen=True)
class Dimension:
    """One label of a space.

    Attributes:
        distribution: hyperopt's name of it, without the q of a quantized one.
        arguments: Lowest value of integers; low and high, or mean and standard deviation, of continuous values.
        step: Grid of a quantized continuous value; 0 if it has none.
        prior: Probability of each option; empty if continuous.
        is_ordered: Neighboring options are alike: an index with a lower bound, or a continuous value.
        conditions: The dimension is active if in any of these all pairs hold: (position of a dimension, its option).
    """

    label: str
    distribution: str
    arguments: tuple[float, ...]
    step: float
    prior: tuple[float, ...]
    is_ordered: bool
    conditions: tuple[tuple[tuple[int, int], ...], ...]

    @property
    def options(self) -> int:
        """Number of options; 0 if continuous."""
        return len(self.prior)

    @cached_property
    def parents(self) -> tuple[int, ...]:
        """Positions of the dimensions that decide whether this one is active."""
        return tuple({position for condition in self.conditions for position, _ in condition})

    def is_active(self, row: np.ndarray) -> bool:
        """Return whether the dimension takes part, given the dimensions before it."""
        return any(all(row[position] == option for position, option in condition) for condition in self.conditions)

    def draw(self, rng: np.random.Generator) -> float:
        """Return a number of the row at random."""
        if not self.options:
            return float(rng.random())
        return float(np.searchsorted(np.cumsum(self.prior)[:-1], rng.random(), side="right"))

    def value(self, number: float) -> int | float:
        """Return hyperopt's value of a number of the row."""
        if self.options:
            return int(number + self.arguments[0])
        a, b = self.arguments
        if "normal" in self.distribution:
            value = NormalDist(a, b).inv_cdf(min(max(number, _EDGE), 1 - _EDGE))
        else:
            value = a + number * (b - a)
        value = math.exp(value) if self.distribution.startswith("log") else value
        return round(value / self.step) * self.step if self.step else value

    def number(self, value: float) -> float:
        """Return the number of the row that stands for hyperopt's value."""
        if self.options:
            return float(value - self.arguments[0])
        a, b = self.arguments
        if self.distribution.startswith("log"):
            value = math.log(max(value, 1e-300))
        number = NormalDist(a, b).cdf(value) if "normal" in self.distribution else (value - a) / (b - a)
        return min(max(number, 0.0), 1.0)


@dataclass(frozen=True)
class Encoding:
    """The dimensions of a hyperopt space, parents before what they decide on."""

    dimensions: tuple[Dimension, ...]

    def sample(self, rng: np.random.Generator) -> np.ndarray:
        """Return a random row, as hyperopt's own random search draws it."""
        row = np.full(len(self.dimensions), np.nan)
        for i, dimension in enumerate(self.dimensions):
            if dimension.is_active(row):
                row[i] = dimension.draw(rng)
        return row

    def decode(self, row: np.ndarray) -> dict[str, int | float]:
        """Return hyperopt's values of the active labels."""
        return {d.label: d.value(x) for d, x in zip(self.dimensions, row, strict=True) if not math.isnan(x)}

    def encode(self, values: Mapping[str, float]) -> np.ndarray:
        """Return the row of hyperopt's values (inactive labels are missing)."""
        return np.array([d.number(values[d.label]) if d.label in values else math.nan for d in self.dimensions])


Run = tuple[np.ndarray, tuple[float, ...], float]  # a point, its losses (none if it failed), its violation


@dataclass(frozen=True)
class History:
    """What is known when a suggestion is due. Of several runs of one point, the last one counts.

    Attributes:
        points: Finished trials (n, dimensions), oldest first.
        losses: Their losses (n, objectives), all minimized; NaN for a failed trial.
        violations: By how much each breaks its limits (n,); 0 for none, infinite for a failed trial.
        pending: Trials that are being evaluated (m, dimensions).
        feasible_front: Rows that no other feasible row dominates.
        runs: Every finished run, oldest first.
        memory: What an algorithm keeps between calls; it may depend on the runs alone.
        keys: Bytes of every row of `points`.
    """

    points: np.ndarray
    losses: np.ndarray
    violations: np.ndarray
    pending: np.ndarray
    feasible_front: np.ndarray
    runs: tuple[Run, ...] = field(repr=False)
    memory: dict[Any, Any] = field(repr=False, compare=False)
    keys: frozenset[bytes] = field(repr=False)

    def __len__(self) -> int:
        return len(self.points)

    @cached_property
    def seen(self) -> frozenset[bytes]:
        """Bytes of every row of `points` and `pending`."""
        return self.keys | {row.tobytes() for row in self.pending}

    def first(self, runs: int) -> History:
        """Return the history as it was after the first `runs` of its runs."""
        return as_history(self.runs[:runs], self.points.shape[1], self.memory)

    def after(self, runs: Sequence[Run]) -> History:
        """Return the history with further runs, at a cost that grows little with what there is if all are new points.

        The front of all is the front of the old front and the new points.
        """
        new = as_history(runs, self.points.shape[1], self.memory)
        joined = (*self.runs, *runs)
        if len(self) == 0 or new.keys & self.keys or new.losses.shape[1] != self.losses.shape[1]:
            return as_history(joined, self.points.shape[1], self.memory)
        losses = np.concatenate([self.losses, new.losses])
        best = np.concatenate([self.feasible_front, len(self) + new.feasible_front])
        return History(
            np.concatenate([self.points, new.points]),
            losses,
            np.concatenate([self.violations, new.violations]),
            self.pending,
            best[is_non_dominated(losses[best])],
            joined,
            self.memory,
            self.keys | new.keys,
        )


def as_history(runs: Sequence[Run], dimensions: int, memory: dict[Any, Any]) -> History:
    """Return the history of finished runs, oldest first."""
    last = {run[0].tobytes(): run for run in runs}
    objectives = max((len(losses) for _, losses, _ in last.values()), default=0) or 1
    points = np.array([point for point, _, _ in last.values()]).reshape(len(last), dimensions)
    losses = np.array([v or (math.nan,) * objectives for _, v, _ in last.values()]).reshape(len(last), objectives)
    violations = np.array([v for _, _, v in last.values()], dtype=float)
    feasible = np.flatnonzero(violations == 0)
    front = feasible[is_non_dominated(losses[feasible])]
    return History(points, losses, violations, points[:0], front, tuple(runs), memory, frozenset(last))


def encoding_of(domain: Domain) -> Encoding:
    """Return the flat conditional vector of a hyperopt space (computed once for each domain).

    Raises:
        UnsupportedError: The space has a distribution that is not known here.
    """
    if domain not in _encodings:
        _encodings[domain] = _encode(domain)
    return _encodings[domain]


_encodings: weakref.WeakKeyDictionary[Domain, Encoding] = weakref.WeakKeyDictionary()


def _encode(domain: Domain) -> Encoding:
    found: dict[str, tuple[Apply, set[_Conditions]]] = {}
    _walk(domain.expr, (), found)
    labels = sorted(found, key=lambda label: max(map(len, found[label][1])))
    positions = {label: i for i, label in enumerate(labels)}
    dimensions = []
    for label in labels:
        node, conditions = found[label]
        places = sorted(tuple((positions[name], option) for name, option in condition) for condition in conditions)
        dimensions.append(_dimension(label, node, tuple(places)))
    return Encoding(tuple(dimensions))


_Conditions = tuple[tuple[str, int], ...]


def _walk(node: Apply, conditions: _Conditions, found: dict[str, tuple[Apply, set[_Conditions]]]) -> None:
    """Collect each label with its distribution and the conditions of every path to it.

    `hyperopt.pyll_utils.expr_to_config` does the same, but fails on hp.pchoice.
    """
    if node.name == "hyperopt_param":
        found.setdefault(node.arg["label"].obj, (node.arg["obj"], set()))[1].add(conditions)
    elif node.name == "switch":
        index, *options = node.inputs()
        _walk(index, conditions, found)
        for i, option in enumerate(options):
            _walk(option, (*conditions, (index.arg["label"].obj, i)), found)
    else:
        for part in node.inputs():
            _walk(part, conditions, found)


def _dimension(label: str, node: Apply, conditions: tuple[tuple[tuple[int, int], ...], ...]) -> Dimension:
    arguments = {k: rec_eval(v) for k, v in node.arg.items() if v is not MissingArgument and k not in ("rng", "size")}
    name = node.name.removeprefix("q")
    if name == "randint":
        is_ordered = arguments.get("high") is not None
        low, high = (arguments["low"], arguments["high"]) if is_ordered else (0, arguments["low"])
        return Dimension(label, name, (low,), 0.0, (1 / (high - low),) * (high - low), is_ordered, conditions)
    if name == "categorical":
        return Dimension(label, name, (0,), 0.0, tuple(map(float, arguments["p"])), False, conditions)
    if name in _CONTINUOUS:
        keys = ("mu", "sigma") if "normal" in name else ("low", "high")
        bounds = tuple(float(arguments[k]) for k in keys)
        return Dimension(label, name, bounds, float(arguments.get("q", 0.0)), (), True, conditions)
    raise UnsupportedError(
        f"Label {label!r} has the distribution {node.name}; allowed: choice, pchoice, randint, "
        "(q)uniform, (q)loguniform, (q)normal and (q)lognormal."
    )


def history_of(domain: Domain, trials: Trials) -> History:
    """Return the history of a search.

    A result may hold `losses` (one per objective, all minimized) beside hyperopt's `loss`, and `violation` (0 where
    every limit is kept). What has ended is remembered per trials object: a call costs little with a long history.
    """
    encoding = encoding_of(domain)
    width = len(encoding.dimensions)
    done, past = _remembered.get(trials) or (0, as_history((), width, {}))
    docs = trials.trials
    leading = list(itertools.takewhile(_has_ended, docs[done:]))
    if leading:
        past = past.after([_run(encoding, doc) for doc in leading])
        done += len(leading)
        _remembered[trials] = (done, past)
    late = [_run(encoding, doc) for doc in docs[done:] if _has_ended(doc)]
    pending = [encoding.encode(_values(doc)) for doc in docs[done:] if not _has_ended(doc)]
    return replace(past.after(late) if late else past, pending=np.array(pending).reshape(len(pending), width))


# By trials object: how many leading documents have ended, and their history.
_remembered: weakref.WeakKeyDictionary[Trials, tuple[int, History]] = weakref.WeakKeyDictionary()


def _has_ended(doc: Mapping[str, Any]) -> bool:
    return doc["state"] in (JOB_STATE_DONE, JOB_STATE_ERROR)


def _values(doc: Mapping[str, Any]) -> dict[str, float]:
    return {label: values[0] for label, values in doc["misc"]["vals"].items() if len(values)}


def _run(encoding: Encoding, doc: Mapping[str, Any]) -> Run:
    result = doc["result"]
    losses = result.get("losses", [result["loss"]] if result.get("loss") is not None else [])
    row = encoding.encode(_values(doc))
    if doc["state"] == JOB_STATE_ERROR or result.get("status") != STATUS_OK or not np.isfinite(losses).all():
        return row, (), math.inf
    return row, tuple(map(float, losses)), float(result.get("violation", 0.0))


def fronts(history: History) -> Iterator[np.ndarray]:
    """Yield the rows of the history front by front, best first, failed trials left out.

    Feasible trials come by rank of non-domination, then infeasible ones by violation.

    Source: Deb et al., A fast and elitist multiobjective genetic algorithm: NSGA-II, IEEE TEC 6 (2002), section VI.A.
    """
    if len(history.feasible_front):
        yield history.feasible_front
    left = np.setdiff1d(np.flatnonzero(history.violations == 0), history.feasible_front)
    while len(left):
        mask = is_non_dominated(history.losses[left])
        yield left[mask]
        left = left[~mask]
    infeasible = np.flatnonzero((history.violations > 0) & np.isfinite(history.violations))
    for violation in np.unique(history.violations[infeasible]):
        yield infeasible[history.violations[infeasible] == violation]
