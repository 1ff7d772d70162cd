"""The AXI-Stream shell around a pipelined core: uniform element widths outside, the core's own widths inside."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from codesign.core.bus import bus_bits
from codesign.core.integer_network import IntegerNetwork

SHELL = Path(__file__).parent / "axis_shell.v"


class Field(NamedTuple):
    """One element as a core packs it: `bits` of the mantissa from bit `low` on; 0 bits for what it does not need."""

    bits: int
    low: int
    is_signed: bool


def wrap(
    network: IntegerNetwork, core: str, top: str, fields: tuple[Sequence[Field], Sequence[Field]], latency: int
) -> dict[str, str]:
    """Return the Verilog files of the shell and of the top module, which connects it with a core.

    Args:
        network: Gives the widths of both buses, laid out as `codesign.core.bus` says.
        core: Module with ports clk, model_inp, model_out: it takes an input and gives a result in every cycle.
        top: Name of the top module.
        fields: Elements of the core's input and output, from the least significant bits on.
        latency: Clock edges from the core's input to its result. The simulation shows whether it is right.
    """
    inputs, outputs = fields
    source, target = network.ranges[0].format(), network.output_format
    in_width, out_width = bus_bits(network.input_shape, source.width), bus_bits(network.output_shape, target.width)
    taken = [f"s_axis_tdata[{i * source.width + f.low} +: {f.bits}]" for i, f in enumerate(inputs) if f.bits]
    given, position = [], 0
    for field in outputs:
        if target.width:
            given.append(_resized(field, position, target.width))
        position += field.bits
    core_in, core_out = sum(f.bits for f in inputs), position
    join = ",\n        ".join
    text = f"""`timescale 1 ns / 1 ps

// {len(inputs)} inputs of {source}, {len(outputs)} outputs of {target}; element 0 in the least significant bits.
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
    wire [{core_in - 1}:0] core_in = {{
        {join(reversed(taken))}
    }};
    wire [{core_out - 1}:0] core_out;
    wire [{out_width - 1}:0] result = {{
        {join(reversed(given)) or "1'b0"}
    }};

    {core} core (.clk(aclk), .model_inp(core_in), .model_out(core_out));

    axis_shell #(.WIDTH({out_width}), .LATENCY({latency})) shell (
        .aclk(aclk),
        .aresetn(aresetn),
        .s_axis_tvalid(s_axis_tvalid),
        .s_axis_tready(s_axis_tready),
        .result(result),
        .m_axis_tdata(m_axis_tdata),
        .m_axis_tvalid(m_axis_tvalid),
        .m_axis_tready(m_axis_tready)
    );
endmodule
"""
    return {"axis_shell.v": SHELL.read_text(), f"{top}.v": text}


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
