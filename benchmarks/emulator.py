"""Vectors a second that the emulator computes, on one thread, beside the int64 reference that it equals.

    python -m benchmarks.emulator

Prints a table and writes benchmarks/results/emulator.json. CPU seconds, best of five, untrained weights, random inputs.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

os.environ["OPENBLAS_NUM_THREADS"] = "1"

import numpy as np
import torch

from codesign.compress.lower import lower
from codesign.compress.quantize import quantize
from codesign.core import plugins
from codesign.network import build

BITS = 8
CASES = {
    "jet_classification": ("nac_tiny", "nac_small", "nac_medium", "nac_large", "odagiu_deep_sets"),
    "bragg_peak": ("compact",),
}
VECTORS = {"jet_classification": 65_536, "bragg_peak": 1_024}


def seconds(action: Callable[[], object], rounds: int) -> float:
    """Return the least CPU seconds of some calls."""
    measured = []
    for _ in range(rounds):
        start = time.process_time()
        action()
        measured.append(time.process_time() - start)
    return min(measured)


def main() -> None:
    """Measure the baselines of two tasks."""
    torch.set_num_threads(1)
    rows = []
    for reference, names in CASES.items():
        task = plugins.load_task(reference)
        for name in names:
            architecture = task.baselines[name]
            inputs = np.random.default_rng(0).normal(size=(2048, *task.input_shape)).astype(np.float32)
            network = lower(quantize(architecture, build(architecture, 0).eval(), BITS, inputs[:256]))
            mantissas = np.resize(network.quantize_input(inputs), (VECTORS[reference], *task.input_shape))
            few = mantissas[: len(mantissas) // 16]
            assert np.array_equal(network.emulate(few), network.trace(few)[-1].mantissa)
            fast, slow = (
                seconds(lambda n=network, m=mantissas: n.emulate(m), 5),
                seconds(lambda n=network, m=few: n.trace(m), 2),
            )
            row = {"network": name, "bits": BITS, "macs": architecture.macs()}
            row |= {"vectors_per_s": round(len(mantissas) / fast), "int64_vectors_per_s": round(len(few) / slow)}
            rows.append(row)
            print(" | ".join(map(str, row.values())), flush=True)
    (Path(__file__).parent / "results" / "emulator.json").write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
