"""Errors a user can cause or repair: one sentence with the value received, what is allowed, what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class CodesignError(Exception):
    """Base of every error that the platform raises on purpose."""


class InvalidValueError(CodesignError):
    """A value outside of what is allowed."""


class UnknownNameError(CodesignError):
    """A name of a task, block, board, backend or parameter that does not exist."""


class DataError(CodesignError):
    """A data file that is missing, truncated or malformed."""


class UnsupportedError(CodesignError):
    """A network that cannot be built in the requested way."""


class TrainingError(CodesignError):
    """A training that diverged."""


class ToolError(CodesignError):
    """An external tool that is missing, fails or runs out of time."""


class TrackingError(CodesignError):
    """A run, an artifact or a registered model that is missing or of the wrong kind."""


class ExactnessError(CodesignError):
    """Two views of one network that disagree."""


def unknown_name(kind: str, name: str, allowed: Iterable[str], advice: str = "") -> UnknownNameError:
    """Build the error for a mistyped name, with the nearest allowed one.

    Args:
        kind: What the name names, such as "board".
        name: The name received.
        allowed: The names that exist.
        advice: A closing sentence on what to do.
    """
    names = sorted(allowed)
    near = difflib.get_close_matches(name, names, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    listed = ", ".join(names) if names else "none"
    return UnknownNameError(f"There is no {kind} {name!r}; allowed: {listed}.{hint}" + (f" {advice}" if advice else ""))
