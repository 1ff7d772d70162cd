"""Local compression: a float network in, checkpoints of integers out."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from codesign.compress.learned import learned
from codesign.compress.lower import lower, require_agreement
from codesign.compress.methods import magnitude, structured, uniform
from codesign.compress.prune import sparsity_of
from codesign.compress.trainer import Trainer
from codesign.core.architecture import Architecture
from codesign.core.integer_network import IntegerNetwork
from codesign.core.layers import require_buildable
from codesign.core.recipe import CompressionRecipe
from codesign.core.simplify import simplify
from codesign.core.task import Data, Task
from codesign.network import Network
from codesign.train import Teacher, TrainOptions

METHODS = {"uniform": uniform, "magnitude": magnitude, "structured": structured, "learned": learned}
ROWS = 2048  # at once, so that the windows of a convolution fit into memory


@dataclass(frozen=True)
class Checkpoint:
    """What one step of a compression leaves.

    Attributes:
        step: From 0, which removes nothing.
        architecture: As trained; smaller than before after structured pruning.
        sparsity: Fraction of the integer weights that are zero.
        metrics: The task's score of the integers on the validation data.
        network: The integers.
        train_seconds: Training in this step.
    """

    step: int
    architecture: Architecture
    sparsity: float
    metrics: Mapping[str, float]
    network: IntegerNetwork
    train_seconds: float


def compress(
    network: Network,
    data: Data,
    task: Task,
    recipe: CompressionRecipe,
    *,
    seed: int,
    device: str = "auto",
    options: TrainOptions | None = None,
) -> Iterator[Checkpoint]:
    """Yield a checkpoint for each step of the recipe: the first one quantizes, each one after it makes it smaller.

    Every checkpoint is exact: the trained network and its integers are compared on the validation and the test inputs
    (of which no target is looked at), and all that has no effect is removed from the integers.

    Args:
        network: Trained in float; stays as it is.
        data: The training split calibrates and trains; the validation split scores every checkpoint.
        task: Says the loss and the score.
        recipe: Method, bits, steps, epochs.
        seed: Of all training.
        device: "auto", "cpu" or "cuda".
        options: How to train, apart from what the recipe says (epochs, learning rate, which falls as a cosine does in
            every step).

    Raises:
        UnsupportedError: A layer has no exact integer form, a block cannot have the widths that remain, or a target is
            below what the network can reach.
        TrainingError: The training diverged.
        ExactnessError: The quantized network and its integers disagree.
    """
    require_buildable(network.architecture.layers)
    options = dataclasses.replace(
        options or TrainOptions(), epochs=recipe.epochs, learning_rate=recipe.learning_rate, schedule="cosine"
    )
    teacher = Teacher(network, recipe.distillation) if recipe.distillation else None
    trainer = Trainer(data, task, options, seed, device, teacher)
    for number, step in enumerate(METHODS[recipe.method](network, recipe, trainer)):
        integers = lower(step.network)
        for inputs in (data.validation.inputs, data.test.inputs):
            for rows in _parts(inputs):
                require_agreement(step.network, integers, rows)
        integers = simplify(integers)
        outputs = np.concatenate([integers.predict(rows) for rows in _parts(data.validation.inputs)])
        metrics = task.score(outputs, data.validation.targets)
        yield Checkpoint(number, step.architecture, sparsity_of(step.network), metrics, integers, step.seconds)


def _parts(inputs: np.ndarray) -> list[np.ndarray]:
    return np.array_split(inputs, 1 + len(inputs) // ROWS)
