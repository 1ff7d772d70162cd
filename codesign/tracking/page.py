"""One page that shows a study, and needs no network: plots, the table of the front, failures."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from codesign.core.errors import InvalidValueError
from codesign.tracking.choices import chosen
from codesign.tracking.plots import (
    compression_figure,
    coordinates_figure,
    evolution_figure,
    front_figure,
    hypervolume_figure,
    importance_figure,
)
from codesign.tracking.report import Findings, counts, label, value

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #222; max-width: 1180px; margin: 0 auto; padding: 8px 24px 48px; }
h1 { font-size: 22px; line-height: 1.3; margin-bottom: 0; } h2 { font-size: 19px; margin: 36px 0 0; }
p { margin: 4px 0; color: #555; } a { color: #0072B2; }
table { border-collapse: collapse; width: 100%; margin-top: 12px; font-size: 14px; }
th, td { text-align: left; padding: 6px 12px 6px 0; border-bottom: 1px solid #ddd; vertical-align: top; }
th { border-bottom: 2px solid #888; } td.number { font-variant-numeric: tabular-nums; white-space: nowrap; }
"""
_CLICK = (
    "document.getElementById('{plot_id}').on('plotly_click', function (event) {"
    " const page = event.points[0].customdata; if (page) { window.open(page, '_blank'); } });"
)


def study_page(found: Findings) -> str:
    """Return the page as HTML; what a search alone has is shown where `found` holds a space.

    Raises:
        InvalidValueError: Fewer than two objectives are ranked.
    """
    if len(found.ranked) < 2:
        raise InvalidValueError(
            f"A front of the one objective {found.ranked[0].metric} was to be drawn; allowed: two or more."
        )
    again = "; diamonds with error bars: mean ± standard deviation of further trainings" if found.repeats else ""
    parts = [
        _section("Pareto front", f"Each point is a trial; a click opens its run{again}.", front_figure(found), _CLICK),
        _section("The front in numbers", "", _front_table(found)),
    ]
    if any("sparsity" in t.metrics for t in found.trials):
        lines = (
            "Each line is one compression of one architecture, from the first step to the last; a click opens its run."
        )
        parts.append(_section("What compression costs", lines, compression_figure(found), _CLICK))
    if found.front:
        two = " (in the first two objectives)" if len(found.ranked) > 2 else ""
        course = "What part of the box between best and worst values the front dominates, after every trial."
        parts += [
            _section("How the front evolved", f"The front{two} as it was along the study.", evolution_figure(found)),
            _section("Hypervolume", course, hypervolume_figure(found)),
        ]
    options = chosen(found.space, [t for t in found.trials if not t.failure]) if found.space else {}
    if options:
        alone = "What part of an objective's variance each choice explains alone, beyond chance (epsilon squared)."
        lines = "Each line is a trial, bright where the first objective is good; drag along an axis to select."
        parts += [
            _section("Which choices mattered", alone, importance_figure(found, options)),
            _section("Parallel coordinates", f"{lines} – : the architecture has no such part.",
                     coordinates_figure(found, options)),
        ]  # fmt: skip
    if found.failures:
        parts.append(_section("Failures", "", _failure_table(found)))
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head><meta charset="utf-8"><title>{html.escape(found.title)}</title>\n'
        f"<style>{_STYLE}</style>\n<script>{get_plotlyjs()}</script></head>\n<body>\n"
        f"<h1>{html.escape(found.title)}</h1>\n<p>{counts(found)}</p>\n{''.join(parts)}</body></html>\n"
    )


def _section(title: str, text: str, content: go.Figure | str, script: str | None = None) -> str:
    if isinstance(content, go.Figure):
        content = content.to_html(
            full_html=False,
            include_plotlyjs=False,
            post_script=script,
            config={"displaylogo": False, "responsive": True},
        )
    return f"<h2>{title}</h2>\n<p>{text}</p>\n{content}\n"


def _front_table(found: Findings) -> str:
    rows = [
        [
            _link(found, t.number),
            *(value(found, t, o.metric) for o in found.ranked),
            html.escape(t.architecture.describe()),
        ]
        for t in found.front
    ]
    return _table(["Trial", *(label(o.metric) for o in found.ranked), "Architecture"], rows)


def _failure_table(found: Findings) -> str:
    rows = [
        [html.escape(cause), str(len(trials)), ", ".join(_link(found, t.number) for t in trials)]
        for cause, trials in found.failures.items()
    ]
    return _table(["Cause", "Trials", "Which"], rows)


def _link(found: Findings, trial: int) -> str:
    url = found.urls.get(trial)
    return f'<a href="{html.escape(url)}" target="_blank">{trial}</a>' if url else str(trial)


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["<table><tr>" + "".join(f"<th>{cell}</th>" for cell in header) + "</tr>"]
    for row in rows:
        cells = (f'<td class="number">{c}</td>' if i < len(row) - 1 else f"<td>{c}</td>" for i, c in enumerate(row))
        lines.append(f"<tr>{''.join(cells)}</tr>")
    return "\n".join([*lines, "</table>"])
