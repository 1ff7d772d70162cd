"""Which process writes a run: its host, number and start, so that a reused number is not taken for it."""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path

TAG = "codesign.process"


def this_process() -> str:
    """Return the mark of this process: host, number and start."""
    return f"{host()} {os.getpid()} {_start(os.getpid())}"


def host() -> str:
    """Return the name of this machine."""
    return socket.gethostname()


def is_dead(mark: str) -> bool:
    """Return whether a mark is of a process of this machine that has ended; False if that cannot be known."""
    where, _, process = mark.partition(" ")
    number, _, start = process.partition(" ")
    return where == host() and number.isdigit() and _start(int(number)) != start


def _start(number: int) -> str:
    """Return when a process started, empty if there is none (a zombie is none)."""
    if Path("/proc/self/stat").exists():
        try:
            # The name in parentheses may hold anything; state is the first field after it, the start the twentieth.
            fields = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            return ""
        return "" if fields[0] == "Z" else fields[19]
    shown = subprocess.run(["ps", "-o", "lstart=", "-p", str(number)], capture_output=True, text=True, check=False)
    return "-".join(shown.stdout.split())
