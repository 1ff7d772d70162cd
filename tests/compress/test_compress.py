"""Compression: every checkpoint is whole, exact, and sparser than the one before."""

import copy
from dataclasses import replace

import numpy as np
import pytest

from codesign import network
from codesign.backends import da4ml, streaming
from codesign.blocks.deep_sets import DeepSets
from codesign.blocks.dense import Dense
from codesign.compress.compress import compress
from codesign.core import operations as ops
from codesign.core.architecture import Architecture
from codesign.core.errors import CodesignError, TrainingError, UnsupportedError
from codesign.core.recipe import METHODS, CompressionRecipe
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


@pytest.mark.parametrize("method", METHODS)
def test_every_checkpoint_is_exact_and_smaller_than_the_one_before(trained, method):
    before = {k: v.clone() for k, v in trained.state_dict().items()}
    checkpoints = _compress(trained, CompressionRecipe(method, 6, sparsity=0.6, steps=3, epochs=2))
    assert [c.step for c in checkpoints] == ([0] if method == "uniform" else [0, 1, 2, 3])
    assert checkpoints[0].metrics["error"] < 0.12
    assert checkpoints[-1].metrics["error"] < 0.35  # half of all answers would be wrong by chance
    for checkpoint in checkpoints:
        scored = TASK.score(checkpoint.network.predict(DATA.validation.inputs), DATA.validation.targets)
        assert checkpoint.metrics == scored
    if method == "magnitude":
        assert all(c.architecture == ARCHITECTURE for c in checkpoints)
        assert checkpoints[-1].sparsity >= 0.6 - 0.01
    if method == "learned":
        luts = [da4ml.estimate(c.network)[0].lut for c in checkpoints]
        assert luts == sorted(set(luts), reverse=True)
        assert luts[-1] <= 0.4 * luts[0]
    if method == "structured":
        sizes = [c.architecture.parameters() for c in checkpoints]
        assert sizes == sorted(set(sizes), reverse=True)
    assert all((before[k] == v).all() for k, v in trained.state_dict().items())


def test_training_with_quantization_recovers_what_few_bits_cost(trained):
    from codesign.compress.lower import lower
    from codesign.compress.quantize import quantize

    untrained = lower(quantize(ARCHITECTURE, trained, 3, DATA.train.inputs)).predict(DATA.validation.inputs)
    error = TASK.score(untrained, DATA.validation.targets)["error"]
    (checkpoint,) = _compress(trained, CompressionRecipe("uniform", 3, epochs=4))
    assert checkpoint.metrics["error"] < error


@pytest.mark.parametrize("method", ["magnitude", "learned"])
def test_equal_seeds_give_equal_integers(trained, method):
    recipe = CompressionRecipe(method, 5, sparsity=0.5, steps=1, epochs=1)
    digests = [[c.network.digest for c in _compress(trained, recipe, seed)] for seed in (0, 0, 1)]
    assert digests[0] == digests[1] != digests[2]


def test_divergence_keeps_the_checkpoints_made_so_far(trained):
    recipe = CompressionRecipe("magnitude", 6, sparsity=0.5, steps=2, epochs=1)
    steps = compress(trained, DATA, TASK, recipe, seed=0, device="cpu")
    first = next(steps)
    assert first.step == 0
    bad = CompressionRecipe("uniform", 6, epochs=1, learning_rate=1e38)
    with pytest.raises(TrainingError, match="Training diverged in epoch 0"):
        _compress(trained, bad)


def test_a_float_only_network_is_refused_before_any_training():
    architecture = Architecture(SHAPE, (Dense(3, norm="layer"), Dense(2, "identity")))
    with pytest.raises(UnsupportedError, match="a layer norm divides by a standard deviation"):
        next(compress(network.build(architecture, 0), DATA, TASK, CompressionRecipe(), seed=0))


@pytest.mark.parametrize("granularity", ["channel", "tensor"])
def test_precision_is_learned_for_groups_too(trained, granularity):
    recipe = CompressionRecipe("learned", 6, granularity, sparsity=0.5, steps=2, epochs=2)
    checkpoints = _compress(trained, recipe)
    luts = [da4ml.estimate(c.network)[0].lut for c in checkpoints]
    assert luts[-1] <= 0.5 * luts[0]
    assert checkpoints[-1].metrics["error"] < 0.35
    formats = [len(op.formats) for op in checkpoints[-1].network.operations if isinstance(op, ops.Quantize)]
    assert set(formats) == {1} if granularity == "tensor" else max(formats) > 1


def test_a_target_is_reached_and_less_is_lost_than_by_pruning(trained):
    (target, error), *_ = sorted(
        (da4ml.estimate(c.network)[0].lut, c.metrics["error"])
        for c in _compress(trained, CompressionRecipe("magnitude", 6, sparsity=0.8, steps=3, epochs=3))
    )
    learned = _compress(trained, CompressionRecipe("learned", 8, lut_target=target, steps=3, epochs=3))[-1]
    assert 0.8 * target < da4ml.estimate(learned.network)[0].lut <= target
    assert learned.metrics["error"] < error


def test_a_target_counts_the_hardware_of_a_stream_once(trained):
    recipe = CompressionRecipe("learned", 8, is_streamed=True, lut_target=1500.0, steps=3, epochs=2)
    first, *_, last = _compress(trained, recipe)
    assert 1000 < streaming.estimate(last.network)[0].lut <= 1500 < streaming.estimate(first.network)[0].lut
    assert da4ml.estimate(last.network)[0].lut > 2 * 1500


def test_a_target_beyond_reach_ends_with_one_sentence_and_keeps_the_steps_before(trained):
    steps = compress(trained, DATA, TASK, CompressionRecipe("learned", 6, lut_target=1.0, steps=2, epochs=1), seed=0)
    assert next(steps).step == 0
    with pytest.raises(UnsupportedError, match=r"LUTs no output of the network depends on its input any more; allowed"):
        list(steps)


def test_rewinding_starts_each_training_from_the_first_weights(trained):
    recipe = CompressionRecipe("magnitude", 6, sparsity=0.5, steps=2, epochs=1)
    kept, rewound = (_compress(trained, replace(recipe, is_rewound=flag)) for flag in (False, True))
    assert kept[0].network.digest == rewound[0].network.digest
    assert all(a.network.digest != b.network.digest for a, b in zip(kept[1:], rewound[1:], strict=True))


def test_a_teacher_is_followed(trained):
    """A network that answers the wrong way round stays so as long as it is its own teacher."""
    swapped = copy.deepcopy(trained)
    for parameter in swapped[-1].parameters():
        parameter.data = parameter.data.flip(0)
    recipe = CompressionRecipe("uniform", 6, epochs=12, learning_rate=2e-2)
    alone, taught = (_compress(swapped, replace(recipe, distillation=share))[0] for share in (0.0, 0.9))
    assert alone.metrics["error"] < 0.2
    assert taught.metrics["error"] > 0.8


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (
            {"method": "learnt"},
            "There is no compression method 'learnt'; allowed: learned, magnitude, structured, uniform. "
            "Did you mean 'learned'?",
        ),
        (
            {"lut_target": 100.0, "method": "uniform"},
            "The LUT target is 100 with the method 'uniform'; allowed: a target with the method learned only.",
        ),
        ({"sparsity": 1.0}, "The sparsity is 1.0; allowed: from 0 up to, not including, 1."),
        ({"bits": 1}, "The bit width is 1; allowed: 2 to 16."),
    ],
)
def test_a_recipe_that_is_not_allowed_is_one_sentence(values, sentence):
    with pytest.raises(CodesignError) as error:
        CompressionRecipe(**values)
    assert str(error.value) == sentence
