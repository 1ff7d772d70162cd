"""The AXI-Stream shell around a core: uniform element widths outside, the core's own widths inside."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from codesign.backends.rtl.segments import Field, Segment, bits_of, chain, memory_lut, static
from codesign.core.bus import bus_bits
from codesign.core.fixed_point import FixedPoint
from codesign.core.integer_network import IntegerNetwork


class Core(NamedTuple):
    """What stands between two AXI streams.

    Attributes:
        segments: In a row, from the beats that come in to the result.
        inputs: Elements of a beat as the first segment takes them, from the least significant bits on.
        outputs: Elements of the result as the last segment gives them, likewise.
        beats: Beats of a sample.
        places: Results that can be on their way while a new sample comes in at every chance.
    """

    segments: Sequence[Segment]
    inputs: Sequence[Field]
    outputs: Sequence[Field]
    beats: int
    places: int

    @property
    def address_bits(self) -> int:
        """Address bits of the FIFO behind the core."""
        return self.places.bit_length()


def shell_cost(network: IntegerNetwork, core: Core) -> tuple[float, float]:
    """Return LUTs and FFs of the shell itself: its FIFO, the choice of what is given, and its counters."""
    width = bus_bits(network.output_shape, network.output_format.width)
    counters = 4 * (core.address_bits + 1) + core.beats.bit_length()
    return width + memory_lut(width, 1 << core.address_bits) + counters, float(counters)


def wrap(network: IntegerNetwork, top: str, core: Core) -> dict[str, str]:
    """Return the Verilog files of the shell, of the top module that puts it around a core, and of what they need.

    Args:
        network: Gives the widths of both buses, laid out as `codesign.core.bus` says.
        top: Name of the top module.
        core: The core. The simulation shows whether its latencies are right.
    """
    source, target = network.ranges[0].format(), network.output_format
    in_width = bus_bits((len(core.inputs),), source.width)
    out_width = bus_bits(network.output_shape, target.width)
    core_in, core_out = bits_of(core.inputs), bits_of(core.outputs)
    last = len(core.segments)
    beats = "" if core.beats == 1 else f" in each of {core.beats} beats"
    text = f"""`timescale 1 ns / 1 ps

// {len(core.inputs)} inputs of {source}{beats}, {len(core.outputs)} outputs of {target}; element 0 in the least
// significant bits.
module {top} (
    input aclk,
    input aresetn,
    input [{in_width - 1}:0] s_axis_tdata,
    input s_axis_tvalid,
    output s_axis_tready,
    output [{out_width - 1}:0] m_axis_tdata,
    output m_axis_tvalid,
    input m_axis_tready
);
    wire take;{chain(core.segments, core_in)}

    assign valid0 = take;
    assign data0 = {{
        {_joined(_taken(core.inputs, source.width))}
    }};
    wire [{core_out - 1}:0] core_out = data{last};
    wire [{out_width - 1}:0] result = {{
        {_joined(_given(core.outputs, target))}
    }};

    axis_shell #(.WIDTH({out_width}), .BEATS({core.beats}), .ADDRESS({core.address_bits})) shell (
        .aclk(aclk),
        .aresetn(aresetn),
        .s_axis_tvalid(s_axis_tvalid),
        .s_axis_tready(s_axis_tready),
        .take(take),
        .arrive(valid{last}),
        .result(result),
        .m_axis_tdata(m_axis_tdata),
        .m_axis_tvalid(m_axis_tvalid),
        .m_axis_tready(m_axis_tready)
    );
endmodule
"""
    modules = [name for segment in core.segments for name in segment.modules]
    return static(["axis_shell", "beat_counter", *modules]) | {f"{top}.v": text}


def _joined(parts: Sequence[str]) -> str:
    return ",\n        ".join(reversed(parts)) or "1'b0"


def _taken(fields: Sequence[Field], width: int) -> list[str]:
    return [f"s_axis_tdata[{i * width + f.low} +: {f.bits}]" for i, f in enumerate(fields) if f.bits]


def _given(fields: Sequence[Field], target: FixedPoint) -> list[str]:
    given, position = [], 0
    for field in fields:
        if target.width:
            given.append(_resized(field, position, target.width))
        position += field.bits
    return given


def _resized(field: Field, position: int, width: int) -> str:
    """Return the Verilog of one output element: a field of the core's output in `width` bits."""
    bits, low, is_signed = field
    kept = min(bits, width - low)
    if kept <= 0:  # nothing, or bits that the network's exact ranges prove to be zero
        return f"{width}'b0"
    parts = [f"core_out[{position} +: {kept}]"]
    if low:
        parts.append(f"{low}'b0")
    if width > low + kept:
        fill = f"core_out[{position + bits - 1}]" if is_signed else "1'b0"
        parts.insert(0, f"{{{width - low - kept}{{{fill}}}}}")
    return parts[0] if len(parts) == 1 else "{" + ", ".join(parts) + "}"
