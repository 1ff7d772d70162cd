"""The official BraggNN data: two HDF5 files, from which only the patches around the peaks are read."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

from codesign.core.errors import DataError
from codesign.core.plugins import load_sibling

patches = load_sibling(__file__, "patches")

FRAMES = "frames-exp4train.hdf5"
PEAKS = "peaks-exp4train-psz11.hdf5"
ORIGIN = "https://github.com/lzhengchun/BraggNN (folder dataset)"
COLUMNS = ("peak_fidx", "peak_row", "peak_col", "npeaks", "deviations")
CACHED_CHUNKS_BYTES = 64 << 20  # one frame is 16 MiB; peaks are sorted by frame


def is_present(folder: Path) -> bool:
    """Return whether `folder` holds the official files.

    Raises:
        DataError: It holds one of the two.
    """
    found = [name for name in (FRAMES, PEAKS) if (folder / name).exists()]
    if len(found) == 1:
        missing = PEAKS if found == [FRAMES] else FRAMES
        raise DataError(
            f"The folder {folder} holds {found[0]} but not {missing}; both are needed. "
            f"Get it from {ORIGIN} and put it there."
        )
    return bool(found)


def read(folder: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return clean counts (n, 11, 11) float32, labels (n, 2) as row and column in pixels, and split (n,) of every peak.

    Peaks that are one (npeaks == 1) and fitted well (0 <= deviations < 1) are used. The split is 0, 1, 2 for training,
    validation and test: the first 80 %, the next 10 % and the rest of the rows, before that choice, as published; rows
    are sorted by frame, so the parts come from different frames. Beyond the detector's edge there are zeros, so that a
    label always lies in [5, 6) (the published loader centers such patches instead).

    Raises:
        DataError: A file is truncated, misses a data set, or holds a wrong shape, NaN, or peaks off the frames.
    """
    columns = _peaks(folder / PEAKS)
    rows = len(columns["npeaks"])
    deviations = columns["deviations"]
    chosen = np.flatnonzero((columns["npeaks"] == 1) & (deviations >= 0) & (deviations < 1))
    if not len(chosen):
        raise DataError(
            f"The file {folder / PEAKS} holds no row with npeaks == 1 and 0 <= deviations < 1; one or more are needed. "
            f"Get the file from {ORIGIN} again."
        )
    frame = columns["peak_fidx"][chosen].astype(np.int64)
    position = np.stack([columns["peak_row"][chosen], columns["peak_col"][chosen]], axis=1).astype(np.float64)
    corner = np.floor(position).astype(np.int64) - patches.SIDE // 2
    counts = _crops(folder / FRAMES, frame, corner)
    labels = position - corner
    split = np.digitize(chosen, [int(0.8 * rows), int(0.9 * rows)])
    return patches.clean(counts, labels), labels, split


def _peaks(path: Path) -> dict[str, np.ndarray]:
    with _open(path) as file:
        columns = {name: _dataset(file, path, name)[...] for name in COLUMNS}
    shapes = {name: column.shape for name, column in columns.items()}
    if len(set(shapes.values())) > 1 or len(shapes["npeaks"]) != 1 or not shapes["npeaks"][0]:
        raise DataError(
            f"The file {path} has data sets of shapes {shapes}; allowed: one axis, of the same length, 1 or more. "
            f"Get the file from {ORIGIN} again."
        )
    bad = [name for name, column in columns.items() if not np.isfinite(column).all()]
    if bad:
        raise DataError(
            f"The file {path} holds NaN or infinite values in {', '.join(bad)}; only finite numbers are allowed. "
            f"Get the file from {ORIGIN} again."
        )
    return columns


def _crops(path: Path, frame: np.ndarray, corner: np.ndarray) -> np.ndarray:
    """Return an 11 × 11 window of a frame for each corner (row, column), with zeros off the frame."""
    crops = np.zeros((len(frame), patches.SIDE, patches.SIDE), np.float32)
    with _open(path) as file:
        frames = _dataset(file, path, "frames")
        if frames.ndim != 3 or not frames.size:
            raise DataError(
                f"The data set frames of {path} has shape {frames.shape}; "
                f"allowed: (frames, rows, columns), none of them 0. Get the file from {ORIGIN} again."
            )
        count, height, width = frames.shape
        last = corner + patches.SIDE
        off = (frame >= count) | (corner >= (height, width)).any(axis=1) | (last <= 0).any(axis=1)
        if off.any():
            i = int(np.flatnonzero(off)[0])
            raise DataError(
                f"A peak lies on frame {frame[i]} near row {corner[i, 0] + 5}, column {corner[i, 1] + 5}; "
                f"{path} has {count} frames of {height} × {width}. Take both files from one version of {ORIGIN}."
            )
        low, high = np.maximum(corner, 0), np.minimum(last, (height, width))
        try:
            for i, crop in enumerate(crops):
                (r0, c0), (r1, c1), (r, c) = low[i], high[i], corner[i]
                crop[r0 - r : r1 - r, c0 - c : c1 - c] = frames[frame[i], r0:r1, c0:c1]
        except OSError as error:
            raise _damaged(path, error) from error
    bad = int((~np.isfinite(crops)).any(axis=(1, 2)).sum())
    if bad:
        raise DataError(
            f"The frames of {path} hold NaN or infinite values around {bad} peaks; get it from {ORIGIN} again."
        )
    return crops


def _open(path: Path) -> h5py.File:
    try:
        return h5py.File(path, "r", rdcc_nbytes=CACHED_CHUNKS_BYTES)
    except OSError as error:
        raise _damaged(path, error) from error


def _dataset(file: h5py.File, path: Path, name: str) -> h5py.Dataset:
    if not isinstance(file.get(name), h5py.Dataset):
        raise DataError(
            f"The file {path} has no data set {name}; it holds: {', '.join(sorted(file)) or 'nothing'}. "
            f"Get the file from {ORIGIN} again."
        )
    return file[name]


def _damaged(path: Path, error: OSError) -> DataError:
    return DataError(f"The file {path} is truncated or no HDF5 file ({error}). Get it from {ORIGIN} again.")
