"""A search space as hyperopt sees it, and the way back: hyperopt's point, choices by label, architecture."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

import numpy as np
from hyperopt.pyll import Apply, scope

from codesign.core.architecture import Architecture, Block
from codesign.core.space import Choice, Hole, Repeat, SearchSpace


def to_hyperopt(space: SearchSpace) -> dict[str, list[Apply]]:
    """Return the nested hyperopt space; `choices_of` reads the points that hyperopt draws from it.

    A hole of a repeated item is one node shared by all counts that reach it, so what is learned of it is learned once.
    An ordered hole is an index with a lower bound, `randint(0, n)`; an unordered one is `randint(n)`, as `hp.choice`
    makes it.
    """
    children: dict[tuple[str, int], list[Hole]] = defaultdict(list)
    holes = space.holes()
    for hole in holes:
        parent, indices = hole.conditions[-1] if hole.conditions else ("", (0,))
        for index in indices:
            children[parent, index].append(hole)
    nodes: dict[str, Apply] = {}
    for hole in reversed(holes):
        options = [
            {"hole": hole.label, "option": i, "inside": [nodes[child.label] for child in children[hole.label, i]]}
            for i in range(hole.options)
        ]
        draw = scope.randint(0, hole.options) if hole.is_ordered else scope.randint(hole.options)
        nodes[hole.label] = scope.switch(scope.hyperopt_param(hole.label, draw), *options)
    return {"inside": [nodes[hole.label] for hole in children["", 0]]}


def choices_of(point: Any) -> dict[str, int]:
    """Return the option of every active hole by label, from a point of `to_hyperopt`'s space."""
    choices: dict[str, int] = {}
    for hole in point["inside"]:
        choices |= {hole["hole"]: hole["option"]} | choices_of(hole)
    return choices


def sample(space: SearchSpace, rng: np.random.Generator) -> dict[str, int]:
    """Return the choices of a random architecture: every active hole takes one of its options, all alike."""
    choices: dict[str, int] = {}

    def choose(label: str, choice: Choice) -> int:
        choices[label] = int(rng.integers(len(choice.options)))
        return choices[label]

    space.fill(choose)
    return choices


def every_filling(space: SearchSpace) -> Iterator[dict[str, int]]:
    """Yield the choices of every architecture of the space, one by one (see `SearchSpace.size`)."""
    holes = space.holes()

    def extend(position: int, choices: dict[str, int]) -> Iterator[dict[str, int]]:
        if position == len(holes):
            yield choices
            return
        hole = holes[position]
        is_active = all(choices.get(label) in indices for label, indices in hole.conditions)
        for option in range(hole.options) if is_active else ():
            yield from extend(position + 1, choices | {hole.label: option})
        if not is_active:
            yield from extend(position + 1, choices)

    return extend(0, {})


def find_choices(space: SearchSpace, architecture: Architecture) -> dict[str, int]:
    """Return choices that give the architecture, or nothing if the space does not contain it."""
    if space.input_shape == architecture.input_shape:
        for matched, choices in _match(space.blocks, "", (architecture.blocks,)):
            if matched:
                return choices
    return {}


def digest(space: SearchSpace) -> str:
    """Return the sha256 of the space's content."""
    return hashlib.sha256(repr(space).encode()).hexdigest()


def _match(node: Any, path: str, row: tuple[Any, ...]) -> Iterator[tuple[int, dict[str, int]]]:
    """Yield how many leading entries of `row` the node can stand for, with the choices that make it so."""
    if isinstance(node, Choice):
        for i, option in enumerate(node.options):
            for used, choices in _match(option, f"{path}.{i}", row):
                yield used, {path: i} | choices
    elif isinstance(node, Repeat):
        for i, count in enumerate(node.counts):
            for used, choices in _match_row([(f"{path}.{k}", node.item) for k in range(count)], row):
                yield used, {path: i} | choices
    elif node is None:
        yield (1 if row[:1] == (None,) else 0), {}
    elif row and type(row[0]) is type(node):
        inside = _content(row[0])
        if isinstance(node, Block | tuple):
            parts = [(f"{path}.{name}" if path else name, part) for name, part in _content(node).items()]
            for used, choices in _match_row(parts, tuple(inside.values())):
                if used == len(inside):
                    yield 1, choices
        elif row[0] == node:
            yield 1, {}


def _content(node: Any) -> dict[str, Any]:
    """Return the fields of a block or the entries of a tuple; nothing for a value."""
    if isinstance(node, Block):
        return {f.name: getattr(node, f.name) for f in fields(node)}
    return {str(i): part for i, part in enumerate(node)} if isinstance(node, tuple) else {}


def _match_row(parts: list[tuple[str, Any]], row: tuple[Any, ...]) -> Iterator[tuple[int, dict[str, int]]]:
    if not parts:
        yield 0, {}
        return
    for used, first in _match(parts[0][1], parts[0][0], row):
        for more, rest in _match_row(parts[1:], row[used:]):
            yield used + more, first | rest
