"""The compiled passes are torch's passes: the same losses, gradients, statistics and steps, for every block."""

import copy
import tempfile
from dataclasses import replace

import numpy as np
import pytest
import torch

from codesign import network, train
from codesign.autograd import LOSSES
from codesign.blocks.dense import Dense
from codesign.blocks.pool import Pool
from codesign.core import plugins
from codesign.core.architecture import Architecture
from codesign.core.errors import ToolError
from codesign.core.layers import Activation, DepthwiseConv2d, Norm, Parallel
from codesign.core.task import Data, Split
from codesign.native import compile as compiling
from codesign.native.passes import NativePasses
from codesign.resident import to_device
from codesign.train_options import TrainOptions

BATCH, ROWS = 48, 70  # a training batch of whole vectors; a last validation batch that is not
OPTIONS = TrainOptions(batch_size=BATCH, epochs=3)
EXAMPLES = [
    pytest.param(shape, block, id=f"{name}-{i}")
    for name in plugins.names("blocks")
    for i, (shape, block) in enumerate(plugins.load("blocks", name).EXAMPLES)
]
SPACES = [(task, seed) for task in ("jet_classification", "bragg_peak", "qubit_readout") for seed in range(5)]


def make_data(architecture, loss, seed=0):
    random = np.random.default_rng(seed)
    outputs = architecture.output_shape[0]

    def split(rows):
        targets = random.integers(0, outputs, rows) if loss == "cross_entropy" else random.normal(size=(rows, outputs))
        inputs = random.normal(size=(rows, *architecture.input_shape)).astype(np.float32)
        return Split(inputs, targets.astype(np.int64 if loss == "cross_entropy" else np.float32))

    return Data(split(ROWS), split(ROWS), split(1), "random", is_simulation=True, digest="random")


def has_kernels(architecture):
    return all(map(_has_kernel, architecture.layers))


def _has_kernel(layer):
    match layer:
        case Parallel(merge=merge, branches=branches):
            return merge == "add" and all(_has_kernel(inner) for branch in branches for inner in branch)
        case Activation(kind=kind):
            return kind in ("relu", "leaky_relu", "identity")
        case Norm(kind=kind):
            return kind == "batch"
    return not isinstance(layer, DepthwiseConv2d)


def require_equal_passes(architecture, loss):
    """Compare a step's loss, gradients and statistics, and the validation loss, with torch's in float64."""
    model = network.build(architecture, 0)
    exact = copy.deepcopy(model).double().train()
    resident = to_device(make_data(architecture, loss), "cpu")
    samples = torch.randperm(ROWS, generator=torch.Generator().manual_seed(0))[:BATCH]
    inputs, targets, validation, answers = (t.double() if t.is_floating_point() else t for t in resident)
    expected = LOSSES[loss](exact(inputs[samples]), targets[samples])
    expected.backward()
    gradient = torch.cat([p.grad.flatten() for p in exact.parameters()])
    with train.joined(model) as weights:
        native = NativePasses.of(model, weights, resident, loss, OPTIONS)
        assert native.step(samples, rate=0.0) == pytest.approx(expected.item(), rel=1e-5)
        assert (weights.grad - gradient).norm() < 1e-4 * gradient.norm()
        for name, value in exact.state_dict().items():
            torch.testing.assert_close(model.state_dict()[name].double(), value.double(), rtol=1e-4, atol=1e-5)
        exact.eval()
        assert native.validate() == pytest.approx(LOSSES[loss](exact(validation), answers).item(), rel=1e-4)


@pytest.mark.parametrize(("shape", "block"), EXAMPLES)
def test_every_block_is_computed_as_by_torch_or_left_to_it(shape, block):
    architecture = Architecture(shape, (block, Dense(3, "leaky_relu", "batch"), Dense(2, "identity")))
    if has_kernels(architecture):
        require_equal_passes(architecture, "mse")
        return
    model = network.build(architecture, 0)
    with train.joined(model) as weights:
        assert not NativePasses.of(model, weights, to_device(make_data(architecture, "mse"), "cpu"), "mse", OPTIONS)


@pytest.mark.parametrize(("task", "seed"), SPACES)
def test_every_network_of_a_search_space_has_kernels(task, seed):
    task, random = plugins.load_task(task), np.random.default_rng(seed)
    require_equal_passes(task.space.fill(lambda _, hole: int(random.integers(len(hole.options)))), task.loss)


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_is_torchs(loss):
    require_equal_passes(Architecture((5,), (Dense(7), Dense(4, "identity"))), loss)


def test_an_activation_does_not_spoil_what_others_read():
    class Rectified(Pool):
        def layers(self, shape):
            relu, pool = Activation("relu"), super().layers(shape)
            return (Parallel(((relu,), ())), *pool, relu, Parallel(((), (relu,))))

    require_equal_passes(Architecture((4, 3), (Rectified(2), Dense(2, "identity"))), "mse")


def test_labels_that_are_none_are_left_to_torch():
    architecture = Architecture((5,), (Dense(2, "identity"),))
    data = make_data(architecture, "cross_entropy")
    model = network.build(architecture, 0)
    wrong = replace(data, train=Split(data.train.inputs, data.train.targets + 1))
    with train.joined(model) as weights:
        assert not NativePasses.of(model, weights, to_device(wrong, "cpu"), "cross_entropy", OPTIONS)
        assert NativePasses.of(model, weights, to_device(data, "cpu"), "cross_entropy", OPTIONS)


@pytest.fixture
def fresh(monkeypatch, tmp_path):
    """An empty cache folder and an empty PATH, which is returned."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path))
    compiling.library.cache_clear()
    yield tmp_path
    compiling.library.cache_clear()


def test_without_a_compiler_there_are_no_kernels(fresh):
    assert compiling.library() is None


def test_a_compiler_that_fails_is_one_sentence_and_leaves_nothing(fresh):
    compiler = fresh / "g++"
    compiler.write_text("#!/bin/sh\necho unrecognized option >&2\nexit 1\n")
    compiler.chmod(0o755)
    with pytest.raises(ToolError) as error:
        compiling.library()
    assert str(error.value) == (
        f"{compiler} could not compile the training kernels: unrecognized option; "
        "allowed: a g++ that knows C++17; install one, or take g++ off PATH to train without kernels."
    )
    assert not list((fresh / "cache" / "codesign").iterdir())


def test_a_cache_folder_that_cannot_be_made_costs_no_kernels(monkeypatch, tmp_path):
    (tmp_path / "cache").write_text("a file where the folder would be")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    compiling.library.cache_clear()
    assert compiling.library() is not None
    assert len(list(tmp_path.glob("codesign-kernels-*/kernels-*.so"))) == 1
    compiling.library.cache_clear()
