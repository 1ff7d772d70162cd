"""The classical reference: a least-squares fit of a pseudo-Voigt peak to each patch."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from codesign.core.plugins import load_sibling

patches = load_sibling(__file__, "patches")

ROWS, COLUMNS = np.mgrid[: patches.SIDE, : patches.SIDE].astype(float)
# row, column, height, widths along two axes (half widths at half maximum, logarithm), angle, Lorentzian fraction
LOWER = np.array([0.0, 0.0, 0.0, np.log(0.2), np.log(0.2), -np.pi, 0.0])
UPPER = np.array([10.0, 10.0, 10.0, np.log(5.0), np.log(5.0), np.pi, 1.0])


def fit_centers(inputs: Iterable[np.ndarray]) -> np.ndarray:
    """Return the fitted centers (n, 2) of patches (n, 11, 11, 1), as the task's outputs: column and row minus 5.5 px.

    Pixels below the detector's threshold are stored as zero. There the fit only demands that the peak does not exceed
    the smallest value that is stored: a censored measurement, not a measured zero.
    """
    return np.array([fit_center(patch[..., 0].astype(float)) for patch in inputs])


def fit_center(patch: np.ndarray) -> np.ndarray:
    """Return column and row minus 5.5 of the peak fitted to a patch (11, 11), starting at its center of mass."""
    is_stored = patch > 0
    if not is_stored.any():
        return np.zeros(2)
    threshold = patch[is_stored].min()
    start = _center_of_mass(patch)
    first = np.clip(np.array([*start, 1.0, 0.0, 0.0, 0.0, 0.5]), LOWER + 1e-6, UPPER - 1e-6)

    def residuals(parameters: NDArray[np.float64]) -> NDArray[np.float64]:
        model = pseudo_voigt(parameters)
        return np.where(is_stored, model - patch, np.maximum(model - threshold, 0)).ravel()

    fitted = least_squares(residuals, first, bounds=(LOWER, UPPER), max_nfev=60).x
    return fitted[1::-1] - 5.5


def pseudo_voigt(parameters: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a rotated pseudo-Voigt peak at the middle of every pixel (11, 11); `simulator` states the formula."""
    row, column, height, along, across, angle, lorentzian = parameters
    u = (COLUMNS - column) * np.cos(angle) + (ROWS - row) * np.sin(angle)
    v = (ROWS - row) * np.cos(angle) - (COLUMNS - column) * np.sin(angle)
    q = (u * np.exp(-along)) ** 2 + (v * np.exp(-across)) ** 2
    return height * (lorentzian / (1 + q) + (1 - lorentzian) * np.exp2(-q))


def centers_of_mass(inputs: np.ndarray) -> np.ndarray:
    """Return the centers of mass (n, 2) of patches (n, 11, 11, 1), as the task's outputs: what firmware did before."""
    return np.array([_center_of_mass(patch)[::-1] - 5.5 for patch in inputs[..., 0].astype(float)])


def _center_of_mass(patch: np.ndarray) -> np.ndarray:
    total = patch.sum() or 1.0
    return np.array([(ROWS * patch).sum() / total, (COLUMNS * patch).sum() / total])
