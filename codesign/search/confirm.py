"""Train the members of a front again, with several seeds: what a search found once may have been luck."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tqdm import tqdm

from codesign.core.errors import InvalidValueError
from codesign.core.trial import Fidelity, Trial
from codesign.search.journal import Journal
from codesign.search.pool import Evaluate, Job, Outcome, open_pool


@dataclass(frozen=True)
class Confirmation:
    """A trial and what further trainings of its architecture gave.

    Attributes:
        trial: The trial that was confirmed; its own metrics are not among those below, since it was chosen by them.
        metrics: Metrics of every further training that finished.
        failures: Why the others did not.
    """

    trial: Trial
    metrics: tuple[Mapping[str, float], ...] = field(default_factory=tuple)
    failures: tuple[str, ...] = ()


def confirm(
    front: Sequence[Trial],
    evaluate: Evaluate,
    *,
    fidelity: Fidelity,
    seeds: int = 3,
    seed: int = 0,
    workers: int = 1,
    journal: Path | None = None,
    time_limit_s: float | None = None,
    progress: bool = True,
) -> list[Confirmation]:
    """Return each trial of a front with the metrics of `seeds` further trainings at full fidelity.

    Args:
        front: The trials, such as `Study.front`.
        evaluate: See `run_study`. It receives the number of the trial that is confirmed.
        fidelity: Full fidelity.
        seeds: Trainings of each architecture.
        seed: Seed from which the seeds of the trainings follow; none of them is a seed of the study.
        workers: Processes that evaluate at the same time.
        journal: File in which every training that ends is written down; those it holds are not repeated.
        time_limit_s: Longest time of a training.
        progress: Whether to show progress on standard error, if that is a terminal.

    Raises:
        InvalidValueError: The number of seeds or workers is below 1.
    """
    for name, value in (("seeds", seeds), ("workers", workers)):
        if value < 1:
            raise InvalidValueError(f"The number of {name} is {value}; allowed: 1 or more.")
    rows = [[Job(t.architecture, fidelity, _seed(seed, t.number, k), t.number) for k in range(seeds)] for t in front]
    jobs = [job for row in rows for job in row]
    with ExitStack() as stack:
        events = stack.enter_context(Journal(journal)) if journal else None
        known = {e["job"]: Outcome(e["metrics"], e["failure"]) for e in (events.events if events else [])}
        outcomes = {_key(job): known[_key(job)] for job in jobs if _key(job) in known}
        waiting = [job for job in jobs if _key(job) not in known][::-1]
        bar = tqdm(total=len(jobs), initial=len(outcomes), unit="training", desc="confirming the front",
                   disable=not (progress and sys.stderr.isatty()))  # fmt: skip
        stack.callback(bar.close)
        pool = stack.enter_context(open_pool(evaluate, workers, time_limit_s))
        while len(outcomes) < len(jobs):
            while waiting and pool.has_room():
                pool.submit(waiting.pop())
            for job, outcome in pool.wait():
                if events:
                    events.write({"job": _key(job), "metrics": dict(outcome.metrics), "failure": outcome.failure})
                outcomes[_key(job)] = outcome
                bar.update()
    return [
        Confirmation(
            trial,
            tuple(o.metrics for o in found if not o.failure),
            tuple(o.failure for o in found if o.failure),
        )
        for trial, found in ((t, [outcomes[_key(job)] for job in row]) for t, row in zip(front, rows, strict=True))
    ]


def _seed(seed: int, number: int, k: int) -> int:
    return int(np.random.SeedSequence([seed, number, k], spawn_key=(2,)).generate_state(1)[0])


def _key(job: Job) -> str:
    """Return what tells the trainings of a run apart."""
    return f"{job.architecture.digest} {job.seed} {job.fidelity}"
