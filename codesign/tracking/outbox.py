"""What a run has to say waits here, safe on disk, until the tracking server has taken it."""

from __future__ import annotations

import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codesign.core.errors import TrackingError
from codesign.tracking.store import impatience, is_refusal, outages

_log = logging.getLogger("codesign.tracking")
_PAUSES_S = (1.0, 2.0, 5.0, 10.0, 30.0)


@dataclass(frozen=True)
class Entry:
    """One thing to be sent.

    Attributes:
        content: JSON-ready; sending it twice has the effect of sending it once.
        files: Folder with the files that belong to it.
        is_repeated: It may have been sent before.
    """

    number: int
    content: dict[str, Any]
    files: Path
    is_repeated: bool


class Outbox:
    """Entries in a folder, sent in order: `entries.jsonl`, in which every line is on disk before `add` returns.

    Sending an entry that was cut off is repeated, so whoever sends must allow that. While the server is away, adding
    costs nothing but the write: the next attempt waits 1 to 30 seconds.
    """

    def __init__(self, folder: Path, send: Callable[[Entry], None], header: Mapping[str, str]) -> None:
        self.folder, self._send = folder, send
        self._path = folder / "entries.jsonl"
        self._failures, self._next_attempt_s = 0, 0.0
        self._pending: list[Entry] = []
        self._count = 0
        if self._path.exists():
            self._read()
        else:
            folder.mkdir(parents=True, exist_ok=True)
            self._write(dict(header))

    def __len__(self) -> int:
        return len(self._pending)

    def add(self, content: dict[str, Any], files: Mapping[str, Path | bytes] | None = None) -> None:
        """Keep an entry on disk, then try to send everything that waits."""
        number, folder = self._count, self.folder / str(self._count)
        for name, source in (files or {}).items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(source, bytes):
                path.write_bytes(source)
            else:
                shutil.copyfile(source, path)
            with path.open("rb") as file:
                os.fsync(file.fileno())
        self._count += 1
        self._write({"number": number, "content": content})
        self._pending.append(Entry(number, content, folder, is_repeated=False))
        self.drain()

    def drain(self) -> bool:
        """Send what waits, unless the server was away a moment ago; return whether everything is sent.

        Raises:
            TrackingError: The server declined an entry. It is dropped, so that nothing behind it is blocked.
        """
        while self._pending and time.monotonic() >= self._next_attempt_s:
            entry = self._pending[0]
            try:
                with impatience():
                    self._send(entry)
            except outages() as error:
                if is_refusal(error):
                    self._done(entry)
                    raise TrackingError(
                        f"The tracking server declined an entry: {' '.join(str(error).split())}"
                    ) from error
                self._failed(entry, error)
                return False
            self._done(entry)
            if self._failures:
                self._failures = 0
                _log.warning("The tracking server is back.")
        return not self._pending

    def flush(self, timeout_s: float) -> None:
        """Send everything, waiting for the server for up to `timeout_s`.

        Raises:
            TrackingError: The server stayed away; nothing is lost.
        """
        deadline_s = time.monotonic() + timeout_s
        while not self.drain():
            left_s = deadline_s - time.monotonic()
            if left_s <= 0:
                raise TrackingError(
                    f"The tracking server has been away for {timeout_s:g} s; {len(self)} entries wait in "
                    f"{self.folder}. Nothing is lost: the next stage that is started while it is back sends them."
                )
            time.sleep(min(left_s, max(0.05, self._next_attempt_s - time.monotonic())))

    def remove(self) -> None:
        """Remove the folder once everything is sent."""
        if not self._pending:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _failed(self, entry: Entry, error: Exception) -> None:
        if not self._failures:
            _log.warning(
                "The tracking server does not answer; the work goes on, and results wait in %s. (%s)",
                self.folder,
                " ".join(str(error).split())[:200],
            )
        pause_s = _PAUSES_S[min(self._failures, len(_PAUSES_S) - 1)]
        self._failures += 1
        self._next_attempt_s = time.monotonic() + pause_s
        self._pending[0] = Entry(entry.number, entry.content, entry.files, is_repeated=True)

    def _done(self, entry: Entry) -> None:
        self._write({"done": entry.number})
        self._pending.pop(0)
        shutil.rmtree(entry.files, ignore_errors=True)

    def _write(self, line: dict[str, Any]) -> None:
        with self._path.open("a") as file:
            file.write(json.dumps(line) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def _read(self) -> None:
        """Read the entries of a process that ended; a last line that was cut off was never promised to anybody."""
        text = self._path.read_text()
        kept = text[: text.rfind("\n") + 1]
        if kept != text:
            self._path.write_text(kept)
        lines = [json.loads(line) for line in kept.splitlines()]
        done = {line["done"] for line in lines if "done" in line}
        entries = [line for line in lines if "number" in line]
        self._pending = [
            Entry(e["number"], e["content"], self.folder / str(e["number"]), is_repeated=True)
            for e in entries
            if e["number"] not in done
        ]
        self._count = max((e["number"] + 1 for e in entries), default=0)


def header_of(folder: Path) -> dict[str, str]:
    """Return the first line of an outbox: whose it is; empty if it was cut off."""
    path = folder / "entries.jsonl"
    first = path.read_text().partition("\n") if path.exists() else ("", "", "")
    header: dict[str, str] = json.loads(first[0]) if first[1] else {}
    return header
