import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import requests

from codesign.core.errors import TrackingError
from codesign.core.task import Objective
from codesign.tracking import store as store_module
from codesign.tracking import ui
from codesign.tracking.registry import promote, register_bundle
from codesign.tracking.runs import download, find_run, load_trials, start_stage
from codesign.tracking.server import serving
from codesign.tracking.store import ROOT, connect
from deploy.__main__ import main
from tests.tracking.test_runs import children, finished, trial


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def s3(tmp_path_factory):
    """A real S3 server, which checks signatures, with the bucket `firmware`; yields the folder of its buckets."""
    folder = tmp_path_factory.mktemp("s3")
    (folder / "firmware").mkdir()
    port = free_port()
    program = str(Path(sys.executable).parent / "rclone")
    command = [program, "serve", "s3", "--auth-key", "tester,a-long-secret", "--addr", f"127.0.0.1:{port}", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("MLFLOW_S3_ENDPOINT_URL", f"http://127.0.0.1:{port}")
            patch.setenv("AWS_ACCESS_KEY_ID", "tester")
            patch.setenv("AWS_SECRET_ACCESS_KEY", "a-long-secret")
            patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
            while server.poll() is None:
                try:
                    requests.get(f"http://127.0.0.1:{port}", timeout=1)
                    break
                except requests.ConnectionError:
                    time.sleep(0.05)
            yield folder
        server.terminate()


def in_bucket(s3, name):
    return [path for path in s3.rglob(name) if path.is_file()]


def test_artifacts_on_s3_without_a_server(tracking, s3, monkeypatch, make_bundle, capsys, tmp_path):
    monkeypatch.setenv("MLFLOW_DEFAULT_ARTIFACT_ROOT", "s3://firmware/direct")
    with start_stage("synthesize", "jets", {}) as run:
        run.log_trial(trial(0), texts={"direct.md": "# Trial"})
        register_bundle(*make_bundle(), run.id)
    promote("jets", 1, Objective("error"))
    assert len(in_bucket(s3 / "firmware" / "direct", "direct.md")) == 1
    assert len(in_bucket(s3 / "firmware" / "direct", "manifest.json")) == 1
    assert not (tracking / "mlartifacts").exists()
    assert load_trials(run.id) == [trial(0)]
    assert main(["pull", "jets", "--to", str(tmp_path / "pulled")]) == 0
    assert main(["check", str(tmp_path / "pulled")]) == 0
    assert "1000 golden vectors, 0 mismatches" in capsys.readouterr().out


LOG_A_TEXT = """
from codesign.tracking.runs import start_stage
with start_stage("synthesize", "jets", {}) as run:
    run.log_text("a.txt", "a")
"""


def test_s3_with_a_wrong_secret_is_refused_at_once(tracking, s3, monkeypatch):
    monkeypatch.setenv("MLFLOW_DEFAULT_ARTIFACT_ROOT", "s3://firmware/direct")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    done = subprocess.run([sys.executable, "-c", LOG_A_TEXT], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    message = r"codesign.core.errors.TrackingError: The tracking server declined an entry: .*SignatureDoesNotMatch"
    assert re.match(message, done.stderr.splitlines()[-1])
    assert [r.info.status for r in connect().search("tags.stage = 'synthesize'")] == ["FAILED"]


def test_an_outage_loses_nothing_and_doubles_nothing(
    empty_store, s3, tmp_path, monkeypatch, caplog, make_bundle, capsys
):
    database = tmp_path / "server" / "mlflow.db"
    database.parent.mkdir()
    database.write_bytes(empty_store.read_bytes())
    port = free_port()
    monkeypatch.setattr(store_module, "ROOT", tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
    for name in ("MLFLOW_RUN_ID", "MLFLOW_DEFAULT_ARTIFACT_ROOT"):
        monkeypatch.delenv(name, raising=False)
    server = serving(database, "s3://firmware/proxied", port)
    server.__enter__()
    with start_stage("global_search", "jets", {"trials": 9}) as run:
        for number in range(3):
            run.log_trial(trial(number))
        waiting = pytest.raises(TrackingError, match=r"away for 0.5 s; \d entries wait in .*\. Nothing is lost: ")
        with waiting, start_stage("local_compress", "jets", {}) as late:
            server.__exit__(None, None, None)  # the server goes away
            late.patience_s = 0.5
            late.log_text("late.txt", "late")
        start = time.monotonic()
        for number in range(3, 6):
            run.log_trial(trial(number))
            run.log_metrics({"hypervolume": number / 10}, step=number)
        run.log_table("front", [{"trial": 3}])
        assert time.monotonic() - start < 3  # the search goes on
        server = serving(database, "s3://firmware/proxied", port)
        server.__enter__()  # and comes back
        for number in range(6, 9):
            run.log_trial(trial(number))
    assert [r.message.split(";")[0] for r in caplog.records] == [
        "The tracking server does not answer",  # this run, and the one inside of it
        "The tracking server does not answer",
        "The tracking server is back.",
    ]
    found = [c for c in children(run.id) if "trial" in c.data.tags]
    assert sorted(int(c.data.tags["trial"]) for c in found) == list(range(9))
    assert {c.info.status for c in found} == {"FINISHED"}
    assert load_trials(run.id) == [trial(n) for n in range(9)]
    assert find_run("global_search", "jets").metrics == {"hypervolume": 0.5}
    assert download(run.id, "front.json", tmp_path).read_text() == '{"columns": ["trial"], "data": [[3]]}'
    history = connect().client.get_metric_history(run.id, "hypervolume")
    assert [(m.step, m.value) for m in history] == [(3, 0.3), (4, 0.4), (5, 0.5)]
    assert in_bucket(s3 / "firmware" / "proxied", "front.json")

    # A stage that ended while the server was away has kept its end, and the next stage sends it.
    assert [path.name for path in (tmp_path / "build" / "outbox").glob("*")] == [late.id]
    monkeypatch.setattr("codesign.tracking.processes.is_dead", lambda mark: True)  # as after this process
    finished("synthesize")
    assert find_run("local_compress", "jets").id == late.id
    assert download(late.id, "late.txt", tmp_path).read_text() == "late"
    assert not list((tmp_path / "build" / "outbox").glob("*"))

    # The same server serves the registry.
    with start_stage("synthesize", "jets", {}) as synthesis:
        register_bundle(*make_bundle(), synthesis.id)
    promote("jets", 1, Objective("error"))
    assert main(["pull", "jets", "--to", str(tmp_path / "pulled")]) == 0
    assert main(["check", str(tmp_path / "pulled")]) == 0
    assert "1000 golden vectors, 0 mismatches" in capsys.readouterr().out
    server.__exit__(None, None, None)


def test_the_ui_command_shows_the_runs_of_the_newest_stage(tracking):
    finished(task="older")
    finished(task="newer")
    process = subprocess.Popen(
        [sys.executable, "-m", "codesign.tracking.ui", "--no-browser", "--port", str(port := free_port())],
        cwd=ROOT, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        lines = [process.stdout.readline().strip() for _ in range(3)]
        experiments = {name: connect().experiment(name) for name in ("newer", "older")}
        page = f"http://127.0.0.1:{port}/#/experiments"
        assert lines == [f"{name}: {page}/{number}/runs" for name, number in experiments.items()] + ["End with Ctrl-C."]
        assert "<title>MLflow</title>" in requests.get(page, timeout=10).text
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 0
        process.stdout.close()


def test_the_ui_command_says_when_there_is_nothing_to_show(tracking, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["ui"])
    assert ui.main() == 1
    assert capsys.readouterr().err == f"error: There are no runs in {connect().uri} yet; start a search: make search.\n"


def test_a_port_that_is_taken_is_named(tmp_path):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        done = subprocess.run(
            [sys.executable, "-m", "codesign.tracking.server", "--port", str(port), "--folder", str(tmp_path)],
            cwd=ROOT, capture_output=True, text=True, check=False,
        )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr == (
        f"error: The tracking server cannot listen on 127.0.0.1:{port}: Address already in use. "
        "Choose another with --port.\n"
    )
