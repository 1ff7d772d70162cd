"""Search architectures of a task by what a physicist wants: a small error on small hardware."""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass

from codesign.core.trial import Fidelity, Trial
from codesign.stages.options import StageOptions, option, run_as_command


@dataclass(frozen=True)
class GlobalSearch(StageOptions):
    """Parameters of `mlflow run . -e global_search`."""

    trials: int = option(40, "architectures to be tried", minimum=1)
    epochs: int = option(10, "training epochs of a trial at full fidelity", minimum=1)
    workers: int = option(2, "processes that train at the same time", minimum=1)
    resume: str = option("", "id of an interrupted search run, to go on where it stopped")
    from_run: str = option("", "id of an earlier search run of the task, to start from what it found")
    algorithm: str = option("portfolio", "how architectures are suggested: a file in codesign/search/algorithms")
    objectives: str = option("", "metrics and limits, such as error,lut_estimate<=30000 (empty: the task's own)")
    bits: int = option(0, "width of weights and activations in the hardware estimate (0: the task's own)", minimum=0)
    device: str = option("auto", "where to train: auto, cpu or cuda", choices=("auto", "cpu", "cuda"))


def run(options: GlobalSearch) -> str:
    """Search, track every trial, and return the id of the search run.

    Raises:
        CodesignError: A parameter names something that does not exist, the data is missing, or no trial finished.
    """
    from codesign.jobs.context import load_task_and_data, objectives_of, work_folder
    from codesign.jobs.evaluate import Evaluator, trial_folder
    from codesign.search.study import run_study
    from codesign.tracking import lookup, runs
    from codesign.tracking.summary import log_study

    task, data = load_task_and_data(options.task)
    objectives = objectives_of(task, options.objectives)
    history = (
        lookup.load_trials(lookup.find_run("global_search", task.name, options.from_run).id) if options.from_run else []
    )
    with runs.start_stage("global_search", task.name, asdict(options), options.resume) as tracked:
        folder = work_folder(tracked.id)
        evaluator = Evaluator(task.name, options.bits or task.default_bits, folder, options.device)

        def log(trial: Trial) -> None:
            files = {p.name: p for p in sorted(trial_folder(folder, trial.number).glob("*"))}
            tracked.log_trial(trial, files, seconds=trial.metrics.get("train_seconds", 0.0))

        study = run_study(
            task.space,
            objectives,
            evaluator,
            algorithm=options.algorithm,
            trials=options.trials,
            seed=options.seed,
            workers=options.workers,
            fidelity=Fidelity(options.epochs),
            journal=folder / "journal.jsonl",
            enqueue=[a for a in task.baselines.values() if a.is_buildable],
            history=history,
            precheck=evaluator.precheck,
            on_trial=log,
        )
        for trial in study.front:
            tracked.log_folder(trial_folder(folder, trial.number), f"front/{trial.number}")
        saved = ", ".join(f"{count} by {cause}" for cause, count in study.saved.items() if count) or "none"
        notes = f"\nArchitectures that never had to be trained: {saved}.\n"
        log_study(tracked, f"{task.title}: {data.source}", study.trials, objectives, task.baselines, notes)
        study.require_front()
    shutil.rmtree(folder)
    print(f"{len(study.front)} architectures on the front; see {tracked.url}, which `make ui` shows")
    return tracked.id


if __name__ == "__main__":
    run_as_command(GlobalSearch, run)
