"""Plug-ins are files, and the file name is the name: boards, blocks and tasks are found here."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from codesign.core.errors import InvalidValueError, unknown_name

if TYPE_CHECKING:
    from codesign.core.board import Board
    from codesign.core.task import Task

PACKAGE = Path(__file__).parents[1]
PROJECTS = PACKAGE.parent / "projects"


def names(folder: str) -> list[str]:
    """Return the plug-ins in `codesign/<folder>`, sorted."""
    return sorted(p.stem for p in (PACKAGE / folder).glob("*.py") if not p.stem.startswith("_"))


def task_names() -> list[str]:
    """Return the tasks in `projects/`, sorted."""
    return sorted(p.parent.name for p in PROJECTS.glob("*/task.py"))


def load(folder: str, name: str) -> ModuleType:
    """Import `codesign/<folder>/<name>.py`.

    Raises:
        UnknownNameError: There is no such file.
    """
    if name not in names(folder):
        raise unknown_name(folder.rsplit("/", 1)[-1].removesuffix("s"), name, names(folder))
    return importlib.import_module(f"codesign.{folder.replace('/', '.')}.{name}")


def load_block(name: str) -> type[Any]:
    """Return the class of the block `name`."""
    cls = getattr(load("blocks", name), "".join(part.capitalize() for part in name.split("_")))
    assert isinstance(cls, type)
    return cls


def load_board(name: str) -> Board:
    """Return the `BOARD` of `codesign/boards/<name>.py`."""
    board: Board = load("boards", name).BOARD
    return board


def load_task(reference: str) -> Task:
    """Return the task that `reference` names: `jet_classification`, or with options `jet_classification:particles=16`.

    `projects/<name>/task.py` holds a function `task`, whose parameters (int, float, str or bool, all with defaults) are
    the options.

    Raises:
        UnknownNameError: There is no such task or option.
        InvalidValueError: An option has a value of the wrong type.
    """
    name, _, options = reference.partition(":")
    if name not in task_names():
        raise unknown_name("task", name, task_names())
    make = load_sibling(PROJECTS / name / "task.py", "task").task
    defaults = dict(zip(make.__code__.co_varnames[: make.__code__.co_argcount], make.__defaults__ or (), strict=True))
    values = {}
    for option in filter(None, options.split(",")):
        key, _, text = option.partition("=")
        if key not in defaults:
            raise unknown_name(f"option of task {name}", key, defaults)
        kind = type(defaults[key])
        try:
            values[key] = kind(text) if kind is not bool else {"true": True, "false": False}[text.lower()]
        except (ValueError, KeyError) as error:
            raise InvalidValueError(
                f"Option {key} of task {name} is {text!r}; allowed: a value of type {kind.__name__}, "
                f"such as {key}={defaults[key]}."
            ) from error
    task: Task = make(**values)
    return task


def load_sibling(file: str | Path, name: str) -> ModuleType:
    """Import `<name>.py` from the folder of `file`: how the files of one task, which is no package, find each other."""
    path = Path(file).parent / f"{name}.py"
    module_name = f"projects.{path.parent.name}.{name}"
    if module_name not in sys.modules:
        spec = importlib.util.spec_from_file_location(module_name, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[module_name] = module
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[module_name]
            raise
    return sys.modules[module_name]
