"""Neural architecture codesign: from a physics task to verified FPGA firmware.

The names below are the public records, in reading order; they are imported when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from codesign.core.architecture import Architecture, Block
    from codesign.core.board import Board
    from codesign.core.build import BuildPlan, Evidence, Resources, Timing
    from codesign.core.firmware import Firmware
    from codesign.core.fixed_point import FixedPoint
    from codesign.core.integer_network import IntegerNetwork
    from codesign.core.recipe import CompressionRecipe
    from codesign.core.space import SearchSpace
    from codesign.core.task import Data, Objective, Task
    from codesign.core.trial import Fidelity, Trial

_HOME = {
    "Task": "task",
    "Data": "task",
    "Objective": "task",
    "SearchSpace": "space",
    "Block": "architecture",
    "Architecture": "architecture",
    "Fidelity": "trial",
    "Trial": "trial",
    "CompressionRecipe": "recipe",
    "FixedPoint": "fixed_point",
    "IntegerNetwork": "integer_network",
    "Board": "board",
    "BuildPlan": "build",
    "Resources": "build",
    "Timing": "build",
    "Evidence": "build",
    "Firmware": "firmware",
}

__all__ = [  # noqa: RUF022 (the order is the reading order)
    "Task",
    "Data",
    "Objective",
    "SearchSpace",
    "Block",
    "Architecture",
    "Fidelity",
    "Trial",
    "CompressionRecipe",
    "FixedPoint",
    "IntegerNetwork",
    "Board",
    "BuildPlan",
    "Resources",
    "Timing",
    "Evidence",
    "Firmware",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'codesign' has no attribute {name!r}")
    return getattr(importlib.import_module(f"codesign.core.{_HOME[name]}"), name)
