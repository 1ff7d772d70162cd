"""A task: everything a physicist states about a problem, in one record made by one file."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from codesign.core.architecture import Architecture
from codesign.core.errors import DataError, InvalidValueError
from codesign.core.layers import Shape
from codesign.core.space import SearchSpace

_LIMIT = re.compile(r"^\s*(?P<metric>\w+)\s*(?:(?P<sign><=|>=)\s*(?P<limit>[-+.\deE]+))?\s*$")


@dataclass(frozen=True)
class Objective:
    """A metric to be minimized or maximized, with an optional limit that a feasible trial keeps.

    Attributes:
        metric: Metric key, the same string everywhere.
        goal: Direction that is better; a limit is an upper one for "min" and a lower one for "max".
        limit: Largest (goal "min") or smallest (goal "max") value allowed.
        is_ranked: False for a metric that is limited but not part of the Pareto front.
    """

    metric: str
    goal: Literal["min", "max"] = "min"
    limit: float | None = None
    is_ranked: bool = True

    def cost(self, metrics: Mapping[str, float]) -> float:
        """Return the metric's value with the sign that makes smaller better."""
        return metrics[self.metric] if self.goal == "min" else -metrics[self.metric]

    def violation(self, metrics: Mapping[str, float]) -> float:
        """Return by what fraction of the limit the metric breaks it (0.0 if it keeps it or has none)."""
        if self.limit is None:
            return 0.0
        excess = (metrics[self.metric] - self.limit) * (1 if self.goal == "min" else -1)
        return max(0.0, excess / (abs(self.limit) or 1.0))

    def __str__(self) -> str:
        sign = "<=" if self.goal == "min" else ">="
        return f"{self.goal} {self.metric}" + ("" if self.limit is None else f" {sign} {self.limit:g}")


class Split(NamedTuple):
    """One part of the data: `inputs` float32 (n, *input_shape); `targets` int64 (n,) or float32 (n, outputs)."""

    inputs: np.ndarray
    targets: np.ndarray


@dataclass(frozen=True)
class Data:
    """What `Task.load` returns. Validation chooses; the test split is touched once, at the end.

    Attributes:
        source: What the data is, in words, with its origin.
        is_simulation: True unless it is the official data set.
        digest: sha256 that identifies the data's content.
        preprocessing: JSON-ready description of what a host does to raw values before the network sees them.
    """

    train: Split
    validation: Split
    test: Split
    source: str
    is_simulation: bool
    digest: str
    preprocessing: dict[str, Any] = field(default_factory=dict)

    def check(self, task: Task) -> Data:
        """Return self if every array fits the task.

        Raises:
            DataError: A split is empty, of the wrong shape or type, or holds NaN or infinite values.
        """
        for name in ("train", "validation", "test"):
            inputs, targets = getattr(self, name)
            if inputs.shape[1:] != task.input_shape or not len(inputs) or len(inputs) != len(targets):
                raise DataError(
                    f"The {name} data of {task.name} has inputs {inputs.shape} and targets {targets.shape}; "
                    f"allowed: one or more rows of {task.input_shape}, as many targets. Check the data file."
                )
            bad = sum(int((~np.isfinite(a)).sum()) for a in (inputs, targets))
            if bad:
                raise DataError(
                    f"The {name} data of {task.name} holds {bad} NaN or infinite values; remove these rows."
                )
        return self


@dataclass(frozen=True)
class Task:
    """A physics problem to find firmware for.

    Attributes:
        name: The reference that finds it: name of its folder, with options, as `load_task` takes it.
        title: One line for a person.
        input_shape: Shape of one sample, without the batch, channels last.
        input_meaning: Names of the entries of the last input axis, with units.
        output_meaning: Names of the outputs (classes or quantities, with units).
        load: Returns the data, from official files in the folder given, else a simulation.
        loss: Training loss: "cross_entropy" takes class indices, "mse" and "l1" real targets.
        score: Metrics of real outputs (n, outputs) against targets, numpy, such as {"accuracy": 0.7, "error": 0.3}.
        objectives: What the search optimizes and limits.
        space: The hierarchical search space.
        baselines: Known architectures by name, with which results are compared.
        source: Where task, data and metric come from (DOI).
        augment: Optional; takes and returns a batch (inputs, targets) of torch tensors on their device.
        default_bits: Width of weights and activations where nothing else is said.
        default_dataflow: Likewise, how hardware takes an input: "parallel" at once, "streaming" position by position.
    """

    name: str
    title: str
    input_shape: Shape
    input_meaning: tuple[str, ...]
    output_meaning: tuple[str, ...]
    load: Callable[[Path], Data]
    loss: Literal["cross_entropy", "mse", "l1"]
    score: Callable[[np.ndarray, np.ndarray], dict[str, float]]
    objectives: tuple[Objective, ...]
    space: SearchSpace
    baselines: Mapping[str, Architecture]
    source: str
    augment: Callable[[Any, Any], tuple[Any, Any]] | None = None
    default_bits: int = 8
    default_dataflow: Literal["parallel", "streaming"] = "parallel"

    @property
    def slug(self) -> str:
        """Name for experiments, registered models and files."""
        return slug(self.name)


def slug(reference: str) -> str:
    """Return a task's reference with letters, digits, dashes and underscores only."""
    return re.sub(r"[^\w-]+", "-", reference)


def parse_objectives(text: str) -> tuple[Objective, ...]:
    """Return the objectives of a text such as "error, lut_estimate<=30000, accuracy>=0.6".

    A metric with >= is maximized, all others minimized.

    Raises:
        InvalidValueError: A part is not a metric with an optional limit.
    """
    objectives = []
    for part in text.split(","):
        match = _LIMIT.match(part)
        try:
            limit = float(match["limit"]) if match and match["limit"] else None
        except ValueError:
            match = None
        if not match:
            raise InvalidValueError(
                f"An objective reads {part.strip()!r}; "
                "allowed: a metric, or a metric with a limit such as lut_estimate<=30000."
            )
        objectives.append(Objective(match["metric"], "max" if match["sign"] == ">=" else "min", limit))
    return tuple(objectives)
