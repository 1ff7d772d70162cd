"""Search architectures of a task by what a physicist wants: a small error on small hardware."""

from __future__ import annotations

from dataclasses import dataclass

from codesign.stages.options import StageOptions, option, run_as_command


@dataclass(frozen=True)
class GlobalSearch(StageOptions):
    """Parameters of `mlflow run . -e global_search`."""

    trials: int = option(40, "architectures to be tried", minimum=1)
    epochs: int = option(15, "training epochs of a trial at full fidelity", minimum=1)
    workers: int = option(2, "processes that train at the same time", minimum=1)
    resume: str = option("", "id of an interrupted search run, to go on where it stopped")
    from_run: str = option("", "id of an earlier search run of the task, to start from what it found")
    algorithm: str = option("portfolio", "how architectures are suggested: a file in codesign/search/algorithms")
    objectives: str = option("", "metrics and limits, such as error,lut_estimate<=30000 (empty: the task's own)")
    bits: int = option(0, "width of weights and activations in the hardware estimate (0: the task's own)", minimum=0)
    device: str = option("auto", "where to train: auto, cpu or cuda", choices=("auto", "cpu", "cuda"))


def run(options: GlobalSearch) -> str:
    """Search, track every trial, and return the id of the search run."""
    raise SystemExit(options)


if __name__ == "__main__":
    run_as_command(GlobalSearch, run)
