"""From integers to a checked design on real tools, and what is refused before anything is built."""

import json
import os
import re
import signal
from dataclasses import replace

import numpy as np
import pytest

from codesign.backends import verilator
from codesign.backends.dataflow import choose
from codesign.backends.hls_options import HlsOptions
from codesign.core import plugins
from codesign.core.build import Resources
from codesign.core.errors import ToolError, UnsupportedError
from codesign.core.fixed_point import FixedPoint, Rounding
from codesign.core.integer_network import IntegerNetwork
from codesign.core.operations import Input, Linear, Max, Patches, Quantize, Relu, Sum
from codesign.synthesis.bundle import interface_of, write_bundle
from codesign.synthesis.evidence import View
from codesign.synthesis.synthesize import require_fit, software_views, synthesize
from codesign.synthesis.vectors import golden_vectors
from deploy.bundle import check

BOARD = plugins.load_board("pynq_z2")


def network():
    rng = np.random.default_rng(3)
    return IntegerNetwork(
        (
            Input((), (3, 2), (FixedPoint(5, 2), FixedPoint(4, 3))),
            Linear((0,), rng.integers(-7, 8, (2, 3)), rng.integers(-9, 9, 3), 3, 5),
            Relu((1,)),
            Quantize((2,), (FixedPoint(5, 2, is_signed=False),), Rounding.HALF_UP),
            Max((3,), axis=0),
            Linear((4,), rng.integers(-7, 8, (3, 2)), rng.integers(-9, 9, 2), 3, 5),
        )
    )


def emulated(part, mantissas, folder):
    return part.emulate(mantissas)


def off_by_one(part, mantissas, folder):
    return part.emulate(mantissas) + 1


def crash(part, mantissas, folder):
    os.kill(os.getpid(), signal.SIGSEGV)


def test_a_small_network_goes_all_the_way_and_is_not_built_twice(tmp_path):
    net, steps = network(), []
    golden = golden_vectors(net)
    emulator = View("emulator", "numpy", emulated)
    result = synthesize(
        net, BOARD, 0.0, tmp_path, golden, name="small net", more_views=[emulator], progress=steps.append
    )
    assert result.skipped == ()
    assert result.is_exact
    assert [e.view for e in result.evidence] == ["emulator", "rtl", "netlist"]
    assert all(e.vectors == len(golden) >= 1000 for e in result.evidence)
    assert [r.level for r in result.resources] == ["estimate", "synthesis"]
    assert result.timing.is_simulated
    assert result.timing.ii == 1
    assert result.timing.clock_ns == BOARD.clock_ns
    assert result.timing.latency_ns == result.timing.latency_cycles * BOARD.clock_ns
    assert "rtl/small_net_axis.v" in result.files
    assert "reports/yosys_xc7.json" in result.files
    assert steps[-1] == f"netlist: {len(golden):,} vectors, 0 mismatches"
    assert steps[0].startswith("parallel: ")
    assert f"rtl: {len(golden):,} vectors, 0 mismatches" in steps
    assert (result.dataflow, result.beats) == ("parallel", 1)

    built = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("Vtop")}
    assert len(built) == 2
    again = synthesize(net, BOARD, 0.0, tmp_path, golden, name="small net", more_views=[])
    assert again.is_exact
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("Vtop")} == built


def test_without_tools_the_rest_is_done_and_what_is_missing_is_said(monkeypatch, tmp_path):
    def missing():
        raise ToolError("There is no such tool.")

    program = tmp_path / "tools" / "yosys"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho 'ERROR: no license'\nexit 3\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)
    monkeypatch.setattr(verilator, "find_tool", missing)
    net = network()
    emulator = View("emulator", "numpy", emulated)
    result = synthesize(net, BOARD, 0.0, tmp_path / "views", golden_vectors(net), more_views=[emulator])
    assert result.skipped == ("There is no such tool.", "yosys failed with exit code 3: ERROR: no license")
    assert [e.view for e in result.evidence] == ["emulator"]
    assert not result.timing.is_simulated


def test_a_board_too_small_is_refused_before_anything_is_built(tmp_path):
    net = network()
    board = replace(BOARD, lut=100)
    with pytest.raises(
        UnsupportedError, match=r"^The design needs \d+ LUT \(estimate\), \d+ more than the 100 of TUL PYNQ-Z2\. "
    ):
        synthesize(net, board, 0.0, tmp_path, golden_vectors(net))
    assert not list(tmp_path.iterdir())


def test_a_view_that_differs_or_crashes_costs_no_other(monkeypatch, tmp_path):
    def missing():
        raise ToolError("There is no such tool.")

    monkeypatch.setattr(verilator, "find_tool", missing)
    net = network()
    views = [View("a", "t", crash), View("b", "t", off_by_one, off_by_one), View("c", "t", emulated)]
    result = synthesize(net, BOARD, 0.0, tmp_path, golden_vectors(net), more_views=views, workers=3)
    assert [e.view for e in result.evidence] == ["a", "b", "c"]
    assert [e.is_exact for e in result.evidence] == [False, False, True]
    assert result.evidence[0].first_mismatch.startswith("the view could not be run: A process in the process pool was ")
    assert "; first wrong is step 1 (Linear), vector 0, output 0: " in result.evidence[1].first_mismatch


@pytest.mark.parametrize(
    ("resources", "message"),
    [
        (
            Resources("estimate", "da4ml", lut=60_000.0, ff=10.0),
            "The design needs 60,000 LUT (estimate), 6,800 more than the 53,200 of TUL PYNQ-Z2. "
            "Use fewer bits, more pruning or a larger board.",
        ),
        (
            Resources("synthesis", "Yosys", lut=1.0, bram=5_058.0),
            "The design needs 5,058 kbit of BRAM (synthesis), 18 more than the 5,040 of TUL PYNQ-Z2. "
            "Use fewer bits, more pruning or a larger board.",
        ),
    ],
)
def test_what_breaks_and_by_how_much_is_named(resources, message):
    with pytest.raises(UnsupportedError) as error:
        require_fit(resources, BOARD)
    assert str(error.value) == message


def test_a_design_that_just_fits_is_accepted():
    require_fit(Resources("estimate", "da4ml", lut=float(BOARD.lut), ff=None, dsp=0.0), BOARD)


def image_network(channels=2, image=6):
    """A convolution over an image, summed up."""
    rng = np.random.default_rng(1)
    return IntegerNetwork(
        (
            Input((), (image, image, 1), (FixedPoint(5, 1),)),
            Patches((0,), 3, 1),
            Linear((1,), rng.integers(-7, 8, (9, channels)), rng.integers(-9, 9, channels), 3, 5),
            Relu((2,)),
            Quantize((3,), (FixedPoint(5, 2, is_signed=False),)),
            Sum((4,), axis=0),
            Sum((5,), axis=0),
            Linear((6,), rng.integers(-7, 8, (channels, 2)), rng.integers(-9, 9, 2), 3, 5),
        )
    )


def test_a_streamed_network_goes_all_the_way(tmp_path):
    net = image_network()
    golden = golden_vectors(net)
    project = software_views(net, BOARD, BOARD.clock_ns, "network", HlsOptions(io="io_stream"))[1]
    result = synthesize(
        net, BOARD, 0.0, tmp_path, golden, dataflow="streaming", hls=HlsOptions(io="auto"), more_views=[project]
    )
    assert (result.dataflow, result.beats, result.skipped) == ("streaming", 36, ())
    assert result.hls.io == json.loads(result.files["reports/hls_estimate.json"])["options"]["io"] == "io_stream"
    assert result.is_exact
    assert [e.view for e in result.evidence] == ["hls4ml", "rtl", "netlist"]
    assert result.timing.is_simulated
    assert result.timing.ii == 36
    assert 36 < result.timing.latency_cycles < 72
    estimate, synthesis = result.resources
    assert 0.7 < estimate.lut / synthesis.lut < 1.4
    assert 0.7 < estimate.ff / synthesis.ff < 1.4

    firmware = write_bundle(
        tmp_path / "bundle",
        net,
        golden.inputs,
        result.files,
        name="bragg",
        task="bragg",
        board=BOARD.name,
        interface=interface_of(net, ("intensity",), ("x", "y"), {}, result.dataflow, result.beats),
        timing=result.timing,
        resources=result.resources,
        evidence=result.evidence,
        metrics={},
        provenance={},
        gates={"every view exact": result.is_exact},
    )
    assert firmware.interface["stream"]["input_beats"] == firmware.timing.ii == 36
    assert check(tmp_path / "bundle").is_exact
    readme = (tmp_path / "bundle" / "README.md").read_text()
    assert "Dataflow streaming: an input comes in 36 beat(s) of 5 bits, a\nresult goes in one beat of " in readme


@pytest.mark.parametrize(
    ("net", "board", "dataflow", "kind"),
    [
        (image_network(), "vu13p", "auto", "parallel"),
        (image_network(), "vu13p", "streaming", "streaming"),
        (image_network(32, 16), "vu13p", "auto", "streaming"),  # convolutional and large
        (image_network(32, 16), "vu13p", "parallel", "parallel"),
        (image_network(4, 10), "orangecrab", "auto", "streaming"),  # larger than the board
        (network(), "vu13p", "auto", "parallel"),
    ],
)
def test_the_dataflow_is_the_one_asked_for_or_the_one_that_suits(net, board, dataflow, kind):
    assert choose(net, plugins.load_board(board), 0.0, dataflow).kind == kind


def test_a_network_that_is_hopeless_unrolled_is_refused_at_once_with_what_to_do():
    with pytest.raises(UnsupportedError) as error:
        choose(image_network(32, 16), BOARD, 0.0, "parallel")
    number = r"[\d,]+"
    assert re.fullmatch(
        rf"Unrolled, the network needs about {number} LUT \(estimate\), {number} more than the 53,200 of TUL PYNQ-Z2\. "
        r"Use dataflow streaming, fewer bits or more pruning\.",
        str(error.value),
    )


def test_streaming_what_has_no_positions_is_refused():
    flat = IntegerNetwork((Input((), (4,), (FixedPoint(4, 2),)), Relu((0,))))
    with pytest.raises(UnsupportedError, match=r"^Step 0 \(Input\) has the shape \(4,\), which leaves no positions"):
        choose(flat, BOARD, 0.0, "streaming")


def test_the_interface_says_how_a_sample_comes_in():
    net = image_network()
    assert interface_of(net, ("a",), ("b",), {}, "streaming", 36)["stream"] == {
        "dataflow": "streaming",
        "input_beats": 36,
        "input_bits": 5,
        "output_beats": 1,
        "output_bits": 2 * net.output_format.width,
    }
    assert interface_of(net, ("a",), ("b",), {})["stream"]["input_bits"] == 36 * 5
