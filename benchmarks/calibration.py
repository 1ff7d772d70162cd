"""How far the calibrated estimate is from synthesis and from place and route, on designs that it has not seen.

    python -m benchmarks.calibration_designs
    python -m benchmarks.calibration

Fits LUTs and the routed clock period on the designs of set 0, by least absolute relative error; takes the intervals and
the errors on set 1; and repeats the fit with each family of networks left out in turn. Prints a table, writes
benchmarks/results/calibration.json with every design, and codesign/backends/calibration.json with the coefficients.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import linprog

from benchmarks.calibration_designs import FOLDER, TARGETS, load
from codesign.backends import calibrated, da4ml, nextpnr, yosys
from codesign.core.build import Resources

RESULTS = Path(__file__).parent / "results" / "calibration.json"
COVERAGE = 0.9
LEAST_ROUTED = 10  # with fewer designs there is no calibration on place and route
AMD_TERMS = ("chain", "gates", "beside_constant")
LUT_TERMS = {"xcup": AMD_TERMS, "xc7": AMD_TERMS, "ecp5": ("chain", "gates", "narrow")}
PERIOD_TERMS = ("depth", "one")


class Row(NamedTuple):
    """A design on a family: what is counted, and what a tool found."""

    name: str
    design: dict[str, Any]
    counts: dict[str, float]
    raw: Resources
    synthesis: Resources
    routed: Resources | None


class Fit(NamedTuple):
    """A number to predict: how it is called, from what, and what is true."""

    base: str
    terms: tuple[str, ...]
    truth: Callable[[Row], float]


def rows(target: str) -> list[Row]:
    """Return the designs that are synthesized for a family."""
    found = []
    for folder in sorted(FOLDER.iterdir()):
        report = folder / target / "stat.json"
        if not report.exists():
            continue
        design = load(folder)
        routed = folder / "nextpnr" / "report.json" if target == "ecp5" else Path("none")
        found.append(
            Row(
                folder.name,
                {k: v for k, v in design._asdict().items() if k != "network"} | {"digest": design.network.digest},
                calibrated.counts(design.network, target, design.cutoff),
                da4ml.estimate(design.network, design.cutoff)[0],
                yosys.parse(report.read_text(), target, yosys.find_tool().version),
                nextpnr.parse(routed.read_text(), nextpnr.find_tool().version) if routed.exists() else None,
            )
        )
    return found


def fitted(data: Sequence[Row], fit: Fit) -> dict[str, Any]:
    """Return the coefficients, none negative, of the least sum of absolute relative errors (a linear program)."""
    truth = np.array([fit.truth(row) for row in data])
    terms = np.array([[row.counts[term] for term in fit.terms] for row in data]) / truth[:, None]
    rest = 1.0 - np.array([row.counts[fit.base] if fit.base else 0.0 for row in data]) / truth
    count, size = terms.shape
    cost = np.r_[np.zeros(size), np.ones(count)]
    slack = np.eye(count)
    solved = linprog(cost, np.block([[terms, -slack], [-terms, -slack]]), np.r_[rest, -rest])
    return {"base": fit.base, "coefficients": dict(zip(fit.terms, solved.x[:size].tolist(), strict=True))}


def errors(data: Sequence[Row], fit: Fit, model: dict[str, Any]) -> np.ndarray:
    """Return the relative errors of a model."""
    return np.array([calibrated.predict(row.counts, model) / fit.truth(row) - 1 for row in data])


def conformal(found: np.ndarray) -> float:
    """Return the bound that holds the ratio of truth and prediction, either way, with the probability `COVERAGE`.

    With fewer than nine errors it is the largest of them, which holds n of n + 1 designs.
    """
    ratios = np.sort(np.maximum(1 + found, 1 / (1 + found)))
    return float(ratios[min(len(ratios), math.ceil((len(ratios) + 1) * COVERAGE)) - 1] - 1)


def judge(data: Sequence[Row], fit: Fit) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a model fitted on set 0 with the interval of set 1, and how far it is off."""
    first, second = ([row for row in data if row.design["seed"] == seed] for seed in (0, 1))
    model = fitted(first, fit) if fit.terms else {"base": fit.base, "coefficients": {}}
    unseen = errors(second, fit, model)
    without = []
    for family in sorted({row.design["family"] for row in data}):
        rest = [row for row in data if row.design["family"] != family]
        other = fitted(rest, fit) if fit.terms else model
        without += errors([row for row in data if row.design["family"] == family], fit, other).tolist()
    even, odd = unseen[::2], unseen[1::2]
    inside = np.concatenate([_is_inside(odd, conformal(even)), _is_inside(even, conformal(odd))])
    summary = {
        "fitted_on": len(first),
        "judged_on": len(second),
        "mape_percent": _percent(unseen),
        "mean_error_percent": 100 * float(unseen.mean()),
        "worst_percent": 100 * float(np.abs(unseen).max()),
        "family_left_out_mape_percent": _percent(without),
        "interval_percent": 100 * conformal(unseen),
        "coverage_percent": 100 * float(inside.mean()),
    }
    return model | {"error": conformal(unseen)}, summary


def _is_inside(found: np.ndarray, bound: float) -> np.ndarray:
    return np.maximum(1 + found, 1 / (1 + found)) <= 1 + bound


def _percent(found: Sequence[float] | np.ndarray) -> float:
    return 100 * float(np.abs(found).mean())


def _raw(data: Sequence[Row], name: str) -> float:
    """Return the mean error of da4ml's own number, times the median ratio to the truth."""
    ratios = np.array([getattr(row.raw, name) / getattr(row.synthesis, name) for row in data])
    return _percent(ratios / np.median(ratios) - 1)


def main() -> None:
    """Fit, judge, write."""
    families: dict[str, Any] = {}
    table: dict[str, Any] = {}
    designs: dict[str, Any] = {}
    for target in TARGETS:
        data = rows(target)
        lut, table[f"LUT, {target}"] = judge(data, Fit("fixed", LUT_TERMS[target], lambda row: row.synthesis.lut))
        ff, table[f"FF, {target}"] = judge(data, Fit("ff", (), lambda row: row.synthesis.ff))
        for name in ("lut", "ff"):
            table[f"{name.upper()}, {target}"]["adder_graph_scaled_mape_percent"] = _raw(data, name)
        families[target] = {"lut": lut, "ff": ff}
        routed = [row for row in data if row.routed]
        if len(routed) >= LEAST_ROUTED:
            routed_lut, table["LUT routed, ecp5"] = judge(
                routed, Fit("fixed", LUT_TERMS[target], lambda row: row.routed.lut)
            )
            period, table["clock period routed, ecp5"] = judge(
                routed, Fit("", PERIOD_TERMS, lambda row: 1e3 / row.routed.fmax_mhz)
            )
            families[target]["routed"] = {"lut": routed_lut, "period_ns": period}
        designs[target] = [
            {"name": row.name} | row.design | row.counts | row.synthesis.metrics()
            | (row.routed.metrics() if row.routed else {}) for row in data
        ]  # fmt: skip
    for name, summary in table.items():
        print(f"{name:28}", *(f"{k} {v:.1f}" for k, v in summary.items()))
    RESULTS.write_text(json.dumps({"summary": table, "designs": designs}, indent=1) + "\n")
    content = {"tool": yosys.find_tool().version, "router": nextpnr.find_tool().version, "families": families}
    calibrated.CALIBRATION.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
