"""Any hyperopt space as rows of numbers, any hyperopt history as arrays."""

import copy
import math

import numpy as np
import pytest
from hyperopt import STATUS_FAIL, STATUS_OK, Domain, Trials, hp, rand
from hyperopt.base import JOB_STATE_DONE, JOB_STATE_ERROR
from hyperopt.pyll import scope
from hypothesis import given, settings
from hypothesis import strategies as st

from codesign.core.errors import UnsupportedError
from codesign.search.encoding import encoding_of, fronts, history_of
from codesign.search.space import sample, to_hyperopt
from codesign.search.suggest import trial_documents
from tests.strategies import search_spaces

SPACE = {
    "choice": hp.choice("choice", [hp.uniform("uniform", -2, 3), hp.loguniform("loguniform", -4, 1), "plain"]),
    "pchoice": hp.pchoice("pchoice", [(0.1, "a"), (0.9, hp.quniform("quniform", 0, 10, 2.5))]),
    "normal": hp.normal("normal", 5, 2),
    "lognormal": hp.lognormal("lognormal", 0, 1),
    "qlog": hp.qloguniform("qlog", 0, 5, 2),
    "randint": hp.randint("randint", 7),
    "range": hp.randint("range", 3, 9),
    "int": hp.uniformint("int", 1, 5),
}


def domain_of(space):
    return Domain(lambda point: 0.0, space)


@given(st.integers(0, 2**31 - 1))
def test_what_hyperopt_draws_survives_the_row(seed):
    domain = domain_of(SPACE)
    encoding = encoding_of(domain)
    misc = rand.suggest([0], domain, Trials(), seed)[0]["misc"]
    drawn = {label: values[0] for label, values in misc["vals"].items() if len(values)}
    row = encoding.encode(drawn)
    assert encoding.decode(row) == pytest.approx(drawn, rel=1e-6, abs=1e-9)
    for dimension in encoding.dimensions:
        assert dimension.is_active(row) == (dimension.label in drawn)


@given(st.integers(0, 2**32))
def test_a_row_survives_the_values(seed):
    encoding = encoding_of(domain_of(SPACE))
    values = encoding.decode(encoding.sample(np.random.default_rng(seed)))
    row = encoding.encode(values)
    assert encoding.decode(row) == pytest.approx(values, rel=1e-6, abs=1e-9)
    assert set(values) >= {"choice", "pchoice", "normal", "qlog", "range"}
    assert 3 <= values["range"] < 9
    assert values["qlog"] % 2 == 0


def test_samples_follow_the_distributions():
    encoding, rng = encoding_of(domain_of(SPACE)), np.random.default_rng(0)
    drawn = [encoding.decode(encoding.sample(rng)) for _ in range(4000)]
    assert np.mean([d["pchoice"] for d in drawn]) == pytest.approx(0.9, abs=0.02)
    assert np.mean([d["normal"] for d in drawn]) == pytest.approx(5, abs=0.15)
    assert np.std([d["normal"] for d in drawn]) == pytest.approx(2, abs=0.1)
    assert np.mean([d["choice"] == 2 for d in drawn]) == pytest.approx(1 / 3, abs=0.03)


@settings(max_examples=30)
@given(search_spaces(), st.integers(0, 2**32))
def test_the_conditions_of_a_space_survive_hyperopt(space, seed):
    encoding = encoding_of(domain_of(to_hyperopt(space)))
    choices = sample(space, np.random.default_rng(seed))
    row = encoding.encode(choices)
    assert {d.label for d in encoding.dimensions if d.is_active(row)} == set(choices)
    holes = {h.label: h for h in space.holes()}
    assert {d.label: (d.options, d.is_ordered) for d in encoding.dimensions} == {
        label: (h.options, h.is_ordered) for label, h in holes.items()
    }


def test_a_hole_below_repetitions_is_one_dimension_with_several_ways_to_it():
    shared = hp.choice("shared", [1, 2])
    domain = domain_of(hp.choice("count", ["none", [shared], [shared, hp.choice("second", [1, 2])]]))
    dimensions = {d.label: d for d in encoding_of(domain).dimensions}
    assert dimensions["shared"].conditions == (((0, 1),), ((0, 2),))
    assert dimensions["second"].conditions == (((0, 2),),)


def test_a_distribution_that_is_not_known_is_named():
    space = scope.hyperopt_param("odd", scope.GMM1([1.0], [0.0], [1.0]))
    with pytest.raises(UnsupportedError, match=r"^Label 'odd' has the distribution GMM1; allowed: choice, pchoice, "):
        encoding_of(domain_of(space))


def history_with(*results, states=None):
    """Return the history of trials x = 0, 1, 2, ... with these results."""
    domain, trials = domain_of({"x": hp.randint("x", 0, 100)}), Trials()
    for number, result in enumerate(results):
        docs = trial_documents(number, {"x": result.get("x", number)}, domain, trials)
        docs[0]["result"] = {k: v for k, v in result.items() if k != "x"}
        docs[0]["state"] = (states or {}).get(number, JOB_STATE_DONE)
        trials.insert_trial_docs(docs)
    trials.refresh()
    return history_of(domain, trials)


def test_a_history_has_losses_violations_failures_and_what_is_pending():
    history = history_with(
        {"status": STATUS_OK, "loss": 9, "losses": [1.0, 2.0]},
        {"status": STATUS_FAIL},
        {"status": STATUS_OK, "loss": 1, "losses": [1.0, math.nan]},
        {"status": STATUS_OK, "loss": 3, "losses": [3.0, 4.0], "violation": 0.5},
        {"status": "new"},
        {"status": STATUS_OK, "loss": 1, "losses": [0.0, 0.0]},
        states={4: 0, 5: JOB_STATE_ERROR},
    )
    assert history.points.ravel().tolist() == [0, 1, 2, 3]
    np.testing.assert_array_equal(history.losses[[0, 3]], [[1, 2], [3, 4]])
    assert np.isnan(history.losses[[1, 2]]).all()
    assert history.violations.tolist() == [0, math.inf, math.inf, 0.5]
    assert history.pending.ravel().tolist() == [4]
    assert len(history.seen) == 5


def test_a_single_loss_is_enough():
    history = history_with({"status": STATUS_OK, "loss": 0.5}, {"status": STATUS_OK, "loss": 0.25})
    assert history.losses.tolist() == [[0.5], [0.25]]


def test_the_last_run_of_a_point_counts():
    ok = {"status": STATUS_OK, "loss": 0.0}
    history = history_with(
        ok | {"losses": [2.0], "x": 7}, ok | {"losses": [3.0], "x": 8}, ok | {"losses": [1.0], "x": 7}
    )
    assert dict(zip(history.points.ravel(), history.losses.ravel(), strict=True)) == {7: 1.0, 8: 3.0}
    assert dict(zip(history.first(2).points.ravel(), history.first(2).losses.ravel(), strict=True)) == {7: 2.0, 8: 3.0}


def test_fronts_come_feasible_first_then_by_violation_without_failures():
    ok = {"status": STATUS_OK, "loss": 0.0}
    rows = [([2, 2], 0), ([1, 3], 0), ([3, 3], 0), ([0, 0], 0.2), ([0, 0], 0.1)]
    history = history_with(*(ok | {"losses": losses, "violation": v} for losses, v in rows), {"status": STATUS_FAIL})
    assert [front.tolist() for front in fronts(history)] == [[0, 1], [2], [4], [3]]


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 4), st.sampled_from([0.0, 0.0, 1.0, math.inf]))), st.data())
def test_a_history_that_grew_is_the_one_made_at_once(results, data):
    domain, trials = domain_of({"x": hp.randint("x", 0, 10)}), Trials()
    states = data.draw(st.lists(st.sampled_from([1, JOB_STATE_DONE]), min_size=len(results), max_size=len(results)))
    for number, (x, loss, violation) in enumerate(results):
        docs = trial_documents(number, {"x": x}, domain, trials)
        docs[0]["result"] = {"status": STATUS_OK if violation < math.inf else STATUS_FAIL, "losses": [loss, 4 - loss]}
        docs[0]["result"] |= {"violation": violation}
        docs[0]["state"] = states[number]
        trials.insert_trial_docs(docs)
        trials.refresh()
        history_of(domain, trials)  # it remembers
    for doc in trials.trials[:: data.draw(st.integers(1, 3))]:
        doc["state"] = JOB_STATE_DONE
        history_of(domain, trials)
    grown, fresh = history_of(domain, trials), history_of(domain, copy.deepcopy(trials))
    for name in ("points", "losses", "violations", "pending", "feasible_front"):
        np.testing.assert_array_equal(getattr(grown, name), getattr(fresh, name))
    assert grown.seen == fresh.seen
    assert [run[1:] for run in grown.runs] == [run[1:] for run in fresh.runs]
