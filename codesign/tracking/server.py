"""A tracking server on this machine: `python -m codesign.tracking.server`, artifacts proxied through it."""

from __future__ import annotations

import argparse
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from codesign.core.errors import CodesignError, TrackingError

ROOT = Path(__file__).parents[2]
PORT = 5000
_START_S = 180.0  # making the tables of a new store takes some seconds, more on a busy machine


@contextmanager
def serving(database: Path, artifacts: str, port: int = PORT, host: str = "127.0.0.1") -> Iterator[str]:
    """Run an MLflow server over a SQLite file until the block ends, and yield its address once it answers.

    Args:
        database: SQLite file, made on first use.
        artifacts: Folder or `s3://` address that the server keeps artifacts in.
        port: 0 takes a free one.
        host: Network interface to listen on.

    Raises:
        TrackingError: The port is taken, or the server ends at once.
    """
    port = _free_port(host, port)
    database.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "mlflow", "server", "--host", host, "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{database.resolve()}", "--artifacts-destination", artifacts]
    settings = {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # halves the memory; nothing here uses jobs
    }
    settings = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"} | settings
    address = f"http://{host}:{port}"
    with tempfile.TemporaryFile() as log:
        server = subprocess.Popen(
            command, cwd=database.parent, env=settings, stdout=log, stderr=log, start_new_session=True
        )
        try:
            _wait(server, address)
            if server.poll() is not None:
                log.seek(0)
                last = (log.read().decode(errors="replace").strip().splitlines() or ["it said nothing"])[-1]
                raise TrackingError(f"The tracking server ended at once: {last}")
            yield address
        finally:
            with suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGTERM)
            try:
                server.wait(timeout=5)
            except subprocess.TimeoutExpired:
                os.killpg(server.pid, signal.SIGKILL)
                server.wait()


def _free_port(host: str, port: int) -> int:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise TrackingError(
                f"The tracking server cannot listen on {host}:{port}: {error.strerror}. Choose another with --port."
            ) from error
        return int(probe.getsockname()[1])


def _wait(server: subprocess.Popen[bytes], address: str) -> None:
    """Return once the server answers or has ended.

    Raises:
        TrackingError: It does neither.
    """
    import requests

    deadline_s = time.monotonic() + _START_S
    while server.poll() is None:
        if time.monotonic() > deadline_s:
            raise TrackingError(f"The tracking server {address} did not answer within {_START_S:g} s; try again.")
        with suppress(requests.RequestException):
            if requests.get(f"{address}/health", timeout=1).ok:
                return
        time.sleep(0.1)


def wait_for_interrupt() -> None:
    """Return when Ctrl-C or SIGTERM comes."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with suppress(KeyboardInterrupt):
        while True:
            time.sleep(3600)


def main() -> int:
    """Serve until Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m codesign.tracking.server", description=__doc__)
    parser.add_argument("--port", type=int, default=PORT, help="port to listen on (default: 5000)")
    parser.add_argument(
        "--host", default="127.0.0.1", help="network interface to listen on (default: this machine only)"
    )
    parser.add_argument("--folder", type=Path, default=ROOT / "server", help="where runs are kept (default: server/)")
    parser.add_argument("--artifacts", default="", help="folder or s3:// address of artifacts (default: in the folder)")
    options = parser.parse_args()
    artifacts = options.artifacts or str(options.folder.resolve() / "artifacts")
    try:
        with serving(options.folder / "mlflow.db", artifacts, options.port, options.host) as address:
            print(f"Tracking server: {address} (end with Ctrl-C)")
            print(f"Use it:          export MLFLOW_TRACKING_URI={address}", flush=True)
            wait_for_interrupt()
    except CodesignError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
