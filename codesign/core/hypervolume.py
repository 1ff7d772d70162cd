"""Hypervolume of trials: one number for how good a front is, and its course over a study.

As for a front, trials at less than full fidelity do not count.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from codesign.core.pareto import hypervolume, is_non_dominated
from codesign.core.task import Objective
from codesign.core.trial import Trial


def box(trials: Sequence[Trial], objectives: Sequence[Objective]) -> tuple[np.ndarray, np.ndarray]:
    """Return the best and the worst cost (objectives,) of the feasible trials, the corners of the hypervolume's box.

    The limit of an objective takes the place of its worst cost. A side without extent gets length 1.
    """
    ranked = [o for o in objectives if o.is_ranked]
    costs = _costs([t for t in trials if t.is_candidate], ranked)
    if not len(costs):
        return np.zeros(len(ranked)), np.ones(len(ranked))
    best, worst = costs.min(axis=0), costs.max(axis=0)
    signs = [1 if o.goal == "min" else -1 for o in ranked]
    limits = [np.nan if o.limit is None else s * o.limit for o, s in zip(ranked, signs, strict=True)]
    worst = np.where(np.isnan(limits), worst, limits)
    return best, np.where(worst > best, worst, best + 1.0)


def hypervolume_of(
    trials: Sequence[Trial], objectives: Sequence[Objective], corners: tuple[np.ndarray, np.ndarray] | None = None
) -> float:
    """Return what fraction of the box the feasible trials dominate, from 0 to 1.

    Args:
        trials: Any trials.
        objectives: What is optimized and limited.
        corners: Best and worst cost; without them, those of the trials themselves (see `box`).
    """
    best, worst = corners or box(trials, objectives)
    costs = _costs([t for t in trials if t.is_candidate], [o for o in objectives if o.is_ranked])
    scaled = np.maximum((costs - best) / (worst - best), 0.0)
    return hypervolume(scaled, np.ones(len(best)))


def hypervolume_curve(trials: Sequence[Trial], objectives: Sequence[Objective]) -> list[float]:
    """Return the hypervolume after every trial, in the order given, in the box of all of them."""
    best, worst = box(trials, objectives)
    ranked = [o for o in objectives if o.is_ranked]
    kept, value, curve = np.empty((0, len(ranked))), 0.0, []
    for trial in trials:
        if trial.is_candidate:
            scaled = np.maximum((_costs([trial], ranked) - best) / (worst - best), 0.0)
            joined = np.concatenate([kept, scaled])
            mask = is_non_dominated(joined)
            if mask[-1]:
                kept = joined[mask]
                value = hypervolume(kept, np.ones(len(ranked)))
        curve.append(value)
    return curve


def _costs(trials: Sequence[Trial], ranked: Sequence[Objective]) -> np.ndarray:
    return np.array([[o.cost(t.metrics) for o in ranked] for t in trials]).reshape(len(trials), len(ranked))
