"""Structured pruning: whole neurons and channels leave a float network, which becomes a smaller architecture."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
import torch_pruning
from torch import Tensor, nn

from codesign.core.architecture import Architecture, Block
from codesign.core.errors import CodesignError, UnsupportedError
from codesign.core.layers import (
    Activation,
    Conv2d,
    DepthwiseConv2d,
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
    """Return a smaller network without the neurons that are least important for the hardware they take.

    Outputs that are added to one another leave together. The network's own outputs stay, and so do outputs that end up
    on an axis other than the last one, where their number is part of the architecture. An output's importance is the
    norm of its weights, times the scale of the batch norm behind them, in units of its layer's root mean square. Its
    cost is the multiplications that would leave with it, at all positions: built as constants, they are the hardware.

    Coupled layers come from torch-pruning's dependency graph. It reads shapes with channels first, so the tensors are
    cut here, along the architecture's own layers, and loaded strictly: no shape can be silently wrong.

    Args:
        network: Stays as it is.
        fraction: Part of what all neurons cost that leaves, from 0 up to, not including, 1; each layer keeps at least
            one neuron.

    Raises:
        UnsupportedError: A block cannot have the widths that remain; the message names it.
    """
    kept = _kept(network, _groups(network), fraction)
    architecture = _narrowed_architecture(network, kept)
    state: dict[str, Tensor] = {}
    _cut(network.layers, network, "", torch.arange(network.shape[-1]), kept, state)
    smaller = Network(architecture)
    smaller.load_state_dict(state)
    return smaller.eval()


def _kept(network: Network, groups: Sequence[list[str]], fraction: float) -> dict[str, Tensor]:
    """Return the outputs of each layer that stay, once those of the least importance per cost have left."""
    importances, costs = [], []
    for group in groups:
        importance = torch.stack([_importance(network, name) for name in group]).mean(0)
        importances.append(importance / importance.square().mean().sqrt().clamp(min=1e-12))
        costs.append(_multiplications_saved(network, group, len(importance)))
    goes = [torch.zeros(len(importance), dtype=torch.bool) for importance in importances]
    ranked = sorted(
        (float(value) / max(costs[g], 1), g, output)
        for g, importance in enumerate(importances)
        for output, value in enumerate(importance)
    )
    left = fraction * sum(cost * len(importance) for cost, importance in zip(costs, importances, strict=True))
    for _, g, output in ranked:
        if left <= 0:
            break
        if int(goes[g].sum()) + 1 < len(goes[g]):
            goes[g][output] = True
            left -= costs[g]
    return {name: torch.nonzero(~gone)[:, 0] for group, gone in zip(groups, goes, strict=True) for name in group}


def _multiplications_saved(network: Network, group: Sequence[str], outputs: int) -> int:
    """Return by how many the architecture's multiplications fall if one output of each of these layers leaves."""
    if outputs == 1:
        return 0
    narrowed = _narrowed_architecture(network, dict.fromkeys(group, torch.arange(outputs - 1)))
    return network.architecture.macs() - narrowed.macs()


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
    row, after = network.get_submodule(parent), int(position) + 1
    assert isinstance(row, Row)
    for following, shape in with_shapes(row.layers, row.shape)[after : after + 1]:
        if following in (Norm("batch", -1), Norm("batch", len(shape) - 1)):
            norm = row[after]
            norms = norms * (norm.weight / torch.sqrt(norm.running_var + norm.eps)).detach().abs()
    return norms / norms.mean().clamp(min=1e-12)


def _cut(
    layers: Sequence[Layer], row: Row, path: str, stays: Tensor, kept: Outputs, state: dict[str, Tensor]
) -> Tensor:
    """Fill `state` with what remains of every tensor; from and to the entries that stay on the last axis."""
    for i, (layer, shape) in enumerate(with_shapes(layers, row.shape)):
        name, module = f"{path}{i}", row[i]
        match layer:
            case Linear() | Conv2d():
                outputs = kept.get(name, torch.arange(len(module.weight)))
                state[f"{name}.weight"] = module.weight.detach()[outputs][:, stays].clone()
                state[f"{name}.bias"] = module.bias.detach()[outputs].clone()
                stays = outputs
            case DepthwiseConv2d():
                state |= {f"{name}.{key}": value[stays].clone() for key, value in module.state_dict().items()}
            case Norm(axis=axis):
                entries = stays if axis % len(shape) == len(shape) - 1 else slice(None)
                for key, value in module.state_dict().items():
                    state[f"{name}.{key}"] = value[entries].clone() if value.ndim else value.clone()
            case Flatten():
                positions = torch.arange(math.prod(shape[:-1]))[:, None]
                stays = (positions * shape[-1] + stays).flatten()
            case Parallel():
                stays = _cut_branches(layer, module, name, stays, kept, state)
            case _ if _moves_last_axis(layer, shape):
                stays = torch.arange(layer.output_shape(shape)[-1])
    return stays


def _cut_branches(
    layer: Parallel, module: nn.Module, name: str, stays: Tensor, kept: Outputs, state: dict[str, Tensor]
) -> Tensor:
    assert isinstance(module, Branches)
    sides = [
        _cut(branch, row, f"{name}.branches.{k}.", stays, kept, state)
        for k, (branch, row) in enumerate(zip(layer.branches, module.branches, strict=True))
    ]
    if layer.merge == "concat":
        widths = [
            shape_after(branch, row.shape)[-1] for branch, row in zip(layer.branches, module.branches, strict=True)
        ]
        return torch.cat([side + sum(widths[:k]) for k, side in enumerate(sides)])
    if layer.merge == "matmul":
        return sides[1]
    longest = max(sides, key=len)
    if any(len(side) > 1 and not torch.equal(side, longest) for side in sides):
        raise UnsupportedError(
            f"The branches of layer {name} would lose different outputs, so they could no longer be added; "
            'use pruning "magnitude" for this architecture.'
        )
    return longest


def _narrowed_architecture(network: Network, kept: Outputs) -> Architecture:
    """Return the architecture with as many outputs in each layer as `kept` says."""
    architecture = network.architecture
    blocks, position, old_shape, new_shape = [], 0, architecture.input_shape, architecture.input_shape
    for block in architecture.blocks:
        layers = block.layers(old_shape)
        widths = [len(kept[name]) if name in kept else width for name, width in _widths(layers, position)]
        blocks.append(_with_widths(block, old_shape, new_shape, widths))
        position += len(layers)
        old_shape, new_shape = shape_after(layers, old_shape), shape_after(blocks[-1].layers(new_shape), new_shape)
    return Architecture(architecture.input_shape, tuple(blocks))


def _widths(layers: Sequence[Layer], position: int = 0, path: str = "") -> Iterator[tuple[str, int]]:
    """Yield path and number of outputs of each layer with weights; the first layer has this position in its row."""
    for i, layer in enumerate(layers, start=position):
        match layer:
            case Linear(width=width) | Conv2d(channels=width):
                yield f"{path}{i}", width
            case Parallel(branches=branches):
                for k, branch in enumerate(branches):
                    yield from _widths(branch, 0, f"{path}{i}.branches.{k}.")


def _with_widths(block: Block, old_shape: Shape, new_shape: Shape, widths: list[int]) -> Block:
    """Return the block with other numbers in its fields, so that its layers get these widths.

    Which number of which field sets which layer is found by trying: plug-in blocks need not know of pruning.
    """
    old = [width for _, width in _widths(block.layers(old_shape))]
    changed = block
    for field in dataclasses.fields(block):
        value = getattr(block, field.name)
        numbers = list(value) if isinstance(value, tuple) else [value]
        for k, number in enumerate(numbers):
            if isinstance(number, int) and not isinstance(number, bool):
                larger = [*numbers[:k], number + 1, *numbers[k + 1 :]]
                layer = _layer_set_by(_replaced(block, field.name, larger), old_shape, old)
                if layer is not None:
                    current = getattr(changed, field.name)
                    now = list(current) if isinstance(current, tuple) else [current]
                    changed = _replaced(changed, field.name, [*now[:k], widths[layer], *now[k + 1 :]])
    if [width for _, width in _widths(changed.layers(new_shape))] != widths:
        raise UnsupportedError(
            f"The block {block!r} cannot have layers of {widths} outputs, which pruning would leave of {old}; "
            'use pruning "magnitude" for this architecture.'
        )
    return changed


def _replaced(block: Block, field: str, numbers: list[Any]) -> Block:
    is_tuple = isinstance(getattr(block, field), tuple)
    return dataclasses.replace(block, **{field: tuple(numbers) if is_tuple else numbers[0]})


def _layer_set_by(changed: Block, shape: Shape, widths: list[int]) -> int | None:
    """Return the first layer that `changed` makes wider, if all it changes are widths."""
    try:
        new = [width for _, width in _widths(changed.layers(shape))]
    except CodesignError:  # a number that is no width may not be allowed to grow
        return None
    wider = [i for i, (a, b) in enumerate(zip(widths, new, strict=False)) if b == a + 1]
    return wider[0] if wider and len(new) == len(widths) else None
