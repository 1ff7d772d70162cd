"""Make firmware of compressed networks, prove every view equal bit for bit, and register what passes every gate."""

from __future__ import annotations

from dataclasses import dataclass

from codesign.stages.options import StageOptions, option, run_as_command


@dataclass(frozen=True)
class Synthesize(StageOptions):
    """Parameters of `mlflow run . -e synthesize`."""

    from_run: str = option("", "id of the compression run to take networks from (empty: the newest finished one)")
    board: str = option("vu13p", "a file in codesign/boards")
    clock_ns: float = option(0.0, "clock period in nanoseconds (0: the board's)", minimum=0)
    candidates: int = option(1, "members of the compression front to be built", minimum=1)
    vectors: int = option(2000, "golden vectors that every view must reproduce", minimum=1000)


def run(options: Synthesize) -> str:
    """Build, prove, register, and return the id of the synthesis run."""
    raise SystemExit(options)


if __name__ == "__main__":
    run_as_command(Synthesize, run)
