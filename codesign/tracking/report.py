"""What a person sees of a search: a table, an interactive Pareto front that works offline, and a page of words."""

from __future__ import annotations

import html
import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from codesign.core.errors import InvalidValueError
from codesign.core.pareto import front
from codesign.core.task import Objective
from codesign.core.trial import Trial

_LEVELS = ("estimate", "synthesis", "routed", "measured")
_UNITS = {"ns": "ns", "px": "px", "s": "s", "seconds": "s", "mhz": "MHz", "cycles": "cycles", "kbit": "kbit"}
_NAMES = {"lut": "LUT", "ff": "FF", "dsp": "DSP", "bram": "BRAM", "ii": "II", "bops": "BOPs", "ebops": "EBOPs"}
_NAMES |= {"bops nac": "BOPs (paper)", "auc": "AUC", "macs": "MACs", "fmax": "fmax"}
# Okabe and Ito's palette, which color-blind readers can tell apart.
_FRONT, _DOMINATED, _BASELINE, _GREY = "#0072B2", "#8FB8D0", "#D55E00", "#C8C8C8"
_SHOWN = 12  # rows of the front in the description, which MLflow keeps to 8,000 characters


def label(metric: str) -> str:
    """Return a metric key as axis title, with unit and level: `lut_estimate` is "LUT (estimate)"."""
    words = metric.split("_")
    notes: list[str] = []
    for known in ({level: level for level in _LEVELS}, _UNITS):
        if len(words) > 1 and words[-1] in known:
            notes.insert(0, known[words.pop()])
    text = " ".join(words)
    return _NAMES.get(text, text[:1].upper() + text[1:]) + (f" ({', '.join(notes)})" if notes else "")


def trial_rows(
    trials: Iterable[Trial], objectives: Sequence[Objective], urls: Mapping[int, str] | None = None
) -> list[dict[str, Any]]:
    """Return one row per trial: number, state, objectives first, then other metrics, fidelity, architecture, run."""
    trials = list(trials)
    on_front = {t.number for t in front(trials, objectives)}
    first = [o.metric for o in objectives]
    rest = sorted({key for t in trials for key in t.metrics} - set(first))
    return [
        {"trial": t.number, "state": _state(t, on_front)}
        | {key: t.metrics.get(key) for key in [*first, *rest]}
        | {"epochs": t.fidelity.epochs, "data_fraction": t.fidelity.data_fraction, "seed": t.seed}
        | {"architecture": t.architecture.describe(), "reason": t.failure or "; ".join(t.violations)}
        | {"run": (urls or {}).get(t.number, "")}
        for t in trials
    ]


def front_rows(
    trials: Iterable[Trial], objectives: Sequence[Objective], urls: Mapping[int, str] | None = None
) -> list[dict[str, Any]]:
    """Return the rows of the Pareto front, best first by the first objective."""
    trials = list(trials)
    rows = {row["trial"]: row for row in trial_rows(trials, objectives, urls)}
    return [
        {k: v for k, v in rows[t.number].items() if k not in ("state", "reason")} for t in front(trials, objectives)
    ]


def front_html(
    title: str,
    trials: Iterable[Trial],
    objectives: Sequence[Objective],
    baselines: Mapping[str, Trial] | None = None,
    urls: Mapping[int, str] | None = None,
) -> str:
    """Return a page with the Pareto front: first objective upwards, the second (or one chosen there) to the right.

    The page holds its own script, so that it works without a network. A click on a point opens its run.

    Args:
        title: What was searched, for a person.
        trials: All trials.
        objectives: What was optimized and limited; two or more are ranked.
        baselines: Known architectures by name, as trials (also ones that are among `trials`).
        urls: Pages of the trials' runs by trial number.

    Raises:
        InvalidValueError: Fewer than two objectives are ranked.
    """
    trials, urls = list(trials), urls or {}
    up, *rights = [o for o in objectives if o.is_ranked]
    if not rights:
        raise InvalidValueError(f"A front of the one objective {up.metric} was to be drawn; allowed: two or more.")
    known = {t.number: name for name, t in (baselines or {}).items()}
    best = front(trials, objectives)
    best_numbers = {t.number for t in best}
    measured = [t for t in trials if not t.failure]
    groups = [
        ("breaks a limit", [t for t in measured if t.violations], _GREY, "x", 7),
        (
            "dominated",
            [t for t in measured if not t.violations and t.number not in best_numbers],
            _DOMINATED,
            "circle",
            8,
        ),
        ("Pareto front", best, _FRONT, "circle", 11),
        ("baseline", [t for t in (baselines or {}).values() if not t.failure], _BASELINE, "star", 16),
    ]
    figure = go.Figure()
    for name, members, color, symbol, size in groups:
        ordered = sorted(members, key=lambda t: rights[0].cost(t.metrics))
        is_line = name == "Pareto front" and len(rights) == 1
        figure.add_scatter(
            name=f"{name} ({len(members)})",
            x=[t.metrics[rights[0].metric] for t in ordered],
            y=[t.metrics[up.metric] for t in ordered],
            mode="lines+markers" if is_line else "markers+text" if name == "baseline" else "markers",
            line={"shape": "hv", "color": color, "width": 2},
            marker={"color": color, "symbol": symbol, "size": size, "line": {"color": "white", "width": 1}},
            text=[known.get(t.number, "") if name == "baseline" else "" for t in ordered],
            textposition="top center",
            hovertext=[_hover(t, objectives, known.get(t.number, "")) for t in ordered],
            hoverinfo="text",
            customdata=[urls.get(t.number, "") for t in ordered],
        )
    if len(rights) == 1:  # a menu that changes the axis would leave the line of a limit behind
        _draw_limit(figure, rights[0], "x", measured)
    _draw_limit(figure, up, "y", measured)
    figure.update_layout(
        template="plotly_white",
        title={"text": f"<b>{html.escape(title)}</b>", "subtitle": {"text": _counts(trials, len(best))}, "x": 0.02},
        xaxis=_axis(rights[0], measured),
        yaxis=_axis(up, measured),
        legend={"orientation": "h", "y": -0.14},
        hoverlabel={"align": "left", "bgcolor": "white"},
        font={"size": 14},
        height=680,
        margin={"t": 90, "r": 40},
        updatemenus=_menu(groups, up, rights, measured) if len(rights) > 1 else [],
    )
    click = (
        "document.getElementById('{plot_id}').on('plotly_click', function (event) {"
        " const page = event.points[0].customdata; if (page) { window.open(page, '_blank'); } });"
    )
    return str(
        figure.to_html(
            include_plotlyjs=True, full_html=True, post_script=click, config={"displaylogo": False, "responsive": True}
        )
    )


def describe(
    title: str,
    trials: Iterable[Trial],
    objectives: Sequence[Objective],
    baselines: Mapping[str, Trial] | None = None,
    urls: Mapping[int, str] | None = None,
    run_id: str = "",
) -> str:
    """Return a page of Markdown that says what was searched, what was found, and what to do next."""
    trials, urls = list(trials), urls or {}
    best = front(trials, objectives)
    ranked = [o for o in objectives if o.is_ranked]
    lines = [
        f"# {title}",
        "",
        f"**{_counts(trials, len(best))}**",
        "",
        "Objectives: " + "; ".join(filter(None, map(_wish, objectives))) + ".",
    ]
    lines += ["", "No architecture that was tried is better than one of the Pareto front in every respect.", ""]
    named = [(f"[{t.number}]({urls[t.number]})" if t.number in urls else str(t.number), t) for t in best[:_SHOWN]]
    named += [(f"baseline {name}", t) for name, t in (baselines or {}).items() if not t.failure]
    lines += ["| trial | " + " | ".join(label(o.metric) for o in ranked) + " | architecture |"]
    lines += ["|---" * (len(ranked) + 2) + "|"]
    for name, trial in named:
        numbers = " | ".join(_number(trial.metrics[o.metric]) for o in ranked)
        lines.append(
            f"| {name} | {numbers} | {textwrap.shorten(trial.architecture.describe(), 160, placeholder=' …')} |"
        )
    if len(best) > _SHOWN:
        lines += ["", f"… and {len(best) - _SHOWN} more in `pareto_front.json`."]
    lines += [""] + [_gain(name, t, best, ranked) for name, t in (baselines or {}).items() if not t.failure]
    failures: dict[str, int] = {}
    for trial in trials:
        if trial.failure:
            failures[trial.failure.splitlines()[0]] = failures.get(trial.failure.splitlines()[0], 0) + 1
    if failures:
        lines += ["", "Failures:", *(f"- {n} × {textwrap.shorten(f, 200)}" for f, n in failures.items())]
    if run_id and best:
        lines += ["", f"Next: `mlflow run . -e local_compress -P from_run={run_id}` compresses the front."]
    return "\n".join(lines).rstrip() + "\n"


def _gain(name: str, baseline: Trial, best: Sequence[Trial], ranked: Sequence[Objective]) -> str:
    """Return by how much the front improves on a baseline: the least cost in one objective at no more in the others."""
    better = [t for t in best if all(o.cost(t.metrics) <= o.cost(baseline.metrics) for o in ranked)]
    better = [t for t in better if any(o.cost(t.metrics) < o.cost(baseline.metrics) for o in ranked)]
    if not better:
        return f"- No trial beats the baseline {name} in every objective."
    parts = []
    for objective in ranked:
        trial = min(better, key=lambda t: objective.cost(t.metrics))
        was, now = baseline.metrics[objective.metric], trial.metrics[objective.metric]
        parts.append(f"{label(objective.metric)} {_number(now)} instead of {_number(was)} (trial {trial.number})")
    return f"- Better than the baseline {name} in every objective: {'; or '.join(parts)}."


def _state(trial: Trial, on_front: set[int]) -> str:
    if trial.failure:
        return "failed"
    if trial.violations:
        return "breaks a limit"
    return "front" if trial.number in on_front else "dominated"


def _wish(objective: Objective) -> str:
    is_small = objective.goal == "min"
    goal = "minimize" if is_small else "maximize"
    limit = "" if objective.limit is None else f"at {'most' if is_small else 'least'} {_number(objective.limit)}"
    if objective.is_ranked:
        return f"{goal} {label(objective.metric)}" + (f" ({limit})" if limit else "")
    return f"{label(objective.metric)} {limit}" if limit else ""


def _counts(trials: Sequence[Trial], best: int) -> str:
    failed = sum(bool(t.failure) for t in trials)
    broken = sum(bool(t.violations) for t in trials)
    parts = [f"{len(trials)} trial{'s' * (len(trials) != 1)}", f"{best} on the Pareto front"]
    parts += [f"{broken} break a limit"] * bool(broken) + [f"{failed} failed"] * bool(failed)
    return " · ".join(parts)


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _hover(trial: Trial, objectives: Sequence[Objective], name: str) -> str:
    head = f"<b>{html.escape(name) + ', ' if name else ''}trial {trial.number}</b>"
    first = [o.metric for o in objectives]
    keys = first + sorted(trial.metrics.keys() - set(first))
    metrics = [f"{label(key)}: {_number(trial.metrics[key])}" for key in keys if key in trial.metrics]
    blocks = textwrap.wrap(trial.architecture.describe(), 80)
    broken = [f"<i>{html.escape(v)}</i>" for v in trial.violations]
    return "<br>".join([head, *metrics, *(html.escape(b) for b in blocks), *broken])


def _draw_limit(figure: go.Figure, objective: Objective, axis: str, trials: Sequence[Trial]) -> None:
    if objective.limit is None:
        return
    # On a logarithmic axis, plotly takes the logarithm for annotations but not for lines.
    place = math.log10(objective.limit) if _is_wide(objective, trials) else objective.limit
    line = {"dash": "dash", "color": "#666", "width": 1}
    note = {"text": f"limit {_number(objective.limit)}", "showarrow": False, "font": {"color": "#666", "size": 12}}
    if axis == "x":
        figure.add_vline(objective.limit, line=line)
        figure.add_annotation(note, x=place, yref="paper", y=1, yanchor="bottom")
    else:
        figure.add_hline(objective.limit, line=line)
        figure.add_annotation(note, y=place, xref="paper", x=1, xanchor="right", yanchor="bottom")


def _is_wide(objective: Objective, trials: Sequence[Trial]) -> bool:
    """Return whether the values, and a limit that is to be drawn beside them, call for a logarithmic axis."""
    values = [t.metrics[objective.metric] for t in trials]
    return bool(values) and min(values) > 0 and max(values) > 20 * min(values) and (objective.limit or 1) > 0


def _axis(objective: Objective, trials: Sequence[Trial]) -> dict[str, Any]:
    better = "smaller" if objective.goal == "min" else "larger"
    axis = {"title": {"text": f"{label(objective.metric)}, {better} is better"}, "separatethousands": True}
    if not _is_wide(objective, trials):
        return axis | {"type": "linear", "exponentformat": "none"}
    values = [t.metrics[objective.metric] for t in trials]
    decades = range(math.floor(math.log10(min(values))), math.ceil(math.log10(max(values))) + 1)
    ticks = [digit * 10.0**decade for decade in decades for digit in (1, 2, 5)]
    return axis | {"type": "log", "tickvals": ticks, "ticktext": [_number(tick) for tick in ticks]}


def _menu(
    groups: Sequence[tuple[str, list[Trial], str, str, int]],
    up: Objective,
    rights: Sequence[Objective],
    measured: Sequence[Trial],
) -> list[dict[str, Any]]:
    """Return the menu that chooses which objective is drawn to the right (all are sorted by the first)."""
    buttons = []
    for objective in rights:
        ordered = [sorted(members, key=lambda t: rights[0].cost(t.metrics)) for _, members, *_ in groups]
        axis = {"xaxis": _axis(objective, measured), "yaxis": _axis(up, measured)}
        xs = {"x": [[t.metrics[objective.metric] for t in members] for members in ordered]}
        buttons.append({"label": label(objective.metric), "method": "update", "args": [xs, axis]})
    return [{"buttons": buttons, "x": 1.0, "y": 1.12, "xanchor": "right"}]
