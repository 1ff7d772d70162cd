"""A study: ask for architectures, evaluate them, write everything down first, survive whatever happens."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from codesign.core import plugins
from codesign.core.architecture import Architecture
from codesign.core.errors import CodesignError, InvalidValueError
from codesign.core.pareto import front
from codesign.core.space import SearchSpace
from codesign.core.task import Objective
from codesign.core.trial import Fidelity, Trial
from codesign.search.halving import Halving, ordered, promoted
from codesign.search.journal import Journal
from codesign.search.pool import Evaluate, Job, Outcome, open_pool
from codesign.search.progress import Progress
from codesign.search.proposals import Precheck, Proposer
from codesign.search.space import digest, find_choices

ALGORITHMS = "search/algorithms"
_STARTS = 2  # an evaluation that fails is started once more
_CRASHES = 3  # starts after which a trial that took the whole study down each time is given up


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
        return front([t for t in self.trials if t.fidelity == self.full], self.objectives)

    @property
    def failures(self) -> Counter[str]:
        """How many trials failed, by cause."""
        return Counter(t.failure for t in self.trials if t.failure)

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
    _check(space, objectives, trials, workers, time_limit_s, fidelity, plan)
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
    driver = _Driver(proposer, tuple(objectives), plan, trials, seed)
    header = {
        "space": digest(space),
        "objectives": [str(o) for o in objectives],
        "seed": seed,
        "algorithm": algorithm,
        "rungs": [vars(f) for f in plan.rungs],
    }
    with ExitStack() as stack:
        events = stack.enter_context(Journal(journal)) if journal else None
        record = events.write if events else _forget
        unseen = driver.replay(events.events, header, journal) if events else []
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
                trial = driver.conclude(job, outcome, record)
                if trial is not None:
                    finish(trial)
    if not driver.trials:
        reasons = Counter(proposer.rejected.values()).most_common(1)
        raise InvalidValueError(
            f"No architecture of the space can be tried; {len(proposer.rejected)} were looked at"
            + (f", and most were refused so: {reasons[0][0]}." if reasons else ".")
        )
    return Study(tuple(driver.trials), tuple(objectives), fidelity, proposer.saved(), driver.is_exhausted)


def _forget(event: Mapping[str, Any], *, is_durable: bool = True) -> None:
    """Take the place of a journal where there is none."""


class _Driver:
    """The state of a running study. Every change follows from an event, so replaying a journal restores it."""

    def __init__(
        self, proposer: Proposer, objectives: tuple[Objective, ...], plan: Halving, budget: int, seed: int
    ) -> None:
        self._proposer, self._objectives, self._plan = proposer, objectives, plan
        self._budget, self._seed = budget, seed
        self._asks: dict[int, Mapping[str, Any]] = {}
        self._jobs: dict[int, Job] = {}  # asked and not yet told
        self._starts: Counter[int] = Counter()
        self._again: list[int] = []  # numbers to be started again
        self._digests: set[str] = set()
        self._written: set[str] = set()  # rejections that are in the journal
        self.trials: list[Trial] = []
        self.is_exhausted = False

    def architectures_done(self) -> int:
        """Return how many architectures have ended at one fidelity or more."""
        return len({t.architecture.digest for t in self.trials})

    def next_job(self, record: Callable[..., None]) -> Job | None:
        """Return what to evaluate now, after writing it down; `None` if nothing is due."""
        if self._again:
            number = self._again.pop(0)
            event: dict[str, Any] = {"event": "start", "number": number}
        else:
            number = len(self._asks)
            found = self._promotion(number) or self._new(number)
            if found is None:
                return None
            event = found
        record(event)
        self._apply(event)
        return self._jobs[number]

    def _promotion(self, number: int) -> dict[str, Any] | None:
        running = {(job.architecture.digest, job.fidelity) for job in self._jobs.values()}
        found = promoted(self.trials, running, self._objectives, self._plan)
        if found is None:
            return None
        trial, above = found
        return self._ask(number, trial.architecture, trial.choices, above)

    def _new(self, number: int) -> dict[str, Any] | None:
        if len(self._digests) >= self._budget or self.is_exhausted:
            return None
        sequence = np.random.SeedSequence([self._seed, number], spawn_key=(1,))
        proposal = self._proposer.propose(sequence)
        if proposal is None:
            self.is_exhausted = not self._jobs
            return None
        is_control = np.random.default_rng(sequence.spawn(1)[0]).random() < self._plan.control
        rung = -1 if proposal.is_given or is_control else 0
        return self._ask(number, proposal.architecture, proposal.choices, self._plan.rungs[rung])

    def _ask(
        self, number: int, architecture: Architecture, choices: Mapping[str, int], fidelity: Fidelity
    ) -> dict[str, Any]:
        trial = Trial(number, architecture, self._seed_of(number), fidelity, choices=choices)
        rejected = {k: v for k, v in self._proposer.rejected.items() if k not in self._written}
        return {"event": "ask", "number": number, "trial": trial.to_json(), "rejected": rejected}

    def _seed_of(self, number: int) -> int:
        return int(np.random.SeedSequence([self._seed, number]).generate_state(1)[0])

    def give_up(self, record: Callable[..., None]) -> list[Trial]:
        """Return, as failed, the trials during which the study itself ended again and again."""
        lost = [number for number in self._again if self._starts[number] >= _CRASHES]
        self._again = [number for number in self._again if number not in lost]
        outcome = Outcome(failure=f"The study ended {_CRASHES} times while this trial ran.")
        return [self._tell(self._jobs[number], outcome, record) for number in lost]

    def conclude(self, job: Job, outcome: Outcome, record: Callable[..., None]) -> Trial | None:
        """Return the trial of an evaluation that has ended, after writing it down; `None` if it is started again."""
        outcome = self._checked(outcome)
        if outcome.is_worth_retrying and self._starts[job.number] < _STARTS:
            self._again.append(job.number)
            return None
        return self._tell(job, outcome, record)

    def _tell(self, job: Job, outcome: Outcome, record: Callable[..., None]) -> Trial:
        asked = Trial.from_json(self._asks[job.number]["trial"])
        trial = replace(asked, metrics=outcome.metrics, failure=outcome.failure).judged(self._objectives)
        event = {"event": "tell", "number": job.number, "trial": trial.to_json()}
        record(event)
        self._apply(event)
        return self.trials[-1]

    def _checked(self, outcome: Outcome) -> Outcome:
        """Return the outcome, or a failure if a metric is not a finite number."""
        if outcome.failure:
            return outcome
        for objective in self._objectives:
            if objective.metric not in outcome.metrics:
                raise InvalidValueError(
                    f"Objective {objective.metric!r} is no metric of a trial; "
                    f"allowed: {', '.join(sorted(outcome.metrics))}."
                )
        broken = sorted(k for k, v in outcome.metrics.items() if not math.isfinite(v))
        return Outcome(failure=f"The metric {broken[0]} is not finite.") if broken else outcome

    def _apply(self, event: Mapping[str, Any]) -> None:
        number = event["number"]
        if event["event"] == "ask":
            trial = Trial.from_json(event["trial"])
            self._asks[number] = event
            self._jobs[number] = Job(trial.architecture, trial.fidelity, trial.seed, number)
            self._starts[number] = 1
            self._digests.add(trial.architecture.digest)
            self._proposer.rejected |= event["rejected"]
            self._written |= set(event["rejected"])
            self._proposer.asked(number, trial.architecture, trial.choices)
        elif event["event"] == "start":
            self._starts[number] += 1
        elif event["event"] == "tell":
            trial = Trial.from_json(event["trial"])
            del self._jobs[number]
            self.trials.append(trial)
            self._proposer.told(trial)

    def replay(self, events: Sequence[Mapping[str, Any]], header: Mapping[str, Any], path: Path | None) -> list[Trial]:
        """Restore the state that a journal describes, and return the trials that nobody may have seen.

        Raises:
            InvalidValueError: The journal is of another study.
        """
        if not events:
            return []
        for key, value in header.items():
            if events[0].get(key) != value:
                raise InvalidValueError(
                    f"Journal {path} is of a study with another {key} ({events[0].get(key)} there, {value} here); "
                    "resume with the parameters it was started with, or start anew with another journal."
                )
        seen = set()
        for event in events[1:]:
            if event["event"] == "seen":
                seen.add(event["number"])
            else:
                self._apply(event)
        self._again = sorted(self._jobs)
        return [trial for trial in self.trials if trial.number not in seen]


def _check(
    space: SearchSpace,
    objectives: Sequence[Objective],
    trials: int,
    workers: int,
    time_limit_s: float | None,
    fidelity: Fidelity,
    plan: Halving,
) -> None:
    for name, value in (("trials", trials), ("workers", workers)):
        if value < 1:
            raise InvalidValueError(f"The number of {name} is {value}; allowed: 1 or more.")
    if time_limit_s is not None and not time_limit_s > 0:
        raise InvalidValueError(f"The time limit is {time_limit_s} s; allowed: above 0, or none.")
    if plan.rungs[-1] != fidelity:
        raise InvalidValueError(f"The last rung of halving is {plan.rungs[-1]}; it must be the full {fidelity}.")
    metrics = [o.metric for o in objectives]
    for metric in metrics:
        if metrics.count(metric) > 1:
            raise InvalidValueError(f"The metric {metric} is stated {metrics.count(metric)} times; state it once.")
    ranked = [o.metric for o in objectives if o.is_ranked]
    if not 1 <= len(ranked) <= 4:
        raise InvalidValueError(f"There are {len(ranked)} objectives ({', '.join(ranked)}); allowed: 1 to 4.")
    if space.size() < 1:
        raise InvalidValueError("The search space has no architecture; every hole needs an option that can be filled.")


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
