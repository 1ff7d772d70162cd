"""Arrays kept on disk between runs: written whole or not at all, and made again when a file is damaged."""

from __future__ import annotations

import hashlib
import os
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

DIGEST = "sha256"


def digest(arrays: Mapping[str, np.ndarray]) -> str:
    """Return the sha256 of names, types, shapes and contents."""
    result = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        result.update(f"{name} {array.dtype.str} {array.shape} ".encode() + array.tobytes())
    return result.hexdigest()


def fetch(path: Path, make: Callable[[], Mapping[str, np.ndarray]]) -> tuple[dict[str, np.ndarray], str]:
    """Return the arrays of `path` and their digest; if it is missing or damaged, call `make` and write it."""
    arrays = _read(path)
    if arrays is None:
        arrays = dict(make())
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=".npz")
        try:
            with os.fdopen(handle, "wb") as file:
                np.savez_compressed(file, **arrays, **{DIGEST: np.array(digest(arrays))})
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink()
            raise
    return arrays, digest(arrays)


def _read(path: Path) -> dict[str, np.ndarray] | None:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as content:
            arrays = {name: content[name] for name in content.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error):
        return None
    stated = arrays.pop(DIGEST, None)
    return arrays if stated is not None and str(stated) == digest(arrays) else None
