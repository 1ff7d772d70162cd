"""Many designs in one simulation: compiling one module of forty is much quicker than forty modules."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from codesign.backends import verilator
from codesign.core.build import BuildPlan
from codesign.core.bus import bus_bits, pack, unpack
from codesign.core.integer_network import IntegerNetwork

Design = tuple[IntegerNetwork, BuildPlan]


def simulate(
    designs: Sequence[Design], vectors: Sequence[np.ndarray], stall_seed: int, folder: Path, beats: int = 1
) -> list[np.ndarray]:
    """Return the output mantissas of each design for its vectors; all designs take as many beats a sample."""
    rtl, widths = side_by_side(designs, beats)
    streams = [
        bits_of(pack(v.reshape(len(v) * beats, -1), network.ranges[0].format().width), 0, bits)
        for (network, _), v, (bits, _) in zip(designs, vectors, widths, strict=True)
    ]
    totals = sum(bits for bits, _ in widths), sum(bits for _, bits in widths)
    words = packed(np.concatenate(streams, axis=1))
    results, _, _ = verilator.drive(rtl, words, totals, stall_seed, folder, beats)
    outputs, low = [], 0
    for (network, _), (_, bits) in zip(designs, widths, strict=True):
        target = network.output_format
        own = packed(bits_of(results, low, bits))
        outputs.append(unpack(own, network.output_shape, target.width, target.is_signed))
        low += bits
    return outputs


def side_by_side(designs: Sequence[Design], beats: int) -> tuple[BuildPlan, list[tuple[int, int]]]:
    """Return one module of all designs, and the bits of each one's buses; it moves when every design can."""
    files, cells, widths, in_low, out_low = {}, [], [], 0, 0
    for i, (network, rtl) in enumerate(designs):
        files |= rtl.files
        in_bits = bus_bits((int(np.prod(network.input_shape)) // beats,), network.ranges[0].format().width)
        out_bits = bus_bits(network.output_shape, network.output_format.width)
        cells.append(
            f"{rtl.name} c{i} (.aclk(aclk), .aresetn(aresetn), .s_axis_tdata(s_axis_tdata[{in_low} +: {in_bits}]),"
            f" .s_axis_tvalid(s_axis_tvalid && s_axis_tready), .s_axis_tready(ready[{i}]),"
            f" .m_axis_tdata(m_axis_tdata[{out_low} +: {out_bits}]), .m_axis_tvalid(valid[{i}]),"
            f" .m_axis_tready(m_axis_tready && m_axis_tvalid));"
        )
        widths.append((in_bits, out_bits))
        in_low, out_low = in_low + in_bits, out_low + out_bits
    lines = "\n".join(cells)
    files["all.v"] = f"""`timescale 1 ns / 1 ps
module all (input aclk, input aresetn, input [{in_low - 1}:0] s_axis_tdata, input s_axis_tvalid, output s_axis_tready,
            output [{out_low - 1}:0] m_axis_tdata, output m_axis_tvalid, input m_axis_tready);
    wire [{len(designs) - 1}:0] ready, valid;
    assign s_axis_tready = &ready;
    assign m_axis_tvalid = &valid;
    {lines}
endmodule
"""
    return BuildPlan("all", files), widths


def bits_of(words: np.ndarray, low: int, count: int) -> np.ndarray:
    """Return bits (rows, count) of bus content (rows, words) from bit `low` on."""
    return np.unpackbits(np.ascontiguousarray(words).view(np.uint8), axis=-1, bitorder="little")[:, low : low + count]


def packed(bits: np.ndarray) -> np.ndarray:
    """Return bus content (rows, words), uint32, of bits (rows, count)."""
    padded = np.zeros((len(bits), -(-bits.shape[1] // 32) * 32), dtype=np.uint8)
    padded[:, : bits.shape[1]] = bits
    return np.packbits(padded, axis=-1, bitorder="little").view("<u4")
