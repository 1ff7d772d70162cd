"""Training: equal seeds give equal weights, the best epoch wins, divergence is an error."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from codesign import network, train
from codesign.autograd import LOSSES, evaluate
from codesign.blocks.dense import Dense
from codesign.core.architecture import Architecture
from codesign.core.errors import InvalidValueError, TrainingError
from codesign.core.space import SearchSpace
from codesign.core.task import Data, Objective, Split, Task
from codesign.native import passes
from codesign.train import TrainOptions

SHAPE = (4,)
ARCHITECTURE = Architecture(SHAPE, (Dense(16, norm="batch"), Dense(2, "identity")))
TASK = Task(
    name="quadrant",
    title="Is the product of the first two inputs positive?",
    input_shape=SHAPE,
    input_meaning=("a", "b", "c", "d"),
    output_meaning=("no", "yes"),
    load=lambda folder: DATA,
    loss="cross_entropy",
    score=lambda outputs, targets: {"error": float((outputs.argmax(1) != targets).mean())},
    objectives=(Objective("error"),),
    space=SearchSpace(SHAPE, (Dense(2, "identity"),)),
    baselines={},
    source="none",
)
OPTIONS = TrainOptions(epochs=4, batch_size=48, learning_rate=1e-2)


@pytest.fixture(params=["native", "torch"], autouse=True)
def engine(request, monkeypatch):
    """Every law holds for both engines."""
    if request.param == "torch":
        monkeypatch.setattr(passes, "library", lambda: None)
    return request.param


def _split(seed, rows):
    inputs = np.random.default_rng(seed).normal(size=(rows, 4)).astype(np.float32)
    return Split(inputs, (inputs[:, 0] * inputs[:, 1] > 0).astype(np.int64))


DATA = Data(_split(0, 1010), _split(1, 300), _split(2, 300), "test", is_simulation=True, digest="test")


def _train(options=OPTIONS, seed=0, task=TASK, architecture=ARCHITECTURE, **more):
    module = network.build(architecture, 0)
    return module, train.train(module, DATA, task, options, seed=seed, device="cpu", **more)


@pytest.mark.parametrize("schedule", ["one_cycle", "cosine", "constant"])
def test_it_learns(schedule):
    module, result = _train(replace(OPTIONS, epochs=15, schedule=schedule))
    assert TASK.score(train.predict(module, DATA.test.inputs), DATA.test.targets)["error"] < 0.12
    assert result.history[-1].training_loss < result.history[0].training_loss
    assert not module.training


def test_equal_seeds_give_equal_weights_and_leave_the_global_generator_alone():
    before = torch.get_rng_state()
    states = [_train(seed=seed)[1].state for seed in (1, 1, 2)]
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(states[0][k], states[1][k]) for k in states[0])
    assert not torch.equal(states[0]["0.weight"], states[2]["0.weight"])


def test_the_weights_are_those_of_the_best_epoch():
    module, result = _train(replace(OPTIONS, epochs=11, learning_rate=0.3, schedule="constant"))
    losses = [epoch.validation_loss for epoch in result.history]
    assert result.best_epoch == int(np.argmin(losses)) < len(losses) - 1
    again = evaluate(module, train.to_device(DATA, "cpu"), LOSSES["cross_entropy"])
    assert again == pytest.approx(min(losses), rel=1e-6)
    assert all(torch.equal(value, module.state_dict()[key]) for key, value in result.state.items())


def test_patience_stops_after_epochs_without_progress():
    _, result = _train(replace(OPTIONS, epochs=60, learning_rate=0.3, schedule="constant", patience=2))
    assert len(result.history) == result.best_epoch + 3 < 60


def test_the_caller_can_stop_after_each_epoch():
    seen = []
    _, result = _train(on_epoch=lambda epoch, loss: seen.append((epoch, loss)) or epoch == 1)
    assert seen == [(0, result.history[0].validation_loss), (1, result.history[1].validation_loss)]


@pytest.mark.parametrize("change", [{}, {"weight_decay": 0.1}, {"gradient_clip": 0.05}, {"data_fraction": 0.8}])
def test_both_engines_reach_the_same_weights(change, monkeypatch):
    # Without a batch norm, before which a bias has no gradient but rounding, that Adam then scales up
    architecture = Architecture(SHAPE, (Dense(16), Dense(2, "identity")))
    _, native = _train(replace(OPTIONS, **change), architecture=architecture)
    monkeypatch.setattr(passes, "library", lambda: None)
    _, torchs = _train(replace(OPTIONS, **change), architecture=architecture)
    np.testing.assert_allclose(native.history, torchs.history, rtol=1e-4)
    for name, value in native.state.items():
        torch.testing.assert_close(value, torchs.state[name], rtol=1e-3, atol=1e-4)


def test_divergence_is_an_error():
    with pytest.raises(TrainingError, match=r"Training diverged in epoch \d: .* Lower the learning rate, now 1e\+30"):
        _train(replace(OPTIONS, learning_rate=1e30, schedule="constant"))


def test_a_fraction_of_the_data_is_the_same_for_the_same_seed_and_makes_fewer_steps():
    batches = []
    task = replace(TASK, augment=lambda inputs, targets: batches.append(inputs.clone()) or (inputs, targets))
    for _ in range(2):
        _train(replace(OPTIONS, data_fraction=0.5), task=task)
    steps = 505 // 48 * OPTIONS.epochs
    assert len(batches) == 2 * steps
    assert all(torch.equal(a, b) for a, b in zip(batches[:steps], batches[steps:], strict=True))
    assert len(torch.cat(batches).unique(dim=0)) <= 505


def test_every_epoch_shuffles_anew_and_repeats_no_row():
    batches = []
    task = replace(TASK, augment=lambda inputs, targets: batches.append(inputs.clone()) or (inputs, targets))
    _train(replace(OPTIONS, epochs=2), task=task)
    first, second = torch.cat(batches[:21]), torch.cat(batches[21:])
    assert len(first.unique(dim=0)) == len(second.unique(dim=0)) == 1008
    assert not torch.equal(first, second)


def test_a_clipped_gradient_changes_less():
    start = network.build(ARCHITECTURE, 0).state_dict()["0.weight"]
    # Adam divides by the gradient's size, so clipping shows only where the size changes: against epsilon
    moved = [
        (_train(replace(OPTIONS, epochs=1, gradient_clip=clip))[1].state["0.weight"] - start).abs().mean()
        for clip in (1e-9, 0.0)
    ]
    assert moved[0] < 0.5 * moved[1]


def test_mixed_precision_learns_too():
    _, result = _train(replace(OPTIONS, epochs=10, is_mixed_precision=True))
    assert result.history[-1].validation_loss < 0.5


def test_the_data_become_tensors_once_and_share_memory():
    resident = train.to_device(DATA, "cpu")
    assert train.to_device(DATA, "cpu") is resident
    assert resident.inputs.data_ptr() == DATA.train.inputs.ctypes.data
    other = replace(DATA)
    assert train.to_device(other, "cpu") is not resident


def test_predictions_do_not_depend_on_the_batch():
    module, _ = _train()
    whole = train.predict(module, DATA.test.inputs)
    assert whole.shape == (300, 2)
    np.testing.assert_allclose(train.predict(module, DATA.test.inputs, batch=7), whole, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"epochs": 0}, "Training has 0 epochs of batches of 256; allowed: 1 or more of each."),
        ({"data_fraction": 0.0}, "The data fraction is 0.0; allowed: above 0, up to 1."),
        ({"learning_rate": float("nan")}, "The learning rate is nan; allowed: above 0."),
    ],
)
def test_a_bad_option_is_one_sentence(change, sentence):
    with pytest.raises(InvalidValueError) as error:
        TrainOptions(**change)
    assert str(error.value) == sentence


def test_a_network_to_be_trained_starts_at_zero_with_all_other_weights_random():
    plain, zeroed = (network.build(ARCHITECTURE, 0, starts_at_zero=z) for z in (False, True))
    assert not zeroed(torch.randn(5, *SHAPE)).any()
    *same, weight, bias = zip(plain.parameters(), zeroed.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in same)
    assert not any(torch.equal(a, b) for a, b in (weight, bias))


def test_an_output_behind_a_norm_cannot_start_at_zero():
    architecture = Architecture(SHAPE, (Dense(2, "relu", "batch"),))
    states = [network.build(architecture, 0, starts_at_zero=z).state_dict() for z in (False, True)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
