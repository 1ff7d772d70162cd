"""Data that stay on the device as tensors: no data loader, no copy and no synchronization per step."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from codesign.core.task import Data


class Resident(NamedTuple):
    """Training and validation data as tensors on one device."""

    inputs: Tensor
    targets: Tensor
    validation_inputs: Tensor
    validation_targets: Tensor


_resident: dict[str, tuple[Data, Resident]] = {}


def choose_device(device: str = "auto") -> torch.device:
    """Return the device of a name; "auto" is CUDA where there is one."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(device)


def to_device(data: Data, device: str = "auto") -> Resident:
    """Return the data as tensors on the device; the newest data of each device are kept for the trials to come.

    On the CPU the tensors share the arrays' memory.
    """
    target = choose_device(device)
    held = _resident.get(str(target))
    if held is None or held[0] is not data:
        arrays = *data.train, *data.validation
        held = data, Resident(*(torch.from_numpy(np.ascontiguousarray(a)).to(target) for a in arrays))
        _resident[str(target)] = held
    return held[1]


def subset(n: int, fraction: float, generator: torch.Generator) -> Tensor:
    """Return the rows to train on."""
    order = torch.randperm(n, generator=generator)
    return order[: max(1, round(n * fraction))]


def shuffled(chosen: Tensor, batch_size: int, generator: torch.Generator) -> Tensor:
    """Return the rows of one epoch, (steps, batch): all chosen ones but those of the last incomplete batch."""
    batch_size = min(batch_size, len(chosen))
    steps = len(chosen) // batch_size
    return chosen[torch.randperm(len(chosen), generator=generator)[: steps * batch_size]].view(steps, batch_size)
