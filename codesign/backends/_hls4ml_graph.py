"""Which layers an hls4ml project has: every step of a network with the pattern by which it takes its tensors.

In a project of arrays (io_parallel) a step acts on whole tensors. In a project of streams (io_stream) it acts on one
block after another wherever its operation allows: an element, a pixel, a row, the window of a convolution.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from codesign.backends._hls4ml_layers import Step, container, cpp_type, describe
from codesign.core.errors import UnsupportedError
from codesign.core.integer_network import IntegerNetwork
from codesign.core.operations import (
    Add,
    Affine,
    LeakyRelu,
    Linear,
    MatMul,
    Max,
    Multiply,
    Operation,
    Patches,
    Quantize,
    Range,
    Relu,
    Reshape,
    Sum,
    Table,
)

BEAT_BITS = 4096  # Vitis HLS refuses to synthesize wider streams
COPIES = 7  # of a stream that hls4ml makes


class Node(NamedTuple):
    """A layer of a project.

    Attributes:
        index: The step of the network whose result it gives; layers are named by it.
        inputs: The steps whose results it takes.
        operation: What is computed for one block of the result.
        result: Range of a block of the result.
        operands: Ranges of a block of each input.
        blocks: Into how many blocks each input falls; the most of them, the result.
        pattern: Function of nnet_exact_stream.h; empty where whole arrays are taken.
        shape: Of the result: (elements,), or (beats, elements in a beat) of a stream.
        image: Of `windows`: the convolution's patches, and the range of what they are taken from.
    """

    index: int
    inputs: tuple[int, ...]
    operation: Operation
    result: Range
    operands: tuple[Range, ...]
    blocks: tuple[int, ...]
    pattern: str
    shape: tuple[int, ...]
    image: tuple[Patches, Range] | None = None


def parallel(network: IntegerNetwork) -> list[Node]:
    """Return a layer for each step; a dense layer at several positions has a block for each."""
    nodes = []
    for i, operation in enumerate(network.operations):
        result, operands = network.ranges[i], [network.ranges[j] for j in operation.inputs]
        blocks = _blocks(operation, result, *operands) if isinstance(operation, Linear) else (1,) * len(operands)
        node = _in_blocks(network, i, operation.inputs, blocks)
        pattern = "blocks" if max(blocks, default=1) > 1 else ""
        nodes.append(node._replace(pattern=pattern, shape=(result.low.size,)))
    return nodes


def streamed(network: IntegerNetwork) -> list[Node]:
    """Return the layers of a project of streams: what nothing uses is left out, and what only renames elements.

    Raises:
        UnsupportedError: The result of a step is used more often than hls4ml copies a stream.
    """
    used = _used(network)
    uses = Counter(j for i in used for j in network.operations[i].inputs)
    sources: dict[int, int] = {}  # where the stream of a step comes from that has no layer
    packs: dict[int, int] = {}  # elements in a beat; they divide the last axis
    nodes: list[Node] = []
    last = len(network.operations) - 1
    for i in used:
        operation, result = network.operations[i], network.ranges[i]
        inputs = tuple(sources.get(j, j) for j in operation.inputs)
        is_renamed = isinstance(operation, Reshape) and _axis(result) % packs[inputs[0]] == 0
        if is_renamed and (inputs[0] or i != last):  # hls4ml takes no input for an output
            sources[i] = inputs[0]
            packs[i] = packs[inputs[0]]
            continue
        if isinstance(operation, Patches) and uses[i] == 1 and _is_followed_by_linear(network, used, i):
            sources[i] = inputs[0]  # the windows stay inside of the layer that multiplies them
            continue
        node, pack = _streamed(network, i, inputs, [packs[j] for j in inputs])
        packs[i] = pack
        nodes.append(node._replace(shape=(result.low.size // pack, pack)))
    copies = Counter(j for node in nodes for j in node.inputs)
    for i, count in copies.items():
        if count > COPIES:
            raise UnsupportedError(
                f"The result of step {i} ({type(network.operations[i]).__name__}) is used {count} times; hls4ml copies "
                f"a stream up to {COPIES} times. Use io_parallel."
            )
    return nodes


def _used(network: IntegerNetwork) -> list[int]:
    found, waiting = {0}, [len(network.operations) - 1]
    while waiting:
        i = waiting.pop()
        if i not in found:
            found.add(i)
            waiting += network.operations[i].inputs
    return sorted(found)


def _is_followed_by_linear(network: IntegerNetwork, used: list[int], patches: int) -> bool:
    return any(isinstance(o := network.operations[i], Linear) and o.inputs == (patches,) for i in used)


def _streamed(network: IntegerNetwork, i: int, sources: tuple[int, ...], packs: list[int]) -> tuple[Node, int]:
    """Return the layer of a step, without its shape, and the elements in a beat of its result."""
    operation, result = network.operations[i], network.ranges[i]
    operands = tuple(network.ranges[j] for j in operation.inputs)
    if not operands:
        return _in_blocks(network, i, (), ()), _pack(_axis(result), result)
    before = network.operations[operation.inputs[0]]
    if isinstance(operation, Patches) or operation.inputs[0] != sources[0]:
        patches = operation if isinstance(operation, Patches) else before
        if isinstance(patches, Patches):
            return _windows(network, i, sources, patches), _pack(_axis(result), result)
    if isinstance(operation, Sum | Max) and _folds(operation, operands[0], packs[0]):
        node = Node(i, sources, operation, result, operands, (operands[0].low.size // packs[0],), "fold", ())
        return node, _pack(packs[0], result)
    blocks = _blocks(operation, result, *operands, pack=packs[0] if len(set(packs)) == 1 else 0)
    node = _in_blocks(network, i, sources, blocks)
    return node, _pack(math.gcd(node.result.low.size, _axis(result)), result)


def _in_blocks(network: IntegerNetwork, i: int, sources: tuple[int, ...], blocks: tuple[int, ...]) -> Node:
    """Return the layer of a step that falls into blocks, without its shape."""
    operation, result = network.operations[i], network.ranges[i]
    operands = tuple(network.ranges[j] for j in operation.inputs)
    count = max(blocks, default=1)
    if isinstance(operation, MatMul) and count > 1:  # a row of the first, all of the second
        operands = _part(operands[0], (1, _axis(operands[0]))), operands[1]
        result = _part(result, (1, _axis(result)))
    elif count > 1:
        operands = tuple(_part(x, (x.low.size // n,)) for x, n in zip(operands, blocks, strict=True))
        operation, result = _restricted(operation), _part(result, (result.low.size // count,))
    return Node(i, sources, operation, result, operands, blocks, "pairs" if len(operands) > 1 else "blocks", ())


def _windows(network: IntegerNetwork, i: int, sources: tuple[int, ...], patches: Patches) -> Node:
    """Return the layer of a convolution's windows, or of what a dense layer makes of each, without its shape."""
    operation, result, image = network.operations[i], network.ranges[i], network.ranges[patches.inputs[0]]
    part = Reshape((0,), (_axis(result),)) if isinstance(operation, Patches) else operation
    x = result if isinstance(operation, Patches) else network.ranges[operation.inputs[0]]
    rows = result.low.size // _axis(result)
    operands = (_part(x, (_axis(x),)),)
    return Node(i, sources, part, _part(result, (_axis(result),)), operands, (rows,), "windows", (), (patches, image))


def _axis(x: Range) -> int:
    return x.shape[-1] if x.shape else 1


def _pack(elements: int, x: Range) -> int:
    """Return the largest number of elements that divides `elements` and fits into a beat."""
    most = BEAT_BITS // container(x).width
    return next(n for n in range(min(elements, most), 0, -1) if elements % n == 0)


def _part(x: Range, shape: tuple[int, ...]) -> Range:
    """Return the range of any elements of a tensor, in the same format."""
    return Range(np.full(shape, x.low.min()), np.full(shape, x.high.max()), x.fraction_bits)


def _blocks(operation: Operation, result: Range, *inputs: Range, pack: int = 0) -> tuple[int, ...]:
    """Return into how many blocks each input falls, one for each block of the result; (1,) or (1, 1) if into none.

    Args:
        operation: What is computed.
        result: Its range.
        inputs: Those of its inputs.
        pack: Elements in a beat of the inputs, if it is the same for all.
    """
    x, blocks = inputs[0], 1
    rows, beats = x.low.size // _axis(x), x.low.size // (pack or x.low.size)
    match operation:
        case Relu() | LeakyRelu() | Table():
            blocks = beats
        case Quantize(formats=formats):
            blocks = beats if len(set(formats)) == 1 else rows
        case Linear():
            blocks = rows
        case Affine(scale=scale, offset=offset) if all(c.size in (1, c.shape[-1]) for c in (scale, offset)):
            blocks = rows
        case Sum(axis=axis) | Max(axis=axis) if axis == len(x.shape) - 1:
            blocks = rows
        case MatMul() if len(x.shape) == len(inputs[1].shape) == 2:
            return x.shape[0], 1
        case Add() | Multiply() if pack and x.shape == inputs[1].shape:
            blocks = beats
        case Add() | Multiply():
            own = tuple(y.low.size // _axis(y) for y in inputs)
            return own if set(own) <= {1, result.low.size // _axis(result)} else (1, 1)
    return (blocks,) * len(inputs)


def _restricted(operation: Operation) -> Operation:
    """Return what an operation does in one block."""
    match operation:
        case Affine(scale=scale, offset=offset):
            return replace(operation, scale=scale.reshape(-1), offset=offset.reshape(-1))
        case Sum() | Max():
            return replace(operation, axis=0)
    return operation


def _folds(operation: Sum | Max, x: Range, pack: int) -> bool:
    """Return whether an operation folds an axis before the last, with whole beats on the axes after it."""
    return operation.axis < len(x.shape) - 1 and math.prod(x.shape[operation.axis + 1 :]) % pack == 0


def step(node: Node) -> Step:
    """Return what hls4ml is told about a layer: its attributes and formats.

    Raises:
        UnsupportedError: A constant has more than 53 bits.
    """
    if not node.operands:
        return Step({"class_name": "InputLayer"}, {})
    told = describe(node.operation, node.result, *node.operands)
    if not node.pattern:
        return told
    sizes = [x.low.size for x in node.operands]
    members = {
        "blocks": {"block_in": sizes[0], "blocks": max(node.blocks)},
        "pairs": {"first_in": sizes[0], "second_in": sizes[-1], "blocks": max(node.blocks)}
        | {"first_blocks": node.blocks[0], "second_blocks": node.blocks[-1]},
        "windows": {"block_in": sizes[0]} | _geometry(node),
        "fold": {},
    }[node.pattern]
    lines = [f"static const unsigned {name} = {number};" for name, number in members.items()]
    attributes = dict(told.attributes) | {"pattern": node.pattern, "is_pipelined": max(node.blocks) > 1}
    if attributes["class_name"] == "Dense":
        attributes["class_name"] = "DenseBlocks"
    attributes["members"] = [*lines, *attributes.get("members", ()), *_folding(node)]
    return Step(attributes, told.formats)


def _folding(node: Node) -> list[str]:
    """Return the members that say how `fold` takes one element more, and what the result is made of."""
    if node.pattern != "fold":
        return []
    combine, finish = "template <class data_T> static held_t combine", "template <class res_T> static res_T finish"
    if isinstance(node.operation, Max):
        return [
            f"typedef {cpp_type(container(node.operands[0]))} held_t;",
            f"{combine}(held_t held, data_T x) {{ return x > held ? held_t(x) : held; }}",
            f"{finish}(held_t held) {{ return res_T(held); }}",
        ]
    return [
        f"{combine}(held_t held, data_T x) {{ return held_t(held + x); }}",
        f"{finish}(held_t held) {{ return nnet::exact::move_point<res_T>(held); }}",
    ]


def _geometry(node: Node) -> dict[str, int]:
    """Return sizes of the image, of the windows, and of the padding around."""
    if node.image is None:
        return {}
    patches, image = node.image
    height, width, channels = image.shape
    numbers = {"height": height, "width": width, "channels": channels}
    for name, (rows, columns) in (("kernel", patches.kernel), ("pad", patches.padding), ("stride", patches.stride)):
        numbers |= {f"{name}_height": rows, f"{name}_width": columns}
    return numbers
