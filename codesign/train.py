"""Fit a network on data that stay on the device as tensors: no data loader, no copy and no synchronization per step.

A process trains one network at a time; a search keeps one process with one thread on each core. Networks stacked in one
process (torch.func) share the calls but not the arithmetic: on a CPU that is faster for the tiniest networks alone, and
slower for larger ones. Compiling a step takes tens of seconds, longer than many a trial. The figures are those of
`benchmarks/training.py` in `docs/results.md`.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from codesign.core.errors import InvalidValueError, TrainingError, unknown_name
from codesign.core.task import Data, Task

EVALUATION_ROWS = 1024  # rows of one forward pass without gradients: their activations still fit a core's cache
WARM_UP = 0.3  # fraction of a one-cycle schedule in which the learning rate rises
LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cross_entropy": F.cross_entropy,
    "mse": F.mse_loss,
    "l1": F.l1_loss,
}
OnEpoch = Callable[[int, float], bool]


@dataclass(frozen=True)
class TrainOptions:
    """How to fit a network.

    Attributes:
        epochs: Passes over the training data at most.
        batch_size: Samples of one step; a last incomplete batch is left out (every epoch shuffles anew).
        learning_rate: Highest learning rate of the schedule.
        schedule: "one_cycle" rises over the first 30 % and falls to zero as cosines do, "cosine" only falls.
        weight_decay: Decoupled weight decay of AdamW; 0 is Adam.
        data_fraction: Fraction of the training data to use, the same rows for the same seed.
        patience: Epochs without a better validation loss until training stops; 0 never stops.
        gradient_clip: Largest norm of the gradient; 0 does not clip.
        is_mixed_precision: Run the network in bfloat16 where torch holds that to be safe.
        keeps_last: Take the weights of the last epoch, not those of the epoch with the lowest validation loss.
    """

    epochs: int = 10
    batch_size: int = 256
    learning_rate: float = 3e-3
    schedule: Literal["one_cycle", "cosine", "constant"] = "one_cycle"
    weight_decay: float = 0.0
    data_fraction: float = 1.0
    patience: int = 0
    gradient_clip: float = 0.0
    is_mixed_precision: bool = False
    keeps_last: bool = False

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch_size < 1:
            raise InvalidValueError(
                f"Training has {self.epochs} epochs of batches of {self.batch_size}; allowed: 1 or more of each."
            )
        if not 0 < self.data_fraction <= 1:
            raise InvalidValueError(f"The data fraction is {self.data_fraction}; allowed: above 0, up to 1.")
        if not self.learning_rate > 0:
            raise InvalidValueError(f"The learning rate is {self.learning_rate}; allowed: above 0.")
        if self.schedule not in ("one_cycle", "cosine", "constant"):
            raise unknown_name("schedule", self.schedule, ("one_cycle", "cosine", "constant"))


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


class Resident(NamedTuple):
    """Training and validation data as tensors on one device."""

    inputs: Tensor
    targets: Tensor
    validation_inputs: Tensor
    validation_targets: Tensor


_resident: dict[str, tuple[Data, Resident]] = {}


class Teacher(NamedTuple):
    """A trained network whose answers are learned beside the targets.

    Its answers take the place of the targets in the task's own loss: as probabilities of classes, or as they are.

    Source: Hinton, Vinyals and Dean, Distilling the Knowledge in a Neural Network, arXiv 1503.02531, at temperature 1.

    Attributes:
        network: In eval mode.
        share: Its part of the loss, from 0 to 1.
    """

    network: nn.Module
    share: float


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
    taught = teacher and Teacher(copy.deepcopy(teacher.network).to(target).eval(), teacher.share)
    loss_of = LOSSES[task.loss]
    learning_rate = torch.tensor(options.learning_rate, device=target)
    history: list[Epoch] = []
    best_epoch, best_loss, best_state = 0, math.inf, _copy(module)
    with torch.random.fork_rng(devices=[target] if target.type == "cuda" else []), _joined(module) as weights:
        optimizer = torch.optim.AdamW([weights], lr=learning_rate, weight_decay=options.weight_decay, fused=True)
        torch.manual_seed(seed)  # for the augmentation
        generator = torch.Generator().manual_seed(seed)
        chosen = subset(len(resident.inputs), options.data_fraction, generator)
        steps = max(1, len(chosen) // options.batch_size)
        for epoch in range(options.epochs):
            module.train()
            total = torch.zeros((), device=target)
            for step, batch in enumerate(_batches(resident, shuffled(chosen, options.batch_size, generator))):
                learning_rate.fill_(rate_at(options, epoch * steps + step, options.epochs * steps))
                inputs, targets = task.augment(*batch) if task.augment else batch
                with torch.autocast(target.type, torch.bfloat16, enabled=options.is_mixed_precision):
                    outputs = module(inputs)
                    loss = loss_of(outputs, targets)
                    if taught:
                        answers = _answers(taught, task, inputs)
                        loss = torch.lerp(loss, loss_of(outputs, answers), taught.share)
                optimizer.zero_grad(set_to_none=False)
                loss.backward()
                if options.gradient_clip:
                    nn.utils.clip_grad_norm_(weights, options.gradient_clip)
                optimizer.step()
                total += loss.detach()
            losses = Epoch(float(total) / steps, evaluate(module, resident, loss_of))
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


@torch.no_grad()
def _answers(teacher: Teacher, task: Task, inputs: Tensor) -> Tensor:
    answers: Tensor = teacher.network(inputs)
    return answers.softmax(-1) if task.loss == "cross_entropy" else answers


def evaluate(module: nn.Module, resident: Resident, loss_of: Callable[[Tensor, Tensor], Tensor]) -> float:
    """Return the mean validation loss, in eval mode."""
    module.eval()
    total = 0.0
    with torch.inference_mode():
        for start in range(0, len(resident.validation_inputs), EVALUATION_ROWS):
            rows = slice(start, start + EVALUATION_ROWS)
            targets = resident.validation_targets[rows]
            total += float(loss_of(module(resident.validation_inputs[rows]), targets)) * len(targets)
    return total / len(resident.validation_inputs)


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


@contextmanager
def _joined(module: nn.Module) -> Iterator[nn.Parameter]:
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


def subset(n: int, fraction: float, generator: torch.Generator) -> Tensor:
    """Return the rows to train on."""
    order = torch.randperm(n, generator=generator)
    return order[: max(1, round(n * fraction))]


def shuffled(chosen: Tensor, batch_size: int, generator: torch.Generator) -> Tensor:
    """Return the rows of one epoch, (steps, batch): all chosen ones but those of the last incomplete batch."""
    batch_size = min(batch_size, len(chosen))
    steps = len(chosen) // batch_size
    return chosen[torch.randperm(len(chosen), generator=generator)[: steps * batch_size]].view(steps, batch_size)


def _batches(resident: Resident, rows: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the batches of an epoch: it is gathered once, and its batches are views."""
    rows = rows.to(resident.inputs.device)
    yield from zip(resident.inputs[rows], resident.targets[rows], strict=True)


def rate_at(options: TrainOptions, step: int, steps: int) -> float:
    """Return the learning rate.

    Sources: Smith and Topin, arXiv 1708.07120 (one-cycle); Loshchilov and Hutter, arXiv 1608.03983 (cosine).
    """
    progress = step / steps
    if options.schedule == "constant":
        return options.learning_rate
    if options.schedule == "one_cycle":
        if progress < WARM_UP:
            return options.learning_rate * (0.04 + 0.96 * (1 - math.cos(math.pi * progress / WARM_UP)) / 2)
        progress = (progress - WARM_UP) / (1 - WARM_UP)
    return options.learning_rate * (1 + math.cos(math.pi * progress)) / 2
