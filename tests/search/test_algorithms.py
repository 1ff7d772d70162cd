"""The contract of every suggestion algorithm, and what is particular to each."""

import contextlib
import functools
import itertools

import numpy as np
import pytest
from hyperopt import STATUS_FAIL, STATUS_OK, Domain, Trials, fmin, hp
from hyperopt.exceptions import AllTrialsFailed
from hypothesis import given, settings
from hypothesis import strategies as st

from codesign.core import plugins
from codesign.core.errors import UnknownNameError
from codesign.core.pareto import hypervolume, non_domination_rank
from codesign.search.algorithms import nsga2
from codesign.search.algorithms.nsga2 import child, crowding_distance, mutate
from codesign.search.algorithms.tpe import choose_good, density, forgetting, largest_hypervolume
from codesign.search.encoding import Dimension, as_history, encoding_of
from codesign.search.space import sample, to_hyperopt
from tests.strategies import search_spaces

ALGORITHMS = plugins.names("search/algorithms")
MIXED = {
    "kind": hp.choice("kind", [{"x": hp.uniform("x", 0, 1)}, {"n": hp.randint("n", 0, 20), "c": hp.randint("c", 4)}]),
    "q": hp.quniform("q", 0, 10, 1),
    "l": hp.loguniform("l", -5, 0),
}


def two_losses(point):
    """Conflict over q; the branch with n is better, its best is n = 15 with c = 2; l should be small."""
    inner = point["kind"]
    extra = 0.5 + (inner["x"] - 0.3) ** 2 if "x" in inner else abs(inner["n"] - 15) / 20 + 0.2 * (inner["c"] != 2)
    losses = [point["q"] / 10 + extra + point["l"], (1 - point["q"] / 10) ** 2 + extra + point["l"]]
    return {"status": STATUS_OK, "loss": losses[0], "losses": losses}


def run(algorithm, objective=two_losses, space=MIXED, trials=50, seed=0, **options):
    history = Trials()
    suggest = functools.partial(plugins.load("search/algorithms", algorithm).suggest, **options)
    with contextlib.suppress(AllTrialsFailed):
        fmin(
            objective,
            space,
            algo=suggest,
            max_evals=trials,
            trials=history,
            rstate=np.random.default_rng(seed),
            show_progressbar=False,
            catch_eval_exceptions=True,
        )
    return history


def points(history):
    return [{k: v[0] for k, v in t["misc"]["vals"].items() if len(v)} for t in history.trials]


def volume(history):
    return hypervolume(np.array([r["losses"] for r in history.results]), np.full(2, 2.0))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_suggestion_is_a_point_of_the_space(algorithm):
    found = points(run(algorithm))
    assert len(found) == 50
    for point in found:
        assert set(point) == {"kind", "q", "l"} | ({"x"} if point["kind"] == 0 else {"n", "c"})
        assert 0 <= point["q"] <= 10
        assert np.exp(-5) <= point["l"] <= 1


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_seed_decides(algorithm):
    assert points(run(algorithm, seed=1, trials=30)) == points(run(algorithm, seed=1, trials=30))
    assert points(run(algorithm, seed=1, trials=30)) != points(run(algorithm, seed=2, trials=30))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_nothing_is_suggested_twice_while_something_new_is_left(algorithm):
    space = {"a": hp.randint("a", 0, 8), "b": hp.choice("b", range(6))}
    found = points(run(algorithm, lambda p: {"status": STATUS_OK, "loss": p["a"] + p["b"]}, space, trials=40))
    assert len({tuple(sorted(p.items())) for p in found}) == 40


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_failed_and_infeasible_trials_do_no_harm(algorithm):
    def objective(point):
        if point["q"] < 3:
            return {"status": STATUS_FAIL}
        if point["q"] == 3:
            raise RuntimeError("a trial that crashes")
        return two_losses(point) | {"violation": max(0.0, point["q"] - 7)}

    history = run(algorithm, objective, trials=50)
    late = [p["q"] for p in points(history)[-20:]]
    if algorithm != "random":
        assert np.mean([3 < q <= 7 for q in late]) > 0.5  # 0.4 of the space is feasible


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_only_failures_are_a_history_too(algorithm):
    assert len(points(run(algorithm, lambda point: {"status": STATUS_FAIL}, trials=25))) == 25


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_one_loss_is_enough(algorithm):
    history = run(algorithm, lambda p: two_losses(p)["losses"][0], trials=60)
    assert np.mean(history.losses()[-20:]) < np.mean(history.losses()[:16]) or algorithm == "random"


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_what_is_not_accepted_is_not_suggested(algorithm):
    history = run(algorithm, accepts=lambda values: values["q"] % 2 == 0)
    assert {p["q"] % 2 for p in points(history)} == {0}


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_several_ids_get_several_points(algorithm):
    history = run(algorithm, trials=20)
    domain = Domain(two_losses, MIXED)
    docs = plugins.load("search/algorithms", algorithm).suggest([20, 21, 22], domain, history, 0)
    assert [d["tid"] for d in docs] == [20, 21, 22]
    assert len({str(d["misc"]["vals"]) for d in docs}) == 3


@pytest.mark.parametrize("algorithm", [a for a in ALGORITHMS if a != "random"])
def test_learning_beats_chance(algorithm):
    gains = [volume(run(algorithm, seed=s, trials=60)) - volume(run("random", seed=s, trials=60)) for s in range(3)]
    assert np.mean(gains) > 0


def test_a_mistyped_algorithm_is_named():
    expected = (
        r"^There is no algorithm 'portfolo'; allowed: nsga2, portfolio, random, surrogate, tpe\. "
        r"Did you mean 'portfolio'\?$"
    )
    with pytest.raises(UnknownNameError, match=expected):
        plugins.load("search/algorithms", "portfolo")


@settings(max_examples=50)
@given(search_spaces(), st.integers(0, 2**32))
def test_a_child_is_a_filling_and_keeps_what_its_parents_share(space, seed):
    rng = np.random.default_rng(seed)
    encoding = encoding_of(Domain(lambda point: 0.0, to_hyperopt(space)))
    mother, father = (encoding.encode(sample(space, rng)) for _ in range(2))
    row = child(encoding, mother, father, rng)
    space.fill_from({k: int(v) for k, v in encoding.decode(row).items()})
    assert [d.is_active(row) for d in encoding.dimensions] == np.isfinite(row).tolist()


def test_where_parents_differ_in_structure_what_hangs_on_it_comes_from_one_of_them(monkeypatch):
    monkeypatch.setattr(nsga2, "MUTATIONS", 0)
    layers = [hp.randint(f"layer{i}", 0, 10) for i in range(4)]
    space = {"depth": hp.choice("depth", [layers[:2], layers[:4]]), "rest": hp.randint("rest", 0, 10)}
    encoding = encoding_of(Domain(lambda point: 0.0, space))
    mother = encoding.encode({"depth": 0, "rest": 1, "layer0": 1, "layer1": 1})
    father = encoding.encode({"depth": 1, "rest": 9} | {f"layer{i}": 9 for i in range(4)})
    rng, found = np.random.default_rng(0), set()
    for _ in range(100):
        values = encoding.decode(child(encoding, mother, father, rng))
        layers_of_child = tuple(values[f"layer{i}"] for i in range(2 if values["depth"] == 0 else 4))
        assert layers_of_child == ((1, 1), (9, 9, 9, 9))[values["depth"]]
        found.add((values["depth"], values["rest"]))
    assert found == {(0, 1), (0, 9), (1, 1), (1, 9)}


@given(st.integers(1, 9), st.integers(0, 2**32), st.data())
def test_a_mutation_stays_within_the_options(options, seed, data):
    number = data.draw(st.integers(0, options - 1))
    dimension = Dimension("x", "randint", (0,), 0.0, (1 / options,) * options, data.draw(st.booleans()), ((),))
    assert mutate(dimension, float(number), np.random.default_rng(seed)) in range(options)


def test_crowding_distance_is_infinite_at_the_ends_and_the_side_of_the_box_between():
    losses = np.array([[0.0, 4.0], [1.0, 2.0], [3.0, 1.0], [4.0, 0.0]])
    np.testing.assert_allclose(crowding_distance(losses), [np.inf, 3 / 4 + 3 / 4, 3 / 4 + 2 / 4, np.inf])


@given(st.integers(1, 12), st.integers(0, 2**32))
def test_the_good_trials_are_as_many_as_asked_and_none_outside_is_of_a_better_front(count, seed):
    losses = np.random.default_rng(seed).integers(0, 5, (12, 2)).astype(float)
    history = as_history([(np.array([float(i)]), tuple(row), 0.0) for i, row in enumerate(losses)], 1, {})
    good = choose_good(history, count)
    assert len(set(good.tolist())) == count
    ranks = non_domination_rank(losses)
    others = np.setdiff1d(np.arange(12), good)
    assert len(others) == 0 or ranks[good].max() <= ranks[others].min()


def test_the_chosen_subset_has_nearly_the_largest_hypervolume():
    rng = np.random.default_rng(1)
    angles = np.sort(rng.random(9)) * np.pi / 2
    losses = 1 - np.column_stack([np.cos(angles), np.sin(angles)])
    reference = losses.max(axis=0) + 0.1
    best = max(hypervolume(losses[list(rows)], reference) for rows in itertools.combinations(range(9), 4))
    found = hypervolume(losses[largest_hypervolume(losses, 4)], reference)
    assert found >= (1 - 1 / np.e) * best  # the guarantee of the greedy choice; in practice far closer
    assert found >= 0.95 * best


@given(st.integers(1, 20), st.lists(st.integers(0, 19)), st.booleans())
def test_a_density_sums_to_one_and_prefers_what_was_taken(options, taken, is_ordered):
    taken = [t % options for t in taken]
    dimension = Dimension("x", "randint", (0,), 0.0, (1 / options,) * options, is_ordered, ((),))
    numbers = np.array([*taken, np.nan])
    probabilities = density(dimension, numbers, np.ones(len(numbers)))
    assert probabilities.sum() == pytest.approx(1)
    assert (probabilities > 0).all()
    if taken and not is_ordered:
        assert probabilities.argmax() in taken


def test_old_trials_are_forgotten_slowly():
    weights = forgetting(100)
    assert (weights[-25:] == 1).all()
    assert weights[0] == pytest.approx(0.01)
    assert (np.diff(weights) >= 0).all()
    assert (forgetting(25) == 1).all()
