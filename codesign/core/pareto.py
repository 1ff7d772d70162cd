"""Pareto fronts: non-domination, hypervolume. Every cost is minimized; a row with NaN is never part of a front."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from codesign.core.task import Objective
from codesign.core.trial import Trial


def is_non_dominated(costs: np.ndarray) -> np.ndarray:
    """Return a mask (n,) of the rows of `costs` (n, objectives) that no other row dominates; equal rows all stay."""
    costs = np.asarray(costs, dtype=float)
    mask = np.zeros(len(costs), dtype=bool)
    left = np.flatnonzero(np.isfinite(costs).all(axis=1))
    # Sorted by their sum, no row is dominated by one after it, and the first ones dominate many.
    left = left[np.lexsort((*costs[left].T[::-1], costs[left].sum(axis=1)))]
    while len(left):
        best, left = left[0], left[1:]
        mask[best] = True
        left = left[(costs[left] < costs[best]).any(axis=1) | (costs[left] == costs[best]).all(axis=1)]
    return mask


def non_domination_rank(costs: np.ndarray) -> np.ndarray:
    """Return the front (0 is the best) of every row of `costs` (n, objectives); rows with NaN share the last.

    Source: Deb et al., A fast and elitist multiobjective genetic algorithm: NSGA-II, IEEE TEC 6 (2002), section III.A.
    """
    costs = np.asarray(costs, dtype=float)
    ranks = np.full(len(costs), -1)
    rank = 0
    while True:
        left = np.flatnonzero((ranks < 0) & np.isfinite(costs).all(axis=1))
        if not len(left):
            break
        ranks[left[is_non_dominated(costs[left])]] = rank
        rank += 1
    ranks[ranks < 0] = rank
    return ranks


def hypervolume(costs: np.ndarray, reference: np.ndarray) -> float:
    """Return the volume that the rows of `costs` (n, objectives) dominate below `reference` (objectives,), exactly.

    Sweeps the last objective and recurses on the rest; quick for some hundred points in up to four dimensions.
    """
    costs, reference = np.asarray(costs, dtype=float), np.asarray(reference, dtype=float)
    costs = costs[(costs < reference).all(axis=1)] if len(costs) else costs
    if not len(costs):
        return 0.0
    costs = np.unique(costs[is_non_dominated(costs)], axis=0)
    if costs.shape[1] == 1:
        return float(reference[0] - costs.min())
    if costs.shape[1] == 2:
        costs = costs[np.argsort(costs[:, 0])]
        widths = reference[0] - costs[:, 0]
        heights = np.concatenate([[reference[1]], costs[:-1, 1]]) - costs[:, 1]
        return float((widths * heights).sum())
    costs = costs[np.argsort(costs[:, -1])]
    tops = np.append(costs[1:, -1], reference[-1])
    depths = tops - costs[:, -1]
    slices = (hypervolume(costs[: i + 1, :-1], reference[:-1]) * d for i, d in enumerate(depths) if d > 0)
    return float(sum(slices))


def front(trials: Sequence[Trial], objectives: Sequence[Objective]) -> list[Trial]:
    """Return the feasible trials that no other feasible trial dominates, best first by the first objective.

    Trials at less than full fidelity do not take part.
    """
    ranked = [o for o in objectives if o.is_ranked]
    feasible = [t for t in trials if t.is_candidate]
    if not feasible:
        return []
    costs = np.array([[o.cost(t.metrics) for o in ranked] for t in feasible])
    best = [(tuple(c), t) for c, t, keep in zip(costs, feasible, is_non_dominated(costs), strict=True) if keep]
    return [t for _, t in sorted(best, key=lambda pair: (pair[0], pair[1].number))]


def spread(trials: Sequence[Trial], objectives: Sequence[Objective], count: int) -> list[Trial]:
    """Return `count` members of a front: the best compromise, then always the one farthest from those taken.

    The best compromise is closest to the ideal point, which joins the best value of every objective. Distance is
    Euclidean in objectives scaled to [0, 1] over `trials`.
    """
    if len(trials) <= count:
        return list(trials)
    costs = np.array([[o.cost(t.metrics) for o in objectives if o.is_ranked] for t in trials])
    scaled = (costs - costs.min(axis=0)) / np.maximum(np.ptp(costs, axis=0), 1e-12)
    taken = [int(np.argmin(np.linalg.norm(scaled, axis=1)))]
    while len(taken) < count:
        distance = np.linalg.norm(scaled[:, None] - scaled[taken], axis=2).min(axis=1)
        taken.append(int(np.argmax(distance)))
    return [trials[i] for i in taken]
