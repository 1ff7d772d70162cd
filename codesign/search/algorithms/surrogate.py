"""A model of every loss, trees on the conditional vector, whose most optimistic candidate in a random direction wins.

Sources: Geurts et al., Extremely randomized trees, Machine Learning 63 (2006); Knowles, ParEGO, IEEE TEC 10 (2006),
section III.A (augmented Tchebycheff function with random weights); Hutter et al., SMAC, LION 5 (2011), section 4
(the spread over trees as uncertainty).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from codesign.core import plugins
from codesign.search.encoding import Encoding, History, fronts
from codesign.search.suggest import STARTUP, as_suggest

POOL = 80  # candidates that the model compares
TAKEN = 16  # of these, those that are offered before a new pool is drawn
TREES = 32
OPTIMISM = 1.0  # standard deviations below the mean
LARGEST = 1.0  # violations beyond it are alike: a few huge ones would hide all that is feasible
INACTIVE = -1.0  # what the trees see where a dimension is not active


def candidates(encoding: Encoding, history: History, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Yield the most promising rows of a pool, then of further pools; random rows at the start."""
    while len(history) < STARTUP or not np.isfinite(history.violations).any():
        yield encoding.sample(rng)
    model = _model(history)
    children = plugins.load("search/algorithms", "nsga2").candidates(encoding, history, rng)
    while True:
        pool = {row.tobytes(): row for row in (next(children) for _ in range(3 * POOL // 4))}
        pool |= {row.tobytes(): row for row in (encoding.sample(rng) for _ in range(POOL // 4))}
        new = [row for key, row in pool.items() if key not in history.seen]
        if not new:
            yield encoding.sample(rng)
            continue
        rows = np.array(new)
        weights = rng.dirichlet(np.ones(history.losses.shape[1]))
        yield from rows[np.argsort(_scores(*model.predict(rows), weights, history), kind="stable")[:TAKEN]]


def _scores(losses: np.ndarray, violations: np.ndarray, weights: np.ndarray, history: History) -> np.ndarray:
    """Return the augmented Tchebycheff value of each row, scaled by the first front; a violation comes on top."""
    front = history.losses[next(fronts(history))]
    low, high = front.min(axis=0), front.max(axis=0)
    scaled = weights * (losses - low) / np.where(high > low, high - low, 1.0)
    scores: np.ndarray = scaled.max(axis=1) + 0.05 * scaled.sum(axis=1) + violations
    return scores


@dataclass(frozen=True)
class _Model:
    trees: Any  # fitted ExtraTreesRegressor, all losses and the violation at once

    def predict(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return optimistic losses (n, objectives) and the expected violation (n,)."""
        features = np.nan_to_num(rows, nan=INACTIVE).astype(np.float32)
        outputs = np.array([tree.tree_.predict(features) for tree in self.trees.estimators_])
        outputs = outputs.reshape(len(outputs), len(rows), -1)
        mean, spread = outputs.mean(axis=0), outputs.std(axis=0)
        return mean[:, :-1] - OPTIMISM * spread[:, :-1], mean[:, -1]


def _model(history: History) -> _Model:
    """Return a model that is at most a twentieth of the history old, the same whenever it is asked for."""
    from sklearn.ensemble import ExtraTreesRegressor

    runs = len(history.runs)
    runs -= runs % max(1, runs // 20)
    if history.memory.get("surrogate", (0, None))[0] != runs:
        past = history.first(runs)
        is_finished = np.isfinite(past.violations)
        features = np.nan_to_num(past.points[is_finished], nan=INACTIVE)
        targets = np.column_stack([past.losses[is_finished], np.minimum(past.violations[is_finished], LARGEST)])
        trees = ExtraTreesRegressor(TREES, min_samples_leaf=2, max_features=0.7, random_state=runs)
        history.memory["surrogate"] = (runs, _Model(trees.fit(features, targets)))
    model: _Model = history.memory["surrogate"][1]
    return model


suggest = as_suggest(candidates)
