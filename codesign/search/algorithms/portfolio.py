"""The default: densities, evolution and a model take turns, so that no single assumption decides a study."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from codesign.core import plugins
from codesign.search.encoding import Encoding, History
from codesign.search.suggest import as_suggest

TURNS = ("tpe", "surrogate", "nsga2", "tpe", "surrogate")


def candidates(encoding: Encoding, history: History, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Yield the candidates of the algorithm whose turn it is."""
    turn = TURNS[(len(history.runs) + len(history.pending)) % len(TURNS)]
    yield from plugins.load("search/algorithms", turn).candidates(encoding, history, rng)


suggest = as_suggest(candidates)
