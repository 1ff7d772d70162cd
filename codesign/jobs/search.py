"""A search of a task's space: what is checked before it starts, the study, and its front trained again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from codesign.core.architecture import Architecture
from codesign.core.task import Objective, Task
from codesign.core.trial import Trial
from codesign.jobs.evaluate import Evaluator
from codesign.search.check import check_objectives, check_space, require_candidate
from codesign.search.confirm import Confirmation, confirm
from codesign.search.halving import Halving
from codesign.search.journal import Journal, require_same_study
from codesign.search.study import Study, header_of, run_study

JOURNAL, CONFIRMATIONS = "journal.jsonl", "confirmations.jsonl"


@dataclass(frozen=True)
class Search:
    """What is searched, and how.

    Attributes:
        plan: Rungs of successive halving; one rung trains every architecture in full.
        history: Trials of earlier searches of the task.
    """

    task: Task
    objectives: tuple[Objective, ...]
    evaluator: Evaluator
    plan: Halving
    algorithm: str
    trials: int
    seed: int
    workers: int
    history: tuple[Trial, ...] = ()


def check(search: Search, journal: Path | None = None) -> None:
    """Check what can be known before anything is trained, and that the journal to go on with is of this search.

    Raises:
        CodesignError: The search would fail, or find nothing.
    """
    best = search.evaluator.best_metrics()
    check_objectives(search.objectives, best, best)
    check_space(search.task.space)
    require_candidate(search.task.space, search.objectives, search.evaluator.precheck)
    if journal is not None and journal.exists():
        header = header_of(search.task.space, search.objectives, search.seed, search.algorithm, search.plan)
        with Journal(journal) as opened:
            require_same_study(opened.events, header, journal)


def find(search: Search, folder: Path, on_trial: Callable[[Trial], None]) -> Study:
    """Run the study, or go on with the one in `folder`; trials leave their files there."""
    return run_study(
        search.task.space,
        search.objectives,
        replace(search.evaluator, folder=folder),
        algorithm=search.algorithm,
        trials=search.trials,
        seed=search.seed,
        workers=search.workers,
        fidelity=search.plan.rungs[-1],
        halving=search.plan,
        journal=folder / JOURNAL,
        enqueue=candidates(search),
        history=search.history,
        precheck=search.evaluator.precheck,
        bounds=search.evaluator.best_metrics(),
        on_trial=on_trial,
    )


def candidates(search: Search) -> list[Architecture]:
    """Return the baselines that could be on the front; one that cannot be built or breaks a limit is a reference."""

    def can_win(architecture: Architecture) -> bool:
        metrics = search.evaluator.precheck(architecture)
        return not any(o.violation(metrics) for o in search.objectives if o.metric in metrics)

    return [a for a in search.task.baselines.values() if a.is_buildable and can_win(a)]


def confirm_front(search: Search, study: Study, folder: Path, seeds: int) -> list[Confirmation]:
    """Train the front of a study again with `seeds` seeds (0: not at all), or go on doing so."""
    if not seeds:
        return []
    return confirm(
        study.front,
        search.evaluator,
        fidelity=study.full,
        seeds=seeds,
        seed=search.seed,
        workers=search.workers,
        journal=folder / CONFIRMATIONS,
    )


def numbers(study: Study) -> dict[str, float]:
    """Return metrics of what the study spent and saved."""
    saved = {f"never_trained_{cause}": count for cause, count in study.saved.items()}
    return saved | {"architectures": len({t.architecture.digest for t in study.trials}), "training_cost": study.cost}


def notes(study: Study) -> str:
    """Return Markdown that says what the study spent and saved."""
    saved = ", ".join(f"{count} by {cause}" for cause, count in sorted(study.saved.items())) or "none"
    tried = len({t.architecture.digest for t in study.trials})
    return (
        f"\nArchitectures that never had to be trained: {saved}. "
        f"The {tried} that were tried cost as much training as {study.cost:.1f} in full.\n"
    )
