"""Most architectures get a small part of the training, the best go on."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codesign.blocks.dense import Dense
from codesign.core.architecture import Architecture
from codesign.core.errors import InvalidValueError
from codesign.core.task import Objective
from codesign.core.trial import Fidelity, Trial
from codesign.search.halving import Halving, halving, ordered, promoted

OBJECTIVES = (Objective("error"), Objective("lut", limit=100))


def trial(number, error, lut, fidelity=None, failure=""):
    architecture = Architecture((2,), (Dense(number + 1),))
    return Trial(
        number, architecture, 0, fidelity or Fidelity(1), {} if failure else {"error": error, "lut": lut}, failure
    )


@given(st.integers(1, 200), st.floats(0.1, 1), st.integers(1, 5), st.integers(2, 5))
def test_rungs_grow_to_the_full_fidelity(epochs, fraction, rungs, eta):
    full = Fidelity(epochs, fraction)
    plan = halving(full, rungs=rungs, eta=eta)
    assert plan.rungs[-1] == full
    assert 1 <= len(plan.rungs) <= rungs
    for low, high in zip(plan.rungs, plan.rungs[1:], strict=False):
        assert 1 <= low.epochs < high.epochs
        assert 0 < low.data_fraction <= high.data_fraction


def test_rungs_of_a_usual_study():
    assert halving(Fidelity(18), rungs=3, eta=3, least_data=0.25).rungs == (
        Fidelity(2, 0.25),
        Fidelity(6, 0.5),
        Fidelity(18, 1.0),
    )


def test_order_is_by_violation_then_rank_then_number():
    trials = [trial(0, 0.1, 300), trial(1, 0.1, 200), trial(2, 0.5, 90), trial(3, 0.4, 80), trial(4, 0.2, 95)]
    assert [t.number for t in ordered(trials, OBJECTIVES)] == [3, 4, 2, 1, 0]


def test_the_best_third_goes_on_once_from_the_top():
    plan = Halving((Fidelity(1), Fidelity(3), Fidelity(9)), eta=3)
    trials = [trial(0, 0.5, 50), trial(1, 0.4, 40), trial(2, 0.1, 200)]
    assert promoted(trials[:2], set(), OBJECTIVES, plan) is None
    found, above = promoted(trials, set(), OBJECTIVES, plan)
    assert (found.number, above) == (1, Fidelity(3))
    assert promoted(trials, {(found.architecture.digest, above)}, OBJECTIVES, plan) is None
    done = [*trials, trial(1, 0.3, 40, Fidelity(3))]
    assert promoted(done, set(), OBJECTIVES, plan) is None
    done += [trial(5, 0.2, 40, Fidelity(3)), trial(6, 0.25, 50, Fidelity(3))]
    found, above = promoted(done, set(), OBJECTIVES, plan)
    assert (found.number, above) == (5, Fidelity(9))


def test_a_limit_that_nobody_keeps_yet_does_not_hide_who_is_good():
    objectives = (Objective("error", limit=0.05), Objective("lut"))
    plan = Halving((Fidelity(1), Fidelity(3)), eta=3)
    trials = [trial(0, 0.4, 50), trial(1, 0.4, 40), trial(2, 0.3, 200)]
    assert promoted(trials, set(), objectives, plan)[0].number == 1
    assert promoted([*trials, trial(3, 0.04, 900)], set(), objectives, plan)[0].number == 3


def test_failed_trials_are_not_promoted_and_do_not_count():
    plan = Halving((Fidelity(1), Fidelity(2)), eta=2)
    trials = [trial(0, 0, 0, failure="diverged"), trial(1, 0.5, 50)]
    assert promoted(trials, set(), OBJECTIVES, plan) is None
    trials += [trial(2, 0.5, 60), trial(1, 0, 0, Fidelity(2), failure="diverged")]
    assert promoted(trials, set(), OBJECTIVES, plan) is None


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Halving((Fidelity(1),), eta=1), "Halving has eta 1; allowed: 2 or more."),
        (lambda: Halving((Fidelity(1),), control=2), "Halving has a control fraction of 2; allowed: 0 to 1."),
        (lambda: halving(Fidelity(3), rungs=0), "Halving has 0 rungs; allowed: 1 or more."),
    ],
)
def test_what_is_not_allowed(make, message):
    with pytest.raises(InvalidValueError) as caught:
        make()
    assert str(caught.value) == message
