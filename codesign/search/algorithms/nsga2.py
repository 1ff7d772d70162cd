"""NSGA-II over conditional spaces, steady state: parents are drawn from the best of everything that has finished.

There is no generation to wait for, so workers never idle. Crossover keeps subtrees together, and mutation steps to a
neighbor where options are ordered.

Source: Deb et al., A fast and elitist multiobjective genetic algorithm: NSGA-II, IEEE TEC 6 (2002).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from codesign.search.encoding import Dimension, Encoding, History, fronts
from codesign.search.suggest import STARTUP, as_suggest

POPULATION = 20
MUTATIONS = 2.0  # mean number of mutated dimensions of a child
STEP = 0.7  # probability that an ordered dimension steps to a neighbor instead of anywhere
SPREAD = 0.1  # standard deviation of a step of a continuous dimension


def candidates(encoding: Encoding, history: History, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Yield children of the population; random rows at the start."""
    while len(history) < STARTUP:
        yield encoding.sample(rng)
    population = best(history, POPULATION)
    if not len(population):
        while True:
            yield encoding.sample(rng)
    while True:
        # Positions in `population` are from best to worst: the smaller one of two drawn wins the tournament.
        mother, father = population[rng.integers(len(population), size=(2, 2)).min(axis=1)]
        yield child(encoding, history.points[mother], history.points[father], rng)


def best(history: History, count: int) -> np.ndarray:
    """Return at most `count` rows of the history, best first: by front, and inside it by crowding distance."""
    chosen: list[np.ndarray] = []
    total = 0
    for front in fronts(history):
        chosen.append(front[np.argsort(-crowding_distance(history.losses[front]), kind="stable")])
        total += len(front)
        if total >= count:
            break
    return np.concatenate(chosen)[:count] if chosen else np.empty(0, dtype=int)


def crowding_distance(losses: np.ndarray) -> np.ndarray:
    """Return for each row of `losses` (n, objectives) how far its neighbors are; infinite at the ends.

    Source: Deb et al. (2002), section III.B.
    """
    distance = np.zeros(len(losses))
    for column in losses.T:
        order = np.argsort(column, kind="stable")
        extent = column[order[-1]] - column[order[0]]
        distance[order[[0, -1]]] = np.inf
        if extent > 0:
            distance[order[1:-1]] += (column[order[2:]] - column[order[:-2]]) / extent
    return distance


def child(encoding: Encoding, mother: np.ndarray, father: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return a child of two rows.

    Where the parents differ in a dimension that decides on others, all it decides on comes from the same parent.
    """
    row = np.full_like(mother, np.nan)
    sources = np.zeros(len(row), dtype=int)  # which parent a dimension comes from
    active = max(1, int(np.isfinite(mother).sum()))
    for i, dimension in enumerate(encoding.dimensions):
        if not dimension.is_active(row):
            continue
        bound = [p for p in dimension.parents if not _equal(mother[p], father[p])]
        sources[i] = sources[bound[-1]] if bound else rng.integers(2)
        first, second = (mother[i], father[i]) if sources[i] == 0 else (father[i], mother[i])
        inherited = second if np.isnan(first) else first
        if np.isnan(inherited):
            row[i] = dimension.draw(rng)
        else:
            row[i] = mutate(dimension, inherited, rng) if rng.random() < MUTATIONS / active else inherited
    return row


def mutate(dimension: Dimension, number: float, rng: np.random.Generator) -> float:
    """Return another number for the dimension, often a neighboring one if it is ordered."""
    if dimension.is_ordered and rng.random() < STEP:
        if not dimension.options:
            return float(np.clip(number + rng.normal(0.0, SPREAD), 0.0, 1.0))
        step = number + (1 if rng.random() < 0.5 else -1)
        return step if 0 <= step < dimension.options else 2 * number - step if dimension.options > 1 else number
    return dimension.draw(rng)


def _equal(a: float, b: float) -> bool:
    return a == b or (np.isnan(a) and np.isnan(b))


suggest = as_suggest(candidates)
