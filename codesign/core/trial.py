"""A trial: one architecture trained once at one fidelity."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from codesign.core.architecture import Architecture
from codesign.core.task import Objective


@dataclass(frozen=True)
class Fidelity:
    """How much a trial may cost: epochs, and the fraction of the training set."""

    epochs: int
    data_fraction: float = 1.0


@dataclass(frozen=True)
class Trial:
    """One architecture with its metrics, or with the reason why there are none.

    Attributes:
        number: Position in the study, from 0.
        metrics: Finite numbers by metric key; empty for a failed trial.
        failure: Why the trial has no metrics; empty for a finished one.
        violations: The limits that the trial breaks, in words; a trial with any is infeasible.
        choices: Index of the option taken for each active hole of the space (empty for a given architecture).
        is_partial: It was trained at less than the full fidelity of its study, so that it is no part of a front.
    """

    number: int
    architecture: Architecture
    seed: int
    fidelity: Fidelity
    metrics: Mapping[str, float] = field(default_factory=dict)
    failure: str = ""
    violations: tuple[str, ...] = ()
    choices: Mapping[str, int] = field(default_factory=dict)
    is_partial: bool = False

    @property
    def is_candidate(self) -> bool:
        """True if the trial may be part of a front: finished in full, within every limit."""
        return self.is_feasible and not self.is_partial

    @property
    def is_feasible(self) -> bool:
        """True if the trial finished and keeps every limit."""
        return not self.failure and not self.violations

    def judged(self, objectives: Sequence[Objective]) -> Trial:
        """Return the trial with its violated limits filled in."""
        broken = [o for o in objectives if not self.failure and o.violation(self.metrics) > 0]
        return replace(
            self, violations=tuple(f"{o.metric} is {self.metrics[o.metric]:g}, limit {o.limit:g}" for o in broken)
        )

    def to_json(self) -> str:
        """Return one line of JSON."""
        content: dict[str, Any] = dict(vars(self)) | {
            "architecture": json.loads(self.architecture.to_json()),
            "fidelity": vars(self.fidelity),
            "metrics": dict(self.metrics),
            "choices": dict(self.choices),
        }
        return json.dumps(content, sort_keys=True, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Trial:
        """Return the trial that `to_json` wrote."""
        content = json.loads(text)
        content["architecture"] = Architecture.from_json(json.dumps(content["architecture"]))
        content["fidelity"] = Fidelity(**content["fidelity"])
        content["violations"] = tuple(content["violations"])
        return cls(**content)
