"""What would make a study useless is said in one sentence, before anything is trained."""

import pytest

from codesign.blocks.deep_sets import DeepSets
from codesign.blocks.dense import Dense
from codesign.core.errors import InvalidValueError, UnknownNameError
from codesign.core.space import Repeat, SearchSpace, one_of, ordered
from codesign.core.task import Objective
from codesign.search.check import check_objectives, check_space, require_candidate

KEYS = {"accuracy": 1.0, "error": 0.0, "lut_estimate": 0.0}
OUT_OF_REACH = SearchSpace((4, 3), (Dense(8), one_of(Dense(4), DeepSets((ordered(2, 4),)))))


@pytest.mark.parametrize(
    ("objectives", "kind", "sentence"),
    [
        (
            (Objective("eror"), Objective("lut_estimate")),
            UnknownNameError,
            "There is no metric 'eror'; allowed: accuracy, error, lut_estimate. Did you mean 'error'?",
        ),
        (
            (Objective("error"), Objective("lut_estimate", limit=100), Objective("lut_estimate", "max", limit=200)),
            InvalidValueError,
            "The metric lut_estimate is stated 2 times (min lut_estimate <= 100; max lut_estimate >= 200); "
            "state it once, with one limit.",
        ),
        (
            (Objective("accuracy", "max", limit=1.5), Objective("lut_estimate")),
            InvalidValueError,
            "The limit of accuracy is 1.5, but its best possible value is 1; relax the limit.",
        ),
        (
            (Objective("error", limit=-0.1), Objective("lut_estimate")),
            InvalidValueError,
            "The limit of error is -0.1, but its best possible value is 0; relax the limit.",
        ),
    ],
)
def test_objectives_that_cannot_be_met(objectives, kind, sentence):
    with pytest.raises(kind) as caught:
        check_objectives(objectives, KEYS, KEYS)
    assert str(caught.value) == sentence


def test_limits_at_the_edge_are_allowed():
    check_objectives((Objective("accuracy", "max", limit=1.0), Objective("error", limit=0.0)), KEYS, KEYS)


@pytest.mark.parametrize(
    ("space", "sentence"),
    [
        (
            OUT_OF_REACH,
            "The hole 1.1.widths.0 of the search space is out of reach: none of 64 architectures that have it is "
            "valid. The last one: Deep sets received shape (8,); allowed: (particles, features).",
        ),
        (
            SearchSpace((4,), (Dense(3), Repeat(Dense(ordered(2, 4)), ()))),
            "The search space has no architecture; every hole needs an option that can be filled.",
        ),
        (
            SearchSpace((4, 3), (DeepSets([ordered(2, 4)]), Dense(3))),
            "The search space has a list ([Choice(options=(2, 4), is_ordered=True)]); allowed: a tuple, in which holes "
            "are filled.",
        ),
    ],
)
def test_spaces_that_cannot_be_searched(space, sentence):
    with pytest.raises(InvalidValueError) as caught:
        check_space(space)
    assert str(caught.value) == sentence


def test_a_hole_that_only_some_architectures_reach_is_allowed():
    check_space(SearchSpace((4, 3), (one_of(None, Dense(8)), one_of(Dense(4), DeepSets((ordered(2, 4),))))))


def test_a_limit_that_no_architecture_keeps():
    space = SearchSpace((4,), (Dense(ordered(2, 4)), Dense(3)))
    objectives = (Objective("error"), Objective("macs", limit=10))
    with pytest.raises(InvalidValueError) as caught:
        require_candidate(space, objectives, lambda architecture: {"macs": architecture.macs()})
    assert str(caught.value) == (
        "No architecture of the space can be tried; 2 were looked at, and most were refused so: limit: macs is 14, "
        "limit 10."
    )
    require_candidate(space, objectives, lambda architecture: {"macs": architecture.macs() - 5})
