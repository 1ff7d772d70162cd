"""Names of holes that a person can read, and what part of a metric a choice explains."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from codesign.blocks.deep_sets import DeepSets
from codesign.blocks.dense import Dense
from codesign.core.space import Repeat, SearchSpace, one_of, ordered
from codesign.core.trial import Fidelity, Trial
from codesign.tracking.choices import chosen, importance

WIDTH = ordered(4, 8)
SPACE = SearchSpace(
    (2, 3), (one_of(DeepSets((Repeat(WIDTH, (0, 2)), WIDTH)), Dense(WIDTH)), Repeat(Dense(WIDTH), (0, 1)), Dense(3))
)


def trial(number, **choices):
    choices = {label.replace("_", "."): index for label, index in choices.items()}
    choices = {label.removeprefix("h"): index for label, index in choices.items()}
    return Trial(number, SPACE.fill_from(choices), 0, Fidelity(1), choices=choices)


def test_holes_have_names_and_options_have_texts():
    trials = [
        trial(0, h0=0, h0_0_widths_0=1, h0_0_widths_0_0=0, h0_0_widths_0_1=1, h0_0_widths_1=1, h1=0),
        trial(1, h0=1, h0_1_width=0, h1=1, h1_0_width=1),
        Trial(2, SPACE.fill(lambda *_: 0), 0, Fidelity(1)),
    ]  # fmt: skip
    assert chosen(SPACE, trials) == {
        "block 1": {0: "DeepSets", 1: "Dense"},
        "block 1 DeepSets widths 1 count": {0: "2"},
        "block 1 DeepSets widths 1 #1": {0: "4"},
        "block 1 DeepSets widths 1 #2": {0: "8"},
        "block 1 DeepSets widths 2": {0: "8"},
        "block 1 Dense width": {1: "4"},
        "block 2 count": {0: "0", 1: "1"},
        "block 2 #1 width": {1: "8"},
    }


def test_a_choice_that_decides_everything_explains_everything():
    options = {n: "ab"[n % 2] for n in range(20)}
    assert importance(options, {n: float(n % 2) for n in range(20)}) == 1
    assert importance(options, dict.fromkeys(range(20), 1.0)) == 0
    assert importance({}, {0: 1.0, 1: 2.0}) == 0


def test_what_a_hole_explains_by_being_there_is_not_its_own():
    values = {n: float(n < 10) for n in range(20)}
    assert importance({n: "ab"[n % 2] for n in range(10)}, values) == 0
    half = {n: 1.0 * (n % 2) if n < 10 else 0.5 for n in range(20)}
    assert importance({n: "ab"[n % 2] for n in range(10)}, half) == 1


@given(st.integers(0, 2**32 - 1), st.integers(2, 10))
def test_a_choice_that_decides_nothing_explains_next_to_nothing(seed, count):
    rng = np.random.default_rng(seed)
    options = {n: str(rng.integers(count)) for n in range(400)}
    assert 0 <= importance(options, {n: float(rng.normal()) for n in range(400)}) < 0.15
