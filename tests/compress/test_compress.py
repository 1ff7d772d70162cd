"""Compression: every checkpoint is whole, exact, and sparser than the one before."""

import numpy as np
import pytest

from codesign import network
from codesign.blocks.deep_sets import DeepSets
from codesign.blocks.dense import Dense
from codesign.compress.compress import compress
from codesign.core.architecture import Architecture
from codesign.core.errors import TrainingError, UnsupportedError
from codesign.core.recipe import CompressionRecipe
from codesign.core.space import SearchSpace
from codesign.core.task import Data, Objective, Split, Task
from codesign.train import TrainOptions, train

SHAPE = (4, 2)
ARCHITECTURE = Architecture(SHAPE, (DeepSets((12, 12), norm="batch"), Dense(12, norm="batch"), Dense(2, "identity")))


def _split(seed, rows):
    inputs = np.random.default_rng(seed).normal(size=(rows, *SHAPE)).astype(np.float32)
    return Split(inputs, (inputs.prod(-1).sum(-1) > 0).astype(np.int64))


DATA = Data(_split(0, 4000), _split(1, 1000), _split(2, 1000), "test", is_simulation=True, digest="test")
TASK = Task(
    name="set",
    title="Is the sum of products positive?",
    input_shape=SHAPE,
    input_meaning=("a", "b"),
    output_meaning=("no", "yes"),
    load=lambda folder: DATA,
    loss="cross_entropy",
    score=lambda outputs, targets: {"error": float((outputs.argmax(1) != targets).mean())},
    objectives=(Objective("error"),),
    space=SearchSpace(SHAPE, (Dense(2, "identity"),)),
    baselines={},
    source="none",
)


@pytest.fixture(scope="module")
def trained():
    module = network.build(ARCHITECTURE, 0)
    train(module, DATA, TASK, TrainOptions(epochs=15, batch_size=100, learning_rate=1e-2), seed=0, device="cpu")
    return module


def _compress(trained, recipe, seed=0):
    options = TrainOptions(batch_size=100)
    return list(compress(trained, DATA, TASK, recipe, seed=seed, device="cpu", options=options))


@pytest.mark.parametrize("pruning", ["magnitude", "structured", "none"])
def test_every_checkpoint_is_exact_and_smaller_than_the_one_before(trained, pruning):
    before = {k: v.clone() for k, v in trained.state_dict().items()}
    checkpoints = _compress(trained, CompressionRecipe(6, pruning, 0.6, 3, 2))
    assert [c.step for c in checkpoints] == ([0] if pruning == "none" else [0, 1, 2, 3])
    assert checkpoints[0].metrics["error"] < 0.12
    assert checkpoints[-1].metrics["error"] < 0.35  # half of all answers would be wrong by chance
    for checkpoint in checkpoints:
        scored = TASK.score(checkpoint.network.predict(DATA.validation.inputs), DATA.validation.targets)
        assert checkpoint.metrics == scored
    if pruning == "magnitude":
        assert all(c.architecture == ARCHITECTURE for c in checkpoints)
        assert checkpoints[-1].sparsity >= 0.6 - 0.01
    if pruning == "structured":
        sizes = [c.architecture.parameters() for c in checkpoints]
        assert sizes == sorted(set(sizes), reverse=True)
    assert all((before[k] == v).all() for k, v in trained.state_dict().items())


def test_training_with_quantization_recovers_what_few_bits_cost(trained):
    from codesign.compress.lower import lower
    from codesign.compress.quantize import quantize

    untrained = lower(quantize(ARCHITECTURE, trained, 3, DATA.train.inputs)).predict(DATA.validation.inputs)
    error = TASK.score(untrained, DATA.validation.targets)["error"]
    (checkpoint,) = _compress(trained, CompressionRecipe(3, "none", 0.0, 1, 4))
    assert checkpoint.metrics["error"] < error


def test_equal_seeds_give_equal_integers(trained):
    recipe = CompressionRecipe(5, "magnitude", 0.5, 1, 1)
    digests = [[c.network.digest for c in _compress(trained, recipe, seed)] for seed in (0, 0, 1)]
    assert digests[0] == digests[1] != digests[2]


def test_divergence_keeps_the_checkpoints_made_so_far(trained):
    recipe = CompressionRecipe(6, "magnitude", 0.5, 2, 1)
    steps = compress(trained, DATA, TASK, recipe, seed=0, device="cpu")
    first = next(steps)
    assert first.step == 0
    bad = CompressionRecipe(6, "none", 0.0, 1, 1, learning_rate=1e38)
    with pytest.raises(TrainingError, match="Training diverged in epoch 0"):
        _compress(trained, bad)


def test_a_float_only_network_is_refused_before_any_training():
    architecture = Architecture(SHAPE, (Dense(3, norm="layer"), Dense(2, "identity")))
    with pytest.raises(UnsupportedError, match="a layer norm divides by a standard deviation"):
        next(compress(network.build(architecture, 0), DATA, TASK, CompressionRecipe(), seed=0))
