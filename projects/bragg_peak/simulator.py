"""Simulated Bragg peaks on a pixel detector, calibrated to the statistics of the official BraggNN patches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import special

from codesign.core.plugins import load_sibling

patches = load_sibling(__file__, "patches")

SUBPIXELS = 3  # midpoints per pixel and axis: the integral over a pixel
CHUNK = 4096  # patches at once; one chunk has one random stream


@dataclass(frozen=True)
class Detector:
    """Parameters of peaks and detector; the defaults are fitted to percentiles of the official patches.

    Heights, widths and separations are log-normal: a median and the standard deviation of the logarithm.

    Attributes:
        height_counts: Median height of a peak; heights lie between `height_min_counts` and `height_max_counts`.
        width_px: Median full width at half maximum along the geometric mean axis.
        axis_ratio_log: Standard deviation of the logarithm of the ratio of the two widths.
        satellite_fraction: Fraction of peaks that are two overlapping ones, of two sub-grains.
        separation_px: Median distance of the two.
        gain: Counts per detected photon.
        readout_counts: Standard deviation of the readout noise.
        threshold_counts: Pixels below are set to zero before they are stored.
    """

    height_counts: float = 1e4
    height_log: float = 1.0
    height_min_counts: float = 1.2e3
    height_max_counts: float = 1.45e5
    width_px: float = 1.23
    width_log: float = 0.2
    axis_ratio_log: float = 0.3
    satellite_fraction: float = 0.3
    separation_px: float = 1.5
    separation_log: float = 0.2
    gain: float = 60.0
    readout_counts: float = 30.0
    threshold_counts: float = 820.0


def simulate(
    n: int, seed: int, label_jitter_px: float, detector: Detector = Detector()
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return counts (n, 11, 11), labels and true centers (n, 2) as row and column in pixels.

    A pixel's index is the coordinate of its middle. The true center is the center of mass of the whole peak, which is
    what a fit with a single peak aims at; the label, always in [5, 6) since the patch is cut around it, is off by a
    normal error of `label_jitter_px` in each coordinate, as the experiment's labels, being fits, are. Patches without a
    pixel above threshold are dropped, as no peak would be found there.
    """
    chunks: list[tuple[np.ndarray, ...]] = []
    for stream in _streams(seed):
        if sum(len(c[0]) for c in chunks) >= n:
            break
        chunks.append(_chunk(np.random.default_rng(stream), label_jitter_px, detector))
    counts, labels, centers = (np.concatenate(parts)[:n] for parts in zip(*chunks, strict=True))
    return counts, labels, centers


def _streams(seed: int) -> Iterator[np.random.SeedSequence]:
    sequence = np.random.SeedSequence(seed)
    while True:
        yield from sequence.spawn(1)


def _chunk(rng: np.random.Generator, label_jitter_px: float, d: Detector) -> tuple[np.ndarray, ...]:
    labels = 5 + rng.random((CHUNK, 2))
    centers = labels - label_jitter_px * rng.standard_normal((CHUNK, 2))
    lowest, highest = (np.log(h / d.height_counts) / d.height_log for h in (d.height_min_counts, d.height_max_counts))
    heights = d.height_counts * np.exp(d.height_log * _truncated_normal(rng, lowest, highest, CHUNK))
    has_satellite = rng.random(CHUNK) < d.satellite_fraction
    share = np.where(has_satellite, rng.uniform(0.0, 0.5, CHUNK), 0.0)
    separation = d.separation_px * np.exp(d.separation_log * rng.standard_normal(CHUNK))
    direction = rng.uniform(0, 2 * np.pi, CHUNK)
    offset = separation[:, None] * np.stack([np.sin(direction), np.cos(direction)], axis=1)
    shape = _shapes(rng, d)
    expected = _profile(centers - share[:, None] * offset, *shape) * (heights * (1 - share))[:, None, None]
    rows = np.flatnonzero(has_satellite)
    second = _profile((centers + (1 - share)[:, None] * offset)[rows], *(s[rows] for s in shape))
    expected[rows] += second * (heights * share)[rows, None, None]
    counts = d.gain * rng.poisson(expected / d.gain) + d.readout_counts * rng.standard_normal(expected.shape)
    counts = np.where(counts < d.threshold_counts, 0, counts).astype(np.float32)
    counts = patches.clean(counts, labels)
    is_seen = counts.any(axis=(1, 2))
    return counts[is_seen], labels[is_seen], centers[is_seen]


def _shapes(rng: np.random.Generator, d: Detector) -> tuple[np.ndarray, ...]:
    """Return half widths at half maximum (px) along two axes, rotation and Lorentzian fraction of each peak."""
    half = 0.5 * d.width_px * np.exp(d.width_log * rng.standard_normal(CHUNK))
    ratio = np.exp(0.5 * d.axis_ratio_log * rng.standard_normal(CHUNK))
    return half * ratio, half / ratio, rng.uniform(0, np.pi, CHUNK), rng.random(CHUNK)


def _profile(
    centers: np.ndarray, along: np.ndarray, across: np.ndarray, angle: np.ndarray, lorentzian: np.ndarray
) -> np.ndarray:
    """Return a rotated pseudo-Voigt peak of height 1, averaged over each pixel: float32 (n, 11, 11).

    value = l / (1 + q) + (1 - l) exp(-q ln 2) with q = (u / along)² + (v / across)² in the rotated frame.
    Source: the sum form of the pseudo-Voigt profile, Wertheim et al., Rev. Sci. Instrum. 45 (1974) 1369.
    """
    steps = (np.arange(patches.SIDE * SUBPIXELS, dtype=np.float32) + 0.5) / SUBPIXELS - 0.5
    rows, columns = ((steps - centers[:, i : i + 1]).astype(np.float32) for i in (0, 1))
    cosine, sine = np.cos(angle), np.sin(angle)
    # q is a quadratic form; its three coefficients cost less per sample than a rotation
    aa = ((cosine / along) ** 2 + (sine / across) ** 2).astype(np.float32)
    bb = ((sine / along) ** 2 + (cosine / across) ** 2).astype(np.float32)
    ab = (2 * cosine * sine * (along**-2.0 - across**-2.0)).astype(np.float32)
    q = (ab[:, None] * rows)[:, :, None] * columns[:, None, :]
    q += (aa[:, None] * columns**2)[:, None, :]
    q += (bb[:, None] * rows**2)[:, :, None]
    weight = lorentzian.astype(np.float32)[:, None, None]
    values = np.exp(np.float32(-np.log(2)) * q)
    values *= 1 - weight
    q += 1
    values += weight / q
    shape = (len(centers), patches.SIDE, SUBPIXELS, patches.SIDE, SUBPIXELS)
    return values.reshape(shape).mean(axis=(2, 4))


def _truncated_normal(rng: np.random.Generator, low: float, high: float, n: int) -> np.ndarray:
    return special.ndtri(rng.uniform(special.ndtr(low), special.ndtr(high), n))
