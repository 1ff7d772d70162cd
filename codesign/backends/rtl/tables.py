"""Lookup tables as modules of their own: self-contained Verilog, where da4ml's read a memory file at elaboration.

A file that a tool must find beside its working directory is one more thing to lose, and Verilator, Yosys and the vendor
tools look for it in different places.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

_INSTANCE = re.compile(r'lookup_table #\((\d+), (\d+), "([^"]+)\.mem"\)')


def inline(files: Mapping[str, str], memories: Mapping[str, str]) -> dict[str, str]:
    """Return Verilog files whose lookup tables are modules.

    Args:
        files: Verilog by file name, with instances of da4ml's `lookup_table`.
        memories: Content of every memory file by its name: one hexadecimal entry a line, X where nothing is looked up.
    """
    result = {}
    for path, text in files.items():
        for inputs, outputs, name in _INSTANCE.findall(text):
            module = _name(name, outputs)
            result[f"{module}.v"] = _module(module, int(inputs), int(outputs), memories[f"{name}.mem"].split())
        result[path] = _INSTANCE.sub(lambda match: _name(match[3], match[2]), text)
    return result


def _name(memory: str, outputs: str) -> str:
    """Return the module's name: the same entries may be those of a wider result."""
    return f"{memory.replace('-', '_')}_{outputs}"


def _module(name: str, inputs: int, outputs: int, entries: list[str]) -> str:
    cases = [
        f"            {inputs}'h{i:x}: out = {outputs}'h{entry};" for i, entry in enumerate(entries) if "X" not in entry
    ]
    return f"""`timescale 1 ns / 1 ps

module {name} (
    input [{inputs - 1}:0] in,
    output reg [{outputs - 1}:0] out
);

    always @(*) begin
        case (in)
{chr(10).join(cases)}
            default: out = {outputs}'bx;
        endcase
    end
endmodule
"""
