"""Training passes by torch: every network, loss and device."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from codesign.core.task import Task
from codesign.resident import Resident
from codesign.train_options import TrainOptions

EVALUATION_ROWS = 1024  # rows of one forward pass without gradients: their activations still fit a core's cache
LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cross_entropy": F.cross_entropy,
    "mse": F.mse_loss,
    "l1": F.l1_loss,
}


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


class AutogradPasses:
    """Steps of AdamW on `weights`, which hold all parameters of `module`, and the validation loss."""

    def __init__(
        self,
        module: nn.Module,
        weights: nn.Parameter,
        resident: Resident,
        task: Task,
        options: TrainOptions,
        teacher: Teacher | None = None,
    ) -> None:
        self.module, self.weights, self.resident, self.task, self.options = module, weights, resident, task, options
        self.device = resident.inputs.device
        self.teacher = teacher and Teacher(copy.deepcopy(teacher.network).to(self.device).eval(), teacher.share)
        self.rate = torch.tensor(0.0, device=self.device)
        self.optimizer = torch.optim.AdamW([weights], lr=self.rate, weight_decay=options.weight_decay, fused=True)

    def step(self, samples: Tensor, rate: float) -> Tensor:
        """Take one step on a batch and return its mean loss, which stays on the device."""
        self.module.train()
        self.rate.fill_(rate)
        samples = samples.to(self.device)
        inputs, targets = self.resident.inputs[samples], self.resident.targets[samples]
        if self.task.augment:
            inputs, targets = self.task.augment(inputs, targets)
        loss_of = LOSSES[self.task.loss]
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.options.is_mixed_precision):
            outputs = self.module(inputs)
            loss = loss_of(outputs, targets)
            if self.teacher:
                loss = torch.lerp(loss, loss_of(outputs, self._answers(inputs)), self.teacher.share)
        self.optimizer.zero_grad(set_to_none=False)
        loss.backward()
        if self.options.gradient_clip:
            nn.utils.clip_grad_norm_(self.weights, self.options.gradient_clip)
        self.optimizer.step()
        return loss.detach()

    def validate(self) -> float:
        """Return the mean validation loss."""
        return evaluate(self.module, self.resident, LOSSES[self.task.loss])

    @torch.no_grad()
    def _answers(self, inputs: Tensor) -> Tensor:
        assert self.teacher is not None
        answers: Tensor = self.teacher.network(inputs)
        return answers.softmax(-1) if self.task.loss == "cross_entropy" else answers


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
