"""The journal of a study: JSON lines that are only ever appended, so that a killed study can go on where it stopped."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from codesign.core.errors import DataError, InvalidValueError


class Journal:
    """An open journal at `path`; `events` are those that an earlier process wrote.

    A last line that was cut off by a crash is dropped: it was never acted upon, since every action waits for its line.

    Raises:
        InvalidValueError: Another process has the journal open.
        DataError: A line before the last is not JSON.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("ab+")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._file.close()
            raise InvalidValueError(
                f"Journal {path} belongs to a study that is running; wait for its end, or stop it first."
            ) from error
        self._file.seek(0)
        content = self._file.read()
        complete = content[: content.rfind(b"\n") + 1]
        self._file.truncate(len(complete))
        self.events: list[dict[str, Any]] = []
        for number, line in enumerate(complete.splitlines(), start=1):
            try:
                self.events.append(json.loads(line))
            except ValueError as error:
                self._file.close()
                raise DataError(
                    f"Line {number} of journal {path} is not JSON; restore the file or remove it."
                ) from error

    def write(self, event: Mapping[str, Any], *, is_durable: bool = True) -> None:
        """Append an event; when a durable one returns, it is on the disk."""
        self._file.write(json.dumps(event, sort_keys=True, allow_nan=False).encode() + b"\n")
        self._file.flush()
        if is_durable:
            os.fsync(self._file.fileno())

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


def require_same_study(events: Sequence[Mapping[str, Any]], header: Mapping[str, Any], path: Path) -> None:
    """Check that the events of a journal are those of a study with this header, or that there are none yet.

    Raises:
        InvalidValueError: The journal is of another study.
    """
    for key, value in header.items() if events else ():
        if events[0].get(key) != value:
            raise InvalidValueError(
                f"Journal {path} is of a study with another {key} ({events[0].get(key)} there, {value} here); "
                "resume with the parameters it was started with, or start anew with another journal."
            )
