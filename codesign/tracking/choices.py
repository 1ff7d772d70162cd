"""What trials chose, in words, and how much of a metric each choice explains."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from codesign.core.architecture import Block
from codesign.core.errors import CodesignError
from codesign.core.space import Choice, SearchSpace
from codesign.core.trial import Trial


def chosen(space: SearchSpace, trials: Sequence[Trial]) -> dict[str, dict[int, str]]:
    """Return for every hole, by a name a person can read, which option each trial has that has the hole.

    Trials whose architecture the space does not contain are left out.
    """
    found: dict[str, dict[int, str]] = {}
    texts: dict[str, dict[int, str]] = {}
    for trial in trials:

        def choose(label: str, choice: Choice, trial: Trial = trial) -> int:
            index = trial.choices[label]
            found.setdefault(label, {})[trial.number] = _text(choice.options[index])
            texts.setdefault(label, {})[index] = _text(choice.options[index])
            return index

        with contextlib.suppress(KeyError, CodesignError):
            space.fill(choose)
    return {_name(label, texts): options for label, options in found.items()}


def importance(options: Mapping[int, str], values: Mapping[int, float]) -> float:
    """Return what fraction of a metric's variance over all trials one choice explains alone, from 0 to 1.

    Args:
        options: Option of each trial that has the hole, by number.
        values: Metric of each trial, by number. What a hole explains by being there belongs to the hole above it.

    Source: Kelley, An unbiased correlation ratio measure, PNAS 21 (1935): epsilon squared, which subtracts what as many
    groups explain by chance. Interactions of choices are not part of it.
    """
    groups: dict[str, list[float]] = {}
    for number, value in values.items():
        if number in options:
            groups.setdefault(options[number], []).append(value)
    total = _squares(list(values.values()))
    having = [value for group in groups.values() for value in group]
    free = len(having) - len(groups)
    if total <= 0 or free <= 0:
        return 0.0
    within = sum(map(_squares, groups.values()))
    return max(0.0, (_squares(having) - within - (len(groups) - 1) * within / free) / total)


def _squares(values: Sequence[float]) -> float:
    """Return the sum of squared distances from the mean."""
    numbers = np.array(values)
    return float(((numbers - numbers.mean()) ** 2).sum()) if len(numbers) else 0.0


def _text(option: Any) -> str:
    if isinstance(option, Block):
        return type(option).__name__
    return "none" if option is None else str(option)


def _name(label: str, texts: Mapping[str, Mapping[int, str]]) -> str:
    """Return the path of a hole in words: `0.0.widths.1` is "block 1 DeepSets widths 2", `1` may be "block 2 count"."""
    parts = label.split(".")
    words = [f"block {int(parts[0]) + 1}"]
    for i, part in enumerate(parts[1:], start=1):
        above = texts.get(".".join(parts[:i]))
        if not part.isdigit():
            words.append(part)
        elif above is None:
            words.append(str(int(part) + 1))
        elif not any(text.isdigit() for text in above.values()):
            words.append(above[int(part)])
        else:  # a repetition, whose options are counts
            words.append(f"#{int(part) + 1}")
    has_inside = any(other.startswith(f"{label}.") for other in texts)
    is_repetition = has_inside and any(text.isdigit() for text in texts[label].values())
    return " ".join([*words, "count"] if is_repetition else words)
