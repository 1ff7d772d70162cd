"""Where the jets come from: official files, else a generated file, else the shipped sample; and how they split."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

import numpy as np

from codesign.core.errors import DataError
from codesign.core.plugins import load_sibling
from codesign.core.task import Data, Split

FEATURES = ("pt", "eta_rel", "phi_rel")
SAMPLE = Path(__file__).with_name("sample.npz")
SAMPLE_PARTICLES = 16
SAMPLE_COMMAND = "python projects/jet_classification/generate.py --jets 80000 --particles 16 --seed 0"
SAMPLE_SHA256 = "92f37174e3a8ff09982393a609fc923681b41d832e2068daacb3d81e3013af9f"
VALIDATION_FRACTION = 0.1
SPLIT_SEED = 0


def load(folder: Path, particles: int) -> Data:
    """Return the jets, split and scaled.

    Args:
        folder: Data folder; official and generated files are looked for in its subfolder `jet_classification`.
        particles: Constituents of a jet.

    Raises:
        DataError: A file is damaged, or there is none with so many particles.
    """
    folder = folder / Path(__file__).parent.name
    jets = load_sibling(__file__, "official").load(folder, particles)
    if jets is None:
        return _simulated(folder, particles)
    order = np.random.default_rng(SPLIT_SEED).permutation(len(jets["train_inputs"]))
    cut = max(1, round(VALIDATION_FRACTION * len(order)))
    train, validation = np.sort(order[cut:]), np.sort(order[:cut])  # views of the memory in their order are faster
    spread = fit_spread(jets["train_inputs"])
    jets["train_inputs"] /= spread
    jets["val_inputs"] /= spread
    return Data(
        train=Split(jets["train_inputs"][train], jets["train_labels"][train]),
        validation=Split(jets["train_inputs"][validation], jets["train_labels"][validation]),
        test=Split(jets["val_inputs"], jets["val_labels"]),
        source=f"official: hls4ml LHC jets, 150 particles, Zenodo 3602260, first {particles} particles",
        is_simulation=False,
        digest=_digest(jets["digest"], particles),
        preprocessing=_describe(spread, particles),
    )


def _simulated(folder: Path, particles: int) -> Data:
    """Split a simulation by events: the first 70 % train, the next 10 % validate, the last 20 % test."""
    jets, digest, source = simulated_jets(folder, particles)
    inputs, labels = np.ascontiguousarray(jets["constituents"][:, :particles]), jets["label"]
    first, second = (
        round(fraction * len(labels) / 10) * 10 for fraction in (0.7, 0.8)
    )  # ten jets: a pair of each class
    spread = fit_spread(inputs[:second])
    inputs /= spread
    return Data(
        train=Split(inputs[:first], labels[:first]),
        validation=Split(inputs[first:second], labels[first:second]),
        test=Split(inputs[second:], labels[second:]),
        source=source,
        is_simulation=True,
        digest=_digest(digest, particles),
        preprocessing=_describe(spread, particles),
    )


def simulated_jets(folder: Path, particles: int) -> tuple[dict[str, np.ndarray], str, str]:
    """Return simulated jets of at least `particles` constituents as `generate.decode` does, their digest and source.

    The largest generated file of the present settings in `folder` is taken, else the sample.
    """
    generator, store = (load_sibling(__file__, name) for name in ("generate", "store"))
    best: tuple[int, Path] | None = None
    for path in sorted(folder.glob(f"simulation_*_{generator.settings_key()}.npz")):
        match = re.match(r"simulation_(\d+)p_(\d+)_", path.name)
        if match and int(match[1]) >= particles and (best is None or int(match[2]) > best[0]):
            best = int(match[2]), path
    if best is None and particles > SAMPLE_PARTICLES:
        raise DataError(
            f"There are no jets of {particles} particles in {folder}; the shipped sample has {SAMPLE_PARTICLES}. "
            f"Generate them: python projects/jet_classification/generate.py --jets 600000 --particles {particles}"
        )
    path = best[1] if best else SAMPLE
    if best is None:
        check_sample(path)
    stored, record = store.read(path)
    source = (
        f"simulation: Pythia 8 and fastjet, {record['jets']} jets, seed {record['seed']}; not the official benchmark"
    )
    return generator.decode(stored), record["sha256"], source


def check_sample(path: Path) -> None:
    """Raise DataError unless the shipped sample is the one that belongs to this code."""
    if not path.exists():
        raise DataError(f"The sample {path} is missing; restore it from the repository, or make it: {SAMPLE_COMMAND}")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != SAMPLE_SHA256:
        raise DataError(
            f"The sample {path} has sha256 {digest}; allowed: {SAMPLE_SHA256}. Restore it from the repository."
        )


def fit_spread(inputs: np.ndarray) -> np.ndarray:
    """Return the 95th minus the 5th percentile of each feature, padding included, as published (float32, (3,)).

    Raises:
        DataError: A feature does not vary.
    """
    high, low = np.percentile(inputs.reshape(-1, inputs.shape[-1]), (95, 5), axis=0)
    for name, spread in zip(FEATURES, high - low, strict=True):
        if not spread > 0:
            raise DataError(
                f"The feature {name} of the jets does not vary (p95 - p5 is {spread}); check the data file."
            )
    return (high - low).astype(np.float32)


def _describe(spread: np.ndarray, particles: int) -> dict[str, Any]:
    return {
        "features": list(FEATURES),
        "order": "pt, descending",
        "particles": particles,
        "min_pt_gev": load_sibling(__file__, "official").MIN_PT_GEV,
        "padding": 0.0,
        "divide_by": [float(s) for s in spread],
    }


def _digest(content: str, particles: int) -> str:
    return hashlib.sha256(f"{content} {particles} {VALIDATION_FRACTION} {SPLIT_SEED}".encode()).hexdigest()
