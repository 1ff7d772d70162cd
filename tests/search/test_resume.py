"""A study that is killed anywhere goes on as if nothing had happened."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codesign.blocks.dense import Dense
from codesign.core.errors import InvalidValueError
from codesign.core.space import Repeat, SearchSpace, one_of, ordered
from codesign.core.task import Objective
from codesign.core.trial import Fidelity
from codesign.search.halving import halving
from codesign.search.study import run_study

ROOT = Path(__file__).parents[2]
SPACE = SearchSpace((4,), (Repeat(Dense(ordered(2, 4, 8, 16), one_of("relu", "identity")), (1, 2, 3)), Dense(3)))
OBJECTIVES = (Objective("error"), Objective("macs", limit=300))


def evaluate(architecture, fidelity, seed, number):
    """Return numbers that depend on everything that a training depends on; fail now and then."""
    if number % 7 == 3:
        raise RuntimeError("bad luck")
    noise = seed / 2**32 / 10 / fidelity.epochs
    return {"error": 1 / architecture.parameters() + noise, "macs": architecture.macs()}


def study(path, evaluation=evaluate, trials=24, **options):
    options = {"algorithm": "portfolio", "fidelity": Fidelity(4), "seed": 3, "progress": False} | options
    return run_study(SPACE, OBJECTIVES, evaluation, trials=trials, journal=path, **options)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    path = tmp_path_factory.mktemp("whole") / "journal.jsonl"
    return study(path, precheck=macs, halving=halving(Fidelity(4), rungs=2, eta=2)), path.read_bytes()


def macs(architecture):
    return {"macs": architecture.macs()}


@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_wherever_the_journal_is_cut_the_study_ends_the_same(uninterrupted, tmp_path_factory, data):
    whole, content = uninterrupted
    cuts = sorted(data.draw(st.lists(st.integers(0, len(content)), min_size=1, max_size=2)))
    path = tmp_path_factory.mktemp("cut") / "journal.jsonl"
    path.write_bytes(content[: cuts[0]])
    again, seen = [], []

    def counting(architecture, fidelity, seed, number):
        again.append(number)
        return evaluate(architecture, fidelity, seed, number)

    found = study(path, counting, precheck=macs, halving=halving(Fidelity(4), rungs=2, eta=2), on_trial=seen.append)
    assert found == whole
    told = [line for line in content[: cuts[0]].split(b"\n")[:-1] if b'"event": "tell"' in line]
    finished = {t.number for t in whole.trials[: len(told)]}
    assert not finished & set(again)
    assert [t.number for t in whole.trials[len(told) :]] == [t.number for t in seen if t.number not in finished]


class Killed(BaseException):
    """Stands for a signal: nothing on the way may catch it."""


def test_killed_again_and_again_it_still_ends_the_same(uninterrupted, tmp_path):
    whole, _ = uninterrupted
    path, found = tmp_path / "journal.jsonl", None
    for stop in range(2, 100, 3):
        calls = []

        def stopping(*job, calls=calls, stop=stop):
            calls.append(job)
            if job[-1] >= stop:
                raise Killed
            return evaluate(*job)

        try:
            found = study(path, stopping, precheck=macs, halving=halving(Fidelity(4), rungs=2, eta=2))
            break
        except Killed:
            continue
    assert found == whole


def test_a_trial_that_takes_the_study_down_each_time_is_given_up(tmp_path):
    path = tmp_path / "journal.jsonl"

    def deadly(*job):
        if job[-1] == 2:
            raise Killed
        return evaluate(*job)

    for _ in range(3):
        with pytest.raises(Killed):
            study(path, deadly, trials=6)
    found = study(path, deadly, trials=6)
    assert found.failures["The study ended 3 times while this trial ran."] == 1
    assert len(found.trials) == 6


def test_what_nobody_saw_is_handed_over_again(tmp_path):
    path, seen = tmp_path / "journal.jsonl", []

    def interrupted(trial):
        if trial.number == 2:
            raise KeyboardInterrupt
        seen.append(trial.number)

    with pytest.raises(KeyboardInterrupt):
        study(path, on_trial=interrupted, trials=5)
    study(path, on_trial=lambda t: seen.append(t.number), trials=5)
    assert seen == [0, 1, 2, 3, 4]


def test_a_finished_study_returns_at_once_and_can_be_extended(tmp_path):
    path = tmp_path / "journal.jsonl"

    def never(*_):
        raise AssertionError("nothing runs")

    short = study(path, trials=18)
    assert study(path, never, trials=18) == short
    assert study(path, trials=24) == study(None, trials=24)


@pytest.mark.parametrize(
    ("options", "key", "there", "here"),
    [({"seed": 4}, "seed", 3, 4), ({"algorithm": "nsga2"}, "algorithm", "portfolio", "nsga2")],
)
def test_a_journal_of_another_study_is_refused(tmp_path, options, key, there, here):
    path = tmp_path / "journal.jsonl"
    study(path, trials=2)
    with pytest.raises(InvalidValueError) as caught:
        study(path, **options)
    assert str(caught.value) == (
        f"Journal {path} is of a study with another {key} ({there} there, {here} here); "
        "resume with the parameters it was started with, or start anew with another journal."
    )


def slow(architecture, fidelity, seed, number):
    """Evaluate in a time that leaves room for a signal, and note the number in a file."""
    time.sleep(0.02)
    with Path(os.environ["EVALUATIONS"]).open("a") as file:
        file.write(f"{number}\n")
    return evaluate(architecture, fidelity, seed, number)


DRIVER = """
import sys
from pathlib import Path
from tests.search.test_resume import slow, study
if __name__ == "__main__":
    study(Path(sys.argv[1]), slow, trials=24, workers=int(sys.argv[2]))
"""


@pytest.mark.parametrize("workers", [1, 2])
def test_kill_9_of_a_real_study(tmp_path, workers):
    script, path, evaluations = tmp_path / "driver.py", tmp_path / "journal.jsonl", tmp_path / "evaluations"
    script.write_text(DRIVER)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "EVALUATIONS": str(evaluations)}
    command = [sys.executable, script, path, str(workers)]
    for lines in (8, 40):
        with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE) as driver:
            deadline = time.monotonic() + 120
            while (not path.exists() or path.read_bytes().count(b"\n") < lines) and time.monotonic() < deadline:
                assert driver.poll() is None, driver.stderr.read()
                time.sleep(0.002)
            driver.send_signal(signal.SIGKILL)
    before = path.read_bytes()
    told = before[: before.rfind(b"\n")].count(b'"event": "tell"')
    assert 2 <= told < 24
    time.sleep(0.5)  # workers of the killed driver end
    finished = evaluations.read_text().split()
    found = study(path, trials=24)
    assert len(found.trials) == 24
    assert sorted(t.number for t in found.trials) == list(range(24))
    assert len({t.architecture.digest for t in found.trials}) == 24
    assert len(set(finished)) >= told - 4  # failed ones leave no mark twice
    if workers == 1:
        assert found == study(None, trials=24)
