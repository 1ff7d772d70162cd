"""Blocks and architectures: what a network is, before any weight exists."""

from __future__ import annotations

import hashlib
import json
from dataclasses import MISSING, dataclass, fields
from functools import cached_property
from typing import Any

from codesign.core import plugins
from codesign.core.errors import InvalidValueError, UnknownNameError, unknown_name
from codesign.core.layers import Layer, Shape, shape_after, with_shapes


@dataclass(frozen=True)
class Block:
    """A plug-in: one frozen dataclass in `codesign/blocks/<name>.py`, named <Name> in camel case.

    Its fields are JSON scalars, or tuples of them; in a search space a field may hold a `Choice` instead.
    """

    @property
    def name(self) -> str:
        """Name of the block: the name of its file."""
        return type(self).__module__.rsplit(".", 1)[-1]

    def layers(self, shape: Shape) -> tuple[Layer, ...]:
        """Return the primitive layers that the block stands for, where `shape` goes in."""
        raise NotImplementedError


@dataclass(frozen=True)
class Architecture:
    """Blocks in a row, from an input shape (without the batch).

    Raises:
        InvalidValueError: The shapes of the blocks do not fit.
    """

    input_shape: Shape
    blocks: tuple[Block, ...]

    def __post_init__(self) -> None:
        _ = self.output_shape

    @cached_property
    def layers(self) -> tuple[Layer, ...]:
        """The primitive layers of all blocks in a row."""
        shape = self.input_shape
        layers: list[Layer] = []
        for block in self.blocks:
            new = block.layers(shape)
            layers += new
            shape = shape_after(new, shape)
        return tuple(layers)

    @cached_property
    def output_shape(self) -> Shape:
        """Shape of the output without the batch."""
        return shape_after(self.layers, self.input_shape)

    @property
    def is_buildable(self) -> bool:
        """True if hardware can be built exactly of every layer."""
        return not any(layer.float_only for layer in self.layers)

    def shapes(self) -> tuple[Shape, ...]:
        """Return the shape that reaches each layer, and last the output's."""
        return (*(shape for _, shape in with_shapes(self.layers, self.input_shape)), self.output_shape)

    def macs(self) -> int:
        """Return the multiply-accumulate operations of one forward pass."""
        return sum(layer.macs(shape) for layer, shape in with_shapes(self.layers, self.input_shape))

    def parameters(self) -> int:
        """Return the number of trained parameters."""
        return sum(layer.parameters(shape) for layer, shape in with_shapes(self.layers, self.input_shape))

    def to_json(self) -> str:
        """Return canonical JSON text: equal architectures give equal text."""
        blocks = [{"block": b.name} | {f.name: getattr(b, f.name) for f in fields(b)} for b in self.blocks]
        return json.dumps({"input_shape": self.input_shape, "blocks": blocks}, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Architecture:
        """Return the architecture that `to_json` wrote.

        Raises:
            UnknownNameError: It names a block, or a field of one, that does not exist.
        """
        content = json.loads(text)
        return cls(tuple(content["input_shape"]), tuple(_block(b) for b in content["blocks"]))

    @cached_property
    def digest(self) -> str:
        """sha256 of the canonical JSON text."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def describe(self) -> str:
        """Return one line a person can read: the blocks, with the fields that differ from their defaults."""
        return " → ".join(_brief(b) for b in self.blocks)


def _brief(block: Block) -> str:
    values = [(f, getattr(block, f.name)) for f in fields(block)]
    shown = [f"{f.name}={value!r}" for f, value in values if f.default is MISSING or value != f.default]
    return f"{type(block).__name__}({', '.join(shown)})"


def _block(content: dict[str, Any]) -> Block:
    values = dict(content)
    cls = plugins.load_block(values.pop("block"))
    allowed = {f.name for f in fields(cls)}
    for name in values:
        if name not in allowed:
            raise unknown_name(f"field of block {cls.__name__}", name, allowed)
    block = cls(**{k: _tuple(v) for k, v in values.items()})
    if not isinstance(block, Block):
        raise InvalidValueError(f"{cls.__name__} is not a Block; derive it from codesign.core.architecture.Block.")
    return block


def _tuple(value: Any) -> Any:
    return tuple(_tuple(v) for v in value) if isinstance(value, list) else value


__all__ = ["Architecture", "Block", "UnknownNameError"]
