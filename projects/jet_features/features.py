"""High-level jet features from constituents: a substitute for the official ones, which see groomed jets in full.

Energy correlation functions: Larkoski, Salam, Thaler, arXiv 1305.0007 (C); Larkoski, Moult, Neill, arXiv 1409.6298 (D);
Moult, Necib, Thaler, arXiv 1609.07483 (M, N).
"""

from __future__ import annotations

from itertools import combinations

import numpy as np

ROWS = 2000  # jets at once: arrays of triplets then stay in the processor's cache


def compute(constituents: np.ndarray, jet_pt: np.ndarray, jet_mass: np.ndarray, multiplicity: np.ndarray) -> np.ndarray:
    """Return the 16 features of `task.FEATURES`, in their order.

    Args:
        constituents: float32 (jets, particles, 3), pt in GeV, eta_rel, phi_rel, zero-padded.
        jet_pt: (jets,) in GeV.
        jet_mass: (jets,) in GeV.
        multiplicity: (jets,).

    Returns:
        float32 (jets, 16); the mass is in GeV.
    """
    columns = []
    for start in range(0, len(constituents), ROWS):
        rows = slice(start, start + ROWS)
        pt, eta, phi = np.ascontiguousarray(constituents[rows].T)  # (particles, jets) each
        columns.append(_correlations(pt / jet_pt[rows], eta, phi))
    return np.column_stack([np.concatenate(columns, axis=1).T, jet_mass, multiplicity]).astype(np.float32)


def _correlations(z: np.ndarray, eta: np.ndarray, phi: np.ndarray) -> np.ndarray:
    """Return the first 14 features (14, jets) from fractions of the jet's pt and angles (particles, jets)."""
    pairs = list(combinations(range(len(z)), 2))
    number = {pair: k for k, pair in enumerate(pairs)}
    first, second = np.array(pairs).T
    angle = np.hypot(eta[first] - eta[second], phi[first] - phi[second])  # (pairs, jets)
    z2 = z[first] * z[second]
    triplets = list(combinations(range(len(z)), 3))
    k = np.array(triplets).T[2]
    ij, ik, jk = np.array([(number[a, b], number[a, c], number[b, c]) for a, b, c in triplets]).T
    z3 = z2[ij] * z[k]  # (triplets, jets)
    sides = angle[ij], angle[ik], angle[jk]
    product = sides[0] * sides[1] * sides[2]
    small = np.minimum(np.minimum(sides[0], sides[1]), sides[2])
    large = np.maximum(np.maximum(sides[0], sides[1]), sides[2])
    two = np.divide(product, large, out=np.zeros_like(product), where=large > 0)  # product of the two smaller sides
    # e2 of b sums z z R^b over pairs; v_e3 sums z z z times the product of the v smallest R^b over triplets
    e2 = {0: z2.sum(axis=0), 1: _sum(z2, angle), 2: _sum(z2, angle, angle)}
    e3 = {1: _sum(z3, product), 2: _sum(z3, product, product)}
    one_e3 = {1: _sum(z3, small), 2: _sum(z3, small, small)}
    two_e3 = {1: _sum(z3, two), 2: _sum(z3, two, two)}
    return np.stack([
        (z * np.log(np.where(z > 0, z, 1))).sum(axis=0),
        e2[0], e2[1], e2[2],
        _ratio(e3[1], e2[1] ** 2), _ratio(e3[2], e2[2] ** 2),
        _ratio(e3[1], e2[1] ** 3), _ratio(e3[2], e2[2] ** 3),
        _ratio(e3[1], e2[1] ** 3), _ratio(e3[1], e2[2] ** 1.5),
        _ratio(one_e3[1], e2[1]), _ratio(one_e3[2], e2[2]),
        _ratio(two_e3[1], e2[1] ** 2), _ratio(two_e3[2], e2[2] ** 2),
    ])  # fmt: skip


def _sum(*factors: np.ndarray) -> np.ndarray:
    """Return the sum over the first axis of a product of two or three arrays."""
    return np.einsum(",".join(["ij"] * len(factors)) + "->j", *factors)


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """Return the quotient, and 0 for a jet of one constituent, which has no angles."""
    return np.divide(above, below, out=np.zeros_like(above), where=below > 0)
