"""Tables of really trained networks: every architecture of a small space, so that a search of it costs nothing.

    python -m benchmarks.search_tables digits
    python -m benchmarks.search_tables jets

writes `benchmarks/tables/<name>.npz`: the validation error of every filling of the space, in the order of
`every_filling`, at each rung of successive halving, trained with `codesign.train` and seed 0. A rung that the table
does not hold in full was never trained. A table that was cut short goes on where it stopped.
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from codesign.blocks.deep_sets import DeepSets
from codesign.blocks.dense import Dense
from codesign.core import plugins
from codesign.core.space import Repeat, SearchSpace, one_of, ordered
from codesign.core.task import Data, Split, Task
from codesign.core.trial import Fidelity
from codesign.search.halving import halving
from codesign.search.space import digest, every_filling

FOLDER = Path(__file__).parent / "tables"
SEED = 0
SAVED_EVERY = 200  # architectures


@dataclass(frozen=True)
class Source:
    """Where a table comes from.

    Attributes:
        space: Every filling of it is trained.
        fidelities: Rungs at which it is trained, the full one last.
        batch_size: Samples of a step.
        task: Loss and metrics.
        data: Returns what is trained on.
    """

    space: SearchSpace
    fidelities: tuple[Fidelity, ...]
    batch_size: int
    task: Task
    data: Callable[[], Data]


@dataclass(frozen=True)
class Table:
    """What was measured.

    Attributes:
        space: The space.
        fidelities: Rungs, the full one last.
        choices: Choices by label of every architecture.
        errors: Validation error (architectures, rungs), float32; NaN where a training diverged.
    """

    space: SearchSpace
    fidelities: tuple[Fidelity, ...]
    choices: tuple[dict[str, int], ...]
    errors: np.ndarray

    @functools.cached_property
    def rows(self) -> dict[tuple[tuple[str, int], ...], int]:
        """Row of every architecture by its sorted choices."""
        return {tuple(sorted(c.items())): i for i, c in enumerate(self.choices)}


def digits() -> Source:
    """Return multilayer perceptrons on the handwritten digits of scikit-learn: 1,198 train, 599 validate."""

    def load() -> Data:
        from sklearn.datasets import load_digits

        inputs, targets = load_digits(return_X_y=True)
        order = np.random.default_rng(SEED).permutation(len(inputs))
        inputs, targets = (inputs[order] / 16).astype(np.float32), targets[order].astype(np.int64)
        cut = 2 * len(inputs) // 3
        train, validation = Split(inputs[:cut], targets[:cut]), Split(inputs[cut:], targets[cut:])
        return Data(train, validation, validation, "scikit-learn digits", is_simulation=False, digest="")

    layer = Dense(ordered(4, 8, 16, 32), one_of("relu", "identity"), one_of("none", "batch"))
    space = SearchSpace((64,), (Repeat(layer, (1, 2, 3)), Dense(10, "identity")))
    rungs = halving(Fidelity(9), rungs=3).rungs
    return Source(space, rungs, 32, _task("digits", space, 10), load)


def jets() -> Source:
    """Return a part of the jet task's space, on 5,000 of the sample's jets with 8 particles, for at most 4 epochs."""

    def load() -> Data:
        whole = plugins.load_task("jet_classification").load(Path("data-not-used"))
        train = Split(whole.train.inputs[:5000], whole.train.targets[:5000])
        return Data(train, whole.validation, whole.validation, whole.source, is_simulation=True, digest=whole.digest)

    width, norm = ordered(8, 16, 32, 64), one_of("none", "batch")
    activation = one_of("relu", "leaky_relu")
    phi = (Repeat(width, (0, 1)), ordered(2, 4, 8, 16, 32))
    deep_sets = DeepSets(phi, activation, norm, aggregation=one_of("mean", "max"))
    dense = Dense(width, activation, norm)
    space = SearchSpace((8, 3), (one_of(deep_sets, dense), Repeat(dense, (0, 1)), Dense(5, "identity")))
    return Source(space, halving(Fidelity(4), rungs=2, eta=4).rungs, 64, _task("jets", space, 5), load)


SOURCES = {"digits": digits, "jets": jets}


def _task(name: str, space: SearchSpace, classes: int) -> Task:
    def score(outputs: np.ndarray, targets: np.ndarray) -> dict[str, float]:
        return {"error": float((outputs.argmax(axis=1) != targets).mean())}

    meaning = tuple(map(str, range(classes)))
    return Task(name, name, space.input_shape, (), meaning, load=lambda _: None, loss="cross_entropy", score=score,
                objectives=(), space=space, baselines={}, source="")  # type: ignore[arg-type, return-value]  # fmt: skip


def read(name: str, folder: Path = FOLDER) -> Table:
    """Return a table.

    Raises:
        ValueError: It is of another space, or not finished.
    """
    source = SOURCES[name]()
    with np.load(folder / f"{name}.npz") as content:
        errors, made_of = content["errors"], str(content["space"])
    choices = tuple(every_filling(source.space))
    if made_of != digest(source.space) or len(errors) != len(choices):
        raise ValueError(f"The table {name} is of another space or unfinished; build it: benchmarks.search_tables.")
    return Table(source.space, source.fidelities, choices, errors)


def build(name: str, folder: Path = FOLDER, most: int | None = None) -> Path:
    """Train every architecture of a table (or `most` more of them) and write it.

    Raises:
        ValueError: What was written before is of another space.
    """
    import torch
    from tqdm import tqdm

    torch.set_num_threads(1)
    source, path = SOURCES[name](), folder / f"{name}.npz"
    data, choices = source.data(), tuple(every_filling(source.space))
    errors = np.empty((0, len(source.fidelities)), dtype=np.float32)
    if path.exists():
        with np.load(path) as content:
            errors = content["errors"]
            if str(content["space"]) != digest(source.space):
                raise ValueError(f"{path} is of another space; remove it first.")
    left = choices[len(errors) :][:most]
    for start in tqdm(range(0, len(left), SAVED_EVERY), unit_scale=SAVED_EVERY):
        new = [[_train(source, data, c, f) for f in source.fidelities] for c in left[start : start + SAVED_EVERY]]
        errors = np.concatenate([errors, np.array(new, dtype=np.float32)])
        np.savez_compressed(path, errors=errors, space=digest(source.space))
    return path


def _train(source: Source, data: Data, choices: dict[str, int], fidelity: Fidelity) -> float:
    from codesign import network, train
    from codesign.core.errors import TrainingError

    module = network.build(source.space.fill_from(choices), SEED)
    options = train.TrainOptions(
        epochs=fidelity.epochs, data_fraction=fidelity.data_fraction, batch_size=source.batch_size, learning_rate=1e-2
    )
    try:
        train.train(module, data, source.task, options, seed=SEED, device="cpu")
    except TrainingError:
        return float("nan")
    return source.task.score(train.predict(module, data.validation.inputs), data.validation.targets)["error"]


def main() -> None:
    """Build a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=SOURCES)
    parser.add_argument("--most", type=int, help="architectures to train now; the next call goes on")
    arguments = parser.parse_args()
    print(build(arguments.name, most=arguments.most))


if __name__ == "__main__":
    main()
