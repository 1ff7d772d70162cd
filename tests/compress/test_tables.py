"""Functions by table: hardware's values in training too, with the gradient of the function itself."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from codesign.compress.lower import lower, require_agreement
from codesign.compress.quantize import quantize
from codesign.compress.quantizers import Quantizer
from codesign.compress.tables import Table
from codesign.core.architecture import Architecture, Block
from codesign.core.fixed_point import Rounding
from codesign.core.layers import Activation
from codesign.network import Activate
from codesign.train import predict
from tests.strategies import trained_like


class Softmax(Block):
    """Softmax and nothing else."""

    def layers(self, shape):
        return (Activation("softmax"),)


@settings(max_examples=50, deadline=None)
@given(st.sampled_from(["gelu", "sigmoid", "tanh", "leaky_relu"]), st.integers(2, 8), st.integers(0, 99))
def test_a_table_trains_with_the_gradient_of_its_function_and_the_values_of_hardware(kind, bits, seed):
    function, generator = Activate(Activation(kind)), torch.Generator().manual_seed(seed)
    quantizer, table = Quantizer(bits, Rounding.HALF_UP, is_signed=True), Table(function, bits, gain=0.75)
    x = 2 * torch.randn(200, generator=generator)
    quantizer.calibrate(x[:, None])
    (narrow,) = quantizer.formats
    table.calibrate(quantizer(x), narrow.minimum, narrow.maximum, narrow.fraction_bits)
    leaf = quantizer(x).requires_grad_()
    y, expected = table.train()(leaf), function(0.75 * leaf)
    assert torch.equal(y, table.eval()(leaf))
    ends = table.format.minimum * table.format.scale, table.format.maximum * table.format.scale
    inside = (expected > ends[0]) & (expected < ends[1])
    assert (y - expected)[inside].abs().max() <= table.format.scale / 2 * (1 + 1e-5)
    gradients = (torch.autograd.grad(z.sum(), leaf)[0] for z in (y, expected))
    torch.testing.assert_close(*(gradient[inside] for gradient in gradients))


@pytest.mark.parametrize("bits", [4, 6, 8])
def test_a_softmax_by_tables_comes_close_to_softmax(bits):
    architecture = Architecture((12, 5), (Softmax(),))
    module, inputs = trained_like(architecture, rows=256)
    inputs = 3 * np.tanh(inputs)  # no tails that calibration cuts off
    error = np.abs(lower(quantize(architecture, module, bits, inputs)).predict(inputs) - predict(module, inputs))
    assert error.max() < 3 * 2.0**-bits


def test_a_softmax_of_numbers_on_a_grid_coarser_than_one_is_lowered():
    architecture = Architecture((12, 5), (Softmax(),))
    module, inputs = trained_like(architecture, rows=256)
    quantized = quantize(architecture, module, 4, 200 * inputs)
    network = lower(quantized)
    assert network.ranges[1].fraction_bits < 0
    require_agreement(quantized, network, 200 * inputs)
