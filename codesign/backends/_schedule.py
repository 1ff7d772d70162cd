"""How a network becomes a stream: which operations are computed position by position, and what stands between them.

A tensor is a *stream* if its leading axes are positions that come one by one, in row-major order; the axes behind them,
one at least, are the channels of a beat. An operation that treats all positions alike, each by itself, is *local* and
belongs to a kernel. `Patches` ends a kernel: the windows of the next one must be collected first. What is neither waits
for the whole sample, in the *head*.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from codesign.core.errors import UnsupportedError
from codesign.core.integer_network import IntegerNetwork
from codesign.core.operations import (
    Add,
    Affine,
    LeakyRelu,
    Linear,
    Max,
    Multiply,
    Operation,
    Patches,
    Quantize,
    Relu,
    Reshape,
    Sum,
    Table,
    Transpose,
)

ADVICE = 'use dataflow "parallel" for this network'


@dataclass(frozen=True)
class Part:
    """What one kernel computes, for one position after the other or, in the head, for one sample after the other.

    Attributes:
        operations: By the step of the network whose result they give; they see tensors without position axes.
        taken: Steps whose results come in, in order.
        given: Steps whose results go out, in order; one may go out twice.
        beats: Positions of a sample.
    """

    operations: Mapping[int, Operation]
    taken: tuple[int, ...]
    given: tuple[int, ...]
    beats: int


@dataclass(frozen=True)
class Schedule:
    """A network as parts in a row.

    Attributes:
        parts: Those that work position by position.
        windows: Between each part and the next, the steps that are `Patches`; the rest of what the next part takes
            accompanies the window's anchor.
        ranks: Number of position axes of every step that is a stream.
        reduced: Steps that sum or maximize over all positions, with the stream that they reduce; the rest of what the
            head takes is collected.
        head: What needs the whole sample.
    """

    parts: tuple[Part, ...]
    windows: tuple[tuple[int, ...], ...]
    ranks: Mapping[int, int]
    reduced: Mapping[int, int]
    head: Part


def schedule(network: IntegerNetwork) -> Schedule:
    """Return the network as a stream of the positions of its input: all axes but the last.

    Raises:
        UnsupportedError: There is one position only, a convolution cannot be computed position by position, or
            nothing can; the message names the step.
    """
    if math.prod(network.input_shape[:-1]) == 1:
        raise UnsupportedError(
            f"Step 0 (Input) has the shape {network.input_shape}, which leaves no positions to stream; {ADVICE}."
        )
    plan = _Plan(network)
    for i, operation in enumerate(network.operations):
        if i and i in plan.users:
            plan.place(i, operation)
    if not plan.windows and not plan.local:
        first = min(i for i in plan.users if i)
        raise UnsupportedError(
            f"Step {first} ({_kind(network, first)}) takes all positions at once, before anything is computed; "
            f"{ADVICE}."
        )
    return plan.finish()


def _kind(network: IntegerNetwork, step: int) -> str:
    return type(network.operations[step]).__name__


class _Plan:
    def __init__(self, network: IntegerNetwork) -> None:
        self.network = network
        self.users = _users(network)
        self.levels = {0: 0}  # streams only: how many windows stand before
        self.ranks = {0: len(network.input_shape) - 1}
        self.local: dict[int, Operation] = {}
        self.windows: list[list[int]] = []
        self.reduced: dict[int, int] = {}
        self.merged: set[int] = set()  # steps that are a part of a reduction

    def place(self, i: int, operation: Operation) -> None:
        """Make a step part of the stream, if all that it takes is; the head computes the others."""
        if i in self.merged or any(j not in self.levels for j in operation.inputs):
            return
        source = operation.inputs[0]
        if isinstance(operation, Patches):
            self.window(i, operation)
        elif isinstance(operation, Sum | Max) and operation.axis < self.ranks[source]:
            self.reduce(i, source)
        else:
            found = localize(self.network, i, [self.ranks[j] for j in operation.inputs])
            if found is not None:
                self.local[i], self.ranks[i] = found
                self.levels[i] = max(self.levels[j] for j in operation.inputs)

    def window(self, i: int, operation: Patches) -> None:
        source = operation.inputs[0]
        if 2 * operation.padding >= operation.kernel:
            raise UnsupportedError(
                f"Step {i} (Patches) pads a kernel of {operation.kernel} by {operation.padding}; a stream takes up to "
                f"{(operation.kernel - 1) // 2}. Use less padding, or {ADVICE}."
            )
        level = self.levels[source]
        beside = self.windows[level] if level < len(self.windows) else []
        if self.ranks[source] != 2 or any(self.geometry(i) != self.geometry(j) for j in beside):
            raise UnsupportedError(
                f"Step {i} (Patches) has another geometry than what streams beside it; make both equal, or {ADVICE}."
            )
        if not beside:
            self.windows.append(beside)
        beside.append(i)
        self.levels[i], self.ranks[i] = level + 1, 2

    def geometry(self, i: int) -> tuple[object, ...]:
        patches = self.network.operations[i]
        assert isinstance(patches, Patches)
        image = self.network.ranges[patches.inputs[0]].shape[:2]
        return image, patches.kernel, patches.padding, patches.stride

    def reduce(self, first: int, source: int) -> None:
        """Merge sums, or maxima, in a row if together they reduce every position axis."""
        kind, row, i = type(self.network.operations[first]), [first], first
        left = self.ranks[source]
        while True:
            operation = self.network.operations[i]
            assert isinstance(operation, Sum | Max)
            if operation.axis >= left:
                return
            left -= not operation.keep
            if math.prod(self.network.ranges[i].shape[:left]) == 1:
                break
            if len(self.users[i]) != 1 or not isinstance(self.network.operations[self.users[i][0]], kind):
                return
            i = self.users[i][0]
            row.append(i)
        self.merged.update(row)
        self.reduced[i] = source

    def finish(self) -> Schedule:
        last, steps = len(self.windows), len(self.network.operations)
        needed = {i: self.needed_until(i) for i in self.levels if i in self.users}
        for i, level in needed.items():
            self.require_carried(i, level)
        collected = [i for i in self.levels if i in self.users and self.is_collected(i)]
        parts: list[Part] = []
        taken, selected = [0], {}
        for level in range(last + 1):
            operations = selected | {i: op for i, op in self.local.items() if self.levels[i] == level}
            beats = math.prod(self.network.ranges[taken[0]].shape[: self.ranks[taken[0]]])
            if level == last:
                parts.append(Part(operations, tuple(taken), (*collected, *self.reduced.values()), beats))
                break
            patches = self.windows[level]
            sources = [self.network.operations[i].inputs[0] for i in patches]
            carried = [i for i in needed if self.levels[i] <= level < needed[i]]
            beside = [i for i in carried if i not in sources]
            parts.append(Part(operations, tuple(taken), (*sources, *beside), beats))
            selected = {i: self.anchor(patches[sources.index(i)]) for i in carried if i in sources}
            taken = [*patches, *beside]
        waiting = {
            i: op
            for i, op in enumerate(self.network.operations)
            if i in self.users and i not in self.levels and i not in self.merged
        }
        head = Part(waiting, (*collected, *self.reduced), (steps - 1,), 1)
        return Schedule(tuple(parts), tuple(map(tuple, self.windows)), self.ranks, self.reduced, head)

    def is_collected(self, i: int) -> bool:
        uses = [user for user in self.users[i] if user not in self.levels and user not in self.merged]
        return bool(uses) or i == len(self.network.operations) - 1

    def needed_until(self, i: int) -> int:
        """Return the last level whose kernel takes or gives the result of a step."""
        uses = [self.levels.get(user, len(self.windows)) for user in self.users[i]]
        uses = [
            level - isinstance(self.network.operations[user], Patches)
            for user, level in zip(self.users[i], uses, strict=True)
        ]
        return max(uses) if uses else len(self.windows)

    def require_carried(self, i: int, until: int) -> None:
        for level in range(self.levels[i], until):
            patches = self.network.operations[self.windows[level][0]]
            assert isinstance(patches, Patches)
            if patches.stride > 1 or patches.kernel != 2 * patches.padding + 1:
                behind = self.windows[level][0]
                raise UnsupportedError(
                    f"Step {i} ({_kind(self.network, i)}) is used again behind step {behind} (Patches), "
                    f"which has other positions; pad that convolution to the same size, or {ADVICE}."
                )

    def anchor(self, i: int) -> Linear:
        """Return the selection of a window's anchor, which is the pixel itself: nothing but wires."""
        patches = self.network.operations[i]
        assert isinstance(patches, Patches)
        channels = self.network.ranges[patches.inputs[0]].shape[2]
        place = channels * (patches.padding * patches.kernel + patches.padding)
        select = np.eye(channels * patches.kernel**2, channels, k=-place, dtype=np.int64)
        return Linear((i,), select, np.zeros(channels, dtype=np.int64), 0, self.network.ranges[i].fraction_bits)


def _users(network: IntegerNetwork) -> dict[int, list[int]]:
    """Return, for every step that the output depends on, the steps that take its result."""
    users: dict[int, list[int]] = {len(network.operations) - 1: []}
    for i in reversed(range(len(network.operations))):
        if i in users:
            for j in dict.fromkeys(network.operations[i].inputs):
                users.setdefault(j, []).append(i)
    return users


def localize(network: IntegerNetwork, i: int, ranks: list[int]) -> tuple[Operation, int] | None:
    """Return a step as it acts on one position, and the number of position axes of its result, if it is local.

    Args:
        network: The network.
        i: The step.
        ranks: Number of position axes of each input.
    """
    operation, rank = network.operations[i], ranks[0]
    shapes = [network.ranges[j].shape for j in operation.inputs]
    shape, result = shapes[0], network.ranges[i].shape
    found: Operation | None = None
    match operation:
        case Quantize() | Linear() | Relu() | LeakyRelu() | Table():
            found = operation
        case Affine():
            scale, offset = (_without_positions(a, len(shape), rank) for a in (operation.scale, operation.offset))
            if scale is not None and offset is not None:
                found = replace(operation, scale=scale, offset=offset)
        case Sum() | Max() if operation.axis >= rank and len(result) > rank:
            found = replace(operation, axis=operation.axis - rank)
        case Add() | Multiply() if ranks[1] == rank and shapes[0][:rank] == shapes[1][:rank]:
            found = operation
        case Transpose(axes=axes) if axes[:rank] == tuple(range(rank)):
            found = replace(operation, axes=tuple(a - rank for a in axes[rank:]))
        case Reshape():
            positions = math.prod(shape[:rank])
            fitting = [n for n in range(len(result)) if math.prod(result[:n]) == positions]
            if fitting:
                rank = 2 if 2 in fitting and len(result) == 3 else fitting[0]
                found = replace(operation, shape=result[rank:])
    return None if found is None else (found, rank)


def _without_positions(values: np.ndarray, axes: int, rank: int) -> np.ndarray | None:
    """Return constants that broadcast over `axes` axes, less the first `rank` of these; None if they vary over them."""
    missing = axes - values.ndim
    positions = max(0, rank - missing)
    return values.reshape(values.shape[positions:]) if math.prod(values.shape[:positions]) == 1 else None
