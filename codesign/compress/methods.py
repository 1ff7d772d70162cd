"""Compression to one width of bits: without pruning, with single weights pruned, with whole neurons pruned."""

from __future__ import annotations

import copy
from collections.abc import Iterator

from codesign.compress.narrow import prune_neurons
from codesign.compress.prune import prune_weights, sparsity_after
from codesign.compress.quantize import quantize
from codesign.compress.quantized_network import QuantizedNetwork
from codesign.compress.trainer import Step, Trainer
from codesign.core.recipe import CompressionRecipe
from codesign.network import Network


def uniform(network: Network, recipe: CompressionRecipe, trainer: Trainer) -> Iterator[Step]:
    """Yield the network quantized and trained."""
    quantized = _quantized(network, recipe, trainer)
    yield Step(network.architecture, quantized, trainer.fit(quantized, 0))


def magnitude(network: Network, recipe: CompressionRecipe, trainer: Trainer) -> Iterator[Step]:
    """Yield the network quantized, then pruned and trained in turns: the founding paper's compression.

    With `recipe.is_rewound` every training after a pruning starts from the weights before the first one, as in the
    lottery-ticket procedure.

    Source: Weitz et al., arXiv 2501.05515, section 3; Frankle and Carbin, arXiv 1803.03635, section 2.
    """
    quantized = _quantized(network, recipe, trainer)
    start = {name: value.clone() for name, value in quantized.named_parameters()}
    yield Step(network.architecture, quantized, trainer.fit(quantized, 0))
    for step in range(1, recipe.steps + 1) if recipe.sparsity else ():
        prune_weights(quantized, sparsity_after(step, recipe.steps, recipe.sparsity))
        if recipe.is_rewound:
            for name, value in quantized.named_parameters():
                value.data.copy_(start[name])
        yield Step(network.architecture, quantized, trainer.fit(quantized, step))


def structured(network: Network, recipe: CompressionRecipe, trainer: Trainer) -> Iterator[Step]:
    """Yield the network quantized, then with ever fewer neurons: pruned and trained in float, quantized, trained."""
    for step in range(recipe.steps + 1 if recipe.sparsity else 1):
        seconds = 0.0
        if step:
            network = prune_neurons(network, sparsity_after(1, recipe.steps, recipe.sparsity))
            seconds = trainer.fit(network, step)  # a neuron's worth shows in float
        quantized = _quantized(network, recipe, trainer)
        yield Step(network.architecture, quantized, seconds + trainer.fit(quantized, step))


def _quantized(network: Network, recipe: CompressionRecipe, trainer: Trainer) -> QuantizedNetwork:
    return quantize(network.architecture, copy.deepcopy(network), recipe.bits, trainer.sample)
