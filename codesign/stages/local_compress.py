"""Compress the best architectures of a search: quantization-aware training at ever lower cost, down to integers."""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass, replace
from itertools import product

from codesign.core.recipe import GRANULARITIES, METHODS, CompressionRecipe
from codesign.core.trial import Trial
from codesign.jobs.compress import Job, in_parallel, require_network, widths
from codesign.stages.options import StageOptions, option, run_as_command


@dataclass(frozen=True)
class LocalCompress(StageOptions):
    """Parameters of `mlflow run . -e local_compress`."""

    from_run: str = option("", "id of the search run to take candidates from (empty: the newest finished one)")
    candidates: int = option(2, "members of the front to be compressed", minimum=1)
    method: str = option("learned", "learned precision, or one width and what is pruned", choices=METHODS)
    bits: str = option("8", "widths of weights and activations to try (learned precision starts from them)")
    granularity: str = option("single", "what shares a learned precision", choices=GRANULARITIES)
    dataflow: str = option("", "hardware to compress for (empty: the search's)", choices=("", "parallel", "streaming"))
    lut_target: float = option(0.0, "adder-graph cost that learned precision ends at (0: by sparsity)", minimum=0)
    sparsity: float = option(0.9, "fraction of the LUTs, weights or cost of neurons removed", minimum=0)
    steps: int = option(10, "steps that remove the same fraction of what remains, each with a training", minimum=1)
    epochs: int = option(2, "epochs of quantization-aware training in each step", minimum=1)
    learning_rate: float = option(5e-3, "learning rate at the start of each step")
    rewinding: str = option("no", "start each training after pruning from the first weights", choices=("no", "yes"))
    distillation: float = option(0.0, "share of the loss that compares with the float network's answers", minimum=0)
    tuning: int = option(0, "trainings that tune the hyperparameters of each candidate before (0: none)", minimum=0)
    workers: int = option(2, "processes that compress at the same time", minimum=1)
    device: str = option("auto", "where to train: auto, cpu or cuda", choices=("auto", "cpu", "cuda"))

    def recipe(self, bits: int) -> CompressionRecipe:
        """Return how to compress, starting from weights and activations of so many bits."""
        return CompressionRecipe(
            self.method,
            bits,
            self.granularity,
            sparsity=self.sparsity,
            lut_target=self.lut_target,
            steps=self.steps,
            epochs=self.epochs,
            learning_rate=self.learning_rate,
            is_rewound=self.rewinding == "yes",
            distillation=self.distillation,
        )


def run(options: LocalCompress) -> str:
    """Compress, track every step as a trial, and return the id of the compression run.

    Raises:
        CodesignError: A parameter is not allowed, or there is no search run to take candidates from.
    """
    from codesign.core.pareto import front, spread
    from codesign.jobs.context import dataflow_of, load_task_and_data, objectives_of, work_folder
    from codesign.tracking import lookup, runs
    from codesign.tracking.summary import log_study

    task, data = load_task_and_data(options.task)
    stated = [options.recipe(bits) for bits in widths(options.bits)]
    source = lookup.find_run("global_search", task.name, options.from_run)
    options = replace(options, from_run=source.id, dataflow=dataflow_of(task, options.dataflow, source.params))
    recipes = [replace(recipe, is_streamed=options.dataflow == "streaming") for recipe in stated]
    objectives = objectives_of(task, source.params.get("objectives", ""))
    candidates = spread(front(lookup.load_trials(source.id), objectives), objectives, options.candidates)
    with runs.start_stage("local_compress", task.name, asdict(options)) as tracked:
        folder = work_folder(tracked.id)
        jobs: list[Job] = []
        for candidate, recipe in product(candidates, recipes):
            model = lookup.download(source.id, f"front/{candidate.number}", folder / "models")
            job = folder / f"job-{len(jobs)}"
            jobs.append(Job(task.name, model, recipe, candidate, options.tuning, options.seed, options.device, job))
        trials: list[Trial] = []
        for outcome in in_parallel(jobs, options.workers):
            for found, files in outcome:
                trials.append(replace(found, number=len(trials)).judged(objectives))
                tracked.log_trial(trials[-1], {p.name: p for p in sorted(files.glob("*"))})
                files.rename(folder / str(trials[-1].number))
        for trial in front(trials, objectives):
            tracked.log_folder(folder / str(trial.number), f"front/{trial.number}")
        log_study(tracked, f"{task.title}, compressed: {data.source}", trials, objectives)
        require_network(trials)
    shutil.rmtree(folder)
    print(f"{len(front(trials, objectives))} networks on the front; see {tracked.url}, which `make ui` shows")
    return tracked.id


if __name__ == "__main__":
    run_as_command(LocalCompress, run)
