"""Firmware in the MLflow model registry: versions with the numbers to choose by, and the promoted one."""

from __future__ import annotations

import math
import re
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
from mlflow.entities import Metric
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from codesign.core.errors import DataError, TrackingError, unknown_name
from codesign.core.firmware import MANIFEST, Firmware, sha256_of, verify_files
from codesign.core.task import Objective
from codesign.tracking.lookup import get_record
from codesign.tracking.sending import now_ms
from codesign.tracking.store import connect, explained

MODEL_TYPE = "fpga-firmware"
READY = "FPGA-ready"  # the value of the tag `stage`, which many versions hold, and the alias, which one holds
_DIGEST = "manifest_sha256"
_REFERENCE = re.compile(r"(?P<name>[\w.-]+)(@(?P<alias>[\w.-]+)|/(?P<version>\d+))?")


@dataclass(frozen=True)
class Version:
    """One registered bundle.

    Attributes:
        stage: "FPGA-ready" once promoted, else empty.
        numbers: Metrics, resources by level, timing: what a user chooses by.
        headline: The key in `numbers` of how well the network does its task.
        manifest_sha256: Digest of the manifest at registration.
    """

    name: str
    version: int
    stage: str
    aliases: tuple[str, ...]
    board: str
    numbers: Mapping[str, float]
    headline: str
    run_id: str
    model_id: str
    manifest_sha256: str

    def __str__(self) -> str:
        return f"{self.name}/{self.version}"


def register_bundle(folder: Path, firmware: Firmware, run_id: str) -> int:
    """Store a verified bundle as a logged model of the run, register it, and return its version.

    The model is named like the firmware. Its numbers become metrics of the logged model, over which MLflow searches by
    value, and tags of the version.

    Raises:
        DataError: A file is not what the manifest says, or the manifest is not `firmware`'s.
        TrackingError: The store does not answer, or refuses.
    """
    if verify_files(folder).to_json() != firmware.to_json():
        raise DataError(f"The manifest in {folder} is not of the firmware to be registered; write the bundle again.")
    store = connect()
    client, values = store.client, numbers(firmware)
    with explained(store.uri):
        get_record(store, run_id)
        experiment_id = client.get_run(run_id).info.experiment_id
        tags = {"board": firmware.board, "task": firmware.task, "run_id": run_id, _DIGEST: sha256_of(folder / MANIFEST),
                "network_digest": firmware.network_digest, "headline": _headline(firmware)}  # fmt: skip
        model = client.create_logged_model(
            experiment_id, firmware.name, source_run_id=run_id, tags=tags, model_type=MODEL_TYPE
        )
        is_complete = False
        try:
            client.log_model_artifacts(model.model_id, str(folder))
            logged = [Metric(k, v, now_ms(), 0, model_id=model.model_id, run_id=run_id) for k, v in values.items()]
            client.log_batch(run_id, metrics=logged)
            is_complete = True
        finally:
            client.finalize_logged_model(model.model_id, "READY" if is_complete else "FAILED")
        tags |= {key: repr(value) for key, value in values.items()} | {
            "numbers": ",".join(values),
            "model_id": model.model_id,
        }
        try:
            client.create_registered_model(firmware.name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        created = client.create_model_version(
            firmware.name, f"models:/{model.model_id}", run_id, tags, model_id=model.model_id
        )
    return int(created.version)


def promote(name: str, version: int, objective: Objective) -> Version:
    """Mark a version as FPGA-ready, and give the alias of that name to the best version so marked.

    The bundle is fetched from the store and verified first. The best is the one of least cost in `objective`; among
    equals the one with the fewest LUTs, then the newest. The alias is set last.

    Args:
        name: Registered model.
        version: Its version.
        objective: The task's first objective; its metric is one of the firmware's numbers.

    Raises:
        DataError: The bundle in the store is not what was registered.
        TrackingError: A gate is not passed, or a view is not exact, or the metric is unknown.
    """
    store = connect()
    with explained(store.uri), tempfile.TemporaryDirectory() as folder:
        wanted = resolve(f"{name}/{version}")
        firmware = verify_files(download_bundle(wanted, Path(folder)))
        if not firmware.is_ready:
            failed = [gate for gate, is_passed in firmware.gates.items() if not is_passed]
            failed += [f"{e.view} exact ({e.mismatches} of {e.vectors} vectors differ)"
                       for e in firmware.evidence if not e.is_exact]  # fmt: skip
            reason = "; ".join(failed) or "no gate or no evidence is recorded"
            raise TrackingError(f"The firmware {wanted} is not ready: {reason}. It stays without the stage {READY}.")
        if objective.metric not in wanted.numbers:
            raise unknown_name(f"number of the firmware {wanted}", objective.metric, wanted.numbers)
        store.client.set_model_version_tag(name, str(version), "stage", READY)
        promoted = [v for v in list_versions(name) if v.stage == READY and objective.metric in v.numbers]
        best = min(promoted, key=lambda v: (objective.cost(v.numbers), lut_of(v)[0], -v.version))
        store.client.set_registered_model_alias(name, READY, str(best.version))
        return resolve(f"{name}/{version}")


def list_versions(name: str = "") -> list[Version]:
    """Return the registered firmware of one name or of all, newest first within a name.

    Raises:
        UnknownNameError: There is no registered model of that name.
    """
    store = connect()
    with explained(store.uri):
        models = {m.name: m for m in _pages(store.client.search_registered_models)}
        if name and name not in models:
            raise unknown_name("registered firmware", name, models, "Register some with the stage synthesize.")
        found = _pages(store.client.search_model_versions, f"name = '{name}'" if name else None)
        versions = [_version(v, models[v.name].aliases) for v in found if _DIGEST in v.tags]
    return sorted(versions, key=lambda v: (v.name, -v.version))


def resolve(reference: str) -> Version:
    """Return the version that `name@alias`, `name/3`, or `name` alone (its alias FPGA-ready) refers to.

    Raises:
        TrackingError: The reference cannot be read, or the model has no such version or alias.
        UnknownNameError: There is no registered model of that name.
    """
    match = _REFERENCE.fullmatch(reference)
    if not match:
        raise TrackingError(f"The firmware {reference!r} was asked for; allowed: NAME, NAME@ALIAS or NAME/VERSION.")
    versions = list_versions(match["name"])
    if match["version"]:
        found = [v for v in versions if v.version == int(match["version"])]
    else:
        alias = match["alias"] or READY
        found = [v for v in versions if alias in v.aliases]
    if not found:
        held = ", ".join(f"{v}" + "".join(f" @{a}" for a in v.aliases) for v in versions) or "none"
        alias = match["alias"] or READY
        what = f"version {match['version']}" if match["version"] else f"version with the alias {alias}"
        raise TrackingError(f"The firmware {match['name']} has no {what}; allowed: {held}.")
    return found[0]


def download_bundle(version: Version, folder: Path) -> Path:
    """Fetch a bundle into `folder` and return it; its manifest is the one that was registered.

    Raises:
        DataError: The manifest was changed since.
    """
    store = connect()
    with explained(store.uri):
        folder.mkdir(parents=True, exist_ok=True)
        mlflow.artifacts.download_artifacts(
            artifact_uri=f"models:/{version.model_id}", dst_path=str(folder), tracking_uri=store.uri
        )
    manifest = folder / MANIFEST
    if not manifest.is_file() or sha256_of(manifest) != version.manifest_sha256:
        raise DataError(
            f"The manifest of {version} in {store.uri} was changed after it was registered; do not use this version."
        )
    return folder


def numbers(firmware: Firmware) -> dict[str, float]:
    """Return the numbers that firmware is chosen by: task metrics, resources by level, timing."""
    timing = firmware.timing
    values = dict(firmware.metrics) | {
        "latency_ns": timing.latency_ns,
        "latency_cycles": timing.latency_cycles,
        "ii": timing.ii,
        "clock_ns": timing.clock_ns,
    }
    for resources in firmware.resources:
        values |= resources.metrics()
    return {key: float(value) for key, value in values.items() if math.isfinite(value)}


def lut_of(version: Version) -> tuple[float, str]:
    """Return the LUT count of the most real level that is known, and that level."""
    for level in ("routed", "synthesis", "estimate"):
        if f"lut_{level}" in version.numbers:
            return version.numbers[f"lut_{level}"], level
    return math.inf, "unknown"


def _headline(firmware: Firmware) -> str:
    keys = sorted(firmware.metrics, key=lambda key: ("accuracy" not in key, "error" not in key, "test" not in key, key))
    return keys[0] if keys else ""


def _version(found: ModelVersion, aliases: Mapping[str, str]) -> Version:
    tags = found.tags
    return Version(
        found.name,
        int(found.version),
        tags.get("stage", ""),
        tuple(sorted(alias for alias, version in aliases.items() if int(version) == int(found.version))),
        tags["board"],
        {key: float(tags[key]) for key in tags["numbers"].split(",")},
        tags["headline"],
        tags["run_id"],
        tags["model_id"],
        tags[_DIGEST],
    )


def _pages(search: Callable[..., Any], filter_string: str | None = None) -> list[Any]:
    """Return everything that a search of MLflow finds, page by page."""
    found, token = [], None
    while True:
        page = search(filter_string, page_token=token)
        found += page
        token = page.token
        if not token:
            return found


__all__ = ["READY", "Version", "download_bundle", "list_versions", "promote", "register_bundle", "resolve"]
