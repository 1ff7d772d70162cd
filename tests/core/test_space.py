"""A search space is an architecture with holes."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codesign.blocks.dense import Dense
from codesign.core.errors import InvalidValueError
from codesign.core.space import Choice, Repeat, SearchSpace, one_of, ordered
from tests.strategies import search_spaces

SPACE = SearchSpace((4,), (one_of(None, Dense(ordered(2, 4))), Repeat(Dense(3, one_of("relu", "identity")), (0, 2))))


def fill_by_draw(space, data):
    """Fill a space as hypothesis likes; return the architecture and what was asked, in order."""
    asked = {}

    def choose(label, choice):
        assert label not in asked
        asked[label] = data.draw(st.integers(0, len(choice.options) - 1))
        return asked[label]

    return space.fill(choose), asked


@given(search_spaces(), st.data())
def test_fill_asks_exactly_for_the_holes_whose_conditions_hold_parents_first(space, data):
    _, asked = fill_by_draw(space, data)
    active = [h.label for h in space.holes() if all(asked.get(label) in indices for label, indices in h.conditions)]
    assert sorted(active) == sorted(asked)
    for hole in space.holes():
        if hole.label in asked:
            before = list(asked)[: list(asked).index(hole.label)]
            assert all(label in before for label, _ in hole.conditions)
            assert asked[hole.label] < hole.options


@given(search_spaces(), st.data())
def test_the_choices_give_the_architecture_again(space, data):
    architecture, asked = fill_by_draw(space, data)
    assert space.fill_from(asked) == architecture
    assert space.fill_from(asked | {"not active": 7}) == architecture


@given(search_spaces())
def test_every_filling_is_a_network_without_holes(space):
    architecture = space.fill(lambda label, choice: len(choice.options) - 1)
    assert "Choice" not in repr(architecture)
    assert "Repeat" not in repr(architecture)


@settings(max_examples=30)
@given(search_spaces())
def test_size_is_the_product_where_nothing_nests(space):
    flat = SearchSpace(space.input_shape, (Dense(ordered(1, 2, 3), one_of("relu", "identity")), Dense(1)))
    assert flat.size() == 6
    both = SearchSpace(space.input_shape, (*space.blocks, Dense(ordered(1, 2, 3))))
    assert both.size() == 3 * space.size()


def test_none_is_no_block_and_a_repetition_is_spliced():
    assert SPACE.fill_from({"0": 0, "1": 0}).blocks == ()
    blocks = SPACE.fill_from({"0": 1, "0.1.width": 1, "1": 1, "1.0.activation": 0, "1.1.activation": 1}).blocks
    assert blocks == (Dense(4), Dense(3, "relu"), Dense(3, "identity"))
    assert SPACE.size() == (1 + 2) * (1 + 2 * 2)


def test_holes_carry_what_a_sampler_needs():
    holes = {h.label: h for h in SPACE.holes()}
    assert list(holes) == ["0", "0.1.width", "1", "1.0.activation", "1.1.activation"]
    assert holes["0.1.width"].conditions == (("0", (1,)),)
    assert holes["1.1.activation"].conditions == (("1", (1,)),)
    assert [h.is_ordered for h in holes.values()] == [False, True, True, False, False]


def test_a_choice_needs_options():
    with pytest.raises(InvalidValueError, match=r"^A choice of a search space has no options; allowed: one or more\.$"):
        Choice(())


@pytest.mark.parametrize("index", [-1, 2])
def test_a_filling_takes_options_that_exist(index):
    with pytest.raises(InvalidValueError, match=rf"^Hole 0 was filled with option {index}; allowed: 0 to 1\.$"):
        SPACE.fill_from({"0": index, "1": 0})
