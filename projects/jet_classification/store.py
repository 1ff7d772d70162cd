"""Arrays on disk: written in one move, with what made them, and believed only if their digest still holds."""

from __future__ import annotations

import hashlib
import json
import lzma
import os
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from codesign.core.errors import DataError


def content_digest(arrays: Mapping[str, np.ndarray]) -> str:
    """Return the sha256 of names, types, shapes and values: the same for the same content, however compressed."""
    digest = hashlib.sha256()
    for key in sorted(arrays):
        array = np.ascontiguousarray(arrays[key])
        digest.update(f"{key} {array.dtype.str} {array.shape}\n".encode())
        digest.update(array.data)
    return digest.hexdigest()


def write(out: Path, arrays: Mapping[str, np.ndarray], record: dict[str, Any], method: int = zipfile.ZIP_LZMA) -> None:
    """Write an .npz without pickle in one move, with `record` and the content's digest in its entry `provenance`."""
    text = json.dumps(record | {"sha256": content_digest(arrays)}, sort_keys=True)
    stored = {"provenance": np.frombuffer(text.encode(), np.uint8)} | dict(arrays)
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        with zipfile.ZipFile(temporary, "w", method) as archive:
            for key, array in stored.items():
                member = zipfile.ZipInfo(f"{key}.npy")
                member.compress_type = method
                with archive.open(member, "w", force_zip64=True) as entry:
                    np.lib.format.write_array(entry, array, allow_pickle=False)
        temporary.replace(out)
    finally:
        temporary.unlink(missing_ok=True)


def read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Return the arrays and the record that `write` wrote.

    Raises:
        DataError: The file is truncated or damaged, or its content is not what was written.
    """
    try:
        with path.open("rb") as content, np.load(content, allow_pickle=False) as stored:
            arrays = {key: stored[key] for key in stored.files}
        record = json.loads(arrays.pop("provenance").tobytes())
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error, lzma.LZMAError) as error:
        raise DataError(f"{path} is truncated or damaged ({error}). Delete it; it can be made again.") from error
    digest = content_digest(arrays)
    if digest != record.get("sha256"):
        raise DataError(
            f"{path} holds content of sha256 {digest}; it was written with {record.get('sha256')}. "
            f"Delete it; it can be made again."
        )
    return arrays, record
