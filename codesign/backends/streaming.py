"""The RTL view as a stream: one adder graph serves all positions, and the initiation interval is their number.

An image comes in pixel by pixel, row by row. Between two kernels a line buffer makes the windows of a convolution; the
head, which takes the whole sample, gets it from registers that collect, or from sums and maxima that accumulate. So
does a kernel that takes it beside each position, as attention takes keys and values: there the positions wait for it.
Unrolled instead, as `codesign.backends.da4ml` does, every position would have an adder graph of its own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from codesign.backends import da4ml
from codesign.backends._parts import Later, Window
from codesign.backends._streamed import Streamed, shape_of, streamed
from codesign.backends.rtl.segments import Segment
from codesign.backends.rtl.shell import Core, shell_cost, wrap
from codesign.core.build import BuildPlan, Resources, Timing
from codesign.core.fixed_point import Fixed
from codesign.core.integer_network import IntegerNetwork
from codesign.core.operations import Max


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
    return resources, Timing(int(_times(core.segments, core.beats)[-1]), core.beats, clock_ns)


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
    for i, kernel in enumerate(streamed(network, cutoff).kernels):
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
    found = streamed(network, cutoff)
    kernels = zip(found.schedule.parts, found.kernels, strict=True)
    return sum(part.beats * kernel.lut for part, kernel in kernels if kernel)


def interpret(network: IntegerNetwork, mantissas: np.ndarray, cutoff: int = 5) -> np.ndarray:
    """Return the output mantissas (batch, *output_shape), int64, with every kernel in da4ml's interpreter."""
    found = streamed(network, cutoff)
    batch, parts = len(mantissas), found.schedule.parts
    # of streams (batch, beats, channels), of what is whole (batch, 1, entries)
    values = {0: np.asarray(mantissas, dtype=np.int64).reshape(batch, parts[0].beats, -1)}
    for level, (part, kernel) in enumerate(zip(parts, found.kernels, strict=True)):
        if level:
            values |= _moved(network, found, level - 1, values)
        if kernel:
            taken = [np.broadcast_to(values[i], (batch, part.beats, values[i].shape[2])) for i in part.entering]
            results = kernel.interpret(np.concatenate(taken, axis=2).reshape(batch * part.beats, -1))
            sizes = [math.prod(shape_of(network, i)) // part.beats for i in part.given]
            columns = np.split(results.reshape(batch, part.beats, -1), np.cumsum(sizes)[:-1], axis=2)
            values |= dict(zip(part.given, columns, strict=True))
    return values[parts[-1].given[0]].reshape(batch, *network.output_shape)


def _moved(
    network: IntegerNetwork, found: Streamed, level: int, values: dict[int, np.ndarray]
) -> dict[int, np.ndarray]:
    """Return what stands behind a part, as it makes it of the values of streams."""
    movement = found.schedule.movements[level]
    moved = {}
    if isinstance(movement, Window):
        for i in movement.patches:
            source = network.operations[i].inputs[0]
            image = values[source].reshape(-1, *network.ranges[source].shape)
            windows = network.operations[i].compute(Fixed(image, 0)).mantissa
            moved[i] = windows.reshape(len(windows), -1, windows.shape[-1])
        return moved
    if isinstance(movement, Later):
        return {}
    for i, source in movement.wholes.items():
        beats = values[source]
        if i >= len(network.operations):
            moved[i] = beats.reshape(len(beats), 1, -1)
        else:
            moved[i] = (beats.max if isinstance(network.operations[i], Max) else beats.sum)(axis=1, keepdims=True)
    return moved


def _core(network: IntegerNetwork, stem: str, cutoff: int) -> Core:
    found = streamed(network, cutoff)
    segments: list[Segment] = []
    for i, kernel in enumerate(found.kernels):
        segments += [found.pipe(i, f"{stem}_kernel{i}")] if kernel else []
        segments += [movement for movement in found.movements[i : i + 1] if movement]
    # One place for each sample that can begin before the first of them is done, and one to spare
    places = 2 + int(_times(segments, beats(network))[-1]) // beats(network)
    return Core(segments, found.taken[0][0], found.outputs, beats(network), places)


def _times(segments: Sequence[Segment], beats: int) -> np.ndarray:
    """Return the cycles in which results go out, counted from the first beat of a lone sample."""
    cycles = np.arange(beats)
    for segment in segments:
        cycles = segment.times(cycles)
    return cycles
