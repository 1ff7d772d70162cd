"""Qubit readout: the state of a superconducting qubit from one trace of its readout resonator."""

from __future__ import annotations

import hashlib
from functools import partial
from pathlib import Path

import numpy as np

from codesign.blocks.conv1d import Conv1d
from codesign.blocks.dense import Dense
from codesign.blocks.pool import Pool
from codesign.core.architecture import Architecture, Block
from codesign.core.errors import DataError, InvalidValueError
from codesign.core.space import Repeat, SearchSpace, one_of, ordered
from codesign.core.task import Data, Objective, Split, Task

FILES = tuple(f"0528_{array}_{part}_0_770.npy" for part in ("train", "test") for array in ("X", "y"))
ORIGIN = "the data release of arXiv 2501.14663 (0528_*_0_770.npy)"
SAMPLES = 770  # of a trace, each with I and Q
START, LENGTH = 100, 400  # the window of a trace that is used, in samples
SAMPLE_NS = 3.25  # assumed for the simulation: one clock of a readout at 307.2 MHz
CHUNK = 4096  # traces at once


def task(decimation: int = 4, lut_limit: float = 60_000.0, traces: int = 40_000, seed: int = 0) -> Task:
    """Return the task.

    Args:
        decimation: Successive samples that are averaged before the network, as a converter's decimation stage does;
            this is not part of the LUT estimate. 1 keeps all 800 values. It divides 400.
        lut_limit: Largest LUT estimate of a candidate; 0 for no limit.
        traces: Simulated traces, split 80/10/10; without effect on official data.
        seed: Seed of the simulation and of the choice of validation traces.
    """
    if decimation < 1 or LENGTH % decimation or traces < 10 or not 0 <= lut_limit < float("inf"):
        raise InvalidValueError(
            f"Task qubit_readout received decimation={decimation}, traces={traces}, lut_limit={lut_limit}; "
            f"allowed: a decimation that divides {LENGTH}, 10 or more traces, a limit of 0 or more."
        )
    steps = LENGTH // decimation
    options = {"decimation": decimation, "lut_limit": lut_limit, "traces": traces, "seed": seed}
    changed = [
        f"{k}={v}" for (k, v), default in zip(options.items(), task.__defaults__ or (), strict=True) if v != default
    ]
    return Task(
        name=Path(__file__).parent.name + (":" if changed else "") + ",".join(changed),
        title="State of a superconducting qubit from one readout trace",
        input_shape=(steps, 2),
        input_meaning=("I, standardized", "Q, standardized"),
        output_meaning=("ground state", "excited state"),
        load=partial(load, decimation=decimation, traces=traces, seed=seed),
        loss="cross_entropy",
        score=score,
        objectives=(Objective("error"), Objective("lut_estimate", limit=lut_limit or None)),
        space=space(steps),
        baselines=baselines(steps),
        source="Di Guglielmo et al., End-to-end workflow for machine learning-based qubit readout, arXiv 2501.14663",
    )


def baselines(steps: int) -> dict[str, Architecture]:
    """Return the reference networks for traces of so many steps; the convolutions only where their windows fit."""
    last = Dense(2, "identity")
    bodies: dict[str, tuple[Block, ...]] = {
        # 4 linear neurons, a batch norm and the output, as published with SNAC-Pack, arXiv 2605.16138; there the
        # output is one neuron with a sigmoid
        "published": (Dense(4, "identity", "batch"),),
        "mlp": (Dense(16), Dense(8)),
        "linear": (),
        "conv1d": (Conv1d((4, 4), kernel=(8, 4), stride=4),),
    }
    if steps < 20:
        del bodies["conv1d"]
    return {name: Architecture((steps, 2), (*body, last)) for name, body in bodies.items()}


def space(steps: int) -> SearchSpace:
    """Return the search space: an average over windows of time, convolutions or none, dense layers, two outputs.

    The first convolution leaves 4 to some 25 positions, so that the second fits and neither is large.
    """
    windows = [n for n in (2, 4, 5, 8, 10, 20, 25, 50) if steps % n == 0]
    activation, norm = one_of("relu", "leaky_relu", "identity"), one_of("none", "batch")
    fronts: list[Block] = [Pool(ordered(*windows), "mean")] if windows else []
    if sides := [n for n in windows if 4 <= steps // n <= 25]:
        kernels, strides = (ordered(*sides), ordered(2, 3, 4)), (ordered(*sides), ordered(1, 2))
        fronts += [Conv1d((ordered(2, 4), ordered(2, 4, 8)), kernels, strides, "valid", activation, norm)]
    dense = Dense(ordered(2, 4, 8, 16), activation, norm)
    return SearchSpace((steps, 2), (one_of(None, *fronts), Repeat(dense, (0, 1, 2, 3)), Dense(2, "identity")))


def score(outputs: np.ndarray, targets: np.ndarray) -> dict[str, float]:
    """Return the assignment fidelity 1 - (P(1|0) + P(0|1)) / 2 and its complement, the error.

    Source: Krantz et al., A quantum engineer's guide to superconducting qubits, arXiv 1904.06560, section V.
    """
    wrong = np.argmax(outputs, axis=1) != targets
    error = float(np.mean([wrong[targets == state].mean() for state in np.unique(targets)]))
    return {"error": error, "fidelity": 1.0 - error}


def load(folder: Path, decimation: int, traces: int, seed: int) -> Data:
    """Return the official data if `folder`/qubit_readout holds its files, else a simulation.

    Raises:
        DataError: An official file is missing, truncated or malformed.
    """
    folder = folder / "qubit_readout"
    found = [name for name in FILES if (folder / name).exists()]
    if found and len(found) < len(FILES):
        missing = ", ".join(name for name in FILES if name not in found)
        raise DataError(
            f"The folder {folder} lacks {missing}; all of {', '.join(FILES)} are needed. Get them from {ORIGIN}."
        )
    rng = np.random.default_rng(seed)
    if found:
        rest, test = (_official(folder, part, decimation) for part in ("train", "test"))
        source = f"Official traces ({ORIGIN})"
    else:
        everything = simulate(traces, decimation, rng)
        rest, test = (
            Split(*(a[rows] for a in everything)) for rows in (slice(traces // 10, None), slice(traces // 10))
        )
        source = f"Simulation (dispersive readout, {traces} traces, seed {seed})"
    order = rng.permutation(len(rest.targets))
    held_out = max(1, len(order) // 10)
    train, validation = (Split(*(a[rows] for a in rest)) for rows in (order[held_out:], order[:held_out]))
    middle, width = _standardize(train.inputs, (validation.inputs, test.inputs))
    digest = hashlib.sha256()
    for array in (*train, *validation, *test):
        digest.update(np.ascontiguousarray(array).data)
    preprocessing = {
        "window": f"samples {START} to {START + LENGTH - 1}",
        "decimation": decimation,
        "subtract": middle.tolist(),
        "divide": width.tolist(),
    }
    return Data(train, validation, test, source, not found, digest.hexdigest(), preprocessing)


def _standardize(train: np.ndarray, others: tuple[np.ndarray, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Bring I and Q to mean 0 and standard deviation 1 on `train`, in place; return both as they were."""
    middle, width = train.mean(axis=(0, 1), dtype=np.float64), train.std(axis=(0, 1), dtype=np.float64)
    if not (np.isfinite(width).all() and width.all()):
        raise DataError(
            f"The training traces of qubit_readout have the standard deviations {width} in I and Q; allowed: finite "
            f"numbers above 0. Get the files from {ORIGIN} again."
        )
    for inputs in (train, *others):
        np.subtract(inputs, middle, out=inputs, casting="same_kind")
        np.divide(inputs, width, out=inputs, casting="same_kind")
    return middle, width


def _official(folder: Path, part: str, decimation: int) -> Split:
    """Read traces (n, 1540), I and Q in turn, through a memory map, and keep what is needed of them."""
    x, y = (_open(folder / f"0528_{array}_{part}_0_770.npy") for array in ("X", "y"))
    if x.ndim != 2 or x.shape[1] != 2 * SAMPLES or y.shape[:1] != x.shape[:1] or y.size != len(x) or not len(x):
        raise DataError(
            f"The {part} files in {folder} have shapes {x.shape} and {y.shape}; allowed: (traces, {2 * SAMPLES}) and "
            f"(traces,). Get them from {ORIGIN} again."
        )
    targets = np.asarray(y).reshape(-1)
    if not np.isin(targets, (0, 1)).all():
        raise DataError(f"The {part} labels in {folder} are not all 0 or 1; get them from {ORIGIN} again.")
    window = slice(2 * START, 2 * (START + LENGTH))
    inputs = np.empty((len(x), LENGTH // decimation, 2), np.float32)
    for i in range(0, len(x), CHUNK):
        rows = x[i : i + CHUNK, window].astype(np.float32)
        inputs[i : i + CHUNK] = _decimate(rows.reshape(len(rows), LENGTH, 2), decimation)
    return Split(inputs, targets.astype(np.int64))


def _open(path: Path) -> np.ndarray:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(
            f"The file {path} is truncated or no numpy array ({error}). Get it from {ORIGIN} again."
        ) from error
    if array.dtype.kind not in "biuf":
        raise DataError(
            f"The file {path} holds {array.dtype} values; allowed: real numbers. Get it from {ORIGIN} again."
        )
    return array


def _decimate(traces: np.ndarray, decimation: int) -> np.ndarray:
    n, samples, quadratures = traces.shape
    return traces.reshape(n, samples // decimation, decimation, quadratures).mean(axis=2)


def simulate(n: int, decimation: int, rng: np.random.Generator) -> Split:
    """Return simulated traces of a dispersive readout, half of them prepared in each state.

    The resonator's field obeys da/dt = -(kappa/2 + i s chi) a + drive with s = -1, +1 for ground and excited state, so
    it tends exponentially to drive / (kappa/2 + i s chi). An excited qubit relaxes at an exponential time with mean T1,
    and the field turns to the other state's. A few preparations fail. The amplifier adds white noise.

    Source: Krantz et al., arXiv 1904.06560, section V; Gambetta et al., arXiv 0709.4264, section III.
    """
    kappa_half, chi, t1_ns = 0.012, 0.008, 20_000.0  # 1/ns, 1/ns, ns
    preparation_error, amplitude, noise = 0.01, 100.0, 230.0  # the last two in converter counts
    time_ns = np.arange(START, START + LENGTH) * SAMPLE_NS
    ground, excited = kappa_half - 1j * chi, kappa_half + 1j * chi
    tends_to = amplitude * kappa_half / np.array([ground, excited])
    targets = rng.permutation(np.arange(n) % 2)
    inputs = np.empty((n, LENGTH // decimation, 2), np.float32)
    for i in range(0, n, CHUNK):
        state = targets[i : i + CHUNK]
        state = np.where(rng.random(len(state)) < preparation_error, 1 - state, state)
        jump_ns = np.where(state == 1, rng.exponential(t1_ns, len(state)), 0.0)
        jump_ns = np.minimum(jump_ns, time_ns[-1])[:, None]  # a later one is not seen
        at_jump = tends_to[1] * (1 - np.exp(-excited * jump_ns))
        before = tends_to[1] * (1 - np.exp(-excited * time_ns))
        after = tends_to[0] + (at_jump - tends_to[0]) * np.exp(ground * jump_ns) * np.exp(-ground * time_ns)
        field = np.where(time_ns <= jump_ns, before, after)
        noisy = np.stack([field.real, field.imag], axis=-1).astype(np.float32)
        noisy += noise * rng.standard_normal(noisy.shape, dtype=np.float32)
        inputs[i : i + CHUNK] = _decimate(noisy, decimation)
    return Split(inputs, targets)
