"""Scalars are flags: one frozen dataclass per stage is its command line, MLproject parameters and MLflow params."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar, get_type_hints

from codesign.core.errors import CodesignError, InvalidValueError, unknown_name

T = TypeVar("T", bound="StageOptions")


def option(default: Any, text: str, *, minimum: float | None = None, choices: tuple[str, ...] = ()) -> Any:
    """Declare one parameter of a stage: its default, one line of help, and what is allowed."""
    return dataclasses.field(default=default, metadata={"help": text, "minimum": minimum, "choices": choices})


@dataclass(frozen=True)
class StageOptions:
    """Base of the options of every stage.

    Raises:
        InvalidValueError: A number is below its minimum.
        UnknownNameError: A word is not among the choices.
    """

    task: str = option("jet_classification", "folder in projects/, with options: jet_classification:particles=16")
    seed: int = option(0, "seed of everything random", minimum=0)

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value, minimum, choices = getattr(self, field.name), field.metadata["minimum"], field.metadata["choices"]
            if minimum is not None and not value >= minimum:
                raise InvalidValueError(f"Parameter {field.name} is {value}; allowed: {minimum:g} or more.")
            if choices and value not in choices:
                raise unknown_name(f"value of parameter {field.name}", value, choices)


def parse(cls: type[T], arguments: Sequence[str]) -> T:
    """Return the options that the command line states, as `--name value` each.

    Raises:
        InvalidValueError: A value is not of the parameter's type or not allowed.
        UnknownNameError: A parameter that the stage does not have.
    """
    types = get_type_hints(cls)
    module = sys.modules[cls.__module__]
    name = module.__spec__.name if module.__spec__ else cls.__module__
    parser = _Parser(prog=f"python -m {name}", description=module.__doc__)
    for field in dataclasses.fields(cls):
        text = f"{field.metadata['help']} (default: {field.default!r})".replace("%", "%%")
        parser.add_argument(
            f"--{field.name}", default=str(field.default), metavar=types[field.name].__name__, help=text
        )
    known, extra = parser.parse_known_args(list(arguments))
    if extra:
        raise unknown_name("parameter", extra[0].lstrip("-").partition("=")[0], types)
    return cls(**{name: _convert(name, text, types[name]) for name, text in vars(known).items()})


def as_started(options: T, params: Mapping[str, str]) -> T:
    """Return the options of a run that goes on: those at their defaults are as the run was started with.

    Args:
        options: What was stated for going on.
        params: Parameters of the run, as the tracking store keeps them.
    """
    types = get_type_hints(type(options))
    old = {
        field.name: _convert(field.name, params[field.name], types[field.name])
        for field in dataclasses.fields(options)
        if field.name in params and getattr(options, field.name) == field.default
    }
    return dataclasses.replace(options, **old)


def _convert(name: str, text: str, kind: type) -> Any:
    try:
        number = float(text) if kind in (int, float) else 0.0
        if kind is int and number != int(number):
            raise ValueError
        return kind(number) if kind in (int, float) else text
    except (ValueError, OverflowError) as error:
        article = "a whole number" if kind is int else "a number"
        raise InvalidValueError(f"Parameter {name} is {text!r}; allowed: {article}.") from error


class _Parser(argparse.ArgumentParser):
    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        raise InvalidValueError(f"The command line cannot be read: {message}.")


def run_as_command(cls: type[T], stage: Callable[[T], object]) -> None:
    """Run a stage from the command line; a `CodesignError` is printed as one sentence and the exit status is 1."""
    try:
        stage(parse(cls, sys.argv[1:]))
    except CodesignError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        print("interrupted: what was finished is kept", file=sys.stderr)
        raise SystemExit(130) from None
