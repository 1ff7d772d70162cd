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
    Input,
    LeakyRelu,
    Linear,
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
        step: What hls4ml is told; a pattern that is not empty stands for a function of nnet_exact_stream.h.
        shape: Of the result: (elements,), or (beats, elements in a beat) of a stream.
    """

    index: int
    inputs: tuple[int, ...]
    step: Step
    shape: tuple[int, ...]


def parallel(network: IntegerNetwork) -> list[Node]:
    """Return a layer for each step; a dense layer at several positions has a block for each."""
    nodes = []
    for i, operation in enumerate(network.operations):
        result, inputs = network.ranges[i], [network.ranges[j] for j in operation.inputs]
        step = Step({"class_name": "InputLayer"}, {}) if not inputs else describe(operation, result, *inputs)
        blocks = _blocks(operation, result, *inputs) if isinstance(operation, Linear) else (1,)
        if blocks != (1,):
            step = _by_pattern("blocks", step, blocks, inputs)
        nodes.append(Node(i, operation.inputs, step, (result.low.size,)))
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
    inputs = [network.ranges[j] for j in operation.inputs]
    if isinstance(operation, Input):
        return Node(i, (), Step({"class_name": "InputLayer"}, {}), ()), _pack(_axis(result), result)
    before = network.operations[operation.inputs[0]]
    if isinstance(operation, Patches) or (isinstance(before, Patches) and operation.inputs[0] != sources[0]):
        windows = operation if isinstance(operation, Patches) else before
        assert isinstance(windows, Patches)
        step = _windows(operation, windows, result, inputs[0], network.ranges[windows.inputs[0]])
        return Node(i, sources, step, ()), _pack(_axis(result), result)
    if _folds(operation, inputs[0], packs[0]):
        assert isinstance(operation, Sum | Max)
        return Node(i, sources, _fold(operation, result, inputs[0]), ()), _pack(packs[0], result)
    blocks = _blocks(operation, result, *inputs, pack=packs[0] if len(set(packs)) == 1 else 0)
    count = max(blocks)
    parts = [_part(x, x.low.size // n) if count > 1 else x for x, n in zip(inputs, blocks, strict=True)]
    part = _part(result, result.low.size // count) if count > 1 else result
    step = describe(_restricted(operation, inputs[0]) if count > 1 else operation, part, *parts)
    pattern = "blocks" if len(inputs) == 1 else "pairs"
    step = _by_pattern(pattern, step, blocks, inputs)
    return Node(i, sources, step, ()), _pack(math.gcd(part.low.size, _axis(result)), result)


def _axis(x: Range) -> int:
    return x.shape[-1] if x.shape else 1


def _pack(elements: int, x: Range) -> int:
    """Return the largest number of elements that divides `elements` and fits into a beat."""
    most = BEAT_BITS // container(x).width
    return next(n for n in range(min(elements, most), 0, -1) if elements % n == 0)


def _part(x: Range, size: int) -> Range:
    """Return the range of any `size` elements of a tensor, in the same format."""
    return Range(np.full(size, x.low.min()), np.full(size, x.high.max()), x.fraction_bits)


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
        case Add() | Multiply() if pack and x.shape == inputs[1].shape:
            blocks = beats
        case Add() | Multiply():
            own = tuple(y.low.size // _axis(y) for y in inputs)
            return own if set(own) <= {1, result.low.size // _axis(result)} else (1, 1)
    return (blocks,) * len(inputs)


def _restricted(operation: Operation, x: Range) -> Operation:
    """Return what an operation does in one block."""
    match operation:
        case Affine(scale=scale, offset=offset):
            return replace(operation, scale=scale.reshape(-1), offset=offset.reshape(-1))
        case Sum() | Max():
            return replace(operation, axis=0)
    return operation


def _by_pattern(pattern: str, step: Step, blocks: tuple[int, ...], inputs: list[Range]) -> Step:
    sizes = [x.low.size // n for x, n in zip(inputs, blocks, strict=True)]
    if len(inputs) == 1:
        numbers = {"block_in": sizes[0]}
    else:
        numbers = {"first_in": sizes[0], "first_blocks": blocks[0], "second_in": sizes[1], "second_blocks": blocks[1]}
    return _with(pattern, step, numbers | {"blocks": max(blocks)}, is_pipelined=max(blocks) > 1)


def _with(pattern: str, step: Step, numbers: dict[str, int], *, is_pipelined: bool) -> Step:
    members = [f"static const unsigned {name} = {number};" for name, number in numbers.items()]
    attributes = dict(step.attributes)
    if attributes["class_name"] == "Dense":
        attributes["class_name"] = "DenseBlocks"
    attributes |= {"pattern": pattern, "is_pipelined": is_pipelined}
    return Step(attributes | {"members": [*members, *attributes.get("members", ())]}, step.formats)


def _folds(operation: Operation, x: Range, pack: int) -> bool:
    """Return whether an operation folds an axis before the last, with whole beats on the axes after it."""
    if not isinstance(operation, Sum | Max) or operation.axis == len(x.shape) - 1:
        return False
    return math.prod(x.shape[operation.axis + 1 :]) % pack == 0


def _fold(operation: Sum | Max, result: Range, x: Range) -> Step:
    """A sum or maximum over an axis before the last, beat by beat."""
    step = describe(operation, result, x)
    template = "template <class data_T> static"
    if isinstance(operation, Max):
        members = [
            f"typedef {cpp_type(container(x))} held_t;",
            f"{template} held_t combine(held_t held, data_T x) {{ return x > held ? held_t(x) : held; }}",
            "template <class res_T> static res_T finish(held_t held) { return res_T(held); }",
        ]
    else:
        members = [
            f"{template} held_t combine(held_t held, data_T x) {{ return held_t(held + x); }}",
            "template <class res_T> static res_T finish(held_t held) { return nnet::exact::move_point<res_T>(held); }",
        ]
    step = Step(step.attributes | {"members": [*step.attributes["members"], *members]}, step.formats)
    return _with("fold", step, {}, is_pipelined=True)


def _windows(operation: Operation, patches: Patches, result: Range, x: Range, image: Range) -> Step:
    """The windows of a convolution, or what a dense layer makes of each."""
    block = _axis(x if isinstance(operation, Linear) else result)
    part = Reshape((0,), (block,)) if isinstance(operation, Patches) else operation
    step = describe(part, _part(result, _axis(result)), _part(x, block))
    height, width, channels = image.shape
    numbers = {"height": height, "width": width, "channels": channels, "block_in": block}
    sizes = {"kernel": patches.kernel, "pad": patches.padding, "stride": patches.stride}
    for name, (rows, columns) in sizes.items():
        numbers |= {f"{name}_height": rows, f"{name}_width": columns}
    return _with("windows", step, numbers, is_pipelined=True)
