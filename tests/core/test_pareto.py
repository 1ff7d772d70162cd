"""Fronts, ranks and hypervolume, against their definitions."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from codesign.blocks.dense import Dense
from codesign.core.architecture import Architecture
from codesign.core.pareto import front, hypervolume, is_non_dominated, non_domination_rank
from codesign.core.task import Objective
from codesign.core.trial import Fidelity, Trial

FEW = st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0])  # few values, so that ties and domination occur


@st.composite
def costs(draw, rows=12, values=FEW):
    return draw(arrays(float, (draw(st.integers(0, rows)), draw(st.integers(1, 4))), elements=values))


def dominates(a, b):
    return (a <= b).all() and (a < b).any()


@given(costs(values=st.one_of(FEW, st.just(np.nan), st.just(np.inf))))
def test_non_dominated_rows_are_the_finite_ones_that_no_finite_row_dominates(rows):
    finite = np.isfinite(rows).all(axis=1)
    expected = [f and not any(dominates(b, a) for b in rows[finite]) for a, f in zip(rows, finite, strict=True)]
    assert is_non_dominated(rows).tolist() == expected


@given(costs())
def test_the_front_of_the_front_is_the_front(rows):
    kept = rows[is_non_dominated(rows)]
    assert is_non_dominated(kept).all()


@given(costs(values=st.one_of(FEW, st.just(np.nan))))
def test_a_rank_counts_the_fronts_that_come_before(rows):
    ranks = non_domination_rank(rows)
    finite = np.isfinite(rows).all(axis=1)
    for rank in range(ranks[finite].max(initial=-1) + 1):
        left = rows[finite & (ranks >= rank)]
        assert (ranks[finite & (ranks >= rank)] == rank).tolist() == is_non_dominated(left).tolist()
    if not finite.all():
        assert set(ranks[~finite]) == {ranks[finite].max(initial=-1) + 1}


@settings(max_examples=60)
@given(costs(rows=7, values=st.one_of(FEW, st.floats(0, 1.5))))
def test_hypervolume_is_the_volume_of_the_union_of_boxes(rows):
    reference = np.ones(rows.shape[1])
    expected = 0.0
    for size in range(1, len(rows) + 1):  # inclusion and exclusion
        for subset in itertools.combinations(rows, size):
            sides = np.maximum(reference - np.max(subset, axis=0), 0.0)
            expected += (-1) ** (size + 1) * sides.prod()
    assert hypervolume(rows, reference) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("objectives", [2, 3, 4])
def test_hypervolume_of_many_points_agrees_with_random_points(objectives):
    rng = np.random.default_rng(objectives)
    rows = rng.random((60, objectives))
    points = rng.random((200_000, objectives))
    covered = np.zeros(len(points), dtype=bool)
    for row in rows:
        covered |= (row <= points).all(axis=1)
    assert hypervolume(rows, np.ones(objectives)) == pytest.approx(covered.mean(), abs=5e-3)


@given(costs(values=st.floats(0, 1)), st.data())
def test_another_point_never_lowers_the_hypervolume(rows, data):
    reference = np.ones(rows.shape[1])
    more = np.vstack([rows, data.draw(arrays(float, rows.shape[1], elements=st.floats(0, 1.2)))])
    assert hypervolume(more, reference) >= hypervolume(rows, reference) - 1e-12


def trial(number, error, lut, failure=""):
    metrics = {} if failure else {"error": error, "lut": lut}
    return Trial(number, Architecture((2,), (Dense(2),)), 0, Fidelity(1), metrics, failure)


def test_a_front_holds_feasible_trials_only_best_first():
    objectives = (Objective("error"), Objective("lut", limit=100), Objective("depth", is_ranked=False))
    limits = objectives[:2]
    trials = [trial(0, 0.3, 50), trial(1, 0.1, 101), trial(2, 0, 0, "diverged"), trial(3, 0.2, 90), trial(4, 0.3, 60)]
    judged = [t.judged(limits) for t in trials]
    assert [t.number for t in front(judged, objectives)] == [3, 0]
    assert front(judged[1:3], objectives) == []


def test_a_maximized_objective_counts_with_its_sign():
    objectives = (Objective("accuracy", "max"), Objective("lut"))
    trials = [
        Trial(i, Architecture((2,), ()), 0, Fidelity(1), {"accuracy": a, "lut": n})
        for i, (a, n) in enumerate([(0.5, 10), (0.9, 20), (0.4, 15)])
    ]
    assert [t.number for t in front(trials, objectives)] == [1, 0]
