"""The official jets (Zenodo 3602260): read in a stream, selected as published, and cached with a digest.

Layout: `jetImage_*_150p_*.h5`, each with `jetConstituentList` (jets, 150, 16) and `jets` (jets, 59).
Preprocessing: Odagiu et al., Ultrafast jet classification on FPGAs for the HL-LHC, arXiv 2402.01876, section 3.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, BinaryIO

import h5py
import numpy as np
from tqdm import tqdm

from codesign.core.download import RemoteFile
from codesign.core.errors import DataError
from codesign.core.plugins import load_sibling

DOI = "10.5281/zenodo.3602260"
_URL = "https://zenodo.org/records/3602260/files/{}?download=1"
ARCHIVES = {
    part: RemoteFile(name := f"hls4ml_LHCjet_150p_{part}.tar.gz", _URL.format(name), md5, DOI)
    for part, md5 in (("train", "af12d3a500414924e70a73b56fc49aec"), ("val", "ff902e6a02bfb4247a9068bf7ff7f6db"))
}
COLUMNS = {5: "pt", 8: "etarel", 11: "phirel"}
LABELS = ("j_g", "j_q", "j_w", "j_z", "j_t")
MIN_PT_GEV = 2.0
ROWS = 1000  # read at once: 19 MB of the list of constituents
FORMAT = 1
ADVICE = "Download it again: python -m projects.jet_classification.download"


def find(folder: Path) -> dict[str, Path] | None:
    """Return the official sources in `folder`: the archives, or folders `train` and `val` of extracted files.

    Raises:
        DataError: One half is there, the other is not.
    """
    found = {}
    for part, archive in ARCHIVES.items():
        if any((folder / part).glob("*.h5")):
            found[part] = folder / part
        elif (folder / archive.name).exists():
            found[part] = folder / archive.name
    if len(found) == 1:
        (missing,) = set(ARCHIVES) - set(found)
        raise DataError(
            f"The official jets in {folder} are half there: {ARCHIVES[missing].name} is missing; allowed: both, "
            f"or neither for the simulation. Do: python -m projects.jet_classification.download"
        )
    return found or None


def load(folder: Path, particles: int) -> dict[str, Any] | None:
    """Return the official jets in `folder`, or None if there are none.

    Returns:
        train_inputs, val_inputs: float32 (jets, particles, 3), pt in GeV, eta_rel, phi_rel, zero-padded.
        train_labels, val_labels: int64 (jets,). And `digest`, the sha256 of the content.
    """
    sources = find(folder)
    if sources is None:
        return None
    store = load_sibling(__file__, "store")
    cache = folder / f"official_{particles}p_{_key(sources)}.npz"
    if not cache.exists():
        _write_cache(store, cache, sources, particles)
    arrays, record = store.read(cache)
    return arrays | {"digest": record["sha256"]}


def _write_cache(store: ModuleType, cache: Path, sources: dict[str, Path], particles: int) -> None:
    arrays = {}
    for part, source in sources.items():
        arrays[f"{part}_inputs"], arrays[f"{part}_labels"] = read(source, particles)
    record = {"source": DOI, "particles": particles, "min_pt_gev": MIN_PT_GEV, "files": _files(sources)}
    store.write(cache, arrays, record, method=zipfile.ZIP_STORED)


def _files(sources: dict[str, Path]) -> list[tuple[str, int]]:
    paths = [p for source in sources.values() for p in (sorted(source.glob("*.h5")) if source.is_dir() else [source])]
    return [(path.name, path.stat().st_size) for path in paths]


def _key(sources: dict[str, Path]) -> str:
    return hashlib.sha256(json.dumps([FORMAT, _files(sources)]).encode()).hexdigest()[:12]


def read(source: Path, particles: int) -> tuple[np.ndarray, np.ndarray]:
    """Return inputs and labels of all files in an archive or a folder, in the order of their names.

    Raises:
        DataError: A file is truncated or malformed, holds NaN, or there is none.
    """
    parts = {}
    try:
        for name, content in tqdm(_open(source), desc=f"reading {source.name}", unit="file"):
            parts[name] = _read_file(f"{source.name}/{name}", content, particles)
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise DataError(f"{source} is truncated or damaged ({error}). {ADVICE}") from error
    if not parts:
        raise DataError(f"{source} holds no jetImage_*_150p_*.h5 file. {ADVICE}")
    inputs, labels = zip(*(parts[name] for name in sorted(parts)), strict=True)
    return np.concatenate(inputs), np.concatenate(labels)


def _open(source: Path) -> Iterator[tuple[str, BinaryIO]]:
    """Yield the data files, one at a time in memory."""
    if source.is_dir():
        for path in sorted(source.glob("*.h5")):
            with path.open("rb") as content:
                yield path.name, content
        return
    with tarfile.open(source, "r|gz") as archive:
        for member in archive:
            name = Path(member.name).name
            if member.isfile() and name.endswith(".h5") and not name.startswith("."):
                content = archive.extractfile(member)
                assert content is not None
                yield name, io.BytesIO(content.read())


def _read_file(name: str, content: BinaryIO, particles: int) -> tuple[np.ndarray, np.ndarray]:
    try:
        with h5py.File(content, "r") as file:
            _check(name, file)
            blocks = []
            step = _whole_chunks(file["jetConstituentList"])
            for start in range(0, len(file["jets"]), step):
                rows = slice(start, start + step)
                blocks.append(_select(name, file["jetConstituentList"][rows], file["jets"][rows, -6:-1], particles))
    except OSError as error:
        raise DataError(f"{name} is no HDF5 file, or a truncated one ({error}). {ADVICE}") from error
    inputs, labels = zip(*blocks, strict=True)
    return np.concatenate(inputs), np.concatenate(labels)


def _whole_chunks(dataset: h5py.Dataset) -> int:
    """Return about ROWS rows that end where a chunk ends, so that no chunk is decompressed twice."""
    chunk = dataset.chunks[0] if dataset.chunks else 1
    return chunk * max(1, ROWS // chunk)


def _check(name: str, file: h5py.File) -> None:
    """Compare datasets, shapes and, where the file states them, names of columns with the official layout."""
    for key in ("jetConstituentList", "jets"):
        if not isinstance(file.get(key), h5py.Dataset):
            raise DataError(f"{name} has no dataset {key}; it has: {', '.join(sorted(file)) or 'none'}. {ADVICE}")
    constituents, jets = file["jetConstituentList"].shape, file["jets"].shape
    if len(constituents) != 3 or constituents[2] <= max(COLUMNS) or len(jets) != 2 or jets[1] < 6:
        expected = "(jets, 150, 16) and (jets, 59)"
    elif not jets[0] or jets[0] != constituents[0]:
        expected = "as many jets in both, and at least one"
    else:
        expected = ""
    if expected:
        raise DataError(
            f"{name} has jetConstituentList of shape {constituents} and jets of {jets}; allowed: {expected}. {ADVICE}"
        )
    names = {k: [n.decode() for n in file[k][:]] for k in ("particleFeatureNames", "jetFeatureNames") if k in file}
    particle, jet = names.get("particleFeatureNames"), names.get("jetFeatureNames")
    if particle and [particle[i].removeprefix("j1_") for i in COLUMNS] != list(COLUMNS.values()):
        raise DataError(
            f"{name} has the particle features {', '.join(particle)}; expected: {COLUMNS} by column. {ADVICE}"
        )
    if jet and tuple(jet[-6:-1]) != LABELS:
        raise DataError(
            f"{name} ends in the jet features {', '.join(jet[-6:])}; expected: {', '.join(LABELS)}, one more. {ADVICE}"
        )


def _select(name: str, constituents: np.ndarray, one_hot: np.ndarray, particles: int) -> tuple[np.ndarray, np.ndarray]:
    """Keep the first constituents above 2 GeV and pad with zeros; a jet without any is dropped, as published."""
    values = constituents[:, :, list(COLUMNS)]  # (jets, 150, 3)
    bad = int((~np.isfinite(values)).sum())
    if bad:
        raise DataError(f"{name} holds {bad} NaN or infinite values among the constituents. {ADVICE}")
    if not (np.isin(one_hot, (0, 1)).all() and (one_hot.sum(axis=1) == 1).all()):
        row = int(np.argmax(~np.isin(one_hot, (0, 1)).all(axis=1) | (one_hot.sum(axis=1) != 1)))
        raise DataError(f"{name} has a label {one_hot[row].tolist()}; allowed: one 1 and four 0 (one-hot). {ADVICE}")
    keep = values[:, :, 0] > MIN_PT_GEV
    first = np.argsort(~keep, axis=1, kind="stable")[:, :particles]
    chosen = np.take_along_axis(values, first[..., None], axis=1) * np.take_along_axis(keep, first, axis=1)[..., None]
    padding = ((0, 0), (0, particles - chosen.shape[1]), (0, 0))
    is_jet = keep.any(axis=1)
    return np.pad(chosen, padding)[is_jet].astype(np.float32), one_hot.argmax(axis=1)[is_jet].astype(np.int64)
