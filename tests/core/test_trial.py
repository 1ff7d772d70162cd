"""A trial: one architecture trained once at one fidelity."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codesign.blocks.dense import Dense
from codesign.core.architecture import Architecture
from codesign.core.errors import UnknownNameError
from codesign.core.task import Objective
from codesign.core.trial import Fidelity, Trial
from tests.strategies import search_spaces

METRICS = st.dictionaries(st.text(min_size=1), st.floats(allow_nan=False, allow_infinity=False))


@given(search_spaces(), st.data())
def test_json_gives_the_trial_again(space, data):
    choices = {}

    def choose(label, choice):
        choices[label] = data.draw(st.integers(0, len(choice.options) - 1))
        return choices[label]

    trial = Trial(
        number=data.draw(st.integers(0)),
        architecture=space.fill(choose),
        seed=data.draw(st.integers(0, 2**32)),
        fidelity=Fidelity(data.draw(st.integers(1)), data.draw(st.floats(0.01, 1))),
        metrics=data.draw(METRICS),
        failure=data.draw(st.text()),
        violations=tuple(data.draw(st.lists(st.text()))),
        choices=choices,
    )
    text = trial.to_json()
    assert Trial.from_json(text) == trial
    assert Trial.from_json(text).to_json() == text
    assert "\n" not in text


def trial(metrics, failure=""):
    return Trial(3, Architecture((2,), (Dense(2),)), 0, Fidelity(1), metrics, failure)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_number_that_is_not_finite_is_never_written(value):
    with pytest.raises(ValueError, match="Out of range float values are not JSON compliant"):
        trial({"error": value}).to_json()


def test_a_block_that_does_not_exist_is_named():
    text = trial({}).to_json().replace('"dense"', '"dens"')
    with pytest.raises(UnknownNameError, match=r"^There is no block 'dens'; allowed: .*\. Did you mean 'dense'\?$"):
        Trial.from_json(text)


def test_a_trial_is_judged_by_the_limits():
    objectives = (Objective("lut", limit=100), Objective("accuracy", "max", limit=0.6))
    good, bad = trial({"lut": 100, "accuracy": 0.6}), trial({"lut": 150, "accuracy": 0.5})
    assert good.judged(objectives).is_feasible
    assert bad.judged(objectives).violations == ("lut is 150, limit 100", "accuracy is 0.5, limit 0.6")
    assert not bad.judged(objectives).is_feasible
    assert bad.judged(objectives).judged(()).is_feasible
    failed = trial({}, "diverged").judged(objectives)
    assert failed.violations == ()
    assert not failed.is_feasible


@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6))
def test_a_violation_is_zero_exactly_within_the_limit(value, limit):
    assert (Objective("m", "min", limit).violation({"m": value}) == 0) == (value <= limit)
    assert (Objective("m", "max", limit).violation({"m": value}) == 0) == (value >= limit)
