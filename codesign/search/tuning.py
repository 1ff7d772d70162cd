"""Hyperparameters of a training, tuned before a network is compressed: hyperopt's TPE on the validation loss."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from hyperopt import STATUS_FAIL, STATUS_OK, Trials, fmin, hp, space_eval, tpe
from hyperopt.exceptions import AllTrialsFailed

from codesign.core.errors import InvalidValueError, TrainingError
from codesign.train import TrainOptions

SPACE = {
    "learning_rate": hp.loguniform("learning_rate", math.log(3e-4), math.log(3e-2)),
    "batch_size": hp.choice("batch_size", [64, 128, 256, 512]),
    "weight_decay": hp.loguniform("weight_decay", math.log(1e-6), math.log(1e-2)),
    "schedule": hp.choice("schedule", ["one_cycle", "cosine"]),
}


def tune(loss_of: Callable[[TrainOptions], float], options: TrainOptions, trials: int, seed: int) -> TrainOptions:
    """Return the options with the learning rate, batch size, weight decay and schedule of the best of some trainings.

    Source: Bergstra et al., Algorithms for Hyper-Parameter Optimization, NIPS 2011 (TPE).

    Args:
        loss_of: Trains with some options and returns the validation loss; may raise TrainingError.
        options: Start, and what stays as it is.
        trials: Trainings; at least 1.
        seed: Of the suggestions.

    Raises:
        InvalidValueError: The number of trials is below 1.
        TrainingError: Every training diverged.
    """
    if trials < 1:
        raise InvalidValueError(f"The number of trials is {trials}; allowed: 1 or more.")

    def evaluate(values: dict[str, Any]) -> dict[str, Any]:
        try:
            return {"loss": loss_of(dataclasses.replace(options, **values)), "status": STATUS_OK}
        except TrainingError as error:
            return {"status": STATUS_FAIL, "failure": str(error)}

    history, rng = Trials(), np.random.default_rng(seed)
    try:
        fmin(evaluate, SPACE, tpe.suggest, trials, trials=history, rstate=rng, show_progressbar=False)
    except AllTrialsFailed:
        cause = history.results[0]["failure"]
        raise TrainingError(f"All {trials} trainings with tuned options diverged: {cause}") from None
    return dataclasses.replace(options, **space_eval(SPACE, history.argmin))
