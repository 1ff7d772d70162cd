"""The two ways to lay a network out as RTL, and which of them suits: every position at once, or one after the other."""

from __future__ import annotations

from dataclasses import dataclass

from codesign.backends import da4ml, streaming
from codesign.core.board import Board
from codesign.core.build import BuildPlan, Resources, Timing
from codesign.core.errors import UnsupportedError
from codesign.core.integer_network import IntegerNetwork
from codesign.core.operations import Patches

DATAFLOWS = ("auto", "parallel", "streaming")
LARGE_LUT = 100_000  # from here on, a convolutional network streams unless it is asked not to
HOPELESS = 2.0  # times the board: an unrolled network is not even traced


@dataclass(frozen=True)
class Dataflow:
    """How a network is laid out, and how far apart registers stand.

    Attributes:
        kind: "parallel" (unrolled, initiation interval 1) or "streaming" (a position a clock).
        cutoff: Adder delays between two registers.
    """

    kind: str
    cutoff: int = 5

    def estimate(self, network: IntegerNetwork, clock_ns: float = 5.0) -> tuple[Resources, Timing]:
        """Return resources and timing of the layout, before anything is built."""
        backend = streaming if self.kind == "streaming" else da4ml
        return backend.estimate(network, self.cutoff, clock_ns)

    def plan(self, network: IntegerNetwork, name: str) -> BuildPlan:
        """Return the Verilog behind its AXI-Stream shell."""
        backend = streaming if self.kind == "streaming" else da4ml
        return backend.plan(network, name, self.cutoff)

    def beats(self, network: IntegerNetwork) -> int:
        """Return in how many beats of the input stream a sample comes."""
        return streaming.beats(network) if self.kind == "streaming" else 1


def preferring(kind: str, network: IntegerNetwork) -> Dataflow:
    """Return the dataflow of a kind, for a search and a compression; a network that cannot stream is parallel."""
    return Dataflow(kind if kind != "streaming" or streams(network) else "parallel")


def streams(network: IntegerNetwork) -> bool:
    """Return whether a network can be computed position by position."""
    try:
        streaming.unrolled_lut(network)
    except UnsupportedError:
        return False
    return True


def choose(network: IntegerNetwork, board: Board, clock_ns: float, dataflow: str = "auto") -> Dataflow:
    """Return the layout of a network: the one asked for, or with "auto" the one that suits.

    Automatically, a network streams if it would exceed the board unrolled, or if it is convolutional and large.

    Args:
        network: The network.
        board: Where it shall run.
        clock_ns: Clock period; 0 for the board's.
        dataflow: One of DATAFLOWS.

    Raises:
        UnsupportedError: The network cannot stream but is asked to, or is asked to be unrolled and is far too large.
    """
    cutoff = da4ml.cutoff_for(board.family, board.with_clock(clock_ns))
    try:
        unrolled = streaming.unrolled_lut(network, cutoff)
    except UnsupportedError:
        if dataflow == "streaming":
            raise
        return Dataflow("parallel", cutoff)
    if dataflow == "parallel" and unrolled > HOPELESS * board.lut:
        raise UnsupportedError(
            f"Unrolled, the network needs about {unrolled:,.0f} LUT (estimate), {unrolled - board.lut:,.0f} more than "
            f"the {board.lut:,} of {board.title}. Use dataflow streaming, fewer bits or more pruning."
        )
    is_convolutional = any(isinstance(operation, Patches) for operation in network.operations)
    is_large = unrolled > board.lut or (is_convolutional and unrolled > LARGE_LUT)
    suits = "streaming" if is_large else "parallel"
    return Dataflow(suits if dataflow == "auto" else dataflow, cutoff)
