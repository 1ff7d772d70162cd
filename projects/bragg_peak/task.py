"""Bragg peaks: the sub-pixel center of a diffraction spot from its 11 × 11 pixels."""

from __future__ import annotations

import hashlib
from functools import partial
from pathlib import Path

import numpy as np

from codesign.blocks.conv2d import Conv2d
from codesign.blocks.conv_attention import ConvAttention
from codesign.blocks.dense import Dense
from codesign.blocks.mlp_mixer import MlpMixer
from codesign.core.architecture import Architecture
from codesign.core.errors import InvalidValueError, unknown_name
from codesign.core.plugins import load_sibling
from codesign.core.space import Choice, Repeat, SearchSpace, one_of, ordered
from codesign.core.task import Data, Objective, Split, Task

SHAPE = (11, 11, 1)
MIDDLE_PX = 5.5  # a label lies in [5, 6): outputs are small and centered, which fixed-point numbers like
SPLITS = ("train", "validation", "test")


def task(
    space: str = "buildable",
    lut_limit: float = 60_000.0,
    samples: int = 40_000,
    label_jitter_px: float = 0.12,
    seed: int = 0,
) -> Task:
    """Return the task.

    Args:
        space: "buildable"; "paper" for the search space of Weitz et al., arXiv 2501.05515, section 3, of which nearly
            all members have a layer norm, and so are float-only; or "paper_streamed", the same without layer norms.
            The last two are searched for hardware that takes a pixel a clock, since most are too large to unroll.
        lut_limit: Largest LUT estimate of a candidate; 0 for no limit.
        samples: Simulated patches, split 80/10/10; without effect on official data.
        label_jitter_px: Standard deviation of the simulated label's error in each coordinate; 0 for exact labels.
        seed: Seed of the simulation.
    """
    if space not in SPACES:
        raise unknown_name("search space of bragg_peak", space, SPACES)
    if samples < 10 or not 0 <= label_jitter_px < 1 or not 0 <= lut_limit < float("inf"):
        raise InvalidValueError(
            f"Task bragg_peak received samples={samples}, label_jitter_px={label_jitter_px}, lut_limit={lut_limit}; "
            "allowed: 10 or more samples, a jitter from 0 to below 1 px, a limit of 0 or more."
        )
    options = {
        "space": space,
        "lut_limit": lut_limit,
        "samples": samples,
        "label_jitter_px": label_jitter_px,
        "seed": seed,
    }
    changed = [
        f"{k}={v}" for (k, v), default in zip(options.items(), task.__defaults__ or (), strict=True) if v != default
    ]
    return Task(
        name=Path(__file__).parent.name + (":" if changed else "") + ",".join(changed),
        title="Sub-pixel center of an X-ray Bragg peak in an 11 × 11 patch",
        input_shape=SHAPE,
        input_meaning=("intensity between 0 and 1",),
        output_meaning=("column - 5.5 [px]", "row - 5.5 [px]"),
        load=partial(load, samples=samples, label_jitter_px=label_jitter_px, seed=seed),
        loss="mse",
        score=score,
        objectives=(Objective("distance_px"), Objective("lut_estimate", limit=lut_limit or None)),
        space=SPACES[space],
        baselines=BASELINES,
        source="Liu et al., BraggNN: fast X-ray Bragg peak analysis using deep learning, doi:10.1107/S2052252521011258",
        default_dataflow="parallel" if space == "buildable" else "streaming",
        default_bits=6,  # costs 0.001 px against 8 bits, and two fifths of the LUTs less
    )


def score(outputs: np.ndarray, targets: np.ndarray) -> dict[str, float]:
    """Return mean, 75th and 95th percentile of the Euclidean distance (px) between outputs and targets (n, 2)."""
    distance = np.linalg.norm(np.asarray(outputs, dtype=np.float64) - targets, axis=1)
    p75, p95 = np.percentile(distance, [75, 95])
    return {"distance_px": float(distance.mean()), "distance_p75_px": float(p75), "distance_p95_px": float(p95)}


def constant_floor_px(targets: np.ndarray) -> float:
    """Return the mean distance that the constant answer 5.5, 5.5 scores: 0.3825 px on the official data."""
    return score(np.zeros_like(targets), targets)["distance_px"]


def load(folder: Path, samples: int, label_jitter_px: float, seed: int) -> Data:
    """Return the official data if `folder`/bragg_peak holds its files, else the simulation, kept in that folder.

    Raises:
        DataError: An official file is missing, truncated or malformed.
    """
    cache, official, patches = (load_sibling(__file__, name) for name in ("cache", "official", "patches"))
    folder = folder / "bragg_peak"
    is_simulation = not official.is_present(folder)
    if is_simulation:
        make = partial(_simulated, samples, label_jitter_px, seed)
        # A change of the simulator's code makes a new file
        code = b"".join(Path(__file__).with_name(f"{name}.py").read_bytes() for name in ("simulator", "patches"))
        key = hashlib.sha256(repr((samples, label_jitter_px, seed)).encode() + code).hexdigest()[:16]
        path = folder / f"simulation-{key}.npz"
    else:
        make = partial(_official, folder)
        frames = (folder / official.FRAMES).stat()
        state = repr((frames.st_size, frames.st_mtime_ns)).encode() + (folder / official.PEAKS).read_bytes()
        path = folder / f"official-{hashlib.sha256(state).hexdigest()[:16]}.npz"
    arrays, digest = cache.fetch(path, make)
    rows = [arrays["split"] == i for i in range(3)]
    targets = (arrays["labels"][:, ::-1] - MIDDLE_PX).astype(np.float32)
    splits = {name: Split(arrays["inputs"][row], targets[row]) for name, row in zip(SPLITS, rows, strict=True)}
    origin = (
        f"Simulation (pseudo-Voigt peaks, {samples} patches, label jitter {label_jitter_px} px, seed {seed})"
        if is_simulation
        else f"Official BraggNN data ({official.FRAMES}, {official.PEAKS})"
    )
    floor = constant_floor_px(splits["test"].targets) if len(splits["test"].targets) else float("nan")
    source = f"{origin}; a constant answer scores {floor:.4f} px on its test set"
    return Data(
        **splits, source=source, is_simulation=is_simulation, digest=digest, preprocessing=patches.PREPROCESSING
    )


def _simulated(samples: int, label_jitter_px: float, seed: int) -> dict[str, np.ndarray]:
    patches, simulator = (load_sibling(__file__, name) for name in ("patches", "simulator"))
    counts, labels, centers = simulator.simulate(samples, seed, label_jitter_px)
    split = np.digitize(np.arange(samples), [int(0.8 * samples), int(0.9 * samples)])
    return {"inputs": patches.scale(counts), "labels": labels, "centers": centers, "split": split}


def _official(folder: Path) -> dict[str, np.ndarray]:
    official, patches = (load_sibling(__file__, name) for name in ("official", "patches"))
    counts, labels, split = official.read(folder)
    return {"inputs": patches.scale(counts), "labels": labels, "split": split}


def _buildable() -> SearchSpace:
    """At most 20,000 multiply-accumulates a candidate, so that it can be unrolled with one result per clock cycle."""
    activation, norm = one_of("relu", "leaky_relu"), one_of("none", "batch")
    few, more = ordered(1, 2, 3, 4), ordered(2, 3, 4, 6, 8)
    one = Conv2d(channels=(more,), kernel=one_of(3, 5), stride=one_of(2, 3), activation=activation, norm=norm)
    two = Conv2d(channels=(few, more), kernel=3, stride=one_of((1, 2), (2, 1)), activation=activation, norm=norm)
    attention = ConvAttention(inner=ordered(1, 2, 4), rank=ordered(1, 2, 4), activation=one_of("identity", "relu"))
    mixer = MlpMixer(ordered(2, 4, 8), ordered(2, 4, 8), activation=activation, norm=norm)
    dense = Dense(ordered(4, 8, 16, 32), activation=activation, norm=norm)
    output = Dense(2, "identity")
    return SearchSpace(
        SHAPE, (one_of(None, one, two), one_of(None, attention, mixer), Repeat(dense, (1, 2, 3)), output)
    )


def _paper(norm: Choice) -> SearchSpace:
    """Three blocks and a dense head of four layers; zeros are padded, so that kernels can be chosen freely."""
    activation = one_of("relu", "leaky_relu", "gelu", "identity")
    width = ordered(4, 8, 16, 32, 64)
    kernel = one_of(1, 3, 5)
    conv = Conv2d((width, width), (kernel, kernel), 1, "same", (activation, activation), (norm, norm))
    attention = ConvAttention(width, "softmax", activation=activation)
    first = Conv2d((width,), activation="identity")
    block, dense = one_of(None, conv, attention), Dense(width, activation, norm)
    return SearchSpace(SHAPE, (first, *[block] * 3, *[dense] * 3, Dense(2, "identity")))


SPACES = {
    "buildable": _buildable(),
    "paper": _paper(one_of("none", "batch", "layer")),
    "paper_streamed": _paper(one_of("none", "batch")),
}

LEAKY = "leaky_relu_0.01"
NON_LOCAL = (
    Conv2d((64,), activation="identity"),
    ConvAttention(32, "softmax", activation=LEAKY),
    Conv2d((32, 8), activation=LEAKY),
)

BASELINES = {
    # Liu et al., arXiv 2008.08198, figure 2: 33,172 parameters, 0.29 px and 0.57 px at the 75th and 95th percentile
    "braggnn": Architecture(SHAPE, (*NON_LOCAL, *(Dense(w, LEAKY) for w in (16, 8, 4, 2)), Dense(2, "identity"))),
    # Weitz et al., arXiv 2501.05515: BraggNN in the blocks of that paper, 45,274 parameters, 0.2040 px
    "braggnn_nac": Architecture(SHAPE, (*NON_LOCAL, *(Dense(w, LEAKY) for w in (64, 32, 16)), Dense(2, "identity"))),
    # Levental et al., OpenHLS, arXiv 2302.06751: 3,016 parameters, 4.8 µs a sample. The ReLU at its very end is left
    # out, since an offset from the middle may be negative.
    "openhls": Architecture(
        SHAPE,
        (
            Conv2d((16,), activation="identity"),
            ConvAttention(8, "softmax", activation="relu"),
            Conv2d((8, 2), activation="relu"),
            *(Dense(w) for w in (16, 8, 4)),
            Dense(2, "identity"),
        ),
    ),
    # The same steps with what an FPGA builds exactly, small enough to unroll
    "compact": Architecture(
        SHAPE,
        (
            Conv2d((4,), stride=2, norm="batch"),
            ConvAttention(2, "learned", rank=4),
            Dense(16),
            Dense(8),
            Dense(2, "identity"),
        ),
    ),
}
