"""The adder graph: exact for every operation, estimated quickly, written down deterministically."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codesign.backends import _da4ml_trace, da4ml
from codesign.backends._da4ml_trace import trace
from codesign.core.errors import UnsupportedError
from codesign.core.fixed_point import FixedPoint, Overflow, Rounding
from codesign.core.integer_network import IntegerNetwork
from codesign.core.operations import (
    Input,
    LeakyRelu,
    Linear,
    MatMul,
    Max,
    Multiply,
    Quantize,
    Relu,
    Sum,
    Table,
    Transpose,
)
from tests.strategies import formats, integer_networks, vectors_for

BYTE = FixedPoint(8, 3)


def deep_sets(bits, widths=((8, 8), (16, 16, 5)), particles=8, sparsity=0.5):
    """The small Deep Sets network of the field's jet benchmark, with random weights."""
    rng = np.random.default_rng(bits)
    steps, inputs = [Input((), (particles, 3), (FixedPoint(bits, 3),))], 3

    def dense(outputs):
        weight = np.round(rng.normal(0, 2.0 ** (bits - 2) / np.sqrt(inputs), (inputs, outputs))).astype(int)
        weight[rng.random(weight.shape) < sparsity] = 0
        steps.append(Linear((len(steps) - 1,), weight, rng.integers(-8, 8, outputs), bits - 1, bits - 1))
        return outputs

    def activation():
        steps.append(Relu((len(steps) - 1,)))
        steps.append(Quantize((len(steps) - 1,), (FixedPoint(bits, 2, is_signed=False),)))

    for width in widths[0]:
        inputs = dense(width)
        activation()
    steps.append(Sum((len(steps) - 1,), axis=0, mean_bits=3))
    for width in widths[1]:
        inputs = dense(width)
        if width != widths[1][-1]:
            activation()
    return IntegerNetwork(tuple(steps))


@settings(max_examples=150, deadline=None)
@given(integer_networks(), st.integers(0, 2**32))
def test_the_interpreted_adder_graph_equals_the_emulator(network, seed):
    vectors = vectors_for(network, 100, seed)
    assert np.array_equal(da4ml.interpret(network, vectors), network.emulate(vectors))


def stage_by_stage(network, vectors, cutoff):
    """What the stages of a pipeline compute, one after the other."""
    values = vectors.reshape(len(vectors), -1).astype(float)
    for stage in da4ml.kernel(network, cutoff).pipeline.solutions:
        values = stage._replace(lookup_tables=stage.lookup_tables or None).predict(values)
    return values.reshape(len(vectors), *network.output_shape)


@settings(max_examples=40, deadline=None)
@given(integer_networks("any", ("Table", "Multiply", "MatMul", "Linear", "Max", "LeakyRelu")), st.integers(1, 3))
def test_a_retimed_pipeline_computes_the_same(network, cutoff):
    vectors = vectors_for(network, 50)
    try:
        assert np.array_equal(stage_by_stage(network, vectors, cutoff), network.emulate(vectors))
    except UnsupportedError as error:
        assert str(error) == "No output of the network depends on its input; there is nothing to build in hardware."  # noqa: PT017


def test_a_negated_factor_keeps_its_sign_when_a_pipeline_is_retimed():
    network = IntegerNetwork((
        Input((), (1, 2), (FixedPoint(1, 0, is_signed=False), FixedPoint(1, 3))),
        Table((0,), np.array([0, 0, -2, -1, 0, -2, 0, 0, -2, 0]), -8, 0),
        Linear((1,), np.array([[-2], [-2]]), np.array([0]), 0, 0),
        Max((2,), 0),
        Multiply((3, 3)),
    ))  # fmt: skip
    vectors = vectors_for(network, 50)
    assert np.array_equal(stage_by_stage(network, vectors, 1), network.emulate(vectors))


@settings(max_examples=300, deadline=None)
@given(formats(7), formats(6), st.sampled_from(Rounding), st.sampled_from(Overflow))
def test_quantization_is_exact_for_every_input_there_is(source, target, rounding, overflow):
    network = IntegerNetwork((Input((), (1,), (source,)), Quantize((0,), (target,), rounding, overflow)))
    every = np.arange(source.minimum, source.maximum + 1)[:, None]
    assert np.array_equal(da4ml.interpret(network, every), network.emulate(every))


@settings(max_examples=50, deadline=None)
@given(formats(6), st.integers(1, 5))
def test_a_leaky_relu_is_exact_for_every_input_there_is(source, slope_bits):
    network = IntegerNetwork((Input((), (1,), (source,)), LeakyRelu((0,), slope_bits)))
    every = np.arange(source.minimum, source.maximum + 1)[:, None]
    assert np.array_equal(da4ml.interpret(network, every), network.emulate(every))


@settings(max_examples=60, deadline=None)
@given(integer_networks(), st.integers(1, 6))
def test_a_plan_is_the_same_every_time(network, cutoff):
    try:
        first = da4ml.plan(network, "again", cutoff)
    except UnsupportedError as error:
        assert str(error) == "No output of the network depends on its input; there is nothing to build in hardware."  # noqa: PT017
        return
    trace.cache_clear()
    assert da4ml.plan(network, "again", cutoff).digest == first.digest


@settings(max_examples=40, deadline=None)
@given(integer_networks())
def test_quick_variables_give_the_adder_graph_that_da4ml_gives(network):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_da4ml_trace, "quick", lambda values: values)
        trace.cache_clear()
        expected = trace(network)
    trace.cache_clear()
    assert trace(network) == expected


def test_a_plan_is_the_same_in_another_process():
    program = (
        "from tests.backends.test_da4ml import deep_sets\n"
        "from codesign.backends import da4ml\n"
        "print(da4ml.plan(deep_sets(6), 'jets', 4).digest)"
    )
    printed = [
        subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
        for _ in range(2)
    ]
    assert printed[0] == printed[1]
    assert printed[0].strip() == da4ml.plan(deep_sets(6), "jets", 4).digest


@pytest.mark.parametrize("bits", [6, 8])
def test_the_estimate_of_a_jet_network_has_its_level_and_size(bits):
    network = deep_sets(bits)
    resources, timing = da4ml.estimate(network)
    assert 1_000 < resources.lut < 20_000
    assert 500 < resources.ff < 10_000
    assert (resources.level, resources.dsp, timing.ii, timing.is_simulated) == ("estimate", 0.0, 1, False)


def test_fewer_bits_more_zeros_and_shorter_stages_move_the_estimate_as_they_must():
    def lut(**options):
        return da4ml.estimate(deep_sets(**options))[0].lut

    assert lut(bits=4) < lut(bits=6) < lut(bits=8)
    assert lut(bits=6, sparsity=0.75) < lut(bits=6, sparsity=0.5) < lut(bits=6, sparsity=0.0)
    short, long = (da4ml.estimate(deep_sets(6), cutoff=c) for c in (1, 8))
    assert short[1].latency_cycles > long[1].latency_cycles
    assert short[0].ff > long[0].ff


def test_the_clock_decides_the_depth_of_a_stage():
    assert da4ml.cutoff_for("xcup", 5.0) == 5
    assert [da4ml.cutoff_for("ecp5", ns) for ns in (8.6, 10.8, 13.2, 18.2)] == [1, 2, 3, 5]  # the routed designs
    assert da4ml.cutoff_for("xc7", 0.1) == 1
    with pytest.raises(UnsupportedError) as error:
        da4ml.cutoff_for("ice40", 10.0)
    assert str(error.value) == "The family ice40 has no rule for pipelining; allowed: xcup, xc7, ecp5."


def test_any_name_becomes_a_module():
    network = deep_sets(4)
    assert da4ml.plan(network, "3-body:n=8", 4).name == "_3_body_n_8_axis"


def test_a_constant_network_is_refused_as_hardware_but_interpreted():
    network = IntegerNetwork((Input((), (2,), (BYTE,)), Linear((0,), np.zeros((2, 1), dtype=int), np.array([5]), 0, 0)))
    assert da4ml.interpret(network, np.array([[1, 2]])).tolist() == network.emulate(np.array([[1, 2]])).tolist()
    with pytest.raises(UnsupportedError) as error:
        da4ml.plan(network, "constant", 4)
    assert str(error.value) == "No output of the network depends on its input; there is nothing to build in hardware."


def test_what_is_too_large_to_unroll_is_refused_by_step():
    with pytest.raises(UnsupportedError) as error:
        trace(
            IntegerNetwork((Input((), (3, 40, 40), (BYTE,)), Transpose((0,), (0, 2, 1)), MatMul((0, 1)))),
        )
    assert str(error.value) == (
        "Step 2 (MatMul) has 192000 multiplications; the RTL view unrolls up to 20000. Use fewer positions or channels."
    )


def test_tables_are_modules_that_read_no_file():
    network = IntegerNetwork((Input((), (2,), (BYTE,)), Table((0,), np.arange(256) ** 2 % 37, -128, 3)))
    rtl = da4ml.plan(network, "tables", 4)
    assert not any("readmemh" in text or name.endswith(".mem") for name, text in rtl.files.items())
    (module,) = (name.removesuffix(".v") for name in rtl.files if name.startswith("table_"))
    assert sum(text.count(f"{module} op_") for text in rtl.files.values()) == 2


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (
            1 << 24,
            "Step 1 (Linear) has a weight of more than 24 bits, which the RTL view's solver rounds; use fewer.",
        ),
        (1 << 40, "Step 1 (Linear) is 48 bits wide; the RTL view takes up to 45. Quantize its input to fewer bits."),
    ],
)
def test_what_the_solver_would_round_is_refused(weight, message):
    network = IntegerNetwork((Input((), (1,), (BYTE,)), Linear((0,), np.array([[weight]]), np.array([1]), 0, 0)))
    with pytest.raises(UnsupportedError) as error:
        trace(network)
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("bits", "signed", "count", "synthesized"),
    [((5, 5), (True, True), 8, 302), ((7, 4), (False, True), 6, 218), ((2, 9), (True, True), 8, 159),
     ((7, 7), (True, True), 6, 434)],
)  # fmt: skip
def test_products_of_activations_are_estimated_as_yosys_builds_them(bits, signed, count, synthesized):
    """`synthesized`: LUTs on UltraScale+ by Yosys 0.70, less the shell; the estimate was chosen on other designs."""
    narrow = [FixedPoint(width, width, is_signed) for width, is_signed in zip(bits, signed, strict=True)]
    halves, none = np.split(np.eye(2 * count, dtype=int), 2, axis=1), np.zeros(count, dtype=int)
    formats_ = tuple(np.repeat(np.array(narrow, dtype=object), count))
    left, right = (Linear((0,), half, none, 0, 0) for half in halves)
    network = IntegerNetwork((Input((), (2 * count,), formats_), left, right, Multiply((1, 2))))
    assert da4ml.estimate(network)[0].lut == pytest.approx(synthesized, rel=0.1)
