"""Golden vectors cover the edges of every format and are the same for the same seed."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codesign.core.errors import InvalidValueError
from codesign.core.fixed_point import FixedPoint, Overflow
from codesign.core.integer_network import IntegerNetwork
from codesign.core.operations import Input, Linear, Quantize
from codesign.synthesis.vectors import edge_rows, golden_vectors, random_rows
from tests.strategies import integer_networks


@settings(max_examples=100, deadline=None)
@given(integer_networks(), st.integers(0, 2**32))
def test_every_vector_is_an_input_the_host_could_send(network, seed):
    golden = golden_vectors(network, count=20, seed=seed)
    values = golden.inputs * 2.0 ** -network.ranges[0].fraction_bits
    assert np.array_equal(network.quantize_input(values), golden.inputs)
    assert np.array_equal(golden.outputs, network.emulate(golden.inputs))
    assert golden.inputs.dtype == golden.outputs.dtype == np.int64


@settings(max_examples=50, deadline=None)
@given(integer_networks())
def test_edges_hold_zero_minimum_and_maximum(network):
    rows, (low, high) = edge_rows(network), (network.ranges[0].low, network.ranges[0].high)
    for wanted in (np.zeros_like(low), low, high):
        assert (rows == wanted).reshape(len(rows), -1).all(axis=1).any()


def test_edges_drive_a_linear_layer_to_both_ends_of_its_range_and_saturate_what_follows():
    weight = np.array([[3, -2], [-5, 7]])
    target = FixedPoint(4, 3)
    network = IntegerNetwork(
        (
            Input((), (2,), (FixedPoint(6, 3),)),
            Linear((0,), weight, np.array([0, 0]), 2, 2),
            Quantize((1,), (target,), overflow=Overflow.SATURATE),
        )
    )
    _, sums, outputs = network.trace(edge_rows(network))
    assert (sums.mantissa.min(axis=0) == network.ranges[1].low).all()
    assert (sums.mantissa.max(axis=0) == network.ranges[1].high).all()
    assert (outputs.mantissa.min(), outputs.mantissa.max()) == (target.minimum, target.maximum)


def test_data_comes_first_and_random_rows_fill_up():
    network = IntegerNetwork((Input((), (3,), (FixedPoint(8, 3),)),))
    data = np.random.default_rng(0).normal(0, 3, (70, 3))
    edges = len(edge_rows(network))
    golden = golden_vectors(network, data, count=100, seed=4)
    assert len(golden) == edges + 100
    assert np.array_equal(golden.inputs[edges : edges + 70], network.quantize_input(data))
    assert len(golden_vectors(network, data, count=50)) == edges + 50
    assert np.array_equal(golden.inputs, golden_vectors(network, data, count=100, seed=4).inputs)
    assert not np.array_equal(random_rows(network, 100, 4), random_rows(network, 100, 5))


def test_no_vectors_is_refused():
    network = IntegerNetwork((Input((), (3,), (FixedPoint(8, 3),)),))
    with pytest.raises(InvalidValueError, match=r"^The count of golden vectors is 0; allowed: 1 or more\.$"):
        golden_vectors(network, count=0)


def test_saved_vectors_are_integers_and_the_same_bytes_for_the_same_vectors(tmp_path):
    network = IntegerNetwork((Input((), (3,), (FixedPoint(8, 3),)),))
    golden = golden_vectors(network)
    with np.load(golden.save(tmp_path / "a.npz"), allow_pickle=False) as saved:
        assert np.array_equal(saved["inputs"], golden.inputs)
        assert np.array_equal(saved["outputs"], golden.outputs)
    assert (tmp_path / "a.npz").read_bytes() == golden_vectors(network).save(tmp_path / "b.npz").read_bytes()
