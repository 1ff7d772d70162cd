"""Laws of integer networks: round trips, ranges, and equality with an independent computation on real numbers."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codesign.core import emulator
from codesign.core.errors import DataError, InvalidValueError, UnsupportedError
from codesign.core.fixed_point import FixedPoint, Overflow, Rounding
from codesign.core.integer_network import IntegerNetwork
from codesign.core.operations import (
    Add,
    Affine,
    Input,
    LeakyRelu,
    Linear,
    MatMul,
    Patches,
    Quantize,
    Relu,
    Reshape,
    Sum,
    Table,
)
from tests.strategies import integer_networks, vectors_for

BYTE = (FixedPoint(8, 3),)


def reference(network, mantissas):
    """Compute on float64 values (exact below 53 bits), loops and definitions instead of mantissas and shifts."""
    values = [mantissas * 2.0 ** -network.ranges[0].fraction_bits]
    for operation in network.operations[1:]:
        x = values[operation.inputs[0]]
        match type(operation).__name__:
            case "Quantize":
                y = np.empty_like(x)
                for i in range(x.shape[-1]):
                    form = operation.formats[i if len(operation.formats) > 1 else 0]
                    y[..., i] = _quantized(x[..., i], form, operation.rounding, operation.overflow)
            case "Linear":
                weight = operation.weight * 2.0**-operation.weight_fraction_bits
                y = np.einsum("...i,io->...o", x, weight) + operation.bias * 2.0**-operation.bias_fraction_bits
            case "Affine":
                y = x * (operation.scale * 2.0**-operation.scale_fraction_bits)
                y = y + operation.offset * 2.0**-operation.offset_fraction_bits
            case "Relu":
                y = np.where(x > 0, x, 0.0)
            case "LeakyRelu":
                y = np.where(x > 0, x, x / 2**operation.slope_bits)
            case "Table":
                entries = operation.values * 2.0**-operation.fraction_bits
                grid = network.ranges[operation.inputs[0]].fraction_bits
                y = np.vectorize(lambda v, t=entries, o=operation, g=grid: t[round(v * 2.0**g) - o.low])(x)
            case "Multiply":
                y = x * values[operation.inputs[1]]
            case "MatMul":
                y = np.einsum("...ij,...jk->...ik", x, values[operation.inputs[1]])
            case "Sum":
                y = x.sum(axis=operation.axis + 1, keepdims=operation.keep) / 2**operation.mean_bits
            case "Max":
                y = np.maximum.reduce(x, axis=operation.axis + 1, keepdims=operation.keep)
            case "Add":
                y = x + values[operation.inputs[1]]
            case "Reshape":
                y = x.reshape(-1, *operation.shape)
            case "Transpose":
                y = np.moveaxis(x, [a + 1 for a in operation.axes], range(1, x.ndim))
            case "Patches":
                (p, q), (k, m), (s, t) = operation.padding, operation.kernel, operation.stride
                padded = np.zeros((len(x), x.shape[1] + 2 * p, x.shape[2] + 2 * q, x.shape[3]))
                padded[:, p : p + x.shape[1], q : q + x.shape[2]] = x
                rows, columns = range(0, padded.shape[1] - k + 1, s), range(0, padded.shape[2] - m + 1, t)
                y = np.stack(
                    [np.stack([padded[:, r : r + k, c : c + m].reshape(len(x), -1) for c in columns], 1) for r in rows],
                    1,
                )
        values.append(y)
    return values[-1]


def _quantized(x, form, rounding, overflow):
    step = 2.0**-form.fraction_bits
    if form.width == 0:
        return np.zeros_like(x)
    n = {Rounding.FLOOR: np.floor, Rounding.HALF_UP: lambda v: np.floor(v + 0.5), Rounding.HALF_EVEN: np.round}[
        rounding
    ](x / step)
    low = -(2.0 ** (form.width - 1)) if form.is_signed else 0.0
    high = low + 2.0**form.width - 1
    return step * (np.clip(n, low, high) if overflow is Overflow.SATURATE else np.mod(n - low, 2.0**form.width) + low)


@settings(max_examples=150, deadline=None)
@given(integer_networks(), st.integers(0, 2**32))
def test_emulation_equals_an_independent_computation_on_real_numbers(network, seed):
    vectors = vectors_for(network, 64, seed)
    output = network.emulate(vectors)
    assert np.array_equal(output * 2.0 ** -network.ranges[-1].fraction_bits, reference(network, vectors))


@settings(max_examples=150, deadline=None)
@given(integer_networks(max_bits=9), st.integers(0, 2**32))
def test_the_fast_emulator_equals_the_int64_reference(network, seed):
    vectors = vectors_for(network, 40, seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(emulator, "CACHE_ELEMENTS", 1)  # three chunks
        assert np.array_equal(network.emulate(vectors), network.trace(vectors)[-1].mantissa)


@settings(max_examples=40, deadline=None)
@given(st.integers(20, 30), st.integers(10, 24), st.integers(0, 2**32))
def test_the_fast_emulator_knows_how_many_bits_floats_hold(input_bits, weight_bits, seed):
    weight = np.random.default_rng(seed).integers(-(1 << weight_bits), 1 << weight_bits, (5, 3))
    network = IntegerNetwork((Input((), (5,), (FixedPoint(input_bits, 3),)), Linear((0,), weight, weight[0], 9, 12)))
    vectors = vectors_for(network, 40, seed)
    assert np.array_equal(network.emulate(vectors), network.trace(vectors)[-1].mantissa)


def test_a_mantissa_outside_of_its_format_is_refused():
    with pytest.raises(InvalidValueError) as error:
        IntegerNetwork((Input((), (2,), BYTE), Relu((0,)))).emulate(np.array([[1, 2], [-129, 3]]))
    assert str(error.value) == (
        "An input mantissa is outside of its format, between -129 and 3; round and saturate real inputs by "
        "`quantize_input`."
    )


@settings(max_examples=100, deadline=None)
@given(integer_networks(), st.integers(0, 2**32))
def test_every_result_stays_in_its_range_and_the_format_holds_it(network, seed):
    for step, bound in zip(network.trace(vectors_for(network, 64, seed)), network.ranges, strict=True):
        assert step.fraction_bits == bound.fraction_bits
        assert (bound.low <= step.mantissa).all()
        assert (step.mantissa <= bound.high).all()
        assert bound.format().minimum <= step.mantissa.min()
        assert step.mantissa.max() <= bound.format().maximum


@settings(max_examples=60, deadline=None)
@given(integer_networks())
def test_save_then_load_is_the_identity(tmp_path_factory, network):
    folder = tmp_path_factory.mktemp("network")
    paths = network.save(folder)
    loaded = IntegerNetwork.load(folder)
    vectors = vectors_for(network, 16)
    assert loaded.digest == network.digest
    assert np.array_equal(loaded.emulate(vectors), network.emulate(vectors))
    before = [p.read_bytes() for p in paths]
    assert [p.read_bytes() for p in loaded.save(folder)] == before


@settings(max_examples=60, deadline=None)
@given(integer_networks(), st.integers(0, 2**32))
def test_the_host_quantizes_grid_points_to_themselves_and_all_else_into_range(network, seed):
    vectors = vectors_for(network, 16, seed)
    grid = 2.0 ** -network.ranges[0].fraction_bits
    assert np.array_equal(network.quantize_input(vectors * grid), vectors)
    wild = np.random.default_rng(seed).normal(0, 1e3, vectors.shape)
    quantized = network.quantize_input(wild)
    assert np.array_equal(network.quantize_input(quantized * grid), quantized)
    assert (network.ranges[0].low <= quantized).all()
    assert (quantized <= network.ranges[0].high).all()


def test_the_digest_is_the_same_on_every_machine_and_changes_with_one_weight():
    def network(weight):
        return IntegerNetwork((Input((), (2,), BYTE), Linear((0,), np.array([[1], [weight]]), np.array([3]), 4, 9)))

    assert network(2).digest == "a3529240a389319be1763b8f4f3c69f44b3f60f28d8bece120ccb4024054deb3"
    assert network(3).digest != network(2).digest


def test_integers_that_may_not_fit_int64_are_refused():
    steps = [Input((), (1,), (FixedPoint(30, 30),))]
    steps += [Linear((i,), np.array([[1 << 12]]), np.array([0]), 0, 0) for i in range(3)]
    with pytest.raises(
        UnsupportedError, match=r"^Step 3 \(Linear\) needs 66 bits; allowed: 60\. Quantize its input to fewer bits\.$"
    ):
        IntegerNetwork(tuple(steps))


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ((), "An integer network begins with an Input operation; received none."),
        ((Relu((0,)),), "An integer network begins with an Input operation; received none."),
        ((Input((), (2,), BYTE), Relu((1,))), "Step 1 (Relu) takes inputs (1,); allowed: 1 of the steps before it."),
        ((Input((), (2,), BYTE), Add((0,))), "Step 1 (Add) takes inputs (0,); allowed: 2 of the steps before it."),
    ],
)
def test_a_network_that_is_not_in_order_is_refused(steps, message):
    with pytest.raises(InvalidValueError) as error:
        IntegerNetwork(steps)
    assert str(error.value) == message


@pytest.mark.parametrize(
    "operation",
    [
        Linear((0,), np.ones((3, 1), dtype=int), np.zeros(1, dtype=int), 0, 0),
        Reshape((0,), (3,)),
        Sum((0,), axis=1),
        Patches((0,), kernel=3),
        Affine((0,), np.ones(3, dtype=int), np.zeros(3, dtype=int), 0, 0),
        Quantize((0,), BYTE * 3),
        Quantize((0,), BYTE * 1 + BYTE * 2),
        Table((0,), np.arange(255), -128, 0),
    ],
)
def test_shapes_that_do_not_fit_are_refused(operation):
    with pytest.raises(
        InvalidValueError, match=rf"^Step 1 \({type(operation).__name__}\) cannot take an input of shape \(2,\): "
    ):
        IntegerNetwork((Input((), (2,), BYTE), operation))


def test_a_table_that_is_too_short_is_refused_with_both_ends():
    with pytest.raises(InvalidValueError) as error:
        IntegerNetwork((Input((), (2,), BYTE), Table((0,), np.arange(255), -127, 0)))
    assert str(error.value) == (
        "Step 1 (Table) cannot take an input of shape (2,): "
        "its mantissas reach from -128 to 127, the table from -127 to 127."
    )


@pytest.mark.parametrize("shape", [(0,), (2, 2), (65537,)])
def test_a_table_of_another_shape_is_refused(shape):
    with pytest.raises(InvalidValueError) as error:
        Table((0,), np.zeros(shape, dtype=int), 0, 0)
    assert str(error.value) == f"A Table received values of shape {shape}; allowed: (entries,), 1 to 65536."


def test_matrices_that_do_not_fit_are_refused():
    with pytest.raises(
        InvalidValueError,
        match=r"^Step 1 \(MatMul\) cannot take an input of shape \(2, 3\), \(2, 3\): the last axis of",
    ):
        IntegerNetwork((Input((), (2, 3), BYTE), MatMul((0, 0))))


def test_real_weights_are_refused():
    with pytest.raises(InvalidValueError, match=r"^An integer network holds integers only; received float64 values\.$"):
        Linear((0,), np.ones((2, 1)), np.zeros(1, dtype=int), 0, 0)


def test_inputs_of_another_shape_are_refused():
    network = IntegerNetwork((Input((), (2,), BYTE), LeakyRelu((0,), 3)))
    with pytest.raises(
        InvalidValueError, match=r"^The network received inputs of shape \(4, 3\); allowed: \(batch, \*\(2,\)\)\.$"
    ):
        network.quantize_input(np.zeros((4, 3)))


def test_windows_of_equal_sides_are_stored_as_one_number_and_others_as_two():
    image = Input((), (5, 5, 1), BYTE)
    square = IntegerNetwork((image, Patches((0,), 3, (1, 1), 2)))
    text, arrays = square.encode()
    assert {"kernel": 3, "padding": 1, "stride": 2}.items() <= json.loads(text)["steps"][1].items()
    assert IntegerNetwork.decode(text, arrays).operations[1].kernel == (3, 3)
    text, arrays = IntegerNetwork((image, Patches((0,), (1, 3), (0, 1)))).encode()
    wide = IntegerNetwork.decode(text, arrays)
    assert wide.operations[1].kernel == (1, 3)
    assert wide.output_shape == (5, 5, 3)
    assert wide.digest != square.digest


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": 7}, "An integer network of schema 7 was received; allowed: 1."),
        (
            {"steps": [{"operation": "Sigmoid", "inputs": []}]},
            "Step 0 of an integer network is 'Sigmoid'; allowed: Add, Affine, Input, LeakyRelu, Linear, MatMul, Max, "
            "Multiply, Patches, Quantize, Relu, Reshape, Sum, Table, Transpose.",
        ),
    ],
)
def test_a_file_of_another_kind_is_refused(change, message):
    text, arrays = IntegerNetwork((Input((), (2,), BYTE),)).encode()
    with pytest.raises(DataError) as error:
        IntegerNetwork.decode(json.dumps(json.loads(text) | change), arrays)
    assert str(error.value) == message
