"""Compress one candidate in a process of its own: every step ends in integers, with their metrics and their files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from tqdm import tqdm

from codesign.core.errors import InvalidValueError
from codesign.core.recipe import CompressionRecipe
from codesign.core.trial import Fidelity, Trial


@dataclass(frozen=True)
class Job:
    """One candidate and one recipe.

    Attributes:
        task: Reference of the task.
        model: Folder of the trained float network.
        candidate: The search trial it comes from.
        folder: Where each step leaves its files, in a folder of its own.
    """

    task: str
    model: Path
    recipe: CompressionRecipe
    candidate: Trial
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


def run_job(job: Job) -> list[tuple[Trial, Path]]:
    """Return a trial and the folder of its files for every step of a compression."""
    import torch

    from codesign.backends import qonnx
    from codesign.compress.compress import compress
    from codesign.jobs.context import load_task_and_data
    from codesign.jobs.evaluate import hardware_metrics
    from codesign.network import load_network
    from codesign.synthesis.vectors import golden_vectors

    torch.set_num_threads(1)
    task, data = load_task_and_data(job.task)
    found = []
    steps = compress(load_network(job.model), data, task, job.recipe, seed=job.seed, device=job.device)
    for i, step in enumerate(steps):
        folder = job.folder / f"step-{i}"
        step.network.save(folder)
        (folder / "architecture.json").write_text(step.architecture.to_json())
        qonnx.write(step.network, folder / "network.qonnx.onnx")
        golden_vectors(step.network, data.validation.inputs).save(folder / "golden.npz")
        metrics = dict(step.metrics) | hardware_metrics(step.network, step.architecture, job.recipe.bits)
        metrics |= {"bits": job.recipe.bits, "sparsity": step.sparsity, "search_trial": job.candidate.number}
        fidelity = Fidelity(job.recipe.epochs)
        found.append((Trial(i, step.architecture, job.seed, fidelity, metrics), folder))
    return found
