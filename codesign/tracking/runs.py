"""A stage as an MLflow run: whatever happens to it, the run says how it ended and keeps what was finished."""

from __future__ import annotations

import json
import logging
import os
import signal
import tempfile
import threading
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path, PurePosixPath
from typing import Any

from mlflow.tracking.context.registry import resolve_tags

from codesign.core.archive import pack
from codesign.core.errors import CodesignError, InvalidValueError, TrackingError
from codesign.core.task import slug
from codesign.core.trial import Trial
from codesign.tracking import processes
from codesign.tracking.lookup import TRIAL, TRIALS, RunRecord, download, find_run, get_record, load_trials
from codesign.tracking.outbox import Outbox
from codesign.tracking.sending import Sender, now_ms, recover
from codesign.tracking.store import Store, connect, explained

_TAG_LIMIT = 8000  # characters that MLflow keeps of a tag
_log = logging.getLogger("codesign.tracking")
_outer: ContextVar[str] = ContextVar("outer", default="")  # the run inside of which a stage is started


class Run:
    """A running stage. Everything logged is safe on disk at once, and in MLflow as soon as the server takes it.

    Attributes:
        patience_s: How long the end of the stage waits for a server that is away.
    """

    patience_s = 120.0

    def __init__(self, store: Store, record: RunRecord, experiment_id: str, is_resumed: bool = False) -> None:
        self.id, self.experiment_id, self.is_resumed = record.id, experiment_id, is_resumed
        self.stage, self.task = record.stage, record.task
        self._store, self._params = store, dict(record.params)
        self._tables: list[dict[str, str]] = json.loads(record.tags.get("mlflow.loggedArtifacts", "[]"))
        self._sender = Sender(store, record.id, experiment_id, is_resumed)
        header = {"run_id": record.id, "experiment_id": experiment_id, "uri": store.uri} | {
            "process": processes.this_process()
        }
        self._outbox = Outbox(store.folder / record.id, self._sender, header)

    @property
    def url(self) -> str:
        """Page of the run in the MLflow UI."""
        return self._store.url(self.experiment_id, self.id)

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Log parameters that are not there yet (`mlflow run` has logged the command line's as text)."""
        new = {k: str(v) for k, v in params.items() if k not in self._params}
        self._params |= new
        if new:
            self._outbox.add({"kind": "batch", "params": new})

    def log_metrics(self, metrics: Mapping[str, float], step: int = 0) -> None:
        """Log finite numbers; the same key at several steps becomes a curve."""
        values = [[key, float(value), now_ms(), step] for key, value in metrics.items()]
        self._outbox.add({"kind": "batch", "metrics": values})

    def log_curve(self, key: str, values: Sequence[float]) -> None:
        """Log a metric that changes along the run: its values after step 1, 2, and so on, at once."""
        now = now_ms()
        points = [[key, float(value), now, step] for step, value in enumerate(values, start=1)]
        self._outbox.add({"kind": "batch", "metrics": points})

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Set tags."""
        self._outbox.add({"kind": "batch", "tags": {k: v[:_TAG_LIMIT] for k, v in tags.items()}})

    def describe(self, markdown: str) -> None:
        """Set the description that the run's page shows."""
        self.set_tags({"mlflow.note.content": markdown})

    def log_text(self, name: str, text: str) -> None:
        """Write a text artifact."""
        self._add_files({name: text.encode()})

    def log_file(self, path: Path, folder: str = "") -> None:
        """Copy a file into the run's artifacts."""
        self._add_files({f"{folder}/{path.name}".lstrip("/"): path})

    def log_folder(self, path: Path, folder: str = "") -> None:
        """Copy everything in a folder into the run's artifacts."""
        files = sorted(p for p in path.rglob("*") if p.is_file())
        self._add_files({f"{folder}/{p.relative_to(path).as_posix()}".lstrip("/"): p for p in files})

    def log_table(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write `<name>.json`, which the UI shows as a table; a row may lack columns."""
        columns = list(dict.fromkeys(key for row in rows for key in row))
        data = [[row.get(column) for column in columns] for row in rows]
        self.log_text(f"{name}.json", json.dumps({"columns": columns, "data": data}, default=str))
        entry = {"path": f"{name}.json", "type": "table"}
        if entry not in self._tables:
            self._tables.append(entry)
            self.set_tags({"mlflow.loggedArtifacts": json.dumps(self._tables)})

    def log_trial(
        self,
        trial: Trial,
        files: Mapping[str, Path] | None = None,
        texts: Mapping[str, str] | None = None,
        seconds: float = 0.0,
    ) -> None:
        """Log a trial as a child run; logging the same number again replaces nothing and doubles nothing.

        Args:
            trial: What was tried. A failed one gives a child run that FAILED.
            files: Files and folders by name, packed into one archive `files.tar.xz`.
            texts: Small artifacts that are to be read in the UI, by name.
            seconds: How long the trial took.
        """
        contents: dict[str, Path | bytes] = {TRIAL: trial.to_json().encode()}
        contents |= {name: text.encode() for name, text in (texts or {}).items()}
        entry = _child(trial, f"{self.id}/{trial.number}", seconds)
        with tempfile.TemporaryDirectory() as folder:
            if files:
                contents["files.tar.xz"] = pack(Path(folder) / "files.tar.xz", files)
            self._outbox.add(entry, contents)

    def log_trials(self, trials: Iterable[Trial]) -> None:
        """Write all trials as one artifact, from which `load_trials` reads them in one piece."""
        self.log_text(TRIALS, "".join(trial.to_json() + "\n" for trial in trials))

    def trial_urls(self) -> dict[int, str]:
        """Return the pages of the child runs by trial number, of those that the server has."""
        return {n: self._store.url(self.experiment_id, run_id) for n, run_id in self._sender.trial_runs().items()}

    def flush(self, timeout_s: float | None = None) -> None:
        """Wait until the server has everything, for `patience_s` if nothing else is said.

        Raises:
            TrackingError: It stayed away; nothing is lost.
        """
        self._outbox.flush(self.patience_s if timeout_s is None else timeout_s)

    def end(self, status: str, error: str = "", timeout_s: float | None = None) -> None:
        """Say how the run ended, and wait until the server knows it."""
        if error:
            self.set_tags({"error": error})
        self._outbox.add({"kind": "end", "status": status, "end_time": now_ms()})
        self.flush(timeout_s)
        self._outbox.remove()

    def _add_files(self, files: Mapping[str, Path | bytes]) -> None:
        for name in files:
            path = PurePosixPath(name)
            if path.is_absolute() or ".." in path.parts or not path.parts:
                raise InvalidValueError(f"An artifact is named {name!r}; allowed: a relative path without '..'.")
        self._outbox.add({"kind": "files"}, files)


@contextmanager
def start_stage(stage: str, task_name: str, params: Mapping[str, Any], resume: str = "") -> Iterator[Run]:
    """Run the body of a stage as an MLflow run, tagged with stage and task.

    Under `mlflow run` it is the run that MLflow made; else a new one in the experiment of the task. Inside of another
    stage it becomes its child. An exception ends it as FAILED with the tag `error`, Ctrl-C and SIGTERM as KILLED. Runs
    that a dead process of this machine left behind are brought to their end first.

    Args:
        stage: Name of the entry point.
        task_name: Name of the task, with options.
        params: The stage's parameters.
        resume: Id of a run of the same stage and task to go on with.

    Raises:
        TrackingError: The store does not answer, or `resume` is no run that can go on.
    """
    store = connect()
    with explained(store.uri):
        recover(store)
        run = _open(store, stage, task_name, params, resume)
    token = _outer.set(run.id)
    try:
        with _termination_is_an_interrupt():
            yield run
    except KeyboardInterrupt:
        _end_early(run, "KILLED", f"Interrupted; go on with resume={run.id}.")
        raise
    except BaseException as error:
        if not isinstance(error, CodesignError):
            run.log_text("traceback.txt", traceback.format_exc())
        sentence = str(error) if isinstance(error, CodesignError) else f"{type(error).__name__}: {error}"
        _end_early(run, "FAILED", sentence)
        raise
    else:
        run.end("FINISHED")
    finally:
        _outer.reset(token)


def _open(store: Store, stage: str, task: str, params: Mapping[str, Any], resume: str) -> Run:
    client, handed = store.client, os.environ.pop("MLFLOW_RUN_ID", "")
    tags = {"stage": stage, "task": task, processes.TAG: processes.this_process()}
    if resume:
        record = get_record(store, resume, stage, task)
        if record.status == "RUNNING" and not processes.is_dead(record.tags.get(processes.TAG, "")):
            raise TrackingError(
                f"The run {resume} is still being written by process {record.tags.get(processes.TAG, 'unknown')!r}; "
                f"allowed: a run that ended. Wait for it, or end that process."
            )
        if handed:  # by `mlflow run`, for what goes on in another run
            client.set_tag(handed, "mlflow.note.content", f"Went on with the run {resume}.")
    else:
        if not handed:
            outer = _outer.get()
            inherited = dict(resolve_tags()) | ({"mlflow.parentRunId": outer} if outer else {})
            experiment = client.get_run(outer).info.experiment_id if outer else store.experiment(slug(task))
            handed = client.create_run(experiment, tags=inherited | tags).info.run_id
        record = get_record(store, handed)
    client.update_run(record.id, status="RUNNING", name=f"{stage} {task}")
    run = Run(store, RunRecord(record.id, stage, task, record.params, {}, "RUNNING", record.tags),
              client.get_run(record.id).info.experiment_id, is_resumed=bool(resume))  # fmt: skip
    changed = {k: str(v) for k, v in params.items() if record.params.get(k, str(v)) != str(v)}
    tags |= {"resumed_with": json.dumps(changed)} if resume and changed else {}
    if "error" in record.tags:
        client.delete_tag(record.id, "error")
    run.set_tags(tags)
    run.log_params(params)
    return run


def _child(trial: Trial, uid: str, seconds: float) -> dict[str, Any]:
    """Return the entry of a child run."""
    end = now_ms()
    params = {
        "architecture": trial.architecture.describe(),
        "seed": trial.seed,
        "epochs": trial.fidelity.epochs,
        "data_fraction": trial.fidelity.data_fraction,
    } | {f"choice.{label}": index for label, index in trial.choices.items()}
    tags = {
        "trial": str(trial.number),
        "architecture_digest": trial.architecture.digest,
        "is_feasible": str(trial.is_feasible).lower(),
    }
    tags |= {"failure": trial.failure[:_TAG_LIMIT]} if trial.failure else {}
    tags |= {"violations": "; ".join(trial.violations)[:_TAG_LIMIT]} if trial.violations else {}
    return {
        "kind": "trial",
        "uid": uid,
        "name": f"trial {trial.number:04d}",
        "params": {k: str(v) for k, v in params.items()},
        "metrics": [[k, float(v), end, 0] for k, v in trial.metrics.items()],
        "tags": tags,
        "status": "FAILED" if trial.failure else "FINISHED",
        "start_time": end - round(1000 * seconds),
        "end_time": end,
    }


def _end_early(run: Run, status: str, error: str) -> None:
    """End a run that was cut short, without hiding why; a second Ctrl-C does not cut this short."""
    with _signals({signal.SIGINT: signal.SIG_IGN, signal.SIGTERM: signal.SIG_IGN}):
        try:
            run.end(status, error, timeout_s=5.0)
        except TrackingError as outage:
            _log.warning("%s", outage)


@contextmanager
def _termination_is_an_interrupt() -> Iterator[None]:
    """Let SIGTERM, which `mlflow run` and batch systems send, end a stage as Ctrl-C does."""

    def interrupt(_number: int, _frame: Any) -> None:
        raise KeyboardInterrupt

    with _signals({signal.SIGTERM: interrupt}):
        yield


@contextmanager
def _signals(handlers: Mapping[signal.Signals, Any]) -> Iterator[None]:
    """Handle signals differently for a while (only the main thread may)."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


__all__ = ["Run", "RunRecord", "download", "find_run", "load_trials", "start_stage"]
