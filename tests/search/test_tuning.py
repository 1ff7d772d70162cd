"""Tuning finds the options with the least loss, survives divergence, and is repeatable."""

import math

import pytest

from codesign.core.errors import InvalidValueError, TrainingError
from codesign.search.tuning import tune
from codesign.train import TrainOptions


def _loss(options):
    """Least at a learning rate of 0.01; a batch of 64 diverges."""
    if options.batch_size == 64:
        raise TrainingError("diverged")
    return abs(math.log10(options.learning_rate) + 2)


def test_the_best_options_are_found_and_the_rest_stays():
    start = TrainOptions(epochs=7, learning_rate=1e-4)
    found = tune(_loss, start, 30, seed=0)
    assert found.epochs == 7
    assert _loss(found) < 0.1
    assert found == tune(_loss, start, 30, seed=0) != tune(_loss, start, 30, seed=1)


def test_bad_input_and_divergence_are_one_sentence():
    def fail(options):
        raise TrainingError("its loss is nan.")

    with pytest.raises(TrainingError, match=r"^All 3 trainings with tuned options diverged: its loss is nan.$"):
        tune(fail, TrainOptions(), 3, seed=0)
    with pytest.raises(InvalidValueError, match=r"^The number of trials is 0; allowed: 1 or more.$"):
        tune(_loss, TrainOptions(), 0, seed=0)
