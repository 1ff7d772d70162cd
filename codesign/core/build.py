"""A build is data before it is an action: boards, build plans, resources and the evidence that views agree."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from codesign.core.errors import ExactnessError

Level = Literal["estimate", "synthesis", "routed", "measured"]


@dataclass(frozen=True)
class BuildPlan:
    """Files and the command that turns them into outputs, before anything is written or run.

    Attributes:
        files: Text by relative path, with forward slashes.
        command: Program and arguments, run in the folder of the files; empty if there is nothing to run.
        outputs: Relative paths that a successful run leaves behind.
        timeout_s: Longest time that the command may take.
    """

    name: str
    files: Mapping[str, str]
    command: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    timeout_s: float = 3600.0

    @property
    def digest(self) -> str:
        """sha256 of files and command: equal plans give equal results."""
        content = [sorted(self.files.items()), self.command, self.outputs]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()


@dataclass(frozen=True)
class Resources:
    """Hardware resources at one level; `None` is unknown, which differs from zero.

    Attributes:
        level: How the numbers were obtained; levels are never mixed in one ranking.
        tool: Program and version, or the name of the estimate.
        bram: Block RAM in kbit.
        fmax_mhz: Highest clock frequency, where the level knows it.
    """

    level: Level
    tool: str
    lut: float | None = None
    ff: float | None = None
    dsp: float | None = None
    bram: float | None = None
    fmax_mhz: float | None = None

    def meets(self, clock_ns: float) -> bool:
        """Return whether the design runs at a clock period, as far as this level knows its highest frequency."""
        return self.level == "estimate" or self.fmax_mhz is None or self.fmax_mhz * clock_ns >= 1e3

    def metrics(self) -> dict[str, float]:
        """Return the known numbers under their metric keys, such as lut_estimate or ff_synthesis."""
        numbers = {k: getattr(self, k) for k in ("lut", "ff", "dsp", "bram", "fmax_mhz")}
        return {f"{k}_{self.level}": float(v) for k, v in numbers.items() if v is not None}


@dataclass(frozen=True)
class Timing:
    """Latency and initiation interval in clock cycles at `clock_ns`; `is_simulated` if counted in an RTL simulation."""

    latency_cycles: int
    ii: int
    clock_ns: float
    is_simulated: bool = False

    @property
    def latency_ns(self) -> float:
        """Latency in nanoseconds."""
        return self.latency_cycles * self.clock_ns


@dataclass(frozen=True)
class Evidence:
    """What was compared with the emulator, on how many vectors, and how many differed.

    Attributes:
        view: Which view of the network: qonnx, hls4ml, rtl, netlist.
        tool: Program and version that ran the view.
        vectors: Vectors compared.
        mismatches: Vectors of which any output bit differed.
        first_mismatch: What differs first, in words; empty if nothing does.
    """

    view: str
    tool: str
    vectors: int
    mismatches: int
    first_mismatch: str = ""
    details: Mapping[str, float] = field(default_factory=dict)

    @property
    def is_exact(self) -> bool:
        """True if something was compared and nothing differed."""
        return self.vectors > 0 and self.mismatches == 0


def require_exact(evidence: Sequence[Evidence]) -> None:
    """Raise ExactnessError, naming the view and its first mismatch, unless there is evidence and all of it is exact."""
    broken = [e for e in evidence if not e.is_exact]
    if broken or not evidence:
        told = "; ".join(f"{e.view}: {e.mismatches} of {e.vectors} vectors differ ({e.first_mismatch})" for e in broken)
        raise ExactnessError(
            f"Views of the network are not proven equal: {told or 'none was compared'}. Nothing is promoted."
        )
