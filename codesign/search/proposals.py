"""Which architecture to evaluate next: known ones first, then what the algorithm suggests, never one twice."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from hyperopt import STATUS_FAIL, STATUS_OK, Domain, Trials
from hyperopt.base import JOB_STATE_DONE

from codesign.core.architecture import Architecture
from codesign.core.errors import CodesignError
from codesign.core.space import SearchSpace
from codesign.core.task import Objective
from codesign.core.trial import Fidelity, Trial
from codesign.search.space import choices_of, every_filling, find_choices, sample, to_hyperopt
from codesign.search.suggest import Suggest, Values, trial_documents

Precheck = Callable[[Architecture], Mapping[str, float]]
_ENUMERABLE = 20_000  # fillings of a space that is searched to its end when suggestions repeat themselves
_DRAWS = 300  # random architectures looked at in a larger space


@dataclass(frozen=True)
class Proposal:
    """An architecture to be evaluated, with its choices if the space contains it."""

    architecture: Architecture
    choices: Mapping[str, int]
    is_given: bool = False


class Proposer:
    """The state behind suggestions; it depends only on what was asked and told, so that replaying both restores it.

    Args:
        space: The search space.
        objectives: What is optimized and limited.
        suggest: The algorithm.
        full: Fidelity at which trials are compared.
        given: Architectures to be proposed first, inside the space or not.
        history: Trials of earlier studies, to learn from and not to repeat.
        precheck: Metrics of an architecture that no training can better.
        bounds: Best value that a metric can have.
    """

    def __init__(
        self,
        space: SearchSpace,
        objectives: Sequence[Objective],
        suggest: Suggest,
        *,
        full: Fidelity,
        given: Iterable[Architecture] = (),
        history: Sequence[Trial] = (),
        precheck: Precheck | None = None,
        bounds: Mapping[str, float] | None = None,
    ) -> None:
        self._space, self._objectives, self._suggest, self._full = space, objectives, suggest, full
        self._ranked = [o for o in objectives if o.is_ranked]
        self._precheck = precheck
        self._best = np.array([o.cost(bounds) if bounds and o.metric in bounds else -math.inf for o in self._ranked])
        self._domain, self._trials = Domain(choices_of, to_hyperopt(space)), Trials()
        self._docs: dict[int, dict[str, Any]] = {}  # of trials that are being evaluated
        self._prechecked: dict[str, Mapping[str, float]] = {}
        self._asked: set[str] = set()
        self._finished: list[np.ndarray] = []  # costs of feasible trials at full fidelity
        self._rest = every_filling(space) if space.size() <= _ENUMERABLE else None
        self.rejected: dict[str, str] = {}
        self._given = list({a.digest: a for a in given}.values())
        self._past = {t.architecture.digest for t in history if t.fidelity == full}
        for number, trial in enumerate(history, start=-len(history)):
            if trial.choices:
                self._docs[number] = self._document(trial.choices)
            self.told(replace(trial, number=number))

    def propose(self, seed: np.random.SeedSequence) -> Proposal | None:
        """Return what to evaluate next, or `None` if no architecture is left that is new and worth an evaluation."""
        while self._given:
            architecture = self._given.pop(0)
            if architecture.digest not in self._asked:
                return Proposal(architecture, find_choices(self._space, architecture), is_given=True)
        first, second = (int(s) for s in seed.generate_state(2))
        docs = self._suggest([len(self._trials.trials)], self._domain, self._trials, first, self.accepts)
        values = {label: v[0] for label, v in docs[0]["misc"]["vals"].items() if len(v)}
        for candidate in itertools.chain([values], self._others(np.random.default_rng(second))):
            if self.accepts(candidate):
                choices = {label: int(option) for label, option in candidate.items()}
                return Proposal(self._space.fill_from(choices), choices)
        return None

    def _others(self, rng: np.random.Generator) -> Iterator[Values]:
        if self._rest is None:
            for _ in range(_DRAWS):
                yield sample(self._space, rng)
        else:
            yield from self._rest  # what was refused once stays refused, so no filling is looked at twice

    def asked(self, number: int, architecture: Architecture, choices: Mapping[str, int]) -> None:
        """Record that an architecture is being evaluated."""
        self._asked.add(architecture.digest)
        self._given = [a for a in self._given if a.digest != architecture.digest]
        if choices:
            self._docs[number] = self._document(choices)

    def told(self, trial: Trial) -> None:
        """Record the result of a trial that was asked."""
        losses = [] if trial.failure else [o.cost(trial.metrics) for o in self._ranked]
        if trial.fidelity == self._full and trial.is_feasible:
            self._finished.append(np.array(losses))
        if trial.number in self._docs:
            doc = self._docs.pop(trial.number)
            doc["state"] = JOB_STATE_DONE
            doc["result"] = {"status": STATUS_FAIL if trial.failure else STATUS_OK, "losses": losses}
            if losses:
                violation = math.fsum(o.violation(trial.metrics) for o in self._objectives)
                doc["result"] |= {"loss": losses[0], "violation": violation}

    def _document(self, choices: Mapping[str, int]) -> dict[str, Any]:
        """Return hyperopt's document of a new trial, part of its history."""
        docs = trial_documents(len(self._trials.trials), choices, self._domain, self._trials)
        self._trials.insert_trial_docs(docs)
        self._trials.refresh()
        inserted: dict[str, Any] = self._trials.trials[-1]
        return inserted

    def accepts(self, choices: Values) -> bool:
        """Return whether an architecture is new and worth an evaluation; if not, remember why in `rejected`."""
        try:
            architecture = self._space.fill_from(dict(choices))
            if architecture.digest in self._asked or self.is_refused(architecture.digest):
                return False
            metrics = self._metrics(architecture)
        except CodesignError as error:  # shapes that do not fit, or nothing that could be built
            self.rejected[repr(sorted(choices.items()))] = f"invalid: {error}"
            return False
        reason = self._reason_against(metrics)
        if reason:
            self.rejected[architecture.digest] = reason
        return not reason

    def is_refused(self, digest: str) -> bool:
        """Return whether an architecture was tried in an earlier study, or refused in this one, which is for good."""
        return digest in self._past or digest in self.rejected

    def _metrics(self, architecture: Architecture) -> Mapping[str, float]:
        if self._precheck is None:
            return {}
        if architecture.digest not in self._prechecked:
            self._prechecked[architecture.digest] = self._precheck(architecture)
        return self._prechecked[architecture.digest]

    def _reason_against(self, metrics: Mapping[str, float]) -> str:
        for o in self._objectives:
            if o.metric in metrics and o.violation(metrics) > 0:
                return f"limit: {o.metric} is {metrics[o.metric]:g}, limit {o.limit:g}"
        known = np.array([o.cost(metrics) if o.metric in metrics else math.nan for o in self._ranked])
        best = np.where(np.isnan(known), self._best, known)
        finished = np.array(self._finished).reshape(-1, len(best))
        if ((finished <= best).all(axis=1) & (finished < best).any(axis=1)).any():
            return "dominated: a finished trial is better whatever the training gives"
        return ""

    def saved(self) -> Counter[str]:
        """Return how many architectures were not trained, by cause: invalid, limit, dominated."""
        return Counter(reason.partition(":")[0] for reason in self.rejected.values())
