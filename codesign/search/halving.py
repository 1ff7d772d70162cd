"""Successive halving with several objectives: most architectures get a small part of the training, the best go on.

Source: Schmucker et al., Multi-objective asynchronous successive halving, arXiv 2106.12639, algorithm 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from codesign.core.errors import InvalidValueError
from codesign.core.pareto import non_domination_rank
from codesign.core.task import Objective
from codesign.core.trial import Fidelity, Trial


@dataclass(frozen=True)
class Halving:
    """How training is rationed.

    Attributes:
        rungs: Fidelities from the smallest to the full one.
        eta: One in `eta` of a rung's trials goes on to the next rung.
        control: Fraction of architectures that are trained in full at once, to see what halving misses.
    """

    rungs: tuple[Fidelity, ...]
    eta: int = 3
    control: float = 0.1

    def __post_init__(self) -> None:
        if self.eta < 2:
            raise InvalidValueError(f"Halving has eta {self.eta}; allowed: 2 or more.")
        if not 0 <= self.control <= 1:
            raise InvalidValueError(f"Halving has a control fraction of {self.control}; allowed: 0 to 1.")


def halving(full: Fidelity, *, rungs: int = 3, eta: int = 3, least_data: float = 0.25) -> Halving:
    """Return the rungs below full fidelity: `eta` times fewer epochs each, on a smaller part of the training set.

    Args:
        full: Fidelity of the last rung.
        rungs: Number of rungs; fewer are returned if there are not enough epochs.
        eta: See `Halving`.
        least_data: Fraction of the training set on the lowest rung; it grows geometrically to the full one.
    """
    if rungs < 1:
        raise InvalidValueError(f"Halving has {rungs} rungs; allowed: 1 or more.")
    found: list[Fidelity] = []
    for below in range(rungs):
        data = full.data_fraction * least_data ** (below / max(1, rungs - 1))
        fidelity = Fidelity(max(1, round(full.epochs / eta**below)), data)
        if not found or fidelity.epochs < found[-1].epochs:
            found.append(fidelity)
    return Halving(tuple(reversed(found)), eta)


def promoted(
    trials: Sequence[Trial], running: set[tuple[str, Fidelity]], objectives: Sequence[Objective], plan: Halving
) -> tuple[Trial, Fidelity] | None:
    """Return a trial that goes on to the next rung, with the fidelity of that rung; `None` if none does yet.

    Args:
        trials: Every trial that has ended.
        running: Digest and fidelity of what is being evaluated.
        objectives: What is optimized and limited.
        plan: The rungs.

    In each rung, from the top, the best 1/eta of its finished trials are promoted: infeasible trials come after
    feasible ones, by violation; feasible ones are ordered by rank of non-domination, then by number. A limit that no
    trial of a rung keeps is one on what more training will better: it does not count there.
    """
    reached = running | {(t.architecture.digest, t.fidelity) for t in trials}
    for rung, above in reversed(list(zip(plan.rungs, plan.rungs[1:], strict=False))):
        here = [t for t in trials if t.fidelity == rung and not t.failure]
        kept = [o if any(o.violation(t.metrics) == 0 for t in here) else replace(o, limit=None) for o in objectives]
        for trial in ordered(here, kept)[: len(here) // plan.eta]:
            if (trial.architecture.digest, above) not in reached:
                return trial, above
    return None


def ordered(trials: Sequence[Trial], objectives: Sequence[Objective]) -> list[Trial]:
    """Return finished trials, best first: by violation, by rank of non-domination among the feasible, by number."""
    ranked = [o for o in objectives if o.is_ranked]
    violations = [math.fsum(o.violation(t.metrics) for o in objectives) for t in trials]
    costs = np.array([[o.cost(t.metrics) for o in ranked] for t in trials]).reshape(len(trials), len(ranked))
    costs[np.array(violations) > 0] = np.nan
    ranks = non_domination_rank(costs)
    keys = [(violation, int(rank), t.number) for violation, rank, t in zip(violations, ranks, trials, strict=True)]
    return [trials[i] for i in sorted(range(len(trials)), key=keys.__getitem__)]
