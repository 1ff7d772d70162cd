"""The whole road on real tools with tiny budgets: search, compress, synthesize, registry, deploy."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent


@pytest.fixture(scope="module")
def commands(tmp_path_factory):
    """A store of its own, a function that runs a command beside it, and one that runs a stage there."""
    folder = tmp_path_factory.mktemp("store")
    environment = os.environ | {
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}",
        "CODESIGN_DATA": str(folder / "data"),
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
    }

    def run(*command):
        return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)

    def stage(name, **parameters):
        flags = [word for key, value in parameters.items() for word in ("-P", f"{key}={value}")]
        result = run("mlflow", "run", ".", "-e", name, "--env-manager", "local", *flags)
        assert result.returncode == 0, result.stdout + result.stderr
        return result

    return run, stage, folder


@pytest.fixture(scope="module")
def store(commands):
    run, stage, folder = commands
    stage("global_search", trials=5, epochs=1, confirm=2, objectives="error,lut_estimate<=40000")
    stage("local_compress", candidates=1, bits=4, steps=2, epochs=1, sparsity=0.8)
    synthesis = stage("synthesize", vectors=1000, hls_strategy="resource", reuse_factor=2)
    assert "FPGA-ready" in synthesis.stdout
    pulled = run(
        sys.executable, "-m", "deploy", "pull", "jet_classification@FPGA-ready", "--to", str(folder / "firmware")
    )
    assert pulled.returncode == 0, pulled.stdout + pulled.stderr
    return run, folder


def test_no_run_is_left_running(store):
    _, folder = store
    with sqlite3.connect(folder / "mlflow.db") as database:
        states = dict(database.execute("select status, count(*) from runs group by status"))
    assert set(states) == {"FINISHED"}
    assert states["FINISHED"] == 5 + 3 + 3  # trials, compression steps, stages


def test_the_firmware_is_listed_as_ready(store):
    run, _ = store
    result = run(sys.executable, "-m", "deploy", "list", "--ready")
    assert result.returncode == 0, result.stderr
    assert "jet_classification" in result.stdout
    assert "vu13p" in result.stdout


def test_the_pulled_bundle_verifies_and_replays(store):
    run, folder = store
    for verb in ("verify", "check"):
        result = run(sys.executable, "-m", "deploy", verb, str(folder / "firmware"))
        assert result.returncode == 0, result.stdout + result.stderr


def test_the_bundle_has_the_project_that_was_asked_for(store):
    _, folder = store
    provenance = json.loads((folder / "firmware" / "manifest.json").read_text())["provenance"]
    asked = {"backend": "Vitis", "io": "io_parallel", "strategy": "resource", "reuse_factor": 2}
    assert provenance["hls"] == asked
    estimate = json.loads((folder / "firmware" / "reports" / "hls_estimate.json").read_text())
    assert (estimate["options"], estimate["ii"]) == (asked, 2)
    with tarfile.open(folder / "firmware" / "hls4ml.tar.xz") as project:
        (parameters,) = (m for m in project if m.name.endswith("parameters.h"))
        assert "DenseResource" in project.extractfile(parameters).read().decode()


def test_the_bundle_replays_without_torch_and_hls4ml(store):
    run, folder = store
    blocked = "import sys; sys.modules.update(dict.fromkeys(['torch', 'hls4ml', 'da4ml', 'brevitas'])); "
    code = (
        blocked + f"from deploy.__main__ import main; raise SystemExit(main(['check', {str(folder / 'firmware')!r}]))"
    )
    result = run(sys.executable, "-c", code)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("name", ["network/network.npz", "golden.npz", "network.qonnx.onnx"])
def test_one_flipped_byte_is_caught(store, tmp_path, name):
    run, folder = store
    shutil.copytree(folder / "firmware", tmp_path / "firmware")
    path = tmp_path / "firmware" / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    result = run(sys.executable, "-m", "deploy", "verify", str(tmp_path / "firmware"))
    assert result.returncode != 0
    assert f"1 file(s) are changed, first {name}" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_network_searched_as_a_stream_becomes_firmware_that_streams(commands):
    run, stage, folder = commands
    task = "bragg_peak:space=paper_streamed,lut_limit=30000,samples=2000"
    stage("global_search", task=task, trials=2, epochs=1, confirm=0, workers=1)
    stage("local_compress", task=task, candidates=1, bits=4, steps=2, epochs=1, sparsity=0.9)
    assert "FPGA-ready" in stage("synthesize", task=task, vectors=1000).stdout
    bundle, name = folder / "streaming", "bragg_peak-space-paper_streamed-lut_limit-30000-0-samples-2000"
    pulled = run(
        sys.executable,
        "-m",
        "deploy",
        "pull",
        f"{name}@FPGA-ready",
        "--to",
        str(bundle),
    )
    assert pulled.returncode == 0, pulled.stdout + pulled.stderr
    firmware = json.loads((bundle / "manifest.json").read_text())
    assert firmware["interface"]["stream"]["dataflow"] == "streaming"
    assert firmware["provenance"]["hls"]["io"] == "io_stream"
    assert firmware["interface"]["stream"]["input_beats"] == firmware["timing"]["ii"] == 11 * 11
    checked = run(sys.executable, "-m", "deploy", "check", str(bundle))
    assert checked.returncode == 0, checked.stdout + checked.stderr
