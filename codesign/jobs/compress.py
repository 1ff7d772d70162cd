"""Compress one candidate in a process of its own: every step ends in integers, with their metrics and their files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from codesign.core.errors import CodesignError, InvalidValueError
from codesign.core.recipe import CompressionRecipe
from codesign.core.task import Data, Task
from codesign.core.trial import Fidelity, Trial
from codesign.jobs.context import load_task_and_data

if TYPE_CHECKING:
    from codesign.compress.compress import Checkpoint
    from codesign.network import Network
    from codesign.train import TrainOptions


@dataclass(frozen=True)
class Job:
    """One candidate and one recipe.

    Attributes:
        task: Reference of the task.
        model: Folder of the trained float network.
        candidate: The search trial it comes from.
        tuning: Trainings by which hyperparameters are chosen before the candidate is trained anew; 0 takes it as it is.
        folder: Where each step leaves its files, in a folder of its own.
    """

    task: str
    model: Path
    recipe: CompressionRecipe
    candidate: Trial
    tuning: int
    seed: int
    device: str
    folder: Path


def widths(text: str) -> tuple[int, ...]:
    """Return the bit widths of a list such as "8,6".

    Raises:
        InvalidValueError: A part is no whole number.
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdigit() for part in parts):
        raise InvalidValueError(f"Parameter bits is {text!r}; allowed: whole numbers with commas between, such as 8,6.")
    return tuple(int(part) for part in parts)


def in_parallel(jobs: Sequence[Job], workers: int) -> Iterator[list[tuple[Trial, Path]]]:
    """Run the jobs in up to `workers` processes and yield what each one found, in order; show how far it is."""
    shown = {"total": len(jobs), "desc": "compress", "unit": "recipe"}
    if workers == 1 or len(jobs) == 1:
        yield from tqdm(map(run_job, jobs), **shown)
        return
    with ProcessPoolExecutor(min(workers, len(jobs)), get_context("spawn")) as pool:
        yield from tqdm(pool.map(run_job, jobs), **shown)


def require_network(trials: Sequence[Trial]) -> None:
    """Check that a compression left a network that keeps every limit.

    Raises:
        InvalidValueError: It did not; says why.
    """
    finished = [trial for trial in trials if not trial.failure]
    if any(trial.is_candidate for trial in trials):
        return
    if not finished:
        raise InvalidValueError(
            f"All {len(trials)} compressions failed at their first step. One of them: {trials[0].failure}"
        )
    raise InvalidValueError(
        f"None of {len(finished)} compressed networks keeps every limit; the last one: "
        f"{'; '.join(finished[-1].violations)}. Compress more (sparsity, lut_target), or relax the limits of the "
        "search."
    )


def run_job(job: Job) -> list[tuple[Trial, Path]]:
    """Return a trial and the folder of its files for every step of a compression.

    If a step fails, the steps before it are kept, and the last trial returned holds the failure.
    """
    import torch

    from codesign.compress.compress import compress

    torch.set_num_threads(1)
    task, data = load_task_and_data(job.task)
    found: list[tuple[Trial, Path]] = []
    try:
        network, options = _float_network(job, task, data)
        for step in compress(network, data, task, job.recipe, seed=job.seed, device=job.device, options=options):
            found.append(_finished(job, step, data))  # noqa: PERF401 - a later failure must not lose it
    except CodesignError as error:
        folder = job.folder / f"step-{len(found)}"
        folder.mkdir(parents=True, exist_ok=True)
        fidelity = Fidelity(job.recipe.epochs)
        failed = Trial(len(found), job.candidate.architecture, job.seed, fidelity, failure=str(error))
        found.append((failed, folder))
    return found


def _float_network(job: Job, task: Task, data: Data) -> tuple[Network, TrainOptions]:
    """Return the candidate's network and the options that it is trained with from here on."""
    from codesign import network, train
    from codesign.search.tuning import tune

    trained, options = network.load_network(job.model), train.TrainOptions()
    if not job.tuning:
        return trained, options

    def loss_of(options: TrainOptions) -> float:
        candidate = network.build(trained.architecture, job.seed, starts_at_zero=True)
        result = train.train(candidate, data, task, options, seed=job.seed, device=job.device)
        return min(epoch.validation_loss for epoch in result.history)

    options = replace(options, epochs=job.candidate.fidelity.epochs)
    options = tune(loss_of, options, job.tuning, job.seed)
    trained = network.build(trained.architecture, job.seed, starts_at_zero=True)
    train.train(trained, data, task, options, seed=job.seed, device=job.device)
    return trained, options


def _finished(job: Job, step: Checkpoint, data: Data) -> tuple[Trial, Path]:
    """Write the files of a checkpoint and return its trial."""
    from codesign.backends import qonnx
    from codesign.jobs.evaluate import hardware_metrics
    from codesign.synthesis.vectors import golden_vectors

    folder = job.folder / f"step-{step.step}"
    step.network.save(folder)
    (folder / "architecture.json").write_text(step.architecture.to_json())
    qonnx.write(step.network, folder / "network.qonnx.onnx")
    golden_vectors(step.network, data.validation.inputs).save(folder / "golden.npz")
    dataflow = "streaming" if job.recipe.is_streamed else "parallel"
    metrics = dict(step.metrics)
    metrics |= hardware_metrics(step.network, step.architecture, job.recipe.bits, dataflow)
    metrics |= {
        "bits": job.recipe.bits,
        "sparsity": step.sparsity,
        "search_trial": job.candidate.number,
        "train_seconds": step.train_seconds,
    }
    return Trial(step.step, step.architecture, job.seed, Fidelity(job.recipe.epochs), metrics), folder
