"""Compile the kernels for this machine's processor, once, and load them."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

from codesign.core.errors import ToolError

SOURCES = tuple(Path(__file__).with_name(name) for name in ("passes.cpp", "layers.h", "products.h"))
COMMAND = ("-std=c++17", "-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-shared", "-fPIC")


class Op(ctypes.Structure):
    """One kernel call; fields as in layers.h."""

    _fields_ = (
        *((name, ctypes.c_int32) for name in ("kind", "pooling", "adds_forward", "adds_backward")),
        ("sizes", ctypes.c_int64 * 3),
        *((name, ctypes.c_void_p) for name in ("x", "y", "gx", "gy", "weight", "bias", "gweight", "gbias")),
        *((name, ctypes.c_void_p) for name in ("mean", "variance", "saved", "index")),
        *((name, ctypes.c_float) for name in ("slope", "momentum", "epsilon")),
    )


class Table(ctypes.Structure):
    """A network; fields as in passes.cpp."""

    _fields_ = (
        ("ops", ctypes.POINTER(Op)),
        *((name, ctypes.c_int64) for name in ("count", "batch", "features", "outputs")),
        ("loss", ctypes.c_int32),
        *((name, ctypes.c_void_p) for name in ("x", "y", "gy")),
    )


@functools.cache
def library() -> ctypes.CDLL | None:
    """Return the compiled kernels, or None where there is no compiler.

    They are kept in the user's cache folder, or where nothing can be written there, in one of this process.

    Raises:
        ToolError: The compiler fails.
    """
    compiler = shutil.which("g++")
    if compiler is None:
        return None
    kernels = ctypes.CDLL(str(_compiled(compiler)))
    pointer, integer, real = ctypes.c_void_p, ctypes.c_int64, ctypes.c_double
    kernels.gradient.argtypes = [ctypes.POINTER(Table), pointer, pointer, pointer]
    kernels.evaluate.argtypes = [*kernels.gradient.argtypes, integer]
    kernels.update.argtypes = [*[pointer] * 4, integer, integer, real, real]
    kernels.gradient.restype = kernels.evaluate.restype = real
    kernels.update.restype = None
    return kernels


def _compiled(compiler: str) -> Path:
    folder = _writable(Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "codesign")
    key = [*(path.read_text() for path in SOURCES), COMMAND, compiler, _processor()]
    path = folder / f"kernels-{hashlib.sha256(repr(key).encode()).hexdigest()[:16]}.so"
    if path.is_file():
        return path
    with tempfile.TemporaryDirectory(dir=folder) as place:
        made = Path(place) / path.name
        command = [compiler, *COMMAND, "-o", str(made), str(SOURCES[0])]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise ToolError(
                f"{compiler} could not compile the training kernels: {' '.join(done.stderr.split())[:500]}; "
                "allowed: a g++ that knows C++17; install one, or take g++ off PATH to train without kernels."
            )
        return made.replace(path)  # at once, should another process do the same


def _writable(folder: Path) -> Path:
    """Return the folder, or one for this process alone: a library that others could replace must not be loaded."""
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
    return folder if os.access(folder, os.W_OK) else Path(tempfile.mkdtemp(prefix="codesign-kernels-"))


def _processor() -> str:
    """Return what a processor can do: a home folder may be shared by machines."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith("flags")), platform.machine())
