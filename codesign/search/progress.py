"""What a person sees while a study runs: a bar on a terminal, a line now and then in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

from tqdm import tqdm

from codesign.core.hypervolume import hypervolume_of
from codesign.core.pareto import front
from codesign.core.task import Objective
from codesign.core.trial import Trial

_LINE_S = 30.0  # seconds between two lines of a log


class Progress:
    """Trials done, best of every objective, hypervolume, failures, time left."""

    def __init__(self, total: int, objectives: Sequence[Objective], *, is_shown: bool) -> None:
        self._objectives, self._is_terminal = objectives, sys.stderr.isatty()
        self._bar = tqdm(total=total, unit="trial", dynamic_ncols=True, disable=not (is_shown and self._is_terminal))
        self._is_logged = is_shown and not self._is_terminal
        self._total, self._done, self._start_s, self._line_s, self._resumed = total, 0, time.monotonic(), 0.0, 0

    def update(self, done: int, trials: Sequence[Trial], *, is_resumed: bool = False) -> None:
        """Show how far the study is: `done` of its architectures have ended."""
        if self._bar.disable and not self._is_logged:
            return
        self._done = done
        if is_resumed:
            self._resumed = done
            self._bar.initial = self._bar.n = done
        text = describe(trials, self._objectives)
        self._bar.set_postfix_str(text, refresh=False)
        self._bar.update(done - self._bar.n)
        now = time.monotonic()
        if self._is_logged and (now - self._line_s >= _LINE_S or done == self._total):
            self._line_s = now
            new = done - self._resumed
            left_s = (now - self._start_s) / new * (self._total - done) if new else float("nan")
            left = f", {left_s / 60:.1f} min left" if new and done < self._total else ""
            print(f"trial {done}/{self._total}{left}: {text}", file=sys.stderr, flush=True)

    def close(self) -> None:
        """Leave the bar as it stands."""
        self._bar.close()


def describe(trials: Sequence[Trial], objectives: Sequence[Objective]) -> str:
    """Return the best of every ranked objective, the size of the front, hypervolume and failures in one line."""
    feasible = [t for t in trials if t.is_candidate]
    parts = []
    for objective in (o for o in objectives if o.is_ranked and feasible):
        best = min(feasible, key=lambda t, o=objective: o.cost(t.metrics))  # type: ignore[misc]
        parts.append(f"{objective.metric} {best.metrics[objective.metric]:.4g}")
    if feasible:
        parts.append(f"front {len(front(trials, objectives))}")
        parts.append(f"hypervolume {hypervolume_of(trials, objectives):.3f}")
    failed = sum(bool(t.failure) for t in trials)
    return ", ".join([*parts, *([f"{failed} failed"] if failed else [])]) or "no feasible trial yet"
