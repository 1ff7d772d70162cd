"""The stage `global_search` as a whole: a real task, a real tracking store, real processes."""

import dataclasses
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from codesign.core.errors import CodesignError
from codesign.core.trial import Fidelity
from codesign.jobs.context import load_task_and_data, work_folder
from codesign.jobs.evaluate import Evaluator
from codesign.jobs.search import JOURNAL
from codesign.search.halving import halving
from codesign.search.space import digest
from codesign.stages import global_search
from codesign.stages.global_search import GlobalSearch
from codesign.stages.options import as_started
from codesign.tracking.lookup import download, find_run, load_trials
from codesign.tracking.runs import start_stage
from codesign.tracking.store import connect

ROOT = Path(__file__).parents[2]
TASK = "qubit_readout:decimation=50,traces=1000"
OPTIONS = GlobalSearch(task=TASK, trials=8, epochs=3, rungs=2, confirm=2, workers=1, seed=5, device="cpu")


@pytest.fixture(scope="module")
def first(module_tracking):
    """Id of a search that nothing interrupted."""
    return global_search.run(OPTIONS)


def children(run_id):
    return [r for r in connect().search(f"tags.`mlflow.parentRunId` = '{run_id}'") if "trial" in r.data.tags]


def test_its_run_shows_trials_front_error_bars_and_what_was_saved(first, tmp_path):
    trials, record = load_trials(first), find_run("global_search", TASK)
    assert record.id == first
    assert {t.fidelity for t in trials} == set(halving(Fidelity(3), rungs=2).rungs)
    assert len({t.architecture.digest for t in trials}) == record.metrics["architectures"] == 8
    assert len(children(first)) == len(trials) == record.metrics["trials"]
    assert record.metrics["training_cost"] < 8

    front = json.loads(download(first, "pareto_front.json", tmp_path).read_text())
    rows = [dict(zip(front["columns"], row, strict=True)) for row in front["data"]]
    assert rows
    assert all(row["trainings"] == 3 and row["epochs"] == 3 for row in rows)
    assert all(row["error_mean"] >= 0 and row["error_std"] >= 0 for row in rows)
    assert record.metrics["best_mean_error"] == min(row["error_mean"] for row in rows)
    assert {str(row["trial"]) for row in rows} == {p.name for p in download(first, "front", tmp_path).iterdir()}

    curve = [m.value for m in connect().client.get_metric_history(first, "hypervolume")]
    assert len(curve) == len(trials)
    assert curve == sorted(curve)
    page = download(first, "front.html", tmp_path).read_text()
    for title in ("Pareto front", "How the front evolved", "Hypervolume", "Which choices mattered", "Parallel"):
        assert f"<h2>{title}" in page
    description = connect().client.get_run(first).data.tags["mlflow.note.content"]
    assert "In brackets: mean ± standard deviation of 2 further trainings with other seeds." in description
    assert (
        f"The 8 that were tried cost as much training as {record.metrics['training_cost']:.1f} in full." in description
    )
    assert not work_folder(first).exists()


def test_the_keys_of_its_metrics_were_known_before(first):
    task, _ = load_task_and_data(TASK)
    best = Evaluator(TASK, task.default_bits).best_metrics()
    for trial in load_trials(first):
        assert set(trial.metrics) == set(best)
        assert all(o.cost(best) <= o.cost(trial.metrics) for o in task.objectives)


def kill_a_search_in_the_middle(options):
    """Start the stage as a process, kill it when four evaluations have ended, and return the id of its run."""
    flags = [word for f in dataclasses.fields(options) for word in (f"--{f.name}", str(getattr(options, f.name)))]
    before = set(work_folder("").glob("*"))
    command = [sys.executable, "-m", "codesign.stages.global_search", *flags]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, start_new_session=True) as process:
        deadline, journal = time.monotonic() + 300, None
        while not journal or journal.read_text().count('"event": "tell"') < 4:
            assert process.poll() is None, process.stderr.read().decode()
            assert time.monotonic() < deadline
            time.sleep(0.005)
            found = [folder / JOURNAL for folder in set(work_folder("").glob("*")) - before]
            journal = next((path for path in found if is_of(path, options)), None)
        os.killpg(process.pid, signal.SIGKILL)
    return journal.parent.name


def is_of(journal, options):
    """Return whether a journal is of a search with these options: other tests may search meanwhile."""
    first = journal.read_text().partition("\n")[0] if journal.exists() else ""
    return bool(first) and json.loads(first)["seed"] == options.seed


def test_kill_9_loses_nothing_repeats_nothing_and_changes_nothing(first):
    killed = kill_a_search_in_the_middle(OPTIONS)
    told = (work_folder(killed) / JOURNAL).read_text().count('"event": "tell"')
    assert 4 <= told < len(load_trials(first))
    assert global_search.run(GlobalSearch(resume=killed)) == killed

    def content(run_id):
        return [dataclasses.replace(t, metrics=t.metrics | {"train_seconds": 0.0}) for t in load_trials(run_id)]

    assert content(killed) == content(first)
    numbers = sorted(int(child.data.tags["trial"]) for child in children(killed))
    assert numbers == [t.number for t in load_trials(first)]
    assert {child.info.status for child in children(killed)} == {"FINISHED"}
    run = connect().client.get_run(killed)
    assert run.info.status == "FINISHED"
    assert run.data.metrics["best_mean_error"] == connect().client.get_run(first).data.metrics["best_mean_error"]


def test_an_earlier_search_is_learned_from_and_its_front_is_tried_first(first, tmp_path):
    options = dataclasses.replace(OPTIONS, trials=6, rungs=1, confirm=0, from_run=f"{first}, {first}", seed=6)
    later = load_trials(global_search.run(options))
    earlier = load_trials(first)
    baselines = [a.digest for a in load_task_and_data(TASK)[0].baselines.values() if a.is_buildable]
    front = json.loads(download(first, "pareto_front.json", tmp_path).read_text())
    again = [earlier[row[0]].architecture.digest for row in front["data"]]
    expected = list(dict.fromkeys([*baselines, *again]))[:6]
    assert [t.architecture.digest for t in later[: len(expected)]] == expected
    tried_in_full = {t.architecture.digest for t in earlier if not t.is_partial}
    assert not {t.architecture.digest for t in later[len(expected) :]} & tried_in_full


def interrupt(*trials, resume=""):
    """Start a search or go on with it, log trials, press Ctrl-C, and return the run's id."""
    try:
        with start_stage("global_search", TASK, dataclasses.asdict(OPTIONS), resume) as run:
            for trial in trials:
                run.log_trial(trial)
            raise KeyboardInterrupt
    except KeyboardInterrupt:
        return run.id


class TestBadInput:
    """One sentence, and no run is made or touched."""

    @pytest.fixture
    def interrupted(self, first):
        """Id of a search that was interrupted before its first trial, with a journal of another space."""
        run_id = interrupt()
        folder = work_folder(run_id)
        folder.mkdir(parents=True)
        (folder / JOURNAL).write_text('{"event": "study", "space": "abc"}\n')
        yield run_id
        shutil.rmtree(folder)

    def sentence(self, **options):
        def runs():
            found = connect().search("")
            return {(r.info.run_id, r.info.status, r.info.end_time, len(r.data.tags)) for r in found}

        before = runs()
        with pytest.raises(CodesignError) as caught:
            global_search.run(GlobalSearch(**{"task": TASK, "device": "cpu"} | options))
        assert runs() == before
        return str(caught.value)

    def test_an_objective_that_no_metric_gives(self, first):
        allowed = ", ".join(sorted(Evaluator(TASK, 6).best_metrics()))
        assert self.sentence(objectives="eror,lut_estimate") == (
            f"There is no metric 'eror'; allowed: {allowed}. Did you mean 'error'?"
        )

    def test_limits_that_contradict_each_other(self, first):
        assert self.sentence(objectives="error,lut_estimate<=100,lut_estimate>=200") == (
            "The metric lut_estimate is stated 2 times (min lut_estimate <= 100; max lut_estimate >= 200); "
            "state it once, with one limit."
        )

    def test_a_limit_that_no_architecture_of_the_space_keeps(self, first):
        sentence = self.sentence(objectives="error,macs<=1")
        assert re.fullmatch(
            r"No architecture of the space can be tried; \d+ were looked at, and most were refused so: "
            r"limit: macs is \d+, limit 1\.",
            sentence,
        )

    def test_a_search_that_finished_cannot_go_on(self, first):
        assert self.sentence(resume=first) == (
            f"The run {first} is FINISHED; allowed: an interrupted one. "
            f"To start from what it found: -P from_run={first}."
        )

    def test_a_run_of_another_task_cannot_go_on(self, interrupted, first):
        assert self.sentence(resume=interrupted, task="bragg_peak") == (
            f"The run {interrupted} is of the task {TASK!r}; allowed: runs of 'bragg_peak'."
        )

    def test_a_journal_of_another_space_is_not_gone_on_with(self, interrupted):
        here = digest(load_task_and_data(TASK)[0].space)
        assert self.sentence(resume=interrupted) == (
            f"Journal {work_folder(interrupted) / JOURNAL} is of a study with another space (abc there, {here} here); "
            "resume with the parameters it was started with, or start anew with another journal."
        )

    def test_without_its_journal_a_search_cannot_go_on(self, interrupted, first):
        interrupt(load_trials(first)[0], resume=interrupted)
        journal = work_folder(interrupted) / JOURNAL
        journal.unlink()
        assert self.sentence(resume=interrupted) == (
            f"The run {interrupted} has 1 trials, but its journal {journal} is not on this machine; allowed: to go on "
            f"where the journal is. To start from what it found: -P from_run={interrupted}."
        )

    def test_an_earlier_run_of_another_stage_is_no_start(self, first):
        with start_stage("synthesize", TASK, {}) as other:
            pass
        assert self.sentence(from_run=other.id) == (
            f"The run {other.id} is a run of synthesize; allowed: a run of global_search. "
            f"The newest finished run of global_search for {TASK} is {find_run('global_search', TASK).id}."
        )


def test_what_is_not_stated_for_going_on_is_as_it_was():
    stated = GlobalSearch(trials=100, seed=0)
    started = {"trials": "40", "seed": "7", "workers": "1", "task": "bragg_peak", "unknown": "x"}
    assert as_started(stated, started) == GlobalSearch(trials=100, seed=7, workers=1, task="bragg_peak")
