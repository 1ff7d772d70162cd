"""Which particle started this jet? Five classes from 16 high-level features: the benchmark that hls4ml began with."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from codesign.blocks.dense import Dense
from codesign.core.architecture import Architecture
from codesign.core.plugins import load_sibling
from codesign.core.space import Repeat, SearchSpace, one_of, ordered
from codesign.core.task import Data, Objective, Task

CLASSES = ("gluon", "quark", "top", "W", "Z")
FEATURES = (
    "zlogz", "c1_b0_mmdt", "c1_b1_mmdt", "c1_b2_mmdt", "c2_b1_mmdt", "c2_b2_mmdt", "d2_b1_mmdt", "d2_b2_mmdt",
    "d2_a1_b1_mmdt", "d2_a1_b2_mmdt", "m2_b1_mmdt", "m2_b2_mmdt", "n2_b1_mmdt", "n2_b2_mmdt", "mass_mmdt",
    "multiplicity",
)  # fmt: skip


def task() -> Task:
    """Return the task."""
    width, activation, norm = ordered(4, 8, 16, 32, 64, 128), one_of("relu", "leaky_relu"), one_of("none", "batch")
    blocks = (Repeat(Dense(width, activation, norm), (1, 2, 3, 4)), Dense(5, "identity"))
    return Task(
        name=Path(__file__).parent.name,
        title="Jet classification from 16 high-level features",
        input_shape=(len(FEATURES),),
        input_meaning=FEATURES,
        output_meaning=CLASSES,
        load=_load,
        loss="cross_entropy",
        score=score,
        objectives=(Objective("error"), Objective("lut_estimate", limit=100_000)),
        space=SearchSpace((len(FEATURES),), blocks),
        baselines=baselines(),
        source="https://www.openml.org/d/42468; arXiv 1804.06913",
    )


def _load(folder: Path) -> Data:
    data: Data = load_sibling(__file__, "data").load(folder, FEATURES)
    return data


def score(outputs: np.ndarray, targets: np.ndarray) -> dict[str, float]:
    """Return accuracy and error of class scores (n, 5) against class indices (n,)."""
    accuracy = float(np.mean(outputs.argmax(axis=1) == targets))
    return {"accuracy": accuracy, "error": 1.0 - accuracy}


def baselines() -> dict[str, Architecture]:
    """Return the network of Duarte et al., Fast inference of deep neural networks in FPGAs, arXiv 1804.06913."""
    return {"duarte_2018": Architecture((16,), (Dense(64), Dense(32), Dense(32), Dense(5, "identity")))}
