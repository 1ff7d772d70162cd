"""Structured pruning: whole neurons and channels leave a float network, which becomes a smaller architecture."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
import torch_pruning
from torch import Tensor, nn

from codesign.core.architecture import Architecture, Block
from codesign.core.errors import CodesignError, UnsupportedError
from codesign.core.layers import (
    Activation,
    Conv2d,
    Flatten,
    Layer,
    Linear,
    Norm,
    Parallel,
    Pool,
    Reshape,
    Shape,
    Transpose,
    shape_after,
    with_shapes,
)
from codesign.network import Branches, Network, Row

Outputs = Mapping[str, Tensor]  # for each layer with weights, by its path in the network, the outputs that stay


def prune_neurons(network: Network, fraction: float) -> Network:
    """Return a smaller network without the least important `fraction` of the neurons of every layer.

    Outputs that are added to one another leave together. The network's own outputs stay, and so do outputs that end up
    on an axis other than the last one, where their number is part of the architecture. An output's importance is the
    norm of its weights, times the scale of the batch norm behind them.

    Coupled layers come from torch-pruning's dependency graph. It reads shapes with channels first, so the tensors are
    cut here, along the architecture's own layers, and loaded strictly: no shape can be silently wrong.

    Args:
        network: Stays as it is.
        fraction: From 0 up to, not including, 1; each layer keeps at least one neuron.

    Raises:
        UnsupportedError: A block cannot have the widths that remain; the message names it.
    """
    kept: dict[str, Tensor] = {}
    for group in _groups(network):
        importance = torch.stack([_importance(network, name) for name in group]).mean(0)
        count = max(1, round(len(importance) * (1.0 - fraction)))
        stays = importance.topk(count).indices.sort().values
        kept |= dict.fromkeys(group, stays)
    architecture = _narrowed_architecture(network, kept)
    state: dict[str, Tensor] = {}
    _cut(network.layers, network, "", _everything(network.shape), kept, state)
    smaller = Network(architecture)
    smaller.load_state_dict(state)
    return smaller.eval()


def _groups(network: Network) -> list[list[str]]:
    """Return the layers whose outputs may leave, those that must lose the same outputs together."""
    fixed: set[str] = set()
    owners = _owners(network.layers, network, "", network.shape, frozenset(), fixed)
    fixed |= owners
    names = {module: name for name, module in network.named_modules() if isinstance(module, nn.Linear | nn.Conv2d)}
    example = torch.zeros(2, *network.shape)
    graph = torch_pruning.DependencyGraph().build_dependency(network.eval(), example_inputs=example)
    groups = []
    for group in graph.get_all_groups(root_module_types=[nn.Linear, nn.Conv2d]):
        outputs = {
            names[item.dep.target.module]
            for item in group
            if item.dep.target.module in names and graph.is_out_channel_pruning_fn(item.dep.handler)
        }
        if not outputs & fixed:
            groups.append(sorted(outputs))
    return groups


def _owners(
    layers: Sequence[Layer], row: Row, path: str, shape: Shape, owners: frozenset[str], fixed: set[str]
) -> frozenset[str]:
    """Return the layers whose outputs make up the last axis of the result; add to `fixed` those that must not change.

    An axis that nobody owns (the input's, or one that was moved) makes the layers it is merged with unchangeable.
    """
    for i, (layer, inner) in enumerate(with_shapes(layers, shape)):
        match layer:
            case Linear() | Conv2d():
                owners = frozenset([f"{path}{i}"])
            case Parallel(branches=branches, merge=merge):
                module = row[i]
                assert isinstance(module, Branches)
                sides = [
                    _owners(branch, side, f"{path}{i}.branches.{k}.", inner, owners, fixed)
                    for k, (branch, side) in enumerate(zip(branches, module.branches, strict=True))
                ]
                owners = frozenset().union(*sides)
                if merge == "matmul" or (merge == "add" and not all(sides)):
                    fixed |= owners
                    owners = frozenset()
            case _ if _moves_last_axis(layer, inner):
                fixed |= owners
                owners = frozenset()
    return owners


def _moves_last_axis(layer: Layer, shape: Shape) -> bool:
    match layer:
        case Transpose(axes=axes):
            return axes[-1] != len(axes) - 1
        case Pool(axis=axis):
            return axis % len(shape) == len(shape) - 1
        case Reshape(shape=new):
            return new[-1] != shape[-1]
        case Activation(kind=kind):
            return kind == "softmax"
    return False


def _importance(network: Network, name: str) -> Tensor:
    """Return the norm of each output's weights, with the scale of a batch norm right behind it."""
    layer = network.get_submodule(name)
    norms = layer.weight.detach().flatten(1).norm(dim=1)
    parent, _, position = name.rpartition(".")
    row = network.get_submodule(parent) if parent else network
    following = row[int(position) + 1] if int(position) + 1 < len(row) else None
    if isinstance(following, nn.BatchNorm1d) and following.num_features == len(norms):
        norms = norms * (following.weight / torch.sqrt(following.running_var + following.eps)).detach().abs()
    return norms / norms.mean().clamp(min=1e-12)
