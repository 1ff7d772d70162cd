"""What every job needs: the task with its data, its objectives, and where to work."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from codesign.core import plugins
from codesign.core.task import Data, Objective, Task, parse_objectives


def data_folder() -> Path:
    """Return the folder of official and cached data: CODESIGN_DATA, or `data/` in the project."""
    return Path(os.environ.get("CODESIGN_DATA") or plugins.PROJECTS.parent / "data")


def work_folder(run_id: str) -> Path:
    """Return the folder where the run keeps what it works on until it is tracked."""
    return plugins.PROJECTS.parent / "build" / run_id


def objectives_of(task: Task, text: str) -> tuple[Objective, ...]:
    """Return the objectives that `text` states, or the task's own if it is empty."""
    return parse_objectives(text) if text else task.objectives


def dataflow_of(task: Task, stated: str, *params: Mapping[str, str]) -> str:
    """Return the dataflow stated, or that of the first earlier run whose parameters state one, or the task's own."""
    earlier = (given.get("dataflow", "") for given in params)
    return next(filter(None, (stated, *earlier)), task.default_dataflow)


@cache
def load_task_and_data(reference: str) -> tuple[Task, Data]:
    """Return a task and its checked data; each process loads them once."""
    task = plugins.load_task(reference)
    return task, task.load(data_folder()).check(task)
