"""Fixtures that several areas share: a tracking store of the test's own."""

import fcntl
import os
import shutil

import pytest


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
    folder = tmp_path / "tracking"
    folder.mkdir()
    shutil.copyfile(empty_store, folder / "mlflow.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder / 'mlflow.db'}")
    for name in ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "MLFLOW_DEFAULT_ARTIFACT_ROOT"):
        monkeypatch.delenv(name, raising=False)
    return folder
