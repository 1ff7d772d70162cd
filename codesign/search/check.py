"""What would make a study useless, said in one sentence before its first training."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence

import numpy as np

from codesign.core.architecture import Architecture
from codesign.core.errors import CodesignError, InvalidValueError, unknown_name
from codesign.core.space import Choice, Hole, SearchSpace
from codesign.core.task import Objective
from codesign.core.trial import Fidelity
from codesign.search.algorithms import random
from codesign.search.proposals import Precheck, Proposer

_DRAWS = 64  # architectures looked at before a hole is held to be out of reach


def check_objectives(
    objectives: Sequence[Objective],
    metrics: Collection[str] | None = None,
    bounds: Mapping[str, float] | None = None,
) -> None:
    """Check that objectives can be optimized and limits kept.

    Args:
        objectives: What is to be optimized and limited.
        metrics: Keys of a trial's metrics, where they are known beforehand.
        bounds: Best value that any architecture can reach, by metric.

    Raises:
        InvalidValueError: A metric is stated twice, a limit is out of its reach, or there are not 1 to 4 objectives.
        UnknownNameError: A metric that no trial has.
    """
    stated = [o.metric for o in objectives]
    for metric in stated:
        same = [str(o) for o in objectives if o.metric == metric]
        if len(same) > 1:
            raise InvalidValueError(
                f"The metric {metric} is stated {len(same)} times ({'; '.join(same)}); state it once, with one limit."
            )
    ranked = [o.metric for o in objectives if o.is_ranked]
    if not 1 <= len(ranked) <= 4:
        raise InvalidValueError(f"There are {len(ranked)} objectives ({', '.join(ranked)}); allowed: 1 to 4.")
    for o in objectives:
        if metrics is not None and o.metric not in metrics:
            raise unknown_name("metric", o.metric, metrics)
        if bounds and o.metric in bounds and o.violation({o.metric: bounds[o.metric]}) > 0:
            raise InvalidValueError(
                f"The limit of {o.metric} is {o.limit:g}, but its best possible value is {bounds[o.metric]:g}; "
                "relax the limit."
            )


def check_space(space: SearchSpace) -> None:
    """Check that every hole of a space can be filled and reached.

    Raises:
        InvalidValueError: There is no architecture, a hole stands where nothing fills it, or none that has it is valid.
    """
    if space.size() < 1:
        raise InvalidValueError("The search space has no architecture; every hole needs an option that can be filled.")
    rng = np.random.default_rng(0)
    reached: set[str] = set()
    for hole in space.holes():
        reason = ""
        for _ in range(_DRAWS):
            if hole.label in reached:
                break
            try:
                reached |= _draw_with(space, hole, rng)
            except CodesignError as error:
                reason = str(error)
        else:
            raise InvalidValueError(
                f"The hole {hole.label} of the search space is out of reach: none of {_DRAWS} architectures that have "
                f"it is valid. The last one: {reason}"
            )


def require_candidate(space: SearchSpace, objectives: Sequence[Objective], precheck: Precheck) -> None:
    """Check that some architecture is worth a training, by what is known of it before.

    Raises:
        InvalidValueError: Every architecture that was looked at is invalid or breaks a limit.
    """
    proposer = Proposer(space, objectives, random.suggest, full=Fidelity(1), precheck=precheck)
    if proposer.propose(np.random.SeedSequence(0)) is None:
        raise no_candidate(proposer.rejected)


def no_candidate(rejected: Mapping[str, str]) -> InvalidValueError:
    """Build the error for a space of which nothing can be tried, from the reason against each architecture."""
    reasons = Counter(rejected.values()).most_common(1)
    most = f", and most were refused so: {reasons[0][0].rstrip('.')}." if reasons else "."
    return InvalidValueError(f"No architecture of the space can be tried; {len(rejected)} were looked at{most}")


def _draw_with(space: SearchSpace, hole: Hole, rng: np.random.Generator) -> set[str]:
    """Return the labels of a random architecture in which the hole is active.

    Raises:
        CodesignError: The architecture is not valid.
    """
    needed, labels = dict(hole.conditions), set()

    def choose(label: str, choice: Choice) -> int:
        labels.add(label)
        return int(rng.choice(needed.get(label, range(len(choice.options)))))

    architecture: Architecture = space.fill(choose)
    return labels if architecture.output_shape else set()
