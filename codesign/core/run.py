"""Running build plans: files are written, the command runs with a time limit, and only a whole result counts."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from codesign.core.build import BuildPlan
from codesign.core.errors import InvalidValueError, ToolError

FINISHED = "finished.sha256"
LOG = "build.log"
LOCK = "build.lock"


@dataclass(frozen=True)
class Tool:
    """A program as this machine has it.

    Attributes:
        command: What starts it, in place of the first word of a plan's command.
        version: Name and version.
        environment: Variables that it needs beside those of this process.
    """

    command: tuple[str, ...]
    version: str
    environment: Mapping[str, str] = field(default_factory=dict)


def run_plan(plan: BuildPlan, folder: Path, tool: Tool | None = None) -> Path:
    """Write the files of a plan into `folder`, run its command there, and return the folder.

    A folder that holds the finished result of an equal plan is returned as it is, and a run that builds there at this
    moment is waited for. Output that a failed or interrupted run leaves behind is never taken for a result: the mark of
    a finished one is written last.

    Raises:
        InvalidValueError: The folder holds something that no plan has written.
        ToolError: The program is missing, fails, runs out of time, or leaves an output out.
    """
    if folder.exists() and any(folder.iterdir()) and not any((folder / name).exists() for name in (LOCK, LOG)):
        raise InvalidValueError(f"The folder {folder} holds other files; allowed: an empty one, or an earlier build.")
    with _alone(folder):
        mark = folder / FINISHED
        if mark.is_file() and mark.read_text() == plan.digest and all((folder / n).exists() for n in plan.outputs):
            return folder
        _clear(folder)
        (folder / LOG).touch()
        for name, text in plan.files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
        if plan.command:
            command = (*(tool.command if tool else plan.command[:1]), *plan.command[1:])
            run_command(command, folder, plan.timeout_s, tool.environment if tool else {}, folder / LOG)
        missing = [name for name in plan.outputs if not (folder / name).exists()]
        if missing:
            raise ToolError(f"{plan.command[0]} ended without writing {missing[0]}; read {folder / LOG}.")
        mark.write_text(plan.digest)
    return folder


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep every other process out of a folder; the system ends that with the process, however it ends."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"waiting for another run that builds {folder}", file=sys.stderr, flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _clear(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name != LOCK:
            path.unlink()


def run_command(
    command: Sequence[str],
    folder: Path,
    timeout_s: float,
    environment: Mapping[str, str] | None = None,
    log: Path | None = None,
) -> str:
    """Run a program in `folder` and return what it printed; at the time limit it is killed with all it started.

    Raises:
        ToolError: The program is missing, fails or runs out of time.
    """
    name = Path(command[0]).name
    with tempfile.TemporaryFile("w+", errors="replace") if log is None else log.open("w+", errors="replace") as output:
        try:
            process = subprocess.Popen(
                list(command),
                cwd=folder,
                env={**os.environ, **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            raise ToolError(f"{name} cannot be started ({error.strerror}); install it, or put it on PATH.") from error
        try:
            status = process.wait(timeout_s)
        except subprocess.TimeoutExpired as error:
            raise ToolError(
                f"{name} was stopped at its time limit of {timeout_s:g} s; allow more, or build less."
            ) from error
        finally:
            if process.poll() is None:  # time limit or Ctrl-C: end the whole group, compilers that it started too
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        output.seek(0)
        if not status:
            return output.read()
        lines = [line.strip() for line in output if line.strip()] or ["it printed nothing"]
    telling = next((line for line in lines if re.search("error:|ERROR|%Error", line)), lines[-1])[:300]
    raise ToolError(f"{name} failed with exit code {status}: {telling}" + (f" ({log})" if log else ""))
