"""A bundle on this machine: whether every file is the one it should be, and the network does what it should."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np

from codesign.core.build import Evidence
from codesign.core.errors import CodesignError, DataError
from codesign.core.firmware import Firmware, verify_files
from codesign.core.integer_network import IntegerNetwork

_ROWS = 4096  # vectors emulated at once


def verify(folder: Path) -> Firmware:
    """Return the manifest of a bundle in which every file is what it says.

    Raises:
        DataError: There is no such folder, or a file is changed, missing, extra, a link, or outside of the bundle.
    """
    if not folder.is_dir():
        raise DataError(f"There is no folder {folder}; allowed: a pulled bundle, see `python -m deploy pull --help`.")
    return verify_files(folder)


def check(folder: Path) -> Evidence:
    """Verify a bundle, replay its golden vectors through the integer network, and return what was found.

    Raises:
        DataError: A file is not what the manifest says, or cannot be read, or belongs to another network.
    """
    firmware = verify(folder)
    network = _network(folder)
    if network.digest != firmware.network_digest:
        raise DataError(
            f"The network in {folder} has the digest {network.digest[:12]}, "
            f"the manifest names {firmware.network_digest[:12]}; do not use this bundle."
        )
    inputs, outputs = _golden(folder, network)
    parts = [slice(i, i + _ROWS) for i in range(0, len(inputs), _ROWS)]
    wrong = [network.emulate(inputs[part]) != outputs[part] for part in parts]
    differs = np.concatenate(wrong).reshape(len(inputs), -1).any(axis=1)
    first = ""
    if differs.any():
        i = int(np.flatnonzero(differs)[0])
        got = network.emulate(inputs[i : i + 1])[0].ravel().tolist()
        first = f"Golden vector {i} should give {outputs[i].ravel().tolist()} and gives {got}; do not use this bundle."
    return Evidence("emulator", f"numpy {np.__version__}", len(inputs), int(differs.sum()), first)


def _network(folder: Path) -> IntegerNetwork:
    try:
        return IntegerNetwork.load(folder / "network")
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile, json.JSONDecodeError, CodesignError) as error:
        raise DataError(f"The network in {folder} cannot be read: {error}. Pull the bundle again.") from error


def _golden(folder: Path, network: IntegerNetwork) -> tuple[np.ndarray, np.ndarray]:
    try:
        with np.load(folder / "golden.npz", allow_pickle=False) as arrays:
            inputs, outputs = arrays["inputs"], arrays["outputs"]
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise DataError(f"The golden vectors in {folder} cannot be read: {error}. Pull the bundle again.") from error
    shapes = (inputs.shape[1:], outputs.shape[1:])
    if shapes != (network.input_shape, network.output_shape) or not 0 < len(inputs) == len(outputs):
        raise DataError(
            f"The golden vectors in {folder} have the shapes {inputs.shape} and {outputs.shape}; allowed: one or more "
            f"rows of {network.input_shape} and {network.output_shape}."
        )
    if inputs.dtype != np.int64 or outputs.dtype != np.int64:
        raise DataError(f"The golden vectors in {folder} are {inputs.dtype} and {outputs.dtype}; allowed: int64.")
    low, high = network.ranges[0].low, network.ranges[0].high
    if ((inputs < low) | (inputs > high)).any():
        raise DataError(f"A golden vector in {folder} is outside of the network's input format; pull the bundle again.")
    return inputs, outputs
