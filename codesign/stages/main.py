"""The whole flow: global search, local compression, synthesis, one after the other."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from codesign.stages import global_search, local_compress, synthesize
from codesign.stages.global_search import GlobalSearch
from codesign.stages.local_compress import LocalCompress
from codesign.stages.options import StageOptions, option, run_as_command
from codesign.stages.synthesize import Synthesize


@dataclass(frozen=True)
class Main(StageOptions):
    """Parameters of `mlflow run .`; what is not here keeps the default of its stage."""

    trials: int = option(40, "architectures to be tried by the search", minimum=1)
    epochs: int = option(10, "training epochs of a search trial", minimum=1)
    workers: int = option(2, "processes that work at the same time", minimum=1)
    board: str = option("vu13p", "a file in codesign/boards")
    clock_ns: float = option(0.0, "clock period in nanoseconds (0: the board's)", minimum=0)


def run(options: Main) -> str:
    """Run the three stages and return the id of the synthesis run."""
    from codesign.core.plugins import load_board
    from codesign.jobs.context import load_task_and_data
    from codesign.tracking.runs import start_stage

    load_board(options.board).with_clock(options.clock_ns)
    task, _ = load_task_and_data(options.task)
    common: dict[str, Any] = {"task": options.task, "seed": options.seed}
    with start_stage("main", task.name, asdict(options)) as tracked:
        found = global_search.run(
            GlobalSearch(**common, trials=options.trials, epochs=options.epochs, workers=options.workers)
        )
        compressed = local_compress.run(LocalCompress(**common, from_run=found, workers=options.workers))
        built = synthesize.run(
            Synthesize(**common, from_run=compressed, board=options.board, clock_ns=options.clock_ns)
        )
        tracked.describe(f"Search {found}, compression {compressed}, synthesis {built}: the runs below this one.")
    return built


if __name__ == "__main__":
    run_as_command(Main, run)
