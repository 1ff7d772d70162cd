"""From the outbox into MLflow: every entry may be sent twice and takes effect once."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Any

from mlflow.entities import Metric, Param, RunTag

from codesign.core.errors import TrackingError
from codesign.tracking import processes
from codesign.tracking.outbox import Entry, Outbox, header_of
from codesign.tracking.store import Store

_log = logging.getLogger("codesign.tracking")
_BATCH = 100  # parameters or tags that one request may carry


def now_ms() -> int:
    """Return the time as MLflow counts it: milliseconds since 1970."""
    return int(1000 * time.time())


class Sender:
    """Sends the entries of one run."""

    def __init__(self, store: Store, run_id: str, experiment_id: str, is_resumed: bool) -> None:
        self._store, self._run_id, self._experiment_id = store, run_id, experiment_id
        self._is_resumed = is_resumed
        self._children: dict[str, str] = {}

    def __call__(self, entry: Entry) -> None:
        content = entry.content
        if content["kind"] == "trial":
            self._trial(entry)
        elif content["kind"] == "batch":
            self._batch(self._run_id, content)
        elif content["kind"] == "files":
            self._store.client.log_artifacts(self._run_id, str(entry.files))
        else:
            self._store.client.set_terminated(self._run_id, content["status"], content["end_time"])

    def trial_runs(self) -> dict[int, str]:
        """Return the child runs by trial number."""
        if self._is_resumed:
            children = self._store.search(f"tags.`mlflow.parentRunId` = '{self._run_id}'", [self._experiment_id])
            self._children = {r.data.tags["uid"]: r.info.run_id for r in children if "uid" in r.data.tags}
        return {int(uid.rpartition("/")[2]): run_id for uid, run_id in self._children.items()}

    def _batch(self, run_id: str, content: Mapping[str, Any]) -> None:
        params = [Param(k, v) for k, v in content.get("params", {}).items()]
        tags = [RunTag(k, v) for k, v in content.get("tags", {}).items()]
        metrics = [Metric(*values) for values in content.get("metrics", [])]
        for i in range(0, max(len(params), len(tags), len(metrics)), _BATCH):
            part = slice(i, i + _BATCH)
            self._store.client.log_batch(run_id, metrics[part], params[part], tags[part])

    def _trial(self, entry: Entry) -> None:
        client, content = self._store.client, entry.content
        uid = content["uid"]
        if uid not in self._children and (entry.is_repeated or self._is_resumed):
            found = client.search_runs([self._experiment_id], f"tags.uid = '{uid}'", max_results=1)
            if found:
                self._children[uid] = found[0].info.run_id
        if uid not in self._children:
            tags = {"uid": uid, "mlflow.parentRunId": self._run_id, processes.TAG: processes.this_process()}
            run = client.create_run(
                self._experiment_id, content["start_time"], tags | content["tags"], run_name=content["name"]
            )
            self._children[uid] = run.info.run_id
        child = self._children[uid]
        self._batch(child, {"params": content["params"], "metrics": content["metrics"]})
        client.log_artifacts(child, str(entry.files))
        client.set_terminated(child, content["status"], content["end_time"])


def recover(store: Store) -> None:
    """Send what dead processes of this machine left in their outboxes, and end the runs that they left RUNNING."""
    for folder in sorted(store.folder.glob("*")):
        header = header_of(folder)
        if header.get("uri") != store.uri or not processes.is_dead(header["process"]):
            continue
        sender = Sender(store, header["run_id"], header["experiment_id"], is_resumed=True)
        outbox = Outbox(folder, sender, header)
        if not _replay(outbox):
            return
        outbox.remove()
    for run in store.search(f"attributes.status = 'RUNNING' and tags.`{processes.TAG}` LIKE '{processes.host()} %'"):
        if processes.is_dead(run.data.tags[processes.TAG]):
            store.client.set_tag(
                run.info.run_id, "error", "The process ended without a word: killed, or out of memory."
            )
            store.client.set_terminated(run.info.run_id, "KILLED")


def _replay(outbox: Outbox) -> bool:
    """Send what an outbox holds; an entry that the server declines is reported and dropped."""
    while True:
        try:
            return outbox.drain()
        except TrackingError as error:
            _log.warning("%s", error)
