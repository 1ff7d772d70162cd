"""Pruning: masks stay, structured pruning changes nothing but what it removes."""

import dataclasses
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from codesign.blocks.conv1d import Conv1d
from codesign.blocks.conv2d import Conv2d
from codesign.blocks.conv_attention import ConvAttention
from codesign.blocks.deep_sets import DeepSets
from codesign.blocks.dense import Dense
from codesign.blocks.mlp_mixer import MlpMixer
from codesign.compress.narrow import prune_neurons
from codesign.compress.prune import prune_weights, sparsity_after, sparsity_of
from codesign.compress.quantize import quantize
from codesign.core.architecture import Architecture, Block
from codesign.core.errors import InvalidValueError, UnsupportedError
from codesign.core.layers import Activation, Linear
from codesign.train import predict
from tests.strategies import architectures, trained_like

JETS = Architecture(
    (8, 3), (DeepSets((10, 20), norm="batch", norm_axis=0), Dense(15, norm="batch"), Dense(5, "identity"))
)
IMAGE = Architecture((7, 7, 1), (Conv2d((4, 6), 3, (1, 2), norm="batch"), Dense(10), Dense(2, "identity")))
SEQUENCE = Architecture((20, 2), (Conv1d((6, 8), (4, 3), (2, 1), norm="batch"), Dense(10), Dense(2, "identity")))


@given(st.integers(1, 30), st.floats(0.0, 0.99))
def test_every_step_removes_the_same_fraction_of_what_remains(steps, sparsity):
    remaining = [1 - sparsity_after(step, steps, sparsity) for step in range(steps + 1)]
    assert remaining[0] == 1.0
    assert remaining[-1] == pytest.approx(1 - sparsity)
    np.testing.assert_allclose(np.divide(remaining[1:], remaining[:-1]), (1 - sparsity) ** (1 / steps))


def test_the_smallest_weights_of_all_layers_are_zero_and_stay_so():
    module, inputs = trained_like(JETS)
    quantized = quantize(JETS, module, 8, inputs)
    total = sum(layer.weight.numel() for layer in quantized.weighted())
    masks = []
    for sparsity in (0.2, 0.36, 0.8):
        prune_weights(quantized, sparsity)
        masks.append(torch.cat([layer.mask.flatten() for layer in quantized.weighted()]))
        assert int((masks[-1] == 0).sum()) == pytest.approx(sparsity * total, abs=1)
        assert sparsity_of(quantized) >= sparsity - 1 / total
    assert all((later <= earlier).all() for earlier, later in pairwise(masks))
    for layer in quantized.weighted():
        assert (layer.quantized_weight()[layer.mask == 0] == 0).all()
        if 0 < layer.mask.mean() < 1:
            assert layer.weight[layer.mask == 0].abs().max() <= layer.weight[layer.mask == 1].abs().min()


def test_pruning_all_weights_is_refused():
    module, inputs = trained_like(JETS)
    with pytest.raises(
        InvalidValueError, match=r"A sparsity of 1\.0 leaves 0 of 605 weights; allowed: from 1 weight to"
    ):
        prune_weights(quantize(JETS, module, 8, inputs), 1.0)


MIXER = Architecture((4, 3), (MlpMixer(10, 5, norm="batch"), Dense(10), Dense(2, "identity")))
ATTENTION = Architecture((4, 3), (ConvAttention(5), Dense(10), Dense(2, "identity")))


@pytest.mark.parametrize("architecture", [JETS, IMAGE, SEQUENCE, MIXER, ATTENTION])
def test_multiplications_leave_until_the_fraction_is_gone(architecture):
    module, _ = trained_like(architecture)
    macs = [prune_neurons(module, fraction).architecture.macs() for fraction in (0.0, 0.2, 0.4, 0.8)]
    assert macs[0] == architecture.macs()
    assert macs == sorted(set(macs), reverse=True)
    # each output was counted with its inputs and with what it feeds, so that what is left is less than proportional
    assert macs[2] < 0.85 * macs[0]


def test_of_equal_neurons_the_costly_ones_leave_first():
    module, _ = trained_like(JETS)
    for parameter in module.parameters():
        parameter.data.fill_(1.0)
    smaller = prune_neurons(module, 0.3).architecture
    phi, rho, _ = smaller.blocks
    assert sum(phi.widths) < 30  # at eight positions
    assert rho.width == 15  # at one


@settings(max_examples=50, deadline=None)
@given(architectures(), st.sampled_from([0.0, 0.3, 0.6, 0.99]), st.integers(0, 9))
def test_a_smaller_network_has_the_same_interface(architecture, fraction, seed):
    module, inputs = trained_like(architecture, seed)
    smaller = prune_neurons(module, fraction)
    assert smaller.architecture.output_shape == architecture.output_shape
    assert smaller.architecture.parameters() <= architecture.parameters()
    assert sum(p.numel() for p in smaller.parameters()) == smaller.architecture.parameters()
    if fraction == 0.0:
        assert smaller.architecture == architecture
        np.testing.assert_array_equal(predict(smaller, inputs), predict(module, inputs))


@settings(max_examples=50, deadline=None)
@given(architectures(), st.integers(0, 9))
def test_what_is_read_by_nothing_leaves_without_a_trace(architecture, seed):
    module, inputs = trained_like(architecture, seed)
    smaller = prune_neurons(module, 0.5)
    kept = smaller.state_dict()
    for name, value in module.state_dict().items():
        if value.ndim > 1 and value.shape[1] != kept[name].shape[1]:
            columns = torch.isin(value, kept[name]).transpose(0, 1).flatten(1).any(1)
            assert int(columns.sum()) == kept[name].shape[1]
            value[:, ~columns] = 0.0
    np.testing.assert_allclose(predict(smaller, inputs), predict(module, inputs), rtol=1e-4, atol=1e-5)


@dataclasses.dataclass(frozen=True)
class Rigid(Block):
    """A block whose width is no field."""

    def layers(self, shape):
        return Linear(8), Activation("relu")


def test_a_block_that_cannot_be_narrowed_is_named():
    module, _ = trained_like(Architecture((3,), (Rigid(), Dense(2, "identity"))))
    with pytest.raises(UnsupportedError, match=r"Rigid\(\) cannot have layers of \[7\] outputs.*\[8\]; use pruning"):
        prune_neurons(module, 0.5)
