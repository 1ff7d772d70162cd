"""One number for how good a front is, and its course."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codesign.blocks.dense import Dense
from codesign.core.architecture import Architecture
from codesign.core.hypervolume import box, hypervolume_curve, hypervolume_of
from codesign.core.task import Objective
from codesign.core.trial import Fidelity, Trial

OBJECTIVES = (Objective("accuracy", "max"), Objective("lut", limit=100))
ARCHITECTURE = Architecture((2,), (Dense(2),))


def trial(number, accuracy, lut):
    metrics = {"accuracy": accuracy, "lut": lut}
    return Trial(number, ARCHITECTURE, 0, Fidelity(1), metrics).judged(OBJECTIVES)


FAILED = Trial(9, ARCHITECTURE, 0, Fidelity(1), failure="diverged")
TRIALS = [trial(0, 0.5, 50), trial(1, 0.9, 80), trial(2, 0.99, 500), FAILED, trial(3, 0.7, 60), trial(4, 0.6, 90)]


def test_the_box_reaches_from_the_best_to_the_worst_feasible_cost_or_the_limit():
    best, worst = box(TRIALS, OBJECTIVES)
    assert best.tolist() == [-0.9, 50]
    assert worst.tolist() == [-0.5, 100]


def test_hypervolume_is_the_fraction_of_the_box():
    # In units of the box: (0, .6), (.5, .2) and the corner point (1, 0), which dominates nothing.
    assert hypervolume_of(TRIALS, OBJECTIVES) == pytest.approx(0.4 + 0.5 * 0.4)
    assert hypervolume_of([FAILED], OBJECTIVES) == 0
    assert hypervolume_of([], OBJECTIVES) == 0
    assert hypervolume_of(TRIALS[:1], OBJECTIVES, box(TRIALS, OBJECTIVES)) == 0


@given(st.lists(st.tuples(st.integers(0, 10), st.integers(10, 150)), max_size=12))
def test_the_curve_never_falls_and_is_the_hypervolume_so_far(pairs):
    trials = [trial(n, accuracy / 10, lut) for n, (accuracy, lut) in enumerate(pairs)]
    curve = hypervolume_curve(trials, OBJECTIVES)
    assert len(curve) == len(trials)
    assert curve == sorted(curve)
    corners = box(trials, OBJECTIVES)
    for count, value in enumerate(curve, start=1):
        assert value == pytest.approx(hypervolume_of(trials[:count], OBJECTIVES, corners))
