"""The segments that wait for a whole sample: to give it in one beat, or beside each of its positions once more."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from codesign.backends.rtl.segments import Field, memory_lut


class Reduction(NamedTuple):
    """Sum or maximum of one element over all beats of a sample."""

    source: Field
    bits: int
    is_max: bool


@dataclass(frozen=True)
class Gather:
    """A whole sample in one beat: beats side by side, then sums and maxima over them.

    Attributes:
        beats: Beats of a sample.
        collected: Bits of each tensor to be put side by side, from the least significant bits on.
        reduced: Elements to be reduced, above them.
    """

    beats: int
    collected: tuple[int, ...]
    reduced: tuple[Reduction, ...]
    modules: tuple[str, ...] = ("beat_counter", "collect", "reduce")

    @property
    def in_bits(self) -> int:
        """Bits of a beat that are gathered."""
        return sum(self.collected) + sum(r.source.bits for r in self.reduced)

    @property
    def out_bits(self) -> int:
        return self.beats * sum(self.collected) + sum(r.bits for r in self.reduced)

    @property
    def lut(self) -> float:
        return float(sum(r.bits * (3 if r.is_max else 2) for r in self.reduced) + self.beats.bit_length())

    @property
    def ff(self) -> float:
        reduced = sum(r.bits for r in self.reduced)
        return float((self.beats - 1) * sum(self.collected) + reduced + self.beats.bit_length())

    def times(self, cycles: np.ndarray) -> np.ndarray:
        return cycles[-1:]

    def verilog(self, i: int) -> str:
        return f"{self.wires(i, f'data{i + 1}')}\n    assign valid{i + 1} = valid{i} && is_last{i};"

    def wires(self, i: int, result: str) -> str:
        """Return the text that drives `result`, complete with the last beat of data<i>, and is_last<i>."""
        lines = [
            f"""
    wire is_first{i}, is_last{i};
    beat_counter #(.BEATS({self.beats})) beats{i} (
        .clk(aclk), .resetn(aresetn), .valid(valid{i}), .is_first(is_first{i}), .is_last(is_last{i})
    );"""
        ]
        low = target = 0
        for n, width in enumerate(self.collected):
            bits = self.beats * width
            if width:
                lines.append(f"""
    collect #(.WIDTH({width}), .BEATS({self.beats})) collect{i}_{n} (
        .clk(aclk), .valid(valid{i}),
        .data_in(data{i}[{low} +: {width}]), .data_out({result}[{target} +: {bits}])
    );""")
            low, target = low + width, target + bits
        for n, (source, bits, is_max) in enumerate(self.reduced):
            if bits:
                lines.append(f"""
    reduce #(.WIDTH({source.bits}), .RESULT({bits}), .IS_SIGNED({int(source.is_signed)}), .IS_MAX({int(is_max)}))
    reduce{i}_{n} (
        .clk(aclk), .valid(valid{i}), .is_first(is_first{i}),
        .data_in(data{i}[{low} +: {source.bits}]), .data_out({result}[{target} +: {bits}])
    );""")
            low, target = low + source.bits, target + bits
        return "".join(lines)


@dataclass(frozen=True)
class Recall:
    """A whole sample beside each of its positions; `codesign/backends/rtl/recall.v`.

    Attributes:
        gather: What makes the sample whole.
        carried_bits: Bits of what waits for it, above what is gathered.
    """

    gather: Gather
    carried_bits: int
    modules: tuple[str, ...] = ("beat_counter", "collect", "reduce", "recall")

    @property
    def out_bits(self) -> int:
        return self.gather.out_bits + self.carried_bits

    @property
    def lut(self) -> float:
        counters = 2 * self.gather.beats.bit_length()
        return self.gather.lut + memory_lut(self.carried_bits, self.gather.beats) + counters

    @property
    def ff(self) -> float:
        return self.gather.ff + self.gather.out_bits + 2 * self.gather.beats.bit_length() + 1

    def times(self, cycles: np.ndarray) -> np.ndarray:
        return cycles[-1] + 1 + np.arange(self.gather.beats)

    def verilog(self, i: int) -> str:
        whole, taken, carried = self.gather.out_bits, self.gather.in_bits, self.carried_bits
        whole_out = f"data{i + 1}[0 +: {whole}]" if whole else ""
        data_in, data_out = (
            (f"data{i}[{taken} +: {carried}]", f"data{i + 1}[{whole} +: {carried}]") if carried else ("1'b0", "")
        )
        return f"""
    wire [{max(1, whole) - 1}:0] whole{i};{self.gather.wires(i, f"whole{i}")}
    recall #(.WHOLE({max(1, whole)}), .WIDTH({max(1, carried)}), .BEATS({self.gather.beats})) recall{i} (
        .clk(aclk), .resetn(aresetn), .valid_in(valid{i}), .is_last(is_last{i}),
        .whole_in(whole{i}), .data_in({data_in}),
        .valid_out(valid{i + 1}), .whole_out({whole_out}), .data_out({data_out})
    );"""
