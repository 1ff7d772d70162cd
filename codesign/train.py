"""Fit a network: the loop over epochs and steps, whoever computes them.

A process trains one network at a time; a search keeps one process with one thread on each core. On a CPU the passes of
networks of known layers are compiled code (`codesign.native`), everything else is torch's autograd. The figures are
those of `benchmarks/training.py` in `docs/results.md`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from codesign.autograd import EVALUATION_ROWS, AutogradPasses, Teacher
from codesign.core.errors import TrainingError
from codesign.core.task import Data, Task
from codesign.native.passes import NativePasses
from codesign.resident import Resident, choose_device, shuffled, subset, to_device
from codesign.train_options import TrainOptions, rate_at

OnEpoch = Callable[[int, float], bool]


class Epoch(NamedTuple):
    """Mean losses of one epoch."""

    training_loss: float
    validation_loss: float


@dataclass(frozen=True)
class TrainResult:
    """A finished training.

    Attributes:
        state: Weights and buffers of the epoch with the lowest validation loss, on the CPU.
        history: Losses of every epoch.
        best_epoch: Epoch that `state` comes from, from 0.
        seconds: Wall-clock time.
    """

    state: dict[str, Tensor]
    history: tuple[Epoch, ...]
    best_epoch: int
    seconds: float


class Passes(Protocol):
    """What computes the steps."""

    def step(self, samples: Tensor, rate: float) -> Tensor | float:
        """Take one step on samples (batch,) at a learning rate and return their mean loss before it."""

    def validate(self) -> float:
        """Return the mean validation loss."""


def train(
    module: nn.Module,
    data: Data,
    task: Task,
    options: TrainOptions | None = None,
    *,
    seed: int,
    device: str = "auto",
    on_epoch: OnEpoch | None = None,
    teacher: Teacher | None = None,
) -> TrainResult:
    """Fit `module` in place and leave it in eval mode on the CPU, with the weights of its best epoch.

    Args:
        module: Takes (batch, *input_shape) and returns (batch, outputs).
        data: Its training split fits, its validation split chooses the epoch.
        task: Says the loss and, where it has one, the augmentation of a batch.
        options: Defaults to `TrainOptions()`.
        seed: Of the order of samples and of the augmentation; equal seeds give equal weights on the CPU.
        device: "auto", "cpu" or "cuda".
        on_epoch: Called with the epoch's number and its validation loss; returns True to stop.
        teacher: Whose answers are learned beside the targets, or None.

    Raises:
        TrainingError: The loss became NaN or infinite.
    """
    options = options or TrainOptions()
    started = time.perf_counter()
    target = choose_device(device)
    resident = to_device(data, device)
    module.to(target)
    history: list[Epoch] = []
    best_epoch, best_loss, best_state = 0, math.inf, _copy(module)
    with torch.random.fork_rng(devices=[target] if target.type == "cuda" else []), joined(module) as weights:
        passes = _passes(module, weights, resident, task, options, teacher)
        torch.manual_seed(seed)  # for the augmentation
        generator = torch.Generator().manual_seed(seed)
        chosen = subset(len(resident.inputs), options.data_fraction, generator)
        steps = max(1, len(chosen) // options.batch_size)
        for epoch in range(options.epochs):
            total: Tensor | float = 0.0
            for step, samples in enumerate(shuffled(chosen, options.batch_size, generator).to(target)):
                total += passes.step(samples, rate_at(options, epoch * steps + step, options.epochs * steps))
            losses = Epoch(float(total) / steps, passes.validate())
            if not math.isfinite(losses.training_loss) or not math.isfinite(losses.validation_loss):
                raise TrainingError(
                    f"Training diverged in epoch {epoch}: its training loss is {losses.training_loss} and its "
                    f"validation loss {losses.validation_loss}; only finite losses are allowed. Lower the learning "
                    f"rate, now {options.learning_rate:g}."
                )
            history.append(losses)
            if losses.validation_loss < best_loss or options.keeps_last:
                best_epoch, best_loss, best_state = epoch, losses.validation_loss, _copy(module)
            if on_epoch and on_epoch(epoch, losses.validation_loss):
                break
            if options.patience and epoch - best_epoch >= options.patience:
                break
    module.load_state_dict(best_state)
    module.cpu().eval()
    return TrainResult(_copy(module), tuple(history), best_epoch, time.perf_counter() - started)


def predict(module: nn.Module, inputs: np.ndarray, batch: int = EVALUATION_ROWS) -> np.ndarray:
    """Return the outputs (n, outputs) of a module in eval mode for inputs (n, *input_shape), in its own precision."""
    module.eval()
    parameter = next(module.parameters(), torch.zeros(()))
    with torch.inference_mode():
        parts = [
            module(torch.from_numpy(inputs[start : start + batch]).to(parameter)).cpu().numpy()
            for start in range(0, len(inputs), batch)
        ]
    return np.concatenate(parts)


def _passes(
    module: nn.Module,
    weights: nn.Parameter,
    resident: Resident,
    task: Task,
    options: TrainOptions,
    teacher: Teacher | None,
) -> Passes:
    is_plain = not (task.augment or teacher or options.is_mixed_precision)
    native = NativePasses.of(module, weights, resident, task.loss, options) if is_plain else None
    return native or AutogradPasses(module, weights, resident, task, options, teacher)


@contextmanager
def joined(module: nn.Module) -> Iterator[nn.Parameter]:
    """Make all parameters, and all gradients, parts of one tensor: the optimizer makes one call, not one for each."""
    parameters = list(module.parameters())
    joined = nn.Parameter(torch.cat([p.detach().flatten() for p in parameters]))
    joined.grad = torch.zeros_like(joined)
    sizes = [p.numel() for p in parameters]
    for p, value, gradient in zip(parameters, joined.detach().split(sizes), joined.grad.split(sizes), strict=True):
        p.data, p.grad = value.view_as(p), gradient.view_as(p)
    try:
        yield joined
    finally:
        for p in parameters:
            p.data, p.grad = p.data.clone(), None


def _copy(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in module.state_dict().items()}
