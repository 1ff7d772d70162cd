"""A search space is an architecture with holes; holes nest, so the space is hierarchical."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from codesign.core.architecture import Architecture, Block
from codesign.core.errors import InvalidValueError
from codesign.core.layers import Shape


@dataclass(frozen=True)
class Choice:
    """A hole: one of `options`, which may have holes themselves. `None` among a row of blocks means no block.

    Attributes:
        options: What may stand here.
        is_ordered: Neighbors are alike (widths, bits), so a sampler may step from one to the next.
    """

    options: tuple[Any, ...]
    is_ordered: bool = False

    def __post_init__(self) -> None:
        if not self.options:
            raise InvalidValueError("A choice of a search space has no options; allowed: one or more.")


@dataclass(frozen=True)
class Repeat:
    """A hole: `item` repeated as often as one of `counts` says.

    Every repetition has holes of its own; the k-th repetition has the same ones whatever the count.
    """

    item: Any
    counts: tuple[int, ...]


@dataclass(frozen=True)
class Hole:
    """One hole of a space.

    Attributes:
        label: Path of the hole in the space.
        options: How many options it has.
        is_ordered: Neighboring options are alike.
        conditions: (label, indices) of holes above; the hole is active if each of them has one of its indices.
    """

    label: str
    options: int
    is_ordered: bool
    conditions: tuple[tuple[str, tuple[int, ...]], ...]


def one_of(*options: Any) -> Choice:
    """Return a choice among unordered options."""
    return Choice(options)


def ordered(*options: Any) -> Choice:
    """Return a choice among options of which neighbors are alike."""
    return Choice(options, is_ordered=True)


@dataclass(frozen=True)
class SearchSpace:
    """Blocks in a row, with holes anywhere: in a block's field, in a tuple of one, in place of a block."""

    input_shape: Shape
    blocks: tuple[Any, ...]

    def fill(self, choose: Callable[[str, Choice], int]) -> Architecture:
        """Return an architecture.

        Args:
            choose: Returns the index of the option to take, for the label of a hole and its choice. It is called only
                for holes that are active, parents first.
        """
        blocks = _fill(self.blocks, "", choose)
        return Architecture(self.input_shape, blocks)

    def fill_from(self, choices: dict[str, int]) -> Architecture:
        """Return the architecture of a dictionary from label to index (labels that are not active may be missing)."""
        return self.fill(lambda label, _: choices[label])

    def holes(self) -> tuple[Hole, ...]:
        """Return every hole that can become active, parents first: the flat conditional vector of the space."""
        return tuple(_holes(self.blocks, "", ()))

    def size(self) -> int:
        """Return the number of ways to fill the holes."""
        return _size(self.blocks)


@dataclass(frozen=True)
class _Row:
    """Several things, spliced into the row they stand in."""

    items: tuple[Any, ...]


def _parts(node: Any) -> list[tuple[str, Any]]:
    """Return the labeled children of a block or a tuple; nothing for a value.

    Raises:
        InvalidValueError: A list or another container, in which holes would stay as they are.
    """
    if isinstance(node, list | set | dict):
        raise InvalidValueError(
            f"The search space has a {type(node).__name__} ({str(node)[:80]}); allowed: a tuple, in which holes are "
            "filled."
        )
    if isinstance(node, Block):
        return [(f.name, getattr(node, f.name)) for f in dataclasses.fields(node)]
    return [(str(i), item) for i, item in enumerate(node)] if isinstance(node, tuple) else []


def _join(path: str, name: str | int) -> str:
    return f"{path}.{name}" if path else str(name)


def _pick(path: str, hole: Choice | Repeat, choose: Callable[[str, Choice], int]) -> int:
    choice = hole if isinstance(hole, Choice) else Choice(hole.counts, is_ordered=True)
    index = choose(path, choice)
    if not 0 <= index < len(choice.options):
        raise InvalidValueError(f"Hole {path} was filled with option {index}; allowed: 0 to {len(choice.options) - 1}.")
    return index


def _fill(node: Any, path: str, choose: Callable[[str, Choice], int]) -> Any:
    if isinstance(node, Choice):
        index = _pick(path, node, choose)
        return _fill(node.options[index], _join(path, index), choose)
    if isinstance(node, Repeat):
        count = node.counts[_pick(path, node, choose)]
        return _Row(tuple(_fill(node.item, _join(path, k), choose) for k in range(count)))
    filled = {name: _fill(child, _join(path, name), choose) for name, child in _parts(node)}
    if isinstance(node, Block):
        return dataclasses.replace(node, **filled)
    if not isinstance(node, tuple):
        return node
    flat: list[Any] = []
    for item in filled.values():
        flat += item.items if isinstance(item, _Row) else [] if item is None else [item]
    return tuple(flat)


def _holes(node: Any, path: str, conditions: tuple[tuple[str, tuple[int, ...]], ...]) -> Iterator[Hole]:
    if isinstance(node, Choice):
        yield Hole(path, len(node.options), node.is_ordered, conditions)
        for i, option in enumerate(node.options):
            yield from _holes(option, _join(path, i), (*conditions, (path, (i,))))
    elif isinstance(node, Repeat):
        yield Hole(path, len(node.counts), True, conditions)
        for k in range(max(node.counts)):
            active = tuple(i for i, count in enumerate(node.counts) if count > k)
            yield from _holes(node.item, _join(path, k), (*conditions, (path, active)))
    else:
        for name, child in _parts(node):
            yield from _holes(child, _join(path, name), conditions)


def _size(node: Any) -> int:
    if isinstance(node, Choice):
        return sum(_size(option) for option in node.options)
    if isinstance(node, Repeat):
        return sum(_size(node.item) ** count for count in node.counts)
    return math.prod(_size(child) for _, child in _parts(node))
