"""Plots of a study: its front, how that came about, and which choices mattered."""

from __future__ import annotations

import html
import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from codesign.core.hypervolume import hypervolume_curve
from codesign.core.pareto import front
from codesign.core.task import Objective
from codesign.core.trial import Trial
from codesign.tracking.choices import importance
from codesign.tracking.report import Findings, label, number, state, two_digits

# Okabe and Ito's palette, which color-blind readers can tell apart.
_FRONT, _DOMINATED, _BASELINE, _AGAIN, _GREY = "#0072B2", "#8FB8D0", "#D55E00", "#009E73", "#C8C8C8"
_SERIES = (_FRONT, _BASELINE, _AGAIN, "#CC79A7")
_STAGES = ((0.1, "#C9DCEA"), (0.25, "#9CC3DD"), (0.5, "#5E9FCA"), (1.0, _FRONT))  # of a study, with their colors
_BARS, _AXES = 12, 8  # choices shown, the most important ones


def front_figure(found: Findings) -> go.Figure:
    """Return the front: first objective upwards, the second (or one chosen there) to the right.

    Each point leads to its run when it is clicked. Error bars are standard deviations over further trainings.
    """
    up, *rights = found.ranked
    groups = _groups(found)
    measured = [t for t in found.trials if not t.failure]
    figure = go.Figure()
    for name, members, style in groups:
        is_line = name == "Pareto front" and len(rights) == 1
        is_again = name == "trained again"
        known = {t.number: n for n, t in found.baselines.items()} if name == "baseline" else {}
        figure.add_scatter(
            name=f"{name} ({len(members)})",
            x=_places(found, members, rights[0].metric, is_again=is_again),
            y=_places(found, members, up.metric, is_again=is_again),
            error_x=_error(found, members, rights[0].metric) if is_again else None,
            error_y=_error(found, members, up.metric) if is_again else None,
            mode="lines+markers" if is_line else "markers+text" if known else "markers",
            line={"shape": "hv", "color": _FRONT, "width": 2},
            marker=style | {"line": {"color": style["color"] if "open" in style["symbol"] else "white", "width": 1}},
            text=[known.get(t.number, "") for t in members],
            textposition="top center",
            hovertext=[_hover(t, found, known.get(t.number, "")) for t in members],
            hoverinfo="text",
            customdata=[found.urls.get(t.number, "") for t in members],
        )
    if len(rights) == 1:  # a menu that changes the axis would leave the line of a limit behind
        _draw_limit(figure, rights[0], "x", measured)
    _draw_limit(figure, up, "y", measured)
    menu = _menu(found, groups, up, rights, measured) if len(rights) > 1 else []
    return _laid_out(figure, _axis(rights[0], measured), _axis(up, measured), height=620, updatemenus=menu)


def evolution_figure(found: Findings) -> go.Figure:
    """Return the front of the first two objectives after a tenth, a quarter, half and all of the trials."""
    up, right = found.ranked[:2]
    figure, measured = go.Figure(), [t for t in found.trials if not t.failure]
    for fraction, color in _STAGES:
        count = math.ceil(fraction * len(found.trials))
        members = sorted(front(found.trials[:count], (up, right)), key=lambda t: right.cost(t.metrics))
        figure.add_scatter(
            name=f"after {count} trials",
            x=[t.metrics[right.metric] for t in members],
            y=[t.metrics[up.metric] for t in members],
            mode="lines+markers",
            line={"shape": "hv", "color": color, "width": 3},
            marker={"size": 8},
            hovertext=[_hover(t, found, "") for t in members],
            hoverinfo="text",
        )
    return _laid_out(figure, _axis(right, measured), _axis(up, measured), height=480)


def hypervolume_figure(found: Findings) -> go.Figure:
    """Return the hypervolume after every trial, in the box of all trials."""
    curve = hypervolume_curve(found.trials, found.objectives)
    figure = go.Figure()
    figure.add_scatter(
        x=list(range(1, len(curve) + 1)), y=curve, line={"shape": "hv", "color": _FRONT, "width": 3}, showlegend=False
    )
    xaxis = {"title": {"text": "Trials"}, "rangemode": "tozero"}
    return _laid_out(figure, xaxis, {"title": {"text": "Hypervolume"}, "range": [0, 1.02]}, height=380)


def compression_figure(found: Findings) -> go.Figure:
    """Return the first objective against the fraction of weights that are zero: a line for each compression."""
    up, figure = found.ranked[0], go.Figure()
    measured = [t for t in found.trials if "sparsity" in t.metrics]
    kinds = sorted({(t.metrics["search_trial"], t.metrics["bits"]) for t in measured})
    for candidate, bits in kinds:
        members = [t for t in measured if (t.metrics["search_trial"], t.metrics["bits"]) == (candidate, bits)]
        members.sort(key=lambda t: t.metrics["sparsity"])
        figure.add_scatter(
            name=f"architecture of trial {candidate:g}, {bits:g} bits",
            x=[t.metrics["sparsity"] for t in members],
            y=[t.metrics[up.metric] for t in members],
            mode="lines+markers",
            marker={"size": 9},
            hovertext=[_hover(t, found, "") for t in members],
            hoverinfo="text",
            customdata=[found.urls.get(t.number, "") for t in members],
        )
    axis = {"title": {"text": "Fraction of the weights that are zero"}, "tickformat": ".0%", "range": [-0.02, 1.02]}
    return _laid_out(figure, axis, _axis(up, measured), height=480)


def importance_figure(found: Findings, options: Mapping[str, Mapping[int, str]]) -> go.Figure:
    """Return, for the choices that matter most, what fraction of each objective's variance they explain alone."""
    shares = _importances(found, options)
    shown = _most_important(shares)[:_BARS][::-1]
    figure = go.Figure()
    for objective, color in zip(found.ranked, _SERIES, strict=False):
        values = [shares[name][objective.metric] for name in shown]
        figure.add_bar(name=label(objective.metric), x=values, y=shown, orientation="h", marker={"color": color})
    axis = {"title": {"text": "Fraction of the variance explained"}, "rangemode": "tozero", "tickformat": ".0%"}
    return _laid_out(figure, axis, {"automargin": True}, height=140 + 34 * len(shown))


def coordinates_figure(found: Findings, options: Mapping[str, Mapping[int, str]]) -> go.Figure:
    """Return parallel coordinates of the most important choices and the objectives, colored by the first objective."""
    shares = _importances(found, options)
    names = _most_important(shares)[:_AXES]
    trials = [t for t in found.trials if not t.failure and any(t.number in options[name] for name in names)]
    dimensions = []
    for name in (n for n in options if n in names):
        texts = sorted(set(options[name].values()), key=lambda text: (len(text), text))
        texts += ["–"] if any(t.number not in options[name] for t in trials) else []
        places = {text: i for i, text in enumerate(texts)}
        dimensions.append({
            "label": "<br>".join(textwrap.wrap(name, 16)), "tickvals": list(places.values()), "ticktext": list(places),
            "range": [-0.3, len(texts) - 0.7],
            "values": [places[options[name].get(t.number, "–")] for t in trials],
        })  # fmt: skip
    for o in found.ranked:
        axis, values = _axis(o, trials), _scaled(o, trials)
        inside = [v for v in axis.get("tickvals", []) if min(values) <= math.log10(v) <= max(values)]
        ticks = {"tickvals": [math.log10(v) for v in inside], "ticktext": list(map(number, inside))} if inside else {}
        dimensions.append({"label": "<br>".join(textwrap.wrap(label(o.metric), 16)), "values": values} | ticks)
    first = dimensions[-len(found.ranked)]
    line = {"color": first["values"], "colorscale": "Viridis", "reversescale": found.ranked[0].goal == "min"}
    figure = go.Figure(go.Parcoords(dimensions=dimensions, line=line, labelfont={"size": 13}))
    return figure.update_layout(template="plotly_white", height=480, margin={"t": 90, "b": 30, "l": 80, "r": 60})


def _laid_out(figure: go.Figure, xaxis: Mapping[str, Any], yaxis: Mapping[str, Any], **layout: Any) -> go.Figure:
    return figure.update_layout(
        template="plotly_white",
        xaxis=xaxis,
        yaxis=yaxis,
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        hoverlabel={"align": "left", "bgcolor": "white"},
        font={"size": 14},
        margin={"t": 90, "r": 40, "b": 60},
        **layout,
    )


def _importances(found: Findings, options: Mapping[str, Mapping[int, str]]) -> dict[str, dict[str, float]]:
    """Return the importance of every choice for every objective, over trials in full where there are any."""
    finished = [t for t in found.trials if not t.failure]
    trials = [t for t in finished if not t.is_partial] or finished
    values = {o.metric: dict(zip((t.number for t in trials), _scaled(o, trials), strict=True)) for o in found.ranked}
    return {name: {key: importance(options[name], v) for key, v in values.items()} for name in options}


def _most_important(shares: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Return the choices that explain anything, the most important one first; all of them if none does."""
    order = sorted(shares, key=lambda name: -max(shares[name].values()))
    return [name for name in order if max(shares[name].values()) > 0] or order


def _scaled(objective: Objective, trials: Sequence[Trial]) -> list[float]:
    """Return an objective's values, their logarithms if its axis is logarithmic."""
    values = [t.metrics[objective.metric] for t in trials]
    return [math.log10(v) for v in values] if _is_wide(objective, trials) else values


_Group = tuple[str, list[Trial], dict[str, Any]]


def _groups(found: Findings) -> list[_Group]:
    """Return the groups of points with their markers, those drawn on top last."""
    kinds: dict[str, list[Trial]] = {}
    for t in sorted((t for t in found.trials if not t.failure), key=lambda t: found.ranked[1].cost(t.metrics)):
        kinds.setdefault(state(t, found), []).append(t)
    groups: list[_Group] = [
        ("breaks a limit", kinds.get("breaks a limit", []), {"color": _GREY, "symbol": "x", "size": 7}),
        ("trained in part", kinds.get("trained in part", []), {"color": _GREY, "symbol": "circle-open", "size": 7}),
        ("dominated", kinds.get("dominated", []), {"color": _DOMINATED, "symbol": "circle", "size": 8}),
        ("Pareto front", kinds.get("front", []), {"color": _FRONT, "symbol": "circle", "size": 11}),
        ("trained again", [t for t in kinds.get("front", []) if found.repeats.get(t.number)],
         {"color": _AGAIN, "symbol": "diamond", "size": 9}),
        ("baseline", [t for t in found.baselines.values() if not t.failure],
         {"color": _BASELINE, "symbol": "star", "size": 16}),
    ]  # fmt: skip
    return [group for group in groups if group[1]]


def _places(found: Findings, trials: Sequence[Trial], metric: str, *, is_again: bool) -> list[float | None]:
    return [found.mean(t, metric) if is_again else t.metrics[metric] for t in trials]


def _error(found: Findings, trials: Sequence[Trial], metric: str) -> dict[str, Any]:
    return {"array": [found.std(t, metric) or 0.0 for t in trials], "color": _AGAIN, "thickness": 1.5, "width": 4}


def _hover(trial: Trial, found: Findings, name: str) -> str:
    head = f"<b>{html.escape(name) + ', ' if name else ''}trial {trial.number}</b>"
    first = [o.metric for o in found.objectives]
    keys = first + sorted(trial.metrics.keys() - set(first))
    metrics = [f"{label(key)}: {number(trial.metrics[key])}" for key in keys if key in trial.metrics]
    metrics += [
        f"{label(o.metric)} of further trainings: {number(mean)} ± {two_digits(found.std(trial, o.metric) or 0.0)}"
        for o in found.ranked
        if (mean := found.mean(trial, o.metric)) is not None
    ]
    blocks = textwrap.wrap(trial.architecture.describe(), 80)
    broken = [f"<i>{html.escape(v)}</i>" for v in trial.violations]
    return "<br>".join([head, *metrics, *(html.escape(b) for b in blocks), *broken])


def _draw_limit(figure: go.Figure, objective: Objective, axis: str, trials: Sequence[Trial]) -> None:
    if objective.limit is None:
        return
    # On a logarithmic axis, plotly takes the logarithm for annotations but not for lines.
    place = math.log10(objective.limit) if _is_wide(objective, trials) else objective.limit
    line = {"dash": "dash", "color": "#666", "width": 1}
    note = {"text": f"limit {number(objective.limit)}", "showarrow": False, "font": {"color": "#666", "size": 12}}
    if axis == "x":
        figure.add_vline(objective.limit, line=line)
        figure.add_annotation(note, x=place, yref="paper", y=0, yanchor="bottom", xanchor="right")
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
    return axis | {"type": "log", "tickvals": ticks, "ticktext": [number(tick) for tick in ticks]}


def _menu(
    found: Findings, groups: Sequence[_Group], up: Objective, rights: Sequence[Objective], measured: Sequence[Trial]
) -> list[dict[str, Any]]:
    """Return the menu that chooses which objective is drawn to the right."""
    buttons = []
    for o in rights:
        places, errors = [], []
        for name, members, _ in groups:
            is_again = name == "trained again"
            places.append(_places(found, members, o.metric, is_again=is_again))
            errors.append(_error(found, members, o.metric)["array"] if is_again else [])
        axes = {"xaxis": _axis(o, measured), "yaxis": _axis(up, measured)}
        values = {"x": places, "error_x.array": errors}
        buttons.append({"label": label(o.metric), "method": "update", "args": [values, axes]})
    return [{"buttons": buttons, "x": 1.0, "y": 1.02, "xanchor": "right", "yanchor": "bottom"}]
