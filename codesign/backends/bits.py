"""A pipelined adder graph as a graph of bits: what a synthesis leaves of it, counted without one.

da4ml counts whole operations. A synthesis drops every bit that nothing reads, passes on what a constant decides, and
builds equal signals once, which takes half of the registers of some designs away. Here the same is done on a graph of
bits, in which equal nodes are one node.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from da4ml.types import CombLogic, Op, Pipeline, QInterval, minimal_kif

Node = tuple[Any, ...]  # a kind and what it takes; nodes 0 and 1 are the constants


class BitGraph:
    """The bits of a pipeline, from its input to its registered output.

    Attributes:
        nodes: By number, each after those that it takes. ("add", before, a, b, chain) is one position of a carry chain
            and a bit of its result; before is the position below it, or the carry that comes in (1 in a subtraction,
            "sub"), and ("chain", a, b, is_sub) holds the rows of bits that the whole chain adds. ("register", bit) is a
            bit one cycle later, ("and", bit, sign) one that a sign clears; ("mux", key, if_one, if_zero) and ("not",
            bit) are what they say. What takes many bits at once, such as a table, is ("opaque", bits, ..., LUTs by
            da4ml's cost) and gives ("part", opaque, i).
        outputs: The bits behind the last registers.
        readers: How often each node is read by what reaches the output; 0 for a dead one.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        self.nodes: list[Node] = [("constant", 0), ("constant", 1)]
        self._numbers: dict[Node, int] = {}
        values = [[self.node("input", j, i) for i in range(_width(q))] for j, q in enumerate(pipeline.inp_qint)]
        for number, stage in enumerate(pipeline.solutions):
            values = _Stage(self, stage, number).results([[self.register(bit) for bit in value] for value in values])
        self.outputs = [self.register(bit) for value in values for bit in value]
        self._find_what_is_read()

    def node(self, *key: object) -> int:
        """Return the number of a node; equal nodes have one number."""
        number = self._numbers.get(key)
        if number is None:
            number = self._numbers[key] = len(self.nodes)
            self.nodes.append(key)
        return number

    def register(self, bit: int) -> int:
        """Return a bit one clock cycle later."""
        return bit if bit < 2 else self.node("register", bit)

    def clear(self, bit: int, sign: int) -> int:
        """Return a bit, or 0 where `sign` is 1."""
        if bit == 0 or sign in (1, bit):
            return 0
        return bit if sign == 0 else self.node("and", bit, sign)

    def choose(self, key: int, if_one: int, if_zero: int) -> int:
        """Return one of two bits by a third."""
        if key < 2 or if_one == if_zero:
            return if_one if key else if_zero
        if (if_one, if_zero) == (1, 0):
            return key
        if self.nodes[key][0] == "not":
            return self.choose(self.nodes[key][1], if_zero, if_one)
        return self.node("mux", key, if_one, if_zero)

    def invert(self, bit: int) -> int:
        """Return the other value of a bit; it costs nothing where the bit is read."""
        return 1 - bit if bit < 2 else self.node("not", bit)

    def add(self, a: Sequence[int], b: Sequence[int], is_sub: bool) -> list[int]:
        """Return a + b or a - b, as many bits as both have; a chain begins at the first position that needs a carry."""
        start = 0
        while start < len(a) and (b[start] == 0 or (not is_sub and a[start] == 0)):
            start += 1
        passed = [x if y == 0 else y for x, y in zip(a[:start], b[:start], strict=True)]
        if start == len(a):
            return passed
        chain = self.node("chain", tuple(a[start:]), tuple(b[start:]), is_sub)
        before = int(is_sub)
        for x, y in zip(a[start:], b[start:], strict=True):
            before = self.node("sub" if is_sub else "add", before, x, y, chain)
            passed.append(before)
        return passed

    def _find_what_is_read(self) -> None:
        """Count how often each node is read, from the outputs back to the inputs."""
        self.readers: Counter[int] = Counter(self.outputs)
        for number in range(len(self.nodes) - 1, 1, -1):
            if self.readers[number]:
                self.readers.update(source for source in self.sources(number) if source > 1)

    def sources(self, number: int) -> Iterable[int]:
        """Return the nodes that a node takes."""
        kind, *fields = self.nodes[number]
        match kind:
            case "input" | "constant":
                return ()
            case "opaque":
                return fields[0]
            case "part":
                return fields[:1]
            case "add" | "sub":
                return fields[:3]
        return fields

    def living(self) -> Iterator[tuple[int, Node]]:
        """Yield every node that reaches the output, with its number, in order."""
        return ((i, node) for i, node in enumerate(self.nodes) if i > 1 and self.readers[i])


class _Stage:
    """The bits of one stage's operations."""

    def __init__(self, graph: BitGraph, stage: CombLogic, number: int) -> None:
        self.graph, self.stage, self.number = graph, stage, number
        self.values: list[list[int]] = []
        self.formats = [_format(op.qint) for op in stage.ops]

    def results(self, inputs: list[list[int]]) -> list[list[int]]:
        """Return the bits of the stage's results."""
        for i, op in enumerate(self.stage.ops):
            _, low, width = self.formats[i]
            self.values.append(self._bits(op, inputs, low, width) if width else [])
        results = []
        for position, source in enumerate(self.stage.out_idxs):
            if source < 0:
                results.append([])
            elif self.stage.out_negs[position]:
                width = _width(self.stage.out_qint[position])
                results.append(self._negated(source, self.formats[source][1], width))
            else:
                results.append(self.values[source])
        return results

    def _bits(  # noqa: PLR0911 - one case for each operation
        self, op: Op, inputs: list[list[int]], low: int, width: int
    ) -> list[int]:
        """Return the result of an operation: `width` bits from position `low` on. Operations: da4ml's `CombLogic`."""
        graph = self.graph
        match op.opcode:
            case -1:
                return inputs[op.id0][:width]
            case 0 | 1:
                return self._sum(op.id0, low, width, self.formats[op.id1][1] + op.data, op)
            case 4:
                return self._sum(op.id0, low, width, low, op)
            case 2:
                is_signed = self.formats[op.id0][0]
                sign = self.values[op.id0][-1] if is_signed else 0
                return [graph.clear(bit, sign) for bit in self._read(op.id0, low, width)]
            case -2:
                low_end, high_end, step = self.stage.ops[op.id0].qint
                is_signed, first, count = _format(QInterval(-high_end, -low_end, step))
                bits = self._negated(op.id0, low, max(width, first + count - low))
                return [graph.clear(bit, bits[-1] if is_signed else 0) for bit in bits[:width]]
            case 3:
                return self._read(op.id0, low, width)
            case -3:
                return self._negated(op.id0, low, width)
            case 5:
                return _constant(op.data, width)
            case 9 if op.data == 0:
                return [graph.invert(bit) for bit in self.values[op.id0][:width]]
            case 6 | -6:
                key, shift = op.data & 0xFFFFFFFF, _signed32(op.data >> 32)
                second = self._read if op.opcode == 6 else self._negated
                pairs = zip(self._read(op.id0, low, width), second(op.id1, low, width, shift), strict=True)
                return [graph.choose(self.values[key][-1], *pair) for pair in pairs]
        taken = tuple(bit for i in (op.id0, op.id1) if i >= 0 for bit in self.values[i] if bit > 1)
        whole = graph.node("opaque", taken, op.opcode, op.data, op.cost)
        return [graph.node("part", whole, i) for i in range(width)]

    def _sum(self, first: int, low: int, width: int, other_low: int, op: Op) -> list[int]:
        lowest = min(self.formats[first][1], other_low, low)
        count = low + width - lowest
        a = self._read(first, lowest, count)
        if op.opcode == 4:
            b = [0] * (low - lowest) + _constant(abs(op.data), width)
            return self.graph.add(a, b, op.data < 0)[low - lowest :]
        return self.graph.add(a, self._read(op.id1, lowest, count, op.data), op.opcode == 1)[low - lowest :]

    def _read(self, source: int, low: int, width: int, shift: int = 0) -> list[int]:
        """Return `width` bits of a value, moved up by `shift`, from position `low` on: zeros below, the sign above."""
        is_signed, first, count = self.formats[source]
        bits, first = self.values[source], first + shift
        fill = bits[-1] if is_signed and count else 0
        return [0 if p < first else bits[p - first] if p < first + count else fill for p in range(low, low + width)]

    def _negated(self, source: int, low: int, width: int, shift: int = 0) -> list[int]:
        lowest = min(low, self.formats[source][1] + shift)
        bits = self._read(source, lowest, low + width - lowest, shift)
        return self.graph.add([0] * len(bits), bits, is_sub=True)[low - lowest :]


def _format(interval: object) -> tuple[bool, int, int]:
    """Return whether values are signed, the position of the lowest bit, and the width."""
    is_signed, integers, fractional = minimal_kif(interval)
    return bool(is_signed), -int(fractional), int(is_signed) + int(integers) + int(fractional)


def _width(interval: object) -> int:
    return _format(interval)[2]


def _constant(value: int, width: int) -> list[int]:
    return [(value >> i) & 1 for i in range(width)]


def _signed32(value: int) -> int:
    return (value + 0x80000000) % 0x100000000 - 0x80000000
