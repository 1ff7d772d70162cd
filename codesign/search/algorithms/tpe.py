"""A tree-structured Parzen estimator for several objectives, with limits, on conditional spaces.

Trials are split into good and bad ones by front and hypervolume; each dimension then takes an option that is frequent
among the good and rare among the bad, given what the dimensions before it took.

Sources: Bergstra et al., Algorithms for hyper-parameter optimization, NeurIPS 2011, section 4 (densities, tree);
Ozaki et al., Multiobjective tree-structured Parzen estimator, JAIR 73 (2022), section 4.2 (split by front, then by
hypervolume contribution); Bergstra et al., ICML 2013 (linear forgetting: old bad trials count less).
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from codesign.search.encoding import Dimension, Encoding, History, fronts
from codesign.search.suggest import STARTUP, as_suggest

GOOD_FRACTION = 0.1
GOOD_MOST = 40
DRAWS = 24  # options drawn for each dimension, of which the most promising is taken
REMEMBERED = 25  # newest bad trials of full weight
CELLS = 64  # a continuous dimension is seen as this many ordered options
SAMPLES = 1024  # points of the estimate of hypervolume


def candidates(encoding: Encoding, history: History, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Yield rows drawn from the densities; random rows at the start."""
    while len(history) < STARTUP:
        yield encoding.sample(rng)
    good = choose_good(history, min(math.ceil(GOOD_FRACTION * len(history)), GOOD_MOST))
    bad = np.setdiff1d(np.arange(len(history)), good)
    densities = _Densities(encoding, history, good, bad)
    draws = DRAWS
    while True:
        for _ in range(4):
            yield densities.draw(draws, rng)
        draws = max(1, draws // 2)  # what was most promising was refused: look further away


class _Densities:
    """Probabilities of every option among good and bad trials, computed for the dimensions that are reached."""

    def __init__(self, encoding: Encoding, history: History, good: np.ndarray, bad: np.ndarray) -> None:
        self._dimensions = encoding.dimensions
        sizes = np.array([d.options or CELLS for d in encoding.dimensions], dtype=float)
        is_continuous = np.array([not d.options for d in encoding.dimensions], dtype=bool)
        scale = np.where(is_continuous, CELLS, 1.0)
        self._good = np.minimum(history.points[good] * scale, sizes - 1)
        self._bad = np.minimum(np.concatenate([history.points[bad], history.pending]) * scale, sizes - 1)
        self._weights = forgetting(len(self._bad))
        self._computed: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    def draw(self, draws: int, rng: np.random.Generator) -> np.ndarray:
        """Return a row: for each active dimension the best ratio of densities among `draws` from the good one."""
        row = np.full(len(self._dimensions), np.nan)
        for i, dimension in enumerate(self._dimensions):
            if dimension.is_active(row):
                cumulated, ratio = self._of(i)
                drawn = np.searchsorted(cumulated, rng.random(draws), side="right")
                option = float(drawn[np.argmax(ratio[drawn])])
                row[i] = option if dimension.options else (option + rng.random()) / CELLS
        return row

    def _of(self, i: int) -> tuple[np.ndarray, np.ndarray]:
        if i not in self._computed:
            dimension = self._dimensions[i]
            good = density(dimension, self._good[:, i], np.ones(len(self._good)))
            bad = density(dimension, self._bad[:, i], self._weights)
            self._computed[i] = np.cumsum(good)[:-1], good / bad
        return self._computed[i]


def density(dimension: Dimension, numbers: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the probability of every option, from what trials took (NaN where the dimension was not active).

    The prior counts as one trial. Trials of an ordered dimension count for their neighbors too, the fewer the trials
    the further.
    """
    size = dimension.options or CELLS
    is_active = np.isfinite(numbers)
    counts = np.bincount(numbers[is_active].astype(int), weights[is_active], minlength=size)
    if dimension.is_ordered:
        width = max(0.35, 0.5 * size / (1.0 + counts.sum()) ** 0.5)
        distance = np.arange(size)[:, None] - np.arange(size)
        kernel = np.exp(-0.5 * (distance / width) ** 2)
        counts = counts @ (kernel / kernel.sum(axis=1, keepdims=True))
    prior = np.array(dimension.prior) if dimension.options else np.full(size, 1 / size)
    total = counts + prior
    probabilities: np.ndarray = total / total.sum()
    return probabilities


def forgetting(count: int) -> np.ndarray:
    """Return the weight of each of `count` trials, oldest first: the newest count fully, older ones linearly less."""
    if count <= REMEMBERED:
        return np.ones(count)
    return np.concatenate([np.linspace(1 / count, 1, count - REMEMBERED), np.ones(REMEMBERED)])


def choose_good(history: History, count: int) -> np.ndarray:
    """Return the rows of the `count` best trials: front by front, the last front by contribution to hypervolume."""
    chosen: list[np.ndarray] = []
    left = count
    for front in fronts(history):
        if len(front) > left:
            chosen.append(front[largest_hypervolume(history.losses[front], left)])
            break
        chosen.append(front)
        left -= len(front)
    return np.concatenate(chosen) if chosen else np.empty(0, dtype=int)


def largest_hypervolume(losses: np.ndarray, count: int) -> np.ndarray:
    """Return `count` rows of `losses` (n, objectives) that together dominate much, chosen greedily.

    The volume is estimated on fixed random points of the box of the rows, a tenth larger than the rows need.
    """
    low, high = losses.min(axis=0), losses.max(axis=0)
    scaled = (losses - low) / np.where(high > low, high - low, 1.0)
    samples = 1.1 * np.random.default_rng(0).random((SAMPLES, losses.shape[1]))
    covers = (scaled[:, None, :] <= samples).all(axis=2)  # (n, samples)
    chosen: list[int] = []
    for _ in range(count):
        gains = covers.sum(axis=1)
        gains[chosen] = -1
        chosen.append(int(gains.argmax()))
        covers = covers & ~covers[chosen[-1]]
    return np.array(chosen, dtype=int)


suggest = as_suggest(candidates)
