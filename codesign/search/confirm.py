"""Train the members of a front again, with several seeds: what a search found once may have been luck."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from codesign.core.errors import InvalidValueError
from codesign.core.trial import Fidelity, Trial
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

    @property
    def mean(self) -> dict[str, float]:
        """Mean of each metric over the trainings."""
        return {key: float(np.mean(values)) for key, values in self._columns().items()}

    @property
    def std(self) -> dict[str, float]:
        """Sample standard deviation of each metric over the trainings; nothing if there is only one training."""
        return {key: float(np.std(values, ddof=1)) for key, values in self._columns().items() if len(values) > 1}

    def _columns(self) -> dict[str, list[float]]:
        return {key: [m[key] for m in self.metrics] for key in (self.metrics[0] if self.metrics else ())}


def confirm(
    front: Sequence[Trial],
    evaluate: Evaluate,
    *,
    fidelity: Fidelity,
    seeds: int = 3,
    seed: int = 0,
    workers: int = 1,
    first_number: int = 1_000_000,
    time_limit_s: float | None = None,
) -> list[Confirmation]:
    """Return each trial of a front with the metrics of `seeds` further trainings at full fidelity.

    Args:
        front: The trials, such as `Study.front`.
        evaluate: See `run_study`.
        fidelity: Full fidelity.
        seeds: Trainings of each architecture.
        seed: Seed from which the seeds of the trainings follow; none of them is a seed of the study.
        workers: Processes that evaluate at the same time.
        first_number: Trial number that `evaluate` receives for the first training; it counts up from there.
        time_limit_s: Longest time of a training.

    Raises:
        InvalidValueError: The number of seeds or workers is below 1.
    """
    for name, value in (("seeds", seeds), ("workers", workers)):
        if value < 1:
            raise InvalidValueError(f"The number of {name} is {value}; allowed: 1 or more.")
    jobs = [
        Job(trial.architecture, fidelity, _seed(seed, trial.number, k), first_number + i * seeds + k)
        for i, trial in enumerate(front)
        for k in range(seeds)
    ]
    outcomes: dict[int, Outcome] = {}
    waiting = jobs[::-1]
    with open_pool(evaluate, workers, time_limit_s) as pool:
        while len(outcomes) < len(jobs):
            while waiting and pool.has_room():
                pool.submit(waiting.pop())
            outcomes |= {job.number: outcome for job, outcome in pool.wait()}
    rows = [[outcomes[job.number] for job in jobs[i * seeds : (i + 1) * seeds]] for i in range(len(front))]
    return [
        Confirmation(
            trial,
            tuple(o.metrics for o in row if not o.failure),
            tuple(o.failure for o in row if o.failure),
        )
        for trial, row in zip(front, rows, strict=True)
    ]


def _seed(seed: int, number: int, k: int) -> int:
    return int(np.random.SeedSequence([seed, number, k], spawn_key=(2,)).generate_state(1)[0])
