"""Learned precision: a network is trained while its hardware cost falls, step by step, to a target."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch

from codesign.backends.dataflow import preferring
from codesign.compress.lower import lower
from codesign.compress.price import allocate, expected_lut_of, make_learnable
from codesign.compress.quantize import calibrate, quantize
from codesign.compress.quantized_network import QuantizedNetwork
from codesign.compress.trainer import Step, Trainer
from codesign.core.errors import UnsupportedError
from codesign.core.recipe import CompressionRecipe
from codesign.network import Network

SAMPLE_ROWS = 512  # by which formats are chosen anew after every epoch
CORRECTIONS = 3  # further trainings of the last step if it missed its target


def learned(network: Network, recipe: CompressionRecipe, trainer: Trainer) -> Iterator[Step]:
    """Yield the network quantized, then at ever lower hardware cost, down to `recipe.lut_target`.

    The cost falls by the same factor in each step: in the first half of its epochs from the last step's to its own,
    where it stays. After every epoch all weights and activations are given the precision they are worth at this cost
    (`allocate`). The exact adder-graph cost after each step corrects the expected one.

    Raises:
        UnsupportedError: At a step's cost, no output depends on the input any more.
    """
    trims_inputs = recipe.granularity == "single" and not recipe.is_streamed
    quantized = quantize(network.architecture, network, recipe.bits, trainer.sample, trims_inputs=trims_inputs)
    make_learnable(quantized, recipe.granularity, trainer.options.batch_size, is_streamed=recipe.is_streamed)
    calibrate(quantized, trainer.sample)
    yield Step(network.architecture, quantized, trainer.fit(quantized, 0, keeps_last=True))
    first = last = _exact_lut(quantized, recipe)
    target = recipe.lut_target or first * (1.0 - recipe.sparsity)
    for step in range(1, recipe.steps + 1) if target < first else ():
        goal = first * (target / first) ** (step / recipe.steps)
        seconds = _train_at(quantized, last, goal, recipe, trainer, step)
        last = _exact_lut(quantized, recipe)
        for _ in range(CORRECTIONS if step == recipe.steps else 0):
            if last <= target:
                break
            goal *= target / last
            seconds += _train_at(quantized, goal, goal, recipe, trainer, step)
            last = _exact_lut(quantized, recipe)
        yield Step(network.architecture, quantized, seconds)


def _train_at(
    network: QuantizedNetwork, start: float, goal: float, recipe: CompressionRecipe, trainer: Trainer, step: int
) -> float:
    """Train while the exact cost falls from `start` to `goal` LUTs; return the seconds."""
    sample = torch.from_numpy(trainer.sample[:SAMPLE_ROWS])
    share = expected_lut_of(network, is_streamed=recipe.is_streamed) / _exact_lut(network, recipe)
    falling = math.ceil(trainer.options.epochs / 2)

    def spend(epoch: int) -> None:
        lut = start * (goal / start) ** min(1.0, epoch / falling)
        device = next(network.parameters()).device
        allocate(network, sample.to(device), lut * share, is_streamed=recipe.is_streamed)
        ranges = lower(network).ranges[-1]
        if (ranges.low == ranges.high).all():
            raise UnsupportedError(
                f"At {lut:,.0f} LUTs no output of the network depends on its input any more; "
                f"allowed: a higher lut_target, more steps, or a smaller architecture. Earlier steps are kept."
            )

    def after(epoch: int, loss: float) -> bool:
        if epoch + 1 < trainer.options.epochs:
            spend(epoch + 2)
        return False

    spend(1)
    return trainer.fit(network, step, after, keeps_last=True)


def _exact_lut(network: QuantizedNetwork, recipe: CompressionRecipe) -> float:
    integers = lower(network)
    dataflow = preferring("streaming" if recipe.is_streamed else "parallel", integers)
    return dataflow.estimate(integers)[0].lut or 0.0
