"""One adder graph for all positions gives what the emulator gives, a pixel a clock, whatever its neighbors do."""

import contextlib
from pathlib import Path
from types import NoneType
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from codesign.backends import da4ml, streaming, verilator
from codesign.backends._streamed import streamed
from codesign.backends.rtl.samples import Gather, Recall
from codesign.backends.rtl.segments import Windows
from codesign.blocks.conv2d import Conv2d
from codesign.blocks.conv_attention import ConvAttention
from codesign.blocks.dense import Dense
from codesign.compress.lower import lower
from codesign.compress.quantize import quantize
from codesign.core.architecture import Architecture
from codesign.core.build import BuildPlan
from codesign.core.errors import UnsupportedError
from codesign.core.fixed_point import FixedPoint
from codesign.core.integer_network import IntegerNetwork
from codesign.core.operations import (
    Add,
    Input,
    Linear,
    MatMul,
    Max,
    Patches,
    Quantize,
    Relu,
    Reshape,
    Sum,
    Table,
    Transpose,
)
from codesign.network import build
from tests import rtl_batch
from tests.strategies import image_networks, vectors_for

IMAGE = (4, 5)
NETWORKS = 12
VECTORS = 60
CONSTANT = "No output of the network depends on its input; there is nothing to build in hardware."
QUIET = list(HealthCheck)


def convolutional(image=(6, 5), padding=0, stride=1, pool=None, channels=3, bits=5):
    """Two convolutions, the second of them with a residual if padding allows it, and a dense head."""
    rng = np.random.default_rng(0)
    steps = [Input((), (*image, 2), (FixedPoint(bits, 2),))]

    def add(kind, *options):
        steps.append(kind((len(steps) - 1,), *options))
        return len(steps) - 1

    def weights(*shape):
        return rng.integers(-7, 8, shape)

    def convolution(inputs, stride):
        add(Patches, 3, padding, stride)
        add(Linear, weights(9 * inputs, channels), weights(channels), 3, 5)
        add(Relu)
        return add(Quantize, (FixedPoint(bits, 2, is_signed=False),))

    first, second = convolution(2, stride), convolution(channels, 1)
    if padding:
        steps.append(Add((second, first)))
    if pool:
        add(pool, 0)
        add(pool, 0)
    else:
        add(Reshape, (int(np.prod(IntegerNetwork(tuple(steps)).output_shape)),))
    add(Linear, weights(IntegerNetwork(tuple(steps)).output_shape[0], 2), weights(2), 3, 5)
    return IntegerNetwork(tuple(steps))


@settings(max_examples=120, deadline=None, suppress_health_check=QUIET)
@given(image_networks(), st.integers(0, 2**32))
def test_the_interpreted_kernels_equal_the_emulator(network, seed):
    vectors = vectors_for(network, 40, seed)
    with constants_refused():
        assert np.array_equal(streaming.interpret(network, vectors), network.emulate(vectors))


@contextlib.contextmanager
def constants_refused():
    try:
        yield
    except UnsupportedError as error:
        assert str(error) == CONSTANT  # noqa: PT017


def drawn(count):
    """Networks over images of one size that hypothesis draws, as Verilog."""
    designs = []

    @settings(max_examples=6 * count, database=None, deadline=None, suppress_health_check=QUIET)
    @given(st.one_of(image_networks(IMAGE), image_networks(IMAGE, mixes=(1, 2))))
    def collect(network):
        if len(designs) < count:
            with constants_refused():
                designs.append((network, streaming.plan(network, f"net{len(designs)}", 1 + len(designs) % 5)))

    collect()
    return designs


def test_the_rtl_of_random_networks_equals_the_emulator_under_stalls(tmp_path):
    designs = drawn(NETWORKS)
    assert len(designs) == NETWORKS
    vectors = [vectors_for(network, VECTORS) for network, _ in designs]
    for seed in (0, 1, 2):
        results = rtl_batch.simulate(designs, vectors, seed, tmp_path, beats=IMAGE[0] * IMAGE[1])
        for (network, rtl), mantissas, received in zip(designs, vectors, results, strict=True):
            assert np.array_equal(received, network.emulate(mantissas)), (rtl.name, seed, network.operations)


def attentive(image=(6, 5), bits=4, kind="softmax", inner=2):
    """Attention as BraggNN has it: behind a convolution without padding, and before one with it."""
    layers = (
        Conv2d((3,), 3, activation="identity"),
        ConvAttention(inner, kind),
        Conv2d((2,), 3, padding="same"),
        Dense(2, "identity"),
    )
    architecture = Architecture((*image, 1), layers)
    inputs = np.random.default_rng(0).random((100, *image, 1)).astype(np.float32)
    return lower(quantize(architecture, build(architecture, 0), bits, inputs))


class Design(NamedTuple):
    network: IntegerNetwork
    rtl: BuildPlan
    folder: Path
    cutoff: int


@pytest.fixture(scope="module", params=["padded", "attentive", "deep"])
def design(request, tmp_path_factory):
    """One of three; the last has a pipeline longer than an image has positions, four."""
    name, cutoff = request.param, 1 if request.param == "deep" else 2
    network = (
        convolutional(padding=1, pool=Sum) if name == "padded" else attentive((4, 4) if name == "deep" else (6, 5))
    )
    return Design(network, streaming.plan(network, name, cutoff), tmp_path_factory.mktemp(name), cutoff)


def simulated(design, vectors, seed):
    return verilator.simulate(design.rtl, design.network, vectors, seed, design.folder, streaming.beats(design.network))


@settings(max_examples=10, deadline=None, suppress_health_check=QUIET)
@given(st.integers(1, 2**31 - 1), st.integers(1, 60))
def test_no_stall_pattern_loses_repeats_or_changes_a_result(design, seed, count):
    vectors = vectors_for(design.network, count, seed)
    assert np.array_equal(simulated(design, vectors, seed).outputs, design.network.emulate(vectors))


def test_samples_follow_each_other_without_a_gap(design):
    vectors = vectors_for(design.network, 200)
    result = simulated(design, vectors, 0)
    assert np.array_equal(result.outputs, design.network.emulate(vectors))
    assert result.ii == streaming.beats(design.network)


def test_the_latency_of_a_lone_sample_is_the_estimate(design):
    estimated = streaming.estimate(design.network, design.cutoff)[1]
    assert simulated(design, vectors_for(design.network, 1), 0).latency_cycles == estimated.latency_cycles
    assert (estimated.ii, estimated.is_simulated) == (streaming.beats(design.network), False)


def test_values_count_where_their_weights_are_constant():
    network = pixels(
        Linear((0,), np.zeros((2, 2), dtype=int), np.zeros(2, dtype=int), 0, 0),
        Transpose((0,), (1, 0)),
        MatMul((1, 2)),
        Table((3,), np.array([1]), 0, 0),
        MatMul((4, 0)),
        shape=(5, 2),
    )
    vectors = vectors_for(network, 50)
    assert np.array_equal(streaming.interpret(network, vectors), network.emulate(vectors))


def test_a_kernel_is_counted_once_and_not_for_every_position():
    small, large = (convolutional(image, pool=Max) for image in ((6, 5), (12, 10)))
    luts = [da4ml.estimate(small, 4)[0].lut, *(streaming.estimate(n, 4)[0].lut for n in (small, large))]
    assert luts[1] < luts[0] / 3
    assert luts[2] < 1.05 * luts[1]
    assert 0.8 < streaming.unrolled_lut(small, 4) / luts[0] < 1.3


def test_attention_recalls_keys_and_values_once_they_are_narrow():
    found = streamed(attentive(), cutoff=4)
    assert [type(movement) for movement in found.movements] == [Windows, Recall, NoneType, Windows, Gather]
    recall = found.movements[1]
    assert recall.gather == Gather(beats=4 * 3, collected=(2 * 4, 2 * 4), reduced=())
    assert recall.carried_bits == 2 * 4 + 3 * 4  # the query, and the pixel for the residual
    assert [part.beats for part in found.schedule.parts] == [30, 12, 12, 12, 12, 1]


def test_values_pass_by_the_kernel_of_the_scores_in_one_bank_of_registers_for_each_sample_in_it():
    shallow, deep = (streamed(attentive((4, 4)), cutoff) for cutoff in (20, 1))
    for found, banks in ((shallow, 1), (deep, -(-deep.kernels[2].latency // 4))):
        pipe = found.pipe(2, "scores")
        assert (pipe.late_bits, pipe.beats) == (4 * 2 * 4, 4)
        assert pipe.ff - pipe.kernel_ff == banks * pipe.late_bits + 2 * pipe.latency + 3
    assert banks > 2


def test_attention_costs_as_much_for_each_position_as_there_are_positions():
    small, large = (streaming.estimate(attentive(image), 4)[0] for image in ((6, 5), (6, 8)))
    assert 1.6 < large.lut / small.lut < 2  # 12 and 24 positions: the products double, the rest stays
    assert large.ff > small.ff + 2 * 12 * 16  # keys and values, twice: one sample is kept while another comes in


def test_what_is_collected_and_kept_in_lines_is_counted():
    pooled, flat = (streaming.estimate(convolutional((8, 8), pool=pool), 4)[0] for pool in (Sum, None))
    narrow, wide = (streaming.estimate(convolutional((6, columns), pool=Sum), 4)[0] for columns in (32, 33))
    assert flat.ff > pooled.ff + 15 * 3 * 5  # the head takes 4 x 4 pixels of 3 channels of 5 bits
    assert wide.lut >= narrow.lut + 8  # the lines no longer fit into memories of 32 words


def pixels(*steps, shape=(4, 4, 2)):
    return IntegerNetwork((Input((), shape, (FixedPoint(4, 2),)), *steps))


def dense(source, inputs, outputs=1):
    return Linear((source,), np.ones((inputs, outputs), dtype=int), np.zeros(outputs, dtype=int), 0, 0)


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (
            pixels(dense(0, 16), shape=(16,)),
            "Step 0 (Input) has the shape (16,), which leaves no positions to stream; ",
        ),
        (
            pixels(Reshape((0,), (32,)), dense(1, 32)),
            "Step 1 (Reshape) takes all positions at once, before anything is computed; ",
        ),
        (
            pixels(Patches((0,), 1, 1), dense(1, 2)),
            "Step 1 (Patches) pads a kernel of (1, 1) by (1, 1); a stream takes up to (0, 0). Use less padding, or ",
        ),
        (
            pixels(Patches((0,), 3, 1), Patches((0,), 1), dense(1, 18), dense(2, 2), Add((3, 4))),
            "Step 2 (Patches) has another geometry than what streams beside it; make both equal, or ",
        ),
        (
            pixels(dense(0, 2), Patches((1,), 1, 0, 2), Reshape((2,), (4,)), Reshape((1,), (16,)), dense(3, 4),
                   dense(4, 16), Add((5, 6))),
            "Step 1 (Linear) is used again behind step 2 (Patches), which has other positions; pad that convolution to "
            "the same size, or ",
        ),
    ],
)  # fmt: skip
def test_what_cannot_stream_is_named_with_what_to_do(network, message):
    with pytest.raises(UnsupportedError) as error:
        streaming.plan(network, "refused", 4)
    assert str(error.value) == message + 'use dataflow "parallel" for this network.'


def test_a_constant_network_is_refused():
    network = pixels(Linear((0,), np.zeros((2, 1), dtype=int), np.array([5]), 0, 0))
    with pytest.raises(UnsupportedError, match=CONSTANT):
        streaming.plan(network, "constant", 4)


def test_a_head_that_is_too_large_to_unroll_is_refused_by_step():
    numbers = FixedPoint(4, 0)
    steps = (Input((), (150, 12), (numbers,)), Relu((0,)), Transpose((1,), (1, 0)), MatMul((2, 1)))
    with pytest.raises(UnsupportedError) as error:
        streaming.estimate(IntegerNetwork(steps))
    assert str(error.value) == (
        "Step 3 (MatMul) has 21600 multiplications; the RTL view unrolls up to 20000. Use fewer positions or channels."
    )
