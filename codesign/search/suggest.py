"""From an algorithm that yields candidates to the function `suggest` that hyperopt's `fmin(algo=...)` takes."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import numpy as np
from hyperopt import Domain, Trials
from hyperopt.base import miscs_update_idxs_vals

from codesign.search.encoding import Encoding, History, encoding_of, history_of

STARTUP = 16  # random trials before an algorithm learns
ATTEMPTS = 100  # candidates looked at before as many random ones, of which the last is suggested as it is

Values = Mapping[str, Any]
Accepts = Callable[[Values], bool]


class Candidates(Protocol):
    """What an algorithm is: candidates without end, the most promising first."""

    def __call__(self, encoding: Encoding, history: History, rng: np.random.Generator) -> Iterator[np.ndarray]:
        """Yield rows."""
        ...


class Suggest(Protocol):
    """hyperopt's plug-in interface, with an optional argument that `functools.partial` gives.

    `accepts` takes a candidate's values by label and returns whether it is worth an evaluation; it may break a limit.
    """

    candidates: Candidates

    def __call__(
        self,
        new_ids: list[int],
        domain: Domain,
        trials: Trials,
        seed: int,
        accepts: Accepts | None = None,
    ) -> list[dict[str, Any]]:
        """Return a trial document for each id."""
        ...


def as_suggest(candidates: Candidates) -> Suggest:
    """Return the hyperopt algorithm that suggests the first candidate that is new and accepted."""

    def suggest(
        new_ids: list[int],
        domain: Domain,
        trials: Trials,
        seed: int,
        accepts: Accepts | None = None,
    ) -> list[dict[str, Any]]:
        encoding, history = encoding_of(domain), history_of(domain, trials)
        docs, taken = [], set(history.seen)
        for position, tid in enumerate(new_ids):
            rng = np.random.default_rng([seed, position])
            row = np.empty(0)
            offered = itertools.islice(candidates(encoding, history, rng), ATTEMPTS)
            for candidate in itertools.chain(offered, (encoding.sample(rng) for _ in range(ATTEMPTS))):
                values = encoding.decode(candidate)
                row = encoding.encode(values)  # a quantized value moves to its grid
                if row.tobytes() not in taken and (accepts is None or accepts(values)):
                    break
            taken.add(row.tobytes())
            docs += trial_documents(tid, encoding.decode(row), domain, trials)
        return docs

    suggest.candidates = candidates  # type: ignore[attr-defined]
    return suggest  # type: ignore[return-value]


def trial_documents(tid: int, values: Values, domain: Domain, trials: Trials) -> list[dict[str, Any]]:
    """Return hyperopt's document of a new trial with these values of the active labels."""
    misc = {"tid": tid, "cmd": domain.cmd, "workdir": domain.workdir}
    idxs = {label: [tid] if label in values else [] for label in domain.params}
    vals = {label: [values[label]] if label in values else [] for label in domain.params}
    miscs_update_idxs_vals([misc], idxs, vals)
    docs: list[dict[str, Any]] = trials.new_trial_docs([tid], [None], [domain.new_result()], [misc])
    return docs
