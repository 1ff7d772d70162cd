"""The float network of an architecture has the architecture's shapes and parameters, and survives a disk."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from codesign import network
from codesign.blocks.dense import Dense
from codesign.core import layers, plugins
from codesign.core.architecture import Architecture
from codesign.core.errors import DataError
from codesign.core.layers import Norm, Parallel, Pool, Transpose
from tests.strategies import architectures, trained_like

SMALL = Architecture((4,), (Dense(3, norm="batch"), Dense(2, "identity")))


@settings(max_examples=60, deadline=None)
@given(architectures(is_buildable=False), st.integers(0, 2**31))
def test_parameters_and_shapes_are_those_of_the_architecture(architecture, seed):
    module = network.build(architecture, seed)
    assert sum(p.numel() for p in module.parameters()) == architecture.parameters()
    shape = architecture.input_shape
    x = torch.zeros(2, *shape)
    for step, expected in zip(module, architecture.shapes()[1:], strict=True):
        x = step(x)
        assert tuple(x.shape) == (2, *expected)


@pytest.mark.parametrize("task", plugins.task_names())
def test_every_baseline_has_the_parameters_it_states(task):
    for architecture in plugins.load_task(task).baselines.values():
        module = network.build(architecture, 0)
        assert sum(p.numel() for p in module.parameters()) == architecture.parameters()


def test_equal_seeds_give_equal_weights_and_leave_the_global_generator_alone():
    before = torch.get_rng_state()
    one, same, other = (network.build(SMALL, seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(one[k], same[k]) for k in one)
    assert not torch.equal(one["0.weight"], other["0.weight"])


@settings(max_examples=20, deadline=None)
@given(architectures(is_buildable=False))
def test_load_after_save_is_the_identity(tmp_path_factory, architecture):
    module, inputs = trained_like(architecture)
    folder = tmp_path_factory.mktemp("network")
    network.save_network(folder, architecture, module)
    loaded = network.load_network(folder)
    assert loaded.architecture == architecture
    assert torch.equal(loaded(torch.from_numpy(inputs)), module(torch.from_numpy(inputs)))


def test_weights_of_another_architecture_are_refused(tmp_path):
    network.save_network(tmp_path, SMALL, network.build(SMALL, 0))
    (tmp_path / "architecture.json").write_text(Architecture((5,), SMALL.blocks).to_json())
    with pytest.raises(DataError, match=r"cannot be read.*size mismatch.*allowed: the architecture\.json"):
        network.load_network(tmp_path)


@pytest.mark.parametrize("damage", ["weights.safetensors", "architecture.json"])
def test_a_damaged_or_missing_file_is_one_sentence(tmp_path, damage):
    network.save_network(tmp_path, SMALL, network.build(SMALL, 0))
    (tmp_path / damage).write_bytes((tmp_path / damage).read_bytes()[:20])
    with pytest.raises(DataError, match="cannot be read"):
        network.load_network(tmp_path)
    (tmp_path / damage).unlink()
    with pytest.raises(DataError, match="cannot be read"):
        network.load_network(tmp_path)


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_a_batch_norm_normalizes_each_entry_of_its_axis_over_all_others(axis):
    row = network.Row((Norm("batch", axis),), (3, 4, 5))
    x = np.random.default_rng(0).normal(2.0, 3.0, (50, 3, 4, 5)).astype(np.float32)
    result = row(torch.from_numpy(x)).detach().numpy()
    others = tuple(i for i in range(4) if i != range(4)[axis if axis < 0 else axis + 1])
    np.testing.assert_allclose(result.mean(axis=others), 0.0, atol=1e-5)
    np.testing.assert_allclose(result.std(axis=others), 1.0, atol=1e-4)


@pytest.mark.parametrize("channels", [1, 2, 4, 5])
@pytest.mark.parametrize(
    ("kernel", "stride", "padding"),
    [
        (3, 1, "valid"),
        (3, 2, "same"),
        (5, 2, "valid"),
        (1, 3, "same"),
        ((1, 5), (1, 2), "same"),
        ((3, 2), (2, 1), "valid"),
    ],
)
def test_a_convolution_of_few_or_many_channels_is_torchs_own_with_its_gradients(channels, kernel, stride, padding):
    layer = layers.Conv2d(3, kernel, padding, stride)
    module = network.Row((layer,), (7, 8, channels))
    weight, bias = module.parameters()
    x = torch.randn(6, 7, 8, channels, generator=torch.Generator().manual_seed(0), requires_grad=True)
    y, expected = module(x), torch.conv2d(x.movedim(3, 1), weight, bias, layer.stride, layer.zeros).movedim(1, 3)
    torch.testing.assert_close(y, expected)
    of = torch.randn(expected.shape, generator=torch.Generator().manual_seed(1))
    for mine, theirs in zip(*(torch.autograd.grad(r, (x, weight, bias), of) for r in (y, expected)), strict=True):
        torch.testing.assert_close(mine, theirs)


def test_a_batch_norm_does_not_depend_on_the_order_in_memory():
    x = torch.randn(6, 5, 4, 3, generator=torch.Generator().manual_seed(0))
    turned = x.permute(3, 1, 2, 0).contiguous().permute(3, 1, 2, 0)  # the batch innermost, as convolutions leave it
    rows = [network.Row((Norm("batch"),), (5, 4, 3)) for _ in range(2)]
    torch.testing.assert_close(rows[0](x), rows[1](turned))
    torch.testing.assert_close(rows[0].state_dict(), rows[1].state_dict())


def test_merges_and_pools_compute_what_they_say():
    x = np.random.default_rng(0).normal(size=(6, 3, 4)).astype(np.float32)
    turned = Transpose((1, 0))
    rows = {
        Parallel(((), ())): 2 * x,
        Parallel(((), (Pool("max", 0, keep=True),))): x + x.max(1, keepdims=True),
        Parallel(((), (turned,)), "matmul"): x @ x.transpose(0, 2, 1),
        Parallel(((), ()), "concat"): np.concatenate([x, x], axis=-1),
        Pool("mean", 1): x.mean(2),
        Pool("sum", -1): x.sum(2),
    }
    for layer, expected in rows.items():
        result = network.Row((layer,), (3, 4))(torch.from_numpy(x)).numpy()
        np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-6)
        assert math.prod(result.shape[1:]) == math.prod(layer.output_shape((3, 4)))
