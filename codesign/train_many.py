"""Fit several networks of one architecture at once, with stacked parameters: for the spread of a metric over seeds.

A tiny network spends most of a step in calls, not in arithmetic; stacked, the calls are shared. On one CPU core a step
of eight stacked networks takes about half the time of eight steps in a row, a step of two takes longer: see
`benchmarks/training.py`. A search trains different architectures, which share no calls, in one process per core.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.func import functional_call, stack_module_state

from codesign import network
from codesign.core.architecture import Architecture
from codesign.core.errors import InvalidValueError, TrainingError
from codesign.core.task import Data, Task
from codesign.train import (
    EVALUATION_ROWS,
    LOSSES,
    Epoch,
    Resident,
    TrainOptions,
    TrainResult,
    choose_device,
    rate_at,
    shuffled,
    subset,
    to_device,
)


def train_many(
    architecture: Architecture,
    seeds: Sequence[int],
    data: Data,
    task: Task,
    options: TrainOptions,
    device: str = "auto",
) -> list[TrainResult]:
    """Fit one network for each seed, with the weights and the batches that `build` and `train` have for this seed.

    The results equal those of `train` up to the rounding of floats. Each result's seconds are those of all together.

    Args:
        architecture: Of every network.
        seeds: One for each network, of its weights and its batches.
        data: The validation split chooses the epoch, for each network by itself.
        task: Says the loss; without an augmentation.
        options: Without patience, gradient clipping and mixed precision.
        device: "auto", "cpu" or "cuda".

    Raises:
        InvalidValueError: An option that stacked networks do not have.
        TrainingError: A loss became NaN or infinite; the message says with which seed.
    """
    if options.patience or options.gradient_clip or options.is_mixed_precision or task.augment:
        raise InvalidValueError(
            "Networks are trained at once without patience, gradient clipping, mixed precision and augmentation, but "
            f"{options} of task {task.name} asks for one; train them one after another."
        )
    started = time.perf_counter()
    resident = to_device(data, device)
    stack = _Stack([network.build(architecture, seed) for seed in seeds], task, options, choose_device(device))
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    chosen = [subset(len(resident.inputs), options.data_fraction, g) for g in generators]
    history: list[list[Epoch]] = [[] for _ in seeds]
    best_epochs, best_losses, best_state = [0] * len(seeds), [math.inf] * len(seeds), stack.copy()
    for epoch in range(options.epochs):
        rows = [shuffled(c, options.batch_size, g) for c, g in zip(chosen, generators, strict=True)]
        training = stack.fit_epoch(resident, torch.stack(rows, dim=1), epoch)
        for i, losses in enumerate(map(Epoch, training, stack.validate(resident))):
            if not all(map(math.isfinite, losses)):
                raise TrainingError(
                    f"Training with seed {seeds[i]} diverged in epoch {epoch}: its training loss is "
                    f"{losses.training_loss} and its validation loss {losses.validation_loss}; only finite losses are "
                    f"allowed. Lower the learning rate, now {options.learning_rate:g}."
                )
            history[i].append(losses)
            if losses.validation_loss < best_losses[i]:
                best_epochs[i], best_losses[i] = epoch, losses.validation_loss
                for name, values in best_state.items():
                    values[i] = stack.state[name].detach()[i]
    seconds = time.perf_counter() - started
    return [
        TrainResult({k: v[i].clone().cpu() for k, v in best_state.items()}, tuple(history[i]), best_epochs[i], seconds)
        for i in range(len(seeds))
    ]


class _Stack:
    """Networks of one architecture with their parameters and buffers stacked along a new first axis."""

    def __init__(self, modules: list[network.Network], task: Task, options: TrainOptions, device: torch.device) -> None:
        parameters, buffers = stack_module_state(modules)
        self.skeleton = modules[0].to("meta")
        self.parameters = {k: v.detach().to(device).requires_grad_() for k, v in parameters.items()}
        self.buffers = {k: v.to(device) for k, v in buffers.items()}
        self.options = options
        self.loss_of = LOSSES[task.loss]
        self.learning_rate = torch.tensor(options.learning_rate, device=device)
        self.optimizer = torch.optim.AdamW(
            self.parameters.values(), lr=self.learning_rate, weight_decay=options.weight_decay, fused=True
        )

    @property
    def state(self) -> dict[str, Tensor]:
        return self.parameters | self.buffers

    def copy(self) -> dict[str, Tensor]:
        return {name: value.detach().clone() for name, value in self.state.items()}

    def losses(self, inputs: Tensor, targets: Tensor, data_axis: int | None) -> Tensor:
        """Return the loss of each network: on data of its own (axis 0) or on the same (None)."""

        def loss(parameters: dict[str, Tensor], buffers: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
            return self.loss_of(functional_call(self.skeleton, (parameters, buffers), (x,)), y)

        in_dims = (0, 0, data_axis, data_axis)
        result: Tensor = torch.vmap(loss, in_dims)(self.parameters, self.buffers, inputs, targets)
        return result

    def fit_epoch(self, resident: Resident, rows: Tensor, epoch: int) -> list[float]:
        """Take the steps of one epoch on `rows` (steps, networks, batch) and return the mean training losses."""
        self.skeleton.train()
        total = torch.zeros(rows.shape[1], device=self.learning_rate.device)
        for step, batch in enumerate(rows.to(total.device)):
            steps = self.options.epochs * len(rows)
            self.learning_rate.fill_(rate_at(self.options, epoch * len(rows) + step, steps))
            losses = self.losses(resident.inputs[batch], resident.targets[batch], 0)
            self.optimizer.zero_grad()
            losses.sum().backward()
            self.optimizer.step()
            total += losses.detach()
        return (total / len(rows)).tolist()

    @torch.no_grad()
    def validate(self, resident: Resident) -> list[float]:
        """Return the mean validation losses."""
        self.skeleton.eval()
        total = torch.zeros(len(next(iter(self.parameters.values()))), device=self.learning_rate.device)
        pairs = zip(
            resident.validation_inputs.split(EVALUATION_ROWS),
            resident.validation_targets.split(EVALUATION_ROWS),
            strict=True,
        )
        for inputs, targets in pairs:
            total += self.losses(inputs, targets, None) * len(targets)
        return (total / len(resident.validation_inputs)).tolist()
