"""Learned precision: digits, formats and one price, each against what can be computed another way."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from codesign import network
from codesign.backends import da4ml
from codesign.blocks.conv1d import Conv1d
from codesign.blocks.conv2d import Conv2d
from codesign.blocks.conv_attention import ConvAttention
from codesign.blocks.deep_sets import DeepSets
from codesign.blocks.dense import Dense
from codesign.compress.digits import WeightPrecision, signed_digits, with_few_digits
from codesign.compress.formats import NOISE_WEIGHT, ActivationPrecision
from codesign.compress.lower import lower, require_agreement
from codesign.compress.price import allocate, expected_lut_of, make_learnable
from codesign.compress.quantize import calibrate, quantize
from codesign.core.architecture import Architecture
from codesign.core.fixed_point import FixedPoint, Overflow, Rounding
from codesign.core.fixed_point import quantize as fixed

SETS = Architecture((4, 3), (DeepSets((6, 5)), Dense(6), Dense(2, "identity")))
ATTENTION = Architecture((4, 3), (ConvAttention(2, "softmax", activation="gelu"), Dense(2, "identity")))
IMAGES = Architecture((5, 5, 1), (Conv2d((3,)), Dense(4), Dense(2, "identity")))
SEQUENCES = Architecture((10, 2), (Conv1d((3,), 4, 2), Dense(2, "identity")))


def _digits_by_hand(value):
    """Digits of the canonical signed-digit form, by its definition."""
    count = 0
    while value:
        if value % 2:
            value -= 2 - value % 4
            count += 1
        value //= 2
    return count


@given(st.integers(-(2**20), 2**20))
def test_signed_digits_are_those_of_the_canonical_form(value):
    assert int(signed_digits(torch.tensor(float(value)))) == _digits_by_hand(value)


@given(st.floats(-200, 200), st.floats(0, 1000))
def test_few_digits_minimize_squared_error_and_price(value, price):
    """Compared with every integer of up to three digits."""
    found = float(with_few_digits(torch.tensor([value], dtype=torch.float64), torch.tensor([price]).double())[0])
    powers = [0] + [sign * 2**k for k in range(9) for sign in (1, -1)]
    integers = {sum(row) for row in itertools.product(powers, repeat=3)}
    best = min((value - n) ** 2 + price * _digits_by_hand(n) for n in integers)
    assert (value - found) ** 2 + price * _digits_by_hand(int(found)) <= best + 1e-6 * (1 + best)


def test_a_tie_between_one_digit_and_two_is_rounded_alike_in_both_precisions():
    def nearest(rest):
        return torch.exp2((rest.abs() * 4 / 3).log2().floor()) * rest.sign()

    mantissa = 5 + 100 * torch.rand(10_000, generator=torch.Generator().manual_seed(0))
    first = mantissa - nearest(mantissa)
    price = first.square() - (first - nearest(first)).square()
    precision = WeightPrecision(mantissa, "single", 1)
    single, double = (precision.rounded(mantissa.to(kind), price.to(kind)) for kind in (torch.float32, torch.float64))
    assert single.dtype is torch.float32
    assert torch.equal(single.double(), double)


@pytest.mark.parametrize("granularity", ["channel", "tensor"])
def test_groups_drop_the_bits_that_are_worth_least(granularity):
    mantissa = torch.tensor([[100.0, 3.0], [4.0, 60.0]])
    precision = WeightPrecision(mantissa, granularity, 1)
    precision.sensitivity.fill_(2.0)
    one = torch.ones_like(mantissa)
    for price in (0.0, 3.0, 50.0, 1e6):
        chosen = precision.setting_at(mantissa, one, price * one)
        groups = [0, 1] if granularity == "channel" else [slice(None)]
        for group in groups:
            assert len(set(chosen[group].flatten().tolist())) == 1
            totals = []
            for dropped in (*range(9), 30):
                kept = precision.rounded(mantissa, torch.full_like(mantissa, dropped))
                totals.append(((kept - mantissa).square() + price * signed_digits(kept))[group].sum())
            kept = precision.rounded(mantissa, chosen)
            assert ((kept - mantissa).square() + price * signed_digits(kept))[group].sum() == min(totals)


def test_a_weights_sensitivity_is_the_mean_square_of_its_samples_gradients():
    torch.manual_seed(0)
    weight, precision = torch.ones(3, requires_grad=True), WeightPrecision(torch.ones(3), "single", 64)
    scales = torch.tensor([1.0, 2.0, 3.0])
    for _ in range(2000):
        gradients = torch.randn(64, 3) * scales  # of the samples
        (precision(weight, torch.ones(3)) * gradients.mean(0)).sum().backward()
    assert torch.allclose(precision.sensitivity, scales.square(), rtol=0.5)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 99), st.sampled_from(["tensor", "channel", "element"]), st.sampled_from(list(Rounding)))
def test_candidates_are_formats_and_their_loss_is_that_of_fixed_point(seed, sharing, rounding):
    x = torch.from_numpy(np.random.default_rng(seed).normal(size=(50, 2, 3))).double()
    precision = ActivationPrecision(sharing)
    count = {"tensor": 1, "channel": 3, "element": 6}[sharing]
    precision.sensitivity = torch.ones(count).double()
    found = precision.candidates(x, None, rounding)
    half_up = Rounding.FLOOR if rounding is Rounding.FLOOR else Rounding.HALF_UP
    rows = x.reshape(50, 6) if sharing == "element" else x.reshape(-1, count)
    for number in (0, 1, 7, len(found.loss) - 1):
        formats = found.formats(torch.full((count,), number))
        for k, chosen in enumerate(formats):
            values = rows[:, k].numpy()
            mantissas = fixed(values, chosen, half_up, Overflow.SATURATE)
            error = mantissas * chosen.scale - values if chosen.width else values
            assert float(found.loss[number, k]) == pytest.approx(NOISE_WEIGHT * error.var() / 2, rel=1e-6, abs=1e-12)
    assert found.formats(torch.zeros(count).long()) == [FixedPoint(0, 0, False)] * count


@pytest.mark.parametrize(
    ("architecture", "is_streamed"),
    [(SETS, False), (ATTENTION, False), (IMAGES, False), (IMAGES, True), (SEQUENCES, True)],
)
@pytest.mark.parametrize("granularity", ["single", "channel", "tensor"])
def test_a_cost_is_reached_from_below_and_the_integers_agree(architecture, is_streamed, granularity):
    inputs = np.random.default_rng(0).normal(size=(64, *architecture.input_shape)).astype(np.float32)
    module = network.build(architecture, 0)
    quantized = quantize(architecture, module, 8, inputs, trims_inputs=granularity == "single" and not is_streamed)
    make_learnable(quantized, granularity, 64, is_streamed=is_streamed)
    calibrate(quantized, inputs)
    quantized.train()
    quantized(torch.from_numpy(inputs)).square().sum(1).mean().backward()
    full = expected_lut_of(quantized, is_streamed=is_streamed)
    found = [allocate(quantized, torch.from_numpy(inputs), full * part, is_streamed=is_streamed) for part in (0.7, 0.4)]
    assert found[0].price < found[1].price
    for part, allocation in zip((0.7, 0.4), found, strict=True):
        assert allocation.lut <= full * part
    assert allocation.lut > full * (0.3 if granularity == "single" else 0.1)
    assert expected_lut_of(quantized, is_streamed=is_streamed) == pytest.approx(allocation.lut)
    require_agreement(quantized.eval(), lower(quantized), inputs)


@pytest.mark.parametrize("bits", [3, 5, 8])
def test_the_expected_cost_is_near_that_of_the_adder_graph(bits):
    architecture = Architecture((16,), (Dense(24), Dense(16), Dense(5, "identity")))
    inputs = np.random.default_rng(0).normal(size=(256, 16)).astype(np.float32)
    quantized = quantize(architecture, network.build(architecture, 0), bits, inputs)
    make_learnable(quantized, "single", 64)
    calibrate(quantized, inputs)
    exact = da4ml.estimate(lower(quantized.eval()))[0].lut
    assert expected_lut_of(quantized) == pytest.approx(exact, rel=0.2)
