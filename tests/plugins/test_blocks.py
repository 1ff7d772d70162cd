"""The contract of every block: a new file in codesign/blocks is tested here by its own EXAMPLES, without a new test."""

import numpy as np
import pytest
import torch

from codesign import network
from codesign.blocks.conv1d import Conv1d
from codesign.blocks.conv2d import Conv2d
from codesign.blocks.conv_attention import ConvAttention
from codesign.blocks.dense import Dense
from codesign.blocks.linear_interaction import LinearInteraction
from codesign.blocks.mlp_mixer import MlpMixer
from codesign.blocks.pool import Pool
from codesign.blocks.separable_conv1d import SeparableConv1d
from codesign.blocks.separable_conv2d import SeparableConv2d
from codesign.compress.lower import lower, require_agreement
from codesign.compress.quantize import quantize
from codesign.core import plugins
from codesign.core.architecture import Architecture, Block
from codesign.core.errors import CodesignError, InvalidValueError, UnsupportedError
from codesign.core.layers import require_buildable

BLOCKS = plugins.names("blocks")
EXAMPLES = [
    pytest.param(shape, block, id=f"{name}-{i}")
    for name in BLOCKS
    for i, (shape, block) in enumerate(plugins.load("blocks", name).EXAMPLES)
]


def is_buildable(architecture):
    return not any(layer.float_only for layer in architecture.layers)


@pytest.mark.parametrize("name", BLOCKS)
def test_a_block_is_the_class_that_its_file_is_named_after(name):
    cls = plugins.load_block(name)
    assert issubclass(cls, Block)
    examples = plugins.load("blocks", name).EXAMPLES
    assert all(type(block) is cls and block.name == name for _, block in examples)
    assert any(is_buildable(Architecture(shape, (block,))) for shape, block in examples)


@pytest.mark.parametrize("name", BLOCKS)
def test_a_block_with_float_only_examples_says_so(name):
    examples = plugins.load("blocks", name).EXAMPLES
    if not all(is_buildable(Architecture(shape, (block,))) for shape, block in examples):
        assert "float-only" in plugins.load_block(name).__doc__.lower()


@pytest.mark.parametrize(("shape", "block"), EXAMPLES)
def test_a_block_survives_json(shape, block):
    architecture = Architecture(shape, (block,))
    assert Architecture.from_json(architecture.to_json()) == architecture


@pytest.mark.parametrize(("shape", "block"), EXAMPLES)
def test_shape_and_parameters_are_those_of_the_torch_network(shape, block):
    architecture = Architecture(shape, (block,))
    module = network.build(architecture, seed=0)
    outputs = module(torch.randn(3, *shape))
    assert tuple(outputs.shape[1:]) == architecture.output_shape
    assert sum(p.numel() for p in module.parameters()) == architecture.parameters()


@pytest.mark.parametrize(("shape", "block"), EXAMPLES)
def test_what_says_it_can_be_built_becomes_exact_integers_and_the_rest_is_refused(shape, block):
    architecture = Architecture(shape, (block, Dense(2, "identity")))
    module = network.build(architecture, seed=0)
    rng = np.random.default_rng(0)
    with torch.no_grad():
        module.train()(torch.from_numpy(rng.normal(size=(64, *shape)).astype(np.float32)))  # statistics of batch norms
    inputs = rng.normal(size=(200, *shape)).astype(np.float32)
    if is_buildable(architecture):
        quantized = quantize(architecture, module.eval(), 8, inputs)
        integers = lower(quantized)
        require_agreement(quantized, integers, inputs)
        with torch.no_grad():
            outputs = module(torch.from_numpy(inputs)).numpy()
        error = np.abs(integers.predict(inputs) - outputs).mean()
        assert error < 0.1 * outputs.std() + 0.02  # 8 bits stay near the float network
    else:
        with pytest.raises(UnsupportedError):
            require_buildable(architecture.layers)


def reference(shape, block, inputs):
    module = network.build(Architecture(shape, (block,)), seed=1).eval()
    weights = [p.detach() for p in module.parameters()]
    with torch.no_grad():
        return module(inputs), weights


def test_softmax_attention_is_what_the_papers_formula_says():
    x = torch.randn(2, 3, 3, 4)
    y, (wq, bq, wk, bk, wv, bv, wp, bp) = reference((3, 3, 4), ConvAttention(2, "softmax", activation="identity"), x)
    rows = x.reshape(2, 9, 4)
    query, key, value = rows @ wq.T + bq, rows @ wk.T + bk, rows @ wv.T + bv
    mixed = torch.softmax(query @ key.transpose(1, 2), dim=-1) @ value
    expected = rows + mixed @ wp.T + bp
    torch.testing.assert_close(y.reshape(2, 9, 4), expected)


def test_learned_attention_mixes_positions_with_a_matrix_of_the_rank():
    x = torch.randn(2, 6, 3)
    y, (wv, bv, down, b_down, up, b_up, wp, bp) = reference((6, 3), ConvAttention(2, rank=1, activation="identity"), x)
    value = (x @ wv.T + bv).transpose(1, 2)
    mixed = ((value @ down.T + b_down) @ up.T + b_up).transpose(1, 2)
    torch.testing.assert_close(y, x + mixed @ wp.T + bp)
    assert np.linalg.matrix_rank((up @ down).numpy()) == 1


def test_a_mean_interaction_follows_its_particles_and_an_ordered_one_knows_their_order():
    x, order = torch.randn(2, 4, 3), torch.tensor([2, 0, 3, 1])
    mean, _ = reference((4, 3), LinearInteraction(5), x)
    turned, _ = reference((4, 3), LinearInteraction(5), x[:, order])
    torch.testing.assert_close(turned, mean[:, order])
    ordered, (w, b, ranks, b_ranks, v, b_v) = reference((4, 3), LinearInteraction(5, "ordered", "identity"), x)
    summary = (x.transpose(1, 2) @ ranks.T + b_ranks).transpose(1, 2)
    torch.testing.assert_close(ordered, x @ w.T + b + summary @ v.T + b_v)
    turned, _ = reference((4, 3), LinearInteraction(5, "ordered", "identity"), x[:, order])
    assert not torch.allclose(turned, ordered[:, order])


@pytest.mark.parametrize("particles", [8, 64])
def test_the_cost_of_a_linear_interaction_grows_as_the_particles_do(particles):
    macs = [Architecture((n, 3), (LinearInteraction(16, "ordered"),)).macs() for n in (particles, 2 * particles)]
    assert macs[1] <= 2 * macs[0]


def test_a_mixer_without_weights_in_its_second_layers_changes_nothing():
    architecture = Architecture((4, 3), (MlpMixer(5, 6),))
    module = network.build(architecture, seed=0)
    with torch.no_grad():
        parameters = list(module.parameters())
        for parameter in (*parameters[2:4], *parameters[6:8]):
            parameter.zero_()
        x = torch.randn(2, 4, 3)
        torch.testing.assert_close(module(x), x)


@pytest.mark.parametrize("kind", ["max", "mean", "sum"])
def test_a_pool_reduces_square_windows(kind):
    x = torch.arange(2 * 6 * 6 * 2, dtype=torch.float32).reshape(2, 6, 6, 2).cos()
    y, _ = reference((6, 6, 2), Pool(2, kind), x)
    windows = x.reshape(2, 3, 2, 3, 2, 2).permute(0, 1, 3, 5, 2, 4).reshape(2, 3, 3, 2, 4)
    torch.testing.assert_close(y, getattr(windows, {"max": "amax"}.get(kind, kind))(-1))


@pytest.mark.parametrize(("size", "stride"), [(2, 2), (3, 2), (2, 1)])
def test_a_pool_with_a_stride_is_torchs(size, stride):
    x = torch.randn(2, 7, 6, 2)
    y, _ = reference((7, 6, 2), Pool(size, "max", stride), x)
    expected = torch.nn.functional.max_pool2d(x.permute(0, 3, 1, 2), size, stride).permute(0, 2, 3, 1)
    torch.testing.assert_close(y, expected)
    y, _ = reference((7, 6, 2), Pool(size, "mean", stride), x)
    expected = torch.nn.functional.avg_pool2d(x.permute(0, 3, 1, 2), size, stride).permute(0, 2, 3, 1)
    torch.testing.assert_close(y, expected)


@pytest.mark.parametrize(("size", "stride"), [(2, 2), (3, 2), (2, 1)])
def test_a_pool_of_a_sequence_with_a_stride_is_torchs(size, stride):
    x = torch.randn(2, 8, 3)
    y, _ = reference((8, 3), Pool(size, "max", stride), x)
    torch.testing.assert_close(y, torch.nn.functional.max_pool1d(x.mT, size, stride).mT)
    y, _ = reference((8, 3), Pool(size, "mean", stride), x)
    torch.testing.assert_close(y, torch.nn.functional.avg_pool1d(x.mT, size, stride).mT)


@pytest.mark.parametrize(
    ("kernel", "stride", "padding"), [(3, 1, "same"), (4, 2, "valid"), (5, 3, "same"), (1, 1, "same")]
)
@pytest.mark.parametrize("channels", [2, 6])
def test_a_convolution_over_a_sequence_is_torchs(channels, kernel, stride, padding):
    x = torch.randn(2, 11, channels)
    y, (weight, bias) = reference((11, channels), Conv1d((3,), kernel, stride, padding, "identity"), x)
    zeros = kernel // 2 if padding == "same" else 0
    expected = torch.nn.functional.conv1d(x.mT, weight[:, :, 0], bias, stride, zeros).mT
    torch.testing.assert_close(y, expected, atol=1e-5, rtol=1e-5)
    y, (along, b, across, c) = reference((11, channels), SeparableConv1d(3, kernel, stride, padding, "identity"), x)
    each = torch.nn.functional.conv1d(x.mT, along[:, :, 0], b, stride, zeros, groups=channels)
    torch.testing.assert_close(y, torch.nn.functional.conv1d(each, across[:, :, 0], c).mT, atol=1e-5, rtol=1e-5)


def test_a_separable_convolution_is_one_of_products_of_weights():
    x = torch.randn(2, 6, 5, 3)
    y, (spatial, b, across, c) = reference((6, 5, 3), SeparableConv2d(4, padding="same", activation="identity"), x)
    weight = across * spatial[:, 0][None]  # (outputs, channels, row, column)
    bias = c + across[:, :, 0, 0] @ b
    expected = torch.nn.functional.conv2d(x.permute(0, 3, 1, 2), weight, bias, padding=1).permute(0, 2, 3, 1)
    torch.testing.assert_close(y, expected, atol=1e-5, rtol=1e-5)


def test_a_stride_keeps_every_other_window():
    x = torch.randn(2, 9, 9, 1)
    every, _ = reference((9, 9, 1), Conv2d((3,)), x)
    strided, _ = reference((9, 9, 1), Conv2d((3,), stride=2), x)
    torch.testing.assert_close(strided, every[:, ::2, ::2])


@pytest.mark.parametrize(
    ("shape", "block", "message"),
    [
        ((5,), Conv2d((2,)), "A convolution received shape (5,); allowed: (height, width, channels)."),
        (
            (3, 3, 1),
            Conv2d((2, 2)),
            "A 3x3 convolution leaves nothing of an image (1, 1, 2).",
        ),
        (
            (9, 9, 1),
            Conv2d((2, 2), (3, 3, 3)),
            "A conv2d block of 2 convolutions received kernel (3, 3, 3); allowed: one value, or 2.",
        ),
        (
            (9, 9, 1),
            Conv2d((2,), 4, padding="same"),
            'A convolution has 2 channels, kernel 4x4, stride 1x1, padding "same"; '
            'allowed: 1 or more of each, and an odd kernel for "same".',
        ),
        (
            (9, 9, 1),
            Conv2d((2,), stride=0),
            'A convolution has 2 channels, kernel 3x3, stride 0x0, padding "valid"; '
            'allowed: 1 or more of each, and an odd kernel for "same".',
        ),
        (
            (9, 9, 1),
            Conv1d((2,)),
            "A layer over sequences received shape (9, 9, 1); allowed: (length, channels).",
        ),
        ((4, 1), Conv1d((2,), 5), "A 1x5 convolution leaves nothing of an image (1, 4, 1)."),
        (
            (9, 1),
            Conv1d((2, 2), stride=(1, 2, 1)),
            "A conv1d block of 2 convolutions received stride (1, 2, 1); allowed: one value, or 2.",
        ),
        ((5,), ConvAttention(2), "An attention received shape (5,); allowed: positions, then channels."),
        ((5, 2), ConvAttention(2, "soft"), "The kind of an attention is 'soft'; allowed: learned, softmax."),
        ((5,), MlpMixer(2, 2), "A mixer received shape (5,); allowed: positions, then channels."),
        ((5,), LinearInteraction(2), "A linear interaction received shape (5,); allowed: (particles, features)."),
        ((5, 2), LinearInteraction(2, "max"), "The mixing of a linear interaction is 'max'; allowed: mean, ordered."),
        (
            (5, 2),
            Pool(2),
            "A pool over windows of 2 received shape (5, 2); "
            "allowed: one or more axes that the size divides, then channels.",
        ),
    ],
)
def test_what_does_not_fit_is_refused_with_a_sentence(shape, block, message):
    with pytest.raises(InvalidValueError) as error:
        Architecture(shape, (block,))
    assert str(error.value) == message
    assert isinstance(error.value, CodesignError)
