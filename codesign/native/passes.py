"""Training passes by the kernels, for networks of known layers on a CPU."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor, nn

from codesign.native.compile import library
from codesign.native.program import LANES, LOSSES, Program, UnknownLayerError, program_of
from codesign.network import Network
from codesign.resident import Resident
from codesign.train_options import TrainOptions


class NativePasses:
    """Steps of AdamW on `weights`, which hold all parameters of a network, and the validation loss.

    One thread; the same arithmetic as torch's but for the order of sums, so that equal seeds give equal weights.
    """

    def __init__(
        self, program: Program, kernels: ctypes.CDLL, weights: nn.Parameter, resident: Resident, options: TrainOptions
    ) -> None:
        self.program, self.kernels = program, kernels
        self.weights, self.resident, self.options = weights, resident, options
        self.table = ctypes.byref(program.table)
        self.moments = torch.zeros(2, weights.numel())
        self.steps = 0
        self.order = torch.arange(len(resident.validation_inputs))

    @classmethod
    def of(
        cls, module: nn.Module, weights: nn.Parameter, resident: Resident, loss: str, options: TrainOptions
    ) -> NativePasses | None:
        """Return the passes of a network, or None where the kernels do not apply: torch computes those.

        They apply to a `Network` on the CPU whose layers all have a kernel, to batches of whole vectors, where there is
        a compiler.
        """
        batch = min(options.batch_size, max(1, round(len(resident.inputs) * options.data_fraction)))
        is_known = type(module) is Network and loss in LOSSES and all(p.requires_grad for p in module.parameters())
        if not is_known or batch % LANES or weights.device.type != "cpu" or not _are_sound(resident, loss, module):
            return None
        try:
            program = program_of(module, loss, batch)
        except UnknownLayerError:
            return None
        kernels = library()
        return kernels and cls(program, kernels, weights, resident, options)

    def step(self, samples: Tensor, rate: float) -> float:
        """Take one step on samples (batch,) and return their mean loss before it."""
        inputs, targets = self.resident.inputs, self.resident.targets
        loss: float = self.kernels.gradient(self.table, inputs.data_ptr(), targets.data_ptr(), samples.data_ptr())
        if self.options.gradient_clip:
            nn.utils.clip_grad_norm_(self.weights, self.options.gradient_clip)
        self.steps += 1
        assert self.weights.grad is not None
        pointers = (t.data_ptr() for t in (self.weights, self.weights.grad, *self.moments))
        self.kernels.update(*pointers, self.weights.numel(), self.steps, rate, self.options.weight_decay)
        return loss

    def validate(self) -> float:
        """Return the mean validation loss."""
        inputs, targets = self.resident.validation_inputs, self.resident.validation_targets
        total = 0.0
        for samples in self.order.split(self.program.batch):
            arguments = inputs.data_ptr(), targets.data_ptr(), samples.data_ptr(), len(samples)
            total += self.kernels.evaluate(self.table, *arguments) * len(samples)
        return total / len(inputs)


def _are_sound(resident: Resident, loss: str, network: Network) -> bool:
    """Return whether the kernels may read the data without further checks; torch says what is wrong with others."""
    outputs = network.architecture.output_shape
    for inputs, targets in (resident[:2], resident[2:]):
        is_labels = loss == "cross_entropy"
        kind, shape = (torch.int64, ()) if is_labels else (torch.float32, outputs)
        if inputs.dtype != torch.float32 or targets.dtype != kind or not len(inputs):
            return False
        if inputs.shape[1:] != network.shape or targets.shape != (len(inputs), *shape):
            return False
        if is_labels and not 0 <= int(targets.min()) <= int(targets.max()) < outputs[-1]:
            return False
    return len(outputs) == 1
