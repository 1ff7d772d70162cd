"""Fixtures that several areas share: a tracking store of the test's own."""

import fcntl
import os
import shutil

import hypothesis
import pytest

hypothesis.settings.register_profile("any_machine", deadline=None)  # seconds are measured in benchmarks
hypothesis.settings.load_profile("any_machine")


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory):
    """A SQLite store without runs; its tables take seconds to make, so that they are made once, by one worker."""
    base = tmp_path_factory.getbasetemp()
    folder = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    path = folder / "empty-mlflow.db"
    with (folder / "empty-mlflow.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{path}.part")
                from codesign.tracking.store import connect

                connect()
            shutil.move(f"{path}.part", path)
    return path


@pytest.fixture
def tracking(empty_store, tmp_path, monkeypatch):
    """A tracking store in the test's folder, in use; returns the folder."""
    return use_store(empty_store, tmp_path / "tracking", monkeypatch)


def use_store(empty_store, folder, patch):
    """Copy the empty store into a new folder and use it."""
    folder.mkdir()
    shutil.copyfile(empty_store, folder / "mlflow.db")
    patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder / 'mlflow.db'}")
    for name in ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "MLFLOW_DEFAULT_ARTIFACT_ROOT"):
        patch.delenv(name, raising=False)
    return folder


@pytest.fixture(scope="module")
def module_tracking(empty_store, tmp_path_factory):
    """A tracking store that the tests of a module share."""
    with pytest.MonkeyPatch.context() as patch:
        yield use_store(empty_store, tmp_path_factory.mktemp("shared") / "tracking", patch)


@pytest.fixture
def make_bundle(tmp_path, write_small_bundle):
    """Return a function that writes a small real bundle in the test's folder; keywords replace fields."""
    return lambda name="bundle", **fields: write_small_bundle(tmp_path / name, **fields)


@pytest.fixture(scope="session")
def write_small_bundle():
    """Return a function that writes a small real bundle; keywords replace fields of the manifest."""
    import numpy as np

    from codesign.core.build import Evidence, Resources, Timing
    from codesign.core.fixed_point import FixedPoint
    from codesign.core.integer_network import IntegerNetwork
    from codesign.core.operations import Input, Linear, Quantize, Relu
    from codesign.synthesis.bundle import interface_of, write_bundle

    weight = np.array([[3, -2, 5, 0], [1, 7, -4, 2], [-6, 0, 1, 3]])
    network = IntegerNetwork((
        Input((), (3,), (FixedPoint(6, 3),)),
        Linear((0,), weight, np.array([1, -2, 0, 4]), 3, 2),
        Relu((1,)),
        Quantize((2,), (FixedPoint(8, 5, is_signed=False),)),
    ))  # fmt: skip
    inputs = np.random.default_rng(0).integers(-32, 32, (1000, 3))

    def write(folder, **fields):
        values = {
            "name": "jets",
            "task": "jets:particles=8",
            "board": "vu13p",
            "interface": interface_of(network, ("pt", "eta", "phi"), ("g", "q", "w", "z"), {"scale": [1.0, 2.0, 4.0]}),
            "timing": Timing(5, 1, 4.0, is_simulated=True),
            "resources": [
                Resources("estimate", "adder graph", lut=120),
                Resources("synthesis", "yosys", lut=99, ff=40),
            ],
            "evidence": [Evidence("rtl", "verilator", 1000, 0)],
            "metrics": {"accuracy": 0.75, "error": 0.25},
            "provenance": {"seed": 0},
            "gates": {"limits met": True, "exact": True, "on the front": True},
        }
        files = {"rtl/top.v": "module top; endmodule\n", "network.qonnx.onnx": b"\x08\x07"}
        return folder, write_bundle(folder, network, inputs, files, **(values | fields))

    return write
