"""The QONNX file, executed by qonnx, equals the emulator bit for bit."""

from dataclasses import replace

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, numpy_helper

from codesign.backends import qonnx
from codesign.core.errors import UnsupportedError
from codesign.core.fixed_point import Fixed, FixedPoint, Overflow, Rounding
from codesign.core.integer_network import IntegerNetwork
from codesign.core.operations import Add, Input, LeakyRelu, Linear, Patches, Quantize, Relu, Sum
from tests.strategies import FAMILIES, formats, integer_networks, vectors_for

SIGNED, UNSIGNED = FixedPoint(8, 4), FixedPoint(4, 2, is_signed=False)


def check(network, folder=None, count=200):
    inputs = vectors_for(network, count)
    np.testing.assert_array_equal(qonnx.simulate(network, inputs, folder), network.emulate(inputs))


def mlp(bits=5, fraction_bits=3):
    random = np.random.default_rng(0)
    weight, top = random.integers(-(1 << bits), 1 << bits, (6, 4)), random.integers(-7, 8, (4, 3))
    return IntegerNetwork(
        (
            Input((), (6,), (SIGNED,)),
            Linear((0,), weight, np.array([1, -9, 30, 0]), fraction_bits, 5),
            LeakyRelu((1,), 2),
            Quantize((2,), (UNSIGNED,), Rounding.HALF_UP),
            Linear((3,), top, np.zeros(3, dtype=int), 2, 2),
        )
    )


def with_quantize(source, target, rounding, overflow):
    return IntegerNetwork((Input((), (1,), (source,)), Quantize((0,), (target,), rounding, overflow)))


@pytest.mark.parametrize("family", FAMILIES)
@settings(max_examples=20, deadline=None)
@given(st.data())
def test_any_network_is_exact(family, data):
    check(data.draw(integer_networks(family, max_steps=8, max_bits=10)))


@settings(max_examples=20, deadline=None)
@given(integer_networks(max_steps=6, max_bits=24))
def test_wide_networks_are_exact_in_float64(network):
    check(network)


@settings(max_examples=60, deadline=None)
@given(formats(), formats(), st.sampled_from(Rounding), st.sampled_from(Overflow))
def test_every_rounding_and_overflow_is_exact_on_every_value(source, target, rounding, overflow):
    network = with_quantize(source, target, rounding, overflow)
    inputs = np.arange(source.minimum, source.maximum + 1)[:, None]
    np.testing.assert_array_equal(qonnx.simulate(network, inputs), network.emulate(inputs))


@settings(max_examples=30, deadline=None)
@given(formats(8), st.sampled_from(Rounding), st.integers(0, 2**32 - 1))
def test_the_file_rounds_and_saturates_raw_inputs_as_the_host_does(target, rounding, seed):
    network = IntegerNetwork((Input((), (5,), (target,), rounding), Relu((0,))))
    fine = np.random.default_rng(seed).integers(-(1 << 12), 1 << 12, (50, 5))
    values = np.ldexp(fine.astype(np.float64), -target.fraction_bits - 3)
    model = qonnx.to_onnx(network)
    qonnx._set_batch(model, len(values))
    executed = qonnx.execute_onnx(qonnx.ModelWrapper(model), {"input": values.astype(np.float32)})["output"]
    np.testing.assert_array_equal(executed, network.predict(values))


def test_a_file_is_executed_as_it_lies_on_disk(tmp_path):
    check(mlp(), tmp_path, count=1000)
    onnx.checker.check_model(onnx.load(tmp_path / qonnx.FILE))


def test_the_file_states_every_format(tmp_path):
    graph = onnx.load(qonnx.write(mlp(), tmp_path / "mlp.onnx")).graph
    constants = {c.name: numpy_helper.to_array(c) for c in graph.initializer}
    found = []
    for node in (n for n in graph.node if n.op_type == "Quant"):
        options = {a.name: a.i if a.name != "rounding_mode" else a.s.decode() for a in node.attribute}
        scale, width = (float(constants[node.input[i]]) for i in (1, 3))
        found.append((int(width), scale, bool(options["signed"]), options["rounding_mode"]))
    weight, top = (mlp().operations[i].weight for i in (1, 4))
    held = [FixedPoint.holding(int(w.min()), int(w.max()), 0).width for w in (weight, top)]
    assert found == [
        (8, 2.0**-4, True, "ROUND"),  # input
        (held[0], 2.0**-3, True, "ROUND"),  # weights
        (6, 2.0**-5, True, "ROUND"),  # bias: -9 to 30
        (4, 2.0**-2, False, "FLOOR"),  # half up: half a step was added before
        (held[1], 2.0**-2, True, "ROUND"),
        (1, 2.0**-2, False, "ROUND"),  # no bias
    ]


def test_windows_and_a_linear_operation_become_a_convolution():
    weight = np.random.default_rng(0).integers(-7, 8, (18, 4))
    network = IntegerNetwork(
        (
            Input((), (5, 6, 2), (SIGNED,)),
            Patches((0,), 3, padding=1, stride=2),
            Linear((1,), weight, np.arange(4), 2, 3),
            Quantize((2,), (UNSIGNED,)),
        )
    )
    kinds = [node.op_type for node in qonnx.to_onnx(network).graph.node]
    assert "Conv" in kinds
    assert "Gather" not in kinds
    check(network)


def test_windows_that_something_else_takes_too_are_gathered():
    network = IntegerNetwork(
        (
            Input((), (3, 3, 1), (SIGNED,)),
            Patches((0,), 2),
            Linear((1,), np.ones((4, 4), dtype=int), np.zeros(4, dtype=int), 0, 0),
            Add((1, 2)),
        )
    )
    assert "Gather" in [node.op_type for node in qonnx.to_onnx(network).graph.node]
    check(network)


@pytest.mark.parametrize(("bits", "kind"), [(5, TensorProto.FLOAT), (15, TensorProto.DOUBLE)])
def test_numbers_are_float32_where_24_bits_suffice(bits, kind):
    network = mlp(bits, fraction_bits=bits)
    assert qonnx.to_onnx(network).graph.input[0].type.tensor_type.elem_type == kind
    check(network)


def test_a_sum_at_the_limit_of_float32_is_exact():
    for entries, kind in ((4, TensorProto.FLOAT), (5, TensorProto.DOUBLE)):
        network = IntegerNetwork(
            (Input((), (entries,), (FixedPoint(22, 22, is_signed=False),)), Sum((0,), 0, keep=True))
        )
        assert qonnx.to_onnx(network).graph.input[0].type.tensor_type.elem_type == kind
        check(network)


def test_equal_networks_give_equal_bytes(tmp_path):
    first, second = (qonnx.write(mlp(), tmp_path / name).read_bytes() for name in ("a.onnx", "b.onnx"))
    assert first == second


def test_a_changed_weight_is_detected():
    network = mlp()
    inputs, linear = vectors_for(network, 1000), network.operations[1]
    weight = linear.weight.copy()
    weight[3, 2] += 1
    changed = IntegerNetwork((network.operations[0], replace(linear, weight=weight), *network.operations[2:]))
    assert (qonnx.simulate(changed, inputs) != network.emulate(inputs)).any()


def test_a_quantizer_beyond_float32_is_refused():
    network = IntegerNetwork((Input((), (1,), (FixedPoint(26, 4),)), Relu((0,))))
    with pytest.raises(UnsupportedError) as error:
        qonnx.to_onnx(network)
    assert str(error.value) == (
        "The QONNX view needs a Quant node of 26 bits; allowed: 24, the precision of its float32 result. "
        "Quantize to fewer bits."
    )


def test_a_bias_may_be_wider_than_a_quantizer():
    bias = np.array([54_424_704, -(1 << 30) - 1])
    check(IntegerNetwork((Input((), (1,), (SIGNED,)), Linear((0,), np.array([[3, -5]]), bias, 3, 23), Relu((1,)))))


def test_numbers_beyond_float64_are_refused():
    weight = np.full((1, 1), (1 << 20) - 1)
    steps = [Input((), (1,), (FixedPoint(20, 4),))]
    steps += [Linear((i,), weight, np.array([0]), 0, 0) for i in range(2)]
    network = IntegerNetwork(tuple(steps))
    with pytest.raises(UnsupportedError) as error:
        qonnx.to_onnx(network)
    assert str(error.value) == (
        "The QONNX view needs numbers of 59 bits; allowed: 53, the precision of float64. Quantize to fewer bits."
    )


def test_real_values_come_back_as_the_mantissas_of_the_output_grid():
    network = mlp()
    inputs = vectors_for(network, 50)
    values = Fixed(qonnx.simulate(network, inputs), network.ranges[-1].fraction_bits).to_float()
    np.testing.assert_array_equal(values, network.predict(Fixed(inputs, SIGNED.fraction_bits).to_float()))
