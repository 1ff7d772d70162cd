"""A board: a part with its resources, a clock and a way to program it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from codesign.core.build import Resources
from codesign.core.errors import InvalidValueError


@dataclass(frozen=True)
class Board:
    """What a design may use. One file `codesign/boards/<name>.py` each, with a constant `BOARD`.

    Attributes:
        part: Full ordering code of the FPGA.
        family: Which synthesis target: "xcup" (UltraScale+), "xc7" (7 series), "ecp5".
        clock_ns: Period of the default design clock.
        loader: Way to program it: a file name in `deploy/loaders/`, or empty.
        source: Data sheet of every number.
    """

    name: str
    title: str
    part: str
    family: Literal["xcup", "xc7", "ecp5"]
    clock_ns: float
    lut: int
    ff: int
    bram_kbit: int
    dsp: int
    loader: str
    source: str
    idcode: int | None = None

    def with_clock(self, clock_ns: float) -> float:
        """Return `clock_ns`, or the board's default clock if it is 0.

        Raises:
            InvalidValueError: The clock is negative or not finite.
        """
        if not 0 <= clock_ns < 1e6:
            raise InvalidValueError(
                f"The clock period is {clock_ns} ns; allowed: above 0, or 0 for the board's {self.clock_ns} ns."
            )
        return clock_ns or self.clock_ns

    def shortfalls(self, resources: Resources) -> list[str]:
        """Return what a design needs more of than the board has, and how much more, in words; none if it fits."""
        available = {"lut": self.lut, "ff": self.ff, "dsp": self.dsp, "bram": self.bram_kbit}
        told = []
        for name, limit in available.items():
            needed = getattr(resources, name)
            if needed is not None and needed > limit:
                unit = "kbit of BRAM" if name == "bram" else name.upper()
                told.append(
                    f"{needed:,.0f} {unit} ({resources.level}), {needed - limit:,.0f} more than the {limit:,} of "
                    f"{self.title}"
                )
        return told
