"""The RTL view as a stream: one adder graph serves all positions, and the initiation interval is their number.

An image comes in pixel by pixel, row by row. Between two kernels a line buffer makes the windows of a convolution; the
head, which takes the whole sample, gets it from registers that collect, or from sums and maxima that accumulate.
Unrolled instead, as `codesign.backends.da4ml` does, every position would have an adder graph of its own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from codesign.backends import da4ml
from codesign.backends._da4ml_trace import Bounds, graph, input_bounds, require_few, require_narrow
from codesign.backends._schedule import Part, Schedule, schedule
from codesign.backends.da4ml import Kernel
from codesign.backends.rtl.segments import Field, Gather, Pipe, Reduction, Segment, Windows, bits_of
from codesign.backends.rtl.shell import Core, shell_cost, wrap
from codesign.core.build import BuildPlan, Resources, Timing
from codesign.core.fixed_point import Fixed
from codesign.core.integer_network import IntegerNetwork
from codesign.core.operations import Max, Patches


@dataclass(frozen=True, eq=False)
class Streamed:
    """A network as kernels in a row, one for each part and the head; None for a part that computes nothing.

    Attributes:
        movements: What stands between a kernel and the next.
        given: How the beats that reach each kernel are packed; those of the input first.
        outputs: How the result is packed.
    """

    schedule: Schedule
    kernels: tuple[Kernel | None, ...]
    movements: tuple[Windows | Gather, ...]
    given: tuple[tuple[Field, ...], ...]
    outputs: tuple[Field, ...]

    @property
    def parts(self) -> tuple[Part, ...]:
        """Parts and head."""
        return (*self.schedule.parts, self.schedule.head)


def estimate(network: IntegerNetwork, cutoff: int = 5, clock_ns: float = 5.0) -> tuple[Resources, Timing]:
    """Return resources and timing without any synthesis.

    Beside the adder graphs, each once, LUTs hold the lines of the windows and the FIFO behind the core, and mask what
    lies beyond the edge; FFs hold the pixels of the windows and what is collected. The latency counts from the first
    pixel taken to the result, where nothing stalls and no other sample follows.

    Args:
        network: The network; its leading axes are positions.
        cutoff: Adder delays between two registers.
        clock_ns: Clock period, for the latency in nanoseconds.

    Raises:
        UnsupportedError: The network cannot be streamed, or a step or weight is too wide.
    """
    core = _core(network, "network", cutoff)
    shell_lut, shell_ff = shell_cost(network, core)
    lut, ff = (sum(getattr(segment, name) for segment in core.segments) for name in ("lut", "ff"))
    resources = Resources("estimate", da4ml.TOOL, lut + shell_lut, ff + shell_ff, 0.0, 0.0)
    cycles = np.arange(core.beats)
    for segment in core.segments:
        cycles = segment.times(cycles)
    return resources, Timing(int(cycles[-1]), core.beats, clock_ns)


def plan(network: IntegerNetwork, name: str, cutoff: int) -> BuildPlan:
    """Return the Verilog of the network behind its AXI-Stream shell; the plan is named as the top module, <name>_axis.

    A beat on s_axis is one position with all its channels, in the order of the tensor; a result is one beat, as wide as
    the parallel one. Both are laid out as `codesign.core.bus` says. A producer that has begun a sample must end it
    without waiting for the result of the one before: with padding, later pixels push out earlier windows.

    Args:
        network: The network; its leading axes are positions.
        name: Any name; what Verilog does not allow becomes an underscore.
        cutoff: Adder delays between two registers.

    Raises:
        UnsupportedError: The network cannot be streamed, a step or weight is too wide, or no output depends on the
            input.
    """
    stem = da4ml.identifier(name)
    core = _core(network, stem, cutoff)
    files: dict[str, str] = {}
    for i, kernel in enumerate(_streamed(network, cutoff).kernels):
        files |= kernel.verilog(f"{stem}_kernel{i}") if kernel else {}
    return BuildPlan(f"{stem}_axis", files | wrap(network, f"{stem}_axis", core))


def beats(network: IntegerNetwork) -> int:
    """Return the beats of a sample: its positions."""
    return math.prod(network.input_shape[:-1])


def unrolled_lut(network: IntegerNetwork, cutoff: int = 5) -> float:
    """Return about how many LUTs the network would need with every kernel repeated at each of its positions.

    Raises:
        UnsupportedError: The network cannot be streamed.
    """
    streamed = _streamed(network, cutoff)
    return sum(part.beats * kernel.lut for part, kernel in zip(streamed.parts, streamed.kernels, strict=True) if kernel)


def interpret(network: IntegerNetwork, mantissas: np.ndarray, cutoff: int = 5) -> np.ndarray:
    """Return the output mantissas (batch, *output_shape), int64, with every kernel in da4ml's interpreter."""
    streamed = _streamed(network, cutoff)
    values: dict[int, np.ndarray] = {0: np.asarray(mantissas, dtype=np.int64)}

    def shaped(i: int, numbers: np.ndarray) -> np.ndarray:
        return numbers.reshape(len(mantissas), *network.ranges[i].shape)

    for part, kernel in zip(streamed.parts, streamed.kernels, strict=True):
        for i in part.taken:
            operation = network.operations[i]
            if i in streamed.schedule.reduced:
                source = values[streamed.schedule.reduced[i]].reshape(len(mantissas), streamed.parts[-2].beats, -1)
                values[i] = shaped(i, source.max(axis=1) if isinstance(operation, Max) else source.sum(axis=1))
            elif isinstance(operation, Patches) and i not in values:
                values[i] = operation.compute(Fixed(values[operation.inputs[0]], 0)).mantissa
        if kernel:
            rows = [values[i].reshape(len(mantissas) * part.beats, -1) for i in part.taken]
            results = kernel.interpret(np.concatenate(rows, axis=1))
            sizes = [math.prod(network.ranges[i].shape) // part.beats for i in part.given]
            for i, columns in zip(part.given, np.split(results, np.cumsum(sizes)[:-1], axis=1), strict=True):
                values[i] = shaped(i, columns)
    return values[len(network.operations) - 1]


@lru_cache(maxsize=8)
def _streamed(network: IntegerNetwork, cutoff: int) -> Streamed:
    require_narrow(network)
    found = schedule(network)
    require_few(network, found.head.operations)
    grids = [r.fraction_bits for r in network.ranges]
    inputs = Bounds(*(part[(0,) * found.ranks[0]] for part in input_bounds(network)))
    kernels: list[Kernel | None] = []
    movements: list[Windows | Gather] = []
    bounds, fields = {0: inputs}, []
    for level, part in enumerate((*found.parts, found.head)):
        taken = {i: bounds[i] for i in part.taken}
        fields.append(tuple(field for i in part.taken for field in da4ml.fields_of(bounds[i])))
        if part.operations or part.given != part.taken:
            kernel = Kernel.of(graph(part.operations, taken, grids, part.given), cutoff)
            bounds |= _given(network, found, part, kernel)
        else:
            kernel = None
        kernels.append(kernel)
        if level + 1 < len(found.parts):
            movement, moved = _windows(network, found, level, bounds)
        elif part is not found.head:
            movement, moved = _gather(network, found, bounds)
        else:
            break
        movements.append(movement)
        bounds |= moved
    outputs = da4ml.fields_of(bounds[len(network.operations) - 1])
    return Streamed(found, tuple(kernels), tuple(movements), tuple(fields), outputs)


def _given(network: IntegerNetwork, found: Schedule, part: Part, kernel: Kernel) -> dict[int, Bounds]:
    """Return the bounds of what a kernel gives, in the shape of one position."""
    given, start = {}, 0
    for i in part.given:
        rank = 0 if part is found.head else found.ranks[i]
        shape = network.ranges[i].shape[rank:]
        end = start + math.prod(shape)
        given[i] = Bounds(*(ends[start:end].reshape(shape) for ends in kernel.bounds))
        start = end
    return given


def _windows(
    network: IntegerNetwork, found: Schedule, level: int, bounds: dict[int, Bounds]
) -> tuple[Windows, dict[int, Bounds]]:
    """Return what makes the windows of the next part, and the bounds of these."""
    moved, widths = {}, []
    for i in found.windows[level]:
        patches = network.operations[i]
        assert isinstance(patches, Patches)
        source = bounds[patches.inputs[0]]
        low, high, step = (np.tile(ends, patches.kernel**2) for ends in source)
        if patches.padding:
            low, high = np.minimum(low, 0), np.maximum(high, 0)
        moved[i] = Bounds(low, high, step)
        widths.append(bits_of(da4ml.fields_of(source)))
    carried = [i for i in found.parts[level + 1].taken if i not in moved]
    image = network.ranges[patches.inputs[0]].shape[:2]
    carried_bits = sum(bits_of(da4ml.fields_of(bounds[i])) for i in carried)
    geometry = (patches.kernel, patches.padding, patches.stride)
    return Windows((image[0], image[1]), *geometry, tuple(widths), carried_bits), moved


def _gather(network: IntegerNetwork, found: Schedule, bounds: dict[int, Bounds]) -> tuple[Gather, dict[int, Bounds]]:
    """Return what gathers a sample for the head, and the bounds of what the head takes."""
    moved, collected, reduced = {}, [], []
    last = found.parts[-1]
    for i in found.head.taken:
        shape = network.ranges[i].shape
        if i not in found.reduced:
            moved[i] = Bounds(*(np.broadcast_to(ends, shape) for ends in bounds[i]))
            collected.append(bits_of(da4ml.fields_of(bounds[i])))
            continue
        source, is_max = bounds[found.reduced[i]], isinstance(network.operations[i], Max)
        times = 1 if is_max else last.beats
        moved[i] = Bounds(*(ends.reshape(shape) for ends in (source.low * times, source.high * times, source.step)))
        fields = zip(da4ml.fields_of(source), da4ml.fields_of(moved[i]), strict=True)
        reduced += [Reduction(before, after.bits, is_max) for before, after in fields]
    return Gather(last.beats, tuple(collected), tuple(reduced)), moved


def _core(network: IntegerNetwork, stem: str, cutoff: int) -> Core:
    streamed = _streamed(network, cutoff)
    segments: list[Segment] = []
    for i, kernel in enumerate(streamed.kernels):
        segments += [kernel.pipe(f"{stem}_kernel{i}", streamed.given[i])] if kernel else []
        segments += streamed.movements[i : i + 1]
    # A sample's last windows may wait for pixels of the next, in each padded convolution once
    waiting = sum(
        1 + m.lag // (m.image[0] * m.image[1]) for m in streamed.movements if isinstance(m, Windows) and m.padding
    )
    latency = sum(segment.latency for segment in segments if isinstance(segment, Pipe))
    places = 2 + waiting + latency // beats(network)
    return Core(segments, streamed.given[0], streamed.outputs, beats(network), places)
