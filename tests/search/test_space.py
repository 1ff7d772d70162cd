"""Choices, hyperopt's points and architectures are three views of one filling."""

import numpy as np
import pytest
from hyperopt import Domain, Trials, rand, space_eval
from hyperopt.base import Ctrl
from hypothesis import given, settings
from hypothesis import strategies as st

from codesign.blocks.deep_sets import DeepSets
from codesign.blocks.dense import Dense
from codesign.core.architecture import Architecture
from codesign.core.space import Repeat, SearchSpace, one_of, ordered
from codesign.search.space import choices_of, digest, every_filling, find_choices, sample, to_hyperopt
from tests.strategies import search_spaces


@settings(max_examples=40)
@given(search_spaces(), st.integers(0, 2**32))
def test_hyperopt_gives_back_the_choices_it_is_given(space, seed):
    choices = sample(space, np.random.default_rng(seed))
    assert choices_of(space_eval(to_hyperopt(space), choices)) == choices


@settings(max_examples=40)
@given(search_spaces(), st.integers(0, 2**31 - 1))
def test_what_hyperopt_draws_is_a_filling(space, seed):
    seen = []
    domain, trials = Domain(lambda point: seen.append(choices_of(point)) or 0.0, to_hyperopt(space)), Trials()
    misc = rand.suggest([0], domain, trials, seed)[0]["misc"]
    drawn = {label: values[0] for label, values in misc["vals"].items() if values}
    domain.evaluate(drawn, Ctrl(trials))
    assert seen == [drawn]
    assert space.fill_from(drawn) == space.fill_from(seen[0])


@settings(max_examples=60)
@given(search_spaces(), st.integers(0, 2**32))
def test_choices_are_found_for_every_architecture_of_the_space(space, seed):
    architecture = space.fill_from(sample(space, np.random.default_rng(seed)))
    assert space.fill_from(find_choices(space, architecture)) == architecture


@settings(max_examples=40)
@given(search_spaces())
def test_every_filling_comes_once(space):
    fillings = []
    for choices in every_filling(space):
        fillings.append(tuple(sorted(choices.items())))
        if len(fillings) > 500:
            break
    assert len(set(fillings)) == len(fillings)
    if space.size() <= 500:
        assert len(fillings) == space.size()


def test_every_option_is_drawn_alike():
    space = SearchSpace((2,), (Dense(ordered(1, 2, 3, 4)), Repeat(Dense(2), (0, 1))))
    rng = np.random.default_rng(0)
    counts = np.bincount([sample(space, rng)["0.width"] for _ in range(4000)])
    assert np.abs(counts - 1000).max() < 120


@pytest.mark.parametrize(
    "architecture",
    [
        Architecture((8, 3), (DeepSets((4, 8)), Dense(5))),  # not a width of the space
        Architecture((8, 3), (DeepSets((4,)), Dense(5))),  # too few layers
        Architecture((8, 3), (DeepSets((4, 4)), Dense(5), Dense(5))),  # a block too many
        Architecture((8, 3), (DeepSets((4, 4)),)),  # a block too few
        Architecture((4, 3), (DeepSets((4, 4)), Dense(5))),  # another input
        Architecture((8, 3), (DeepSets((4, 4), aggregation="max"), Dense(5))),  # a field that is no hole
    ],
)
def test_an_architecture_outside_of_the_space_has_no_choices(architecture):
    space = SearchSpace((8, 3), (DeepSets((ordered(2, 4), ordered(2, 4))), Dense(5)))
    assert find_choices(space, Architecture((8, 3), (DeepSets((4, 4)), Dense(5))))
    assert find_choices(space, architecture) == {}


def test_repetitions_are_found_around_blocks_that_look_alike():
    space = SearchSpace((2,), (Repeat(Dense(ordered(1, 2)), (0, 1, 2)), one_of(None, Dense(2)), Dense(ordered(2, 3))))
    architecture = Architecture((2,), (Dense(2), Dense(2), Dense(3)))
    assert space.fill_from(find_choices(space, architecture)) == architecture


def test_a_digest_tells_spaces_apart():
    assert digest(SearchSpace((2,), (Dense(ordered(1, 2)),))) == digest(SearchSpace((2,), (Dense(ordered(1, 2)),)))
    assert digest(SearchSpace((2,), (Dense(ordered(1, 2)),))) != digest(SearchSpace((2,), (Dense(one_of(1, 2)),)))
