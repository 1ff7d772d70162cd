"""Firmware: the manifest of a bundle, with the numbers to choose by and the proof."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from codesign.core.build import Evidence, Resources, Timing
from codesign.core.errors import DataError

MANIFEST = "manifest.json"
SCHEMA = 1


@dataclass(frozen=True)
class Firmware:
    """What a bundle is: every file with its sha256, formats, timing, resources by level, evidence, provenance.

    Attributes:
        name: Registered model's name: the task's slug.
        network_digest: `IntegerNetwork.digest` that every view agrees with.
        files: sha256 by relative path of every file beside the manifest.
        interface: Shapes, formats, meaning of inputs and outputs, and the host's preprocessing.
        metrics: Task metrics of the integer network on validation and test data.
        provenance: Runs, seeds, data digest, versions, commit.
        gates: What had to hold before promotion, in words, with true or false.
    """

    name: str
    task: str
    board: str
    network_digest: str
    files: Mapping[str, str]
    interface: Mapping[str, Any]
    timing: Timing
    resources: tuple[Resources, ...]
    evidence: tuple[Evidence, ...]
    metrics: Mapping[str, float]
    provenance: Mapping[str, Any]
    gates: Mapping[str, bool]

    @property
    def is_ready(self) -> bool:
        """True if every gate is passed and every view is exact."""
        return (
            bool(self.gates)
            and all(self.gates.values())
            and bool(self.evidence)
            and all(e.is_exact for e in self.evidence)
        )

    def to_json(self) -> str:
        """Return the manifest's text."""
        return json.dumps({"schema": SCHEMA} | asdict(self), indent=1, sort_keys=True, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Firmware:
        """Return the firmware that `to_json` wrote.

        Raises:
            DataError: The text is no manifest of this schema.
        """
        try:
            content = json.loads(text)
            if content.pop("schema") != SCHEMA:
                raise KeyError("schema")
            content["timing"] = Timing(**content["timing"])
            content["resources"] = tuple(Resources(**r) for r in content["resources"])
            content["evidence"] = tuple(Evidence(**e) for e in content["evidence"])
            return cls(**content)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(f"This is no manifest of schema {SCHEMA}: {error!r}. Pull the bundle again.") from error


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_files(folder: Path) -> dict[str, str]:
    """Return the sha256 of every file below `folder` by relative path, the manifest left out."""
    paths = sorted(p for p in folder.rglob("*") if not p.is_dir())
    return {
        p.relative_to(folder).as_posix(): sha256_of(p) for p in paths if p.relative_to(folder).as_posix() != MANIFEST
    }


def verify_files(folder: Path) -> Firmware:
    """Return the firmware of a bundle of which every file is what the manifest says.

    Raises:
        DataError: The manifest is missing, or a file is changed, missing, extra, a link, or outside of the folder.
    """
    if not (folder / MANIFEST).is_file():
        raise DataError(f"There is no {MANIFEST} in {folder}; allowed: the folder of a pulled bundle.")
    firmware = Firmware.from_json((folder / MANIFEST).read_text())
    for name in firmware.files:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or "\\" in name or not path.parts:
            raise DataError(
                f"The manifest names the file {name!r}; allowed: paths inside of the bundle. Do not use it."
            )
    links = [p for p in folder.rglob("*") if p.is_symlink()]
    if links:
        raise DataError(
            f"The bundle holds a link, {links[0].relative_to(folder)}; allowed: plain files. Do not use it."
        )
    found = hash_files(folder)
    for kind, names in (
        ("missing", sorted(firmware.files.keys() - found.keys())),
        ("extra", sorted(found.keys() - firmware.files.keys())),
        ("changed", sorted(n for n in found.keys() & firmware.files.keys() if found[n] != firmware.files[n])),
    ):
        if names:
            raise DataError(
                f"In the bundle {folder}, {len(names)} file(s) are {kind}, first {names[0]}. Pull it again."
            )
    return firmware
