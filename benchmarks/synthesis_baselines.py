"""Every baseline of every task through synthesis: layout, resources, and all views against the emulator.

    python -m benchmarks.synthesis_baselines [--bits 6] [--sparsity 0.8] [--board vu13p] [--largest_lut 60000]

Each network is trained for an epoch, quantized, and its smallest weights are pruned: what a view has to get right does
not depend on how good a network is. It goes through `synthesize` as a user's does, with golden vectors from validation
data. What is larger than `--largest_lut` by the estimate is not built, and the table says so; what was built lies in
build/baselines, and is not built again. Writes benchmarks/results/synthesis_baselines.json.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch

from codesign import network
from codesign.backends.dataflow import choose
from codesign.compress.lower import lower
from codesign.compress.prune import prune_weights
from codesign.compress.quantize import calibrate, quantize
from codesign.core import plugins
from codesign.core.architecture import Architecture
from codesign.core.board import Board
from codesign.core.errors import CodesignError
from codesign.core.integer_network import IntegerNetwork
from codesign.core.simplify import simplify
from codesign.core.task import Data, Task
from codesign.jobs.context import load_task_and_data
from codesign.synthesis.synthesize import synthesize
from codesign.synthesis.vectors import golden_vectors
from codesign.train import TrainOptions, train

RESULTS = Path(__file__).parent / "results" / "synthesis_baselines.json"
FOLDER = Path("build/baselines")
TRAINING = TrainOptions(epochs=1, data_fraction=0.1)
ROWS = 1024  # that calibrate the formats
VECTORS = 1000
Row = dict[str, Any]


def integers(architecture: Architecture, task: Task, data: Data, bits: int, sparsity: float) -> IntegerNetwork:
    """Return a baseline as integers."""
    module = network.build(architecture, 0)
    train(module, data, task, TRAINING, seed=0, device="cpu")
    inputs = data.train.inputs[:ROWS]
    quantized = quantize(architecture, module, bits, inputs)
    prune_weights(quantized, sparsity)
    calibrate(quantized, inputs)
    return simplify(lower(quantized))


def through_synthesis(name: str, net: IntegerNetwork, data: Data, board: Board, largest_lut: float) -> Row:
    """Return what becomes of a network, or why it is not built."""
    start = time.process_time()
    layout = choose(net, board, 0.0)
    resources, timing = layout.estimate(net, board.clock_ns)
    row: Row = {"dataflow": layout.kind, "lut_estimate": resources.lut, "ff_estimate": resources.ff, "ii": timing.ii,
                "estimate_s": time.process_time() - start}  # fmt: skip
    if (resources.lut or 0.0) > largest_lut:
        return row | {"not_built": f"larger than {largest_lut:,.0f} LUT"}
    golden = golden_vectors(net, data.validation.inputs, VECTORS)
    found = synthesize(net, board, 0.0, FOLDER / f"{name}-{net.digest[:8]}", golden, name=name)
    mismatches = {e.view: e.mismatches if e.vectors else e.first_mismatch for e in found.evidence}
    row |= {"ii": found.timing.ii, "latency_cycles": found.timing.latency_cycles, "is_exact": found.is_exact,
            "is_simulated": found.timing.is_simulated, "vectors": len(golden), "skipped": list(found.skipped),
            "mismatches": mismatches}  # fmt: skip
    for level in found.resources:
        row |= level.metrics()
    return row


def main() -> None:
    """Build them all, print a table and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bits", type=int, default=6)
    parser.add_argument("--sparsity", type=float, default=0.8)
    parser.add_argument("--board", default="vu13p")
    parser.add_argument("--largest_lut", type=float, default=60_000)
    options = parser.parse_args()
    torch.set_num_threads(1)
    board, rows = plugins.load_board(options.board), []
    for task_name in plugins.task_names():
        task, data = load_task_and_data(task_name)
        for name, architecture in task.baselines.items():
            row: Row = {"task": task_name, "network": name, "macs": architecture.macs()}
            try:
                net = integers(architecture, task, data, options.bits, options.sparsity)
                row |= through_synthesis(f"{task.slug}-{name}", net, data, board, options.largest_lut)
            except CodesignError as error:
                row["not_built"] = str(error)
            rows.append(row)
            print(row, flush=True)
            RESULTS.write_text(json.dumps({"options": vars(options), "networks": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
