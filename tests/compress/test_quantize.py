"""The quantized network, its integers and Brevitas agree: exactly, on every row."""

import numpy as np
import pytest
import torch
from brevitas.core.function_wrapper import Identity, RoundSte, TensorClampSte
from brevitas.core.quant import IntQuant
from hypothesis import example, given, settings
from hypothesis import strategies as st

from codesign.blocks.deep_sets import DeepSets
from codesign.blocks.dense import Dense
from codesign.blocks.linear_interaction import LinearInteraction
from codesign.compress.lower import lower, require_agreement
from codesign.compress.prune import prune_weights
from codesign.compress.quantize import quantize
from codesign.compress.quantizers import QuantizedAffine, QuantizedLinear, Quantizer, best_fraction_bits
from codesign.core import operations as ops
from codesign.core.architecture import Architecture, Block
from codesign.core.errors import ExactnessError, InvalidValueError, UnsupportedError
from codesign.core.fixed_point import FixedPoint, Rounding
from codesign.core.layers import Activation, Flatten, Linear, Norm, Parallel, Pool
from codesign.train import predict
from tests.strategies import architectures, trained_like

JETS = Architecture((8, 3), (DeepSets((32, 32), norm="batch"), Dense(32, norm="batch"), Dense(5, "identity")))


class Layers(Block):
    """Primitive layers as they are."""

    def __init__(self, *rows):
        object.__setattr__(self, "rows", rows)

    def layers(self, shape):
        return self.rows


def _wide(inputs):
    """Rows that saturate, lie on the grid, or are halfway between its points, beside the given ones."""
    return np.concatenate([inputs, inputs * 50, np.round(inputs * 8) / 8, np.round(inputs * 16) / 16 + 1 / 64])


MERGES = [
    Architecture((4, 3), (Layers(Parallel(((), (Linear(2), Activation("relu"))), "concat"), Linear(2)),)),
    Architecture((4, 3), (Layers(Parallel(((Pool("max", 0, keep=True),), (Linear(3),))), Activation("relu")),)),
    Architecture((3, 5), (Layers(Pool("mean", 0), Parallel(((), (Linear(5),))), Flatten(), Linear(1)),)),
    Architecture((3, 5), (Layers(Linear(4), Norm("batch", 0), Pool("mean", 0, keep=True)),)),
    Architecture((6, 2), (Layers(Activation("relu"), Norm("batch"), Pool("sum", -1), Linear(2)),)),
]


@pytest.mark.parametrize("architecture", MERGES)
@pytest.mark.parametrize("bits", [3, 8])
def test_merges_and_odd_means_lower_exactly(architecture, bits):
    _check(architecture, bits, bits, seed=0, sparsity=0.3)


@settings(max_examples=80, deadline=None)
@given(architectures(), st.integers(2, 10), st.integers(2, 10), st.integers(0, 99), st.sampled_from([0.0, 0.5]))
@example(JETS, 8, 8, 0, 0.0)
def test_integers_compute_exactly_what_the_quantized_network_computes(architecture, bits, wide, seed, sparsity):
    _check(architecture, bits, wide, seed, sparsity)


def _check(architecture, bits, activation_bits, seed, sparsity):
    module, inputs = trained_like(architecture, seed)
    quantized = quantize(architecture, module, bits, inputs, activation_bits=activation_bits)
    with torch.no_grad():  # as after some training, so that nothing lies on a grid by accident
        for parameter in quantized.parameters():
            parameter.mul_(1 + 0.1 * torch.rand(parameter.shape, generator=torch.Generator().manual_seed(seed)))
    prune_weights(quantized, sparsity)
    integers = lower(quantized)
    rows = _wide(inputs)
    require_agreement(quantized, integers, rows)
    assert integers.output_shape == architecture.output_shape
    # float32 holds every mantissa below 2^24 exactly, so there even the fast network agrees bit for bit
    if max(max(-int(r.low.min()), int(r.high.max())) for r in integers.ranges) < 1 << 24:
        np.testing.assert_array_equal(predict(quantized, rows), integers.predict(rows))


@pytest.mark.parametrize("bits", [6, 8, 12])
def test_more_bits_come_closer_to_the_float_network(bits):
    module, inputs = trained_like(JETS, rows=512)
    expected = predict(module, inputs)
    error = (predict(quantize(JETS, module, bits, inputs), inputs) - expected).std() / expected.std()
    assert error < 2.0 ** (3 - bits)


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 8), st.booleans(), st.integers(0, 99))
def test_a_quantizer_is_brevitas_in_value_and_gradient(bits, is_signed, seed):
    generator = torch.Generator().manual_seed(seed)
    x = 4 * torch.randn(200, generator=generator)
    quantizer = Quantizer(bits, Rounding.HALF_EVEN, is_signed=is_signed)
    quantizer.calibrate(x[:, None])
    brevitas = IntQuant(signed=is_signed, narrow_range=False, input_view_impl=Identity(), float_to_int_impl=RoundSte())
    constants = quantizer.scale, torch.tensor(0.0), torch.tensor(float(bits))
    _assert_same(quantizer, lambda x: brevitas(*constants, x), x)


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 8), st.integers(0, 99))
def test_weights_are_brevitas_in_value_and_gradient(bits, seed):
    weight = torch.randn(4, 6, generator=torch.Generator().manual_seed(seed))
    layer = QuantizedLinear(weight, torch.zeros(4), bits)
    layer.calibrate(5)
    brevitas = IntQuant(
        signed=True,
        narrow_range=True,
        input_view_impl=Identity(),
        float_to_int_impl=RoundSte(),
        tensor_clamp_impl=TensorClampSte(),
    )

    def ours(weight):
        layer.weight = torch.nn.Parameter(weight.detach())
        result = layer.quantized_weight()
        result.backward(torch.ones_like(result))
        return result.detach() + (weight * layer.weight.grad - (weight * layer.weight.grad).detach())

    constants = layer.scale, torch.tensor(0.0), torch.tensor(float(bits))
    _assert_same(ours, lambda w: brevitas(*constants, w), weight)


def _assert_same(ours, theirs, x):
    results = []
    for function in (ours, theirs):
        leaf = x.clone().requires_grad_()
        y = function(leaf)
        y.sum().backward()
        results.append((y.detach(), leaf.grad))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 8), st.integers(-6, 6), st.integers(0, 99))
def test_a_grid_is_the_best_of_all_powers_of_two(bits, exponent, seed):
    values = 2.0**exponent * torch.randn(300, 1, generator=torch.Generator().manual_seed(seed))
    high = torch.tensor([2.0 ** (bits - 1) - 1])
    best = int(best_fraction_bits(values, -high - 1, high))

    def error(fraction_bits):
        scale = 2.0**-fraction_bits
        return float(((values / scale).round().clamp(-high - 1, high) * scale - values).square().mean())

    assert error(best) <= min(error(f) for f in range(-12, 22)) * (1 + 1e-5)


def test_rounding_half_up_costs_no_adder_after_a_linear_layer():
    module, inputs = trained_like(JETS)
    integers = lower(quantize(JETS, module, 6, inputs))
    roundings = [step.rounding for step in integers.operations if isinstance(step, ops.Quantize)]
    assert roundings == [Rounding.FLOOR] * 2 + [Rounding.HALF_UP] + [Rounding.FLOOR]  # the mean has no bias
    kinds = [type(step).__name__ for step in integers.operations]
    assert "Affine" not in kinds  # the norms are folded


def test_a_mean_over_a_power_of_two_only_moves_the_point():
    module, inputs = trained_like(JETS)
    (mean,) = [s for s in lower(quantize(JETS, module, 6, inputs)).operations if isinstance(s, ops.Sum)]
    assert mean.mean_bits == 3


def test_each_entry_of_the_input_has_a_format_of_its_own():
    module, inputs = trained_like(JETS)
    inputs = np.abs(inputs) * np.array([100.0, 1.0, 0.01], dtype=np.float32)
    inputs[..., 1] -= 2.0
    formats = quantize(JETS, module, 8, inputs).steps[0].formats
    assert [f.is_signed for f in formats] == [False, True, False]
    assert formats[0].integer_bits > formats[1].integer_bits > formats[2].integer_bits


def test_a_disagreement_names_the_first_step_that_differs():
    module, inputs = trained_like(JETS)
    quantized = quantize(JETS, module, 6, inputs)
    integers = lower(quantized)
    with torch.no_grad():
        quantized.steps[4].bias += 1.0  # the second linear layer of phi
    with pytest.raises(ExactnessError, match=r"differ in \d+ of \d+ values at quantizer of layer 5 .*first in row 0"):
        require_agreement(quantized, integers, inputs)


def test_what_has_no_exact_form_is_refused_by_name():
    architecture = Architecture((3,), (Layers(Linear(2), Norm("layer")),))
    module, inputs = trained_like(architecture)
    with pytest.raises(UnsupportedError, match=r"Layer 1 \(.*\) cannot be built in hardware: "):
        quantize(architecture, module, 8, inputs)


def test_bad_widths_and_calibration_are_one_sentence():
    module, inputs = trained_like(JETS)
    with pytest.raises(InvalidValueError) as error:
        quantize(JETS, module, 1, inputs)
    assert str(error.value) == "The widths of weights, activations and inputs are (1, 1, 3); allowed: 2 to 16 bits."
    with pytest.raises(InvalidValueError) as error:
        quantize(JETS, module, 8, inputs[:0])
    assert str(error.value) == ("The calibration inputs have shape (0, 8, 3); allowed: one or more rows of (8, 3).")


def test_a_dead_network_still_lowers():
    module, inputs = trained_like(JETS)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.zero_()
    quantized = quantize(JETS, module, 8, np.zeros_like(inputs))
    require_agreement(quantized, lower(quantized), inputs)
    assert quantized.steps[0].formats[0] == FixedPoint(
        8, 8 - quantized.steps[0].formats[0].fraction_bits, is_signed=False
    )


def test_a_batch_norm_of_a_sum_is_folded_into_all_its_branches():
    architecture = Architecture((6, 3), (LinearInteraction(4, norm="batch"), Dense(2, "identity")))
    module, inputs = trained_like(architecture)
    quantized = quantize(architecture, module, 14, inputs)
    assert not any(isinstance(step, QuantizedAffine) for step in quantized.steps)
    np.testing.assert_allclose(predict(quantized, inputs), predict(module, inputs), atol=0.01)


def test_a_bias_is_no_finer_than_its_last_bits_and_on_the_coarsest_grid_that_holds_it():
    module, inputs = trained_like(JETS)
    quantized = quantize(JETS, module, 12, inputs, input_bits=16)
    network = lower(quantized)
    require_agreement(quantized, network, _wide(inputs))
    layers = [operation for operation in network.operations if isinstance(operation, ops.Linear)]
    assert all(int(np.abs(layer.bias).max()).bit_length() <= 21 for layer in layers)
    assert all((layer.bias % 2).any() for layer in layers if layer.bias.any())
