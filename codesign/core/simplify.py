"""Exact simplification of an integer network: neurons that are constant, unused or twice the same leave it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from codesign.core.fixed_point import Fixed, FixedPoint
from codesign.core.integer_network import IntegerNetwork
from codesign.core.operations import (
    LeakyRelu,
    Linear,
    Max,
    Operation,
    Patches,
    Quantize,
    Relu,
    Reshape,
    Sum,
    Transpose,
    finest,
)

NOTHING = -1  # in place of a neuron's number: a zero of the padding


def simplify(network: IntegerNetwork) -> IntegerNetwork:
    """Return a network of the same function and fewer neurons: equal outputs for every input.

    A neuron is an output of a `Linear` step, at all positions. It leaves if it is the same constant everywhere (what
    follows takes it into its bias), if nothing follows with a weight other than zero, or if another one is always equal
    (their weights in what follows are added). Neurons whose values reach anything but further `Linear` steps stay.
    """
    operations = list(network.operations)
    for producer in range(len(operations)):
        current = IntegerNetwork(tuple(operations))
        if isinstance(operations[producer], Linear) and (paths := _paths(current, producer)):
            operations = _without(current, producer, paths)
    return IntegerNetwork(tuple(operations))


@dataclass(frozen=True)
class _Paths:
    """Where the neurons of one step go.

    Attributes:
        origins: For each step that they pass, which neuron each element comes from; int64 of the result's shape.
        slots: For each `Linear` step that they end in, which neuron each of its inputs comes from; int64 (inputs,).
        sources: Step whose result each of these takes.
    """

    origins: Mapping[int, np.ndarray]
    slots: Mapping[int, np.ndarray]
    sources: Mapping[int, int]


def _paths(network: IntegerNetwork, producer: int) -> _Paths | None:
    """Return the paths of a step's neurons, or None if they reach anything where they cannot be told apart."""
    shape = network.ranges[producer].shape
    origins = {producer: np.broadcast_to(np.arange(shape[-1]), shape)}
    slots, sources = {}, {}
    for i, operation in enumerate(network.operations):
        taken = [j for j in operation.inputs if j in origins]
        if not taken:
            continue
        here = origins[taken[0]]
        match operation:
            case Linear():
                slots[i], sources[i] = here.reshape(-1, here.shape[-1]).max(axis=0), taken[0]
                if not _is_along_last_axis(here):
                    return None
            case Relu() | LeakyRelu() | Quantize():
                origins[i] = here
            case Reshape() | Transpose() | Patches():
                origins[i] = operation.compute(Fixed(here[None] - NOTHING, 0)).mantissa[0] + NOTHING
            case Sum(axis=axis, keep=keep) | Max(axis=axis, keep=keep):
                origins[i] = here.max(axis=axis, keepdims=keep)
                if (here != here.max(axis=axis, keepdims=True)).any():
                    return None
            case _:
                return None
        is_cut = isinstance(operation, Reshape) or (isinstance(operation, Quantize) and len(operation.formats) > 1)
        if is_cut and not _is_along_last_axis(origins[i]):
            return None
    return None if len(network.operations) - 1 in origins else _Paths(origins, slots, sources)


def _is_along_last_axis(origin: np.ndarray) -> bool:
    """Return whether all positions hold the same neurons in the same order, the padding apart."""
    columns = origin.reshape(-1, origin.shape[-1])
    return bool(((columns == columns.max(axis=0)) | (columns == NOTHING)).all())


def _without(network: IntegerNetwork, producer: int, paths: _Paths) -> list[Operation]:
    """Return the steps of a network without the neurons of one step that have no effect of their own."""
    operations = list(network.operations)
    keep = np.ones(network.ranges[producer].shape[-1], dtype=bool)
    seen: dict[object, int] = {}
    for neuron in range(len(keep)):
        constants = _constants(network, paths, neuron)
        identity = _identity(network, producer, paths, neuron)
        twin = seen.get(identity, neuron)
        is_unused = not any(operations[i].weight[s == neuron].any() for i, s in paths.slots.items())  # type: ignore[attr-defined]
        keep[neuron] = not is_unused and constants is None and twin == neuron
        if keep[neuron]:
            seen[identity] = neuron
            continue
        for i, slots in paths.slots.items():
            linear = operations[i]
            assert isinstance(linear, Linear)
            if constants is not None:
                operations[i] = _with_constant(linear, slots == neuron, constants[i], network, paths.sources[i])
            elif twin != neuron:
                weight = linear.weight.copy()
                weight[slots == twin] += weight[slots == neuron]
                operations[i] = replace(linear, weight=weight)
    if keep.all():
        return operations
    if not keep.any():
        keep[0] = True  # a step needs an output; the bias of what follows has taken its effect already
        for i, slots in paths.slots.items():
            linear = operations[i]
            assert isinstance(linear, Linear)
            operations[i] = replace(linear, weight=np.where((slots == 0)[:, None], 0, linear.weight))
    first = operations[producer]
    assert isinstance(first, Linear)
    operations[producer] = replace(first, weight=first.weight[:, keep], bias=first.bias[keep])
    moved: dict[int, int] = {}  # by how many bits the grid of each step's result has become finer
    for i, origin in paths.origins.items():
        stays = np.append(keep, True)[origin]  # the zeros of the padding stay
        before, operations[i] = operations[i], _narrowed(operations[i], stays)
        moved[i] = moved.get(before.inputs[0], 0)
        if isinstance(after := operations[i], Quantize) and isinstance(before, Quantize):
            moved[i] = finest(after.formats) - finest(before.formats)
    for i, slots in paths.slots.items():
        linear = operations[i]
        assert isinstance(linear, Linear)
        linear = replace(linear, weight=linear.weight[np.append(keep, True)[slots]])
        operations[i] = _on_grid(linear, network.ranges[i].fraction_bits, moved[paths.sources[i]])
    return operations


def _constants(network: IntegerNetwork, paths: _Paths, neuron: int) -> dict[int, int] | None:
    """Return the one mantissa with which a neuron arrives at every step it ends in, or None if there is no such one."""
    found = {}
    for i, source in paths.sources.items():
        here, bounds = paths.origins[source], network.ranges[source]
        low, high = bounds.low[here == neuron], bounds.high[here == neuron]
        is_padded = (here.reshape(-1, here.shape[-1])[:, paths.slots[i] == neuron] == NOTHING).any()
        if not len(low) or low.min() != high.max() or (is_padded and low.any()):
            return None
        found[i] = int(low[0])
    return found


def _identity(network: IntegerNetwork, producer: int, paths: _Paths, neuron: int) -> object:
    """Return what decides a neuron's value: two neurons of a step with equal identities are always equal."""
    first = network.operations[producer]
    assert isinstance(first, Linear)
    formats: list[tuple[FixedPoint, ...]] = []
    for i, origin in paths.origins.items():
        operation = network.operations[i]
        if isinstance(operation, Quantize) and len(operation.formats) > 1:
            numbers = np.broadcast_to(np.arange(len(operation.formats)), origin.shape)[origin == neuron]
            formats.append(tuple(operation.formats[k] for k in numbers))
    return first.weight[:, neuron].tobytes(), int(first.bias[neuron]), tuple(formats)


def _with_constant(linear: Linear, slots: np.ndarray, constant: int, network: IntegerNetwork, source: int) -> Linear:
    """Return the step with what constant inputs contribute added to its bias, and their weights gone."""
    product = network.ranges[source].fraction_bits + linear.weight_fraction_bits
    grid = max(product, linear.bias_fraction_bits)
    added = linear.weight[slots].sum(axis=0) * constant << (grid - product)
    bias = (linear.bias << (grid - linear.bias_fraction_bits)) + added
    return replace(linear, weight=np.where(slots[:, None], 0, linear.weight), bias=bias, bias_fraction_bits=grid)


def _on_grid(linear: Linear, fraction_bits: int, moved: int) -> Linear:
    """Return the step with its result on the grid it had, though its input's has become finer by `moved` bits.

    An input becomes coarser if its finest format leaves, and finer if nothing but constant zeros stay.
    """
    if moved > 0:
        return replace(linear, weight_fraction_bits=linear.weight_fraction_bits - moved)
    bits = max(0, fraction_bits - linear.bias_fraction_bits) if moved else 0
    return replace(linear, bias=linear.bias << bits, bias_fraction_bits=linear.bias_fraction_bits + bits)


def _narrowed(operation: Operation, stays: np.ndarray) -> Operation:
    """Return a step that neurons pass, for those that stay; `stays` is of the shape of its result."""
    last = np.asarray(stays.reshape(-1, stays.shape[-1]).all(axis=0))
    if isinstance(operation, Quantize) and len(operation.formats) > 1:
        return replace(
            operation, formats=tuple(f for f, stay in zip(operation.formats, last.tolist(), strict=True) if stay)
        )
    if isinstance(operation, Reshape):
        return replace(operation, shape=(*stays.shape[:-1], int(last.sum())))
    return operation
