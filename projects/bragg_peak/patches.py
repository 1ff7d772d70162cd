"""What a host does to a raw patch before the network sees it: the same for simulated and for official patches."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

SIDE = 11  # pixels
PREPROCESSING = {
    "crop": "11 × 11 pixels from int(row) - 5, int(column) - 5; zeros beyond the detector",
    "clean": "keep the component of non-zero pixels (8 neighbors) whose local maxima lie nearest to the peak",
    "scale": "(counts - minimum) / (maximum - minimum) of each patch",
}


def clean(counts: np.ndarray, centers: np.ndarray) -> np.ndarray:
    """Return the patches with only the component of non-zero pixels that belongs to the peak.

    It is the component of which the mean position of the local maxima is nearest to the center; a maximum in the
    outermost row or column does not count, and a patch of several components without a maximum becomes zero. A patch of
    one component stays as it is.
    Source: `clean_patch` of BraggNN's data set (Liu et al., arXiv 2008.08198).

    Args:
        counts: Patches (n, 11, 11).
        centers: Row and column of each peak (n, 2), in pixels.
    """
    neighbors = np.zeros((3, 3, 3))
    neighbors[1] = 1  # no component reaches into the next patch
    labels, components = ndimage.label(counts > 0, neighbors)
    first = np.full(len(counts), components + 1)
    patch, row, column = np.nonzero(labels)
    label = labels[patch, row, column]
    np.minimum.at(first, patch, label)
    last = labels.reshape(len(counts), -1).max(axis=1)

    is_maximum = (counts == ndimage.maximum_filter(counts, (1, 3, 3))) & (counts > 0)
    is_maximum[:, [0, -1], :] = is_maximum[:, :, [0, -1]] = False
    patch, row, column = np.nonzero(is_maximum)
    label = labels[patch, row, column]
    maxima = np.bincount(label, minlength=components + 1)
    owner = np.zeros(components + 1, dtype=np.int64)
    owner[label] = patch
    with np.errstate(invalid="ignore"):
        rows = np.bincount(label, row, components + 1) / maxima
        columns = np.bincount(label, column, components + 1) / maxima
    distance = np.hypot(rows - centers[owner, 0], columns - centers[owner, 1])
    distance[maxima == 0] = np.inf

    nearest = np.full(len(counts), -1)
    candidates = np.flatnonzero(np.isfinite(distance))
    candidates = candidates[np.argsort(-distance[candidates], kind="stable")]
    nearest[owner[candidates]] = candidates  # the last assignment, the nearest component, stays
    single = first >= last
    keep = single[:, None, None] | (labels == nearest[:, None, None])
    return np.where(keep, counts, 0)


def scale(counts: np.ndarray) -> np.ndarray:
    """Return each patch (n, 11, 11) between 0 and 1 as network input: float32 (n, 11, 11, 1). A flat patch stays."""
    counts = counts.astype(np.float32)
    low, high = counts.min(axis=(1, 2), keepdims=True), counts.max(axis=(1, 2), keepdims=True)
    is_flat = low == high
    scaled = np.where(is_flat, counts, (counts - low) / np.where(is_flat, 1, high - low))
    return scaled[..., None]
