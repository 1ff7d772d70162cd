"""Published files: fetched in pieces that can be resumed, and used only when their digest is the published one."""

from __future__ import annotations

import hashlib
import http.client
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from codesign.core.errors import DataError, InvalidValueError

CHUNK_BYTES = 1 << 20
Report = Callable[[int, int], None]


@dataclass(frozen=True)
class RemoteFile:
    """A published file.

    Attributes:
        name: File name.
        url: Where the file is.
        md5: Digest that its publisher states.
        doi: What it belongs to.
    """

    name: str
    url: str
    md5: str
    doi: str

    def __post_init__(self) -> None:
        if not self.url.startswith(("https://", "http://")):
            raise InvalidValueError(f"The address of {self.name} is {self.url!r}; allowed: https:// or http://.")


def download(file: RemoteFile, folder: Path, report: Report | None = None, timeout_s: float = 60.0) -> Path:
    """Fetch a file into `folder` and return its path; a broken download goes on where it ended.

    Until the digest is right the file is called <name>.part. A file that is there with the right digest is left alone.

    Args:
        file: What to fetch.
        folder: Where to put it.
        report: Called with bytes so far and bytes in all (0 if unknown).
        timeout_s: Longest silence of the server.

    Raises:
        DataError: There is no way to the server, it broke off, or the digest is not the published one.
    """
    target, part = folder / file.name, folder / f"{file.name}.part"
    if target.exists():
        if (md5 := _md5(target)) != file.md5:
            raise DataError(
                f"{target} has md5 {md5}; the published one is {file.md5}. Delete the file and download it again."
            )
        return target
    folder.mkdir(parents=True, exist_ok=True)
    while not _continue(file, part, target, report, timeout_s):
        pass
    if (md5 := _md5(part)) != file.md5:
        part.unlink()
        raise DataError(
            f"The download of {file.name} has md5 {md5}; the published one is {file.md5}. It was deleted: download it "
            f"again, or get it from https://doi.org/{file.doi} and put it at {target}."
        )
    return part.replace(target)


def _continue(file: RemoteFile, part: Path, target: Path, report: Report | None, timeout_s: float) -> bool:
    """Fetch what is missing; return True if all is there, False if the server broke off but sent something."""
    start = part.stat().st_size if part.exists() else 0
    total, reason = 0, ""
    try:
        total = _append(file.url, part, start, report, timeout_s)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
            return True  # nothing follows what is there already; the digest tells whether it is right
        reason = f"status {error.code}"
    except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError) as error:
        reason = str(getattr(error, "reason", error)) or type(error).__name__
    have = part.stat().st_size if part.exists() else 0
    if not reason and have >= total:
        return True
    if have > start:
        return False
    reason = reason or f"it ended after {have} of {total} bytes"
    raise DataError(
        f"{file.name} cannot be downloaded from {file.url} ({reason}). Try again, it resumes; or get it from "
        f"https://doi.org/{file.doi} on a machine with a network and put it at {target}."
    )


def _append(url: str, part: Path, start: int, report: Report | None, timeout_s: float) -> int:
    """Append to `part` what the server sends from byte `start` on, and return the size of the whole (0 if unknown)."""
    request = urllib.request.Request(url, headers={"Range": f"bytes={start}-"} if start else {})  # noqa: S310 - checked
    with urllib.request.urlopen(request, timeout=timeout_s) as answer:  # noqa: S310 - RemoteFile allows http(s) alone
        is_rest = answer.status == http.client.PARTIAL_CONTENT
        have = start if is_rest else 0  # a server that knows no ranges sends everything again
        length = int(answer.headers.get("Content-Length") or 0)
        total = have + length if length else 0
        with part.open("ab" if is_rest else "wb") as output:
            while chunk := answer.read(CHUNK_BYTES):
                output.write(chunk)
                have += len(chunk)
                if report:
                    report(have, total)
    return total


def _md5(path: Path) -> str:
    with path.open("rb") as content:
        return hashlib.file_digest(content, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
