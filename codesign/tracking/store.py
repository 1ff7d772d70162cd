"""Where runs and artifacts live: the server that MLFLOW_TRACKING_URI names, or one SQLite file beside the code."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

# MLflow reads these while it is imported: nothing is reported home, no pickle is opened, errors are our sentences.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "CRITICAL")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")

import mlflow
import requests
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from codesign.core.errors import TrackingError

ROOT = Path(__file__).parents[2]
UI = "http://127.0.0.1:5000"  # where `make ui` shows a local store

_REFUSALS = {
    "INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST", "RESOURCE_ALREADY_EXISTS", "PERMISSION_DENIED", "NOT_FOUND",
    "UNAUTHENTICATED", "CUSTOMER_UNAUTHORIZED", "BAD_REQUEST", "ENDPOINT_NOT_FOUND", "NOT_IMPLEMENTED",
}  # fmt: skip


@dataclass(frozen=True)
class Store:
    """A tracking store.

    Attributes:
        uri: Tracking URI.
        folder: Local folder for what waits to be sent.
        artifact_root: Where new experiments keep artifacts; empty if the server decides.
    """

    uri: str
    client: MlflowClient
    folder: Path
    artifact_root: str

    def experiment(self, name: str) -> str:
        """Return the id of the experiment `name`, made on first use.

        Raises:
            TrackingError: An experiment of this name was deleted.
        """
        with explained(self.uri):
            found = self.client.get_experiment_by_name(name)
            if found is None:
                location = f"{self.artifact_root}/{name}" if self.artifact_root else None
                try:
                    return str(self.client.create_experiment(name, artifact_location=location))
                except MlflowException as error:
                    found = self.client.get_experiment_by_name(name)  # another process was faster
                    if found is None:
                        raise error from None
        if found.lifecycle_stage != "active":
            raise TrackingError(
                f"The experiment {name!r} in {self.uri} was deleted; "
                f"restore it with `mlflow experiments restore --experiment-id {found.experiment_id}`."
            )
        return str(found.experiment_id)

    def experiments(self) -> list[str]:
        """Return the ids of all experiments that were not deleted."""
        with explained(self.uri):
            return [str(e.experiment_id) for e in self.client.search_experiments()]

    def search(self, filter_string: str, experiments: list[str] | None = None) -> list[Run]:
        """Return every run that matches, page by page, in all experiments or in the given ones."""
        runs: list[Run] = []
        token = None
        while True:
            page = self.client.search_runs(
                experiments or self.experiments(), filter_string, max_results=1000, page_token=token
            )
            runs += page
            token = page.token
            if not token:
                return runs

    def url(self, experiment_id: str, run_id: str = "") -> str:
        """Return the page of an experiment's runs, or of one run."""
        host = self.uri.rstrip("/") if self.uri.startswith("http") else UI
        return f"{host}/#/experiments/{experiment_id}/runs" + (f"/{run_id}" if run_id else "")


def tracking_uri() -> str:
    """Return MLFLOW_TRACKING_URI, or the SQLite file in the project's folder, whatever the current directory."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{ROOT / 'mlflow.db'}"


def sqlite_path(uri: str) -> Path | None:
    """Return the file of a SQLite tracking URI, or None for any other."""
    match = re.fullmatch(r"sqlite:///(?P<path>[^?]+)(\?.*)?", uri)
    return Path(unquote(match["path"])).resolve() if match else None


def connect() -> Store:
    """Return the store in use, after one request that shows that it answers.

    A SQLite store keeps its artifacts in `mlartifacts/` beside the file; a server decides for itself;
    MLFLOW_DEFAULT_ARTIFACT_ROOT overrides the former, for artifacts on S3 without a server.

    Raises:
        TrackingError: The store does not answer, or refuses the credentials.
    """
    uri = tracking_uri()
    path = sqlite_path(uri)
    root = os.environ.get("MLFLOW_DEFAULT_ARTIFACT_ROOT", "").rstrip("/")
    if path:
        uri = f"sqlite:///{path}"
        folder, root = path.parent / "outbox", root or str(path.parent / "mlartifacts")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise TrackingError(f"The tracking store {uri} cannot be made: {error.strerror}; set MLFLOW_TRACKING_URI "
                                f"to a file in a folder you may write.") from error  # fmt: skip
    elif re.match(r"https?://", uri):
        folder, root = ROOT / "build" / "outbox", ""
    elif re.match(r"postgresql|mysql|mssql", uri):
        folder = ROOT / "build" / "outbox"
    else:
        raise TrackingError(
            f"MLFLOW_TRACKING_URI is {uri!r}; allowed: http://…, https://…, sqlite:///… or a database URI. "
            f"Unset it to use {ROOT / 'mlflow.db'}."
        )
    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)
    with explained(uri), impatience(), warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of SQLAlchemy, at MLflow, on first use
        client = MlflowClient(uri, uri)
        client.search_experiments(max_results=1)
    return Store(uri, client, folder, root)


@contextmanager
def impatience(timeout_s: int = 10) -> Iterator[None]:
    """Let every HTTP request fail at once, instead of MLflow's minutes of retries: the caller retries by itself."""
    settings = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": str(timeout_s)}
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def outages() -> tuple[type[Exception], ...]:
    """Return the errors by which MLflow, its HTTP client and its S3 client say that something did not work."""
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError

    return (MlflowException, requests.RequestException, Boto3Error, BotoCoreError, ClientError)


def is_refusal(error: Exception) -> bool:
    """Return whether the store understood the request and declined it, so that repeating it is of no use."""
    if isinstance(error, MlflowException) and error.error_code in _REFUSALS:
        return True
    reason: BaseException | None = error
    while reason is not None:  # MLflow and boto3 wrap what S3 and the artifact proxy answered
        answer = getattr(reason, "response", None)
        status = answer.get("ResponseMetadata", {}).get("HTTPStatusCode") if isinstance(answer, dict) else None
        status = getattr(answer, "status_code", status)
        if status is not None and 400 <= status < 500 and status not in (408, 429):
            return True
        reason = reason.__cause__ or reason.__context__
    return False


@contextmanager
def explained(uri: str) -> Iterator[None]:
    """Turn the errors of MLflow into one sentence.

    Raises:
        TrackingError: The store does not answer, or refuses.
    """
    try:
        yield
    except outages() as error:
        code = getattr(error, "error_code", "")
        text = " ".join(str(error).split())
        if code in ("UNAUTHENTICATED", "CUSTOMER_UNAUTHORIZED") or " 401" in text:
            advice = "refuses the credentials; set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
        elif is_refusal(error):
            advice = f"refuses the request: {text[:300]}"
        else:
            advice = (
                f"does not answer ({text[:300]}); start it (`make server`), "
                "or unset MLFLOW_TRACKING_URI to use the local store"
            )
        raise TrackingError(f"The tracking store {uri} {advice}.") from error
