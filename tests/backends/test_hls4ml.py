"""The hls4ml project, compiled and run on integers, equals the emulator bit for bit."""

import io
import itertools
import os
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from codesign.backends import hls4ml
from codesign.backends._hls4ml_graph import streamed
from codesign.backends.hls_options import DEFAULTS, IOS, HlsOptions, resolve
from codesign.core.errors import InvalidValueError, ToolError, UnsupportedError
from codesign.core.fixed_point import FixedPoint, Overflow, Rounding
from codesign.core.integer_network import IntegerNetwork
from codesign.core.operations import (
    OPERATIONS,
    Add,
    Affine,
    Input,
    LeakyRelu,
    Linear,
    MatMul,
    Max,
    Multiply,
    Patches,
    Quantize,
    Relu,
    Reshape,
    Sum,
    Table,
    Transpose,
)
from codesign.core.run import run_plan
from tests.strategies import image_networks, integer_networks, vectors_for

VECTORS = 1000


def check(network, folder):
    inputs = vectors_for(network, VECTORS)
    np.testing.assert_array_equal(hls4ml.simulate(network, inputs, folder), network.emulate(inputs))


def deep_sets():
    """A jet network: per particle, batch norm over particles, mean and maximum, then per jet."""
    random = np.random.default_rng(0)

    def linear(x, inputs, outputs):
        weight = random.integers(-15, 16, (inputs, outputs)) * (random.random((inputs, outputs)) < 0.6)
        return Linear((x,), weight, random.integers(-99, 99, outputs), 4, 7)

    signed, unsigned = FixedPoint(8, 4), FixedPoint(6, 3, is_signed=False)
    return IntegerNetwork(
        (
            Input((), (8, 3), (signed, FixedPoint(6, 2), FixedPoint(0, 0))),
            linear(0, 3, 8),
            Affine((1,), random.integers(1, 16, (8, 1)), random.integers(-60, 60, (8, 1)), 3, 5),
            Relu((2,)),
            Quantize((3,), (unsigned,), Rounding.HALF_EVEN),
            linear(4, 8, 8),
            LeakyRelu((5,), 3),
            Quantize((6,), tuple(FixedPoint(4 + i, 4, i % 2 == 0) for i in range(8)), Rounding.HALF_UP),
            Sum((7,), 0, keep=True, mean_bits=3),
            Max((7,), 0, keep=True),
            Add((8, 9)),
            Add((10, 7)),
            Transpose((11,), (1, 0)),
            Reshape((12,), (64,)),
            Quantize((13,), (FixedPoint(5, 4),), Rounding.FLOOR, Overflow.WRAP),
            linear(14, 64, 5),
        )
    )


def convolution():
    random = np.random.default_rng(1)
    return IntegerNetwork(
        (
            Input((), (4, 5, 2), (FixedPoint(5, 2),)),
            Patches((0,), 3, padding=1, stride=2),
            Linear((1,), random.integers(-7, 8, (18, 3)), random.integers(-7, 8, 3), 3, 4),
            LeakyRelu((2,), 4),
            Quantize((3,), (FixedPoint(6, 3),)),
            Reshape((4,), (18,)),
            Max((5,), 0, keep=True),
            Add((5, 6)),
        )
    )


def attention():
    """A softmax by tables without its maximum, and the mean that it weighs."""
    steps, unsigned = np.arange(-16, 16), FixedPoint(8, 0, is_signed=False)
    return IntegerNetwork(
        (
            Input((), (4, 3), (FixedPoint(4, 2),)),
            Transpose((0,), (1, 0)),
            MatMul((0, 1)),
            Quantize((2,), (FixedPoint(5, 3),), Rounding.HALF_UP),
            Table((3,), np.round(np.exp(steps / 8) * 30).astype(int), -16, 8),
            Sum((4,), 1, keep=True),
            Quantize((5,), (unsigned,)),
            Table((6,), 4096 // np.maximum(np.arange(-2, 258), 1), -2, 6),
            Multiply((4, 7)),
            MatMul((8, 0)),
        )
    )


def every_rounding(source, seed):
    """Every value of a format into many others, by every rounding and overflow, each on channels of its own."""
    random, modes, each = np.random.default_rng(seed), list(itertools.product(Rounding, Overflow)), 8
    steps = [Input((), (len(modes) * each,), (source,))]
    for m, (rounding, overflow) in enumerate(modes):
        formats = [FixedPoint(0, 0)] * (len(modes) * each)
        for channel in range(m * each, (m + 1) * each):
            width = int(random.integers(1, source.width + 4))
            fraction_bits = source.fraction_bits + int(random.integers(-source.width - 3, 5))
            formats[channel] = FixedPoint(width, width - fraction_bits, bool(random.integers(2)))
        steps.append(Quantize((0,), tuple(formats), rounding, overflow))
        if m:
            steps.append(Add((len(steps) - 2, len(steps) - 1)))
    return IntegerNetwork(tuple(steps))


NETWORKS = {"deep_sets": deep_sets(), "convolution": convolution(), "attention": attention()}


@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
def test_networks_of_the_field_are_exact(network, tmp_path):
    check(network, tmp_path)


def test_these_networks_hold_every_operation():
    assert {type(o).__name__ for n in NETWORKS.values() for o in n.operations} == set(OPERATIONS)


@settings(max_examples=3, derandomize=True, deadline=None, phases=[Phase.generate])
@given(integer_networks(max_steps=12, max_bits=9).filter(lambda network: len(network.operations) > 6))
def test_any_network_is_exact(network):
    with tempfile.TemporaryDirectory() as folder:
        check(network, Path(folder))


@pytest.mark.parametrize("source", [FixedPoint(7, 3), FixedPoint(5, 7, is_signed=False)], ids=str)
def test_every_rounding_and_overflow_is_exact(source, tmp_path):
    network = every_rounding(source, seed=source.width)
    values = np.arange(source.minimum, source.maximum + 1)
    inputs = np.repeat(values[:, None], network.input_shape[0], axis=1)
    np.testing.assert_array_equal(hls4ml.simulate(network, inputs, tmp_path), network.emulate(inputs))


def test_outputs_beyond_the_precision_of_floats_survive(tmp_path):
    weight = np.array([[(1 << 27) - 1, -(1 << 27) + 3]])
    network = IntegerNetwork((Input((), (1,), (FixedPoint(30, 9),)), Linear((0,), weight, np.array([1, -5]), 20, 41)))
    assert network.output_format.width > 53
    check(network, tmp_path)


def test_a_network_without_operations_is_exact(tmp_path):
    check(IntegerNetwork((Input((), (3, 2), (FixedPoint(6, 2), FixedPoint(4, 2, is_signed=False))),)), tmp_path)


def test_a_changed_weight_is_detected(tmp_path):
    network = convolution()
    inputs, linear = vectors_for(network, VECTORS), network.operations[2]
    weight = linear.weight.copy()
    weight[4, 1] += 1
    changed = IntegerNetwork((*network.operations[:2], replace(linear, weight=weight), *network.operations[3:]))
    outputs = hls4ml.simulate(network, inputs, tmp_path, hls4ml.plan(changed))
    assert (outputs != network.emulate(inputs)).any()
    np.testing.assert_array_equal(outputs, changed.emulate(inputs))


@settings(max_examples=12, deadline=None)
@given(
    integer_networks(),
    st.sampled_from(["jets", "jets:particles=8", "8-jets", "größe"]),
    st.sampled_from(["Vitis", "Catapult"]),
    st.sampled_from(IOS),
)
def test_a_project_is_complete_small_and_names_no_place_of_its_making(network, name, backend, io_type):
    project = hls4ml.plan(network, name, options=HlsOptions(backend, io_type))
    assert project.name.isidentifier()
    assert project.name.isascii()
    assert {f"firmware/{project.name}.cpp", "firmware/parameters.h", "build_prj.tcl"} <= set(project.files)
    content = hls4ml.archive(project)
    assert len(content) < 150_000
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        packed = {m.name: archive.extractfile(m).read().decode() for m in archive.getmembers()}
    assert packed == {f"{project.name}/{path}": text for path, text in project.files.items()}
    everything = "".join(project.files.values())
    assert tempfile.gettempdir() not in everything
    assert str(Path.cwd()) not in everything


def test_equal_networks_give_equal_projects_in_every_process():
    code = (
        "from tests.backends.test_hls4ml import deep_sets; from codesign.backends import hls4ml, hls_options;"
        "project = hls4ml.plan(deep_sets()); print(project.digest, hash(hls4ml.archive(project)));"
        "options = hls_options.HlsOptions('Vitis', 'io_stream', 'distributed_arithmetic');"
        "print(hls4ml.plan(deep_sets(), options=options).digest)"
    )
    environment = os.environ | {"PYTHONHASHSEED": "0"}
    runs = [
        subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        for _ in range(2)
    ]
    assert runs[0].stdout == runs[1].stdout
    assert runs[0].stdout.startswith(hls4ml.plan(deep_sets()).digest)


def test_part_and_clock_reach_the_vendor_tool():
    project = hls4ml.plan(convolution(), part="xczu9eg-ffvb1156-2-e", clock_ns=3.2)
    assert 'set part "xczu9eg-ffvb1156-2-e"' in project.files["project.tcl"]
    assert "set clock_period 3.2" in project.files["project.tcl"]
    of_catapult = hls4ml.plan(convolution(), part="xczu9eg-ffvb1156-2-e", clock_ns=3.2, options=HlsOptions("Catapult"))
    script = of_catapult.files["build_prj.tcl"]
    assert "setup_xilinx_part {xczu9eg-ffvb1156-2-e}" in script
    assert "set hls_clock_period 3.2" in script


def perceptron():
    random = np.random.default_rng(2)
    return IntegerNetwork(
        (
            Input((), (6,), (FixedPoint(8, 4),)),
            Linear((0,), random.integers(-20, 21, (6, 5)), random.integers(-9, 9, 5), 3, 5),
            Relu((1,)),
            Quantize((2,), (FixedPoint(6, 3, is_signed=False),)),
            Linear((3,), random.integers(-20, 21, (5, 3)), random.integers(-9, 9, 3), 3, 5),
        )
    )


EVERY_OPTION = [
    (convolution(), HlsOptions("Vivado")),
    (convolution(), HlsOptions(strategy="resource", reuse_factor=3)),
    (convolution(), HlsOptions(strategy="distributed_arithmetic")),
    (perceptron(), HlsOptions(strategy="distributed_arithmetic")),
    (attention(), HlsOptions(io="io_stream")),
    (convolution(), HlsOptions(io="io_stream", strategy="resource", reuse_factor=3)),
    (convolution(), HlsOptions("Vivado", "io_stream", "distributed_arithmetic")),
    (deep_sets(), HlsOptions("Catapult", "io_stream")),
    (convolution(), HlsOptions("Catapult", strategy="resource", reuse_factor=3)),
]


@pytest.mark.parametrize(("network", "options"), EVERY_OPTION, ids=["-".join(o[:3]) for _, o in EVERY_OPTION])
def test_every_option_is_exact(network, options, tmp_path):
    inputs = vectors_for(network, VECTORS)
    project = hls4ml.plan(network, options=options)
    outputs = hls4ml.simulate(network, inputs, tmp_path, project, options)
    np.testing.assert_array_equal(outputs, network.emulate(inputs))
    text = project.files["firmware/parameters.h"] + project.files[f"firmware/{project.name}.cpp"]
    kernels = {"latency": "DenseLatency", "resource": "DenseResource", "distributed_arithmetic": "dense_da"}
    kernel = f"nnet::{options.strategy}" if options.backend == "Catapult" else kernels[options.strategy]
    assert kernel in text or Linear not in map(type, network.operations)
    streams = {"Catapult": "ac_channel<input_t>"}.get(options.backend, "hls::stream<input_t>")
    assert (streams in text) == (options.io == "io_stream")
    assert project.command[0] == {"Vitis": "vitis-run", "Vivado": "vivado_hls"}.get(options.backend, "catapult")


@settings(max_examples=2, derandomize=True, deadline=None, phases=[Phase.generate])
@given(image_networks().filter(lambda network: len(network.operations) > 8))
def test_any_image_streams_exactly(network):
    inputs, options = vectors_for(network, VECTORS), HlsOptions("Catapult", "io_stream")
    with tempfile.TemporaryDirectory() as folder:
        outputs = hls4ml.simulate(network, inputs, Path(folder) / "view", options=options)
    np.testing.assert_array_equal(outputs, network.emulate(inputs))


@settings(max_examples=60, deadline=None)
@given(st.one_of(integer_networks(max_steps=12), image_networks()))
def test_streams_hold_every_element_in_beats_that_synthesis_takes(network):
    nodes = streamed(network)
    shapes = {node.index: node.shape for node in nodes}
    assert all(j in shapes for node in nodes for j in node.inputs)
    for i, (beats, size) in shapes.items():
        assert beats * size == network.ranges[i].low.size
        assert size * network.ranges[i].format().width <= 4096
        assert network.ranges[i].shape[-1:] in ((), (0,)) or network.ranges[i].shape[-1] % size == 0


def test_a_wide_image_is_cut_into_beats_and_its_windows_stay_inside_of_the_convolution():
    weight = np.ones((9 * 600, 1), dtype=np.int64)
    steps = (
        Input((), (3, 3, 600), (FixedPoint(8, 4),)),
        Relu((0,)),  # nothing uses it
        Patches((0,), 3),
        Linear((2,), weight, np.array([0]), 0, 0),
        Reshape((3,), (1,)),
    )
    image, convolution = streamed(IntegerNetwork(steps))
    assert image.shape == (9 * 2, 300)  # 600 x 8 bits exceed 4,096
    assert (convolution.index, convolution.inputs, convolution.pattern) == (3, (0,), "windows")


def test_attention_streams_a_row_at_a_time():
    transposed, scores, *softmax, weighted = streamed(attention())[1:]
    assert transposed.blocks == (1,)  # all of it has to come before its first beat
    assert scores.blocks == weighted.blocks == (4, 1)
    assert {node.blocks for node in softmax} == {(4,), (4, 4)}


def of_many_uses():
    steps = [Input((), (2,), (FixedPoint(4, 2),)), *(Relu((0,)) for _ in range(8))]
    steps += [Add((1, 2)), *(Add((len(steps) + i, i + 3)) for i in range(6))]
    return IntegerNetwork(tuple(steps))


def test_a_stream_that_many_steps_use_is_refused():
    with pytest.raises(UnsupportedError) as error:
        hls4ml.plan(of_many_uses(), options=HlsOptions(io="io_stream"))
    assert str(error.value) == (
        "The result of step 0 (Input) is used 8 times; hls4ml copies a stream up to 7 times. Use io_parallel."
    )


@pytest.mark.parametrize(
    ("network", "io_type", "dataflow", "expected"),
    [
        (convolution(), "auto", "streaming", "io_stream"),
        (convolution(), "auto", "parallel", "io_parallel"),
        (of_many_uses(), "auto", "streaming", "io_parallel"),
        (convolution(), "io_parallel", "streaming", "io_parallel"),
        (convolution(), "io_stream", "parallel", "io_stream"),
    ],
)
def test_a_project_streams_as_its_rtl_does_unless_it_is_told(network, io_type, dataflow, expected):
    assert resolve(DEFAULTS._replace(io=io_type), network, dataflow).io == expected


def test_a_constant_of_one_bit_keeps_its_grid_in_catapult(tmp_path):
    network = IntegerNetwork((Input((), (2,), (FixedPoint(1, 1), FixedPoint(1, 0, is_signed=False))), Relu((0,))))
    inputs, options = vectors_for(network, 16), HlsOptions("Catapult")
    np.testing.assert_array_equal(hls4ml.simulate(network, inputs, tmp_path, options=options), network.emulate(inputs))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"backend": "oneAPI"},
            "The hls4ml view does not build backend 'oneAPI': its code is SYCL, which Intel's icpx compiles with "
            "headers that hls4ml does not ship, so that no C simulation by g++ could prove it exact. Use Vitis or "
            "Vivado or Catapult.",
        ),
        (
            {"backend": "Catapult", "strategy": "distributed_arithmetic"},
            "hls4ml has no strategy 'distributed_arithmetic' for Catapult. Use latency or resource, or another "
            "backend.",
        ),
        (
            {"io": "io_serial"},
            "The io of an hls4ml project is 'io_serial'; allowed: io_parallel, io_stream, auto.",
        ),
        (
            {"io": "auto"},
            "The io of an hls4ml project is 'auto'; allowed: io_parallel, io_stream.",
        ),
        (
            {"backend": "vitis"},
            "The backend of an hls4ml project is 'vitis'; allowed: Vitis, Vivado, Catapult.",
        ),
        (
            {"reuse_factor": 2},
            "The reuse factor is 2 with strategy 'latency'; allowed: 1, or more with resource.",
        ),
    ],
)
def test_an_option_that_is_not_built_is_refused_with_its_reason(options, message):
    with pytest.raises((InvalidValueError, UnsupportedError)) as error:
        hls4ml.plan(convolution(), options=HlsOptions(**options))
    assert str(error.value) == message


def test_a_clock_that_cannot_be_is_refused():
    with pytest.raises(InvalidValueError) as error:
        hls4ml.plan(convolution(), clock_ns=-1)
    assert str(error.value) == "The clock period is -1 ns; allowed: above 0."


def test_a_constant_beyond_float64_is_refused():
    weight = np.array([[(1 << 54) + 1]])
    network = IntegerNetwork((Input((), (1,), (FixedPoint(2, 2),)), Linear((0,), weight, np.array([0]), 0, 0)))
    with pytest.raises(UnsupportedError) as error:
        hls4ml.plan(network)
    assert str(error.value) == ("A constant has 55 bits; allowed in hls4ml: 53. Quantize the weights to fewer bits.")


def test_a_missing_compiler_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolError, match="g\\+\\+ cannot be started"):
        hls4ml.simulate(convolution(), np.zeros((1, 4, 5, 2), dtype=np.int64), tmp_path / "build")


def test_a_vendor_tool_that_is_missing_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolError, match="vitis-run cannot be started"):
        run_plan(hls4ml.plan(convolution()), tmp_path / "build")
