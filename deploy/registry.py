"""From the model registry to a folder on this machine."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from codesign.core.errors import CodesignError, InvalidValueError, unknown_name
from codesign.core.firmware import MANIFEST, sha256_of, verify_files
from codesign.core.task import parse_objectives
from codesign.tracking.registry import READY, Version, download_bundle, list_versions, lut_of, resolve

_HEADER = ("name", "version", "stage", "alias", "board", "metric", "LUT", "latency_ns", "ii")


def table(name: str = "", is_ready: bool = False, board: str = "", where: str = "") -> str:
    """Return the registered firmware as a text table.

    Args:
        name: Only this registered model.
        is_ready: Only versions of the stage FPGA-ready.
        board: Only for this board.
        where: Limits that a version keeps, such as "lut_synthesis<=30000, accuracy>=0.6".

    Raises:
        InvalidValueError: A limit cannot be read.
    """
    limits = parse_objectives(where) if where else ()
    for limit in limits:
        if limit.limit is None:
            raise InvalidValueError(f"A limit reads {limit.metric!r}; allowed: such as lut_synthesis<=30000.")
    versions = list_versions(name)
    known = {key for version in versions for key in version.numbers}
    for limit in limits:
        if versions and limit.metric not in known:
            raise unknown_name("number of the registered firmware", limit.metric, known)
    shown = [
        v
        for v in versions
        if (not is_ready or v.stage == READY)
        and (not board or v.board == board)
        and all(o.metric in v.numbers and o.violation(v.numbers) <= 0 for o in limits)
    ]
    if not shown:
        return "no firmware matches" if name or is_ready or board or where else "no firmware is registered yet"
    rows = [_HEADER, *(_row(version) for version in shown)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(_HEADER))]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows)


def pull(reference: str, target: Path | None = None) -> str:
    """Fetch a bundle, verify it, and only then put it in its place; return what was done in words.

    Raises:
        DataError: What the registry holds is not what was registered.
        InvalidValueError: The target exists and holds something else.
    """
    version = resolve(reference)
    target = target or Path("bundles") / f"{version.name}-{version.version}"
    if target.exists():
        if _holds(target, version):
            return f"{target}: holds {version} already"
        raise InvalidValueError(
            f"{target} exists and is not {version} as registered; remove it, or choose another folder with --to."
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        firmware = verify_files(download_bundle(version, temporary))
        temporary.chmod(0o755)
        temporary.rename(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    note = "" if version.stage == READY else f" (not {READY})"
    return f"{target}: {version}{note} for {firmware.board}, {len(firmware.files)} files verified"


def _holds(target: Path, version: Version) -> bool:
    try:
        verify_files(target)
    except (CodesignError, OSError):
        return False
    return sha256_of(target / MANIFEST) == version.manifest_sha256


def _row(version: Version) -> tuple[str, ...]:
    numbers = version.numbers
    count, level = lut_of(version)
    metric = f"{version.headline}={numbers[version.headline]:.4g}" if version.headline else "–"
    lut = "–" if level == "unknown" else f"{count:,.0f} ({level})"
    return (
        version.name,
        str(version.version),
        version.stage or "–",
        ",".join(version.aliases) or "–",
        version.board,
        metric,
        lut,
        f"{numbers['latency_ns']:.4g}",
        f"{numbers['ii']:.0f}",
    )
