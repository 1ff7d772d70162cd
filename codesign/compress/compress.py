"""Local compression: prune and train with quantization in turns; every step ends in integers."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from codesign.compress.lower import lower, require_agreement
from codesign.compress.narrow import prune_neurons
from codesign.compress.prune import prune_weights, sparsity_after, sparsity_of
from codesign.compress.quantize import quantize
from codesign.compress.quantized_network import QuantizedNetwork
from codesign.core.architecture import Architecture
from codesign.core.integer_network import IntegerNetwork
from codesign.core.layers import require_buildable
from codesign.core.recipe import CompressionRecipe
from codesign.core.task import Data, Task
from codesign.network import Network
from codesign.train import TrainOptions, train

CALIBRATION_ROWS = 2048
AGREEMENT_ROWS = 2048
EMULATION_ROWS = 2048  # at once, so that the windows of a convolution fit into memory

Step = tuple[Architecture, QuantizedNetwork, float]  # what to train, and the seconds spent on it so far


@dataclass(frozen=True)
class Checkpoint:
    """What one step of a compression leaves.

    Attributes:
        step: From 0, which prunes nothing.
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
    """Yield a checkpoint for each step of the recipe: the first quantizes, each one after it prunes and trains again.

    Args:
        network: Trained in float; stays as it is.
        data: The training split calibrates and trains; the validation split scores every checkpoint.
        task: Says the loss and the score.
        recipe: Bits, pruning, epochs.
        seed: Of all training.
        device: "auto", "cpu" or "cuda".
        options: How to train, apart from what the recipe says (epochs, learning rate, which falls as a cosine does in
            every step).

    Raises:
        UnsupportedError: A layer has no exact integer form, or a block cannot have the widths that remain.
        TrainingError: The training diverged.
        ExactnessError: The quantized network and its integers disagree.
    """
    require_buildable(network.architecture.layers)
    options = dataclasses.replace(
        options or TrainOptions(), epochs=recipe.epochs, learning_rate=recipe.learning_rate, schedule="cosine"
    )
    steps = _structured if recipe.pruning == "structured" else _magnitude
    for step, (architecture, quantized, seconds) in enumerate(
        steps(network, data, task, recipe, options, seed, device)
    ):
        result = train(quantized, data, task, options, seed=seed + step, device=device)
        integers = lower(quantized)
        require_agreement(quantized, integers, data.validation.inputs[:AGREEMENT_ROWS])
        rows = np.array_split(data.validation.inputs, 1 + len(data.validation.inputs) // EMULATION_ROWS)
        outputs = np.concatenate([integers.predict(part) for part in rows])
        metrics = task.score(outputs, data.validation.targets)
        yield Checkpoint(step, architecture, sparsity_of(quantized), metrics, integers, seconds + result.seconds)


def _magnitude(
    network: Network, data: Data, task: Task, recipe: CompressionRecipe, options: TrainOptions, seed: int, device: str
) -> Iterator[Step]:
    quantized = _quantized(network, data, recipe)
    yield network.architecture, quantized, 0.0
    for step in range(1, recipe.steps + 1) if recipe.pruning == "magnitude" and recipe.sparsity else ():
        prune_weights(quantized, sparsity_after(step, recipe.steps, recipe.sparsity))
        yield network.architecture, quantized, 0.0


def _structured(
    network: Network, data: Data, task: Task, recipe: CompressionRecipe, options: TrainOptions, seed: int, device: str
) -> Iterator[Step]:
    """Prune and train in float before every quantization: a neuron's worth shows in float."""
    yield network.architecture, _quantized(network, data, recipe), 0.0
    for step in range(1, recipe.steps + 1) if recipe.sparsity else ():
        network = prune_neurons(network, sparsity_after(1, recipe.steps, recipe.sparsity))
        result = train(network, data, task, options, seed=seed + step, device=device)
        yield network.architecture, _quantized(network, data, recipe), result.seconds


def _quantized(network: Network, data: Data, recipe: CompressionRecipe) -> QuantizedNetwork:
    return quantize(network.architecture, network, recipe.bits, data.train.inputs[:CALIBRATION_ROWS])
