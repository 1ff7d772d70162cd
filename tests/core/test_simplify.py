"""Simplification keeps the function, bit for bit, and removes what has no effect."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from codesign.core import operations as ops
from codesign.core.errors import InvalidValueError
from codesign.core.fixed_point import FixedPoint
from codesign.core.integer_network import IntegerNetwork
from codesign.core.simplify import simplify
from tests.strategies import image_networks, integer_networks, vectors_for


def _neurons(network):
    return [operation.weight.shape[1] for operation in network.operations if isinstance(operation, ops.Linear)]


def _with_twins(network, seed):
    """Return the network with copies of outputs of its linear steps, outputs without weights, and rows of zeros."""
    rng = np.random.default_rng(seed)
    steps = list(network.operations)
    for i, step in enumerate(steps):
        if isinstance(step, ops.Linear):
            picked = rng.integers(0, step.weight.shape[1], step.weight.shape[1])
            weight = step.weight[:, picked] * (rng.random(len(picked)) < 0.7)
            weight[rng.integers(len(weight))] = 0
            steps[i] = replace(step, weight=weight, bias=step.bias[picked])
    try:
        return IntegerNetwork(tuple(steps))
    except InvalidValueError:  # other weights reach beyond a table that was drawn for these
        reject()


@settings(max_examples=150, deadline=None)
@given(st.one_of(integer_networks(), image_networks()), st.integers(0, 99))
def test_every_output_stays_the_same(network, seed):
    twins = _with_twins(network, seed)
    simple = simplify(twins)
    inputs = vectors_for(twins)
    assert np.array_equal(simple.emulate(inputs), twins.emulate(inputs))
    assert simple.output_shape == twins.output_shape
    assert all(after <= before for after, before in zip(_neurons(simple), _neurons(twins), strict=True))
    assert simplify(simple).digest == simple.digest or sum(_neurons(simplify(simple))) < sum(_neurons(simple))


X = ops.Input((), (2, 3), (FixedPoint(4, 2),))
WEIGHT = np.array([[1, 2, 0, 1], [3, -1, 0, 3], [0, 5, 0, 0]])
BIAS = np.array([1, 2, 3, 1])
NEXT = np.array([[1, 4], [0, 0], [2, 1], [5, -7]])


@pytest.mark.parametrize("is_apart", [False, True], ids=["per channel", "per element"])
def test_constants_twins_and_unused_neurons_leave(is_apart):
    formats = tuple(FixedPoint(5, 3, False) for _ in range(8 if is_apart else 4))
    middle = (
        (ops.Reshape((2,), (8,)), ops.Quantize((3,), formats), ops.Reshape((4,), (2, 4)))
        if is_apart
        else (ops.Quantize((2,), formats),)
    )
    last = ops.Linear((2 + len(middle),), NEXT, np.array([0, 1]), 0, 2)
    steps = (X, ops.Linear((0,), WEIGHT, BIAS, 0, 2), ops.Relu((1,)), *middle, last)
    network = IntegerNetwork(steps)
    simple = simplify(network)
    assert _neurons(simple) == [1, 2]  # the second is unused, the third constant, the fourth equals the first
    assert np.array_equal(simple.operations[-1].weight, [[6, -3]])
    assert simple.operations[-1].bias.tolist() == [6, 4]  # 2 * 3 and 1 + 1 * 3, on the grid of the bias
    assert np.array_equal(simple.emulate(vectors_for(network)), network.emulate(vectors_for(network)))


def test_a_constant_that_meets_padding_stays():
    image = ops.Input((), (3, 3, 1), (FixedPoint(3, 3),))
    first = ops.Linear((0,), np.array([[0, 1]]), np.array([2, 0]), 0, 0)
    steps = (image, first, ops.Patches((1,), 3, 1), ops.Linear((2,), np.ones((18, 1), dtype=int), np.array([0]), 0, 0))
    network = IntegerNetwork(steps)
    assert _neurons(simplify(network)) == [2, 1]


@pytest.mark.parametrize(
    ("formats", "next_weight"),
    [((FixedPoint(4, 3), FixedPoint(4, 1)), [1, 0]), ((FixedPoint(0, 0), FixedPoint(4, 6)), [1, 0])],
    ids=["the finest leaves", "zeros stay"],
)
def test_the_outputs_keep_their_grid(formats, next_weight):
    first = ops.Linear((0,), np.array([[3, 1], [1, 2], [0, 1]]), np.array([1, 0]), 0, 2)
    last = ops.Linear((2,), np.array([next_weight]).T, np.array([3]), 0, -3)
    network = IntegerNetwork((X, first, ops.Quantize((1,), formats), last))
    simple = simplify(network)
    assert _neurons(simple) == [1, 1]
    assert simple.ranges[-1].fraction_bits == network.ranges[-1].fraction_bits
    assert np.array_equal(simple.emulate(vectors_for(network)), network.emulate(vectors_for(network)))
