import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from codesign.blocks.dense import Dense
from codesign.core.architecture import Architecture
from codesign.core.archive import unpack
from codesign.core.errors import DataError, InvalidValueError, TrackingError
from codesign.core.trial import Fidelity, Trial
from codesign.tracking.runs import download, find_run, load_trials, start_stage
from codesign.tracking.store import ROOT, connect, tracking_uri

ARCHITECTURE = Architecture((8, 3), (Dense(16), Dense(5, "identity")))


def trial(number, **fields):
    return Trial(number, ARCHITECTURE, 7, Fidelity(3), **({"metrics": {"error": 0.5 - number / 100}} | fields))


def children(run_id):
    return connect().search(f"tags.`mlflow.parentRunId` = '{run_id}'")


def finished(stage="global_search", task="jets"):
    with start_stage(stage, task, {}) as run:
        pass
    return run.id


def test_a_finished_stage_holds_what_was_logged(tracking, tmp_path):
    rows = [{"trial": 1, "error": 0.25}, {"trial": 2, "note": "ö"}]
    (tmp_path / "sub" / "deep").mkdir(parents=True)
    (tmp_path / "sub" / "deep" / "a.bin").write_bytes(bytes(range(256)))
    with start_stage("global_search", "jets:particles=16", {"trials": 3, "resume": ""}) as run:
        run.log_metrics({"hypervolume": 0.1}, step=0)
        run.log_metrics({"hypervolume": 0.2}, step=1)
        run.log_table("front", rows)
        run.describe("# Search")
        run.log_folder(tmp_path / "sub", "kept")
        run.log_file(tmp_path / "sub" / "deep" / "a.bin")
        assert connect().client.get_run(run.id).info.status == "RUNNING"
    record = find_run("global_search", "jets:particles=16")
    assert (record.id, record.status) == (run.id, "FINISHED")
    assert record.params == {"trials": "3", "resume": ""}
    assert record.metrics == {"hypervolume": 0.2}
    assert record.tags["mlflow.note.content"] == "# Search"
    assert [m.value for m in connect().client.get_metric_history(run.id, "hypervolume")] == [0.1, 0.2]
    table = json.loads(download(run.id, "front.json", tmp_path / "out").read_text())
    assert table == {"columns": ["trial", "error", "note"], "data": [[1, 0.25, None], [2, None, "ö"]]}
    assert download(run.id, "kept/deep/a.bin", tmp_path / "out").read_bytes() == bytes(range(256))
    assert download(run.id, "", tmp_path / "all").joinpath("a.bin").exists()
    assert connect().client.load_table(run.experiment_id, "front.json").shape == (2, 3)
    assert (tracking / "mlartifacts" / "jets-particles-16").is_dir()
    assert not list((tracking / "outbox").glob("*"))


def test_every_trial_is_a_child_run(tracking, tmp_path):
    (tmp_path / "hls").mkdir()
    (tmp_path / "hls" / "top.cpp").write_text("int x;\n" * 1000)
    trials = [
        trial(0, choices={"0.width": 2}),
        trial(1, metrics={}, failure="training diverged"),
        trial(2, violations=("lut_estimate is 5, limit 3",)),
    ]
    with start_stage("global_search", "jets", {}) as run:
        for t in trials:
            run.log_trial(t, {"hls": tmp_path / "hls"}, {"summary.md": "# Trial"}, seconds=2.5)
        urls = run.trial_urls()
    found = {int(c.data.tags["trial"]): c for c in children(run.id)}
    assert [found[n].info.status for n in range(3)] == ["FINISHED", "FAILED", "FINISHED"]
    assert found[0].data.metrics == {"error": 0.5}
    assert found[0].data.params == {
        "architecture": ARCHITECTURE.describe(),
        "seed": "7",
        "epochs": "3",
        "data_fraction": "1.0",
        "choice.0.width": "2",
    }
    assert found[1].data.tags["failure"] == "training diverged"
    assert found[2].data.tags["violations"] == "lut_estimate is 5, limit 3"
    assert [found[n].data.tags["is_feasible"] for n in range(3)] == ["true", "false", "false"]
    assert found[0].info.end_time - found[0].info.start_time == 2500
    assert urls[1].endswith(f"#/experiments/{run.experiment_id}/runs/{found[1].info.run_id}")
    archive = download(found[0].info.run_id, "files.tar.xz", tmp_path / "out")
    assert unpack(archive, tmp_path / "un").joinpath("hls", "top.cpp").read_text() == "int x;\n" * 1000
    assert load_trials(run.id) == trials  # from the child runs


def test_trials_are_read_from_one_artifact_if_there_is_one(tracking):
    trials = [trial(n) for n in range(3)]
    with start_stage("global_search", "jets", {}) as run:
        run.log_trials(reversed(trials))
    assert load_trials(run.id) == trials


def test_logging_a_trial_twice_leaves_one(tracking):
    with start_stage("global_search", "jets", {}) as run:
        run.log_trial(trial(0))
        run.log_trial(trial(0))
        run.log_trial(trial(1))
    with start_stage("global_search", "jets", {}, resume=run.id) as again:
        again.log_trial(trial(1))
        again.log_trial(trial(2))
        assert sorted(again.trial_urls()) == [0, 1, 2]
    assert again.id == run.id
    assert sorted(c.data.tags["trial"] for c in children(run.id)) == ["0", "1", "2"]


def test_a_failing_stage_says_why(tracking):
    with pytest.raises(DataError), start_stage("global_search", "jets", {}) as run:
        raise DataError("The file x is missing; put it there.")
    with pytest.raises(ZeroDivisionError), start_stage("global_search", "jets", {}) as crashed:
        1 / 0  # noqa: B018
    client = connect().client
    ended = [client.get_run(r.id) for r in (run, crashed)]
    assert [r.info.status for r in ended] == ["FAILED", "FAILED"]
    assert ended[0].data.tags["error"] == "The file x is missing; put it there."
    assert ended[1].data.tags["error"] == "ZeroDivisionError: division by zero"
    assert [a.path for a in client.list_artifacts(run.id)] == []
    assert [a.path for a in client.list_artifacts(crashed.id)] == ["traceback.txt"]


def test_an_interrupt_kills_and_a_resumed_run_finishes(tracking):
    with pytest.raises(KeyboardInterrupt), start_stage("global_search", "jets", {"trials": 3}) as run:
        raise KeyboardInterrupt
    killed = connect().client.get_run(run.id)
    assert killed.info.status == "KILLED"
    assert killed.data.tags["error"] == f"Interrupted; go on with resume={run.id}."
    with start_stage("global_search", "jets", {"trials": 5}, resume=run.id) as again:
        assert again.is_resumed
    record = find_run("global_search", "jets")
    assert (record.id, record.params["trials"]) == (run.id, "3")
    assert record.tags["resumed_with"] == '{"trials": "5"}'
    assert "error" not in record.tags


def test_sigterm_ends_a_stage_as_ctrl_c_does(tracking):
    with pytest.raises(KeyboardInterrupt), start_stage("global_search", "jets", {}) as run:
        os.kill(os.getpid(), signal.SIGTERM)
    assert connect().client.get_run(run.id).info.status == "KILLED"
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_the_run_of_mlflow_is_taken_once_and_its_parameters_are_kept(tracking, monkeypatch):
    store = connect()
    made = store.client.create_run(store.experiment("mine")).info.run_id
    store.client.log_param(made, "trials", "3.0")
    monkeypatch.setenv("MLFLOW_RUN_ID", made)
    with start_stage("main", "jets", {"trials": 3, "seed": 0}) as outer:
        with start_stage("global_search", "jets", {"trials": 3}) as inner:
            pass
        assert inner.id != outer.id
    assert outer.id == made
    assert find_run("main", "jets").params == {"trials": "3.0", "seed": "0"}
    inner_record = find_run("global_search", "jets")
    assert inner_record.tags["mlflow.parentRunId"] == made
    assert store.client.get_run(inner.id).info.experiment_id == store.client.get_run(made).info.experiment_id


def test_a_run_that_mlflow_made_elsewhere_is_refused(tracking, monkeypatch):
    monkeypatch.setenv("MLFLOW_RUN_ID", "0" * 32)
    with pytest.raises(TrackingError) as error, start_stage("main", "jets", {}):
        pass
    assert str(error.value) == (
        f"There is no run '{'0' * 32}' in {tracking_uri()}; allowed: the id of a run, as its page shows it."
    )


KILLED = """
    import os, signal
    from codesign.tracking.runs import start_stage
    from tests.tracking.test_runs import trial
    with start_stage("global_search", "jets", {}) as run:
        run.log_trial(trial(0))
        send = run._outbox._send
        def die(entry):  # after the child run was made, before it was ended
            store, create = run._sender._store, run._sender._store.client.create_run
            def create_and_die(*arguments, **options):
                create(*arguments, **options)
                os.kill(os.getpid(), signal.SIGKILL)
            store.client.create_run = create_and_die
            send(entry)
        run._outbox._send = die
        run.log_trial(trial(1))
"""


def test_what_kill_9_left_behind_is_sent_and_ended_by_the_next_stage(tracking):
    ended = subprocess.run([sys.executable, "-c", textwrap.dedent(KILLED)], cwd=ROOT, check=False)
    assert ended.returncode == -signal.SIGKILL
    run = connect().search("tags.stage = 'global_search'")[0]
    assert run.info.status == "RUNNING"
    assert [c.info.status for c in children(run.info.run_id)].count("RUNNING") == 1
    other = finished("synthesize")
    run = connect().client.get_run(run.info.run_id)
    assert run.info.status == "KILLED"
    assert run.data.tags["error"] == "The process ended without a word: killed, or out of memory."
    assert sorted((c.data.tags["trial"], c.info.status) for c in children(run.info.run_id)) == [
        ("0", "FINISHED"),
        ("1", "FINISHED"),
    ]
    assert load_trials(run.info.run_id) == [trial(0), trial(1)]
    assert connect().client.get_run(other).info.status == "FINISHED"
    assert not list((tracking / "outbox").glob("*"))
    with start_stage("global_search", "jets", {}, resume=run.info.run_id):
        pass
    assert find_run("global_search", "jets").id == run.info.run_id


def test_a_run_that_another_process_writes_is_left_alone(tracking):
    with start_stage("global_search", "jets", {}) as run:
        finished("local_compress")
        assert connect().client.get_run(run.id).info.status == "RUNNING"
        with pytest.raises(TrackingError) as error, start_stage("global_search", "jets", {}, resume=run.id):
            pass
        assert str(error.value).startswith(f"The run {run.id} is still being written by process '")


def test_find_run_takes_the_newest_finished_one(tracking):
    finished()
    second = finished()
    with pytest.raises(DataError), start_stage("global_search", "jets", {}):
        raise DataError("no")
    finished(task="bragg")
    finished(stage="synthesize")
    assert find_run("global_search", "jets").id == second


def test_find_run_says_what_is_wrong_with_a_run(tracking):
    search, uri = finished(), tracking_uri()
    with pytest.raises(DataError), start_stage("local_compress", "jets", {}) as failed:
        raise DataError("no")
    with pytest.raises(DataError), start_stage("global_search", "jets", {}) as cut:
        raise DataError("no")
    hint = f" The newest finished run of global_search for jets is {search}."
    for arguments, message in {
        ("local_compress", "jets"): f"There is no finished run of local_compress for the task 'jets' in {uri}; "
        "run it first: mlflow run . -e local_compress -P task=jets.",
        ("global_search", "jets", "typo"): f"There is no run 'typo' in {uri}; allowed: the id of a run, as its page "
        "shows it." + hint,
        ("local_compress", "jets", search): f"The run {search} is a run of global_search; "
        "allowed: a run of local_compress.",
        ("global_search", "bragg", search): f"The run {search} is of the task 'jets'; allowed: runs of 'bragg'.",
        ("local_compress", "jets", failed.id): f"The run {failed.id} is FAILED; allowed: a FINISHED one. "
        "Start the stage again.",
        ("global_search", "jets", cut.id): f"The run {cut.id} is FAILED; allowed: a FINISHED one. "
        f"Go on with it: -P resume={cut.id}.",
    }.items():
        with pytest.raises(TrackingError) as error:
            find_run(*arguments)
        assert str(error.value) == message


def test_a_deleted_run_is_refused(tracking):
    run = finished()
    connect().client.delete_run(run)
    with pytest.raises(TrackingError, match="was deleted; restore it, or name another"):
        find_run("global_search", "jets", run)


def test_a_missing_artifact_is_refused(tracking, tmp_path):
    with start_stage("global_search", "jets", {}) as run:
        run.log_text("a.txt", "a")
    with pytest.raises(TrackingError) as error:
        download(run.id, "b.txt", tmp_path)
    assert str(error.value) == f"The run {run.id} has no artifact 'b.txt'; it holds: a.txt."


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/../../x", ""])
def test_an_artifact_stays_inside_of_its_run(tracking, name):
    with pytest.raises(InvalidValueError) as error, start_stage("global_search", "jets", {}) as run:
        run.log_text(name, "x")
    assert str(error.value) == f"An artifact is named {name!r}; allowed: a relative path without '..'."


@pytest.mark.parametrize("uri", ["file:///tmp/x", "sqlite:/x", "mlruns"])
def test_a_store_of_another_kind_is_refused(monkeypatch, uri):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(TrackingError) as error:
        connect()
    assert str(error.value).startswith(f"MLFLOW_TRACKING_URI is {uri!r}; allowed: http://…")


def test_a_server_that_is_away_is_named(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.raises(TrackingError) as error:
        connect()
    assert str(error.value).startswith("The tracking store http://127.0.0.1:9 does not answer (")
    assert str(error.value).endswith("; start it (`make server`), or unset MLFLOW_TRACKING_URI to use the local store.")


def test_without_a_setting_the_store_is_beside_the_code(monkeypatch, tmp_path):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    assert tracking_uri() == f"sqlite:///{ROOT / 'mlflow.db'}"
    assert (ROOT / "pyproject.toml").exists()
    assert Path(ROOT).is_absolute()
