"""The segments of a core, one behind the other: kernels, and windows between them; see `codesign.backends.rtl.samples`.

A segment takes beats, of which some are valid, and gives beats, of which some are valid; none can be stopped. Each
states its Verilog, and what its registers, memories and gates cost beside the adder graphs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from codesign.core.geometry import Pair

VERILOG = Path(__file__).parent


class Field(NamedTuple):
    """One element as it is packed: `bits` of the mantissa from bit `low` on; 0 bits for what is always 0."""

    bits: int
    low: int
    is_signed: bool


Pieces = tuple[tuple[int, int], ...]  # lowest bit and number of bits of each piece of a beat


class Segment(Protocol):
    """A part of a core."""

    out_bits: int
    modules: tuple[str, ...]
    lut: float
    ff: float

    def times(self, cycles: np.ndarray) -> np.ndarray:
        """Return the cycles in which a sample's beats go out, if they come in in `cycles` and nothing follows."""

    def verilog(self, i: int) -> str:
        """Return the text that drives data<i+1>, valid<i+1> from data<i>, valid<i> in a module with clock and reset."""


def bits_of(fields: Iterable[Field]) -> int:
    """Return the bits of fields side by side."""
    return sum(field.bits for field in fields)


def pieces_of(given: Sequence[Field], taken: Sequence[Field]) -> Pieces:
    """Return lowest bit and number of bits of the runs of given fields that are taken, each whole or not at all."""
    pieces: list[tuple[int, int]] = []
    low = 0
    for field, use in zip(given, taken, strict=True):
        assert use in (field, Field(0, use.low, False)), f"a kernel takes {use} where {field} is given"
        if use.bits and pieces and sum(pieces[-1]) == low:
            pieces[-1] = (pieces[-1][0], pieces[-1][1] + use.bits)
        elif use.bits:
            pieces.append((low, use.bits))
        low += field.bits
    return tuple(pieces)


def static(modules: Iterable[str]) -> dict[str, str]:
    """Return the Verilog files of modules that do not depend on the network."""
    return {f"{name}.v": (VERILOG / f"{name}.v").read_text() for name in sorted(set(modules))}


def memory_lut(bits: int, depth: int) -> float:
    """Return the LUTs of a memory with one port to write and one to read: 8 for 32 words of 14 bits.

    Source: AMD UG574 (UltraScale Architecture CLB), table of distributed RAM, RAM32M16.
    """
    return 8.0 * math.ceil(bits / 14) * math.ceil(depth / 32)


@dataclass(frozen=True)
class Pipe:
    """A pipelined kernel, the module `name`: `latency` clock edges from its input to its output.

    Attributes:
        taken: What the kernel takes of a beat; it leaves out what has no effect.
        late: What passes by the kernel, to below its results; the same in all beats of a sample (`later.v`).
        beats: Beats of a sample.
    """

    name: str
    taken: Pieces
    kernel_bits: int
    latency: int
    kernel_lut: float
    kernel_ff: float
    late: Pieces = ()
    beats: int = 1

    @property
    def late_bits(self) -> int:
        """Bits that pass by."""
        return sum(bits for _, bits in self.late)

    @property
    def out_bits(self) -> int:
        return self.kernel_bits + self.late_bits

    @property
    def modules(self) -> tuple[str, ...]:
        return ("valid_delay", "beat_counter", "later") if self.late else ("valid_delay",)

    @property
    def lut(self) -> float:
        return self.kernel_lut + (self.beats.bit_length() if self.late else 0)

    @property
    def ff(self) -> float:
        counters = self.latency + self.beats.bit_length() if self.late else 0
        return self.kernel_ff + self.latency + math.ceil(self.latency / self.beats) * self.late_bits + counters

    def times(self, cycles: np.ndarray) -> np.ndarray:
        return cycles + self.latency

    def verilog(self, i: int) -> str:
        taken, late = (
            ", ".join(f"data{i}[{low} +: {bits}]" for low, bits in reversed(pieces))
            for pieces in (self.taken, self.late)
        )
        kernel = f"""
    {self.name} kernel{i} (
        .clk(aclk), .model_inp({{{taken}}}), .model_out(data{i + 1}[{self.late_bits} +: {self.kernel_bits}])
    );
    valid_delay #(.LATENCY({self.latency})) delay{i} (
        .clk(aclk), .resetn(aresetn), .valid_in(valid{i}), .valid_out(valid{i + 1})
    );"""
        if not self.late:
            return kernel
        return f"""{kernel}
    later #(.WIDTH({self.late_bits}), .LATENCY({self.latency}), .BEATS({self.beats})) later{i} (
        .clk(aclk), .resetn(aresetn), .valid(valid{i}),
        .data_in({{{late}}}), .data_out(data{i + 1}[0 +: {self.late_bits}])
    );"""


@dataclass(frozen=True)
class Windows:
    """Windows over one or more tensors, and tensors that accompany the anchor; `codesign/backends/rtl/window.v`.

    Attributes:
        image: Rows and columns; `kernel`, `padding` and `stride` likewise.
        widths: Bits of a pixel of each tensor that windows are taken of, from the least significant bits on.
        carried_bits: Bits of what accompanies, above them.
    """

    image: Pair
    kernel: Pair
    padding: Pair
    stride: Pair
    widths: tuple[int, ...]
    carried_bits: int
    modules: tuple[str, ...] = ("window", "beat_counter", "delay")

    @property
    def out_bits(self) -> int:
        return math.prod(self.kernel) * sum(self.widths) + self.carried_bits

    @property
    def lag(self) -> int:
        """Shifts until a window is complete."""
        below, right = (side - 1 - zeros for side, zeros in zip(self.kernel, self.padding, strict=True))
        return below * self.image[1] + right

    @property
    def lut(self) -> float:
        rows, columns = self.image
        gates = sum(self._masked_taps() * width for width in self.widths)
        counters = len(self.widths) * 3 * (rows * columns).bit_length()
        lines = sum(memory_lut((self.kernel[0] - 1) * width, columns) for width in self.widths)
        return gates + counters + lines + memory_lut(self.carried_bits, self.lag)

    @property
    def ff(self) -> float:
        counters = 3 * sum(size.bit_length() for size in self.image) + self.lag
        rows, columns = self.kernel
        return float(sum(rows * (columns - 1) * width + counters for width in self.widths))

    def times(self, cycles: np.ndarray) -> np.ndarray:
        shifts = np.concatenate([cycles, cycles[-1] + 1 + np.arange(self.lag)])[self.lag :].reshape(self.image)
        axes = zip(self.image, self.kernel, self.padding, self.stride, strict=True)
        rows, columns = (slice(0, size + 2 * zeros - side + 1, stride) for size, side, zeros, stride in axes)
        return shifts[rows, columns].ravel()

    def _masked_taps(self) -> int:
        """Return how many pixels of a window can lie beyond the edge of the image: all but the middle ones."""
        middle = (side - 2 * zeros for side, zeros in zip(self.kernel, self.padding, strict=True))
        return math.prod(self.kernel) - math.prod(middle)

    def verilog(self, i: int) -> str:
        sizes = {"": self.image, "KERNEL_": self.kernel, "PADDING_": self.padding, "STRIDE_": self.stride}
        geometry = ",".join(f"\n        .{name}ROWS({a}), .{name}COLUMNS({b})" for name, (a, b) in sizes.items())
        lines, low, target = [], 0, 0
        for n, width in enumerate(self.widths):
            bits = math.prod(self.kernel) * width
            data_in, data_out = (
                (f"data{i}[{low} +: {width}]", f"data{i + 1}[{target} +: {bits}]") if width else ("1'b0", "")
            )
            outputs = f".shift(shift{i}), .valid_out(valid{i + 1})" if n == 0 else ".shift(), .valid_out()"
            lines.append(f"""
    window #(
        .WIDTH({max(1, width)}),{geometry}
    ) window{i}_{n} (
        .clk(aclk), .resetn(aresetn), .valid_in(valid{i}), .data_in({data_in}),
        {outputs}, .data_out({data_out})
    );""")
            low, target = low + width, target + bits
        if self.carried_bits:
            source, result = (f"[{start} +: {self.carried_bits}]" for start in (low, target))
            lines.append(
                f"""
    delay #(.WIDTH({self.carried_bits}), .DEPTH({self.lag})) carried{i} (
        .clk(aclk), .resetn(aresetn), .shift(shift{i}), .data_in(data{i}{source}), .data_out(data{i + 1}{result})
    );"""
                if self.lag
                else f"\n    assign data{i + 1}{result} = data{i}{source};"
            )
        return f"\n    wire shift{i};" + "".join(lines)


def chain(segments: Sequence[Segment], in_bits: int) -> str:
    """Return the Verilog of segments in a row, from data0 and valid0 on; the last wires are data<n> and valid<n>."""
    wires = "".join(
        f"\n    wire [{bits - 1}:0] data{i};\n    wire valid{i};"
        for i, bits in enumerate([in_bits, *(segment.out_bits for segment in segments)])
    )
    return wires + "".join(segment.verilog(i) for i, segment in enumerate(segments))
