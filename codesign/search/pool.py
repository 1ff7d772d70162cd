"""Evaluations in the driver's own process, or in worker processes that may die, hang or be killed without harm."""

from __future__ import annotations

import contextlib
import functools
import multiprocessing as mp
import os
import pickle
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Protocol

from codesign.core.architecture import Architecture
from codesign.core.errors import CodesignError, InvalidValueError
from codesign.core.trial import Fidelity

Evaluate = Callable[[Architecture, Fidelity, int, int], Mapping[str, float]]
_STOP_S = 2.0  # how long a worker may take to end when asked to


@dataclass(frozen=True)
class Job:
    """One evaluation: the arguments of `evaluate`."""

    architecture: Architecture
    fidelity: Fidelity
    seed: int
    number: int


@dataclass(frozen=True)
class Outcome:
    """Metrics, or why there are none.

    Attributes:
        is_worth_retrying: False for a failure that the platform raised on purpose: it would come again.
    """

    metrics: Mapping[str, float] = field(default_factory=dict)
    failure: str = ""
    is_worth_retrying: bool = False


class Pool(Protocol):
    """Where jobs run."""

    def has_room(self) -> bool:
        """Return whether a job can be submitted now."""
        ...

    def submit(self, job: Job) -> None:
        """Start a job."""
        ...

    def wait(self) -> list[tuple[Job, Outcome]]:
        """Return the jobs that have ended, at least one; nothing if none runs."""
        ...


@contextlib.contextmanager
def open_pool(evaluate: Evaluate, workers: int, time_limit_s: float | None) -> Iterator[Pool]:
    """Open a pool: one worker without a time limit is this process, otherwise every worker is a process of its own.

    Raises:
        InvalidValueError: The evaluation cannot be sent to another process.
    """
    if workers == 1 and time_limit_s is None:
        yield InProcess(evaluate)
        return
    try:
        content = pickle.dumps(evaluate)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise InvalidValueError(
            f"The evaluation cannot be sent to worker processes ({error}); allowed: a function at the top level of a "
            "module, or a frozen dataclass with __call__."
        ) from error
    pool = Processes(content, workers, time_limit_s)
    try:
        yield pool
    finally:
        pool.close()


def run_job(evaluate: Evaluate, job: Job) -> Outcome:
    """Evaluate a job; whatever it raises becomes a failure."""
    try:
        return Outcome({k: float(v) for k, v in evaluate(job.architecture, job.fidelity, job.seed, job.number).items()})
    except CodesignError as error:
        return Outcome(failure=str(error))
    except Exception as error:  # noqa: BLE001 - a fault of one trial must not end the study
        frame = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(frame.filename).name}:{frame.lineno}"
        return Outcome(failure=f"{type(error).__name__}: {error} ({where})", is_worth_retrying=True)


class InProcess:
    """A pool of one: the job runs while it is waited for."""

    def __init__(self, evaluate: Evaluate) -> None:
        self._evaluate = evaluate
        self._job: Job | None = None

    def has_room(self) -> bool:
        return self._job is None

    def submit(self, job: Job) -> None:
        self._job = job

    def wait(self) -> list[tuple[Job, Outcome]]:
        if self._job is None:
            return []
        job, self._job = self._job, None
        return [(job, run_job(self._evaluate, job))]


@dataclass
class _Worker:
    process: BaseProcess
    connection: Connection
    job: Job | None = None
    deadline: float = float("inf")


class Processes:
    """Worker processes, each of which unpickles the evaluation once; one that dies is replaced for the next job."""

    def __init__(self, evaluate: bytes, workers: int, time_limit_s: float | None) -> None:
        self._evaluate = evaluate
        self._limit_s = float("inf") if time_limit_s is None else time_limit_s
        self._threads = max(1, (os.cpu_count() or 1) // workers)
        self._slots: list[_Worker | None] = [None] * workers

    def has_room(self) -> bool:
        return any(worker is None or worker.job is None for worker in self._slots)

    def submit(self, job: Job) -> None:
        slot = next(i for i, worker in enumerate(self._slots) if worker is None or worker.job is None)
        worker = self._slots[slot]
        if worker is not None and not worker.process.is_alive():
            self._end(slot, worker)
        worker = self._slots[slot] = self._slots[slot] or self._start()
        worker.job, worker.deadline = job, time.monotonic() + self._limit_s
        # A worker that died this very moment is found by `wait`.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            worker.connection.send(job)

    def wait(self) -> list[tuple[Job, Outcome]]:
        busy = {w.connection: (i, w) for i, w in enumerate(self._slots) if w is not None and w.job is not None}
        ended: list[tuple[Job, Outcome]] = []
        while busy and not ended:
            left_s = min(worker.deadline for _, worker in busy.values()) - time.monotonic()
            ready = wait(list(busy), timeout=None if left_s == float("inf") else max(0.0, left_s))
            now = time.monotonic()
            for connection, (slot, worker) in busy.items():
                assert worker.job is not None
                if connection in ready:
                    ended.append((worker.job, self._receive(slot, worker)))
                elif worker.deadline <= now:
                    ended.append((worker.job, Outcome(failure=f"The evaluation took more than {self._limit_s:g} s.")))
                    self._end(slot, worker)
        return ended

    def _receive(self, slot: int, worker: _Worker) -> Outcome:
        try:
            outcome: Outcome = worker.connection.recv()
        except (EOFError, OSError, pickle.UnpicklingError):
            worker.process.join(_STOP_S)
            code = worker.process.exitcode
            cause = f"by {signal.Signals(-code).name}" if code is not None and code < 0 else f"with exit status {code}"
            self._end(slot, worker)
            return Outcome(failure=f"The worker process ended {cause}.", is_worth_retrying=True)
        worker.job, worker.deadline = None, float("inf")
        return outcome

    def _end(self, slot: int, worker: _Worker) -> None:
        self._slots[slot] = None
        worker.connection.close()
        worker.process.kill()
        worker.process.join()

    def _start(self) -> _Worker:
        ours, theirs = mp.Pipe()
        process = mp.get_context("spawn").Process(target=_work, args=(theirs, self._evaluate), daemon=False)
        with _environment(OMP_NUM_THREADS=str(self._threads)), _interrupts_ignored():
            process.start()
        theirs.close()
        return _Worker(process, ours)

    def close(self) -> None:
        """End every worker: the idle ones by themselves, the others by force."""
        workers = [worker for worker in self._slots if worker is not None]
        for worker in workers:
            worker.connection.close()
            if worker.job is not None:
                worker.process.kill()
        for worker in workers:
            worker.process.join(_STOP_S)
            worker.process.kill()
            worker.process.join()
        self._slots = [None] * len(self._slots)


def _work(connection: Connection, content: bytes) -> None:
    """Evaluate what the driver sends until it hangs up; end at once when it dies."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    evaluate = _Unpickled(content)
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            connection.send(run_job(evaluate, connection.recv()))


def _end_with_parent() -> None:
    parent = mp.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


@dataclass(frozen=True)
class _Unpickled:
    """An evaluation that is unpickled when it is first called, so that an import that fails is a failure in words."""

    content: bytes

    @functools.cached_property
    def evaluate(self) -> Evaluate:
        evaluate: Evaluate = pickle.loads(self.content)  # noqa: S301 - it comes from the driver
        return evaluate

    def __call__(self, architecture: Architecture, fidelity: Fidelity, seed: int, number: int) -> Mapping[str, float]:
        return self.evaluate(architecture, fidelity, seed, number)


@contextlib.contextmanager
def _interrupts_ignored() -> Iterator[None]:
    """Ignore Ctrl-C, as a process that starts meanwhile does too: the driver alone answers it and ends its workers."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def _environment(**values: Any) -> Iterator[None]:
    """Set environment variables that are not set yet, for processes that start meanwhile."""
    new = {k: v for k, v in values.items() if k not in os.environ}
    os.environ.update(new)
    try:
        yield
    finally:
        for key in new:
            del os.environ[key]
