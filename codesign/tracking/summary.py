"""What a finished study leaves in its run: trials, the Pareto front as table and page, and a description."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from codesign.core.architecture import Architecture
from codesign.core.pareto import front
from codesign.core.task import Objective
from codesign.core.trial import Trial
from codesign.tracking.report import describe, front_html, front_rows, trial_rows
from codesign.tracking.runs import Run


def log_study(
    run: Run,
    title: str,
    trials: Sequence[Trial],
    objectives: Sequence[Objective],
    baselines: Mapping[str, Architecture] | None = None,
    notes: str = "",
) -> None:
    """Log the trials of a study in one piece, readable in the UI and by the next stage.

    Args:
        run: Run of the stage; its trials are logged already.
        title: What was searched, and on which data.
        trials: All trials.
        objectives: What was optimized and limited.
        baselines: Known architectures by name, found among the trials by digest.
        notes: Markdown added to the description.
    """
    run.flush()
    urls = run.trial_urls()
    by_digest = {t.architecture.digest: t for t in trials if not t.failure}
    known = {n: by_digest[a.digest] for n, a in (baselines or {}).items() if a.digest in by_digest}
    run.log_trials(trials)
    run.log_table("trials", trial_rows(trials, objectives, urls))
    run.log_table("pareto_front", front_rows(trials, objectives, urls))
    if sum(o.is_ranked for o in objectives) > 1:
        run.log_text("front.html", front_html(title, trials, objectives, known, urls))
    run_id = run.id if run.stage == "global_search" else ""
    run.describe(describe(title, trials, objectives, known, urls, run_id) + notes)
    best = front(trials, objectives)
    counts = {"trials": len(trials), "failed_trials": sum(bool(t.failure) for t in trials), "front_size": len(best)}
    run.log_metrics(counts | {f"best_{o.metric}": _best(o, best) for o in objectives if best})


def _best(objective: Objective, trials: Sequence[Trial]) -> float:
    return min(trials, key=lambda t: objective.cost(t.metrics)).metrics[objective.metric]
