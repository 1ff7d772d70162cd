"""What a study found, in words and tables."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from codesign.core.pareto import front
from codesign.core.space import SearchSpace
from codesign.core.task import Objective
from codesign.core.trial import Trial

_LEVELS = ("estimate", "synthesis", "routed", "measured")
_UNITS = {"ns": "ns", "px": "px", "s": "s", "seconds": "s", "mhz": "MHz", "cycles": "cycles", "kbit": "kbit"}
_NAMES = {"lut": "LUT", "ff": "FF", "dsp": "DSP", "bram": "BRAM", "ii": "II", "bops": "BOPs", "ebops": "EBOPs"}
_NAMES |= {"bops nac": "BOPs (paper)", "auc": "AUC", "macs": "MACs", "fmax": "fmax"}
_SHOWN = 12  # rows of the front in the description, which MLflow keeps to 8,000 characters


@dataclass(frozen=True)
class Findings:
    """A finished study, as tables, plots and words show it.

    Attributes:
        title: What was searched, and on which data.
        trials: All trials.
        objectives: What was optimized and limited.
        baselines: Known architectures by name, as trials (also ones that are among `trials`).
        urls: Pages of the trials' runs by trial number.
        repeats: Metrics of further trainings of architectures of the front, by trial number. The trial's own are not
            among them: it was chosen by these.
        space: The space that was searched, if there was one.
    """

    title: str
    trials: Sequence[Trial]
    objectives: Sequence[Objective]
    baselines: Mapping[str, Trial] = field(default_factory=dict)
    urls: Mapping[int, str] = field(default_factory=dict)
    repeats: Mapping[int, Sequence[Mapping[str, float]]] = field(default_factory=dict)
    space: SearchSpace | None = None

    @cached_property
    def front(self) -> list[Trial]:
        """The Pareto front, best first by the first objective."""
        return front(self.trials, self.objectives)

    @property
    def ranked(self) -> list[Objective]:
        """The objectives that span the front."""
        return [o for o in self.objectives if o.is_ranked]

    @property
    def failures(self) -> dict[str, list[Trial]]:
        """Failed trials by cause, the most frequent one first."""
        causes: dict[str, list[Trial]] = {}
        for trial in self.trials:
            if trial.failure:
                causes.setdefault(trial.failure.splitlines()[0], []).append(trial)
        return dict(sorted(causes.items(), key=lambda pair: -len(pair[1])))

    def mean(self, trial: Trial, metric: str) -> float | None:
        """Return the mean of a metric over the further trainings of a trial's architecture, if there are any."""
        values = self._repeated(trial, metric)
        return float(np.mean(values)) if values else None

    def std(self, trial: Trial, metric: str) -> float | None:
        """Return the sample standard deviation over the further trainings, if there are two or more."""
        values = self._repeated(trial, metric)
        return float(np.std(values, ddof=1)) if len(values) > 1 else None

    def _repeated(self, trial: Trial, metric: str) -> list[float]:
        return [metrics[metric] for metrics in self.repeats.get(trial.number, ())]


def label(metric: str) -> str:
    """Return a metric key as axis title, with unit and level: `lut_estimate` is "LUT (estimate)"."""
    words = metric.split("_")
    notes: list[str] = []
    for known in ({level: level for level in _LEVELS}, _UNITS):
        if len(words) > 1 and words[-1] in known:
            notes.insert(0, known[words.pop()])
    text = " ".join(words)
    return _NAMES.get(text, text[:1].upper() + text[1:]) + (f" ({', '.join(notes)})" if notes else "")


def number(value: float) -> str:
    """Return a number as a person writes it."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def two_digits(value: float) -> str:
    """Return a number with two significant digits, as an uncertainty is written."""
    rounded = float(f"{value:.2g}")
    return f"{rounded:,.0f}" if abs(rounded) >= 10 else f"{rounded:g}"


def counts(found: Findings) -> str:
    """Return how many trials there are, by what became of them."""
    kinds = Counter(state(t, found) for t in found.trials)
    parts = [f"{len(found.trials)} trial{'s' * (len(found.trials) != 1)}", f"{kinds['front']} on the Pareto front"]
    verbs = {"breaks a limit": "break a limit", "trained in part": "trained in part only", "failed": "failed"}
    return " · ".join(parts + [f"{kinds[kind]} {verb}" for kind, verb in verbs.items() if kinds[kind]])


def state(trial: Trial, found: Findings) -> str:
    """Return what became of a trial."""
    if trial.failure:
        return "failed"
    if trial.violations:
        return "breaks a limit"
    if trial.is_partial:
        return "trained in part"
    return "front" if trial in found.front else "dominated"


def trial_rows(found: Findings) -> list[dict[str, Any]]:
    """Return one row per trial: number, state, objectives first, then other metrics, fidelity, architecture, run."""
    return [
        {"trial": t.number, "state": state(t, found)}
        | {key: t.metrics.get(key) for key in _metrics(found)}
        | {"epochs": t.fidelity.epochs, "data_fraction": t.fidelity.data_fraction, "seed": t.seed}
        | {"architecture": t.architecture.describe(), "reason": t.failure or "; ".join(t.violations)}
        | {"run": found.urls.get(t.number, "")}
        for t in found.trials
    ]


def front_rows(found: Findings) -> list[dict[str, Any]]:
    """Return the rows of the front, best first by the first objective.

    Where architectures were trained again, mean and standard deviation of each objective follow its value.
    """
    rows = []
    for t in found.front:
        row: dict[str, Any] = {"trial": t.number}
        for key in _metrics(found):
            row[key] = t.metrics.get(key)
            if found.repeats and key in [o.metric for o in found.objectives]:
                row |= {f"{key}_mean": found.mean(t, key), f"{key}_std": found.std(t, key)}
        row |= {"trainings": 1 + len(found.repeats.get(t.number, ()))} if found.repeats else {}
        row |= {"epochs": t.fidelity.epochs, "seed": t.seed}
        rows.append(row | {"architecture": t.architecture.describe(), "run": found.urls.get(t.number, "")})
    return rows


def failure_rows(found: Findings) -> list[dict[str, Any]]:
    """Return one row per cause of failure, the most frequent first."""
    return [
        {"cause": cause, "count": len(trials), "trials": ", ".join(str(t.number) for t in trials)}
        for cause, trials in found.failures.items()
    ]


def describe(found: Findings, run_id: str = "") -> str:
    """Return a page of Markdown that says what was searched, what was found, and what to do next."""
    wishes = "; ".join(filter(None, map(_wish, found.objectives)))
    lines = [f"# {found.title}", "", f"**{counts(found)}**", "", f"Objectives: {wishes}."]
    lines += ["", "No architecture that was tried is better than one of the Pareto front in every respect.", ""]
    named = [
        (f"[{t.number}]({found.urls[t.number]})" if t.number in found.urls else str(t.number), t)
        for t in found.front[:_SHOWN]
    ]
    named += [(f"baseline {name}", t) for name, t in found.baselines.items() if not t.failure]
    lines += ["| trial | " + " | ".join(label(o.metric) for o in found.ranked) + " | architecture |"]
    lines += ["|---" * (len(found.ranked) + 2) + "|"]
    for name, trial in named:
        cells = " | ".join(value(found, trial, o.metric) for o in found.ranked)
        lines.append(f"| {name} | {cells} | {textwrap.shorten(trial.architecture.describe(), 160, placeholder=' …')} |")
    if len(found.front) > _SHOWN:
        lines += ["", f"… and {len(found.front) - _SHOWN} more in `pareto_front.json`."]
    if found.repeats:
        most = max(map(len, found.repeats.values()))
        lines += ["", f"In brackets: mean ± standard deviation of {most} further trainings with other seeds."]
    lines += [""] + [_gain(name, t, found) for name, t in found.baselines.items() if not t.failure]
    if found.failures:
        listed = (f"- {len(trials)} × {textwrap.shorten(cause, 200)}" for cause, trials in found.failures.items())
        lines += ["", "Failures:", *listed]
    if run_id and found.front:
        lines += ["", f"Next: `mlflow run . -e local_compress -P from_run={run_id}` compresses the front."]
    return "\n".join(lines).rstrip() + "\n"


def value(found: Findings, trial: Trial, metric: str) -> str:
    """Return a metric of a trial, in brackets what further trainings gave."""
    mean, std = found.mean(trial, metric), found.std(trial, metric)
    again = "" if mean is None else f" ({number(mean)})" if std is None else f" ({number(mean)} ± {two_digits(std)})"
    return number(trial.metrics[metric]) + again


def _metrics(found: Findings) -> list[str]:
    """Return every metric key, those of the objectives first."""
    first = [o.metric for o in found.objectives]
    return first + sorted({key for t in found.trials for key in t.metrics} - set(first))


def _gain(name: str, baseline: Trial, found: Findings) -> str:
    """Return by how much the front improves on a baseline: the least cost in one objective at no more in the others."""
    ranked = found.ranked
    better = [t for t in found.front if all(o.cost(t.metrics) <= o.cost(baseline.metrics) for o in ranked)]
    better = [t for t in better if any(o.cost(t.metrics) < o.cost(baseline.metrics) for o in ranked)]
    if not better:
        return f"- No trial beats the baseline {name} in every objective."
    parts = []
    for objective in ranked:
        trial = min(better, key=lambda t: objective.cost(t.metrics))
        was, now = baseline.metrics[objective.metric], trial.metrics[objective.metric]
        parts.append(f"{label(objective.metric)} {number(now)} instead of {number(was)} (trial {trial.number})")
    return f"- Better than the baseline {name} in every objective: {'; or '.join(parts)}."


def _wish(objective: Objective) -> str:
    is_small = objective.goal == "min"
    goal = "minimize" if is_small else "maximize"
    limit = "" if objective.limit is None else f"at {'most' if is_small else 'least'} {number(objective.limit)}"
    if objective.is_ranked:
        return f"{goal} {label(objective.metric)}" + (f" ({limit})" if limit else "")
    return f"{label(objective.metric)} {limit}" if limit else ""
