"""Random search: every active dimension by its prior."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from codesign.search.encoding import Encoding, History
from codesign.search.suggest import as_suggest


def candidates(encoding: Encoding, history: History, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Yield random rows."""
    while True:
        yield encoding.sample(rng)


suggest = as_suggest(candidates)
