"""The whole flow: global search, local compression, synthesis, one after the other."""

from __future__ import annotations

from dataclasses import dataclass

from codesign.stages import global_search, local_compress, synthesize
from codesign.stages.options import StageOptions, option, run_as_command


@dataclass(frozen=True)
class Main(StageOptions):
    """Parameters of `mlflow run .`; what is not here keeps the default of its stage."""

    trials: int = option(24, "architectures to be tried by the search", minimum=1)
    epochs: int = option(8, "training epochs of a search trial", minimum=1)
    workers: int = option(2, "processes that work at the same time", minimum=1)
    board: str = option("vu13p", "a file in codesign/boards")
    clock_ns: float = option(0.0, "clock period in nanoseconds (0: the board's)", minimum=0)


def run(options: Main) -> str:
    """Run the three stages and return the id of the synthesis run."""
    task, seed, workers = options.task, options.seed, options.workers
    search = global_search.run(
        global_search.GlobalSearch(task=task, seed=seed, trials=options.trials, epochs=options.epochs, workers=workers)
    )
    compressed = local_compress.run(
        local_compress.LocalCompress(task=task, seed=seed, from_run=search, workers=workers)
    )
    return synthesize.run(
        synthesize.Synthesize(task=task, seed=seed, from_run=compressed, board=options.board, clock_ns=options.clock_ns)
    )


if __name__ == "__main__":
    run_as_command(Main, run)
