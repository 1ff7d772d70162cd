"""A network as kernels in a row and what stands between them: the records of `codesign.backends._schedule`.

Tensors are numbered as the steps of the network that they are results of; what is made of the result of step i beside
it has the number i plus a multiple of the number of steps.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from codesign.backends._localize import Axes
from codesign.core.operations import Operation

COLLECTED, TURNED, FITTED = 1, 2, 3  # multiples of the number of steps: collected, with axes in order, in another shape
KINDS = 4


@dataclass(frozen=True)
class Part:
    """What one kernel computes, for one position after the other or, in the head, for one sample after the other.

    Attributes:
        operations: By the number of their result; they see streams without position axes.
        taken: Tensors that come in, in order.
        given: Tensors that go out, in order; one may go out twice.
        beats: Positions of a sample.
    """

    operations: Mapping[int, Operation]
    taken: tuple[int, ...]
    given: tuple[int, ...]
    beats: int

    @property
    def entering(self) -> tuple[int, ...]:
        """Those of `taken` that the kernel takes; the others pass by it, to the part behind."""
        used = {j for operation in self.operations.values() for j in operation.inputs} | set(self.given)
        return tuple(i for i in self.taken if i in used)


@dataclass(frozen=True)
class Window:
    """What makes windows of streams; others accompany the window's anchor.

    Attributes:
        patches: Steps whose results the windows are.
    """

    patches: tuple[int, ...]


@dataclass(frozen=True)
class Sample:
    """What makes streams whole; others wait for it, and follow from the first position on.

    Attributes:
        wholes: By number of the whole tensor, the stream that it is made of: first those that are collected, then those
            that are summed or maximized over all positions, whose number is a step's own.
    """

    wholes: Mapping[int, int]


@dataclass(frozen=True)
class Later:
    """Nothing but time: what was made whole passes by a kernel, to meet its results.

    Attributes:
        wholes: By number.
    """

    wholes: tuple[int, ...]


@dataclass(frozen=True)
class Schedule:
    """A network as parts in a row.

    Attributes:
        parts: Those that work position by position, then the head.
        movements: What stands between each part and the next.
        positions: Axes of every stream that are positions, in the order in which positions come.
    """

    parts: tuple[Part, ...]
    movements: tuple[Window | Sample | Later, ...]
    positions: Mapping[int, Axes]
