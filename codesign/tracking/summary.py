"""What a finished study leaves in its run: trials, tables, the page that shows it, a description and numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from codesign.core.architecture import Architecture
from codesign.core.hypervolume import hypervolume_curve
from codesign.core.space import SearchSpace
from codesign.core.task import Objective
from codesign.core.trial import Trial
from codesign.tracking.page import study_page
from codesign.tracking.report import Findings, describe, failure_rows, front_rows, trial_rows
from codesign.tracking.runs import Run


def log_study(
    run: Run,
    title: str,
    trials: Sequence[Trial],
    objectives: Sequence[Objective],
    baselines: Mapping[str, Architecture] | None = None,
    notes: str = "",
    space: SearchSpace | None = None,
    repeats: Mapping[int, Sequence[Mapping[str, float]]] | None = None,
) -> None:
    """Log the trials of a study in one piece, readable in the UI and by the next stage.

    Args:
        run: Run of the stage; its trials are logged already.
        title: What was searched, and on which data.
        trials: All trials.
        objectives: What was optimized and limited.
        baselines: Known architectures by name, found among the trials by digest.
        notes: Markdown added to the description.
        space: What was searched, if trials came from a space.
        repeats: Metrics of further trainings of architectures of the front, by trial number.
    """
    run.flush()
    by_digest = {t.architecture.digest: t for t in trials if not t.failure and not t.is_partial}
    known = {n: by_digest[a.digest] for n, a in (baselines or {}).items() if a.digest in by_digest}
    found = Findings(title, trials, objectives, known, run.trial_urls(), repeats or {}, space)
    run.log_trials(trials)
    run.log_table("trials", trial_rows(found))
    run.log_table("pareto_front", front_rows(found))
    if found.failures:
        run.log_table("failures", failure_rows(found))
    if len(found.ranked) > 1:
        run.log_text("front.html", study_page(found))
    run.describe(describe(found, run.id if run.stage == "global_search" else "") + notes)
    counts = {"trials": len(trials), "failed_trials": sum(bool(t.failure) for t in trials)}
    run.log_metrics(counts | {"front_size": len(found.front)} | _best(found))
    if space is not None:
        run.log_curve("hypervolume", hypervolume_curve(trials, objectives))


def _best(found: Findings) -> dict[str, float]:
    """Return the best value of each objective on the front, and the best mean over further trainings."""
    best = {}
    for o in found.objectives if found.front else ():
        best[f"best_{o.metric}"] = min(found.front, key=lambda t: o.cost(t.metrics)).metrics[o.metric]
        means = [mean for t in found.front if (mean := found.mean(t, o.metric)) is not None]
        if means:
            best[f"best_mean_{o.metric}"] = min(means, key=lambda mean: o.cost({o.metric: mean}))
    return best
