"""Compare the simulated Bragg peaks with the official ones, and score a constant and a classical fit on them.

    python benchmarks/bragg_simulator.py

Prints a table and writes benchmarks/results/bragg_simulator.json.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
from tqdm import tqdm

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from codesign.core.plugins import PROJECTS, load_sibling  # noqa: E402

FILE = PROJECTS / "bragg_peak" / "task.py"
# Measured on the official files: percentiles of the distance from label to brightest pixel, and of non-zero pixels
DISTANCE_PX = {5: 0.112, 25: 0.303, 50: 0.447, 75: 0.578, 95: 0.840}
NON_ZERO = {10: 3.0, 50: 7.5, 90: 33.0}
FLOOR_PX = 0.3825


def main() -> None:
    """Simulate, compare, fit, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--patches", type=int, default=40_000)
    parser.add_argument("--fits", type=int, default=2000, help="test patches for the classical fit")
    parser.add_argument("--label-jitter-px", type=float, default=0.12)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results" / "bragg_simulator.json")
    args = parser.parse_args()
    task, patches, simulator, classical = (
        load_sibling(FILE, name) for name in ("task", "patches", "simulator", "classical")
    )
    started = time.process_time()
    counts, labels, centers = simulator.simulate(args.patches, args.seed, args.label_jitter_px)
    per_second = args.patches / (time.process_time() - started)
    brightest = np.stack(np.divmod(counts.reshape(len(counts), -1).argmax(axis=1), patches.SIDE), axis=1)
    distance = np.linalg.norm(brightest - labels, axis=1)
    non_zero = (counts > 0).sum(axis=(1, 2))

    rows = [
        (f"distance label to brightest pixel, p{q} [px]", np.percentile(distance, q), v) for q, v in DISTANCE_PX.items()
    ]
    rows += [(f"non-zero pixels, p{q}", np.percentile(non_zero, q), v) for q, v in NON_ZERO.items()]
    targets = (labels - task.MIDDLE_PX)[:, ::-1]
    rows += [("distance_px of the constant 5.5, 5.5", task.constant_floor_px(targets), FLOOR_PX)]

    rest = slice(-min(args.fits, args.patches), None)  # the last ones, which belong to the test set
    inputs = patches.scale(counts[rest])
    fitted = classical.fit_centers(tqdm(inputs, desc="least-squares fits", unit="patch", disable=None))
    answers = {"least-squares pseudo-Voigt fit": fitted, "center of mass": classical.centers_of_mass(inputs)}
    exact = (centers[rest] - task.MIDDLE_PX)[:, ::-1]
    scores = {
        name: {
            "against the label": task.score(answer, targets[rest]),
            "against the true center": task.score(answer, exact),
        }
        for name, answer in answers.items()
    }
    # A perfect network still misses the label by its jitter
    scores["true center"] = {"against the label": task.score(exact, targets[rest])}

    print(f"{args.patches} simulated patches, {per_second:,.0f} per CPU-second\n")
    print(f"{'':44}{'simulation':>12}{'official':>12}")
    for name, simulated, official in rows:
        print(f"{name:44}{simulated:12.4g}{official:12.4g}")
    print(f"\n{len(inputs)} patches of the simulated test set{'':9}{'distance_px':>14}{'p75':>10}{'p95':>10}")
    for name, kinds in scores.items():
        for kind, score in kinds.items():
            print(f"{name + ', ' + kind:57}" + "{:8.4f}{:10.4f}{:10.4f}".format(*score.values()))

    report = {
        "data": "simulation",
        "arguments": {k: v for k, v in vars(args).items() if k != "output"},
        "patches_per_cpu_second": per_second,
        "statistics": [{"name": n, "simulation": float(s), "official": o} for n, s, o in rows],
        "scores": scores,
    }
    args.output.parent.mkdir(parents=True, exist_ok=True)
    args.output.write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
