"""The estimate of an hls4ml project: the rules that are known, and intervals that hold every number."""

import json

import numpy as np
import pytest
from hls4ml.backends import get_backend
from hypothesis import given, settings
from hypothesis import strategies as st

from codesign.backends import da4ml, hls_estimate
from codesign.backends._hls_adders import signed_digits
from codesign.backends.hls_options import IOS, STRATEGIES, HlsOptions
from codesign.core.errors import UnsupportedError
from codesign.core.fixed_point import FixedPoint
from codesign.core.integer_network import IntegerNetwork
from codesign.core.operations import Input, Linear, Max, Patches, Quantize, Relu, Reshape
from tests.strategies import integer_networks


def dense(bits=6, weight=((3, -5), (7, 0), (1, 2))):
    return IntegerNetwork((
        Input((), (3,), (FixedPoint(bits, 2),)),
        Linear((0,), np.array(weight), np.array([1, 0]), 3, 4),
        Relu((1,)),
        Quantize((2,), (FixedPoint(4, 3, is_signed=False),)),
    ))  # fmt: skip


@given(st.integers(-(1 << 40), 1 << 40))
def test_signed_digits_are_those_of_the_non_adjacent_form(value):
    rest, digits = abs(value), 0
    while rest:
        if rest % 2:
            rest -= 2 - rest % 4
            digits += 1
        rest //= 2
    assert signed_digits(np.array([value])) == digits


@given(integer_networks(), st.sampled_from(IOS), st.sampled_from(STRATEGIES))
@settings(max_examples=50, deadline=None)
def test_every_number_lies_in_its_interval_and_all_is_json(network, io, strategy):
    result = hls_estimate.estimate(network, options=HlsOptions("Vitis", io, strategy))
    for layer in result.layers:
        for number in (layer.cycles, layer.lut, layer.ff, layer.dsp, layer.bram):
            assert 0 <= number.low <= number.value <= number.high
    if io == "io_parallel":
        assert result.ii == 1
    report = json.loads(json.dumps(result.report(), allow_nan=False))
    assert report["level"] == "estimate"
    assert report["options"] == {"backend": "Vitis", "io": io, "strategy": strategy, "reuse_factor": 1}
    assert report["tool"] == "rules for hls4ml, no vendor tool"


@given(st.integers(1, 24), st.integers(1, 12), st.integers(1, 300))
@settings(deadline=None)
def test_the_reuse_factor_is_the_one_that_hls4ml_takes(inputs, outputs, asked):
    backend = get_backend("Vitis")
    expected = backend.get_closest_reuse_factor(backend.get_valid_reuse_factors(inputs, outputs), asked)
    assert hls_estimate.nearest_reuse_factor(inputs, outputs, asked) == expected


@pytest.mark.parametrize("reuse_factor", [1, 3, 6])
def test_a_dense_layer_of_the_resource_strategy_takes_its_reuse_factor(reuse_factor):
    result = hls_estimate.estimate(dense(), options=HlsOptions(strategy="resource", reuse_factor=reuse_factor))
    assert result.layers[0].ii == result.ii == reuse_factor
    assert result.layers[0].cycles == (reuse_factor + 2,) * 3


def test_a_larger_reuse_factor_takes_fewer_luts_and_more_cycles():
    results = [
        hls_estimate.estimate(dense(), options=HlsOptions(strategy="resource", reuse_factor=n)) for n in (1, 2, 3, 6)
    ]
    luts = [r.total("lut").value for r in results]
    cycles = [r.total("cycles").value for r in results]
    assert luts == sorted(luts, reverse=True)
    assert cycles == sorted(cycles)


def test_luts_of_a_dense_layer_are_digits_times_bits():
    # 3 = 4 - 1, -5 = -4 - 1, 7 = 8 - 1, 1, 2: eight digits of six bits
    assert hls_estimate.estimate(dense()).layers[0].lut == (48, 24, 96)


def test_zero_weights_take_nothing():
    layer = hls_estimate.estimate(dense(weight=((0, 0), (0, 0), (0, 0)))).layers[0]
    assert (layer.lut.high, layer.dsp.high) == (0, 0)


@pytest.mark.parametrize(("bits", "dsps"), [(9, 0), (10, 3)])
def test_multiplications_of_ten_bits_may_take_dsps(bits, dsps):
    assert hls_estimate.estimate(dense(bits)).layers[0].dsp == (0, 0, dsps)  # 3, 5 and 7; not 1, 2 and 0


def test_what_only_moves_values_takes_nothing_and_a_maximum_is_a_tree():
    network = IntegerNetwork(
        (Input((), (4, 2), (FixedPoint(6, 2),)), Reshape((0,), (8,)), Max((1,), axis=0, keep=True))
    )
    moved, maximum = hls_estimate.estimate(network).layers
    assert (moved.cycles, moved.lut) == ((0, 0, 0), (0, 0, 0))
    assert maximum.cycles.high == 6  # three levels of a comparison and a choice
    assert maximum.lut.value == 7 * 6 * 2


def test_a_faster_clock_takes_more_cycles():
    slow, fast = (hls_estimate.estimate(dense(), clock_ns).total("cycles") for clock_ns in (10.0, 1.0))
    assert slow.value < fast.value
    assert (slow.low, slow.high) == (fast.low, fast.high)


def test_c_synthesis_is_expected_far_above():
    result = hls_estimate.estimate(dense())
    total = result.total("lut")
    assert result.csynth_lut == (1.7 * total.low, 11.0 * total.high)


def image(pixels=5, channels=2):
    weight = np.arange(9 * channels * 3).reshape(-1, 3) % 7 - 3
    return IntegerNetwork((
        Input((), (pixels, pixels, channels), (FixedPoint(6, 2),)),
        Patches((0,), 3, padding=1),
        Linear((1,), weight, np.array([1, 0, 2]), 3, 4),
        Relu((2,)),
        Max((3,), axis=0),
    ))  # fmt: skip


def test_a_stream_takes_a_position_at_a_time_with_the_hardware_of_one():
    parallel, stream = (hls_estimate.estimate(image(), options=HlsOptions(io=io)) for io in IOS)
    convolution, relu, maximum = stream.layers
    assert convolution.ii == stream.ii == 7 * 7  # the padded image
    assert (relu.ii, maximum.ii) == (5 * 5, 5 * 5)
    assert convolution.dsp.high * 25 == parallel.layers[1].dsp.high
    first_window = 2 * 7 + 3
    assert convolution.cycles.value - parallel.layers[1].cycles.value == first_window
    memories = 6 * 2 + 2 * 6 * 2  # a FIFO of pixels, two lines: a LUT for each bit, up to 32 words deep
    assert convolution.lut.value == parallel.layers[1].lut.value / 25 + memories


def test_a_stream_of_reused_multipliers_takes_its_reuse_factor_for_each_position():
    options = HlsOptions(io="io_stream", strategy="resource", reuse_factor=3)
    assert hls_estimate.estimate(image(), options=options).ii == 7 * 7 * (3 + 2)


def test_an_adder_graph_takes_what_da4ml_says_and_no_dsp():
    network = IntegerNetwork(dense(12).operations[:2])
    layer = hls_estimate.estimate(network, options=HlsOptions(strategy="distributed_arithmetic")).layers[0]
    assert layer.lut.value == da4ml.estimate(network)[0].lut
    assert layer.dsp == (0, 0, 0)


def test_a_network_without_layers_takes_nothing():
    result = hls_estimate.estimate(IntegerNetwork(dense().operations[:1]))
    assert (result.ii, result.total("lut")) == (1, (0, 0, 0))


def test_a_project_for_catapult_has_no_estimate():
    with pytest.raises(UnsupportedError) as error:
        hls_estimate.estimate(dense(), options=HlsOptions("Catapult"))
    assert str(error.value) == "The rules know the tools of AMD; a project for Catapult has no estimate."
