"""Workers that raise, exit, crash, hang or are killed; drivers that die."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from codesign.blocks.dense import Dense
from codesign.core.architecture import Architecture
from codesign.core.errors import InvalidValueError, UnsupportedError
from codesign.core.trial import Fidelity
from codesign.search.pool import InProcess, Job, Processes, open_pool

ROOT = Path(__file__).parents[2]
ARCHITECTURE = Architecture((2,), (Dense(2),))


@dataclass(frozen=True)
class Evaluation:
    """Does what the seed of a job says."""

    def __call__(self, architecture, fidelity, seed, number):
        what = ACTIONS[seed]
        if what == "value":
            return {"number": number, "process": os.getpid(), "threads": int(os.environ["OMP_NUM_THREADS"])}
        if what == "raise":
            raise ValueError("no such luck")
        if what == "refuse":
            raise UnsupportedError("This cannot be built.")
        if what == "exit":
            sys.exit(3)
        if what == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if what == "segfault":
            signal.signal(signal.SIGSEGV, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGSEGV)
        while True:
            time.sleep(0.1)


ACTIONS = ("value", "raise", "refuse", "exit", "kill", "segfault", "hang")


def job(what, number=0):
    return Job(ARCHITECTURE, Fidelity(1), ACTIONS.index(what), number)


def test_whatever_happens_to_a_worker_is_a_failure_in_words_and_the_next_job_runs():
    with open_pool(Evaluation(), 2, None) as pool:
        assert isinstance(pool, Processes)
        outcomes = {}
        queue = [job(what, n) for n, what in enumerate([*ACTIONS[:6], "value", "value"])]
        while len(outcomes) < 8:
            while queue and pool.has_room():
                pool.submit(queue.pop(0))
            outcomes |= {done.number: outcome for done, outcome in pool.wait()}
        assert pool.wait() == []
    assert outcomes[1].failure.startswith("ValueError: no such luck (test_pool.py:")
    assert outcomes[1].is_worth_retrying
    assert outcomes[2].failure == "This cannot be built."
    assert not outcomes[2].is_worth_retrying
    assert outcomes[3].failure == "The worker process ended with exit status 3."
    assert outcomes[4].failure == "The worker process ended by SIGKILL."
    assert outcomes[5].failure == "The worker process ended by SIGSEGV."
    assert all(outcomes[n].is_worth_retrying for n in (3, 4, 5))
    for number in (0, 6, 7):
        assert outcomes[number].metrics["number"] == number
        assert outcomes[number].metrics["process"] != os.getpid()


def test_a_worker_serves_many_jobs_and_hanging_ones_are_ended():
    with open_pool(Evaluation(), 1, 10.0) as pool:
        processes = set()
        for number in range(3):
            pool.submit(job("value", number))
            ((_, outcome),) = pool.wait()
            processes.add(outcome.metrics["process"])
        assert len(processes) == 1
    with open_pool(Evaluation(), 1, 0.5) as pool:
        pool.submit(job("hang"))
        ((_, outcome),) = pool.wait()
        assert outcome.failure == "The evaluation took more than 0.5 s."
        assert not outcome.is_worth_retrying


def test_a_worker_that_is_killed_while_idle_is_replaced():
    with open_pool(Evaluation(), 1, 60.0) as pool:
        pool.submit(job("value"))
        ((_, first),) = pool.wait()
        os.kill(int(first.metrics["process"]), signal.SIGKILL)
        time.sleep(0.3)
        pool.submit(job("value"))
        ((_, second),) = pool.wait()
        assert second.metrics["process"] != first.metrics["process"]


def test_closing_ends_a_worker_that_hangs():
    with open_pool(Evaluation(), 2, None) as pool:
        pool.submit(job("value"))
        ((_, outcome),) = pool.wait()
        pool.submit(job("hang"))
        start = time.monotonic()
    assert time.monotonic() - start < 10
    assert not is_running(int(outcome.metrics["process"]))


def test_one_worker_without_a_time_limit_is_this_process():
    with open_pool(lambda *_: {"process": os.getpid()}, 1, None) as pool:
        assert isinstance(pool, InProcess)
        assert pool.wait() == []
        pool.submit(job("value"))
        assert not pool.has_room()
        assert pool.wait()[0][1].metrics == {"process": os.getpid()}


def test_what_cannot_be_sent_is_refused_before_anything_runs():
    with pytest.raises(InvalidValueError, match=r"^The evaluation cannot be sent to worker processes .* allowed: a "):
        open_pool(lambda *_: {}, 2, None).__enter__()


DRIVER = """
import sys
from codesign.search.pool import open_pool
from tests.search.test_pool import Evaluation, job
if __name__ == "__main__":
    with open_pool(Evaluation(), 2, None) as pool:
        pool.submit(job("value"))
        pool.submit(job("value"))
        pids = [int(outcome.metrics["process"]) for _ in range(2) for _, outcome in pool.wait()]
        while len(pids) < 2:
            pids += [int(outcome.metrics["process"]) for _, outcome in pool.wait()]
        pool.submit(job("hang"))
        print(*pids, flush=True)
        pool.wait()
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_no_worker_outlives_its_driver(tmp_path, number):
    script = tmp_path / "driver.py"
    script.write_text(DRIVER)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
    ) as driver:
        pids = [int(text) for text in driver.stdout.readline().split()]
        assert len(pids) == 2
        if number == signal.SIGINT:
            os.killpg(driver.pid, number)  # as a terminal does: to the driver and to its workers
        else:
            driver.send_signal(number)
        _, errors = driver.communicate(timeout=30)
    deadline = time.monotonic() + 10
    while any(map(is_running, pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(is_running, pids))
    assert errors.count("Traceback") == (1 if number == signal.SIGINT else 0)


def is_running(pid):
    """Return whether a process runs; one that has ended and waits to be collected does not."""
    status = Path(f"/proc/{pid}/stat")
    try:
        return status.read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
