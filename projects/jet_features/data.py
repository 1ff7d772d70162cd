"""The 16 high-level features: the official OpenML file if it is there, else features of simulated jets."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import Any

import numpy as np

from codesign.core.errors import DataError
from codesign.core.plugins import PROJECTS, load_sibling
from codesign.core.task import Data, Split

NAME = "hls4ml_lhc_jets_hlf"
SUFFIXES = (".parquet", ".arff", ".csv")
LABELS = ("g", "q", "t", "w", "z")
ADVICE = f"Get the file from https://www.openml.org/d/42468 (data set {NAME})"
SIMULATED_PARTICLES = 16


def load(folder: Path, features: tuple[str, ...]) -> Data:
    """Return the features, split and standardized as published.

    Official: a fifth of the jets tests, the one that scikit-learn's train_test_split(random_state=42) takes, and the
    last quarter of the others validates. The mean and the deviation are those of all but the test.
    Simulation: the first 70 % of the events train, the next 10 % validate, the last 20 % test.

    Args:
        folder: Data folder; the official file is looked for in its subfolder `jet_features`.
        features: Names of the columns, in order.

    Raises:
        DataError: A file is malformed.
    """
    path = find(folder / Path(__file__).parent.name)
    if path:
        inputs, labels = read(path, features)
        source, digest = f"official: OpenML 42468 {NAME}, {len(labels)} jets", _sha256(path)
        order = np.random.RandomState(42).permutation(len(labels))
        test, kept = np.split(order, [math.ceil(len(labels) / 5)])
        cut = len(kept) * 3 // 4
    else:
        inputs, labels, source, digest = simulate(folder)
        cut, end = (round(fraction * len(labels) / 10) * 10 for fraction in (0.7, 0.8))
        kept, test = np.arange(end), np.arange(end, len(labels))
    mean, deviation = inputs[kept].mean(axis=0, dtype=np.float64), inputs[kept].std(axis=0, dtype=np.float64)
    constant = [name for name, d in zip(features, deviation, strict=True) if not d > 0]
    if constant:
        raise DataError(
            f"The feature {constant[0]} of the jets does not vary (its deviation is 0); check the data file."
        )
    rows = {"train": kept[:cut], "validation": kept[cut:], "test": test}
    splits = {part: Split(((inputs[i] - mean) / deviation).astype(np.float32), labels[i]) for part, i in rows.items()}
    preprocessing: dict[str, Any] = {
        "features": list(features),
        "subtract": mean.tolist(),
        "divide_by": deviation.tolist(),
    }
    return Data(**splits, source=source, is_simulation=path is None, digest=digest, preprocessing=preprocessing)


def find(folder: Path) -> Path | None:
    """Return the official file in `folder`, or None.

    Raises:
        DataError: The folder holds other data files only, which would silently be ignored.
    """
    for suffix in SUFFIXES:
        if (path := folder / f"{NAME}{suffix}").exists():
            return path
    others = sorted(p.name for s in SUFFIXES for p in folder.glob(f"*{s}"))
    if others:
        allowed = ", ".join(NAME + s for s in SUFFIXES)
        raise DataError(f"{folder} holds {', '.join(others)}; allowed: {allowed}. Rename the file, or take it away.")
    return None


def read(path: Path, features: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Return features float64 (jets, 16) and class indices int64 (jets,) of an official file.

    Raises:
        DataError: A column is missing, a value is no number, a class is unknown, or there are no rows.
    """
    import pandas as pd

    try:
        if path.suffix == ".arff":
            names, skipped = _arff_header(path)
            table = pd.read_csv(path, skiprows=skipped, header=None, names=names, na_values="?", skipinitialspace=True)
        else:
            table = pd.read_csv(path) if path.suffix == ".csv" else pd.read_parquet(path)
    except (ValueError, OSError) as error:  # pandas' and pyarrow's own errors are of these kinds
        raise DataError(f"{path} cannot be read ({str(error).splitlines()[0]}). {ADVICE} again.") from error
    missing = [name for name in (*features, "class") if name not in table.columns]
    if missing:
        raise DataError(f"{path} has no column {', '.join(missing)}; it has: {', '.join(map(str, table))}. {ADVICE}.")
    if not len(table):
        raise DataError(f"{path} holds no rows; allowed: one jet a row. {ADVICE} again.")
    inputs = table[list(features)].apply(pd.to_numeric, errors="coerce").to_numpy(np.float64)
    bad = int((~np.isfinite(inputs)).sum())
    if bad:
        raise DataError(f"{path} holds {bad} values that are no finite numbers. {ADVICE} again.")
    classes = table["class"].map(lambda c: c.decode() if isinstance(c, bytes) else str(c)).str.strip("'\" ")
    unknown = sorted(set(classes) - set(LABELS))
    if unknown:
        raise DataError(f"{path} holds the class {unknown[0]!r}; allowed: {', '.join(LABELS)}. {ADVICE} again.")
    return inputs, classes.map(LABELS.index).to_numpy(np.int64)


def _arff_header(path: Path) -> tuple[list[str], int]:
    """Return the names of the attributes and the number of lines before the data."""
    names = []
    with path.open() as lines:
        for number, line in enumerate(lines, start=1):
            words = line.split()
            if words and words[0].lower() == "@attribute":
                names.append(words[1].strip("'\""))
            if words and words[0].lower() == "@data":
                return names, number
    raise DataError(f"{path} has no line @DATA; allowed: an ARFF file. {ADVICE} again.")


def simulate(folder: Path) -> tuple[np.ndarray, np.ndarray, str, str]:
    """Return features (jets, 16), class indices, source and digest of the simulated jets of `jet_classification`."""
    jet_classification = PROJECTS / "jet_classification"
    jets, digest, source = load_sibling(jet_classification / "task.py", "data").simulated_jets(
        folder / jet_classification.name, SIMULATED_PARTICLES
    )
    features = load_sibling(__file__, "features")
    constituents = jets["constituents"][:, :SIMULATED_PARTICLES]
    inputs = features.compute(constituents, jets["jet_pt"], jets["jet_mass"], jets["multiplicity"])
    order = np.array([LABELS.index(c) for c in load_sibling(jet_classification / "task.py", "generate").CLASSES])
    digest = hashlib.sha256(f"{digest} features of {SIMULATED_PARTICLES}".encode()).hexdigest()
    return inputs, order[jets["label"]], f"{source}; features of the {SIMULATED_PARTICLES} hardest particles", digest


def _sha256(path: Path) -> str:
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
