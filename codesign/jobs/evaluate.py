"""Evaluate one candidate: train it, quantize it, and estimate its hardware."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from codesign.core.architecture import Architecture
from codesign.core.complexity import bops, bops_nac, ebops, kernel_macs
from codesign.core.integer_network import IntegerNetwork
from codesign.core.layers import require_buildable
from codesign.core.recipe import CompressionRecipe
from codesign.core.task import Data, Task
from codesign.core.trial import Fidelity
from codesign.jobs.context import load_task_and_data

if TYPE_CHECKING:
    from codesign.network import Network
    from codesign.train import TrainOptions

CALIBRATION_ROWS = 2048
SCORED_ROWS = 1024  # rows of perfect answers that a task scores
CERTAIN = 1000.0  # score of the right class, beside zeros: certain in any scale
HARDWARE_KEYS = (
    "lut_estimate", "ff_estimate", "dsp_estimate", "bram_estimate", "latency_cycles", "ii", "ebops", "bops", "bops_nac",
    "macs", "parameters",
)  # fmt: skip
JOINT_REDUCTION = 0.75  # part of the LUTs that the short compression of a joint search removes
LEAST_LUT_PER_MAC_BIT = 1.0  # unpruned adder graphs of 4 to 8 bits measured 1.7 to 2.3


@dataclass(frozen=True)
class Evaluator:
    """A candidate's score, as the search calls it; it can be sent to worker processes.

    Attributes:
        task: Reference of the task.
        bits: Width of weights and activations in the hardware estimate.
        folder: Where each trial leaves its files, in a folder of its own (see `trial_folder`); None writes none.
        device: "auto", "cpu" or "cuda".
        is_joint: Compress each architecture shortly by learned precision; its metrics are those of the integers then.
        dataflow: "parallel", or "streaming" for every network that can be computed position by position.
    """

    task: str
    bits: int
    folder: Path | None = None
    device: str = "auto"
    is_joint: bool = False
    dataflow: str = "parallel"

    def __call__(self, architecture: Architecture, fidelity: Fidelity, seed: int, number: int) -> dict[str, float]:
        """Return the metrics of one trial and write its model and its HLS project."""
        import torch

        from codesign import network, train

        torch.set_num_threads(1)  # threads of a tiny network wait for one another; workers are the parallelism

        require_buildable(architecture.layers)
        task, data = load_task_and_data(self.task)
        model = network.build(architecture, seed, starts_at_zero=True)
        options = train.TrainOptions(epochs=fidelity.epochs, data_fraction=fidelity.data_fraction)
        result = train.train(model, data, task, options, seed=seed, device=self.device)
        seconds = result.seconds
        if self.is_joint:
            metrics, integers, compressing = shortly_compressed(
                model, data, task, options, seed, self.device, self.dataflow
            )
            seconds += compressing
        else:
            metrics = dict(task.score(train.predict(model, data.validation.inputs), data.validation.targets))
            integers = quantize_trained(architecture, model, data, self.bits)
        metrics |= hardware_metrics(integers, architecture, self.bits, self.dataflow)
        metrics["train_seconds"] = seconds
        if self.folder is not None:
            from codesign.backends import hls4ml
            from codesign.backends.dataflow import preferring
            from codesign.backends.hls_options import HlsOptions, resolve

            folder = trial_folder(self.folder, number)
            folder.mkdir(parents=True, exist_ok=True)
            network.save_network(folder, architecture, model)
            kind = preferring(self.dataflow, integers).kind
            project = hls4ml.plan(integers, task.slug, options=resolve(HlsOptions(io="auto"), integers, kind))
            (folder / "hls4ml.tar.xz").write_bytes(hls4ml.archive(project))
        return metrics

    def best_metrics(self) -> dict[str, float]:
        """Return every metric that a trial will have, with a value that no architecture betters: perfect and free."""
        task, data = load_task_and_data(self.task)
        answers = data.validation.targets[:SCORED_ROWS]
        perfect = CERTAIN * np.eye(len(task.output_meaning))[answers] if task.loss == "cross_entropy" else answers
        return task.score(perfect, answers) | dict.fromkeys((*HARDWARE_KEYS, "train_seconds"), 0.0)

    def precheck(self, architecture: Architecture) -> Mapping[str, float]:
        """Return what is known before training, in no time: what depends on shapes alone, and a least cost in LUTs.

        What an architecture costs once it is compressed has no such bound.
        """
        require_buildable(architecture.layers)
        metrics = shape_metrics(architecture, self.bits)
        if self.is_joint:
            return metrics
        macs = kernel_macs(architecture) if self.dataflow == "streaming" else metrics["macs"]
        return metrics | {"lut_estimate": LEAST_LUT_PER_MAC_BIT * self.bits * macs}


def trial_folder(folder: Path, number: int) -> Path:
    """Return the folder of one trial's files."""
    return folder / f"trial-{number:05d}"


def quantize_trained(architecture: Architecture, model: object, data: Data, bits: int) -> IntegerNetwork:
    """Return the integers of a trained float network at one uniform width, without further training."""
    from codesign.compress.lower import lower
    from codesign.compress.quantize import quantize

    return lower(quantize(architecture, model, bits, data.train.inputs[:CALIBRATION_ROWS]))


def shortly_compressed(
    model: Network, data: Data, task: Task, options: TrainOptions, seed: int, device: str, dataflow: str
) -> tuple[dict[str, float], IntegerNetwork, float]:
    """Return what a short compression by learned precision leaves: the score, the integers, and the seconds it took."""
    from codesign.compress.compress import compress

    epochs = max(1, options.epochs // 4)
    streams = dataflow == "streaming"
    recipe = CompressionRecipe("learned", is_streamed=streams, sparsity=JOINT_REDUCTION, steps=2, epochs=epochs)
    steps = list(compress(model, data, task, recipe, seed=seed, device=device, options=options))
    return dict(steps[-1].metrics), steps[-1].network, sum(step.train_seconds for step in steps)


def hardware_metrics(
    integers: IntegerNetwork, architecture: Architecture, bits: int, dataflow: str = "parallel"
) -> dict[str, float]:
    """Return the estimated cost of an integer network under its metric keys; one that cannot stream is parallel."""
    from codesign.backends.dataflow import preferring

    resources, timing = preferring(dataflow, integers).estimate(integers)
    numbers = {"latency_cycles": timing.latency_cycles, "ii": timing.ii, "ebops": ebops(integers)}
    return resources.metrics() | numbers | shape_metrics(architecture, bits)


def shape_metrics(architecture: Architecture, bits: int) -> dict[str, float]:
    """Return what an architecture costs by its shapes alone, whatever its weights are."""
    return {
        "bops": bops(architecture, bits),
        "bops_nac": bops_nac(architecture, bits),
        "macs": architecture.macs(),
        "parameters": architecture.parameters(),
    }
