"""A scheduled network as kernels, and what stands between them, each with the bounds of what it gives."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from codesign.backends._da4ml_trace import Bounds, graph, input_bounds, require_few, require_narrow
from codesign.backends._parts import KINDS, Later, Part, Sample, Schedule, Window
from codesign.backends._schedule import schedule
from codesign.backends.da4ml import Kernel, depends_on_input, fields_of
from codesign.backends.rtl.samples import Gather, Recall, Reduction
from codesign.backends.rtl.segments import Field, Pipe, Windows, bits_of, pieces_of
from codesign.core.integer_network import IntegerNetwork
from codesign.core.operations import Max, Patches

Movement = Windows | Gather | Recall


@dataclass(frozen=True, eq=False)
class Streamed:
    """A network as kernels in a row, one for each part; None for a part that computes nothing.

    Attributes:
        movements: What stands between a kernel and the next; None if nothing does.
        taken: How each tensor that reaches a part is packed, by number, in order; those of the input first.
        outputs: How the result is packed.
    """

    schedule: Schedule
    kernels: tuple[Kernel | None, ...]
    movements: tuple[Movement | None, ...]
    taken: tuple[Mapping[int, tuple[Field, ...]], ...]
    outputs: tuple[Field, ...]

    def pipe(self, level: int, name: str) -> Pipe:
        """Return a part's kernel as a segment of a core, where it is the module `name`."""
        part, kernel = self.schedule.parts[level], self.kernels[level]
        assert kernel is not None
        movement = _behind(self.schedule, level)
        late = movement.wholes if isinstance(movement, Later) else ()
        inputs = iter(kernel.inputs)
        given, entering, passing = [], [], []
        for i, fields in self.taken[level].items():
            for field in fields:
                nothing = Field(0, field.low, is_signed=False)
                given.append(field)
                entering.append(next(inputs) if i in part.entering else nothing)
                passing.append(field if i in late else nothing)
        return kernel.pipe(name, pieces_of(given, entering), pieces_of(given, passing), part.beats)


@lru_cache(maxsize=8)
def streamed(network: IntegerNetwork, cutoff: int) -> Streamed:
    """Return a network as kernels with at most `cutoff` adder delays between two registers.

    Raises:
        UnsupportedError: The network cannot be streamed, a step or weight is too wide, or a kernel's results do not
            depend on what it takes.
    """
    require_narrow(network)
    return _built(network, schedule(network), cutoff)


def _built(network: IntegerNetwork, found: Schedule, cutoff: int) -> Streamed:
    require_few(network, _shared(network, found))
    grids = [r.fraction_bits for r in network.ranges] * KINDS
    bounds = {0: Bounds(*(part[(0,) * len(found.positions[0])] for part in input_bounds(network)))}
    kernels: list[Kernel | None] = []
    movements: list[Movement | None] = []
    fields = []
    for level, part in enumerate(found.parts):
        fields.append({i: fields_of(bounds[i]) for i in part.taken})
        kernel = None
        if part.operations or part.given != part.taken:
            taken = {i: bounds[i] for i in part.entering}
            comb = graph(part.operations, taken, grids, part.given)
            if not depends_on_input(comb) and isinstance(_behind(found, level), Later):
                return _built(network, schedule(network, splits=False), cutoff)  # what passes by may vary all the same
            kernel = Kernel.of(comb, cutoff)
            bounds |= _given(network, found, part, kernel)
        kernels.append(kernel)
        if level < len(found.movements):
            movement, moved = _moved(network, found, level, bounds)
            movements.append(movement)
            bounds |= moved
    outputs = fields_of(bounds[found.parts[-1].given[0]])
    return Streamed(found, tuple(kernels), tuple(movements), tuple(fields), outputs)


def _behind(found: Schedule, level: int) -> Window | Sample | Later | None:
    """Return what stands behind a part, None for the head."""
    return found.movements[level] if level < len(found.movements) else None


def _shared(network: IntegerNetwork, found: Schedule) -> dict[int, int]:
    """Return how many positions share the hardware of each step that a part computes."""
    steps = ((i, part.beats) for part in found.parts for i in part.operations if i < len(network.operations))
    return {i: beats if i in found.positions else 1 for i, beats in steps}


def _given(network: IntegerNetwork, found: Schedule, part: Part, kernel: Kernel) -> dict[int, Bounds]:
    """Return the bounds of what a kernel gives, in the shape of one position."""
    given, start = {}, 0
    for i in part.given:
        positions = found.positions.get(i, ())
        shape = tuple(size for a, size in enumerate(shape_of(network, i)) if a not in positions)
        end = start + math.prod(shape)
        given[i] = Bounds(*(ends[start:end].reshape(shape) for ends in kernel.bounds))
        start = end
    return given


def shape_of(network: IntegerNetwork, number: int) -> tuple[int, ...]:
    """Return the shape of a step's result, from the number of what is made of it in the same shape."""
    return network.ranges[number % len(network.operations)].shape


def _moved(
    network: IntegerNetwork, found: Schedule, level: int, bounds: Mapping[int, Bounds]
) -> tuple[Movement | None, dict[int, Bounds]]:
    """Return what stands behind a part, and the bounds of what it makes."""
    movement, taken = found.movements[level], found.parts[level + 1].taken
    if isinstance(movement, Later):
        return None, {}
    made = movement.patches if isinstance(movement, Window) else movement.wholes
    carried_bits = sum(bits_of(fields_of(bounds[i])) for i in taken if i not in made)
    if isinstance(movement, Window):
        return _windows(network, movement, carried_bits, bounds)
    gather, moved = _gather(network, found, movement, found.parts[level].beats, bounds)
    is_last = level == len(found.movements) - 1
    return gather if is_last else Recall(gather, carried_bits), moved


def _windows(
    network: IntegerNetwork, window: Window, carried_bits: int, bounds: Mapping[int, Bounds]
) -> tuple[Windows, dict[int, Bounds]]:
    moved, widths = {}, []
    for i in window.patches:
        patches = network.operations[i]
        assert isinstance(patches, Patches)
        source = bounds[patches.inputs[0]]
        low, high, step = (np.tile(ends, math.prod(patches.kernel)) for ends in source)
        if any(patches.padding):
            low, high = np.minimum(low, 0), np.maximum(high, 0)
        moved[i] = Bounds(low, high, step)
        widths.append(bits_of(fields_of(source)))
    rows, columns, _ = network.ranges[patches.inputs[0]].shape
    geometry = (patches.kernel, patches.padding, patches.stride)
    return Windows((rows, columns), *geometry, tuple(widths), carried_bits), moved


def _gather(
    network: IntegerNetwork, found: Schedule, sample: Sample, beats: int, bounds: Mapping[int, Bounds]
) -> tuple[Gather, dict[int, Bounds]]:
    moved, collected, reduced = {}, [], []
    for i, stream in sample.wholes.items():
        source = bounds[stream]
        if i >= len(network.operations):
            shape = shape_of(network, stream)
            positions = tuple(shape[a] for a in found.positions[stream])
            moved[i] = Bounds(*(np.broadcast_to(ends, (*positions, *ends.shape)) for ends in source))
            collected.append(bits_of(fields_of(source)))
            continue
        is_max = isinstance(network.operations[i], Max)
        times = 1 if is_max else beats
        ends = (source.low * times, source.high * times, source.step)
        moved[i] = Bounds(*(part.reshape(network.ranges[i].shape) for part in ends))
        fields = zip(fields_of(source), fields_of(moved[i]), strict=True)
        reduced += [Reduction(before, after.bits, is_max) for before, after in fields]
    return Gather(beats, tuple(collected), tuple(reduced)), moved
