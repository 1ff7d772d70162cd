"""What a study has asked, started and been told: a state that follows from its journal alone."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from codesign.core.architecture import Architecture
from codesign.core.errors import InvalidValueError
from codesign.core.task import Objective
from codesign.core.trial import Fidelity, Trial
from codesign.search.halving import Halving, promoted
from codesign.search.pool import Job, Outcome
from codesign.search.proposals import Proposer

STARTS = 2  # an evaluation that fails is started once more
CRASHES = 3  # starts after which a trial that took the whole study down each time is given up


class Driver:
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
        is_partial = fidelity != self._plan.rungs[-1]
        trial = Trial(number, architecture, self._seed_of(number), fidelity, choices=choices, is_partial=is_partial)
        rejected = {k: v for k, v in self._proposer.rejected.items() if k not in self._written}
        return {"event": "ask", "number": number, "trial": trial.to_json(), "rejected": rejected}

    def _seed_of(self, number: int) -> int:
        return int(np.random.SeedSequence([self._seed, number]).generate_state(1)[0])

    def give_up(self, record: Callable[..., None]) -> list[Trial]:
        """Return, as failed, the trials during which the study itself ended again and again."""
        lost = [number for number in self._again if self._starts[number] >= CRASHES]
        self._again = [number for number in self._again if number not in lost]
        outcome = Outcome(failure=f"The study ended {CRASHES} times while this trial ran.")
        return [self._tell(self._jobs[number], outcome, record) for number in lost]

    def conclude(self, job: Job, outcome: Outcome, record: Callable[..., None]) -> Trial | None:
        """Return the trial of an evaluation that has ended, after writing it down; `None` if it is started again."""
        outcome = self._checked(outcome)
        if outcome.is_worth_retrying and self._starts[job.number] < STARTS:
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

    def replay(self, events: Sequence[Mapping[str, Any]]) -> list[Trial]:
        """Restore the state that a journal describes, and return the trials that nobody may have seen."""
        seen = set()
        for event in events[1:]:
            if event["event"] == "seen":
                seen.add(event["number"])
            else:
                self._apply(event)
        self._again = sorted(self._jobs)
        return [trial for trial in self.trials if trial.number not in seen]
