"""Simulate jets with Pythia 8 and fastjet: a declared substitute where the official files cannot be had.

    python projects/jet_classification/generate.py --jets 600000 --particles 64 --seed 0

Needs the optional extra `generate` (pythia8mc and fastjet, GPL), which is imported only here, in a process of its own.
The result depends on seed, jets and particles, never on the number of workers; fewer jets are the head of more.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import importlib.util
import json
import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

CLASSES = ("g", "q", "w", "z", "t")
PROCESSES = {
    "g": ("HardQCD:gg2gg = on", "HardQCD:qqbar2gg = on"),
    "q": ("HardQCD:qq2qq = on", "HardQCD:gg2qqbar = on"),
    "w": ("WeakDoubleBoson:ffbar2WW = on", "24:onMode = off", "24:onIfAny = 1 2 3 4 5"),
    "z": ("WeakDoubleBoson:ffbar2gmZgmZ = on", "WeakZ0:gmZmode = 2", "23:onMode = off", "23:onIfAny = 1 2 3 4 5"),
    "t": ("Top:gg2ttbar = on", "Top:qqbar2ttbar = on", "24:onMode = off", "24:onIfAny = 1 2 3 4 5"),
}
COMMON = (
    "Beams:eCM = 13000.", "PhaseSpace:pTHatMin = 990.", "PhaseSpace:pTHatMax = 1010.",
    "PartonLevel:ISR = off", "PartonLevel:MPI = off", "HadronLevel:mStringMin = 1.", "Print:quiet = on",
    "Random:setSeed = on", "Next:numberCount = 0", "Init:showProcesses = off",
)  # fmt: skip
SETTINGS: dict[str, Any] = {
    "collision": "pp, 13 TeV, hard process at 990 < pT < 1010 GeV, ISR and MPI off",
    "jets": "anti-kT, the two hardest, each near a hard parton; events without both are dropped",
    "tracks": {"sigma_pt": 0.01, "sigma_pt_per_gev": 1e-4, "sigma_angle": 0.002, "min_pt_gev": 0.5},
    "photons": {"cell": 0.0174, "stochastic": 0.05, "constant": 0.01},
    "neutral_hadrons": {"cell": 0.087, "stochastic": 1.0, "constant": 0.05},
    "min_constituent_gev": 0.1,
    "min_kept_gev": 2.0,
    "radius": 0.8,
    "max_eta": 2.5,
    "max_parton_distance": 0.4,
}
JETS_PER_CHUNK = 1000  # of one class; part of the seed's meaning
PT_STEP, ANGLE_STEP, JET_STEP_GEV = 0.005, 0.001, 0.1  # pt in steps of 0.5 %: finer than the detector resolves
FORMAT = 1
NOTE = "simulation, a substitute for the official data and never to be quoted as the official benchmark"


def generate(jets: int, particles: int, seed: int, workers: int, out: Path) -> None:
    """Simulate `jets` jets, as many of each class, and write them to `out` in one move.

    Jets stand in the order of events, classes in turn, so that any cut through the file leaves disjoint events
    (a pair of jets comes from one event) and balanced classes.

    Args:
        jets: Number of jets, a multiple of 10 (5 classes, 2 jets an event).
        particles: Constituents kept per jet, from the hardest down.
        seed: Seed of everything.
        workers: Processes.
        out: An .npz file.
    """
    from codesign.core.plugins import load_sibling

    per_class = jets // len(CLASSES)
    jobs = [(seed, label, start, min(JETS_PER_CHUNK, per_class - start), particles)
            for start in range(0, per_class, JETS_PER_CHUNK) for label in range(len(CLASSES))]  # fmt: skip
    parts = []
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), initializer=_silence)
    try:
        with tqdm(total=jets, unit="jet", desc=out.name) as bar:
            for part in pool.map(_simulate, jobs):
                parts.append(part)
                bar.update(len(part["pt"]))
    finally:
        pool.shutdown(cancel_futures=True)
    arrays = {}
    for key in parts[0]:  # (class, event, jet of the event, ...) becomes (event, class, jet of the event, ...)
        by_class = np.stack([np.concatenate([p[key] for p in parts[i :: len(CLASSES)]]) for i in range(len(CLASSES))])
        pairs = by_class.reshape(len(CLASSES), per_class // 2, 2, *by_class.shape[2:])
        arrays[key] = pairs.swapaxes(0, 1).reshape(jets, *by_class.shape[2:])
    arrays["label"] = np.tile(np.repeat(np.arange(len(CLASSES), dtype=np.uint8), 2), per_class // 2)
    store = load_sibling(__file__, "store")
    store.write(
        out, {key: np.ascontiguousarray(array.T) for key, array in arrays.items()}, provenance(jets, particles, seed)
    )


def settings_key() -> str:
    """Return 12 digits that name everything that shapes the jets, other than their number and the seed."""
    content = [FORMAT, CLASSES, SETTINGS, PROCESSES, COMMON, PT_STEP, ANGLE_STEP, JET_STEP_GEV, JETS_PER_CHUNK]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]


def file_name(jets: int, particles: int, seed: int) -> str:
    """Return the name under which the task finds a generated file."""
    return f"simulation_{particles}p_{jets}_seed{seed}_{settings_key()}.npz"


def provenance(jets: int, particles: int, seed: int) -> dict[str, Any]:
    """Return what made the content of a file, ready for JSON."""
    return {
        "note": NOTE, "jets": jets, "particles": particles, "seed": seed, "classes": CLASSES,
        "settings_key": settings_key(), "settings": SETTINGS, "processes": PROCESSES, "pythia": COMMON,
        "command": f"generate.py --jets {jets} --particles {particles} --seed {seed}",
        "versions": {p: importlib.metadata.version(p) for p in ("pythia8mc", "fastjet", "numpy")},
    }  # fmt: skip


def _silence() -> None:
    """Send what the C++ libraries print in a worker to nowhere; Ctrl-C is the parent's business."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _simulate(job: tuple[int, int, int, int, int]) -> dict[str, np.ndarray]:
    """Return one chunk of jets of one class, encoded; a chunk has a random stream of its own."""
    seed, label, start, jets, particles = job
    pythia_stream, detector_stream = np.random.SeedSequence([seed, label, start]).spawn(2)
    rng = np.random.default_rng(detector_stream)
    found: list[tuple[np.ndarray, np.ndarray]] = []
    for event, partons in _events(CLASSES[label], int(pythia_stream.generate_state(1)[0] % 900_000_000) + 1):
        pair = _cluster(_detect(event, rng), partons)
        found += pair if len(pair) == 2 else []
        if len(found) >= jets:
            break
    return _encode(found[:jets], particles)


def _events(name: str, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield events: visible particles (n, 5) as px, py, pz, E in GeV and kind, and the hard partons' (eta, phi).

    Kinds: 0 charged, 1 photon, 2 neutral hadron.
    """
    import pythia8mc

    pythia = pythia8mc.Pythia("", False)
    for line in (*COMMON, *PROCESSES[name], f"Random:seed = {seed}"):
        pythia.readString(line)
    if not pythia.init():
        raise RuntimeError(f"Pythia did not accept its settings for class {name!r}.")
    while True:
        if not pythia.next():
            continue
        particles = np.array(
            [(p.px(), p.py(), p.pz(), p.e(), 0 if p.isCharged() else 1 if p.id() == 22 else 2)
             for p in pythia.event if p.isFinal() and p.isVisible()]
        )  # fmt: skip
        hard = [pythia.process[i] for i in (5, 6)]
        yield particles, np.array([(p.eta(), p.phi()) for p in hard])


def _detect(event: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return what a detector sees (n, 3) as pt in GeV, eta, phi: smeared tracks, merged and smeared calorimeter cells.

    Resolutions are those of a CMS-like detector; the cells limit how close two neutral particles are told apart.
    """
    px, py, pz, energy, kind = event.T
    pt = np.hypot(px, py)
    eta, phi = np.arcsinh(pz / np.maximum(pt, 1e-9)), np.arctan2(py, px)
    central = np.abs(eta) < SETTINGS["max_eta"] + SETTINGS["radius"]
    track = SETTINGS["tracks"]
    charged = central & (kind == 0) & (pt > track["min_pt_gev"])
    sigma = np.hypot(track["sigma_pt"], track["sigma_pt_per_gev"] * pt[charged])
    angles = np.stack([eta[charged], phi[charged]], 1) + rng.normal(0, track["sigma_angle"], (charged.sum(), 2))
    seen = [np.column_stack([pt[charged] * np.maximum(1 + sigma * rng.normal(size=charged.sum()), 0), angles])]
    for number, name in ((1, "photons"), (2, "neutral_hadrons")):
        model, mine = SETTINGS[name], central & (kind == number)
        cell = model["cell"]
        index = np.floor(np.stack([eta[mine], phi[mine]], 1) / cell).astype(int)
        cells, owner = np.unique(index, axis=0, return_inverse=True)
        deposit = np.bincount(owner.ravel(), energy[mine], len(cells))
        center = (cells + 0.5) * cell
        sigma = np.hypot(model["stochastic"] / np.sqrt(np.maximum(deposit, 1e-9)), model["constant"])
        deposit = deposit * np.maximum(1 + sigma * rng.normal(size=len(cells)), 0)
        seen.append(np.column_stack([deposit / np.cosh(center[:, 0]), center]))
    return np.concatenate(seen)


def _cluster(seen: np.ndarray, partons: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return (pt, mass, multiplicity) and constituents (n, 3), hardest first, of each jet of the two that fits."""
    import fastjet

    pt, eta, phi = seen[seen[:, 0] > SETTINGS["min_constituent_gev"]].T
    momenta = zip(pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta), pt * np.cosh(eta), strict=True)
    cluster = fastjet.ClusterSequence(
        [fastjet.PseudoJet(*(float(v) for v in p)) for p in momenta],
        fastjet.JetDefinition(fastjet.antikt_algorithm, SETTINGS["radius"]),
    )
    found = []
    for jet in fastjet.sorted_by_pt(cluster.inclusive_jets(200.0))[:2]:
        distance = np.hypot(partons[:, 0] - jet.eta(), _wrap(partons[:, 1] - jet.phi())).min()
        if distance > SETTINGS["max_parton_distance"] or abs(jet.eta()) > SETTINGS["max_eta"]:
            continue
        inside = np.array([(c.pt(), c.eta() - jet.eta(), _wrap(c.phi() - jet.phi())) for c in jet.constituents()])
        kept = inside[inside[:, 0] > SETTINGS["min_kept_gev"]]
        found.append((np.array([jet.pt(), jet.m(), len(inside)]), kept[np.argsort(-kept[:, 0], kind="stable")]))
    return found


def _wrap(angle: Any) -> Any:
    return (angle + np.pi) % (2 * np.pi) - np.pi


def _encode(jets: list[tuple[np.ndarray, np.ndarray]], particles: int) -> dict[str, np.ndarray]:
    """Return jets as small integers: pt on a logarithmic grid (0 is no particle), angles on a linear one."""
    constituents = np.zeros((len(jets), particles, 3))
    for row, (_, kept) in zip(constituents, jets, strict=True):
        row[: len(kept)] = kept[:particles]
    pt, eta_rel, phi_rel = np.moveaxis(constituents, -1, 0)
    floor = SETTINGS["min_kept_gev"]
    steps = np.round(np.log(np.maximum(pt, floor) / floor) / PT_STEP)
    jet_pt, jet_mass, multiplicity = np.array([jet for jet, _ in jets]).T
    return {
        "pt": np.where(pt > 0, steps + 1, 0).astype(np.uint16),
        "eta_rel": np.round(eta_rel / ANGLE_STEP).astype(np.int16),
        "phi_rel": np.round(phi_rel / ANGLE_STEP).astype(np.int16),
        "jet_pt": np.round(jet_pt / JET_STEP_GEV).astype(np.uint16),
        "jet_mass": np.round(jet_mass / JET_STEP_GEV).astype(np.uint16),
        "multiplicity": multiplicity.astype(np.uint16),
    }


def decode(stored: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return jets as they were before `_encode`, to within its steps.

    Returns:
        constituents: float32 (jets, particles, 3), pt in GeV, eta_rel, phi_rel; zeros where there is none.
        jet_pt, jet_mass: float32 (jets,) in GeV. multiplicity: (jets,), all constituents above 0.1 GeV.
        label: (jets,), index in `CLASSES`.
    """
    codes = stored["pt"].T.astype(np.float32)
    pt = np.where(codes > 0, SETTINGS["min_kept_gev"] * np.exp((codes - 1) * PT_STEP), 0)
    angles = [stored[key].T.astype(np.float32) * ANGLE_STEP for key in ("eta_rel", "phi_rel")]
    return {
        "constituents": np.stack([pt, *angles], axis=-1).astype(np.float32),
        "jet_pt": stored["jet_pt"] * np.float32(JET_STEP_GEV),
        "jet_mass": stored["jet_mass"] * np.float32(JET_STEP_GEV),
        "multiplicity": stored["multiplicity"].astype(np.int64),
        "label": stored["label"].astype(np.int64),
    }


def main() -> None:
    """Parse the command line and generate."""
    sys.path.insert(0, str(Path(__file__).parents[2]))  # run as a script, from a checkout that is not installed
    data = Path(os.environ.get("CODESIGN_DATA") or Path(__file__).parents[2] / "data") / Path(__file__).parent.name
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jets", type=int, default=60_000, help="number of jets, a multiple of 10")
    parser.add_argument("--particles", type=int, default=16, help="constituents kept per jet, 1 to 128")
    parser.add_argument("--seed", type=int, default=0, help="0 or more")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes; all cores by default")
    parser.add_argument("--out", type=Path, help=f"the .npz file; by default where the task finds it, in {data}")
    arguments = parser.parse_args()
    for name, is_allowed, allowed in (
        ("jets", arguments.jets >= 10 and arguments.jets % 10 == 0, "a multiple of 10 (5 classes, 2 jets an event)"),
        ("particles", 1 <= arguments.particles <= 128, "1 to 128"),
        ("seed", arguments.seed >= 0, "0 or more"),
        ("workers", arguments.workers >= 1, "1 or more"),
    ):
        if not is_allowed:
            parser.error(f"--{name} is {getattr(arguments, name)}; allowed: {allowed}.")
    for package in ("pythia8mc", "fastjet"):
        if importlib.util.find_spec(package) is None:
            sys.exit(f"{package} is missing; do: pip install --only-binary :all: pythia8mc==8.317.2 fastjet==3.5.2.0")
    out = arguments.out or data / file_name(arguments.jets, arguments.particles, arguments.seed)
    try:
        generate(arguments.jets, arguments.particles, arguments.seed, arguments.workers, out)
    except KeyboardInterrupt:
        sys.exit("Interrupted; nothing was written.")
    print(out)


if __name__ == "__main__":
    main()
