"""What a person sees of a study: tables, words, and a page of plots."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codesign.blocks.dense import Dense
from codesign.core.architecture import Architecture
from codesign.core.errors import InvalidValueError
from codesign.core.space import SearchSpace, one_of, ordered
from codesign.core.task import Objective
from codesign.core.trial import Fidelity, Trial
from codesign.tracking.page import study_page
from codesign.tracking.report import Findings, describe, failure_rows, front_rows, label, trial_rows

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


def found(trials=TRIALS, objectives=OBJECTIVES, **fields):
    return Findings("Jets & <more>", trials, objectives, **fields)


def figures_of(page):
    """Return traces by name and layout of everything that the page draws."""
    decoder, figures = json.JSONDecoder(), []
    for start in re.finditer(r"Plotly\.newPlot\(\s*\"[-0-9a-f]{36}\",", page):
        data, end = decoder.raw_decode(page, page.index("[", start.end()))
        layout, _ = decoder.raw_decode(page, page.index("{", end))
        figures.append(({re.sub(r" \(.*", "", trace.get("name", "")): trace for trace in data}, layout))
    return figures


def test_tables_say_what_became_of_every_trial():
    partial = replace(trial(5, 0.1, 50.0), is_partial=True)
    rows = trial_rows(found([*TRIALS, partial], urls=URLS))
    assert [row["state"] for row in rows] == [
        "front", "front", "dominated", "breaks a limit", "failed", "trained in part",
    ]  # fmt: skip
    assert list(rows[0])[:5] == ["trial", "state", "error", "lut_estimate", "latency_ns"]
    assert rows[3]["reason"] == "lut_estimate is 2000, limit 1000"
    assert rows[4]["error"] is None
    assert rows[1]["run"] == URLS[1]
    assert [(row["trial"], row["error"]) for row in front_rows(found())] == [(1, 0.3), (0, 0.5)]
    assert failure_rows(found()) == [{"cause": "loss became NaN <b>in epoch 3</b>", "count": 1, "trials": "4"}]


AGAIN = {
    1: [{"error": e, "lut_estimate": lut, "latency_ns": 20.0} for e, lut in ((0.32, 500), (0.34, 520), (0.36, 540))]
}


def test_further_trainings_give_mean_and_standard_deviation():
    best, other = front_rows(found(repeats=AGAIN))
    assert (best["error"], best["error_mean"], best["error_std"]) == pytest.approx((0.3, 0.34, 0.02))
    assert (best["lut_estimate_mean"], best["lut_estimate_std"], best["trainings"]) == pytest.approx((520, 20, 4))
    assert (other["error_mean"], other["error_std"], other["trainings"]) == (None, None, 1)
    text = describe(found(repeats=AGAIN))
    assert "| 1 | 0.3 (0.34 ± 0.02) | 500 (520 ± 20) | Dense(width=2) |" in text
    assert "In brackets: mean ± standard deviation of 3 further trainings with other seeds." in text
    traces, _ = figures_of(study_page(found(repeats=AGAIN)))[0]
    again = traces["trained again"]
    assert (again["x"], again["y"]) == ([520.0], [pytest.approx(0.34)])
    assert again["error_x"]["array"] == [pytest.approx(20)]
    assert again["error_y"]["array"] == [pytest.approx(0.02)]


def test_the_page_draws_every_trial_once_and_needs_no_network():
    page = study_page(found(baselines={"known": TRIALS[2]}, urls=URLS))
    traces, layout = figures_of(page)[0]
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
    assert layout["xaxis"]["title"]["text"] == "LUT (estimate), smaller is better"
    assert layout["yaxis"]["title"]["text"] == "Error, smaller is better"
    assert [a["text"] for a in layout["annotations"]] == ["limit 1,000"]
    assert "<h1>Jets &amp; &lt;more&gt;</h1>" in page
    assert "<p>5 trials · 2 on the Pareto front · 1 break a limit · 1 failed</p>" in page
    assert f'<a href="{URLS[1]}" target="_blank">1</a>' in page
    assert "loss became NaN &lt;b&gt;in epoch 3&lt;/b&gt;" in page
    assert not re.search(r"<(script|link|img)[^>]+(src|href)=", page)


def test_the_page_shows_how_the_front_came_about():
    (_, (fronts, _), (curve, _)) = figures_of(study_page(found()))
    assert fronts["after 1 trials"]["x"] == [100.0]
    assert fronts["after 2 trials"]["x"] == [100.0, 500.0]
    assert fronts["after 5 trials"]["x"] == [100.0, 500.0]
    assert curve[""]["y"] == sorted(curve[""]["y"])


SPACE = SearchSpace((3,), (one_of(None, Dense(ordered(2, 8), one_of("relu", "identity"))), Dense(3)))


def searched(count=200):
    """Return trials whose LUT count follows from the width, and whose error from nothing but luck."""
    rng = np.random.default_rng(0)
    trials = []
    for n in range(count):
        choices = {"0": int(rng.integers(2)), "0.1.width": int(rng.integers(2)), "0.1.activation": int(rng.integers(2))}
        choices = choices if choices["0"] else {"0": 0}
        luts = 10.0 + 100 * choices.get("0.1.width", 0) + rng.random()
        trials.append(trial(n, float(rng.random()), luts, choices=choices))
    return trials


def test_the_page_says_which_choices_mattered():
    page = study_page(found(searched(), space=SPACE))
    importances, coordinates = figures_of(page)[-2:]
    bars = importances[0]["LUT"]
    shares = dict(zip(bars["y"], bars["x"], strict=True))
    assert max(shares, key=shares.get) == "block 1 Dense width"
    assert shares["block 1 Dense width"] > 0.5 > shares["block 1"] > 0.2
    assert max(importances[0]["Error"]["x"]) < 0.2
    dimensions = {d["label"].replace("<br>", " "): d for d in coordinates[0][""]["dimensions"]}
    assert list(dimensions)[:2] == ["block 1", "block 1 Dense width"]
    assert list(dimensions)[-2:] == ["Error", "LUT (estimate)"]
    assert dimensions["block 1"]["ticktext"] == ["none", "Dense"]
    assert dimensions["block 1 Dense width"]["ticktext"] == ["2", "8", "–"]
    assert {len(d["values"]) for d in dimensions.values()} == {200}


def test_values_over_decades_are_drawn_on_a_logarithmic_axis():
    traces, layout = figures_of(study_page(found([*TRIALS, trial(5, 0.6, 10.0)])))[0]
    assert layout["xaxis"]["type"] == "log"
    assert layout["xaxis"]["ticktext"][:4] == ["10", "20", "50", "100"]
    assert layout["annotations"][0]["x"] == pytest.approx(3.0)  # the logarithm of the limit
    assert layout["shapes"][0]["x0"] == 1000.0
    assert traces["Pareto front"]["x"] == [10.0, 100.0, 500.0]


def test_three_objectives_get_a_menu_instead_of_a_line():
    objectives = (*OBJECTIVES[:2], Objective("latency_ns"))
    traces, layout = figures_of(study_page(found(objectives=objectives, repeats=AGAIN)))[0]
    assert traces["Pareto front"]["mode"] == "markers"
    (menu,) = layout["updatemenus"]
    assert [button["label"] for button in menu["buttons"]] == ["LUT (estimate)", "Latency (ns)"]
    values = menu["buttons"][0]["args"][0]
    assert values["x"] == [trace["x"] for trace in traces.values()]
    assert values["error_x.array"] == [trace.get("error_x", {}).get("array", []) for trace in traces.values()]


def test_one_objective_has_no_front_to_draw():
    with pytest.raises(InvalidValueError) as error:
        study_page(found(objectives=OBJECTIVES[:1]))
    assert str(error.value) == "A front of the one objective error was to be drawn; allowed: two or more."


def test_the_description_compares_with_the_baselines_and_says_what_is_next():
    text = describe(found(baselines={"known": TRIALS[2], "best": TRIALS[1]}, urls=URLS), "abc")
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
    failed = found([replace(TRIALS[4], number=0)], space=SPACE)
    assert "**1 trial · 0 on the Pareto front · 1 failed**" in describe(failed, "abc")
    assert "local_compress" not in describe(failed, "abc")
    assert "<h2>Failures</h2>" in study_page(failed)


def test_a_description_fits_into_a_tag():
    many = [trial(n, 1 / (n + 2), 10.0 * n) for n in range(90)]
    text = describe(found(many, baselines=dict.fromkeys(map(str, range(5)), many[3]), urls=URLS), "abc")
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
    states = [row["state"] for row in trial_rows(found(trials))]
    assert states.count("front") == len(front_rows(found(trials)))
    assert states.count("breaks a limit") == sum(lut > 1000 for _, lut in values)
    assert "failed" not in states


def test_a_compression_shows_what_sparsity_costs():
    steps = [
        trial(n, 0.3 + n / 100, 500.0 - n, metrics={
            "error": 0.3 + n / 100, "lut_estimate": 500.0 - n, "latency_ns": 20.0, "search_trial": 7, "bits": bits,
            "sparsity": sparsity,
        })
        for n, (bits, sparsity) in enumerate([(8, 0.5), (8, 0.1), (6, 0.2)])
    ]  # fmt: skip
    page = study_page(found(steps))
    assert "What compression costs" in page
    assert "What compression costs" not in study_page(found())
    ((lines, _),) = [f for f in figures_of(page) if "architecture of trial 7, 8 bits" in f[0]]
    assert lines["architecture of trial 7, 8 bits"]["x"] == [0.1, 0.5]
    assert lines["architecture of trial 7, 8 bits"]["y"] == pytest.approx([0.31, 0.3])
    assert lines["architecture of trial 7, 6 bits"]["x"] == [0.2]
