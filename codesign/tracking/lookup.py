"""Runs as records: how a stage finds what the stage before has made."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from codesign.core.errors import TrackingError
from codesign.core.trial import Trial
from codesign.tracking.store import Store, connect, explained, is_refusal

TRIAL, TRIALS = "trial.json", "trials.jsonl"


@dataclass(frozen=True)
class RunRecord:
    """What the tracking store says about a run."""

    id: str
    stage: str
    task: str
    params: Mapping[str, str]
    metrics: Mapping[str, float]
    status: str
    tags: Mapping[str, str]


def find_run(stage: str, task: str, run_id: str = "") -> RunRecord:
    """Return a finished run of a stage for a task: the one named, or the newest.

    Raises:
        TrackingError: There is none, or the one named is unknown, of another stage or task, or not finished.
    """
    store = connect()
    with explained(store.uri):
        if run_id:
            record = get_record(store, run_id, stage, task)
            if record.status != "FINISHED":
                hint = f" Go on with it: -P resume={run_id}." if stage == "global_search" else " Start the stage again."
                raise TrackingError(f"The run {run_id} is {record.status}; allowed: a FINISHED one.{hint}")
            return record
        newest = _newest(store, stage, task)
    if newest is None:
        raise TrackingError(
            f"There is no finished run of {stage} for the task {task!r} in {store.uri}; "
            f"run it first: mlflow run . -e {stage} -P task={task}."
        )
    return newest


def find_interrupted(stage: str, task: str, run_id: str, journal: Path) -> RunRecord:
    """Return a run of a stage, and of a task if one is named, that ended early and can go on.

    Raises:
        TrackingError: There is no such run, it finished, or the journal, which says how far it came, is not here.
    """
    store = connect()
    with explained(store.uri):
        record = get_record(store, run_id, stage, task)
    if record.status == "FINISHED":
        raise TrackingError(
            f"The run {run_id} is FINISHED; allowed: an interrupted one. "
            f"To start from what it found: -P from_run={run_id}."
        )
    count = 0 if journal.exists() else len(load_trials(run_id))
    if count:
        raise TrackingError(
            f"The run {run_id} has {count} trials, but its journal {journal} is not on this machine; allowed: to go on "
            f"where the journal is. To start from what it found: -P from_run={run_id}."
        )
    return record


def load_history(stage: str, task: str, run_ids: str) -> list[Trial]:
    """Return the trials of earlier runs of a stage for a task, finished or not, from ids with commas between.

    Raises:
        TrackingError: One of them is unknown, or of another stage or task.
    """
    trials: list[Trial] = []
    for run_id in filter(None, map(str.strip, run_ids.split(","))):
        store = connect()
        with explained(store.uri):
            get_record(store, run_id, stage, task)
        trials += load_trials(run_id)
    return trials


def get_record(store: Store, run_id: str, stage: str = "", task: str = "") -> RunRecord:
    """Return the run `run_id`, which must be of the stage and task if these are given.

    Raises:
        TrackingError: It is unknown, deleted, or of another stage or task.
    """
    newest = _newest(store, stage, task) if stage else None
    hint = f" The newest finished run of {stage} for {task} is {newest.id}." if newest else ""
    try:
        run = store.client.get_run(run_id)
    except MlflowException as error:
        if not is_refusal(error):
            raise
        raise TrackingError(
            f"There is no run {run_id!r} in {store.uri}; allowed: the id of a run, as its page shows it.{hint}"
        ) from None
    record = _record(run)
    if run.info.lifecycle_stage != "active":
        raise TrackingError(f"The run {run_id} was deleted; restore it, or name another.{hint}")
    if stage and record.stage != stage:
        kind = f"a run of {record.stage}" if record.stage else "no run of a stage"
        raise TrackingError(f"The run {run_id} is {kind}; allowed: a run of {stage}.{hint}")
    if task and record.task != task:
        raise TrackingError(f"The run {run_id} is of the task {record.task!r}; allowed: runs of {task!r}.{hint}")
    return record


def download(run_id: str, path: str, folder: Path) -> Path:
    """Fetch an artifact (a file, or a folder; "" is everything) into `folder` and return where it is.

    Raises:
        TrackingError: The run or the artifact does not exist.
    """
    store = connect()
    with explained(store.uri):
        get_record(store, run_id)
        if path and not _exists(store, run_id, path):
            held = ", ".join(sorted(item.path for item in store.client.list_artifacts(run_id))) or "nothing"
            raise TrackingError(f"The run {run_id} has no artifact {path!r}; it holds: {held}.")
        folder.mkdir(parents=True, exist_ok=True)
        return Path(store.client.download_artifacts(run_id, path, str(folder)))


def load_trials(run_id: str) -> list[Trial]:
    """Return the trials of a search run by number, also of one that was cut short.

    Raises:
        TrackingError: The run does not exist.
    """
    store = connect()
    with explained(store.uri), tempfile.TemporaryDirectory() as temporary:
        get_record(store, run_id)
        folder = Path(temporary)
        if _exists(store, run_id, TRIALS):
            lines = download(run_id, TRIALS, folder).read_text().splitlines()
        else:
            children = store.search(f"tags.`mlflow.parentRunId` = '{run_id}' and attributes.status != 'RUNNING'")
            paths = (store.client.download_artifacts(c.info.run_id, TRIAL, str(folder)) for c in children
                     if "trial" in c.data.tags)  # fmt: skip
            lines = [Path(path).read_text() for path in paths]
    return sorted((Trial.from_json(line) for line in lines), key=lambda trial: trial.number)


def _newest(store: Store, stage: str, task: str) -> RunRecord | None:
    """Return the finished run of a stage and task that was started last."""
    wanted = f"tags.stage = '{stage}' and tags.task = '{task}' and attributes.status = 'FINISHED'"
    found = store.client.search_runs(store.experiments(), wanted, max_results=1, order_by=["start_time DESC"])
    return _record(found[0]) if found else None


def _record(run: Run) -> RunRecord:
    tags = dict(run.data.tags)
    return RunRecord(
        run.info.run_id,
        tags.get("stage", ""),
        tags.get("task", ""),
        {key: _unquoted(value) for key, value in run.data.params.items()},
        dict(run.data.metrics),
        run.info.status,
        tags,
    )


def _exists(store: Store, run_id: str, path: str) -> bool:
    parent, _, _ = path.rpartition("/")
    return path in {item.path for item in store.client.list_artifacts(run_id, parent or None)}


def _unquoted(value: str) -> str:
    """Undo the shell quotes with which `mlflow run` logs a parameter that is empty or has special characters."""
    is_quoted = len(value) > 1 and value[0] == value[-1] == "'"
    return value[1:-1].replace("'\"'\"'", "'") if is_quoted else value
