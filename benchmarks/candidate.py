"""Seconds that the hardware cost of one candidate takes: quantize, lower, estimate, write the HLS project.

    python -m benchmarks.candidate

Prints a table and writes benchmarks/results/candidate.json. CPU seconds, best of three, one thread, untrained weights.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from codesign.backends import da4ml, hls4ml
from codesign.backends._da4ml_trace import trace
from codesign.compress.lower import lower
from codesign.compress.quantize import quantize
from codesign.core import plugins
from codesign.network import build

BITS = 8


def best_of_three(action: Callable[[], Any]) -> tuple[float, Any]:
    """Return the least CPU seconds of three calls, and the last result."""
    seconds = []
    for _ in range(3):
        trace.cache_clear()
        start = time.process_time()
        result = action()
        seconds.append(time.process_time() - start)
    return min(seconds), result


def main() -> None:
    """Measure the buildable baselines of the jet task."""
    torch.set_num_threads(1)
    task = plugins.load_task("jet_classification")
    inputs = np.random.default_rng(0).normal(size=(2048, *task.input_shape)).astype(np.float32)
    rows = []
    for name, architecture in task.baselines.items():
        if not architecture.is_buildable:
            continue
        module = build(architecture, 0).eval()
        quantize_s, quantized = best_of_three(lambda a=architecture, m=module: quantize(a, m, BITS, inputs))
        lower_s, network = best_of_three(lambda q=quantized: lower(q))
        estimate_s, (resources, _) = best_of_three(lambda n=network: da4ml.estimate(n))
        write_s, _ = best_of_three(lambda n=network: hls4ml.plan(n))
        rows.append({
            "network": name, "bits": BITS, "macs": architecture.macs(), "lut_estimate": resources.lut,
            "quantize_s": quantize_s, "lower_s": lower_s, "estimate_s": estimate_s, "write_hls_s": write_s,
        })  # fmt: skip
    print(" | ".join(rows[0]))
    for row in rows:
        print(" | ".join(f"{v:.3f}" if isinstance(v, float) and v < 100 else f"{v}" for v in row.values()))
    (Path(__file__).parent / "results" / "candidate.json").write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
