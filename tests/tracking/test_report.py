import json
import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codesign.blocks.dense import Dense
from codesign.core.architecture import Architecture
from codesign.core.errors import InvalidValueError
from codesign.core.task import Objective
from codesign.core.trial import Fidelity, Trial
from codesign.tracking.report import describe, front_html, front_rows, label, trial_rows

OBJECTIVES = (Objective("error"), Objective("lut_estimate", limit=1000.0), Objective("latency_ns", is_ranked=False))


def trial(number, error, lut, **fields):
    architecture = Architecture((3,), (Dense(number + 1),))
    metrics = {"error": error, "lut_estimate": lut, "latency_ns": 20.0, "accuracy": 1 - error}
    return Trial(number, architecture, 0, Fidelity(3), **({"metrics": metrics} | fields)).judged(OBJECTIVES)


TRIALS = [
    trial(0, 0.5, 100.0),
    trial(1, 0.3, 500.0),
    trial(2, 0.4, 600.0),
    trial(3, 0.2, 2000.0),
    trial(4, 0.0, 0.0, metrics={}, failure="loss became NaN <b>in epoch 3</b>"),
]
URLS = {n: f"http://here/#/experiments/1/runs/r{n}" for n in range(5)}


def figure_of(page):
    """Return what the page draws."""
    arguments = page[page.rindex("Plotly.newPlot(") :]
    decoder = json.JSONDecoder()
    data, end = decoder.raw_decode(arguments, arguments.index("["))
    layout, _ = decoder.raw_decode(arguments, arguments.index("{", end))
    return {re.sub(r" \(.*", "", trace["name"]): trace for trace in data}, layout


def test_tables_say_what_became_of_every_trial():
    rows = trial_rows(TRIALS, OBJECTIVES, URLS)
    assert [row["state"] for row in rows] == ["front", "front", "dominated", "breaks a limit", "failed"]
    assert list(rows[0])[:5] == ["trial", "state", "error", "lut_estimate", "latency_ns"]
    assert rows[3]["reason"] == "lut_estimate is 2000, limit 1000"
    assert rows[4]["error"] is None
    assert rows[1]["run"] == URLS[1]
    assert [(row["trial"], row["error"]) for row in front_rows(TRIALS, OBJECTIVES)] == [(1, 0.3), (0, 0.5)]


def test_the_page_draws_every_trial_once_and_needs_no_network():
    page = front_html("Jets & <more>", TRIALS, OBJECTIVES, {"known": TRIALS[2]}, URLS)
    traces, layout = figure_of(page)
    assert {name: list(zip(t["x"], t["y"], strict=True)) for name, t in traces.items()} == {
        "breaks a limit": [(2000.0, 0.2)],
        "dominated": [(600.0, 0.4)],
        "Pareto front": [(100.0, 0.5), (500.0, 0.3)],
        "baseline": [(600.0, 0.4)],
    }
    assert traces["Pareto front"]["mode"] == "lines+markers"
    assert traces["Pareto front"]["customdata"] == [URLS[0], URLS[1]]
    assert traces["baseline"]["text"] == ["known"]
    assert traces["baseline"]["hovertext"][0].startswith(
        "<b>known, trial 2</b><br>Error: 0.4<br>LUT (estimate): 600<br>"
    )
    assert "Dense(width=2)" in traces["Pareto front"]["hovertext"][1]
    assert layout["title"]["text"] == "<b>Jets &amp; &lt;more&gt;</b>"
    assert layout["title"]["subtitle"]["text"] == "5 trials · 2 on the Pareto front · 1 break a limit · 1 failed"
    assert layout["xaxis"]["title"]["text"] == "LUT (estimate), smaller is better"
    assert layout["yaxis"]["title"]["text"] == "Error, smaller is better"
    assert [a["text"] for a in layout["annotations"]] == ["limit 1,000"]
    assert not re.search(r"<(script|link|img)[^>]+(src|href)=", page)


def test_values_over_decades_are_drawn_on_a_logarithmic_axis():
    traces, layout = figure_of(front_html("Jets", [*TRIALS, trial(5, 0.6, 10.0)], OBJECTIVES))
    assert layout["xaxis"]["type"] == "log"
    assert layout["xaxis"]["ticktext"][:4] == ["10", "20", "50", "100"]
    assert layout["annotations"][0]["x"] == pytest.approx(3.0)  # the logarithm of the limit
    assert layout["shapes"][0]["x0"] == 1000.0
    assert traces["Pareto front"]["x"] == [10.0, 100.0, 500.0]


def test_three_objectives_get_a_menu_instead_of_a_line():
    objectives = (*OBJECTIVES[:2], Objective("latency_ns"))
    traces, layout = figure_of(front_html("Jets", TRIALS, objectives))
    assert traces["Pareto front"]["mode"] == "markers"
    (menu,) = layout["updatemenus"]
    assert [button["label"] for button in menu["buttons"]] == ["LUT (estimate)", "Latency (ns)"]
    assert menu["buttons"][0]["args"][0]["x"][2] == traces["Pareto front"]["x"]


def test_one_objective_has_no_front_to_draw():
    with pytest.raises(InvalidValueError) as error:
        front_html("Jets", TRIALS, OBJECTIVES[:1])
    assert str(error.value) == "A front of the one objective error was to be drawn; allowed: two or more."


def test_the_description_compares_with_the_baselines_and_says_what_is_next():
    text = describe("Jets", TRIALS, OBJECTIVES, {"known": TRIALS[2], "best": TRIALS[1]}, URLS, "abc")
    assert "**5 trials · 2 on the Pareto front · 1 break a limit · 1 failed**" in text
    assert "Objectives: minimize Error; minimize LUT (estimate) (at most 1,000)." in text
    assert f"| [1]({URLS[1]}) | 0.3 | 500 | Dense(width=2) |" in text
    assert (
        "- Better than the baseline known in every objective: Error 0.3 instead of 0.4 (trial 1); "
        "or LUT (estimate) 500 instead of 600 (trial 1)."
    ) in text
    assert "- No trial beats the baseline best in every objective." in text
    assert "- 1 × loss became NaN <b>in epoch 3</b>" in text
    assert "`mlflow run . -e local_compress -P from_run=abc`" in text


def test_an_empty_study_is_described_too():
    failed = replace(TRIALS[4], number=0)
    assert "**1 trial · 0 on the Pareto front · 1 failed**" in describe("Jets", [failed], OBJECTIVES, run_id="abc")
    assert "local_compress" not in describe("Jets", [failed], OBJECTIVES, run_id="abc")
    assert front_html("Jets", [failed], OBJECTIVES)


def test_a_description_fits_into_a_tag():
    many = [trial(n, 1 / (n + 2), 10.0 * n) for n in range(90)]
    text = describe("Jets", many, OBJECTIVES, dict.fromkeys(map(str, range(5)), many[3]), URLS, "abc")
    assert len(text) < 8000
    assert "… and 78 more in `pareto_front.json`." in text


@pytest.mark.parametrize(
    ("metric", "text"),
    [
        ("lut_estimate", "LUT (estimate)"),
        ("ff_synthesis", "FF (synthesis)"),
        ("fmax_mhz_routed", "fmax (MHz, routed)"),
        ("latency_ns", "Latency (ns)"),
        ("latency_cycles", "Latency (cycles)"),
        ("distance_px", "Distance (px)"),
        ("train_seconds", "Train (s)"),
        ("error", "Error"),
        ("ii", "II"),
        ("ebops", "EBOPs"),
        ("bops_nac", "BOPs (paper)"),
    ],
)
def test_axes_say_unit_and_level(metric, text):
    assert label(metric) == text


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(1, 5000)), min_size=1, max_size=20))
def test_every_finished_trial_is_in_exactly_one_group(values):
    trials = [trial(n, error, lut) for n, (error, lut) in enumerate(values)]
    states = [row["state"] for row in trial_rows(trials, OBJECTIVES)]
    assert states.count("front") == len(front_rows(trials, OBJECTIVES))
    assert states.count("breaks a limit") == sum(lut > 1000 for _, lut in values)
    assert "failed" not in states
