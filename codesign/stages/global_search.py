"""Search architectures of a task by what a physicist wants: a small error on small hardware."""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass, replace

from codesign.core.trial import Fidelity, Trial
from codesign.stages.options import StageOptions, as_started, option, run_as_command


@dataclass(frozen=True)
class GlobalSearch(StageOptions):
    """Parameters of `mlflow run . -e global_search`."""

    trials: int = option(40, "architectures to be tried", minimum=1)
    epochs: int = option(10, "training epochs of a trial at full fidelity", minimum=1)
    rungs: int = option(
        1, "rungs of successive halving, each with a third of the epochs of the next (1: none)", minimum=1
    )
    confirm: int = option(3, "further trainings of each architecture of the front, for error bars", minimum=0)
    workers: int = option(2, "processes that train at the same time", minimum=1)
    resume: str = option("", "id of an interrupted search run, to go on where it stopped, with its parameters")
    from_run: str = option("", "ids of earlier search runs of the task, to start from what they found: a, or a,b")
    algorithm: str = option("portfolio", "how architectures are suggested: a file in codesign/search/algorithms")
    objectives: str = option("", "metrics and limits, such as error,lut_estimate<=30000 (empty: the task's own)")
    bits: int = option(0, "width of weights and activations in the hardware estimate (0: the task's own)", minimum=0)
    dataflow: str = option("", "hardware to search for (empty: the task's own)", choices=("", "parallel", "streaming"))
    stages: str = option("separate", "joint: a trial is compressed before it counts", choices=("separate", "joint"))
    device: str = option("auto", "where to train: auto, cpu or cuda", choices=("auto", "cpu", "cuda"))


def run(options: GlobalSearch) -> str:
    """Search, track every trial, train the front again, and return the id of the search run.

    Raises:
        CodesignError: A parameter names something that does not exist, the data is missing, or no trial finished.
    """
    from codesign.jobs.context import load_task_and_data, objectives_of, work_folder
    from codesign.jobs.evaluate import Evaluator, trial_folder
    from codesign.jobs.search import JOURNAL, Search, check, confirm_front, find, notes, numbers
    from codesign.search.halving import halving
    from codesign.tracking import lookup, runs
    from codesign.tracking.summary import log_study

    resume, journal = options.resume, None
    if resume:
        stated, journal = "" if options.task == GlobalSearch.task else options.task, work_folder(resume) / JOURNAL
        interrupted = lookup.find_interrupted("global_search", stated, resume, journal)
        options = as_started(replace(options, resume=""), interrupted.params)
    task, data = load_task_and_data(options.task)
    evaluator = Evaluator(
        task.name, options.bits or task.default_bits, None, options.device, options.stages == "joint",
        options.dataflow or task.default_dataflow,
    )  # fmt: skip
    history = lookup.load_history("global_search", task.name, options.from_run)
    search = Search(
        task, objectives_of(task, options.objectives), evaluator,
        halving(Fidelity(options.epochs), rungs=options.rungs), options.algorithm, options.trials, options.seed,
        options.workers, tuple(history),
    )  # fmt: skip
    check(search, journal)
    with runs.start_stage("global_search", task.name, asdict(options), resume) as tracked:
        folder = work_folder(tracked.id)

        def log(trial: Trial) -> None:
            files = {p.name: p for p in sorted(trial_folder(folder, trial.number).glob("*"))}
            tracked.log_trial(trial, files, seconds=trial.metrics.get("train_seconds", 0.0))

        study = find(search, folder, log)
        for trial in study.front:
            tracked.log_folder(trial_folder(folder, trial.number), f"front/{trial.number}")
        again = {c.trial.number: c.metrics for c in confirm_front(search, study, folder, options.confirm)}
        log_study(
            tracked, f"{task.title}: {data.source}", study.trials, search.objectives, task.baselines, notes(study),
            task.space, again,
        )  # fmt: skip
        tracked.log_metrics(numbers(study))
        study.require_front()
    shutil.rmtree(folder)
    print(f"{len(study.front)} architectures on the front; see {tracked.url}, which `make ui` shows")
    return tracked.id


if __name__ == "__main__":
    run_as_command(GlobalSearch, run)
