"""What every method of compression trains with, and what each of its steps gives."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
from torch import nn

from codesign.compress.quantized_network import QuantizedNetwork
from codesign.core.architecture import Architecture
from codesign.core.task import Data, Task
from codesign.train import OnEpoch, Teacher, TrainOptions, train

CALIBRATION_ROWS = 2048


@dataclass(frozen=True)
class Step:
    """A trained step of a compression.

    Attributes:
        architecture: As trained; smaller than before after structured pruning.
        network: Quantized and trained.
        seconds: Training in this step.
    """

    architecture: Architecture
    network: QuantizedNetwork
    seconds: float


@dataclass(frozen=True)
class Trainer:
    """Data, loss and settings of all trainings of one compression.

    Attributes:
        options: Epochs, learning rate and its schedule in each step.
        seed: Step k trains with seed + k.
        device: "auto", "cpu" or "cuda".
        teacher: Float network whose answers are learned beside the targets, or None.
    """

    data: Data
    task: Task
    options: TrainOptions
    seed: int
    device: str
    teacher: Teacher | None = None

    @property
    def sample(self) -> np.ndarray:
        """Training inputs by which formats are chosen."""
        return self.data.train.inputs[:CALIBRATION_ROWS]

    def fit(self, module: nn.Module, step: int, on_epoch: OnEpoch | None = None, *, keeps_last: bool = False) -> float:
        """Train in place and return the seconds it took; see `codesign.train.train`."""
        options = dataclasses.replace(self.options, keeps_last=keeps_last)
        return train(
            module,
            self.data,
            self.task,
            options,
            seed=self.seed + step,
            device=self.device,
            on_epoch=on_epoch,
            teacher=self.teacher,
        ).seconds
