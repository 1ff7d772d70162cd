"""How a network becomes a stream: which operations are computed position by position, and what stands between them.

A tensor is a *stream* if some of its axes are positions that come one by one; the axes beside them, one at least, are
the channels of a beat. Otherwise it is *whole*: there is one of it in a sample. A step that treats all positions alike,
each by itself, is *local* and belongs to a kernel; it may take whole tensors beside its streams, as the product of
queries with all keys does. Two steps end a kernel: `Patches`, since the windows of the next one must be made first, and
the first local one that takes what is whole, since it must wait for the sample. What is only needed once in a sample
follows at the end, in the *head*.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from codesign.backends._localize import Axes, Local, localize
from codesign.backends._parts import COLLECTED, FITTED, TURNED, Later, Part, Sample, Schedule, Window
from codesign.core.errors import UnsupportedError
from codesign.core.integer_network import IntegerNetwork
from codesign.core.layers import Shape
from codesign.core.operations import Linear, Max, Operation, Patches, Reshape, Sum, Transpose

ADVICE = 'use dataflow "parallel" for this network'


def schedule(network: IntegerNetwork, splits: bool = True) -> Schedule:
    """Return the network as a stream of the positions of its input: all axes but the last.

    Args:
        network: The network.
        splits: Let what is made whole pass by a kernel whose results meet it.

    Raises:
        UnsupportedError: There is one position only, a convolution cannot be computed position by position, or
            nothing can; the message names the step.
    """
    if math.prod(network.input_shape[:-1]) == 1:
        raise UnsupportedError(
            f"Step 0 (Input) has the shape {network.input_shape}, which leaves no positions to stream; {ADVICE}."
        )
    plan = _Plan(network, splits)
    for i, operation in enumerate(network.operations):
        if i and i in plan.users:
            plan.place(i, operation)
    if not plan.movements and not plan.reduced and not any(plan.operations):
        first = min(i for i in plan.users if i)
        raise UnsupportedError(
            f"Step {first} ({_kind(network, first)}) takes all positions at once, before anything is computed; "
            f"{ADVICE}."
        )
    return plan.finish()


def _kind(network: IntegerNetwork, step: int) -> str:
    return type(network.operations[step]).__name__


class _Plan:
    def __init__(self, network: IntegerNetwork, splits: bool) -> None:
        self.network, self.splits = network, splits
        self.users = _users(network)
        self.levels = {0: 0}  # of streams: the part that computes them
        self.needed = {0: 0}  # of streams: the last part that takes or gives them
        self.positions: dict[int, Axes] = {0: tuple(range(len(network.input_shape) - 1))}
        self.ready: dict[int, int] = {}  # of what is whole: the first part that can have it
        self.reduced: dict[int, int] = {}
        self.merged: set[int] = set()  # steps that are a part of a reduction
        self.operations: list[dict[int, Operation]] = [{}]
        self.movements: list[list[int] | dict[int, int] | set[int]] = []  # patches; wholes made, or made before

    def place(self, i: int, operation: Operation) -> None:
        """Make a step part of the stream if it is local; the head, or a kernel that needs it, computes the others."""
        if i in self.merged:
            return
        if all(j in self.ready for j in operation.inputs):
            self.ready[i] = max(self.ready[j] for j in operation.inputs)
            return
        source = operation.inputs[0]
        if isinstance(operation, Patches) and self.positions[source] == (0, 1):
            self.window(i, operation)
            return
        if isinstance(operation, Sum | Max) and operation.axis in self.positions[source] and self.reduce(i, source):
            return
        found = None
        if not isinstance(operation, Patches):
            found = localize(self.network, i, [self.positions.get(j) for j in operation.inputs])
        if found is None:
            self.ready[i] = max(self.available(j) for j in operation.inputs)
        else:
            self.add(i, found)

    def available(self, i: int) -> int:
        """Return the first part that can take a tensor whole."""
        return self.ready[i] if i in self.ready else self.levels[i] + 1

    def add(self, i: int, local: Local) -> None:
        """Put a local step into the first part that has what it takes."""
        inputs = list(local.operation.inputs)
        streams = [j for place, j in enumerate(inputs) if place not in local.wholes]
        level = max(self.levels[j] for j in streams)
        if local.wholes:
            level = self.behind_sample(level, max(self.available(inputs[place]) for place in local.wholes))
            if self.splits and level in (self.levels[j] for j in streams):
                level = self.later(level)
        for j in streams:
            self.use(j, level)
        for place, shape in local.wholes.items():
            inputs[place] = self.whole(inputs[place], level, shape)
        self.operations[level][i] = replace(local.operation, inputs=tuple(inputs))
        self.put(i, level, local.positions)

    def put(self, i: int, level: int, positions: Axes) -> None:
        self.levels[i], self.needed[i], self.positions[i] = level, level, positions

    def use(self, i: int, level: int) -> None:
        self.needed[i] = max(self.needed[i], level)

    def behind_sample(self, first: int, ready: int) -> int:
        """Return the first part from `first` on that can take what is whole from part `ready` on; add it if need be."""
        for level in range(max(first, ready), len(self.movements) + 1):
            place = level - 1
            while isinstance(self.movements[place], set):
                place -= 1
            if isinstance(self.movements[place], dict) and place + 1 >= ready:
                return level
        return self.append({})

    def later(self, level: int) -> int:
        """Return the part in which what a part computes meets what is whole: the next, if nothing else follows already.

        So the part's kernel need not hand on what is whole from register to register.
        """
        if level == len(self.movements):
            return self.append(set())
        return level + 1 if isinstance(self.movements[level], set) else level

    def append(self, movement: list[int] | dict[int, int] | set[int]) -> int:
        """Add a movement, and return the part behind it."""
        self.movements.append(movement)
        self.operations.append({})
        return len(self.movements)

    def whole(self, i: int, level: int, shape: Shape | None = None) -> int:
        """Return the number of a tensor that a part takes whole, or computes of such ones.

        Args:
            i: The step whose result it is.
            level: The part.
            shape: Another shape of as many entries.
        """
        steps, operations = len(self.network.operations), self.operations[level]
        number = i
        if i in self.levels:
            number = self.gathered(i + COLLECTED * steps, i, level)
            axes = self.positions[i]
            stored = (*axes, *(a for a in range(len(self.network.ranges[i].shape)) if a not in axes))
            if stored != tuple(sorted(stored)):
                turn = Transpose((number,), tuple(stored.index(a) for a in range(len(stored))))
                number = i + TURNED * steps
                operations[number] = turn
        elif i in self.reduced:
            self.gathered(i, self.reduced[i], level)
        elif i not in operations:
            operation = self.network.operations[i]
            operations[i] = replace(operation, inputs=tuple(self.whole(j, level) for j in operation.inputs))
        if shape not in (None, self.network.ranges[i].shape):
            assert shape is not None
            operations[i + FITTED * steps] = Reshape((number,), shape)
            number = i + FITTED * steps
        return number

    def gathered(self, number: int, source: int, level: int) -> int:
        place = level - 1
        while isinstance(movement := self.movements[place], set):
            movement.add(number)
            place -= 1
        assert isinstance(movement, dict)
        movement[number] = source
        self.use(source, place)
        return number

    def window(self, i: int, operation: Patches) -> None:
        source = operation.inputs[0]
        most = tuple((side - 1) // 2 for side in operation.kernel)
        if any(zeros > limit for zeros, limit in zip(operation.padding, most, strict=True)):
            raise UnsupportedError(
                f"Step {i} (Patches) pads a kernel of {operation.kernel} by {operation.padding}; a stream takes up to "
                f"{most}. Use less padding, or {ADVICE}."
            )
        windows = (n for n, movement in enumerate(self.movements, 1) if isinstance(movement, list))
        level = next((n for n in windows if n > self.levels[source]), None) or self.append([])
        beside = self.movements[level - 1]
        assert isinstance(beside, list)
        if any(self.geometry(i) != self.geometry(j) for j in beside):
            raise UnsupportedError(
                f"Step {i} (Patches) has another geometry than what streams beside it; make both equal, or {ADVICE}."
            )
        beside.append(i)
        self.use(source, level - 1)
        self.put(i, level, (0, 1))

    def geometry(self, i: int) -> tuple[object, ...]:
        patches = self.network.operations[i]
        assert isinstance(patches, Patches)
        image = self.network.ranges[patches.inputs[0]].shape[:2]
        return image, patches.kernel, patches.padding, patches.stride

    def reduce(self, first: int, source: int) -> bool:
        """Merge sums, or maxima, in a row, and return whether they reduce every position axis together."""
        kind, row, i = type(self.network.operations[first]), [first], first
        axes = set(self.positions[source])
        while True:
            operation = self.network.operations[i]
            assert isinstance(operation, Sum | Max)
            if operation.axis not in axes:
                return False
            if not operation.keep:
                axes = {a - (a > operation.axis) for a in axes - {operation.axis}}
            if math.prod(self.network.ranges[i].shape[a] for a in axes) == 1:
                break
            if len(self.users[i]) != 1 or not isinstance(self.network.operations[self.users[i][0]], kind):
                return False
            i = self.users[i][0]
            row.append(i)
        self.merged.update(row)
        self.reduced[i], self.ready[i] = source, self.levels[source] + 1
        return True

    def finish(self) -> Schedule:
        output = self.whole(len(self.network.operations) - 1, self.append({}))
        movements = [self.record(movement) for movement in self.movements]
        parts: list[Part] = []
        taken: tuple[int, ...] = (0,)
        selected: dict[int, Operation] = {}
        for level, movement in enumerate(movements):
            carried = [i for i in self.levels if self.levels[i] <= level < self.needed[i]]
            sources, made, anchors = self.moved(movement, carried)
            beside = [i for i in carried if i not in anchors]
            parts.append(self.part(level, selected, taken, (*sources, *beside)))
            taken, selected = (*made, *beside), anchors
        parts.append(Part(self.operations[-1], taken, (output,), 1))
        return Schedule(tuple(parts), tuple(movements), self.positions)

    def record(self, movement: list[int] | dict[int, int] | set[int]) -> Window | Sample | Later:
        if isinstance(movement, list):
            return Window(tuple(movement))
        if isinstance(movement, set):
            return Later(tuple(sorted(movement)))
        return Sample(dict(sorted(movement.items(), key=lambda pair: pair[0] < len(self.network.operations))))

    def moved(
        self, movement: Window | Sample | Later, carried: Sequence[int]
    ) -> tuple[Sequence[int], Sequence[int], dict[int, Operation]]:
        """Return what a movement takes, what it makes, and how carried streams are selected from that."""
        if isinstance(movement, Sample):
            return list(movement.wholes.values()), list(movement.wholes), {}
        if isinstance(movement, Later):
            return (), movement.wholes, {}
        for i in carried:
            self.require_carried(i, movement.patches[0])
        sources = [self.network.operations[i].inputs[0] for i in movement.patches]
        anchors = {i: self.anchor(movement.patches[sources.index(i)]) for i in carried if i in sources}
        return sources, movement.patches, dict(anchors)

    def part(
        self, level: int, selected: Mapping[int, Operation], taken: tuple[int, ...], given: tuple[int, ...]
    ) -> Part:
        stream = next(i for i in taken if i in self.positions)
        beats = math.prod(self.network.ranges[stream].shape[a] for a in self.positions[stream])
        return Part({**selected, **self.operations[level]}, taken, given, beats)

    def require_carried(self, i: int, behind: int) -> None:
        patches = self.network.operations[behind]
        assert isinstance(patches, Patches)
        if max(patches.stride) > 1 or patches.kernel != tuple(2 * zeros + 1 for zeros in patches.padding):
            raise UnsupportedError(
                f"Step {i} ({_kind(self.network, i)}) is used again behind step {behind} (Patches), "
                f"which has other positions; pad that convolution to the same size, or {ADVICE}."
            )

    def anchor(self, i: int) -> Linear:
        """Return the selection of a window's anchor, which is the pixel itself: nothing but wires."""
        patches = self.network.operations[i]
        assert isinstance(patches, Patches)
        channels = self.network.ranges[patches.inputs[0]].shape[2]
        place = channels * (patches.padding[0] * patches.kernel[1] + patches.padding[1])
        select = np.eye(channels * math.prod(patches.kernel), channels, k=-place, dtype=np.int64)
        return Linear((i,), select, np.zeros(channels, dtype=np.int64), 0, self.network.ranges[i].fraction_bits)


def _users(network: IntegerNetwork) -> dict[int, list[int]]:
    """Return, for every step that the output depends on, the steps that take its result."""
    users: dict[int, list[int]] = {len(network.operations) - 1: []}
    for i in reversed(range(len(network.operations))):
        if i in users:
            for j in dict.fromkeys(network.operations[i].inputs):
                users.setdefault(j, []).append(i)
    return users
