"""Peak memory of a process that reads the official files of 500,000 jets and trains on 8 particles of each.

The archives have the official layout: HDF5 files of 10,000 jets × 150 constituents × 16 features in double precision,
192 MB each, packed as .tar.gz. What they hold are the shipped simulated jets, over and over. Reading, selection, the
cache on disk, scaling, splits and one epoch of training all happen in the process that is measured.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import h5py
import numpy as np

from codesign import network
from codesign.core.plugins import PROJECTS, load_sibling, load_task
from codesign.train import train
from codesign.train_options import TrainOptions

BYTES_PER_GB = 1e9
FILES = {"train": 50, "val": 5}
JETS = 10_000  # in a file
CONSTITUENTS, PARTICLE_FEATURES, JET_FEATURES = 150, 16, 59


def peak_memory() -> float:
    """Return the peak memory (GB) of a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        write_archives(Path(folder) / "jet_classification")
        code = "import sys; from benchmarks.training_memory import load_and_train; load_and_train(sys.argv[1])"
        done = subprocess.run([sys.executable, "-c", code, folder], check=True, stdout=subprocess.PIPE, text=True)
        return float(done.stdout.split()[-1])


def write_archives(folder: Path) -> None:
    """Write archives in the official layout."""
    data, official = (load_sibling(PROJECTS / "jet_classification" / "task.py", name) for name in ("data", "official"))
    jets, _, _ = data.simulated_jets(folder, data.SAMPLE_PARTICLES)
    folder.mkdir()
    for part, count in FILES.items():
        with tarfile.open(folder / official.ARCHIVES[part].name, "w:gz", compresslevel=1) as archive:
            for i in range(count):
                rows = np.arange(i * JETS, (i + 1) * JETS) % len(jets["label"])
                constituents = np.zeros((JETS, CONSTITUENTS, PARTICLE_FEATURES))
                constituents[:, : data.SAMPLE_PARTICLES, list(official.COLUMNS)] = jets["constituents"][rows]
                features = np.zeros((JETS, JET_FEATURES))
                features[:, -6:-1] = np.eye(len(official.LABELS))[jets["label"][rows]]
                path = folder / f"jetImage_{i}_150p.h5"
                with h5py.File(path, "w") as file:
                    file["jetConstituentList"], file["jets"] = constituents, features
                archive.add(path, f"{part}/{path.name}")
                path.unlink()


def load_and_train(folder: str) -> None:
    """Train one epoch on the official jets in a folder and print this process's peak memory (GB)."""
    task = load_task("jet_classification")
    data = task.load(Path(folder))
    assert not data.is_simulation
    model = network.build(task.baselines["nac_large"], 0)
    train(model, data, task, TrainOptions(epochs=1), seed=0, device="cpu")
    print(len(data.train.inputs) + len(data.validation.inputs), "jets")
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / BYTES_PER_GB)
