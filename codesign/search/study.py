"""A study: ask for architectures, evaluate them, write everything down first, survive whatever happens."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from codesign.core import plugins
from codesign.core.architecture import Architecture
from codesign.core.errors import CodesignError, InvalidValueError
from codesign.core.pareto import front
from codesign.core.space import SearchSpace
from codesign.core.task import Objective
from codesign.core.trial import Fidelity, Trial
from codesign.search.check import check_objectives, check_space, no_candidate
from codesign.search.driver import Driver
from codesign.search.halving import Halving, ordered
from codesign.search.journal import Journal, require_same_study
from codesign.search.pool import Evaluate, open_pool
from codesign.search.progress import Progress
from codesign.search.proposals import Precheck, Proposer
from codesign.search.space import digest, find_choices

ALGORITHMS = "search/algorithms"


@dataclass(frozen=True)
class Study:
    """What a study found.

    Attributes:
        trials: Every finished or failed trial, at every fidelity, in the order in which they ended.
        full: Fidelity of the front's trials.
        saved: Architectures that were not trained, by cause: invalid, limit, dominated.
        is_exhausted: True if the study ended early because no architecture was left that is new and worth a training.
    """

    trials: tuple[Trial, ...]
    objectives: tuple[Objective, ...]
    full: Fidelity
    saved: Mapping[str, int]
    is_exhausted: bool = False

    @property
    def front(self) -> list[Trial]:
        """Feasible trials at full fidelity that no other one dominates, best first by the first objective."""
        return front(self.trials, self.objectives)

    @property
    def failures(self) -> Counter[str]:
        """How many trials failed, by cause."""
        return Counter(t.failure for t in self.trials if t.failure)

    @property
    def cost(self) -> float:
        """Training that was spent, in trainings in full: epochs times the fraction of the data they saw."""
        full = self.full.epochs * self.full.data_fraction
        return sum(t.fidelity.epochs * t.fidelity.data_fraction for t in self.trials) / full

    def require_front(self) -> list[Trial]:
        """Return the front.

        Raises:
            InvalidValueError: It is empty.
        """
        if self.front:
            return self.front
        finished = [t for t in self.trials if not t.failure]
        if not finished:
            cause, count = self.failures.most_common(1)[0]
            raise InvalidValueError(f"All {len(self.trials)} trials failed, {count} of them so: {cause}")
        nearest = ordered(finished, self.objectives)[0]
        broken = "; ".join(nearest.violations) or "it was trained at a smaller fidelity only"
        raise InvalidValueError(
            f"None of {len(finished)} finished trials is feasible; the nearest is trial {nearest.number}: {broken}. "
            "Relax the limit, or allow more trials."
        )


def run_study(
    space: SearchSpace,
    objectives: Sequence[Objective],
    evaluate: Evaluate,
    *,
    trials: int,
    seed: int = 0,
    algorithm: str = "portfolio",
    workers: int = 1,
    fidelity: Fidelity,
    halving: Halving | None = None,
    journal: Path | None = None,
    enqueue: Sequence[Architecture] = (),
    history: Sequence[Trial] = (),
    precheck: Precheck | None = None,
    bounds: Mapping[str, float] | None = None,
    time_limit_s: float | None = None,
    on_trial: Callable[[Trial], None] | None = None,
    progress: bool = True,
) -> Study:
    """Search a space for the Pareto front of its objectives.

    With the same seed and one worker, the same architectures are tried in the same order, also if the study was killed
    and continued any number of times.

    Args:
        space: What is searched.
        objectives: What is optimized and limited.
        evaluate: Trains an architecture: takes it, a fidelity, a seed and the trial's number, and returns metrics. With
            several workers it is sent to other processes. Whatever it raises, or its end, is the trial's failure.
        trials: Number of architectures to try.
        seed: Seed of everything random; trial k gets a seed of its own from it.
        algorithm: How architectures are suggested: a file in `codesign/search/algorithms`.
        workers: Processes that evaluate at the same time.
        fidelity: Full fidelity.
        halving: If given, most architectures are trained at a smaller fidelity only.
        journal: File that makes the study survive a crash: if it exists, the study goes on where it stopped.
        enqueue: Architectures to try first, such as baselines; then follow the fronts of `history`.
        history: Trials of earlier studies of the same task, to learn from and not to repeat.
        precheck: Metrics of an architecture that no training can better, such as its hardware cost, where it is known:
            what breaks a limit by them, or is dominated whatever its training gives, is never trained.
        bounds: Best value that any architecture can reach, such as {"error": 0.0}, for metrics that `precheck` omits.
        time_limit_s: Longest time an evaluation may take; it then fails and is not repeated.
        on_trial: Called with each finished or failed trial; after a crash once more with one it may have missed.
        progress: Whether to show progress on standard error.

    Raises:
        InvalidValueError: A value that is not allowed, a journal of another study, or no architecture to try.
        UnknownNameError: There is no such algorithm.
    """
    plan = halving or Halving((fidelity,), control=0.0)
    _check(space, objectives, trials, workers, time_limit_s, fidelity, plan, bounds)
    past = _usable(history, space, objectives)
    proposer = Proposer(
        space,
        objectives,
        plugins.load(ALGORITHMS, algorithm).suggest,
        full=fidelity,
        given=(*enqueue, *(t.architecture for t in front([t for t in past if t.fidelity == fidelity], objectives))),
        history=past,
        precheck=precheck,
        bounds=bounds,
    )
    driver = Driver(proposer, tuple(objectives), plan, trials, seed)
    header = header_of(space, objectives, seed, algorithm, plan)
    with ExitStack() as stack:
        events = stack.enter_context(Journal(journal)) if journal else None
        record = events.write if events else _forget
        if events:
            require_same_study(events.events, header, events.path)
        unseen = driver.replay(events.events) if events else []
        if not (events and events.events):
            record({"event": "study", **header})
        bar = Progress(trials, objectives, is_shown=progress)
        stack.callback(bar.close)
        bar.update(driver.architectures_done(), driver.trials, is_resumed=True)

        def finish(trial: Trial) -> None:
            if on_trial is not None:
                on_trial(trial)
            record({"event": "seen", "number": trial.number}, is_durable=False)
            bar.update(driver.architectures_done(), driver.trials)

        for trial in (*unseen, *driver.give_up(record)):
            finish(trial)
        pool = stack.enter_context(open_pool(evaluate, workers, time_limit_s))
        while True:
            while pool.has_room() and (job := driver.next_job(record)) is not None:
                pool.submit(job)
            ended = pool.wait()
            if not ended:
                break
            for job, outcome in ended:
                concluded = driver.conclude(job, outcome, record)
                if concluded is not None:
                    finish(concluded)
    if not driver.trials:
        raise no_candidate(proposer.rejected)
    return Study(tuple(driver.trials), tuple(objectives), fidelity, proposer.saved(), driver.is_exhausted)


def header_of(
    space: SearchSpace, objectives: Sequence[Objective], seed: int, algorithm: str, plan: Halving
) -> dict[str, Any]:
    """Return what a journal says of its study first: what has to be the same when the study goes on."""
    return {
        "space": digest(space),
        "objectives": [str(o) for o in objectives],
        "seed": seed,
        "algorithm": algorithm,
        "rungs": [vars(f) for f in plan.rungs],
    }


def _forget(event: Mapping[str, Any], *, is_durable: bool = True) -> None:
    """Take the place of a journal where there is none."""


def _check(
    space: SearchSpace,
    objectives: Sequence[Objective],
    trials: int,
    workers: int,
    time_limit_s: float | None,
    fidelity: Fidelity,
    plan: Halving,
    bounds: Mapping[str, float] | None,
) -> None:
    for name, value in (("trials", trials), ("workers", workers)):
        if value < 1:
            raise InvalidValueError(f"The number of {name} is {value}; allowed: 1 or more.")
    if time_limit_s is not None and not time_limit_s > 0:
        raise InvalidValueError(f"The time limit is {time_limit_s} s; allowed: above 0, or none.")
    if plan.rungs[-1] != fidelity:
        raise InvalidValueError(f"The last rung of halving is {plan.rungs[-1]}; it must be the full {fidelity}.")
    check_objectives(objectives, bounds=bounds)
    check_space(space)


def _usable(history: Sequence[Trial], space: SearchSpace, objectives: Sequence[Objective]) -> list[Trial]:
    """Return earlier trials as this study sees them: with its limits, with choices of its space."""
    usable = []
    for trial in history:
        if not trial.failure and any(o.metric not in trial.metrics for o in objectives):
            continue
        choices = dict(trial.choices)
        try:
            is_inside = bool(choices) and space.fill_from(choices).digest == trial.architecture.digest
        except (KeyError, CodesignError):
            is_inside = False
        choices = choices if is_inside else find_choices(space, trial.architecture)
        usable.append(replace(trial, choices=choices).judged(objectives))
    return usable
