"""One dataflow from search to synthesis: what a stream costs, and what each stage takes over from the one before."""

import numpy as np
import pytest

from codesign import network
from codesign.backends import da4ml, streaming
from codesign.backends.dataflow import preferring
from codesign.blocks.conv1d import Conv1d
from codesign.blocks.conv2d import Conv2d
from codesign.blocks.deep_sets import DeepSets
from codesign.blocks.dense import Dense
from codesign.blocks.pool import Pool
from codesign.compress.lower import lower
from codesign.compress.quantize import quantize
from codesign.core import plugins
from codesign.core.architecture import Architecture
from codesign.core.complexity import kernel_macs
from codesign.jobs.build import dataflow_for
from codesign.jobs.context import dataflow_of
from codesign.jobs.evaluate import Evaluator, hardware_metrics

IMAGE = Architecture((11, 11, 1), (Conv2d((4, 3), (3, 5)), Dense(4), Dense(2, "identity")))
SEQUENCE = Architecture((24, 2), (Conv1d((4, 6), (4, 3), (2, 1)), Pool(2, "max", 2), Dense(2, "identity")))
SET = Architecture((8, 3), (DeepSets((8, 8)), Dense(5, "identity")))
FLAT = Architecture((8, 3), (Dense(4), Dense(5, "identity")))


def integers(architecture, bits):
    inputs = np.random.default_rng(0).random((256, *architecture.input_shape), dtype=np.float32)
    return lower(quantize(architecture, network.build(architecture, 0), bits, inputs))


def test_a_kernel_counts_once_whatever_the_number_of_positions():
    # convolutions 9 × 1 × 4 and 25 × 4 × 3, then dense layers on 5 × 5 × 3 numbers
    assert kernel_macs(IMAGE) == 9 * 4 + 25 * 4 * 3 + 75 * 4 + 4 * 2
    # convolutions 4 × 2 × 4 and 3 × 4 × 6, then a dense layer on 4 × 6 numbers
    assert kernel_macs(SEQUENCE) == 4 * 2 * 4 + 3 * 4 * 6 + 24 * 2
    assert kernel_macs(SET) == 3 * 8 + 8 * 8 + 8 * 5
    assert kernel_macs(FLAT) == FLAT.macs()


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize(
    ("architecture", "task"), [(IMAGE, "bragg_peak"), (SEQUENCE, "qubit_readout"), (SET, "jet_classification")]
)
def test_a_stream_costs_what_it_has_once_and_at_least_what_is_known_before_training(architecture, task, bits):
    net = integers(architecture, bits)
    streamed, parallel = (hardware_metrics(net, architecture, bits, kind) for kind in ("streaming", "parallel"))
    assert streamed["lut_estimate"] == streaming.estimate(net)[0].lut < parallel["lut_estimate"]
    assert (streamed["ii"], parallel["ii"]) == (np.prod(architecture.input_shape[:-1]), 1)
    bound = Evaluator(task, bits, dataflow="streaming").precheck(architecture)["lut_estimate"]
    assert 0.2 * streamed["lut_estimate"] < bound <= streamed["lut_estimate"]


def test_what_cannot_stream_is_parallel():
    net = integers(FLAT, 6)
    assert preferring("streaming", net).kind == "parallel"
    assert hardware_metrics(net, FLAT, 6, "streaming")["lut_estimate"] == da4ml.estimate(net)[0].lut


def test_each_stage_takes_over_the_dataflow_of_the_one_before():
    task = plugins.load_task("bragg_peak")
    assert dataflow_of(task, "") == "parallel"
    assert dataflow_of(plugins.load_task("bragg_peak:space=paper"), "", {"dataflow": ""}) == "streaming"
    assert dataflow_of(task, "", {"dataflow": ""}, {"dataflow": "streaming"}) == "streaming"
    assert dataflow_of(task, "parallel", {"dataflow": "streaming"}) == "parallel"
    assert dataflow_for(integers(IMAGE, 4), "auto", "streaming") == "streaming"
    assert dataflow_for(integers(IMAGE, 4), "parallel", "streaming") == "parallel"
    assert dataflow_for(integers(IMAGE, 4), "auto", "parallel") == "auto"
    assert dataflow_for(integers(FLAT, 4), "auto", "streaming") == "auto"
