"""Views that are equal: random networks through every view, and every baseline as every kind of hls4ml project.

    python -m benchmarks.exactness [--only exactness|projects] [--minutes 10] [--views ""]

Prints a table each and writes benchmarks/results/synthesis_<name>.json, where views that were not chosen keep their
last figures.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis.strategies import one_of

from benchmarks.synthesis import RESULTS, Row, show
from benchmarks.synthesis_baselines import integers
from codesign.backends import da4ml, hls4ml, qonnx, streaming
from codesign.backends.hls_options import HlsOptions
from codesign.core import plugins
from codesign.core.errors import UnsupportedError
from codesign.core.integer_network import IntegerNetwork
from codesign.core.operations import Linear
from codesign.jobs.context import load_task_and_data
from codesign.synthesis.vectors import golden_vectors
from tests import rtl_batch
from tests.strategies import image_networks, integer_networks, vectors_for

IMAGE = (4, 5)  # of networks that are simulated side by side
PROJECTS = [  # Vivado's differ from Vitis's in a few headers, and a test has them
    HlsOptions("Vitis", "io_parallel", "latency"),
    HlsOptions("Vitis", "io_parallel", "resource", 2),
    HlsOptions("Vitis", "io_parallel", "distributed_arithmetic"),
    HlsOptions("Vitis", "io_stream", "latency"),
    HlsOptions("Vitis", "io_stream", "resource", 2),
    HlsOptions("Vitis", "io_stream", "distributed_arithmetic"),
    HlsOptions("Catapult", "io_parallel", "latency"),
    HlsOptions("Catapult", "io_stream", "resource", 2),
]


def exactness(minutes: float, chosen: str = "") -> list[Row]:
    """Draw networks until the time is up, a share for each view, and count those that differ from the emulator.

    Args:
        minutes: For all views together.
        chosen: Only views whose names begin with it run, with the shares that they have among all.
    """
    views: list[tuple[str, float, Callable[[int], tuple[int, int, int]]]] = [
        ("adder graph, interpreted", 0.08, partial(_one_by_one, _any_network, lambda n, x, _: da4ml.interpret(n, x))),
        (
            "streamed kernels, interpreted",
            0.08,
            partial(_one_by_one, _image, lambda n, x, _: streaming.interpret(n, x)),
        ),
        ("QONNX executed", 0.08, partial(_one_by_one, _any_network, qonnx.simulate)),
        *(
            (f"hls4ml {' '.join(o[:3])}", 0.05, partial(_one_by_one, _either, partial(hls4ml.simulate, options=o)))
            for o in PROJECTS
        ),
        ("RTL parallel, three stall patterns", 0.16, partial(_side_by_side, _any_network, da4ml.plan, 1)),
        (
            "RTL streaming, three stall patterns",
            0.2,
            partial(_side_by_side, partial(_image, IMAGE), streaming.plan, IMAGE[0] * IMAGE[1]),
        ),
    ]
    rows = []
    for name, share, check in (view for view in views if view[0].startswith(chosen)):
        end = time.monotonic() + 60 * minutes * share
        networks = vectors = wrong = seed = 0
        while not networks or time.monotonic() < end:
            found = check(seed)
            networks, vectors, wrong = networks + found[0], vectors + found[1], wrong + found[2]
            seed += 1
        rows.append({"view": name, "networks": networks, "vectors": vectors, "mismatches": wrong})
        print(rows[-1], flush=True)
    return rows


def _draw(strategy: Any, count: int, accept: Callable[[IntegerNetwork], Any]) -> list[Any]:
    """Return `accept(network)` for up to `count` drawn networks that no view refuses as constant."""
    drawn: list[Any] = []

    @settings(max_examples=3 * count, database=None, deadline=None, suppress_health_check=list(HealthCheck))
    @given(strategy)
    def collect(network: IntegerNetwork) -> None:
        if len(drawn) < count:
            with contextlib.suppress(UnsupportedError):
                drawn.append(accept(network))

    collect()
    return drawn


def _any_network() -> Any:
    return integer_networks()


def _image(image: tuple[int, int] | None = None) -> Any:
    return image_networks(image)


def _either() -> Any:
    return one_of(integer_networks(max_steps=8), image_networks())


def _one_by_one(strategy: Callable[[], Any], simulate: Any, seed: int) -> tuple[int, int, int]:
    """Return networks, vectors and networks that differ among ten."""

    def check(network: IntegerNetwork) -> tuple[int, bool]:
        vectors = vectors_for(network, 200, seed)
        with tempfile.TemporaryDirectory() as folder:
            received = simulate(network, vectors, Path(folder) / "view")
        return len(vectors), not np.array_equal(received, network.emulate(vectors))

    found = _draw(strategy(), 10, check)
    return len(found), sum(n for n, _ in found), sum(is_wrong for _, is_wrong in found)


def _side_by_side(strategy: Callable[[], Any], plan: Any, beats: int, seed: int) -> tuple[int, int, int]:
    """Return networks, vectors and networks that differ among twenty in one simulation."""
    names = iter(range(10**6))
    designs = _draw(strategy(), 20, lambda n: (n, plan(n, f"net{next(names)}", 1 + seed % 5)))
    vectors = [vectors_for(network, 100, seed) for network, _ in designs]
    wrong = set()
    with tempfile.TemporaryDirectory() as folder:
        for stalls in (0, 1, 2):
            results = rtl_batch.simulate(designs, vectors, stalls and seed * 2 + stalls, Path(folder) / "all", beats)
            for i, ((network, _), x, received) in enumerate(zip(designs, vectors, results, strict=True)):
                if not np.array_equal(received, network.emulate(x)):
                    wrong.add(i)
    return len(designs), sum(map(len, vectors)), len(wrong)


def projects(most_weights: int = 5_000, most_macs: int = 10_000_000) -> list[Row]:
    """Count vectors on which the hls4ml projects of each baseline, 6 bits, differ from the emulator; -1 is not built.

    Args:
        most_weights: Of an adder graph; g++ takes minutes for what a larger one unrolls to.
        most_macs: Of all vectors together; C simulation does a million or two in a second.
    """
    rows = []
    for task_name in plugins.task_names():
        task, data = load_task_and_data(task_name)
        for name, architecture in task.baselines.items():
            network = integers(architecture, task, data, 6, 0.8)
            vectors = golden_vectors(network, data.validation.inputs, 1000).inputs
            vectors = vectors[:: max(1, math.ceil(len(vectors) * architecture.macs() / most_macs))]
            weights = sum(int(np.count_nonzero(o.weight)) for o in network.operations if isinstance(o, Linear))
            row: Row = {"task": task_name, "network": name, "weights": weights, "vectors": len(vectors)}
            for options in PROJECTS:
                key = " ".join(options[:3])
                row[key] = -1
                if options.strategy != "distributed_arithmetic" or weights <= most_weights:
                    with tempfile.TemporaryDirectory() as folder:
                        received = hls4ml.simulate(network, vectors, Path(folder) / "view", options=options)
                    differs = received != network.emulate(vectors)
                    row[key] = int(differs.reshape(len(vectors), -1).any(axis=1).sum())
            rows.append(row)
            print(row, flush=True)
    return rows


def _save(path: Path, rows: Sequence[Row], *, keep: bool) -> None:
    """Write rows; with `keep`, views that are not among them keep the rows that they have."""
    fresh = {row.get("view"): row for row in rows}
    before = [row for row in json.loads(path.read_text()) if row["view"] not in fresh] if keep else []
    path.write_text(json.dumps([*before, *rows], indent=1) + "\n")


def main() -> None:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=("exactness", "projects"))
    parser.add_argument("--minutes", type=float, default=10.0, help="of exactness")
    parser.add_argument("--views", default="", help="how the names of the views begin that exactness runs")
    options = parser.parse_args()
    tables = {"exactness": partial(exactness, options.minutes, options.views), "projects": projects}
    for name, table in tables.items():
        if options.only in (None, name):
            rows = table()
            show(rows)
            _save(RESULTS / f"synthesis_{name}.json", rows, keep=bool(options.views) and name == "exactness")


if __name__ == "__main__":
    main()
