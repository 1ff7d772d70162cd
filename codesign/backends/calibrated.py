"""The estimate that is calibrated on synthesis: LUTs, FFs and, on ECP5, clock frequency, each with its interval.

The bits of a design are counted (`codesign.backends.bits`), without any synthesis. FFs are these counts as they are.
LUTs are a sum of counts with two or three coefficients, fitted to what Yosys makes of one set of designs. The intervals
are split-conformal (Lei et al., Distribution-free predictive inference for regression, JASA 113, 2018, section 2.2):
they hold 9 of 10 designs like those of a second set. All of it stands in calibration.json, which
`benchmarks/calibration.py` writes.

The search goes on with the plain cost of the adder graph: it takes less time, and needs no calibration to rank.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from codesign.backends import da4ml
from codesign.backends.bits import BitGraph
from codesign.core.build import Resources
from codesign.core.bus import bus_bits
from codesign.core.errors import InvalidValueError
from codesign.core.integer_network import IntegerNetwork

CALIBRATION = Path(__file__).parent / "calibration.json"
# Shorter additions are built of LUTs, longer ones of carry cells: Yosys, arith_map.v of each family.
SHORT = {"xcup": 2, "xc7": 2, "ecp5": 4}
DELAY_LINE = 3  # registers in a row from which on Yosys builds a shift register in a LUT of an AMD part; none on ECP5
# Memory behind the core: AMD UG574 (RAM32M16: 8 LUTs for 32 x 14 bits) and UG474 (RAM32M: 4 for 32 x 6 bits), Lattice
# FPGA-TN-02204 (6 for 16 x 4 bits).
MEMORY = {"xcup": (8, 14, 32), "xc7": (4, 6, 32), "ecp5": (6, 4, 16)}
AMD = ("xcup", "xc7")
# Delays relative to that of entering and leaving a carry chain, chosen on eight routed ECP5 designs: one carry bit; a
# gate and a short addition, which often share a LUT with what reads them.
CARRY, GATE, NARROW = 0.05, 0.5, 0.4


@dataclass(frozen=True)
class Interval:
    """A number and the interval that holds it in 9 of 10 designs."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Calibrated:
    """A calibrated estimate of one design on one family.

    Attributes:
        resources: The numbers, at level "estimate"; the tool's name says on what they are calibrated.
        lut: With its interval.
        ff: With its interval.
        routed_lut: LUTs after place and route; None where no router was at hand for the calibration.
        fmax_mhz: Likewise.
    """

    resources: Resources
    lut: Interval
    ff: Interval
    routed_lut: Interval | None = None
    fmax_mhz: Interval | None = None


def estimate(network: IntegerNetwork, family: str, cutoff: int = 5) -> Calibrated:
    """Return the calibrated estimate of a network's parallel RTL.

    Args:
        network: The network, fully unrolled: initiation interval 1.
        family: A family with a calibration: "xcup", "xc7" or "ecp5".
        cutoff: Adder delays between two registers.

    Raises:
        InvalidValueError: There is no calibration for the family.
        UnsupportedError: A step or weight is too wide, or no output depends on the input.
    """
    calibration = load()
    if family not in calibration["families"]:
        allowed = ", ".join(calibration["families"])
        raise InvalidValueError(f"The family {family!r} has no calibration; allowed: {allowed}.")
    numbers = counts(network, family, cutoff)
    fitted = calibration["families"][family]
    lut, ff = (_interval(predict(numbers, fitted[name]), fitted[name]["error"]) for name in ("lut", "ff"))
    routed = fitted.get("routed")
    routed_lut = fmax = None
    if routed:
        routed_lut = _interval(predict(numbers, routed["lut"]), routed["lut"]["error"])
        fmax = _interval(1e3 / predict(numbers, routed["period_ns"]), routed["period_ns"]["error"])
    tool = f"{da4ml.TOOL}, calibrated on {calibration['tool']}"
    resources = Resources("estimate", tool, lut.value, ff.value, 0.0, 0.0, fmax.value if fmax else None)
    return Calibrated(resources, lut, ff, routed_lut, fmax)


@cache
def load() -> dict[str, Any]:
    """Return the content of calibration.json."""
    content: dict[str, Any] = json.loads(CALIBRATION.read_text())
    return content


def predict(numbers: Mapping[str, float], fitted: Mapping[str, Any]) -> float:
    """Return a fitted sum: the number `fitted["base"]`, and those of `fitted["coefficients"]` times theirs."""
    weighted = sum(factor * numbers[name] for name, factor in fitted["coefficients"].items())
    return float(weighted + (numbers[fitted["base"]] if fitted["base"] else 0.0))


def counts(network: IntegerNetwork, family: str, cutoff: int) -> dict[str, float]:
    """Return what a network's parallel RTL consists of on a family.

    Returns:
        Numbers by name. `ff`: registers, the shell's too, less those in delay lines. `fixed`: LUTs of memory, delay
        lines, tables and shell. `chain`: on AMD parts the carry positions that add two variable bits (a LUT each;
        beside a constant there is none), on ECP5 the LUTs of carry cells (two each, whatever they add). `narrow`:
        positions of short additions, built without carry cells. `gates`: gates and multiplexers whose result is read as
        it is; on AMD parts `beside_constant` are those that only additions of constants read, whose LUTs are half
        empty. `absorbed`: those that become part of the LUT which reads them. `depth`: the longest path. `one`: 1.
    """
    kernel = da4ml.kernel(network, cutoff)
    graph = BitGraph(kernel.pipeline)
    width = bus_bits(network.output_shape, network.output_format.width)
    address = (kernel.latency + 1).bit_length()
    luts, bits, words = MEMORY[family]
    memory = luts * math.ceil(width / bits) * math.ceil((1 << address) / words)
    registers = sum(kind == "register" for _, (kind, *_) in graph.living())
    lines, delayed = _delay_lines(graph) if family in AMD else (0, 0)
    numbers = _logic(graph, family)
    numbers["ff"] = registers - delayed + kernel.latency + 4 * address + 2
    numbers["fixed"] = memory + width + 2 * address + lines + numbers.pop("opaque")
    return dict(numbers) | {"depth": depth(graph), "one": 1.0}


def _delay_lines(graph: BitGraph) -> tuple[int, int]:
    """Return how many rows of registers are long enough for a shift register, and how many registers they hold."""
    length: dict[int, int] = {}
    for number, (kind, *fields) in graph.living():
        if kind == "register":
            source = fields[0]
            is_next = graph.nodes[source][0] == "register" and graph.readers[source] == 1
            length[number] = 1 + (length.pop(source) if is_next else 0)
    rows = [n for n in length.values() if n >= DELAY_LINE]
    return len(rows), sum(rows)


def _logic(graph: BitGraph, family: str) -> Counter[str]:
    """Return the counts of carry chains, gates and tables."""
    names = ("chain", "narrow", "gates", "beside_constant", "absorbed", "opaque")
    numbers: Counter[str] = Counter(dict.fromkeys(names, 0))
    kept = Counter(_read_as_they_are(graph))
    beside = _read_beside_constants(graph) if family in AMD else frozenset()
    place: dict[int, int] = {}
    with_odd = {fields[0] for _, (kind, *fields) in graph.living() if kind in ("add", "sub") and fields[0] > 1}
    for number, (kind, *fields) in graph.living():
        if kind in ("add", "sub"):
            before, a, b, chain = fields
            place[number] = place[before] + 1 if before > 1 else 0
            if len(graph.nodes[chain][1]) <= SHORT[family]:
                numbers["narrow"] += 1
            elif family in AMD:
                numbers["chain"] += a > 1 and b > 1
            elif place[number] % 2 or number not in with_odd:  # the end of a cell
                numbers["chain"] += 2
        elif kind in ("and", "mux"):
            numbers["beside_constant" if number in beside else "gates" if kept[number] else "absorbed"] += 1
        elif kind == "opaque":
            numbers["opaque"] += fields[-1]
    return numbers


def _read_as_they_are(graph: BitGraph) -> list[int]:
    """Return the bits that something but a gate, or the second input of an addition, reads: they cannot be absorbed."""
    bits = []
    for number, (kind, *fields) in graph.living():
        if kind in ("add", "sub"):
            bits.append(fields[1])
            if graph.readers[fields[2]] > 1:
                bits.append(fields[2])
        elif kind in ("register", "opaque"):
            bits += graph.sources(number)
    return bits


def _read_beside_constants(graph: BitGraph) -> frozenset[int]:
    """Return the bits that nothing but additions of constants reads."""
    beside, otherwise = set(), set(graph.outputs)
    for number, (kind, *fields) in graph.living():
        if kind in ("add", "sub") and fields[2] < 2:
            beside.add(fields[1])
            otherwise.add(fields[0])
        else:
            otherwise.update(graph.sources(number))
    return frozenset(beside - otherwise)


def depth(graph: BitGraph) -> float:
    """Return the longest path between two registers of an ECP5 design, in carry chains that follow one another."""
    arrival = np.zeros(len(graph.nodes))
    longest = 0.0
    for number, (kind, *fields) in graph.living():
        if kind == "register":
            longest = max(longest, arrival[fields[0]])
        elif kind in ("add", "sub"):
            before, a, b, chain = fields
            is_narrow = len(graph.nodes[chain][1]) <= SHORT["ecp5"]
            start = max(arrival[a], arrival[b]) + (NARROW if is_narrow else 1.0)
            arrival[number] = max(start, arrival[before] + CARRY) if before > 1 else start
        elif kind != "input":
            own = 0.0 if kind in ("not", "part") else GATE
            arrival[number] = own + max((arrival[source] for source in graph.sources(number)), default=0.0)
    return float(longest)


def _interval(value: float, error: float) -> Interval:
    """Return the interval of a number whose relative error is at most `error` in 9 of 10 designs."""
    return Interval(value, value / (1 + error), value * (1 + error))
