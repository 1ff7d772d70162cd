"""How to fit a network, and the learning rate that follows from it at each step."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from codesign.core.errors import InvalidValueError, unknown_name

WARM_UP = 0.3  # fraction of a one-cycle schedule in which the learning rate rises


@dataclass(frozen=True)
class TrainOptions:
    """How to fit a network.

    Attributes:
        epochs: Passes over the training data at most.
        batch_size: Samples of one step; a last incomplete batch is left out (every epoch shuffles anew).
        learning_rate: Highest learning rate of the schedule.
        schedule: "one_cycle" rises over the first 30 % and falls to zero as cosines do, "cosine" only falls.
        weight_decay: Decoupled weight decay of AdamW; 0 is Adam.
        data_fraction: Fraction of the training data to use, the same rows for the same seed.
        patience: Epochs without a better validation loss until training stops; 0 never stops.
        gradient_clip: Largest norm of the gradient; 0 does not clip.
        is_mixed_precision: Run the network in bfloat16 where torch holds that to be safe.
        keeps_last: Take the weights of the last epoch, not those of the epoch with the lowest validation loss.
    """

    epochs: int = 10
    batch_size: int = 256
    learning_rate: float = 3e-3
    schedule: Literal["one_cycle", "cosine", "constant"] = "one_cycle"
    weight_decay: float = 0.0
    data_fraction: float = 1.0
    patience: int = 0
    gradient_clip: float = 0.0
    is_mixed_precision: bool = False
    keeps_last: bool = False

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch_size < 1:
            raise InvalidValueError(
                f"Training has {self.epochs} epochs of batches of {self.batch_size}; allowed: 1 or more of each."
            )
        if not 0 < self.data_fraction <= 1:
            raise InvalidValueError(f"The data fraction is {self.data_fraction}; allowed: above 0, up to 1.")
        if not self.learning_rate > 0:
            raise InvalidValueError(f"The learning rate is {self.learning_rate}; allowed: above 0.")
        if self.schedule not in ("one_cycle", "cosine", "constant"):
            raise unknown_name("schedule", self.schedule, ("one_cycle", "cosine", "constant"))


def rate_at(options: TrainOptions, step: int, steps: int) -> float:
    """Return the learning rate.

    Sources: Smith and Topin, arXiv 1708.07120 (one-cycle); Loshchilov and Hutter, arXiv 1608.03983 (cosine).
    """
    progress = step / steps
    if options.schedule == "constant":
        return options.learning_rate
    if options.schedule == "one_cycle":
        if progress < WARM_UP:
            return options.learning_rate * (0.04 + 0.96 * (1 - math.cos(math.pi * progress / WARM_UP)) / 2)
        progress = (progress - WARM_UP) / (1 - WARM_UP)
    return options.learning_rate * (1 + math.cos(math.pi * progress)) / 2
